"""Names of everything that snapshot providers make: they tell whose it is, and whether anybody still needs it.

A label is ``PREFIX-<pid>-<start of the process>-<random hex>``, with ``-<number>`` for each of several things of one
group. What bears one can be removed once the process is gone, whatever it was killed by.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from freezer_sdk.errors import ConfigurationError, SnapshotError

RUN = Path("/run/freezer-sdk")
"""Where views are mounted, one folder for each label; on a tmpfs, so a restart of the machine clears it."""

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,31}", re.ASCII)
_REST = re.compile(r"-([0-9]+)-([0-9]+)-([0-9a-f]{12})(?:-([0-9]+))?", re.ASCII)
_PROC = Path("/proc")
_STARTTIME = 19  # field 22 of /proc/PID/stat, counted from behind the name


@dataclass(frozen=True, kw_only=True)
class Label:
    """What one run of a provider writes on all that it makes.

    Attributes:
        pid: the process that needs it.
        started: when that process started, in the kernel's clock ticks since the machine did; 0 where there is no
            ``/proc``.
        token: 12 random hexadecimal digits.
        number: of one thing among several that belong together.
    """

    prefix: str
    pid: int
    started: int
    token: str
    number: int | None = None

    @classmethod
    def new(cls, prefix: str) -> Self:
        """A label of this process.

        Raises:
            ConfigurationError: the prefix cannot be part of the name of a volume.
        """
        pid = os.getpid()
        return cls(prefix=check_prefix(prefix), pid=pid, started=_started(pid) or 0, token=secrets.token_hex(6))

    @classmethod
    def parse(cls, name: str, *, prefix: str) -> Self | None:
        """The label that a name is, ``None`` if it is none of this prefix."""
        found = _REST.fullmatch(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if found is None:
            return None
        pid, started, token, number = found.groups()
        count = None if number is None else int(number)
        return cls(prefix=prefix, pid=int(pid), started=int(started), token=token, number=count)

    def numbered(self, number: int) -> Self:
        """The label of one thing among several."""
        return replace(self, number=number)

    def alive(self) -> bool:
        """Whether the process is still there; always, where there is no ``/proc`` to tell."""
        return not _PROC.joinpath("self/stat").exists() or _started(self.pid) == self.started

    def __str__(self) -> str:
        name = f"{self.prefix}-{self.pid}-{self.started}-{self.token}"
        return name if self.number is None else f"{name}-{self.number}"


def check_prefix(prefix: str) -> str:
    """The prefix, if names of volumes can begin with it.

    Raises:
        ConfigurationError: they cannot.
    """
    if not _PREFIX.fullmatch(prefix):
        raise ConfigurationError(
            f"{prefix!r} cannot begin the name of a snapshot",
            hint="use a letter, then at most 31 letters, digits, and characters of _.-",
        )
    return prefix


def make_folder(label: Label, *, run: Path = RUN) -> Path:
    """A new folder for the mount points of one label, which nobody else may look into.

    Raises:
        SnapshotError: it cannot be made, or the folder above it belongs to somebody else.
    """
    folder = run / str(label)
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = run.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
            raise SnapshotError(f"{run} is not a folder that only this user may write to", hint=f"remove {run}")
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SnapshotError(f"cannot make {folder}: {error.strerror}") from error
    return folder


def remove_folder(label: Label, *, run: Path = RUN) -> None:
    """Removes the folder of one label and the empty mount points in it; it may be gone already.

    Raises:
        SnapshotError: something is still mounted or stored there; nothing of that is touched.
    """
    folder = run / str(label)
    try:
        for point in [*folder.iterdir(), folder] if folder.is_dir() else []:
            point.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SnapshotError(f"cannot remove {folder}: {error.strerror}") from error


def folders(prefix: str, *, run: Path = RUN) -> Iterator[Label]:
    """The labels that there are folders of.

    Raises:
        SnapshotError: they cannot be listed.
    """
    try:
        names = sorted(entry.name for entry in run.iterdir()) if run.is_dir() else []
    except OSError as error:
        raise SnapshotError(f"cannot list {run}: {error.strerror}") from error
    labels = (Label.parse(name, prefix=prefix) for name in names)
    return (label for label in labels if label is not None)


def _started(pid: int) -> int | None:
    """When a process started; ``None``: it runs no more, or nobody can tell."""
    try:
        fields = _PROC.joinpath(str(pid), "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[_STARTTIME])
