"""Provider ``btrfs``: read-only snapshots of the subvolumes that the paths lie in.

They are made beside everything else, at the top of the file system, which is mounted in a private folder for as long as
they are needed: nothing shows up below the paths themselves. Where the paths lie in several subvolumes, there is one
snapshot of each, one right after the other, since btrfs makes no two at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import CommandFailed, SnapshotError
from freezer_sdk.files.mounts import Mount
from freezer_sdk.model import JSON
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import Option
from freezer_sdk.snapshots.base import COMMON_OPTIONS, Probe, SnapshotProvider
from freezer_sdk.snapshots.label import Label, check_prefix, folders
from freezer_sdk.snapshots.mounts import clear_folder, located, mount, mount_of, mounts, private_folder
from freezer_sdk.streams.command import find_program, run_command

_KIND = "btrfs"
_TOP = "subvolid=5"
_SUBVOLUME_INODE = 256
_LISTED = re.compile(r"ID \d+ gen \d+ top level \d+ path (.+)")
_TIMEOUT = 600.0  # a snapshot waits until the file system has written what it holds in memory


class BtrfsProvider(SnapshotProvider):
    """Read-only snapshots of btrfs subvolumes; needs root.

    A snapshot ends where another subvolume begins: such nested ones are found, and named by the group's ``missing``.

    Args:
        label_prefix: what the names of snapshots begin with.

    Raises:
        ConfigurationError: names cannot begin like that.
    """

    name: ClassVar[str] = "btrfs"
    api_version: ClassVar[int] = API_VERSION
    summary: ClassVar[str] = "read-only snapshots of btrfs subvolumes"
    preference: ClassVar[int | None] = 20
    options: ClassVar[tuple[Option, ...]] = COMMON_OPTIONS

    def __init__(self, *, label_prefix: str = "freezer") -> None:
        self._prefix = check_prefix(label_prefix)

    @classmethod
    def available(cls) -> str | None:
        """Needs the program ``btrfs``."""
        return None if find_program("btrfs") else "the program 'btrfs' is missing: apt-get install btrfs-progs"

    def probe(self, paths: Sequence[Path]) -> Probe:
        """See :meth:`SnapshotProvider.probe <freezer_sdk.snapshots.base.SnapshotProvider.probe>`."""
        try:
            places = [_Place.of(path) for path in paths]
        except SnapshotError as error:
            return Probe(possible=False, reason=error.message)
        if os.geteuid():
            return Probe(possible=False, reason="only root may make and remove snapshots of btrfs")
        sources = sorted({place.mount.source for place in places})
        return Probe(possible=True, reason=f"btrfs on {', '.join(sources)}")

    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        """See :meth:`SnapshotProvider.create <freezer_sdk.snapshots.base.SnapshotProvider.create>`."""
        places = [_Place.of(path) for path in paths]
        label = Label.new(self._prefix)
        with ExitStack() as stack:
            folder = stack.enter_context(private_folder(label))
            tops: dict[str, Path] = {}
            for place in places:
                if place.mount.device not in tops:
                    tops[place.mount.device] = _mount_top(place.mount, folder / f"top-{len(tops)}")
            homes = [_subvolume(tops[place.mount.device], place.inner) for place in places]
            snapshots = {
                home: home.top / str(label.numbered(number)) for number, home in enumerate(dict.fromkeys(homes))
            }
            missing = list(self._nested(places, homes))
            for home, snapshot in snapshots.items():
                stack.callback(_delete, snapshot)
                _run("snapshot", "-r", "--", home.path, snapshot)
            yield _BtrfsGroup(places=places, homes=homes, snapshots=snapshots, missing=missing)

    def reap(self) -> Sequence[str]:
        """See :meth:`SnapshotProvider.reap <freezer_sdk.snapshots.base.SnapshotProvider.reap>`.

        Finds snapshots on those file systems that are mounted somewhere.
        """
        systems = {each.device: each for each in mounts() if each.kind == _KIND}
        removed: list[str] = []
        if systems:
            with private_folder(Label.new(self._prefix)) as folder:
                for number, system in enumerate(systems.values()):
                    top = _mount_top(system, folder / f"top-{number}")
                    for name in self._abandoned(top):
                        _delete(top / name)
                        removed.append(f"btrfs snapshot {name} on {system.source}")
        for label in folders(self._prefix):
            if not label.alive():
                clear_folder(label)
        return removed

    def _abandoned(self, top: Path) -> list[str]:
        names = []
        for entry in os.scandir(top):
            label = Label.parse(entry.name, prefix=self._prefix)
            if label is not None and not label.alive() and _is_subvolume(top / entry.name):
                names.append(entry.name)
        return sorted(names)

    def _nested(self, places: Sequence[_Place], homes: Sequence[_Home]) -> Iterator[Path]:
        listed = {top: [PurePosixPath(name) for name in _subvolumes(top)] for top in {home.top for home in homes}}
        for place, home in zip(places, homes, strict=True):
            for name in listed[home.top]:
                ours = len(name.parts) == 1 and Label.parse(name.name, prefix=self._prefix)
                if name != place.inner and name.is_relative_to(place.inner) and not ours:
                    yield place.path / name.relative_to(place.inner)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a path lies.

    Attributes:
        inner: the path as seen from the top of the file system, relative.
    """

    path: Path
    mount: Mount
    inner: PurePosixPath

    @classmethod
    def of(cls, path: Path) -> _Place:
        place = located(path)
        mount = mount_of(place)
        if mount.kind != _KIND:
            raise SnapshotError(f"{path} lies on {mount.kind}, not on btrfs")
        if "ro" in mount.options:
            raise SnapshotError(f"{path} lies on a file system that is mounted read-only")
        inner = PurePosixPath(mount.root.lstrip("/")) / place.relative_to(mount.point)
        return cls(path=path, mount=mount, inner=inner)


