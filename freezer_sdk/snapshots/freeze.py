"""Provider ``freeze``: small state is copied while its file systems are frozen.

For volumes that cannot make snapshots. Whatever writes to a frozen file system waits, so it is frozen for seconds only,
by a process of its own that thaws it whatever happens, and never if something that must go on writes there.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import CommandFailed, SnapshotError
from freezer_sdk.files import posix
from freezer_sdk.files.mounts import Mount
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import Option
from freezer_sdk.snapshots._frozen import Frozen
from freezer_sdk.snapshots.base import COMMON_OPTIONS, Probe, SnapshotProvider
from freezer_sdk.snapshots.label import Label, check_prefix, folders, make_folder
from freezer_sdk.snapshots.mounts import located, mount_of
from freezer_sdk.streams.command import run_command

_KINDS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "nilfs2", "xfs"})
_NEVER = tuple(map(Path, ("/", "/etc", "/usr", "/var", "/var/lib", "/var/log", "/run", "/tmp", "/var/tmp")))  # noqa: S108
_SCRATCH = "/var/lib/freezer-sdk/copies"
_RECORD = "frozen"
_SYNC_PATIENCE = 60.0
_BLOCK = 512


class FreezeProvider(SnapshotProvider):
    """Copies of what lies on a frozen file system; needs root.

    Everything that writes there waits while the copy is made. That of several file systems is of one moment: all are
    frozen before the first file is copied.

    Args:
        label_prefix: what the names of the folders with copies begin with.
        scratch: where copies are made; only root may write there.
        max_size: more bytes than that are not copied.
        limit: seconds after which everything is thawed, whatever became of the copy.
        writable: what has to stay writable: no file system that holds any of it is frozen.

    Raises:
        ConfigurationError: names cannot begin like that.
    """

    name: ClassVar[str] = "freeze"
    api_version: ClassVar[int] = API_VERSION
    summary: ClassVar[str] = "copies of small state, made while its file system is frozen"
    preference: ClassVar[int | None] = None  # everything that writes there waits
    options: ClassVar[tuple[Option, ...]] = (
        *COMMON_OPTIONS,
        Option(name="scratch", type="path", default=_SCRATCH, help="Folder for copies, on another file system."),
        Option(name="max_size", type="size", default=1 << 30, help="Copy no more than this; a size such as 500M."),
        Option(name="limit", type="duration", default=30.0, help="Longest time that anything is frozen."),
        Option(
            name="writable",
            type="path",
            multiple=True,
            default=(),
            help="What must stay writable; no file system that holds any of it is frozen.",
        ),
    )

    def __init__(
        self,
        *,
        label_prefix: str = "freezer",
        scratch: str | os.PathLike[str] = _SCRATCH,
        max_size: int = 1 << 30,
        limit: float = 30.0,
        writable: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        self._prefix = check_prefix(label_prefix)
        self._scratch = Path(scratch).absolute()
        self._max_size, self._limit = max_size, limit
        self._writable = tuple(Path(path).absolute() for path in writable)

    @classmethod
    def available(cls) -> str | None:
        """Linux only."""
        return None if sys.platform.startswith("linux") else "file systems can be frozen on Linux only"

    def probe(self, paths: Sequence[Path]) -> Probe:
        """See :meth:`SnapshotProvider.probe <freezer_sdk.snapshots.base.SnapshotProvider.probe>`."""
        try:
            places = self._places(paths)
            size = _size(places)
            self._check_room(size)
        except SnapshotError as error:
            return Probe(possible=False, reason=error.message)
        if posix.effective_user()[0]:
            return Probe(possible=False, reason="only root may freeze file systems")
        kinds = sorted({place.mount.kind for place in places})
        return Probe(possible=True, reason=f"{', '.join(kinds)} with {size} bytes to copy")

    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        """See :meth:`SnapshotProvider.create <freezer_sdk.snapshots.base.SnapshotProvider.create>`."""
        places = self._places(paths)
        self._check_room(_size(places))
        label = Label.new(self._prefix)
        with ExitStack() as stack:
            folder = make_folder(label, run=self._scratch)
            stack.callback(_remove, folder)
            copies = {top: folder / str(number) for number, top in enumerate(dict.fromkeys(_tops(places).values()))}
            points = list({place.mount.device: place.mount.point for place in places}.values())
            posix.sync([os.fsencode(point) for point in points], patience=_SYNC_PATIENCE)
            with Frozen(points, record=folder / _RECORD, limit=self._limit) as frozen:
                for top, copy in copies.items():
                    _copy(top, copy, timeout=max(frozen.left, 1.0))
            views = {
                place.path: copies[top] / place.place.relative_to(top.place) for place, top in _tops(places).items()
            }
            yield _CopiedGroup(views, points)

    def reap(self) -> Sequence[str]:
        """See :meth:`SnapshotProvider.reap <freezer_sdk.snapshots.base.SnapshotProvider.reap>`."""
        from freezer_sdk.snapshots._watchdog import thaw_recorded

        removed: list[str] = []
        for label in folders(self._prefix, run=self._scratch):
            folder = self._scratch / str(label)
            if not label.alive():
                try:
                    removed += [f"freeze of {each}" for each in thaw_recorded(folder / _RECORD)]
                except (OSError, ValueError) as error:
                    raise SnapshotError(f"cannot thaw what {folder / _RECORD} tells: {error}") from error
                _remove(folder)
                removed.append(f"copy {folder}")
        return removed

    def _places(self, paths: Sequence[Path]) -> list[_Place]:
        """Where the paths lie.

        Raises:
            SnapshotError: there is no such path, or it must not be frozen.
        """
        busy = self._busy()
        places = [_Place.of(path) for path in paths]
        for place in places:
            if place.mount.device in busy:
                holds = busy[place.mount.device]
                raise SnapshotError(f"{place.path} lies on the file system that holds {holds}, which must not stop")
            if place.mount.kind not in _KINDS:
                raise SnapshotError(f"{place.path} lies on {place.mount.kind}, which cannot be frozen")
            if "ro" in place.mount.options:
                raise SnapshotError(f"{place.path} lies on a file system that is mounted read-only")
        return places

    def _busy(self) -> Mapping[str, Path]:
        """File systems that are not to be frozen, with what they hold."""
        busy: dict[str, Path] = {}
        for path in (*_NEVER, _home(), self._scratch, *self._writable, *_written()):
            with suppress(SnapshotError, OSError):
                busy.setdefault(mount_of(_existing(path).resolve()).device, path)
        return busy

    def _check_room(self, size: int) -> None:
        if size > self._max_size:
            raise SnapshotError(
                f"{size} bytes would have to be copied, and no more than {self._max_size} may be",
                hint="raise the option max_size of the provider freeze",
            )
        free = shutil.disk_usage(_existing(self._scratch)).free
        if size > free:
            raise SnapshotError(f"{size} bytes would have to be copied, and {self._scratch} has {free} left")


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a path lies; ``place`` is the path without links above its last part."""

    path: Path
    place: Path
    mount: Mount

    @classmethod
    def of(cls, path: Path) -> _Place:
        place = located(path)
        return cls(path=path, place=place, mount=mount_of(place))


