"""Storage ``local``: objects as files below a folder, durable when a call returns.

A name ``packs/ab/x`` is the file ``packs/ab/x``. Unfinished files lie in ``.freezer-tmp`` and are linked or renamed
to their place when they are whole and synced. Links below the root are not followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from freezer_sdk.errors import ConfigurationError, InvalidName, ObjectNotFound, StorageError, StorageUnavailable
from freezer_sdk.model import Buffer
from freezer_sdk.options import Option
from freezer_sdk.storages._linux import has_syncfs, syncfs
from freezer_sdk.storages._listing import listing
from freezer_sdk.storages._posix import (
    PRIVATE,
    Root,
    TempFile,
    moment,
    prune,
    reading,
    reap,
    reporting,
    sync_up,
)
from freezer_sdk.storages.base import Capabilities, ObjectInfo, Reader, Storage, Upload, check_name

MAX_PART = 255
GRACE = timedelta(hours=24)
_RESERVED = (PRIVATE, "lost+found")
_READ_ALL = 1 << 20
_ATTEMPTS = 100  # each one needs another deletion at just the wrong moment
_NOT_FILES = (errno.ELOOP, errno.ENXIO, errno.ENODEV)  # a link, a socket, a device without a driver
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class LocalStorage(Storage):
    """Objects as files below a folder.

    Args:
        path: the folder; made on the first write when it does not exist.
        sync: ``False``: objects are not synced one by one. They are durable only after :meth:`flush`, and a power cut
            (not a killed process) before it may leave damaged ones.

    Raises:
        ConfigurationError: not a usable path.
    """

    name = "local"
    api_version = 1
    summary = "a folder of this machine (also NFS and other mounted file systems)"
    options = (
        Option(name="path", type="path", required=True, help="Folder that holds the objects."),
        Option(
            name="sync",
            type="bool",
            default=True,
            help="Sync every object to disk when it is stored; 'no' leaves it to the barriers before index and backup.",
        ),
    )

    def __init__(self, *, path: str, sync: bool = True) -> None:
        self._root = Root(_checked_path(path))
        self._sync = sync or not has_syncfs()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._reaped = False
        self._deleted_from: set[tuple[str, ...]] = set()
        self._barrier: int | None = None
        self._lost: str | None = None

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """See :meth:`Storage.parse_url`; ``local:PATH`` or ``file:///PATH`` (percent-encoded)."""
        scheme, colon, rest = url.partition(":")
        if colon and scheme == "local":
            return {"path": _checked_path(rest)}
        parts = urlsplit(url)
        if parts.scheme != "file":
            raise ConfigurationError(f"{url!r} is not the URL of a local storage", hint="write local:/PATH")
        if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.startswith("/"):
            raise ConfigurationError(
                f"{url!r} names no local folder", hint="write file:///PATH, with ? and # as %3F, %23"
            )
        return {"path": _checked_path(os.fsdecode(unquote_to_bytes(parts.path)))}

    @property
    def location(self) -> str:
        """A URL that opens the same place again."""
        return f"local:{self._root.path}"

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Storage.capabilities`; the clock resolution is that of the coarsest file systems."""
        return Capabilities(conditional_put=True, clock_resolution=timedelta(seconds=2), remote=False)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        parts = _parts(name)
        with reporting(f"cannot store {name!r} in {self._root.path}"), self._temp() as temp:
            temp.write(buffers)
            return self._publish(temp, parts, if_absent=if_absent)

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`."""
        parts = _parts(name)
        what = f"cannot store {name!r} in {self._root.path}"
        with reporting(what):
            temp = self._temp()
        failed = True
        try:
            yield _FileUpload(temp, what, lambda: self._publish(temp, parts, if_absent=False))
            failed = False
        finally:
            with contextlib.suppress(OSError) if failed else reporting(what):
                temp.close()

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        if length is not None and length < 0:
            raise ValueError("length must not be negative")
        with self._file(name) as (fd, status), reading(f"cannot read {name!r} in {self._root.path}"):
            size = status.st_size
            start = max(0, size + offset) if offset < 0 else min(offset, size)
            end = size if length is None else min(size, start + length)
            return _read_range(fd, start, end)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`."""
        with self._file(name) as (fd, _):
            yield _FileReader(fd, f"cannot read {name!r} in {self._root.path}")

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        with self._file(name) as (_, status):
            return _info(name, status)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; only regular files whose names are UTF-8 are objects."""
        if delimiter not in (None, "/"):
            raise ValueError("the delimiter can only be '/'")
        return listing(self._root, prefix, deep=delimiter is None, hidden=_RESERVED)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`; folders that become empty go too."""
        *folders, last = _parts(name)
        with reporting(f"cannot delete {name!r} in {self._root.path}"):
            try:
                with self._root.folders(folders) as chain:
                    os.unlink(last, dir_fd=chain[-1])
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
        with self._lock:
            self._deleted_from.add(tuple(folders))
        prune(self._root, folders)

    def flush(self) -> None:
        """See :meth:`Storage.flush`.

        Raises:
            StorageError: something acknowledged may be lost; so it stays for this object, whatever the disk says later.
        """
        with self._flushing:  # held to the end: a second barrier must not overtake the first
            if self._lost is not None:
                raise StorageError(self._lost)
            with self._lock:
                deleted_from, self._deleted_from = self._deleted_from, set()
            try:
                with reporting(f"objects in {self._root.path} may be lost: a sync failed"):
                    if self._barrier is not None:
                        syncfs(self._barrier)
                    for folders in deleted_from:
                        self._sync_remains(folders)
            except StorageError as error:
                self._lost = error.message
                raise

    def now(self) -> datetime:
        """See :meth:`Storage.now`; by the time of a fresh file."""
        with reporting(f"cannot tell the time of {self._root.path}"), self._temp() as temp:
            return temp.modified()

    def close(self) -> None:
        """Releases what is open; does not flush."""
        with self._lock:
            if self._barrier is not None:
                os.close(self._barrier)
                self._barrier = None

    def _temp(self) -> TempFile:
        self._root.make()
        temp = TempFile(self._root)
        with self._lock:
            first, self._reaped = not self._reaped, True
            if not self._sync and self._barrier is None:
                # opened before anything is written: it then reports every write error from here on
                self._barrier = self._root.open()
        if first:
            reap(temp.folder, before=temp.modified() - GRACE)
        return temp

    def _publish(self, temp: TempFile, parts: Sequence[str], *, if_absent: bool) -> ObjectInfo:
        if self._sync:
            os.fsync(temp.fd)
        info = ObjectInfo(name="/".join(parts), size=temp.size, modified=temp.modified())
        for _ in range(_ATTEMPTS):
            try:
                with self._root.folders(parts[:-1], create=True) as chain:
                    temp.publish(chain[-1], parts[-1], if_absent=if_absent)
                    if self._sync:
                        sync_up(chain)
                    return info
            except FileNotFoundError:
                continue  # a folder became empty and was removed before the file was in it
            except NotADirectoryError as error:
                raise InvalidName(f"{info.name!r} cannot be stored: part of the name is an object or a link") from error
        raise StorageUnavailable(f"cannot store {info.name!r}: its folder is removed again and again")

    @contextlib.contextmanager
    def _file(self, name: str) -> Iterator[tuple[int, os.stat_result]]:
        *folders, last = _parts(name)
        absent = f"{self._root.path} holds no object {name!r}"
        with reading(f"cannot open {name!r} in {self._root.path}"):
            try:
                with self._root.folders(folders) as chain:
                    fd = os.open(last, _FILE, dir_fd=chain[-1])
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ObjectNotFound(absent) from error
            except OSError as error:
                if error.errno not in _NOT_FILES:
                    raise
                raise ObjectNotFound(f"{absent}: it is a link or a device") from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ObjectNotFound(f"{absent}: it is no regular file")
            yield fd, status
        finally:
            os.close(fd)

    def _sync_remains(self, folders: tuple[str, ...]) -> None:
        for depth in range(len(folders), -1, -1):
            try:
                with self._root.folders(folders[:depth]) as chain:
                    return sync_up(chain)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return None


