"""Whether a process that once wrote down who it is still lives, for those of the same machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PROC: Final = Path("/proc")
_START: Final = 19  # of the fields that follow the name in /proc/PID/stat


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessMark:
    """Names one process for as long as its machine runs.

    Attributes:
        machine: stands for the machine since its last start, and for the processes that see each other on it; empty:
            this system does not tell.
        started: when the process began, in the kernel's own unit: numbers of processes are used again.
    """

    machine: str
    process: int
    started: str

    @classmethod
    def own(cls) -> ProcessMark:
        """That of this process."""
        process = os.getpid()
        return cls(machine=_machine(), process=process, started=_started(process) or "")

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ProcessMark | None:
        """What ``dataclasses.asdict`` made of one; ``None``: it is none."""
        machine, process, started = (document.get(name) for name in ("machine", "process", "started"))
        if isinstance(machine, str) and isinstance(process, int) and isinstance(started, str):
            return cls(machine=machine, process=process, started=started)
        return None

    @property
    def dead(self) -> bool:
        """It ran on this machine and does so no more. ``False`` where that is not known."""
        return bool(self.machine and self.started) and self.machine == _machine() and _gone(self)


def _machine() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_bytes()
        return hashlib.sha256(boot + os.fsencode(os.readlink(_PROC / "self/ns/pid"))).hexdigest()[:16]
    except OSError:
        return ""


def _started(process: int) -> str | None:
    """``None``: there is no such process."""
    try:
        text = (_PROC / str(process) / "stat").read_text("utf-8", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if len(fields) <= _START or fields[0] == "Z" else fields[_START]


def _gone(mark: ProcessMark) -> bool:
    return _started(mark.process) != mark.started and _started(os.getpid()) is not None
