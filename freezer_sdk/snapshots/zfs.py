"""Provider ``zfs``: snapshots of ZFS file systems, read through clones of them.

A clone is mounted in a private folder, which works the same with OpenZFS and with zfs-fuse (that has no ``.zfs``
folder). OpenZFS makes the snapshots of all file systems of one pool at one moment; zfs-fuse one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import CommandFailed, SnapshotError
from freezer_sdk.model import JSON
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import Option
from freezer_sdk.snapshots.base import COMMON_OPTIONS, Probe, SnapshotProvider
from freezer_sdk.snapshots.label import Label, check_prefix, folders
from freezer_sdk.snapshots.mounts import clear_folder, located, mount_of, mounts, private_folder, while_busy
from freezer_sdk.streams.command import find_program, run_command

_KERNEL, _FUSE = "zfs", "fuse.zfs"
_TIMEOUT = 300.0


class ZfsProvider(SnapshotProvider):
    """Snapshots of ZFS file systems; needs root.

    File systems of the same pool that are mounted below the paths are other volumes: each has to be named.

    Args:
        label_prefix: what the names of snapshots and clones begin with.

    Raises:
        ConfigurationError: names cannot begin like that.
    """

    name: ClassVar[str] = "zfs"
    api_version: ClassVar[int] = API_VERSION
    summary: ClassVar[str] = "snapshots of ZFS file systems"
    preference: ClassVar[int | None] = 10
    options: ClassVar[tuple[Option, ...]] = COMMON_OPTIONS

    def __init__(self, *, label_prefix: str = "freezer") -> None:
        self._prefix = check_prefix(label_prefix)

    @classmethod
    def available(cls) -> str | None:
        """Needs the program ``zfs``."""
        return None if find_program("zfs") else "the program 'zfs' is missing: apt-get install zfsutils-linux"

    def probe(self, paths: Sequence[Path]) -> Probe:
        """See :meth:`SnapshotProvider.probe <freezer_sdk.snapshots.base.SnapshotProvider.probe>`."""
        try:
            places = [_Place.of(path) for path in paths]
        except SnapshotError as error:
            return Probe(possible=False, reason=error.message)
        if os.geteuid():
            return Probe(possible=False, reason="only root may make and remove snapshots of ZFS")
        return Probe(possible=True, reason=f"ZFS: {', '.join(sorted({place.dataset for place in places}))}")

    @contextmanager
    def create(self, paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        """See :meth:`SnapshotProvider.create <freezer_sdk.snapshots.base.SnapshotProvider.create>`."""
        places = [_Place.of(path) for path in paths]
        label = Label.new(self._prefix)
        with ExitStack() as stack:
            folder = stack.enter_context(private_folder(label))
            copies = {
                dataset: _Copy.named(dataset, label.numbered(number), folder / str(number))
                for number, dataset in enumerate(dict.fromkeys(place.dataset for place in places))
            }
            stack.callback(_destroy, [copy.snapshot for copy in copies.values()])
            moments = 0
            for names in _at_once(places, copies):
                _zfs("snapshot", *names)
                moments += 1
            for copy in copies.values():
                stack.callback(_destroy, [copy.clone])
                copy.mount()
            yield _ZfsGroup(places=places, copies=copies, atomic=moments == 1)

    def reap(self) -> Sequence[str]:
        """See :meth:`SnapshotProvider.reap <freezer_sdk.snapshots.base.SnapshotProvider.reap>`."""
        try:
            names = _zfs("list", "-H", "-t", "filesystem,snapshot", "-o", "name").splitlines()
        except SnapshotError:
            if any(each.kind in (_KERNEL, _FUSE) for each in mounts()):
                raise
            names = []  # the program is here, ZFS is not
        ours = [name for name in names if self._abandoned(name)]
        removed = sorted(ours, key=lambda name: "@" in name)  # a snapshot cannot go before its clone
        _destroy(removed)
        for label in folders(self._prefix):
            if not label.alive():
                clear_folder(label)
        return [f"ZFS {'snapshot' if '@' in name else 'clone'} {name}" for name in removed]

    def _abandoned(self, name: str) -> bool:
        label = Label.parse(name.replace("@", "/").rpartition("/")[2], prefix=self._prefix)
        return label is not None and not label.alive()


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a path lies.

    Attributes:
        kind: of the mount: the kernel's ZFS, or the one of FUSE.
        inner: the path as seen from the top of the file system, relative.
    """

    path: Path
    dataset: str
    kind: str
    inner: Path

    @classmethod
    def of(cls, path: Path) -> _Place:
        place = located(path)
        mount = mount_of(place)
        if mount.kind not in (_KERNEL, _FUSE):
            raise SnapshotError(f"{path} lies on {mount.kind}, not on ZFS")
        if "@" in mount.source:
            raise SnapshotError(f"{path} lies in a snapshot already: {mount.source}")
        inner = Path(mount.root.lstrip("/")) / place.relative_to(mount.point)
        return cls(path=path, dataset=mount.source, kind=mount.kind, inner=inner)


