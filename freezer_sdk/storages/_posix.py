"""Files and folders for :mod:`freezer_sdk.storages.local`: no link is followed below the root, no buffer is copied."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from freezer_sdk.errors import (
    AccessDenied,
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
from freezer_sdk.storages._linux import rename_noreplace

PRIVATE = ".freezer-tmp"
"""The folder below the root that holds unfinished files."""

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_BATCH = 512  # buffers of one writev; Linux takes 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_AWAY = (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ENODEV, errno.ENXIO)


def storage_error(error: OSError, what: str) -> StorageError:
    """The error of this library for one of the operating system; ``what`` begins the message."""
    message = f"{what}: {error.strerror or error}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return StorageFull(message, hint="free some space or raise the quota")
        case errno.EROFS:
            return ReadOnlyStorage(message, hint="the file system is mounted read-only")
        case errno.EACCES | errno.EPERM:
            return AccessDenied(message, hint="check owner and mode of the folder")
        case errno.ENAMETOOLONG | errno.EILSEQ:
            return InvalidName(message)
        case number if number in _AWAY:
            return StorageUnavailable(message)
        case _:
            return StorageError(message)


@contextlib.contextmanager
def reporting(what: str) -> Iterator[None]:
    """Turns an ``OSError`` of its body into the error of this library."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, what) from error


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """As :func:`reporting`; a sector that cannot be read concerns one object, not the storage."""
    with reporting(what):
        try:
            yield
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            hint = "the medium may be failing: save what can still be read"
            raise ChecksumMismatch(f"{what}: {error.strerror}", hint=hint) from error


def moment(nanoseconds: int) -> datetime:
    """A file's time; cut, never rounded up, to microseconds."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


class Root:
    """The folder that holds a storage; it must stay the same one, or a disk was unmounted below us."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._identity: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def make(self) -> None:
        """Makes the root with its parents, durably; fine when it is there.

        Raises:
            OSError: it cannot be made.
        """
        if self._identity is not None:
            return
        missing = []
        path = self.path
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
        # the root's own entry too: a process that died may have made it a moment ago
        for folder in {*missing, self.path}:
            _sync_path(os.path.dirname(folder), needed=bool(missing))

    def open(self) -> int:
        """A descriptor of the root.

        Raises:
            FileNotFoundError: there never was one.
            StorageUnavailable: there was one, and now it is another or none.
            StorageError: it is not a folder.
        """
        try:
            fd = os.open(self.path, _FOLDER)
        except FileNotFoundError as error:
            if self._identity is not None:
                raise StorageUnavailable(f"{self.path} has vanished") from error
            raise
        except NotADirectoryError as error:
            raise StorageError(f"{self.path} is not a folder") from error
        status = os.fstat(fd)
        with self._lock:
            identity = self._identity = self._identity or (status.st_dev, status.st_ino)
        if identity != (status.st_dev, status.st_ino):
            os.close(fd)
            raise StorageUnavailable(f"{self.path} is another folder than before", hint="was a disk unmounted?")
        return fd

    @contextlib.contextmanager
    def folders(self, parts: Sequence[str], *, create: bool = False) -> Iterator[list[int]]:
        """Descriptors of the root and of each folder on the way down ``parts``.

        Raises:
            OSError: ``FileNotFoundError`` or ``NotADirectoryError`` (also for a link) when it ends early.
            StorageUnavailable: see :meth:`open`.
        """
        chain: list[int] = []
        try:
            chain.append(self.open())
            for part in parts:
                chain.append(_enter(chain[-1], part, create=create))
            yield chain
        finally:
            for fd in reversed(chain):
                os.close(fd)


def _enter(parent: int, part: str, *, create: bool) -> int:
    with contextlib.suppress(*((FileNotFoundError,) if create else ())):
        return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, 0o700, dir_fd=parent)
    return os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=parent)


def _sync_path(path: str, *, needed: bool) -> None:
    try:
        fd = os.open(path, _FOLDER)
    except PermissionError:
        if needed:
            raise
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_up(chain: Sequence[int]) -> None:
    """Makes the entries of a chain of folders durable, the lowest first.

    All of them, every time: any folder on the way may be one that another process has made and not synced yet.
    """
    for fd in reversed(chain):
        os.fsync(fd)


