"""Lines of a configuration: who holds keys, and the public facts of epochs (repository-format, "Configuration")."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from freezer_sdk.crypto import hpke, sign
from freezer_sdk.engines.dedup.documents import Fields

MAX_HOSTS: Final = 256


class Role(StrEnum):
    """What a slot may do."""

    WRITER = "writer"
    READER = "reader"
    MAINTAINER = "maintainer"


OWNER: Final = frozenset(Role)
"""All roles: the one slot of an ordinary repository."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A line of the roster.

    Attributes:
        id: 16 bytes.
        since: number of the configuration that added it.
        revoked: first epoch in which its signatures no longer count, or ``None``.
        trusted: whether other writers build on what it wrote: on its packs, indexes and backups.
        hosts: whose backups it may make; ``None``: any host's.
    """

    id: bytes
    label: str
    roles: frozenset[Role]
    kem_public: bytes
    signing_public: bytes
    since: int
    revoked: int | None = None
    trusted: bool = False
    hosts: tuple[str, ...] | None = None

    def speaks_for(self, host: str) -> bool:
        """Whether a backup of this host, signed by the slot, counts."""
        return self.hosts is None or host in self.hosts


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """The public facts of an epoch.

    Attributes:
        commitment: binds every secret of the epoch, so that nobody can slip in another bundle.
    """

    number: int
    created: datetime
    data_public: bytes
    commitment: bytes


def epoch_document(epoch: Epoch) -> dict[str, Any]:
    """The stored form."""
    return {
        "number": epoch.number,
        "created": time_text(epoch.created),
        "data_public": epoch.data_public.hex(),
        "commitment": epoch.commitment.hex(),
    }


def parse_epoch(item: Fields) -> Epoch:
    """The inverse.

    Raises:
        IntegrityError: damaged.
    """
    return Epoch(
        number=item.number("number", low=1),
        created=parse_time(item, "created"),
        data_public=item.hex("data_public", hpke.KEY_SIZE),
        commitment=item.hex("commitment", 32),
    )


def slot_document(slot: Slot) -> dict[str, Any]:
    """The stored form."""
    return {
        "slot": slot.id.hex(),
        "label": slot.label,
        "roles": sorted(slot.roles),
        "kem_public": slot.kem_public.hex(),
        "signing_public": slot.signing_public.hex(),
        "since": slot.since,
        "revoked": slot.revoked,
        "trusted": slot.trusted,
        "hosts": None if slot.hosts is None else list(slot.hosts),
    }


def parse_slot(item: Fields) -> Slot:
    """The inverse.

    Raises:
        IntegrityError: damaged.
    """
    try:
        roles = frozenset(Role(role) for role in item.texts("roles", limit=8))
    except ValueError:
        item.fail("roles")
    return Slot(
        id=item.hex("slot", 16),
        label=item.text("label", limit=256),
        roles=roles,
        kem_public=item.hex("kem_public", hpke.KEY_SIZE),
        signing_public=item.hex("signing_public", sign.KEY_SIZE),
        since=item.number("since", low=1),
        revoked=item.optional_number("revoked", low=1),
        trusted=item.flag("trusted"),
        hosts=item.optional_texts("hosts", limit=MAX_HOSTS),
    )


def time_text(time: datetime) -> str:
    """A time as every document of the repository writes it: UTC, microseconds, ``+00:00``."""
    return time.isoformat(timespec="microseconds")


def parse_time(fields: Fields, name: str) -> datetime:
    """A time with an offset, in UTC.

    Raises:
        IntegrityError: none, or one that UTC has not.
    """
    try:
        time = datetime.fromisoformat(fields.text(name, limit=64))
        return time.astimezone(UTC) if time.tzinfo is not None else fields.fail(name)
    except (ValueError, OverflowError):
        fields.fail(name)
