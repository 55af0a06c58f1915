"""What is mounted where, on Linux; nothing is known elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TABLE: Final = "/proc/self/mountinfo"
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")

PASSING: Final = frozenset(
    {
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs"),
        *("fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "selinuxfs"),
        *("sysfs", "tmpfs", "tracefs"),
    }
)
"""File systems that the kernel makes up, or that are gone with the next start of the machine."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One line of the kernel's table.

    Attributes:
        number: the kernel's, for as long as it is mounted.
        device: ``major:minor`` of the file system; btrfs and network file systems have made-up ones.
        root: what of the file system is seen at ``point``.
        kind: of file system, such as ``ext4``.
        source: usually a device.
        options: those of the mount, and those of the file system.
    """

    number: int
    device: str
    root: str
    point: Path
    kind: str
    source: str
    options: frozenset[str]


def mounts() -> Sequence[Mount]:
    """All mounts, in the order of the kernel's table.

    Raises:
        OSError: the kernel does not tell.
    """
    with open(_TABLE, "rb") as table:
        return [_parse(line) for line in table.read().split(b"\n") if line]


def mount_of(path: Path) -> Mount:
    """The mount that a path is seen through; a symbolic link is not followed.

    Raises:
        OSError: there is no such path, or the kernel does not tell.
    """
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    try:
        told = Path(f"/proc/self/fdinfo/{descriptor}").read_text(encoding="ascii")
    finally:
        os.close(descriptor)
    number = next((int(line.split()[1]) for line in told.splitlines() if line.startswith("mnt_id:")), -1)
    for mount in mounts():
        if mount.number == number:
            return mount
    raise FileNotFoundError(f"no mount in the kernel's table holds {path}")


def lasting_mounts_below(path: Path) -> Iterator[Path]:
    """Where file systems of disks and networks are mounted below a directory, as seen through its own path."""
    try:
        table = mounts()
    except OSError:
        return
    real = Path(os.path.realpath(path))
    points = {mount.point for mount in table if mount.kind not in PASSING and real in mount.point.parents}
    yield from sorted(path / point.relative_to(real) for point in points)


def _parse(line: bytes) -> Mount:
    first, _, second = line.partition(b" - ")
    number, _parent, device, root, point, options, *_ = first.split(b" ")
    kind, source, all_options = second.split(b" ", 2)
    return Mount(
        number=int(number),
        device=device.decode("ascii"),
        root=_text(root),
        point=Path(_text(point)),
        kind=_text(kind),
        source=_text(source),
        options=frozenset(_text(options).split(",") + _text(all_options).split(",")),
    )


def _text(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field))
