"""Data directories of database servers: where a backup may be put, and whose it is then."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from freezer_sdk.errors import RestoreConflict, RestoreError
from freezer_sdk.model import RestoreOptions


def check_data_directory(target: Path, options: RestoreOptions) -> None:
    """Whether a data directory may be restored there: files of two databases in one directory destroy both.

    Raises:
        RestoreConflict: it holds something that the restore would not delete.
        RestoreError: it is no directory, or cannot be looked at.
    """
    try:
        names = os.listdir(target)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RestoreError(f"cannot restore into {target}: {error.strerror}") from error
    if [name for name in names if name != "lost+found"] and not options.delete:
        raise RestoreConflict(
            f"{target} is not empty; files of two databases in one directory would destroy both",
            hint="stop the server and move its data directory away, or delete what the backup does not have (--delete)",
        )


def make_data_directory(target: Path) -> None:
    """Makes the directory, which nobody but its owner can enter.

    Raises:
        RestoreError: it cannot be made.
    """
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise RestoreError(f"cannot make {target}: {error.strerror}") from error


def owner_of(path: Path) -> tuple[int, int]:
    """User and group of a file or directory.

    Raises:
        RestoreError: it cannot be looked at.
    """
    try:
        info = path.lstat()
    except OSError as error:
        raise RestoreError(f"cannot look at {path}: {error.strerror}") from error
    return info.st_uid, info.st_gid


def give_to(path: Path, owner: tuple[int, int], *, mode: int | None = None, recursive: bool = False) -> None:
    """Makes somebody the owner of a directory, or of all below it, if this process may; links are not followed.

    Args:
        mode: of the directory itself.

    Raises:
        RestoreError: it cannot be changed.
    """
    try:
        paths = [path]
        if recursive:
            for folder, folders, names in os.walk(path):
                paths += [Path(folder, name) for name in (*folders, *names)]
        for each in paths if os.geteuid() == 0 else ():
            os.chown(each, *owner, follow_symlinks=False)
        if mode is not None and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
    except OSError as error:
        raise RestoreError(f"cannot change who owns {path}: {error.strerror}") from error
