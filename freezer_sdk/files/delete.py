"""Removing what a target has and a backup has not: never through a link, never into another mount."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from freezer_sdk.files import posix
from freezer_sdk.files.report import Reporter

_FLAGS = posix.READ_DIRECTORY | posix.O_NOFOLLOW


@dataclass(slots=True)
class _Level:
    """A directory on the way down; only the last one is open."""

    name: bytes
    path: bytes
    identity: tuple[int, int]
    entries: list[bytes]
    keep: bool = False


class Remover:
    """Removes entries of a target.

    Args:
        keeps: whether an entry must stay (path relative to the target, whether it is a directory).
        removed: told of every removed path; with ``dry_run``, of what would be removed.
    """

    def __init__(
        self,
        report: Reporter,
        *,
        keeps: Callable[[bytes, bool], bool],
        removed: Callable[[bytes], None],
        dry_run: bool,
    ) -> None:
        self._report = report
        self._keeps = keeps
        self._removed = removed
        self._dry_run = dry_run

    def remove(self, dir_fd: int, name: bytes, path: bytes) -> bool:
        """Removes one entry with all that lies below it.

        Returns:
            Whether it is gone; what had to stay, or could not be removed, is reported or was asked for.
        """
        try:
            st = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return True
        except OSError as error:
            return self._failed(path, error)
        if self._keeps(path, stat.S_ISDIR(st.st_mode)):
            return False
        if not stat.S_ISDIR(st.st_mode):
            return self._unlink(dir_fd, name, path)
        return self._tree(dir_fd, name, path)

    def _unlink(self, dir_fd: int, name: bytes, path: bytes) -> bool:
        try:
            if not self._dry_run:
                os.unlink(name, dir_fd=dir_fd)
        except FileNotFoundError:
            return True
        except OSError as error:
            return self._failed(path, error)
        self._removed(path)
        return True

    def _tree(self, dir_fd: int, name: bytes, path: bytes) -> bool:
        above = os.fstat(dir_fd)
        levels = [_Level(b"", b"", (above.st_dev, above.st_ino), [])]
        fd = self._enter(dir_fd, name, path, levels)
        if fd is None:
            return False
        gone = True
        while len(levels) > 1:
            level = levels[-1]
            if not level.entries:
                fd, gone = self._leave(fd, levels)
                continue
            entry = level.entries.pop()
            below = level.path + b"/" + entry
            try:
                st = os.stat(entry, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            except OSError as error:
                level.keep = not self._failed(below, error)
                continue
            is_directory = stat.S_ISDIR(st.st_mode)
            if self._keeps(below, is_directory):
                level.keep = True
            elif not is_directory:
                level.keep |= not self._unlink(fd, entry, below)
            else:
                inner = self._enter(fd, entry, below, levels)
                if inner is None:
                    level.keep = True
                else:
                    os.close(fd)
                    fd = inner
        os.close(fd)
        return gone

    def _enter(self, dir_fd: int, name: bytes, path: bytes, levels: list[_Level]) -> int | None:
        """Opens a directory to be emptied; ``None``: it has to stay."""
        fd = None
        try:
            fd = self._open(dir_fd, name)
            st = os.fstat(fd)
            foreign = st.st_dev != levels[-1].identity[0] or posix.mount_id(fd) != posix.mount_id(dir_fd)
            entries = [] if foreign else [os.fsencode(entry) for entry in os.listdir(fd)]
            if not foreign and not self._dry_run and st.st_mode & stat.S_IRWXU != stat.S_IRWXU:
                os.fchmod(fd, stat.S_IRWXU)
        except OSError as error:
            if fd is not None:
                os.close(fd)
            self._failed(path, error)
            return None
        if foreign:
            os.close(fd)
            self._report.note(path, "mount_point", "not removed: another file system is mounted there")
            return None
        levels.append(_Level(name, path, (st.st_dev, st.st_ino), entries))
        return fd

    def _open(self, dir_fd: int, name: bytes) -> int:
        try:
            return os.open(name, _FLAGS, dir_fd=dir_fd)
        except PermissionError:
            if self._dry_run:
                raise
            posix.chmod_entry(dir_fd, name, stat.S_IRWXU)
            return os.open(name, _FLAGS, dir_fd=dir_fd)

    def _leave(self, fd: int, levels: list[_Level]) -> tuple[int, bool]:
        """Goes up, and removes the directory that was left if nothing in it had to stay."""
        level = levels.pop()
        try:
            parent = os.open(b"..", _FLAGS, dir_fd=fd)
        finally:
            os.close(fd)
        st = os.fstat(parent)
        if (st.st_dev, st.st_ino) != levels[-1].identity:
            levels[1:] = []
            self._report.fatal(level.path, "unremovable", "it was moved while it was being removed")
            return parent, False
        gone = not level.keep and self._rmdir(parent, level)
        if not gone:
            levels[-1].keep = True
        return parent, gone

    def _rmdir(self, parent: int, level: _Level) -> bool:
        try:
            if not self._dry_run:
                os.rmdir(level.name, dir_fd=parent)
        except OSError as error:
            return self._failed(level.path, error)
        self._removed(level.path)
        return True

    def _failed(self, path: bytes, error: OSError) -> bool:
        self._report.fatal(path, "unremovable", f"cannot be removed: {error.strerror}")
        return False