class _FileUpload:
    """A stream on its way into a temporary file."""

    def __init__(self, temp: TempFile, what: str, publish: Callable[[], ObjectInfo]) -> None:
        self._temp = temp
        self._what = what
        self._publish: Callable[[], ObjectInfo] | None = publish

    def write(self, data: Buffer) -> None:
        if self._publish is None:
            raise StorageError(f"{self._what}: the upload has ended")
        with reporting(self._what):
            self._temp.write([data])

    def commit(self) -> ObjectInfo:
        publish, self._publish = self._publish, None
        if publish is None:
            raise StorageError(f"{self._what}: the upload has ended")
        with reporting(self._what):
            return publish()


class _FileReader:
    """An open file, read from its start."""

    def __init__(self, fd: int, what: str) -> None:
        self._fd = fd
        self._what = what

    def read(self, size: int = -1) -> bytes:
        with reading(self._what):
            if size >= 0:
                return os.read(self._fd, size)
            pieces = []
            while piece := os.read(self._fd, _READ_ALL):
                pieces.append(piece)
            return b"".join(pieces)


def _read_range(fd: int, start: int, end: int) -> bytes:
    data = os.pread(fd, end - start, start)
    if len(data) == end - start:
        return data  # as good as always: no copy
    pieces = [data]
    while pieces[-1] and (start := start + len(pieces[-1])) < end:
        pieces.append(os.pread(fd, end - start, start))
    return b"".join(pieces)


def _info(name: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(name=name, size=status.st_size, modified=moment(status.st_mtime_ns))


def _parts(name: str) -> list[str]:
    parts = check_name(name).split("/")
    if any(len(part.encode()) > MAX_PART for part in parts):
        raise InvalidName(f"{name!r} cannot be the name of a file: a part is longer than {MAX_PART} bytes")
    if parts[0] in _RESERVED:
        raise InvalidName(f"{name!r} cannot be the name of an object here: {parts[0]!r} has a meaning of its own")
    return parts


def _checked_path(path: str | os.PathLike[str]) -> str:
    path = os.fspath(path)
    if not path or "\0" in path:
        raise ConfigurationError(f"{path!r} is not a path", hint="write local:/PATH")
    if path.startswith("~"):
        raise ConfigurationError(f"{path!r} begins with '~', which only a shell expands", hint="write the whole path")
    if ".." in path.split("/"):
        return os.path.realpath(path)  # a '..' behind a link is not where its text says
    return "/" + os.path.abspath(path).lstrip("/")
