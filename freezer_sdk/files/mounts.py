"""What is mounted where, on Linux; nothing is known elsewhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TABLE: Final = "/proc/self/mountinfo"
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")
_POINT, _SEPARATOR = 4, b"-"

PASSING: Final = frozenset(
    {
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs"),
        *("fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "selinuxfs"),
        *("sysfs", "tmpfs", "tracefs"),
    }
)
"""File systems that the kernel makes up, or that are gone with the next start of the machine."""


def lasting_mounts_below(path: Path) -> Iterator[Path]:
    """Where file systems of disks and networks are mounted below a directory, as seen through its own path."""
    try:
        with open(_TABLE, "rb") as table:
            lines = table.read().splitlines()
    except OSError:
        return
    real = os.fsencode(os.path.realpath(path))
    above = real.rstrip(b"/") + b"/"
    found = set()
    for line in lines:
        fields = line.split(b" ")
        kind = os.fsdecode(fields[fields.index(_SEPARATOR) + 1])
        point = _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), fields[_POINT])
        if point.startswith(above) and kind not in PASSING:
            found.add(path / os.fsdecode(point[len(above) :]))
    yield from sorted(found)