def prune(root: Root, parts: Sequence[str]) -> None:
    """Removes the folders of ``parts`` from the lowest up, as far as they are empty."""
    if not parts:
        return
    with contextlib.suppress(OSError), root.folders(parts[:-1]) as chain:
        for part, parent in zip(reversed(parts), reversed(chain), strict=True):
            os.rmdir(part, dir_fd=parent)


class TempFile:
    """A file that gets its name when it is whole; on leaving, an unpublished one is removed.

    Attributes:
        fd: open for writing.
        folder: descriptor of the private folder.
    """

    def __init__(self, root: Root) -> None:
        self.name = secrets.token_hex(16)
        self.size = 0
        with root.folders([PRIVATE], create=True) as chain:
            self.folder = os.dup(chain[-1])
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self.fd = os.open(self.name, flags, 0o600, dir_fd=self.folder)
        except BaseException:
            os.close(self.folder)
            raise
        self._named = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(*(() if kind is None else (OSError,))):
            self.close()

    def close(self) -> None:
        """Removes what was not published.

        Raises:
            OSError: some file systems report a full disk only here.
        """
        if self._named:
            with contextlib.suppress(OSError):
                os.unlink(self.name, dir_fd=self.folder)
        os.close(self.folder)
        os.close(self.fd)

    def write(self, buffers: Iterable[Buffer]) -> None:
        """Appends buffers as they are.

        Raises:
            OSError: what a write raises.
        """
        views = [view for view in (memoryview(buffer).cast("B") for buffer in buffers) if view.nbytes]
        start = 0
        while start < len(views):
            done = os.writev(self.fd, views[start : start + _BATCH])
            self.size += done
            while done:
                step = min(done, views[start].nbytes)
                done -= step
                if step == views[start].nbytes:
                    start += 1
                else:
                    views[start] = views[start][step:]

    def modified(self) -> datetime:
        """The storage's time of the last write."""
        return moment(os.fstat(self.fd).st_mtime_ns)

    def publish(self, target: int, name: str, *, if_absent: bool) -> None:
        """Moves the file to its place in the folder ``target``.

        Raises:
            ObjectExists: ``if_absent`` and the name is taken.
            CapabilityMissing: ``if_absent`` on a file system that cannot decide it.
            InvalidName: a folder with objects has this name.
            FileNotFoundError: the target folder was removed meanwhile.
            OSError: what link and rename raise.
        """
        try:
            self._move(target, name, if_absent=if_absent)
        except (IsADirectoryError, FileExistsError) as error:
            if not _is_folder(name, target):
                raise ObjectExists(f"{name!r} exists already") from error
            self._replace_folder(target, name, if_absent=if_absent)
        except FileNotFoundError as error:
            if os.fstat(self.fd).st_nlink == 0:
                raise StorageError("an unfinished file was removed by somebody else") from error
            raise

    def _replace_folder(self, target: int, name: str, *, if_absent: bool) -> None:
        try:
            os.rmdir(name, dir_fd=target)
            self._move(target, name, if_absent=if_absent)
        except OSError as error:
            raise InvalidName(f"{name!r} cannot be stored: other objects lie below this name") from error

    def _move(self, target: int, name: str, *, if_absent: bool) -> None:
        if not if_absent:
            os.rename(self.name, name, src_dir_fd=self.folder, dst_dir_fd=target)
            self._named = False
            return
        try:
            os.link(self.name, name, src_dir_fd=self.folder, dst_dir_fd=target, follow_symlinks=False)
        except FileExistsError:
            # NFS repeats a call whose answer was lost: our own second name is no conflict
            if os.fstat(self.fd).st_nlink != 2:
                raise
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._rename_noreplace(target, name)

    def _rename_noreplace(self, target: int, name: str) -> None:
        try:
            rename_noreplace(self.name, self.folder, name, target)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
            reason = "its file system has neither hard links nor renameat2"
            raise CapabilityMissing(f"a conditional put is not possible here: {reason}") from error
        self._named = False


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


def reap(folder: int, *, before: datetime) -> None:
    """Removes unfinished files last written before a time; what cannot be removed stays."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and moment(status.st_mtime_ns) < before:
                    os.unlink(entry.name, dir_fd=folder)
