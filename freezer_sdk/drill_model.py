"""What goes in and comes out of restore drills: frozen dataclasses, and the form in which engines store one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import JSON, Problem

T = TypeVar("T")

MAX_MESSAGE = 1000
"""Characters that the record of a drill keeps of an error."""

MAX_FACTS = 16 << 10
"""Bytes of JSON that it keeps of what a verifier found."""

_MAX_TEXT = 4096
_MAX_NUMBER = (1 << 53) - 1
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Verifier(StrEnum):
    """What checks that the restored data are good.

    ``files``: every restored file is compared with the backup: content, type, size, time, permissions, owner, target of
    a link. ``application``: the mode that made the backup starts the application on the restored data and asks it.
    """

    FILES = "files"
    APPLICATION = "application"


@dataclass(frozen=True, kw_only=True)
class Drill:
    """One restore drill.

    Attributes:
        id: 32 hexadecimal digits.
        backup: id of the backup that was restored.
        backup_time, host, name, mode: of that backup.
        started: by the clock of the machine that made the drill.
        passed: the backup was restored, and the verifier had nothing to object.
        verifier: what checked it; a drill that failed before has none.
        sample: the share of all files that was restored, 0 to 1; 1: the whole backup.
        files, bytes: that were restored.
        compared_bytes: content that was compared, byte by byte.
        restore_seconds: until the data lay in the scratch space: the recovery time, but for what people do.
        verify_seconds: what the verifier took.
        facts: what the verifier found; bounded.
        error: why it failed; ``None`` when it passed.
        error_code: kind of that error, as :mod:`freezer_sdk.errors` names it.
        drilled_on: name of the machine that made it.
        signer: who signed the record, where the engine has signatures: the id of a key; ``None``: nobody yet.
    """

    id: str
    backup: str
    backup_time: datetime
    host: str
    name: str
    mode: str
    started: datetime
    passed: bool
    verifier: Verifier | None = None
    sample: float = 1.0
    files: int = 0
    bytes: int = 0
    compared_bytes: int = 0
    restore_seconds: float = 0.0
    verify_seconds: float = 0.0
    facts: JSON = field(default_factory=dict)
    error: str | None = None
    error_code: str | None = None
    drilled_on: str = ""
    signer: str | None = None

    @property
    def short_id(self) -> str:
        """The first eight digits."""
        return self.id[:8]


@dataclass(frozen=True, kw_only=True)
class DrillLog:
    """What a repository says of drills.

    Attributes:
        drills: the oldest first.
        problems: records that do not count, because they are damaged, forged, or of somebody who may not write them.
    """

    drills: tuple[Drill, ...] = ()
    problems: tuple[Problem, ...] = ()


def drill_document(drill: Drill) -> dict[str, Any]:
    """A drill as JSON, in integers and texts (repository-format, "Drills")."""
    return {
        "drill": drill.id,
        "backup": drill.backup,
        "backup_time": drill.backup_time.astimezone(UTC).isoformat(timespec="microseconds"),
        "host": drill.host,
        "name": drill.name,
        "mode": drill.mode,
        "started": drill.started.astimezone(UTC).isoformat(timespec="microseconds"),
        "passed": drill.passed,
        "verifier": None if drill.verifier is None else str(drill.verifier),
        "sample": _millionths(drill.sample),
        "files": drill.files,
        "bytes": drill.bytes,
        "compared_bytes": drill.compared_bytes,
        "restore_ms": round(drill.restore_seconds * 1000),
        "verify_ms": round(drill.verify_seconds * 1000),
        "facts": dict(drill.facts),
        "error": None if drill.error is None else drill.error[:MAX_MESSAGE],
        "error_code": drill.error_code,
        "on": drill.drilled_on,
        "slot": drill.signer,
    }


def drill_of(document: Mapping[str, Any]) -> Drill:
    """A drill from its JSON; fields that are not known are passed over.

    Raises:
        IntegrityError: a field is missing or wrong.
    """
    verifier = _optional(document, "verifier", str)
    return Drill(
        id=_id(document, "drill"),
        backup=_id(document, "backup"),
        backup_time=_time(document, "backup_time"),
        host=_field(document, "host", str),
        name=_field(document, "name", str),
        mode=_field(document, "mode", str),
        started=_time(document, "started"),
        passed=_field(document, "passed", bool),
        verifier=Verifier(verifier) if verifier in tuple(Verifier) else None,  # of a newer program
        sample=min(_field(document, "sample", int) / 1_000_000, 1.0),
        files=_field(document, "files", int),
        bytes=_field(document, "bytes", int),
        compared_bytes=_field(document, "compared_bytes", int),
        restore_seconds=_field(document, "restore_ms", int) / 1000,
        verify_seconds=_field(document, "verify_ms", int) / 1000,
        facts=_field(document, "facts", dict),
        error=_optional(document, "error", str),
        error_code=_optional(document, "error_code", str),
        drilled_on=_field(document, "on", str),
        signer=None if document.get("slot") is None else _id(document, "slot"),
    )


def _millionths(share: float) -> int:
    """A share that is not nothing, and not all, stays so."""
    return 1_000_000 if share >= 1 else min(max(round(share * 1_000_000), 1), 999_999)


def _field(document: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = document.get(name)
    if type(value) is not kind:
        raise IntegrityError(f"its field {name!r} is missing or wrong")
    if isinstance(value, str) and len(value) > _MAX_TEXT:
        raise IntegrityError(f"its field {name!r} is too long")
    if isinstance(value, int) and not 0 <= value <= _MAX_NUMBER:
        raise IntegrityError(f"its field {name!r} is out of range")
    return value


def _optional(document: Mapping[str, Any], name: str, kind: type[T]) -> T | None:
    return None if document.get(name) is None else _field(document, name, kind)


def _id(document: Mapping[str, Any], name: str) -> str:
    text = _field(document, name, str)
    if not _ID.fullmatch(text):
        raise IntegrityError(f"its field {name!r} is no id")
    return text


def _time(document: Mapping[str, Any], name: str) -> datetime:
    try:
        time = datetime.fromisoformat(_field(document, name, str))
        if time.tzinfo is None:
            raise ValueError
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise IntegrityError(f"its field {name!r} is no time") from None
