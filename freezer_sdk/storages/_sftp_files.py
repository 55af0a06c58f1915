"""Files and folders of a storage on an SFTP server: unfinished files, and the folders that objects lie in."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from freezer_sdk.errors import (
    CapabilityMissing,
    ChecksumMismatch,
    InvalidName,
    ObjectExists,
    ReadOnlyStorage,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from freezer_sdk.model import Buffer
from freezer_sdk.storages._sftp_answers import Attributes, Code, ServerStatus
from freezer_sdk.storages._sftp_place import Place, explain
from freezer_sdk.storages._sftp_session import (
    CREATE,
    EXCLUSIVE,
    FSYNC,
    POSIX_RENAME,
    READ,
    WRITE,
    ConnectionLost,
    Session,
)
from freezer_sdk.storages._sftp_transfer import Writer
from freezer_sdk.storages.base import Traffic

PRIVATE = ".freezer-tmp"
"""The folder below the root that holds unfinished files."""

GRACE = timedelta(hours=24)
_ATTEMPTS = 100  # each one needs another deletion at just the wrong moment
_LINK_ATTEMPTS = 3
NO_FSYNC = (Code.OP_UNSUPPORTED, Code.BAD_MESSAGE)
"""What a server answers to fsync where the file system cannot."""


class TempFile:
    """A file that gets its name when it is whole.

    Attributes:
        path: of the unfinished file.
        writer: appends to it.
    """

    def __init__(self, session: Session, path: bytes, handle: bytes, traffic: Traffic) -> None:
        self.path = path
        self.traffic = traffic
        self.writer = Writer(session, handle, traffic)
        self._session = session
        self._handle: bytes | None = handle

    def write(self, buffers: Iterable[Buffer]) -> None:
        """Appends buffers.

        Raises:
            ServerStatus, ConnectionLost.
        """
        self.writer.write(buffers)

    def finish(self) -> Attributes:
        """Returns when every byte is on the server's disk, if the server can tell, and the size is right.

        Raises:
            ChecksumMismatch: the size is another.
            ServerStatus, ConnectionLost.
        """
        session, handle = self._session, self._handle
        assert handle is not None
        self.writer.finish()
        synced = session.fsync(handle) if session.has(FSYNC) else None
        pending = session.fstat(handle)
        closed = session.close(handle)
        self._handle = None
        self.writer.drain()
        if synced is not None:
            try:
                synced.result()
            except ServerStatus as status:
                if status.code not in NO_FSYNC:
                    raise
        attributes = pending.result()
        closed.result()
        if attributes.size != self.writer.size:
            raise ChecksumMismatch(f"{self.writer.size} bytes were sent, and the server has {attributes.size}")
        return attributes

    def discard(self) -> None:
        """Removes it, as far as that is possible now.

        Raises:
            ConnectionLost: it stays until it is reaped.
        """
        if self._handle is not None:
            self._session.close(self._handle)
            self._handle = None
        self._session.remove(self.path)


class Files:
    """Makes, moves and removes files below a root; remembers which folders are there.

    Attributes:
        seen: the root was there once.
    """

    def __init__(self, place: Place) -> None:
        self.seen = False
        self.made: list[bytes] = []
        self._place = place
        self._known: set[str] = set()
        self._debris: list[bytes] = []
        self._reaped = False
        self._lock = threading.Lock()

    def temp(self, session: Session, traffic: Traffic) -> TempFile:
        """A new, empty file without a name of its own.

        Raises:
            ServerStatus, ConnectionLost.
            StorageUnavailable: the root has vanished.
        """
        path = self._place.file(f"{PRIVATE}/{secrets.token_hex(16)}")
        try:
            handle = self._create(session, path)
            self._clean(session, handle)
        except ConnectionLost:
            self.leave(path)
            raise
        return TempFile(session, path, handle, traffic)

    @contextlib.contextmanager
    def discarding(self, temp: TempFile) -> Iterator[None]:
        """Removes the file if the body fails; when the connection is lost too, later."""
        try:
            yield
        except BaseException:
            try:
                temp.discard()
            except ConnectionLost:
                self.leave(temp.path)
            raise

    def leave(self, path: bytes) -> None:
        """An unfinished file that cannot be removed now, but at the next chance."""
        with self._lock:
            self._debris.append(path)

    def publish(self, session: Session, temp: TempFile, name: str, *, if_absent: bool) -> None:
        """Moves a finished file to its place.

        Raises:
            ObjectExists: ``if_absent`` and the name is taken.
            CapabilityMissing: the server's file system has no hard links.
            InvalidName: other objects lie at a part of the name, or below it.
            ServerStatus, ConnectionLost, StorageUnavailable.
        """
        folder = name.rpartition("/")[0]
        for _ in range(_ATTEMPTS):
            try:
                self._make_folder(session, folder)
                if if_absent:
                    self._link(session, temp.path, name)
                else:
                    self._move(session, temp, name)
                return
            except ServerStatus as status:
                if status.code != Code.NO_SUCH_FILE:
                    raise
            self.forget(folder)  # it became empty and was removed before the file was in it
            if _look(session, temp.path) is None:
                raise StorageError("an unfinished file was removed by somebody else")
        raise StorageUnavailable(f"cannot store {name!r}: its folder is removed again and again")

    def forget(self, folder: str) -> None:
        """A folder may be gone, and those above it too."""
        with self._lock:
            self._known.difference_update(_ancestors(folder))

    def vanished(self, session: Session) -> bool:
        """Whether the root was there once and is not any more.

        Raises:
            ServerStatus, ConnectionLost.
        """
        if not self.seen:
            return False
        try:
            return not session.stat(self._place.root).result().is_folder
        except ServerStatus as status:
            if status.code != Code.NO_SUCH_FILE:
                raise
            return True

    def _create(self, session: Session, path: bytes) -> bytes:
        opened = session.open(path, WRITE | CREATE | EXCLUSIVE)
        try:
            handle = opened.result()
        except ServerStatus as status:
            if status.code != Code.NO_SUCH_FILE:
                raise
            self._make_root(session)
            handle = session.open(path, WRITE | CREATE | EXCLUSIVE).result()
        self.seen = True
        return handle

    def _move(self, session: Session, temp: TempFile, name: str) -> None:
        old, new = temp.path, self._place.file(name)
        rename = session.posix_rename if session.has(POSIX_RENAME) else session.rename
        try:
            rename(old, new).result()
        except ServerStatus as status:
            if status.code == Code.NO_SUCH_FILE:
                raise
            there = _look(session, new)
            if there is None:
                raise
            if there.is_folder:
                self._free(session, name)
                rename(old, new).result()
            elif session.has(POSIX_RENAME):
                raise
            elif not _same(session, old, new, temp.traffic):
                raise CapabilityMissing(
                    f"{name!r} exists, and this server cannot replace a file in one step",
                    hint="it lacks posix-rename@openssh.com",
                ) from status
            else:  # stored before, and the answer was lost
                session.remove(old)

    def _link(self, session: Session, old: bytes, name: str) -> None:
        new = self._place.file(name)
        for _ in range(_LINK_ATTEMPTS):
            try:
                session.hardlink(old, new).result()
            except ServerStatus as status:
                failure = status
            else:
                with contextlib.suppress(ServerStatus):  # it has its name; the other one is reaped one day
                    session.remove(old).result()
                return
            if failure.code == Code.NO_SUCH_FILE:
                raise failure
            there = _look(session, new)
            if there is not None and there.is_folder:
                self._free(session, name)
            elif there is not None:
                raise ObjectExists(f"{name!r} exists already")
        if isinstance(explain(session, self._place, failure, "", writing=True), (StorageFull, ReadOnlyStorage)):
            raise failure
        # neither taken nor missing: links are what the server does not want
        raise CapabilityMissing(
            f"{name!r} cannot be stored on condition: the server refuses a hard link ({failure})",
            hint="where the file system has none, set hard_links to no",
        ) from failure

    def _free(self, session: Session, name: str) -> None:
        """Removes an empty folder that has the name of an object."""
        self.forget(name)
        try:
            session.rmdir(self._place.file(name)).result()
        except ServerStatus as status:
            if status.code != Code.NO_SUCH_FILE:
                raise InvalidName(f"{name!r} cannot be stored: other objects lie below this name") from status

    def _make_folder(self, session: Session, folder: str) -> None:
        if not folder or folder in self._known:
            return
        path = _ancestors(folder)
        asked = [session.lstat(self._place.file(part)) for part in path]
        for part, pending in zip(path, asked, strict=True):
            try:
                there: Attributes | None = pending.result()
            except ServerStatus as status:
                if status.code != Code.NO_SUCH_FILE:
                    raise
                there = _make(session, self._place.file(part))
            if there is not None and not there.is_folder:
                raise InvalidName(f"{folder!r} cannot hold objects: {part!r} is an object or a link")
        with self._lock:
            self._known.update(path)

    def _make_root(self, session: Session) -> None:
        if self.vanished(session):
            raise StorageUnavailable(f"the folder {self._place.root.decode(errors='replace')} has vanished")
        missing = []
        for path in self._place.parents():
            try:
                if not session.stat(path).result().is_folder:
                    raise StorageError(f"{path.decode(errors='replace')} is not a folder")
                break
            except ServerStatus as status:
                if status.code != Code.NO_SUCH_FILE:
                    raise
                missing.append(path)
        for path in [*reversed(missing), self._place.file(PRIVATE)]:
            _make(session, path)
        with self._lock:
            self.made += missing

    def _clean(self, session: Session, handle: bytes) -> None:
        """Removes what this process left behind, and at the first call what others left long ago."""
        with self._lock:
            debris, self._debris = self._debris, []
            first, self._reaped = not self._reaped, True
        for path in debris:
            session.remove(path)
        if first:
            with contextlib.suppress(ServerStatus):
                self._reap(session, before=session.fstat(handle).result().mtime - int(GRACE.total_seconds()))

    def _reap(self, session: Session, *, before: int) -> None:
        folder = session.opendir(self._place.file(PRIVATE)).result()
        try:
            while (names := session.readdir(folder).result()) is not None:
                for name, attributes in names:
                    if attributes.is_file and attributes.mtime < before:
                        session.remove(self._place.file(PRIVATE) + b"/" + name)
        finally:
            session.close(folder)


def _ancestors(folder: str) -> list[str]:
    """``a/b`` -> ``a``, ``a/b``."""
    parts = folder.split("/")
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _look(session: Session, path: bytes) -> Attributes | None:
    try:
        return session.lstat(path).result()
    except ServerStatus as status:
        if status.code != Code.NO_SUCH_FILE:
            raise
        return None


def _make(session: Session, path: bytes) -> Attributes | None:
    """Makes a folder; tells what is there already."""
    try:
        session.mkdir(path).result()
    except ServerStatus as status:
        if status.code == Code.NO_SUCH_FILE or (there := _look(session, path)) is None:
            raise
        return there
    return None


def _same(session: Session, one: bytes, other: bytes, traffic: Traffic) -> bool:
    """Whether two files have the same content."""
    size, other_size = (session.stat(path).result().size for path in (one, other))
    handles = [session.open(path, READ).result() for path in (one, other)]
    try:
        for start in range(0, size if size == other_size else 0, session.block):
            first, second = (
                pending.result() for pending in [session.read(handle, start, session.block) for handle in handles]
            )
            traffic.received(len(first))
            traffic.received(len(second))
            if first != second or len(first) != min(session.block, size - start):
                return False
        return size == other_size
    finally:
        for handle in handles:
            session.close(handle)


def remains(session: Session, place: Place, names: Sequence[str]) -> list[Attributes | None]:
    """What is there of some objects.

    Raises:
        ServerStatus, ConnectionLost.
    """
    asked = [session.lstat(place.file(name)) for name in names]
    found: list[Attributes | None] = []
    for pending in asked:
        try:
            found.append(pending.result())
        except ServerStatus as status:
            if status.code != Code.NO_SUCH_FILE:
                raise
            found.append(None)
    return found
