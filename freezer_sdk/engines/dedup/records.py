"""Records: what maintainers wrote down about the repository (repository-format, "Records").

Nothing depends on them but comfort: what a record says is never a reason to delete anything.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from freezer_sdk.engines.dedup import control
from freezer_sdk.engines.dedup.config import parse_time, time_text
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.opening import Reported, open_all
from freezer_sdk.errors import ConfigurationError, StorageError
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage

PREFIX: Final = "records/"
KIND: Final = "record"
"""Kind of control object that all records are; what they are about is in their names."""
NAME: Final = re.compile(r"records/([a-z][a-z0-9-]{0,31})/(\d{8}T\d{6}\.\d{3}Z)-([0-9a-f]{32})\Z")


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a maintainer wrote down.

    Attributes:
        name: of the object.
        kind: what it is about, e.g. ``verified``.
        created: by the maintainer's clock.
        stored: by the storage's clock.
        signer: id of the slot that signed it.
        facts: the document's own part.
    """

    name: str
    kind: str
    created: datetime
    stored: datetime
    signer: bytes
    facts: Fields


def write_record(
    storage: Storage, keys: KeyRing, kind: str, facts: Mapping[str, Any], *, secrecy: control.Secrecy = "index"
) -> str:
    """Stores a record; returns the object's name.

    Args:
        kind: what it is about: lower-case letters, digits and hyphens, 32 at most.
        facts: JSON.
        secrecy: ``data`` for what only readers may know, names of files among it.

    Raises:
        AccessDenied: the slot may not maintain.
        ConfigurationError: not JSON, too large, or not such a kind.
        StorageError.
    """
    keys.require_role(Role.MAINTAINER)
    now = datetime.now(UTC)
    name = f"{PREFIX}{kind}/{_stamp(now)}-{secrets.token_hex(16)}"
    if not NAME.match(name):
        raise ConfigurationError(f"{kind!r} is no kind of record")
    document = {"created": time_text(now), "facts": dict(facts)}
    storage.put(name, [control.seal(keys, KIND, name, document, secrecy=secrecy)])
    return name


def read_records(storage: Storage, keys: KeyRing, kind: str, *, problems: list[Problem] | None = None) -> list[Record]:
    """All valid records of maintainers about something, oldest first by their own time.

    Args:
        problems: what is damaged, forged or not allowed is added here.

    Raises:
        StorageError.
    """
    found: list[Record] = []
    noted: list[Problem] = [] if problems is None else problems
    infos = (info for info in storage.list(f"{PREFIX}{kind}/") if NAME.match(info.name))
    for item in open_all(storage, keys, infos, kind=lambda _name: KIND, role=Role.MAINTAINER, problems=noted):
        with Reported(item.info.name, noted):
            created = parse_time(item.fields, "created")
            if not item.info.name.startswith(f"{PREFIX}{kind}/{_stamp(created)}-"):
                item.fields.fail("created")
            found.append(
                Record(
                    name=item.info.name,
                    kind=kind,
                    created=created,
                    stored=item.info.modified,
                    signer=item.signer,
                    facts=item.fields.fields("facts"),
                )
            )
    return sorted(found, key=lambda record: (record.created, record.name))


def supersede(
    storage: Storage,
    keys: KeyRing,
    kind: str,
    facts: Mapping[str, Any],
    old: Iterable[Record],
    *,
    secrecy: control.Secrecy = "index",
) -> str:
    """Stores a record that says everything that older ones say, then removes those where the storage lets us.

    Two programs that do this at the same time lose nothing: each removes only what it has read.

    Raises:
        AccessDenied, ConfigurationError, StorageError: the older ones are still there, the new one may be too.
    """
    name = write_record(storage, keys, kind, facts, secrecy=secrecy)
    storage.flush()
    with suppress(StorageError):  # where nothing can be deleted, or else the next one does it
        storage.delete_many([record.name for record in old if record.name != name])
    return name


def _stamp(time: datetime) -> str:
    utc = time.astimezone(UTC)
    return f"{utc:%Y%m%dT%H%M%S}.{utc.microsecond // 1000:03d}Z"
