"""Provider ``lvm``: snapshots of logical volumes, thick and thin, mounted read-only.

LVM makes one snapshot at a time. Where the paths lie on several volumes, their snapshots are made one right after the
other: each is consistent in itself, and between the first and the last lie moments. (Freezing all file systems first
would close that gap, but kernels before 6.8 cannot make a snapshot of a frozen one.)
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import ConfigurationError, SnapshotError
from freezer_sdk.files.mounts import Mount
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.options import Option
from freezer_sdk.snapshots._lvm import PACKAGE, Room, Volume, lacking, make_snapshot, remove, room_arguments, volumes
from freezer_sdk.snapshots.base import COMMON_OPTIONS, Probe, SnapshotProvider
from freezer_sdk.snapshots.label import Label, check_prefix, folders
from freezer_sdk.snapshots.mounts import clear_folder, located, mount, mount_of, mounts, private_folder, unmount
from freezer_sdk.streams.command import find_program

_PROGRAMS = ("lvs", "lvcreate", "lvremove")
_NAME = re.compile(r"[A-Za-z0-9_+.][A-Za-z0-9_+.-]{0,99}", re.ASCII)
_UNSUITABLE = ("btrfs",)  # the kernel takes two volumes with the same name inside for parts of one
_ATTEMPTS = {
    # the second one where the journal would have to be replayed on a volume that nobody may write to
    "xfs": (("nouuid",), ("nouuid", "norecovery")),
    "ext3": ((), ("noload",)),
    "ext4": ((), ("noload",)),
}


class LvmProvider(SnapshotProvider):
    """Snapshots of logical volumes; needs root.

    Args:
        label_prefix: what the names of snapshots begin with.
        size: room for what changes while a thick snapshot is there; thin ones take theirs from their pool.
        permission: ``ro`` or ``rw``.
        snapshot_name: in place of the label, which remains as a tag.
        volume_group: where the paths must lie.
        source_volume: where the paths must lie: ``NAME``, ``GROUP/NAME`` or a device.
        mount_point: folder to mount on, in place of a private one.

    Raises:
        ConfigurationError: values make no sense.
    """

    name: ClassVar[str] = "lvm"
    api_version: ClassVar[int] = API_VERSION
    summary: ClassVar[str] = "snapshots of LVM's logical volumes, thick and thin"
    preference: ClassVar[int | None] = 30
    options: ClassVar[tuple[Option, ...]] = (
        *COMMON_OPTIONS,
        Option(
            name="size",
            default="1G",
            help="Room for changes in a thick snapshot: bytes (500M, 8G) or a share (80%FREE, 20%ORIGIN, 10%VG).",
        ),
        Option(
            name="permission",
            default="ro",
            choices=("ro", "rw"),
            help="Whether the view may be written to (rw), which never reaches the volume.",
        ),
        Option(name="snapshot_name", help="Name of the snapshot volume; a label otherwise."),
        Option(name="volume_group", help="Volume group that the paths must lie on; found from the paths otherwise."),
        Option(name="source_volume", help="Logical volume that the paths must lie on; found from the paths otherwise."),
        Option(name="mount_point", type="path", help="Folder to mount the snapshot on; a private one otherwise."),
    )

    def __init__(
        self,
        *,
        label_prefix: str = "freezer",
        size: str = "1G",
        permission: str = "ro",
        snapshot_name: str | None = None,
        volume_group: str | None = None,
        source_volume: str | None = None,
        mount_point: str | Path | None = None,
    ) -> None:
        self._prefix = check_prefix(label_prefix)
        self._room = Room.parse(size)
        self._permission = permission
        self._name = snapshot_name
        if snapshot_name is not None and not _NAME.fullmatch(snapshot_name):
            raise ConfigurationError(f"a snapshot of LVM cannot be named {snapshot_name!r}")
        self._group = volume_group and volume_group.removeprefix("/dev/").strip("/")
        self._source = source_volume
        self._point = None if mount_point is None else Path(mount_point)
        if self._point is not None and not self._point.is_absolute():
            raise ConfigurationError(f"the mount point {str(mount_point)!r} is not an absolute path")

    @classmethod
    def available(cls) -> str | None:
        """Needs LVM's programs."""
        missing = next((name for name in _PROGRAMS if find_program(name) is None), None)
        return None if missing is None else f"the program {missing!r} is missing: apt-get install {PACKAGE}"

    def probe(self, paths: Sequence[Path]) -> Probe:
        """See :meth:`SnapshotProvider.probe <freezer_sdk.snapshots.base.SnapshotProvider.probe>`."""
        try:
            origins = list(_by_origin(self._places(paths)))
        except SnapshotError as error:
            return Probe(possible=False, reason=error.message)
        reason = lacking(self._room, origins)
        names = ", ".join(f"{origin.full_name}{' (thin)' if origin.pool else ''}" for origin in origins)
        return Probe(possible=reason is None, reason=reason or f"LVM: {names}")

    def create(self, paths: Sequence[Path]) -> AbstractContextManager[SnapshotGroup]:
        """See :meth:`SnapshotProvider.create <freezer_sdk.snapshots.base.SnapshotProvider.create>`.

        Looks for the volumes at once: an application may be waiting when the context is entered.
        """
        places = _by_origin(self._places(paths))
        return self._created(places, room_arguments(self._room, list(places)))

    @contextmanager
    def _created(
        self, places: Mapping[Volume, Sequence[_Place]], room: Mapping[Volume, Sequence[str]]
    ) -> Iterator[SnapshotGroup]:
        label = Label.new(self._prefix)
        numbers = [None] if len(places) == 1 else range(len(places))
        snapshots = []
        with ExitStack() as stack:
            stack.callback(_remove_all, label, {origin.group for origin in places})
            folder = stack.enter_context(private_folder(label))
            points = [self._mount_point(folder, number, stack) for number in numbers]
            for (origin, inside), number, point in zip(places.items(), numbers, points, strict=True):
                name = self._snapshot_name(label, number)
                permission = "r" if self._permission == "ro" else "rw"
                make_snapshot(origin, name=name, label=label, room=room[origin], permission=permission)
                snapshots.append(_Snapshot(origin=origin, name=name, label=label, point=point, places=inside))
            flags = [self._mount(each, stack) for each in snapshots]
            yield _LvmGroup(snapshots, flags)

    def reap(self) -> Sequence[str]:
        """See :meth:`SnapshotProvider.reap <freezer_sdk.snapshots.base.SnapshotProvider.reap>`."""
        removed: list[str] = []
        failures: list[SnapshotError] = []
        for volume in volumes():
            label = volume.label(self._prefix)
            if label is not None and not label.alive():
                try:
                    _unmount_all(volume)
                    remove(volume)
                    removed.append(f"LVM snapshot {volume.full_name}")
                except SnapshotError as error:
                    failures.append(error)
        for abandoned in folders(self._prefix):
            if not abandoned.alive():
                clear_folder(abandoned)
        if failures:
            raise SnapshotError("; ".join(failure.message for failure in failures), hint=failures[0].hint)
        return removed

    def _places(self, paths: Sequence[Path]) -> Sequence[_Place]:
        if os.geteuid():
            raise SnapshotError("only root may make and remove snapshots of LVM")
        located_places = [(path, located(path)) for path in paths]
        mounted = [(path, place, mount_of(place)) for path, place in located_places]
        for path, _, where in mounted:
            if where.kind in _UNSUITABLE:
                message = f"{path} lies on {where.kind}, of which a snapshot by LVM cannot be mounted"
                raise SnapshotError(message, hint=f"take the provider {where.kind}")
        known = {volume.number: volume for volume in volumes()}
        places = []
        for path, place, where in mounted:
            origin = known.get(where.device)
            if origin is None:
                raise SnapshotError(f"{path} lies on {where.source} ({where.kind}), which is no LVM volume")
            inner = Path(where.root.lstrip("/")) / place.relative_to(where.point)
            self._check_origin(path, origin)
            places.append(_Place(path=path, mount=where, origin=origin, inner=inner))
        return places

    def _check_origin(self, path: Path, origin: Volume) -> None:
        if "thicksnapshot" in origin.role:
            raise SnapshotError(f"{path} lies on {origin.full_name}, itself a snapshot, of which LVM makes none")
        if self._group is not None and origin.group != self._group:
            raise SnapshotError(f"{path} lies on {origin.full_name}, not in the volume group {self._group}")
        if self._source is not None and not _is_named(origin, self._source):
            raise SnapshotError(f"{path} lies on {origin.full_name}, not on {self._source}")

    def _snapshot_name(self, label: Label, number: int | None) -> str:
        if self._name is None:
            return str(label if number is None else label.numbered(number))
        return self._name if number is None else f"{self._name}-{number}"

    def _mount_point(self, folder: Path, number: int | None, stack: ExitStack) -> Path:
        """Where to mount; a folder of the user's is there afterwards, and gone at the end if it was not before."""
        if self._point is None:
            return folder / str(number or 0)
        point = self._point if number is None else self._point / str(number)
        if os.path.ismount(point):
            raise SnapshotError(f"something is mounted on {point} already", hint="unmount it, or name another folder")
        for each in dict.fromkeys((self._point, point)):
            try:
                each.mkdir(mode=0o700)
            except FileExistsError:
                continue
            except OSError as error:
                raise SnapshotError(f"cannot make {each}: {error.strerror}") from error
            stack.callback(each.rmdir)
        return point

    def _mount(self, made: _Snapshot, stack: ExitStack) -> str:
        """Mounts a snapshot, and tells the options that it took."""
        kind = made.places[0].mount.kind
        attempts = [(self._permission, *flags) for flags in _ATTEMPTS.get(kind, ((),))]
        for flags in attempts[: 1 if self._permission == "rw" else None]:
            try:
                mount(made.device, made.point, kind=kind, options=flags, existing=self._point is not None)
            except SnapshotError as error:
                failure = error
                continue
            if self._point is not None:
                stack.callback(unmount, made.point)
            return ",".join(flags)
        raise failure


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a path lies.

    Attributes:
        inner: the path as seen from the top of the file system, relative.
    """

    path: Path
    mount: Mount
    origin: Volume
    inner: Path


@dataclass(frozen=True, kw_only=True)
class _Snapshot:
    """One snapshot.

    Attributes:
        name: within the volume group of its origin.
        point: where it is mounted.
    """

    origin: Volume
    name: str
    label: Label
    point: Path
    places: Sequence[_Place]

    @property
    def full_name(self) -> str:
        """``GROUP/NAME``."""
        return f"{self.origin.group}/{self.name}"

    @property
    def device(self) -> Path:
        """The block device, without asking LVM for it."""
        return Path("/dev", self.origin.group, self.name)


class _LvmGroup(SnapshotGroup):
    """Views are folders in the mounted snapshots."""

    def __init__(self, snapshots: Sequence[_Snapshot], flags: Sequence[str]) -> None:
        self._snapshots = snapshots
        self.views = {place.path: each.point / place.inner for each in snapshots for place in each.places}
        self.facts = {
            "provider": "lvm",
            "snapshots": [
                {
                    "name": each.full_name,
                    "volume": each.origin.full_name,
                    "thin": bool(each.origin.pool),
                    "mounted": mounted,
                    "paths": [str(place.path) for place in each.places],
                }
                for each, mounted in zip(snapshots, flags, strict=True)
            ],
            "atomic": len(snapshots) == 1,
        }

    def check(self) -> None:
        """Whether all snapshots are still there, and have had room for all changes.

        Raises:
            SnapshotError: one is not, or has not.
        """
        groups = {each.origin.group for each in self._snapshots}
        now = {volume.full_name: volume for volume in volumes(groups)}
        for each in self._snapshots:
            volume = now.get(each.full_name)
            if volume is None or str(each.label) not in volume.tags:
                raise SnapshotError(f"the snapshot {each.full_name} has been removed while it was in use")
            if volume.invalid:
                raise SnapshotError(
                    f"the snapshot {each.full_name} is invalid: more than its {volume.size >> 20} MiB changed on "
                    f"{each.origin.full_name}",
                    hint="give it more room (option size), or back up when less is written",
                )
            pool = now.get(f"{volume.group}/{volume.pool}")
            if volume.health == "failed" or (pool is not None and pool.health == "failed"):
                raise SnapshotError(f"the thin pool of the snapshot {each.full_name} has failed")


def _by_origin(places: Sequence[_Place]) -> Mapping[Volume, Sequence[_Place]]:
    found: dict[Volume, list[_Place]] = {}
    for place in places:
        found.setdefault(place.origin, []).append(place)
    return found


def _is_named(origin: Volume, name: str) -> bool:
    """Whether a user means this volume."""
    if name in (origin.name, origin.full_name, f"/dev/{origin.full_name}", str(origin.device)):
        return True
    try:
        info = os.stat(name)
    except OSError:
        return False
    return stat.S_ISBLK(info.st_mode) and f"{os.major(info.st_rdev)}:{os.minor(info.st_rdev)}" == origin.number


def _remove_all(label: Label, groups: Collection[str]) -> None:
    """Removes all volumes of one label, also what a failed lvcreate has left."""
    for volume in volumes(groups):
        if str(label) in volume.tags:
            remove(volume)


def _unmount_all(volume: Volume) -> None:
    for each in reversed(mounts()):
        if each.device == volume.number:
            unmount(each.point)