class _CopiedGroup(SnapshotGroup):
    """Views are copies: nothing changes them."""

    def __init__(self, views: Mapping[Path, Path], points: Sequence[Path]) -> None:
        self.views = dict(views)
        self.facts = {"provider": "freeze", "file_systems": [str(point) for point in points], "atomic": True}

    def check(self) -> None:
        """Whether the copies are still there.

        Raises:
            SnapshotError: one is not.
        """
        for path, view in self.views.items():
            if isinstance(view, Path) and not os.path.lexists(view):
                raise SnapshotError(f"the copy of {path} has been removed while it was in use")


def _tops(places: Sequence[_Place]) -> dict[_Place, _Place]:
    """For each place the one whose copy holds it."""
    tops: dict[_Place, _Place] = {}
    for place in sorted(places, key=lambda each: each.place.parts):
        above = [
            top
            for top in tops.values()
            if place.place.is_relative_to(top.place) and top.mount.number == place.mount.number
        ]
        tops[place] = above[0] if above else place
    return tops


def _size(places: Sequence[_Place]) -> int:
    """Bytes on disk of all that would be copied.

    Raises:
        SnapshotError: something cannot be looked at.
    """
    try:
        return sum(_used(top.place) for top in set(_tops(places).values()))
    except OSError as error:
        raise SnapshotError(f"cannot look at {error.filename}: {error.strerror}") from error


def _used(top: Path) -> int:
    total, device, pending = 0, top.lstat().st_dev, [top]
    while pending:
        path = pending.pop()
        with suppress(FileNotFoundError):  # things come and go until all is frozen
            found = path.lstat()
            total += found.st_blocks * _BLOCK
            if stat.S_ISDIR(found.st_mode) and found.st_dev == device:
                pending += path.iterdir()
    return total


def _copy(top: _Place, copy: Path, *, timeout: float) -> None:
    arguments: list[str | Path] = [
        "cp",
        "--archive",
        "--one-file-system",
        "--no-target-directory",
        "--",
        top.place,
        copy,
    ]
    try:
        run_command(arguments, timeout=timeout, package="coreutils")
    except CommandFailed as error:
        raise SnapshotError(f"cannot copy {top.path}: {error.message}", hint=error.hint) from error


def _remove(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise SnapshotError(f"cannot remove {folder}: {error.strerror}") from error


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _home() -> Path:
    """Of the process's user: shells, desktops and caches write there."""
    import pwd

    with suppress(KeyError):
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return Path("/")


def _written() -> Iterator[Path]:
    """Files that this process has open for writing, its log among them."""
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            told = Path(f"/proc/self/fdinfo/{number}").read_text(encoding="ascii")
            flags = next((int(line.split()[1], 8) for line in told.splitlines() if line.startswith("flags:")), 0)
            target = os.readlink(f"/proc/self/fd/{number}")
            if flags & os.O_ACCMODE and target.startswith("/"):
                yield Path(target)
