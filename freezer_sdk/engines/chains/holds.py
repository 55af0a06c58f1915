"""Holds: backups that must not be forgotten, each an object of its own below ``freezer-sdk/holds/``.

The object is JSON; of a backup whose streams are sealed, sealed as well. A hold ends with its date, or with the object.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.crypto.sealed import MAGIC
from freezer_sdk.engines.chains.layout import OWN
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import IntegrityError, PolicyRefusal
from freezer_sdk.retention_model import MAX_REASON, Hold

PREFIX: Final = f"{OWN}/holds/"

_NAME: Final = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})", re.ASCII)
_LIMIT: Final = 16 << 10
_log = logging.getLogger("freezer_sdk")


def write_hold(store: Store, backup: str, *, reason: str, until: datetime | None, sealed: bool) -> Hold:
    """Stores a new hold.

    Args:
        backup: id.
        until: with a zone.
        sealed: nobody without the password shall read it.

    Raises:
        WrongPassword, StorageError.
    """
    hold = Hold(
        id=secrets.token_hex(16),
        backup=backup,
        reason=reason[:MAX_REASON],
        created=datetime.now(UTC),
        until=None if until is None else until.astimezone(UTC),
    )
    document = {
        "version": 1,
        "reason": hold.reason,
        "created": hold.created.isoformat(),
        "until": None if hold.until is None else hold.until.isoformat(),
    }
    name, data = _name(hold), json.dumps(document).encode()
    if sealed:
        sealer = store.keys.seal().sealer(_context(name))
        data = sealer.update(data) + sealer.finalize()
    store.storage.put(name, [data])
    store.storage.flush()
    return hold


def remove_hold(store: Store, hold: Hold) -> None:
    """Ends a hold.

    Raises:
        StorageError.
    """
    store.storage.delete(_name(hold))
    store.storage.flush()


def read_holds(store: Store, *, now: datetime) -> tuple[Hold, ...]:
    """All holds in force, the oldest first. One that cannot be read is in force: nobody knows its end.

    Raises:
        WrongPassword, StorageError.
    """
    found = []
    for info in store.storage.list(PREFIX):
        match = _NAME.fullmatch(info.name.removeprefix(PREFIX))
        if match is None:
            continue
        backup, identifier = match.groups()
        try:
            hold = _parse(_content(store, info.name), backup=backup, identifier=identifier)
        except IntegrityError as error:
            _log.warning("%s: %s", info.name, error)
            hold = Hold(id=identifier, backup=backup, reason="it cannot be read", created=info.modified)
        if hold.until is None or hold.until > now:
            found.append(hold)
    return tuple(sorted(found, key=lambda hold: (hold.created, hold.id)))


def by_backup(holds: Iterable[Hold]) -> Mapping[str, tuple[Hold, ...]]:
    """The same, by id of the backup."""
    found: dict[str, tuple[Hold, ...]] = {}
    for hold in holds:
        found[hold.backup] = (*found.get(hold.backup, ()), hold)
    return found


def refuse_held(holds: Mapping[str, tuple[Hold, ...]], backups: Iterable[str]) -> None:
    """Refuses to go on when one of the backups is held.

    Raises:
        PolicyRefusal: names them, and why they are held.
    """
    lines = [
        f"{backup[:8]} ({hold.reason or 'no reason given'})" for backup in backups for hold in holds.get(backup, ())
    ]
    if lines:
        raise PolicyRefusal(f"held: {', '.join(lines)}", hint="freezer backup release ends a hold")


def _content(store: Store, name: str) -> bytes:
    data = store.coding.small(name, limit=_LIMIT)
    if data is None:
        raise IntegrityError("it has vanished")
    if not data.startswith(MAGIC):
        return data
    opener = store.keys.seal().opener(_context(name))
    return opener.update(data) + opener.finalize()


def _parse(data: bytes, *, backup: str, identifier: str) -> Hold:
    try:
        document = json.loads(data)
        until = document["until"]
        return Hold(
            id=identifier,
            backup=backup,
            reason=str(document["reason"])[:MAX_REASON],
            created=datetime.fromisoformat(document["created"]).astimezone(UTC),
            until=None if until is None else datetime.fromisoformat(until).astimezone(UTC),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise IntegrityError("it is no hold that this version understands") from None


def _name(hold: Hold) -> str:
    return f"{PREFIX}{hold.backup}-{hold.id}"


def _context(name: str) -> bytes:
    return f"freezer-sdk {name}".encode()
