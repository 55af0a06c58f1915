"""The configuration of a repository: clear JSON that a maintainer signed (repository-format, "Configuration")."""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from freezer_sdk.crypto import sign
from freezer_sdk.engines.dedup import documents
from freezer_sdk.engines.dedup.chunker import DEFAULT_CLASSES, ChunkerClass
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.engines.dedup.roster import (
    OWNER,
    Epoch,
    Role,
    Slot,
    epoch_document,
    parse_epoch,
    parse_slot,
    parse_time,
    slot_document,
    time_text,
)
from freezer_sdk.errors import ConfigurationError, IntegrityError, UnsupportedFormat

__all__ = ["OWNER", "Config", "Epoch", "Role", "SignedConfig", "Slot", "parse_time", "time_text"]

FORMAT: Final = "freezer-repository"
VERSION: Final = 1
PREFIX: Final = "config/"
COPIES: Final = "copies/"
MAX_SIZE: Final = 1 << 20
MAX_SLOTS: Final = 1024
MAX_EPOCHS: Final = 1024
MIN_GRACE: Final = 3600
DEFAULT_GRACE: Final = 86_400
MAX_GRACE: Final = 366 * 86_400
FEATURE_KINDS: Final = ("read", "write", "maintain")

_NAME = re.compile(r"config/(\d{8})\Z", re.ASCII)
_FEATURE = re.compile(r"[a-z0-9][a-z0-9:._-]{0,63}\Z")
_SIGNATURE_DOMAIN: Final = b"freezer-sdk/1/signature\0"
_CHUNKER: Final = "fastcdc"
_CONTEXT: Final = b"config\0"


def signed_message(repository_id: bytes, signer: bytes, context: bytes, payload: bytes) -> bytes:
    """What every signature of a repository covers: who signs, what kind of thing it is, and its bytes."""
    return b"".join((_SIGNATURE_DOMAIN, repository_id, signer, struct.pack("<I", len(context)), context, payload))


