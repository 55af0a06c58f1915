"""What LVM's programs know and do about volumes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, ConfigurationError, SnapshotError
from freezer_sdk.options import parse_size
from freezer_sdk.snapshots.label import Label
from freezer_sdk.snapshots.mounts import while_busy
from freezer_sdk.streams.command import run_command

PACKAGE = "lvm2"
_FIELDS = (
    "vg_name,lv_name,lv_dm_path,lv_kernel_major,lv_kernel_minor,lv_tags,lv_attr,lv_role,lv_size,pool_lv,data_percent,"
    "lv_health_status,vg_free,vg_extent_size,vg_free_count"
)
_QUERY_TIMEOUT = 120.0
_CHANGE_TIMEOUT = 600.0  # a snapshot waits until the file system has written what it holds in memory
_SHARE = re.compile(r"([0-9]{1,3})%(FREE|ORIGIN|VG)", re.ASCII)
_SOME_FAILED = 5  # exit status of LVM's programs
_UDEV = Path("/run/udev/control")
_WITHOUT_UDEV = "activation { udev_sync = 0 udev_rules = 0 } devices { obtain_device_list_from_udev = 0 }"
_STATE = 4  # place of the letter in lv_attr
_INVALID = ("I", "S")  # invalid; suspended and invalid


@dataclass(frozen=True, kw_only=True)
class Room:
    """How much room for changes a thick snapshot gets: bytes, or percents of something.

    Attributes:
        share: of ``FREE``, ``ORIGIN`` or ``VG``; ``None``: ``count`` is in bytes.
    """

    count: int
    share: str | None = None

    @classmethod
    def parse(cls, text: str) -> Room:
        """``500M``, ``8G``, ``80%FREE``, ``20%ORIGIN``, ``10%VG``.

        Raises:
            ConfigurationError: none of these.
        """
        found = _SHARE.fullmatch(text.upper())
        try:
            room = cls(count=int(found[1]), share=found[2]) if found else cls(count=parse_size(text))
        except ConfigurationError as error:
            hint = "write for example 500M, 8G, 80%FREE or 20%ORIGIN"
            raise ConfigurationError(f"{text!r} is no size of a snapshot", hint=hint) from error
        if room.count < 1 or (room.share == "FREE" and room.count > 100):
            raise ConfigurationError(f"a snapshot cannot have {text}")
        return room


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A logical volume.

    Attributes:
        group: its volume group.
        device: the block device, for mounting.
        number: ``major:minor`` of the device, as the table of mounts has it.
        attributes: LVM's letters.
        role: LVM's words, such as ``thicksnapshot``.
        pool: its thin pool, or empty.
        used: percents of the room for changes that are used up; ``None``: does not apply.
        health: empty, or what is wrong.
        free: bytes of the group that no volume has, and the same in extents of ``extent`` bytes.
    """

    group: str
    name: str
    device: Path
    number: str
    tags: frozenset[str]
    attributes: str
    role: frozenset[str]
    size: int
    pool: str
    used: float | None
    health: str
    free: int
    extent: int
    free_extents: int

    @property
    def full_name(self) -> str:
        """``GROUP/NAME``."""
        return f"{self.group}/{self.name}"

    @property
    def invalid(self) -> bool:
        """Whether a snapshot shows its moment no more, because its room was used up."""
        return self.attributes[_STATE] in _INVALID or (not self.pool and self.used == 100.0)

    def label(self, prefix: str) -> Label | None:
        """The label that it bears, of this prefix."""
        return next(filter(None, (Label.parse(tag, prefix=prefix) for tag in self.tags)), None)


def volumes(groups: Collection[str] = ()) -> Sequence[Volume]:
    """All logical volumes of some volume groups.

    Args:
        groups: by default all that can be read: one with a missing disk, say, is no reason to know nothing of others.

    Raises:
        SnapshotError: LVM does not tell.
    """
    form = ["--units", "b", "--nosuffix", "--reportformat", "json", "-o", _FIELDS]
    accepted = (0,) if groups else (0, _SOME_FAILED)
    told = _lvm("lvs", *form, *sorted(groups), timeout=_QUERY_TIMEOUT, accepted=accepted)
    try:
        return [_volume(row) for report in json.loads(told)["report"] for row in report["lv"]]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise SnapshotError(f"lvs gives no report that can be read: {error}") from error


