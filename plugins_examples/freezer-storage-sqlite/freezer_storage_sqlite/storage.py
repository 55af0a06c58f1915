"""Storage ``sqlite``: objects as rows of one SQLite file, in pieces of 1 MiB.

An object whose ``name`` is NULL is an upload that was not committed; those of killed runs are removed a day later.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from freezer_sdk.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
    ReadOnlyStorage,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from freezer_sdk.model import Buffer
from freezer_sdk.options import Option
from freezer_sdk.storages.base import (
    TRAFFIC_BLOCK,
    Capabilities,
    ObjectInfo,
    Reader,
    Storage,
    Traffic,
    Upload,
    check_name,
)

PIECE = 1 << 20
PAGE = 1000
GRACE = timedelta(hours=24)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INTEGER NOT NULL, modified INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS pieces (
    object INTEGER NOT NULL REFERENCES objects ON DELETE CASCADE, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (object, number)
);
"""
_ERRORS: dict[int, type[StorageError]] = {
    sqlite3.SQLITE_FULL: StorageFull,
    sqlite3.SQLITE_READONLY: ReadOnlyStorage,
    sqlite3.SQLITE_PERM: AccessDenied,
    sqlite3.SQLITE_CANTOPEN: AccessDenied,
    sqlite3.SQLITE_BUSY: StorageUnavailable,
    sqlite3.SQLITE_LOCKED: StorageUnavailable,
}


