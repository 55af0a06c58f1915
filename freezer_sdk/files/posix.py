"""What only POSIX systems have, in one place; imports everywhere, and says what the platform lacks."""

from __future__ import annotations

import errno
import functools
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

try:
    import grp
    import pwd
except ImportError:  # not a POSIX system
    HAS_OWNERS = False
else:
    HAS_OWNERS = True

_T = TypeVar("_T")

O_CLOEXEC: int = getattr(os, "O_CLOEXEC", 0)
O_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
O_DIRECTORY: int = getattr(os, "O_DIRECTORY", 0)
O_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
O_NOATIME: int = getattr(os, "O_NOATIME", 0)
O_PATH: int = getattr(os, "O_PATH", 0)
_O_NOCTTY: int = getattr(os, "O_NOCTTY", 0)
_O_BINARY: int = getattr(os, "O_BINARY", 0)

READ_FILE = os.O_RDONLY | O_NONBLOCK | _O_NOCTTY | O_CLOEXEC | _O_BINARY
"""Opening must neither wait for a FIFO's writer nor make a terminal ours."""
READ_DIRECTORY = os.O_RDONLY | O_DIRECTORY | O_CLOEXEC

HAS_XATTRS = hasattr(os, "listxattr")
NOT_SUPPORTED = frozenset({errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
_NO_ATTRIBUTE = frozenset({errno.ENODATA, getattr(errno, "ENOATTR", errno.ENODATA)})
_MOST_EXTENTS = 65536
_OPENAT2 = 437
_RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x04, 0x08


def effective_user() -> tuple[int, int]:
    """Effective user and group id; ``(0, 0)`` where there are none."""
    if hasattr(os, "geteuid"):
        return os.geteuid(), os.getegid()
    return 0, 0


def sync(paths: Iterable[bytes], *, patience: float) -> bool:
    """Asks the kernel to write out what was written to the file systems of these paths.

    Args:
        patience: seconds to wait; while others go on writing, a sync may take for ever.

    Returns:
        Whether it was done in time; if not, it goes on by itself.
    """
    worker = threading.Thread(target=_sync_file_systems, args=(tuple(paths),), name="freezer-sync", daemon=True)
    worker.start()
    worker.join(patience)
    return not worker.is_alive()


def _sync_file_systems(paths: Sequence[bytes]) -> None:
    import ctypes

    syncfs = getattr(ctypes.CDLL(None), "syncfs", None) if sys.platform.startswith("linux") else None
    if syncfs is None:
        if hasattr(os, "sync"):
            os.sync()
        return
    done: set[int] = set()
    for path in paths:
        try:
            fd = os.open(path if os.path.isdir(path) else os.path.dirname(path), READ_DIRECTORY)
        except OSError:
            continue  # reading will say what is wrong with it
        try:
            device = os.fstat(fd).st_dev
            if device not in done:
                done.add(device)
                syncfs(fd)
        finally:
            os.close(fd)


def open_regular(name: bytes, *, dir_fd: int | None, follow: bool = False) -> int:
    """Opens a regular file for reading, without touching its access time where that is permitted.

    Raises:
        OSError: cannot be opened, or is not a regular file (``ESTALE``).
    """
    flags = READ_FILE if follow else READ_FILE | O_NOFOLLOW
    try:
        fd = os.open(name, flags | O_NOATIME, dir_fd=dir_fd)
    except PermissionError as error:
        if error.errno != errno.EPERM or not O_NOATIME:
            raise
        fd = os.open(name, flags, dir_fd=dir_fd)  # only a file's owner may leave its access time alone
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ESTALE, "no longer a regular file", name)
    return fd


def entry_path(dir_fd: int | None, name: bytes) -> bytes | None:
    """A path for calls that take no descriptor of a directory; ``None`` where the system has no such paths."""
    if dir_fd is None:
        return name
    if not sys.platform.startswith("linux"):
        return None
    return b"/proc/self/fd/%d/%s" % (dir_fd, name)


def open_beneath(dir_fd: int, path: bytes) -> int | None:
    """A descriptor on a directory several levels down, by one call that follows no symbolic link on the way.

    Returns:
        ``None`` where the system has no such call, or when it fails: going step by step says why.
    """
    open_how = _open_how()
    if open_how is None:
        return None
    fd = open_how(dir_fd, path)
    return fd if fd >= 0 else None


@functools.cache
def _open_how() -> Callable[[int, bytes], int] | None:
    """Linux's openat2, which the C library does not wrap; its number is the same on every architecture."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    syscall = ctypes.CDLL(None).syscall
    syscall.restype = ctypes.c_long
    number = ctypes.c_long(_OPENAT2)
    how = (ctypes.c_uint64 * 3)(READ_DIRECTORY | O_NOFOLLOW, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    return lambda dir_fd, path: syscall(number, dir_fd, path, how, size)


def pin(dir_fd: int, name: bytes) -> int:
    """A descriptor that stands for an entry of any type, even a symbolic link, without opening it.

    Raises:
        OSError: not there, or the platform has no such descriptors.
    """
    if not O_PATH:
        raise OSError(errno.ENOTSUP, "this platform cannot pin directory entries", name)
    return os.open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC, dir_fd=dir_fd)


def pinned_path(fd: int) -> bytes:
    """A path that leads to exactly what :func:`pin` pinned; a pinned link is not followed."""
    return b"/proc/self/fd/%d" % fd


def chmod_entry(dir_fd: int, name: bytes, mode: int) -> None:
    """Sets the mode of an entry, never of what a symbolic link planted in its place leads to.

    Raises:
        OSError.
    """
    fd = pin(dir_fd, name)
    try:
        os.chmod(pinned_path(fd), mode)
    finally:
        os.close(fd)


def has_default_acl(fd: int) -> bool:
    """Whether what is made in this directory inherits an access control list."""
    if not HAS_XATTRS:
        return False
    try:
        return bool(os.getxattr(fd, "system.posix_acl_default"))
    except OSError:
        return False


if sys.platform.startswith("linux"):

    def get_xattrs(
        target: int | bytes, *, follow: bool = True, failed: Callable[[OSError, str], None]
    ) -> list[tuple[bytes, bytes]]:
        """All readable extended attributes, sorted by name.

        Args:
            target: an open file, or a path.
            follow: whether a path that is a symbolic link is followed.
            failed: told of attributes that cannot be read, with their name.

        Raises:
            OSError: ``target`` is not there any more.
        """
        try:
            names = os.listxattr(target) if follow else os.listxattr(target, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise
            if error.errno not in NOT_SUPPORTED:
                failed(error, "")
            return []
        found: list[tuple[bytes, bytes]] = []
        for name in names:
            try:
                value = os.getxattr(target, name) if follow else os.getxattr(target, name, follow_symlinks=False)
            except OSError as error:
                if error.errno in _NO_ATTRIBUTE or error.errno in NOT_SUPPORTED:
                    continue  # removed since it was listed, or listed by a file system that cannot give it
                if error.errno == errno.ENOENT:
                    raise
                failed(error, name)
                continue
            found.append((os.fsencode(name), value))
        found.sort()
        return found

    def set_xattr(target: int | bytes, name: bytes, value: bytes) -> None:
        """Sets one extended attribute.

        Raises:
            OSError.
        """
        os.setxattr(target, name, value)

    def remove_xattr(target: int | bytes, name: bytes) -> None:
        """Removes an extended attribute, if it is there.

        Raises:
            OSError.
        """
        try:
            os.removexattr(target, name)
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTE:
                raise

    def list_xattrs(target: int | bytes) -> list[bytes]:
        """Names of extended attributes; empty where the file system has none.

        Raises:
            OSError.
        """
        try:
            return [os.fsencode(name) for name in os.listxattr(target)]
        except OSError as error:
            if error.errno in NOT_SUPPORTED:
                return []
            raise

else:

    def get_xattrs(
        target: int | bytes, *, follow: bool = True, failed: Callable[[OSError, str], None]
    ) -> list[tuple[bytes, bytes]]:
        """Nothing: Python has no extended attributes here."""
        return []

    def set_xattr(target: int | bytes, name: bytes, value: bytes) -> None:
        """Not supported here.

        Raises:
            OSError.
        """
        raise OSError(errno.ENOTSUP, "no extended attributes on this platform")

    def remove_xattr(target: int | bytes, name: bytes) -> None:
        """Nothing to remove."""

    def list_xattrs(target: int | bytes) -> list[bytes]:
        """Nothing: Python has no extended attributes here."""
        return []


def forget_acl(dir_fd: int, name: bytes) -> None:
    """Takes away the access control lists that a new directory inherited.

    Raises:
        OSError.
    """
    fd = pin(dir_fd, name)
    try:
        for acl in (b"system.posix_acl_default", b"system.posix_acl_access"):
            remove_xattr(pinned_path(fd), acl)
    finally:
        os.close(fd)


def data_extents(fd: int, size: int) -> list[tuple[int, int]] | None:
    """Data ranges ``(offset, length)`` of a sparse file; ``None``: it has no holes, or nobody can tell."""
    if not hasattr(os, "SEEK_DATA"):
        return None
    try:
        extents = _merged(_data_ranges(fd, size))
    except OSError:
        return None
    return None if extents == [(0, size)] else extents


def _data_ranges(fd: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= size:
            return
        yield start, position - start


def _merged(ranges: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins ranges over ever larger gaps, so that a file of a million holes keeps a list of bounded length."""
    merged: list[tuple[int, int]] = []
    gap = 0
    for start, length in ranges:
        if merged and start - sum(merged[-1]) <= gap:
            merged[-1] = (merged[-1][0], start + length - merged[-1][0])
        else:
            merged.append((start, length))
        while len(merged) > _MOST_EXTENTS:
            gap = max(gap * 2, 4096)
            merged = _merged_over(merged, gap)
    return merged


def _merged_over(ranges: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    merged = ranges[:1]
    for start, length in ranges[1:]:
        if start - sum(merged[-1]) <= gap:
            merged[-1] = (merged[-1][0], start + length - merged[-1][0])
        else:
            merged.append((start, length))
    return merged


def mount_id(fd: int) -> int | None:
    """The mount that an open directory lies on (tells bind mounts of one device apart), where the system says so."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:
            for line in info:
                if line.startswith(b"mnt_id:"):
                    return int(line[7:])
    except (OSError, ValueError):
        pass
    return None


class Owners:
    """Names of users and groups, each asked for once."""

    def __init__(self) -> None:
        self._users: dict[int, str | None] = {}
        self._groups: dict[int, str | None] = {}
        self._uids: dict[str, int | None] = {}
        self._gids: dict[str, int | None] = {}

    def user_name(self, uid: int) -> str | None:
        """The user's name, if the system knows it."""
        if uid not in self._users:
            self._users[uid] = _ask(lambda: pwd.getpwuid(uid).pw_name)
        return self._users[uid]

    def group_name(self, gid: int) -> str | None:
        """The group's name, if the system knows it."""
        if gid not in self._groups:
            self._groups[gid] = _ask(lambda: grp.getgrgid(gid).gr_name)
        return self._groups[gid]

    def uid(self, name: str) -> int | None:
        """The number of a user, if the system knows the name."""
        if name not in self._uids:
            self._uids[name] = _ask(lambda: pwd.getpwnam(name).pw_uid)
        return self._uids[name]

    def gid(self, name: str) -> int | None:
        """The number of a group, if the system knows the name."""
        if name not in self._gids:
            self._gids[name] = _ask(lambda: grp.getgrnam(name).gr_gid)
        return self._gids[name]


def _ask(question: Callable[[], _T]) -> _T | None:
    if not HAS_OWNERS:
        return None
    try:
        return question()
    except (KeyError, OSError, ValueError, OverflowError):
        return None
