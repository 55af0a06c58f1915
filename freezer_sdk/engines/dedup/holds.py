"""Holds: backups that must not be forgotten (repository-format, "Holds").

A hold is in force until it is released or its end has come. Nothing about it is ever changed: another end is another
hold. A backup is held while any hold of it is in force.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from freezer_sdk.engines.dedup import control
from freezer_sdk.engines.dedup.config import parse_time, time_text
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.opening import Reported, open_all
from freezer_sdk.errors import PolicyRefusal
from freezer_sdk.model import Problem
from freezer_sdk.retention_model import MAX_REASON, Hold
from freezer_sdk.storages.base import Storage

PREFIX: Final = "holds/"
HOLD, RELEASE = "hold", "release"

_NAME = re.compile(r"holds/([0-9a-f]{32})-([0-9a-f]{32})(-released)?\Z")


def kind_of(name: str) -> str:
    """What an object of this name is."""
    return RELEASE if name.endswith("-released") else HOLD


def write_hold(storage: Storage, keys: KeyRing, backup: str, *, reason: str, until: datetime | None) -> Hold:
    """Stores a new hold.

    Args:
        backup: id.
        until: with a zone.

    Raises:
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    hold = Hold(
        id=secrets.token_hex(16),
        backup=backup,
        reason=reason,
        created=datetime.now(UTC),
        until=None if until is None else until.astimezone(UTC),
    )
    document = {
        "backup": hold.backup,
        "hold": hold.id,
        "reason": hold.reason,
        "until": None if hold.until is None else time_text(hold.until),
        "created": time_text(hold.created),
    }
    _put(storage, keys, HOLD, _name(hold), document)
    return hold


def write_release(storage: Storage, keys: KeyRing, hold: Hold) -> None:
    """Ends a hold.

    Raises:
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    document = {"backup": hold.backup, "hold": hold.id, "created": time_text(datetime.now(UTC))}
    _put(storage, keys, RELEASE, f"{_name(hold)}-released", document)


def read_holds(storage: Storage, keys: KeyRing, *, problems: list[Problem] | None = None) -> tuple[Hold, ...]:
    """All holds of maintainers that were not released, also those whose end has come; the oldest first.

    Args:
        problems: what is damaged, forged or not allowed is added here.

    Raises:
        StorageError.
    """
    noted: list[Problem] = [] if problems is None else problems
    found: dict[tuple[str, str], Hold] = {}
    released: set[tuple[str, str]] = set()
    infos = (info for info in storage.list(PREFIX) if _NAME.match(info.name))
    for item in open_all(storage, keys, infos, kind=kind_of, role=Role.MAINTAINER, problems=noted):
        with Reported(item.info.name, noted):
            key = _key(item.fields, item.info.name)
            if kind_of(item.info.name) == RELEASE:
                released.add(key)
            else:
                found[key] = _hold(item.fields)
    rest = (hold for key, hold in found.items() if key not in released)
    return tuple(sorted(rest, key=lambda hold: (hold.created, hold.id)))


def in_force(holds: Iterable[Hold], now: datetime) -> dict[str, tuple[Hold, ...]]:
    """By id of the backup, those whose end has not come."""
    by_backup: dict[str, tuple[Hold, ...]] = {}
    for hold in holds:
        if hold.until is None or hold.until > now:
            by_backup[hold.backup] = (*by_backup.get(hold.backup, ()), hold)
    return by_backup


def refuse_held(storage: Storage, keys: KeyRing, backups: Iterable[str], *, now: datetime) -> None:
    """Refuses to go on when one of the backups is held.

    Raises:
        PolicyRefusal: names them, and why they are held.
        StorageError.
    """
    held = in_force(read_holds(storage, keys), now)
    lines = [
        f"{backup[:8]} ({hold.reason or 'no reason given'})" for backup in backups for hold in held.get(backup, ())
    ]
    if lines:
        raise PolicyRefusal(f"held: {', '.join(lines)}", hint="freezer backup release ends a hold")


def _name(hold: Hold) -> str:
    return f"{PREFIX}{hold.backup}-{hold.id}"


def _key(fields: Fields, name: str) -> tuple[str, str]:
    key = fields.text("backup"), fields.text("hold")
    if not name.removeprefix(PREFIX).startswith("-".join(key)) or len(key[0]) != 32 or len(key[1]) != 32:
        fields.fail("hold")
    return key


def _hold(fields: Fields) -> Hold:
    ends = fields.rest().get("until") is not None
    return Hold(
        id=fields.text("hold"),
        backup=fields.text("backup"),
        reason=fields.text("reason", limit=MAX_REASON),
        created=parse_time(fields, "created"),
        until=parse_time(fields, "until") if ends else None,
    )


def _put(storage: Storage, keys: KeyRing, kind: str, name: str, document: Mapping[str, Any]) -> None:
    keys.require_role(Role.MAINTAINER)
    storage.put(name, [control.seal(keys, kind, name, document, secrecy="data")])
    storage.flush()
