"""What is mounted where, and mounts of our own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from freezer_sdk.errors import CommandFailed, SnapshotError
from freezer_sdk.files import mounts as table
from freezer_sdk.files.mounts import Mount
from freezer_sdk.snapshots.label import RUN, Label, make_folder, remove_folder
from freezer_sdk.streams.command import run_command

_TIMEOUT = 60.0
_BUSY_TRIES = 20
_BUSY_PAUSE = 0.25


def mounts() -> Sequence[Mount]:
    """All mounts, in the order of the kernel's table.

    Raises:
        SnapshotError: the kernel does not tell.
    """
    try:
        return table.mounts()
    except OSError as error:
        raise SnapshotError(f"cannot tell what is mounted: {error.strerror or error}") from error


def located(path: Path) -> Path:
    """The path without symbolic links above its last part; a link itself is not followed.

    Raises:
        SnapshotError: there is no such thing.
    """
    try:
        place = path.parent.resolve(strict=True) / path.name
        place.lstat()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "symbolic links lead in a circle"
        raise SnapshotError(f"cannot look at {path}: {reason}") from error
    return place


def mount_of(path: Path) -> Mount:
    """The mount that a path is seen through; a symbolic link is not followed.

    Raises:
        SnapshotError: there is no such path, or the kernel does not tell.
    """
    try:
        return table.mount_of(path)
    except OSError as error:
        raise SnapshotError(f"cannot tell where {path} is mounted: {error.strerror or error}") from error


@contextmanager
def private_folder(label: Label, *, run: Path = RUN) -> Iterator[Path]:
    """A folder for the mount points of one label; all that is mounted in it is unmounted at the end.

    Raises:
        SnapshotError: it cannot be made, or not be removed.
    """
    with ExitStack() as stack:
        folder = make_folder(label, run=run)
        stack.callback(clear_folder, label, run=run)
        yield folder


def clear_folder(label: Label, *, run: Path = RUN) -> None:
    """Unmounts what is mounted in the folder of a label, and removes it.

    Raises:
        SnapshotError: something is in use, or no empty mount point.
    """
    folder = run / str(label)
    for mount in reversed(mounts()):
        if folder in mount.point.parents:
            unmount(mount.point)
    remove_folder(label, run=run)


def mount(source: str | Path, point: Path, *, kind: str, options: Sequence[str] = (), existing: bool = False) -> None:
    """Mounts a file system on a folder that is made for it, where programs and devices of it are not obeyed.

    Args:
        existing: the folder is there already, and stays.

    Raises:
        SnapshotError: it cannot be mounted; the folder is gone again.
    """
    chosen = ",".join(("nosuid", "nodev", "noexec", *options))
    try:
        if not existing:
            point.mkdir(mode=0o700)
        try:
            run_command(["mount", "-t", kind, "-o", chosen, "--", source, point], timeout=_TIMEOUT, package="mount")
        except BaseException:
            if not existing and not os.path.ismount(point):
                point.rmdir()
            raise
    except OSError as error:
        raise SnapshotError(f"cannot make {point}: {error.strerror}") from error
    except CommandFailed as error:
        raise SnapshotError(f"cannot mount {source}: {error.message}", hint=error.hint) from error


def unmount(point: Path) -> None:
    """Unmounts a folder, which others may look into for a moment longer.

    Raises:
        SnapshotError: it stays in use.
    """

    def attempt() -> None:
        if os.path.ismount(point):
            run_command(["umount", "--", point], timeout=_TIMEOUT, package="mount")

    try:
        while_busy(attempt)
    except CommandFailed as error:
        raise SnapshotError(f"cannot unmount {point}: {error.message}", hint=error.hint) from error


def while_busy(attempt: Callable[[], object]) -> None:
    """Tries again for some seconds what fails while somebody else looks at a volume.

    Raises:
        CommandFailed: it still fails.
    """
    for _ in range(_BUSY_TRIES):
        try:
            attempt()
        except CommandFailed:
            time.sleep(_BUSY_PAUSE)
        else:
            return
    attempt()