@dataclass(frozen=True, kw_only=True)
class _Home:
    """A subvolume, below the mount point of the top of its file system."""

    top: Path
    path: Path


class _BtrfsGroup(SnapshotGroup):
    """Views are folders in the snapshots; those cannot change, and need no room of their own."""

    def __init__(
        self,
        *,
        places: Sequence[_Place],
        homes: Sequence[_Home],
        snapshots: Mapping[_Home, Path],
        missing: Sequence[Path],
    ) -> None:
        self.missing = missing
        self._snapshots = tuple(snapshots.values())
        self.views = {
            place.path: snapshots[home] / (home.top / place.inner).relative_to(home.path)
            for place, home in zip(places, homes, strict=True)
        }
        made: list[JSON] = []
        for home, snapshot in snapshots.items():
            inside = [place for place, its in zip(places, homes, strict=True) if its == home]
            made.append(
                {
                    "name": snapshot.name,
                    "volume": inside[0].mount.source,
                    "subvolume": f"/{'' if home.path == home.top else home.path.relative_to(home.top)}",
                    "paths": [str(place.path) for place in inside],
                }
            )
        self.facts = {"provider": "btrfs", "snapshots": made, "atomic": len(made) == 1}

    def check(self) -> None:
        """Whether all snapshots are still there.

        Raises:
            SnapshotError: one is not.
        """
        for snapshot in self._snapshots:
            if not _is_subvolume(snapshot):
                raise SnapshotError(f"the btrfs snapshot {snapshot.name} has been removed while it was in use")


def _mount_top(system: Mount, point: Path) -> Path:
    mount(system.source, point, kind=_KIND, options=[_TOP])
    return point


def _subvolume(top: Path, inner: PurePosixPath) -> _Home:
    """The subvolume that something lies in."""
    path = top / inner
    while path != top and not _is_subvolume(path):
        path = path.parent
    return _Home(top=top, path=path)


def _is_subvolume(path: Path) -> bool:
    try:
        return path.lstat().st_ino == _SUBVOLUME_INODE
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SnapshotError(f"cannot look at {path}: {error.strerror}") from error


def _subvolumes(top: Path) -> Iterator[str]:
    """All subvolumes of a file system, by their paths below its top."""
    for line in _run("list", "--", top).split("\n"):
        found = _LISTED.fullmatch(line)
        if found is not None:
            yield found[1]


def _delete(snapshot: Path) -> None:
    if snapshot.exists():
        _run("delete", "--", snapshot)


def _run(*arguments: str | Path) -> str:
    try:
        return run_command(["btrfs", "subvolume", *arguments], timeout=_TIMEOUT, package="btrfs-progs")
    except CommandFailed as error:
        raise SnapshotError(f"btrfs: {error.message}", hint=error.hint) from error