def make_snapshot(origin: Volume, *, name: str, label: Label, room: Sequence[str], permission: str) -> None:
    """A snapshot of a volume; a thin one of a thin volume.

    Args:
        label: a tag that it bears from its first moment on.
        room: arguments for the size; not used for a thin snapshot.

    Raises:
        SnapshotError: it could not be made.
    """
    kind = ["--setactivationskip", "n"] if origin.pool else room
    common = ["--snapshot", "--name", name, "--addtag", str(label), "--permission", permission]
    try:
        _lvm("lvcreate", *common, *kind, origin.full_name, timeout=_CHANGE_TIMEOUT)
    except BaseException:
        _resume(origin)
        raise


def remove(volume: Volume) -> None:
    """Removes a volume, which others may look into for a moment longer.

    Raises:
        SnapshotError: it stays in use.
    """

    try:
        while_busy(lambda: _run("lvremove", "--force", "--yes", "--quiet", volume.full_name, timeout=_CHANGE_TIMEOUT))
    except CommandFailed as error:
        raise SnapshotError(f"cannot remove {volume.full_name}: {error.message}", hint=error.hint) from error


def room_arguments(room: Room, origins: Sequence[Volume]) -> Mapping[Volume, Sequence[str]]:
    """For each volume what tells lvcreate the size of its snapshot; volumes of one group share what is free there.

    Raises:
        SnapshotError: nothing is free.
    """
    thick = [origin for origin in origins if not origin.pool]
    arguments: dict[Volume, Sequence[str]] = dict.fromkeys(origins, ())
    for origin in thick:
        if room.share is None:
            arguments[origin] = ["--size", f"{room.count}b"]
        elif room.share != "FREE":
            arguments[origin] = ["--extents", f"{room.count}%{room.share}"]
        else:
            among = sum(each.group == origin.group for each in thick)
            extents = origin.free_extents * room.count // 100 // among
            if not extents:
                raise SnapshotError(f"volume group {origin.group} has no room for a snapshot", hint=_hint(origin))
            arguments[origin] = ["--extents", str(extents)]
    return arguments


def lacking(room: Room, origins: Sequence[Volume]) -> str | None:
    """Why there is no room for snapshots of these volumes."""
    for group in sorted({origin.group for origin in origins}):
        thick = [origin for origin in origins if origin.group == group and not origin.pool]
        needed = sum(_wanted(room, origin) for origin in thick)
        if thick and (needed > thick[0].free or not thick[0].free):
            return f"volume group {group} has {thick[0].free >> 20} MiB free, a snapshot wants {needed >> 20} MiB"
    return None


def _wanted(room: Room, origin: Volume) -> int:
    """At most: LVM gives no more room than the origin can change."""
    shares = {None: room.count, "ORIGIN": origin.size * room.count // 100}
    return min(shares.get(room.share, origin.extent), origin.size)


def _hint(origin: Volume) -> str:
    return f"add a disk (vgextend {origin.group} DEVICE), make a volume smaller, or use thin volumes"


def _resume(origin: Volume) -> None:
    """Lets a volume go on that lvcreate, ended in the middle, has left suspended: programs would wait for ever."""
    with suppress(CommandFailed):
        state = run_command(
            ["dmsetup", "info", "-c", "--noheadings", "-o", "suspended", origin.device],
            timeout=_QUERY_TIMEOUT,
            package="dmsetup",
        )
        if state.strip() == "Suspended":
            run_command(["dmsetup", "resume", origin.device], timeout=_QUERY_TIMEOUT, package="dmsetup")


def _volume(row: Mapping[str, Any]) -> Volume:
    return Volume(
        group=row["vg_name"],
        name=row["lv_name"],
        device=Path(row["lv_dm_path"]),
        number=f"{row['lv_kernel_major']}:{row['lv_kernel_minor']}",
        tags=_words(row["lv_tags"]),
        attributes=row["lv_attr"],
        role=_words(row["lv_role"]),
        size=int(row["lv_size"]),
        pool=row["pool_lv"],
        used=float(row["data_percent"]) if row["data_percent"] else None,
        health=row["lv_health_status"],
        free=int(row["vg_free"]),
        extent=int(row["vg_extent_size"]),
        free_extents=int(row["vg_free_count"]),
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(filter(None, text.split(",")))


def _run(program: str, *arguments: str, timeout: float, accepted: Collection[int] = (0,)) -> str:
    """Runs one of LVM's programs, which makes device nodes itself where there is no udev that would."""
    config = [] if _UDEV.exists() else ["--config", _WITHOUT_UDEV]
    return run_command([program, *config, *arguments], timeout=timeout, package=PACKAGE, accepted=accepted)


def _lvm(program: str, *arguments: str, timeout: float, accepted: Collection[int] = (0,)) -> str:
    try:
        return _run(program, *arguments, timeout=timeout, accepted=accepted)
    except CommandFailed as error:
        raise SnapshotError(f"LVM: {error.message}", hint=error.hint) from error
