"""What a removed maintainer has decided in its time (repository-format, "Removed maintainers").

Nothing in an object proves when it was signed. So whoever removes a maintainer writes down what it has signed so far,
and nothing else that it signed counts from then on: neither a tombstone nor a sweep with a date before the removal.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.engines.dedup import control, deletion, documents, holds, records
from freezer_sdk.engines.dedup.config import time_text
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.errors import IntegrityError, ObjectNotFound, UnsupportedFormat
from freezer_sdk.storages.base import Storage

PREFIX: Final = "confirmed/"
KIND: Final = "confirmation"

_NAME: Final = re.compile(r"confirmed/([0-9a-f]{32})-([0-9a-f]{32})\Z")


def kind_of(name: str) -> str | None:
    """The kind of a control object that only maintainers sign, by its name; ``None``: it is none."""
    if name.startswith(deletion.SWEEPS):
        return deletion.ANNOUNCEMENT if "/announced-" in name else deletion.DECISION
    if name.startswith(holds.PREFIX):
        return holds.kind_of(name)
    kinds = {
        deletion.MARKS: deletion.MARK,
        deletion.FORGOTTEN: deletion.TOMBSTONE,
        records.PREFIX: records.KIND,
        PREFIX: KIND,
    }
    return next((kind for prefix, kind in kinds.items() if name.startswith(prefix)), None)


PREFIXES: Final = (deletion.MARKS, deletion.SWEEPS, deletion.FORGOTTEN, holds.PREFIX, records.PREFIX, PREFIX)


def confirm(storage: Storage, keys: KeyRing, slot_id: bytes) -> str:
    """Writes down what a maintainer has signed so far, before it is removed; returns the object's name.

    Raises:
        AccessDenied: our slot may not maintain.
        StorageError.
    """
    keys.require_role(Role.MAINTAINER)
    objects: dict[str, str] = {}
    for prefix in PREFIXES:
        for info in storage.list(prefix):
            found = _open(storage, keys, info.name)
            if found is not None and found[0].signer == slot_id:
                objects[info.name] = found[1]
    name = f"{PREFIX}{slot_id.hex()}-{secrets.token_hex(16)}"
    document = {"slot": slot_id.hex(), "objects": objects, "created": time_text(datetime.now(UTC))}
    storage.put(name, [control.seal(keys, KIND, name, document, secrecy="index")])
    storage.flush()
    return name


def read_confirmed(storage: Storage, keys: KeyRing) -> frozenset[tuple[str, str]]:
    """Names and SHA-256 (hex) of what removed maintainers have signed and what counts.

    Raises:
        StorageError.
    """
    removed = {line.id for line in keys.config.roster if line.revoked is not None and Role.MAINTAINER in line.roles}
    if not removed:
        return frozenset()
    waiting = {info.name for info in storage.list(PREFIX) if _NAME.match(info.name)}
    known = keys.confirmed
    while waiting:  # who wrote one down may have been removed since, and is in one that somebody else wrote
        before = len(waiting)
        for name in sorted(waiting):
            found = _open(storage, keys, name)
            if found is not None:
                keys.confirmed = known = known | _listed(name, found[0])
                waiting.discard(name)
        if len(waiting) == before:
            break
    return known


def _listed(name: str, opened: control.Opened) -> frozenset[tuple[str, str]]:
    fields = Fields(opened.payload, name)
    objects = opened.payload.get("objects")
    if fields.hex("slot", 16).hex() != name.removeprefix(PREFIX)[:32] or not isinstance(objects, dict):
        return frozenset()
    return frozenset((each, digest) for each, digest in objects.items() if isinstance(digest, str))


def _open(storage: Storage, keys: KeyRing, name: str) -> tuple[control.Opened, str] | None:
    """A maintainer's object and its SHA-256, or ``None`` when it is nothing that counts."""
    kind = kind_of(name)
    if kind is None:
        return None
    try:
        data = documents.read_bounded(storage, name, control.MAX_OBJECT)
        if data is None:
            return None
        return control.open(keys, kind, name, data, role=Role.MAINTAINER), hashlib.sha256(data).hexdigest()
    except (IntegrityError, UnsupportedFormat, ObjectNotFound):
        return None