class SqliteStorage(Storage):
    """Objects in one SQLite file.

    Args:
        path: the file; made when it does not exist.
        timeout: seconds to wait for another process that is writing.
    """

    name = "sqlite"
    api_version = 1
    summary = "one SQLite file, for example on a USB stick"
    options = (
        Option(name="path", type="path", required=True, help="The SQLite file."),
        Option(name="timeout", type="duration", default=60.0, help="How long to wait for another process that writes."),
    )

    def __init__(self, *, path: str, timeout: float = 60.0) -> None:
        self._path = os.path.abspath(path)
        self._timeout = timeout
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._ready = False

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """See :meth:`Storage.parse_url`; ``sqlite:PATH``."""
        scheme, _, path = url.partition(":")
        if scheme != "sqlite" or not path:
            raise ConfigurationError(f"{url!r} is not the URL of a SQLite storage", hint="write sqlite:/PATH")
        return {"path": os.path.abspath(path)}

    @property
    def location(self) -> str:
        """A URL that opens the same file again."""
        return f"sqlite:{self._path}"

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Storage.capabilities`."""
        return Capabilities(conditional_put=True, remote=False, paced=True)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`; one transaction."""
        check_name(name)
        with self._transaction(write=True) as database:
            if if_absent and _find(database, name) is not None:
                raise ObjectExists(f"{name!r} exists already")
            unfinished = _begin(database)
            size = 0
            for number, piece in enumerate(_pieces(buffers)):
                _tell(self.traffic.sent, piece)
                _add(database, unfinished, number, piece)
                size += len(piece)
            return _publish(database, unfinished, name, size)

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`; every piece is a transaction, so that others can write meanwhile."""
        upload = _SqliteUpload(self, check_name(name))
        try:
            yield upload
        finally:
            upload.discard()

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        check_name(name)
        with self._transaction() as database:
            found, size = self._existing(database, name)
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            end = size if length is None else min(size, start + length)
            rows = database.execute(
                "SELECT data FROM pieces WHERE object = ? AND number BETWEEN ? AND ? ORDER BY number",
                (found, start // PIECE, (end - 1) // PIECE),
            )
            data = b"".join(row[0] for row in rows)[start % PIECE : start % PIECE + end - start]
        _tell(self.traffic.received, data)
        return data

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`; one read transaction: the object stays as it is."""
        check_name(name)
        with self._transaction() as database:
            found, _ = self._existing(database, name)
            yield _SqliteReader(database, found, self.traffic)

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        check_name(name)
        with self._transaction() as database:
            found = database.execute("SELECT size, modified FROM objects WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise ObjectNotFound(f"{self.location} holds no object {name!r}")
        return _info(name, *found)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; SQLite compares UTF-8, which is the order of code points."""
        if delimiter not in (None, "/"):
            raise ValueError("the delimiter can only be '/'")
        start: str | None = prefix
        while start is not None:
            start, infos = self._page(prefix, start, delimiter)
            yield from infos

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        self.delete_many([name])

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`; one transaction, of all names that can be."""
        checked: list[tuple[str]] = []
        failure: InvalidName | None = None
        for name in names:
            try:
                checked.append((check_name(name),))
            except InvalidName as error:  # the others go all the same
                failure = error
        with self._transaction(write=True) as database:
            database.executemany("DELETE FROM objects WHERE name = ?", checked)
        if failure is not None:
            raise failure

    def flush(self) -> None:
        """Nothing to wait for: a transaction is on the disk when it ends (``synchronous=FULL``)."""

    def now(self) -> datetime:
        """See :meth:`Storage.now`; the clock of this machine, which also stamps the objects."""
        return datetime.now(UTC)

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            while self._idle:
                self._idle.pop().close()

    @contextlib.contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection that nobody else uses meanwhile, in a transaction.

        Raises:
            StorageError: instead of any error of SQLite.
        """
        with self._reporting():
            database = self._connect()
        try:
            with self._reporting():
                database.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                try:
                    yield database
                except BaseException:
                    database.rollback()
                    raise
                database.commit()
        except BaseException:
            database.close()
            raise
        with self._lock:
            self._idle.append(database)

    def _connect(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        # made here, so that it is private before anything is in it
        try:
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            kind = AccessDenied if isinstance(error, PermissionError) else StorageError
            raise kind(f"cannot open {self._path}: {error.strerror}") from error
        database = sqlite3.connect(self._path, self._timeout, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(database)
        except BaseException:
            database.close()
            raise
        return database

    def _prepare(self, database: sqlite3.Connection) -> None:
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("PRAGMA synchronous = FULL")
        with self._lock:
            if not self._ready:
                database.execute("PRAGMA journal_mode = WAL")
                database.executescript(_SCHEMA)
                old = _microseconds() - GRACE // timedelta(microseconds=1)
                database.execute("DELETE FROM objects WHERE name IS NULL AND modified < ?", (old,))
                self._ready = True

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind = _ERRORS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, StorageError)
            raise kind(f"{self._path}: {error}") from error

    def _existing(self, database: sqlite3.Connection, name: str) -> tuple[int, int]:
        found = _find(database, name)
        if found is None:
            raise ObjectNotFound(f"{self.location} holds no object {name!r}")
        return found

    def _page(self, prefix: str, start: str, delimiter: str | None) -> tuple[str | None, Sequence[ObjectInfo]]:
        """Objects from ``start`` on, and where the next page starts; ``None``: there is none."""
        try:
            prefix.encode()
        except UnicodeEncodeError:
            return None, []  # no object has such a name
        infos: list[ObjectInfo] = []
        with self._transaction() as database:
            for _ in range(PAGE):
                query = "SELECT name, size, modified FROM objects WHERE name >= ? ORDER BY name LIMIT ?"
                rows = database.execute(query, (start, PAGE if delimiter is None else 1)).fetchall()
                for row in rows:
                    if not row[0].startswith(prefix):
                        return None, infos
                    infos.append(_summed_up(row, prefix, delimiter))
                if not rows:
                    return None, infos
                last = infos[-1]
                # past the last name, or past everything below the folder: "0" follows "/"
                start = last.name[:-1] + "0" if last.is_prefix else last.name + "\0"
                if delimiter is None:
                    break
        return start, infos


class _SqliteUpload:
    """Collects a stream in pieces that nobody can see until commit."""

    def __init__(self, storage: SqliteStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._buffer = bytearray()
        self._id: int | None = None
        self._number = 0
        self._size = 0
        self._ended = False

    def write(self, data: Buffer) -> None:
        self._check()
        self._buffer += data
        while len(self._buffer) >= PIECE:
            with self._storage._transaction(write=True) as database:
                self._flush(database)

    def commit(self) -> ObjectInfo:
        self._check()
        with self._storage._transaction(write=True) as database:
            while self._buffer or self._id is None:
                self._flush(database)
            info = _publish(database, self._id, self._name, self._size)
        self._ended = True
        return info

    def discard(self) -> None:
        if not self._ended and self._id is not None:
            with self._storage._transaction(write=True) as database:
                database.execute("DELETE FROM objects WHERE id = ?", (self._id,))
        self._ended = True

    def _flush(self, database: sqlite3.Connection) -> None:
        piece = bytes(self._buffer[:PIECE])
        if self._id is None:
            self._id = _begin(database)
        if piece:
            _tell(self._storage.traffic.sent, piece)
            _add(database, self._id, self._number, piece)
        del self._buffer[:PIECE]
        self._number += 1
        self._size += len(piece)

    def _check(self) -> None:
        if self._ended:
            raise StorageError(f"cannot store {self._name!r}: the upload has ended")


class _SqliteReader:
    def __init__(self, database: sqlite3.Connection, found: int, traffic: Traffic) -> None:
        self._rows = database.execute("SELECT data FROM pieces WHERE object = ? ORDER BY number", (found,))
        self._traffic = traffic
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(PIECE), b""))
        if not self._rest:
            self._rest = next(self._rows, (b"",))[0]
            _tell(self._traffic.received, self._rest)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _find(database: sqlite3.Connection, name: str) -> tuple[int, int] | None:
    found: tuple[int, int] | None = database.execute("SELECT id, size FROM objects WHERE name = ?", (name,)).fetchone()
    return found


def _begin(database: sqlite3.Connection) -> int:
    cursor = database.execute("INSERT INTO objects (size, modified) VALUES (0, ?)", (_microseconds(),))
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _add(database: sqlite3.Connection, unfinished: int, number: int, piece: bytes) -> None:
    database.execute("INSERT INTO pieces VALUES (?, ?, ?)", (unfinished, number, piece))


def _publish(database: sqlite3.Connection, unfinished: int, name: str, size: int) -> ObjectInfo:
    modified = _microseconds()
    database.execute("DELETE FROM objects WHERE name = ?", (name,))
    database.execute(
        "UPDATE objects SET name = ?, size = ?, modified = ? WHERE id = ?", (name, size, modified, unfinished)
    )
    return _info(name, size, modified)


def _pieces(buffers: Iterable[Buffer]) -> Iterator[bytes]:
    piece = bytearray()
    for buffer in buffers:
        piece += buffer
        while len(piece) >= PIECE:
            yield bytes(piece[:PIECE])
            del piece[:PIECE]
    if piece:
        yield bytes(piece)


def _tell(tell: Callable[[int], None], content: bytes) -> None:
    """Tells of traffic in blocks; under a bandwidth limit this waits."""
    for start in range(0, len(content), TRAFFIC_BLOCK):
        tell(len(content[start : start + TRAFFIC_BLOCK]))


def _summed_up(row: tuple[str, int, int], prefix: str, delimiter: str | None) -> ObjectInfo:
    name, size, modified = row
    end = -1 if delimiter is None else name.find(delimiter, len(prefix))
    return _info(name, size, modified) if end < 0 else _info(name[: end + 1], 0, 0, is_prefix=True)


def _info(name: str, size: int, modified: int, *, is_prefix: bool = False) -> ObjectInfo:
    time = _EPOCH + timedelta(microseconds=modified)
    return ObjectInfo(name=name, size=size, modified=time, is_prefix=is_prefix)


def _microseconds() -> int:
    return time.time_ns() // 1000
