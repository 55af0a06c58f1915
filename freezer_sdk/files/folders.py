"""Descriptors on the directories of a restore target, reached step by step without following a link."""

from __future__ import annotations

import errno
import itertools
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Container
from typing import NamedTuple

from freezer_sdk.errors import RestoreConflict, RestoreError, UnsafePath
from freezer_sdk.files import posix

_FLAGS = posix.READ_DIRECTORY | posix.O_NOFOLLOW
_KEPT_OPEN = 48
_NO_NAMES = frozenset({b"", b".", b".."})


class Folder(NamedTuple):
    """An open directory of the target.

    Attributes:
        gid: a new entry's group, when it differs from the process's: directories may hand theirs down.
        default_acl: new entries inherit an access control list.
    """

    fd: int
    device: int
    gid: int
    default_acl: bool


def check_name(name: bytes, path: bytes) -> None:
    """Refuses paths that lead somewhere else.

    Args:
        name: last part of the path.

    Raises:
        UnsafePath.
    """
    if name in _NO_NAMES or b"\0" in name or path.startswith(b"/"):
        raise UnsafePath(f"the backup holds an unsafe path: {os.fsdecode(path)!r}")


def is_plain_name(name: bytes) -> bool:
    """Whether a name stays in its directory."""
    return not (b"/" in name or b"\0" in name or name in _NO_NAMES)


class Folders:
    """The directories that one thread uses; a few stay open.

    Args:
        root: the target itself.
        fresh: paths of directories that this restore made.
    """

    def __init__(self, root: Folder, fresh: Container[bytes]) -> None:
        self._root = root
        self._fresh = fresh
        self._open: OrderedDict[bytes, Folder] = OrderedDict()
        self._last_path: bytes | None = None
        self._last = root

    def get(self, path: bytes) -> Folder:
        """The directory at a path relative to the target.

        Raises:
            UnsafePath: a part of the path is a symbolic link, or no name.
            RestoreConflict: a part of the path is no directory.
            RestoreError: it is not there, or cannot be opened.
        """
        if path == self._last_path:
            return self._last
        if not path:
            return self._root
        found = self._open.get(path)
        if found is not None:
            self._open.move_to_end(path)
            self._last_path, self._last = path, found
            return found
        missing = []
        above, current = path, None
        while above and current is None:
            missing.append(above)
            above = above.rpartition(b"/")[0]
            current = self._open.get(above)
        if current is not None:
            self._open.move_to_end(above)  # a directory is kept for as long as something below it is used
        folder = current or self._root
        if len(missing) > 1:
            for part in missing:
                check_name(part[part.rfind(b"/") + 1 :], part)
            fd = posix.open_beneath(folder.fd, path[len(above) + 1 :] if above else path)
            if fd is not None:
                return self._keep(path, fd)
        for part in reversed(missing):
            folder = self._enter(folder, part)
        return folder

    def _enter(self, above: Folder, path: bytes) -> Folder:
        name = path[path.rfind(b"/") + 1 :]
        check_name(name, path)
        try:
            fd = os.open(name, _FLAGS, dir_fd=above.fd)
        except OSError as error:
            raise _explained(above, name, path, error) from error
        return self._keep(path, fd)

    def _keep(self, path: bytes, fd: int) -> Folder:
        folder = open_folder(fd, fresh=path in self._fresh)
        self._open[path] = self._last = folder
        self._last_path = path
        if len(self._open) > _KEPT_OPEN:
            os.close(self._open.popitem(last=False)[1].fd)
        return folder

    def close(self) -> None:
        """Closes all but the target itself."""
        self._last_path = None
        while self._open:
            os.close(self._open.popitem()[1].fd)


class Worker:
    """What one thread keeps: open directories and a source of temporary names.

    Attributes:
        scratch: a temporary name for what the thread finishes before it begins the next.
    """

    def __init__(self, folders: Folders, prefix: bytes) -> None:
        self.folders = folders
        self.scratch = prefix
        self._prefix = prefix
        self._count = 0

    def temporary(self) -> bytes:
        """A name that nothing else has."""
        self._count += 1
        return b"%s-%x" % (self._prefix, self._count)

    def locate(self, path: bytes) -> tuple[Folder, bytes]:
        """The directory that holds an entry, open until the next call, and the entry's name.

        Raises:
            RestoreError: as :meth:`Folders.get`.
        """
        at = path.rfind(b"/")
        name = path[at + 1 :]
        check_name(name, path)
        return self.folders.get(path[:at] if at > 0 else b""), name


class Workspace:
    """The target as all threads see it; each has a :class:`Worker` of its own.

    Attributes:
        root: the target itself; ``None``: a dry run, and it does not exist.
        fresh: paths of directories that hold nothing but what this restore made.
    """

    def __init__(self, path: str, *, fresh: set[bytes] | None = None) -> None:
        self.path = path
        self.root: Folder | None = None
        self.fresh: set[bytes] = set() if fresh is None else fresh
        self._local = threading.local()
        self._workers: list[Worker] = []
        self._numbers = itertools.count()
        self._prefix = b".freezer-" + secrets.token_hex(6).encode()

    def worker(self) -> Worker:
        """What the calling thread keeps.

        Raises:
            RestoreError: the target is not open.
        """
        worker: Worker | None = getattr(self._local, "worker", None)
        if worker is None:
            if self.root is None:
                raise RestoreError(f"the target {self.path} is not open")
            worker = Worker(Folders(self.root, self.fresh), b"%s-%x" % (self._prefix, next(self._numbers)))
            self._workers.append(worker)
            self._local.worker = worker
        return worker

    def close(self) -> None:
        """Closes every directory."""
        while self._workers:
            self._workers.pop().folders.close()
        self._local = threading.local()
        if self.root is not None:
            os.close(self.root.fd)
            self.root = None


def look(folder: Folder, name: bytes) -> os.stat_result | None:
    """What a name leads to, links not followed; ``None``: nothing.

    Raises:
        OSError.
    """
    try:
        return os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_folder(fd: int, *, fresh: bool) -> Folder:
    """What matters of an open directory."""
    st = os.fstat(fd)
    return Folder(fd, st.st_dev, st.st_gid, not fresh and posix.has_default_acl(fd))


def _explained(above: Folder, name: bytes, path: bytes, error: OSError) -> RestoreError:
    shown = os.fsdecode(path)
    if error.errno == errno.ENOENT:
        return RestoreError(f"the directory {shown!r} was not restored")
    try:
        mode = os.stat(name, dir_fd=above.fd, follow_symlinks=False).st_mode
    except OSError:
        mode = 0
    if stat.S_ISLNK(mode):
        return UnsafePath(f"{shown!r} is a symbolic link in the target; links are not followed")
    if mode and not stat.S_ISDIR(mode):
        return RestoreConflict(f"{shown!r} is no directory in the target")
    return RestoreError(f"cannot open the directory {shown!r}: {error.strerror}")