@dataclass(frozen=True, kw_only=True)
class Config:
    """One configuration.

    Attributes:
        repository_id: 16 bytes.
        number: counts from 1; the highest valid one holds.
        features: by kind (``read``, ``write``, ``maintain``) what a program must know to do it.
        grace: seconds; see ``longest_grace``.
        previous_grace: what ``grace`` was before it was changed.
        segment: bytes of blobs joined before they are compressed.
        roster: everybody who holds keys, or held them.
        extra: fields that this version does not know; kept when the configuration is rewritten.
    """

    repository_id: bytes
    number: int
    created: datetime
    changed: datetime
    encrypted: bool
    features: Mapping[str, tuple[str, ...]]
    grace: int
    previous_grace: int | None = None
    chunker_classes: tuple[ChunkerClass, ...] = DEFAULT_CLASSES
    segment: int = 1 << 20
    epochs: tuple[Epoch, ...]
    roster: tuple[Slot, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """The newest epoch."""
        return self.epochs[-1].number

    @property
    def longest_grace(self) -> timedelta:
        """What maintenance waits for: after a change the longer of old and new."""
        return timedelta(seconds=max(self.grace, self.previous_grace or 0))

    @property
    def shortest_grace(self) -> timedelta:
        """After so long a writer counts itself as lost: after a change the shorter of old and new."""
        return timedelta(seconds=min(self.grace, self.previous_grace or self.grace))

    def slot(self, slot_id: bytes) -> Slot | None:
        """A line of the roster."""
        return next((slot for slot in self.roster if slot.id == slot_id), None)

    def maintainers(self) -> dict[bytes, bytes]:
        """Slot id to public signing key of everybody who may sign the next configuration."""
        return {s.id: s.signing_public for s in self.roster if Role.MAINTAINER in s.roles and s.revoked is None}

    def former_maintainers(self) -> dict[bytes, bytes]:
        """As :meth:`maintainers`, and those who were removed: one of them signed each configuration before this."""
        return {s.id: s.signing_public for s in self.roster if Role.MAINTAINER in s.roles}


@dataclass(frozen=True, kw_only=True)
class SignedConfig:
    """A configuration as stored; whether the signature counts is still to be decided.

    Attributes:
        raw: all bytes. signed: those that the signature covers.
    """

    config: Config
    raw: bytes
    signed: bytes
    signer: bytes
    signature: bytes

    def vouched_by(self, maintainers: Mapping[bytes, bytes]) -> bool:
        """Whether one of these signed it."""
        public = maintainers.get(self.signer)
        if public is None:
            return False
        message = signed_message(self.config.repository_id, self.signer, _CONTEXT, self.signed)
        return sign.verify(public, message, self.signature)


def name_of(number: int) -> str:
    """``config/00000001``."""
    return f"{PREFIX}{number:08d}"


def twin_of(name: str) -> str:
    """The other place of a configuration or slot."""
    return name.removeprefix(COPIES) if name.startswith(COPIES) else COPIES + name


def number_of(name: str) -> int | None:
    """The number in the name of a configuration, or ``None`` for another object."""
    match = _NAME.match(name)
    return int(match[1]) if match else None


def check_features(config: Config, kind: str, supported: frozenset[str]) -> None:
    """Refuses a repository that needs what this program does not know.

    Args:
        kind: ``read``, ``write`` or ``maintain``; ``write`` includes ``read``, ``maintain`` both.

    Raises:
        UnsupportedFormat: names the features.
    """
    needed = {name for known in FEATURE_KINDS[: FEATURE_KINDS.index(kind) + 1] for name in config.features[known]}
    if missing := sorted(needed - supported):
        raise UnsupportedFormat(
            f"to {kind} this repository, a program must know: {', '.join(missing)}",
            hint="install a newer version, or the plug-in that the feature names",
        )


def check_choices(config: Config, *, short_grace: bool = False) -> Config:
    """Refuses values that a user chose and that make no sense; returns the configuration.

    Args:
        short_grace: allow grace times below an hour, which only tests may have.

    Raises:
        ConfigurationError.
    """
    if not (1 if short_grace else MIN_GRACE) <= config.grace <= MAX_GRACE:
        raise ConfigurationError("the grace time must lie between one hour and a year")
    try:
        _parse(Fields(documents.decode(documents.encode(_document(config)), "it"), "it"))
    except IntegrityError as error:
        raise ConfigurationError(f"these settings cannot be stored in a repository ({error})") from None
    return config


def encode_config(config: Config, signer: bytes, key: sign.SigningKey) -> SignedConfig:
    """The stored form: the document, a line feed, its signature as a second document, a line feed."""
    body = documents.encode(_document(config))
    signature = key.sign(signed_message(config.repository_id, signer, _CONTEXT, body))
    tail = documents.encode({"signature": signature.hex(), "signer": signer.hex()})
    raw = body + b"\n" + tail + b"\n"
    return SignedConfig(config=config, raw=raw, signed=body, signer=signer, signature=signature)


def is_signed_by(raw: bytes, repository_id: bytes, maintainers: Mapping[bytes, bytes]) -> bool:
    """Whether one of these signed a configuration, of whatever version: all have two lines and this signature."""
    line, _, tail = raw.partition(b"\n")
    try:
        fields = Fields(documents.decode(tail.removesuffix(b"\n"), "it"), "it")
        signer, signature = fields.hex("signer", 16), fields.hex("signature", sign.SIGNATURE_SIZE)
    except IntegrityError:
        return False
    message = signed_message(repository_id, signer, _CONTEXT, line)
    return signer in maintainers and sign.verify(maintainers[signer], message, signature)


def decode_config(raw: bytes, number: int | None = None) -> SignedConfig:
    """Reads a stored configuration; the signature is not checked here.

    Args:
        number: the number in the object's name.

    Raises:
        UnsupportedFormat: of a version that is not known.
        IntegrityError: damaged, or of another number.
    """
    what = "the configuration" if number is None else f"configuration {number}"
    if len(raw) > MAX_SIZE:
        raise IntegrityError(f"{what} is larger than it can be")
    lines = raw.split(b"\n")
    if len(lines) != 3 or lines[2]:
        raise IntegrityError(f"{what} is damaged")
    body = Fields(documents.decode(lines[0], what), what)
    if body.text("format") != FORMAT:
        body.fail("format")
    version = body.number("version")
    if version != VERSION:
        newer = "install a newer version of freezer-sdk"
        draft = "it is a draft of before the first release: restore with the program that made it, and make a new one"
        raise UnsupportedFormat(
            f"the repository has format version {version}; this program knows version {VERSION}",
            hint=newer if version > VERSION else draft,
        )
    tail = Fields(documents.decode(lines[1], what), what)
    config = _parse(body)
    if number is not None and config.number != number:
        body.fail("number")
    signer, signature = tail.hex("signer", 16), tail.hex("signature", sign.SIGNATURE_SIZE)
    return SignedConfig(config=config, raw=raw, signed=lines[0], signer=signer, signature=signature)


def _document(config: Config) -> dict[str, Any]:
    return {
        **config.extra,
        "format": FORMAT,
        "version": VERSION,
        "repository": config.repository_id.hex(),
        "number": config.number,
        "created": time_text(config.created),
        "changed": time_text(config.changed),
        "encrypted": config.encrypted,
        "features": {kind: sorted(config.features.get(kind, ())) for kind in FEATURE_KINDS},
        "grace": config.grace,
        "previous_grace": config.previous_grace,
        "chunker": {
            "algorithm": _CHUNKER,
            "classes": [{"above": c.above, "average": c.average} for c in config.chunker_classes],
        },
        "segment": config.segment,
        "epochs": [epoch_document(epoch) for epoch in config.epochs],
        "roster": [slot_document(slot) for slot in config.roster],
    }


_KNOWN = (
    "format",
    "version",
    "repository",
    "number",
    "created",
    "changed",
    "encrypted",
    "features",
    "grace",
    "previous_grace",
    "chunker",
    "segment",
    "epochs",
    "roster",
)


def _parse(body: Fields) -> Config:
    features = body.fields("features")
    config = Config(
        repository_id=body.hex("repository", 16),
        number=body.number("number", low=1, high=99_999_999),
        created=parse_time(body, "created"),
        changed=parse_time(body, "changed"),
        encrypted=body.flag("encrypted"),
        features={kind: features.texts(kind, limit=256, each=64) for kind in FEATURE_KINDS},
        grace=body.number("grace", low=1, high=MAX_GRACE),
        previous_grace=body.optional_number("previous_grace", low=1, high=MAX_GRACE),
        chunker_classes=_parse_classes(body.fields("chunker")),
        segment=body.number("segment", low=4096, high=16 << 20),
        epochs=tuple(parse_epoch(item) for item in body.objects("epochs", limit=MAX_EPOCHS)),
        roster=tuple(parse_slot(item) for item in body.objects("roster", limit=MAX_SLOTS)),
        extra=body.rest(*_KNOWN),
    )
    if [epoch.number for epoch in config.epochs] != list(range(1, len(config.epochs) + 1)) or not config.epochs:
        body.fail("epochs")
    if len({slot.id for slot in config.roster}) != len(config.roster):
        body.fail("roster")
    if not all(_FEATURE.match(name) for names in config.features.values() for name in names):
        body.fail("features")
    return config


def _parse_classes(chunker: Fields) -> tuple[ChunkerClass, ...]:
    algorithm = chunker.text("algorithm")
    if algorithm != _CHUNKER:
        raise UnsupportedFormat(f"the chunker {algorithm!r} is not known to this version")
    classes = tuple(
        ChunkerClass(item.number("above"), item.number("average", low=1024, high=4 << 20))
        for item in chunker.objects("classes", limit=16)
    )
    above = [c.above for c in classes]
    if not classes or above[0] != 0 or above != sorted(set(above)):
        chunker.fail("classes")
    return classes


def successor(config: Config, changed: datetime, **changes: Any) -> Config:
    """The next configuration with some fields replaced; it is not signed yet."""
    return dataclasses.replace(config, number=config.number + 1, changed=changed, **changes)