@dataclass(frozen=True, kw_only=True)
class _Copy:
    """A snapshot, and the clone of it that is read."""

    snapshot: str
    clone: str
    point: Path

    @classmethod
    def named(cls, dataset: str, label: Label, point: Path) -> _Copy:
        return cls(snapshot=f"{dataset}@{label}", clone=f"{dataset.partition('/')[0]}/{label}", point=point)

    def mount(self) -> None:
        # not by itself: it would come back, where it was, when a machine that crashed starts again
        settings = ["readonly=on", "canmount=noauto", "setuid=off", "devices=off", "exec=off", "atime=off"]
        options = [part for setting in [*settings, f"mountpoint={self.point}"] for part in ("-o", setting)]
        _zfs("clone", *options, self.snapshot, self.clone)
        if not os.path.ismount(self.point):  # zfs-fuse has mounted it nevertheless
            _zfs("mount", self.clone)


class _ZfsGroup(SnapshotGroup):
    """Views are folders in the clones; those cannot change, and need no room of their own."""

    def __init__(self, *, places: Sequence[_Place], copies: Mapping[str, _Copy], atomic: bool) -> None:
        self._copies = tuple(copies.values())
        self.views = {place.path: copies[place.dataset].point / place.inner for place in places}
        made: list[JSON] = [
            {
                "name": copy.snapshot.partition("@")[2],
                "volume": dataset,
                "paths": [str(place.path) for place in places if place.dataset == dataset],
            }
            for dataset, copy in copies.items()
        ]
        self.facts = {"provider": "zfs", "snapshots": made, "atomic": atomic}

    def check(self) -> None:
        """Whether all snapshots are still there, and mounted.

        Raises:
            SnapshotError: one is not.
        """
        for copy in self._copies:
            if not os.path.ismount(copy.point):
                raise SnapshotError(f"the clone of {copy.snapshot} has been unmounted while it was in use")


def _at_once(places: Sequence[_Place], copies: Mapping[str, _Copy]) -> Iterator[Sequence[str]]:
    """The snapshots, as far as one command can make them: those of a pool, but by zfs-fuse each alone."""
    groups: dict[str, list[str]] = {}
    for dataset, copy in copies.items():
        kernel = any(place.kind == _KERNEL for place in places if place.dataset == dataset)
        groups.setdefault(dataset.partition("/")[0] if kernel else dataset, []).append(copy.snapshot)
    yield from groups.values()


def _destroy(names: Sequence[str]) -> None:
    for name in names:
        if _exists(name):
            try:
                while_busy(partial(run_command, ["zfs", "destroy", name], timeout=_TIMEOUT))
            except CommandFailed as error:
                raise SnapshotError(f"ZFS: cannot remove {name}: {error.message}", hint=error.hint) from error


def _exists(name: str) -> bool:
    return name in _zfs("list", "-H", "-t", "filesystem,snapshot", "-o", "name").splitlines()


def _zfs(*arguments: str) -> str:
    try:
        return run_command(["zfs", *arguments], timeout=_TIMEOUT, package="zfsutils-linux")
    except CommandFailed as error:
        raise SnapshotError(f"ZFS: {error.message}", hint=error.hint) from error
