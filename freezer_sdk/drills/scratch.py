"""Space that a drill restores into, and that is free again afterwards."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from freezer_sdk.errors import ConfigurationError

try:
    import fcntl
except ImportError:  # not a POSIX system: nobody can tell which folders were left
    _LOCKS = False
else:
    _LOCKS = True

_log = logging.getLogger("freezer_sdk")
_PREFIX: Final = "freezer-drill-"
_IN_USE: Final = "in-use"


@contextmanager
def scratch_folder(parent: str | None, *, needed: int, private: bool) -> Iterator[Path]:
    """A new folder for a restore, removed with all that is in it; also those that killed drills have left.

    Args:
        parent: where it is made; ``None``: where temporary files go.
        needed: bytes that there must be room for.
        private: nobody else can look into it; else those who know its name can pass through it, as the server of a
            database that runs under an account of its own.

    Raises:
        ConfigurationError: it cannot be made, or there is not enough room.
    """
    place = parent or tempfile.gettempdir()
    _remove_left(place)
    try:
        free = shutil.disk_usage(place).free
        if free < needed:
            raise ConfigurationError(
                f"the drill needs {needed:,} bytes in {place}, and {free:,} are free",
                hint="name another place for it, or take a sample",
            )
        made = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        lock = os.open(os.path.join(made, _IN_USE), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise ConfigurationError(f"there is no place for a drill in {place}: {error.strerror}") from None
    try:
        if _LOCKS:
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not private:
            os.chmod(made, 0o711)  # noqa: S103  # nobody can list it, and so nobody knows the name of what is in it
        folder = Path(made, f"restored-{secrets.token_hex(16)}")
        folder.mkdir()
        yield folder
    finally:
        _remove(made)
        os.close(lock)


def _remove_left(place: str) -> None:
    """Removes the folders of drills that were killed: nobody holds their lock."""
    if not _LOCKS:
        return
    with suppress(OSError), os.scandir(place) as found:
        for each in found:
            if each.name.startswith(_PREFIX) and each.is_dir(follow_symlinks=False):
                _remove_if_left(each)


def _remove_if_left(folder: os.DirEntry[str]) -> None:
    if folder.stat(follow_symlinks=False).st_uid != os.geteuid():
        return
    try:
        lock = os.open(os.path.join(folder.path, _IN_USE), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return  # being made, or not ours
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _log.info("removing what a drill has left: %s", folder.path)
        _remove(folder.path)
    except BlockingIOError:
        return
    finally:
        os.close(lock)


def _remove(folder: str) -> None:
    """Removes a folder, those in it that nobody may enter included; the mark that it is in use goes last."""
    for path, names, _files in os.walk(folder):
        for name in names:
            inside = os.path.join(path, name)
            with suppress(OSError):
                mode = os.lstat(inside).st_mode
                if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
                    os.chmod(inside, 0o700)
    with suppress(OSError):
        for name in os.listdir(folder):
            if name != _IN_USE:
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    if os.path.lexists(folder):
        _log.error("what a drill has restored cannot be removed: %s", folder)
