"""Slots: what one holder of keys needs to open a repository (repository-format, "Keys")."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from freezer_sdk.crypto import hpke, sign
from freezer_sdk.crypto.aead import Aead
from freezer_sdk.crypto.kdf import SALT_SIZE, Argon2Params, argon2id, hkdf
from freezer_sdk.engines.dedup import config as configs
from freezer_sdk.engines.dedup import documents
from freezer_sdk.engines.dedup.config import COPIES, MAX_EPOCHS
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.engines.dedup.epochs import MAX_SEALED, Bundle
from freezer_sdk.errors import UnsupportedFormat
from freezer_sdk.storages.base import Storage

FORMAT: Final = "freezer-slot"
VERSION: Final = 1
PREFIX: Final = "keys/"
MAX_SIZE: Final = 4 << 20
MAX_TOTAL: Final = 64 << 20
"""Bytes of all slots that a reader looks at."""

_NAME = re.compile(r"keys/([0-9a-f]{64})\Z")
_DOMAIN: Final = b"freezer-sdk/1/slot\0"
_OPEN_ROOT: Final = hashlib.sha256(b"freezer-sdk/1/no-encryption").digest()
_ARGON2, _OPEN = "argon2id", "open"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kdf:
    """How the wrapping key is made.

    Attributes:
        salt: 16 random bytes, used for one wrapping only.
        params: ``None``: the open slot of an unencrypted repository, whose key is published.
    """

    salt: bytes
    params: Argon2Params | None

    def root(self, password: bytes) -> bytes:
        """The slow part: 32 bytes from the password.

        Raises:
            UnsupportedFormat: costs out of bounds.
        """
        return _OPEN_ROOT if self.params is None else argon2id(password, self.salt, self.params)


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SlotSecrets:
    """What only the holder of a slot has.

    Attributes:
        trust_number: configurations with a lower number count for nothing.
        trust: slot id to public signing key of those who were maintainers when the slot was wrapped.
    """

    kem_private: bytes
    signing: sign.SigningKey
    trust_number: int
    trust: Mapping[bytes, bytes]


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotObject:
    """A stored slot. Several objects of one slot may lie around; together they hold its bundles.

    Attributes:
        serial: the larger, the newer; only decides what is tried first.
        wrapped: the secrets under a key made from the password.
        config: a signed configuration, as stored.
    """

    repository_id: bytes
    slot_id: bytes
    serial: int
    kdf: Kdf
    wrapped: bytes
    bundles: Mapping[int, Bundle]
    config: bytes

    @property
    def open(self) -> bool:
        """Whether it needs no password."""
        return self.kdf.params is None

    def unwrap(self, root: bytes) -> SlotSecrets:
        """Opens the secrets with what :meth:`Kdf.root` made.

        Raises:
            IntegrityError: another password.
        """
        what = "a slot's secrets"
        binding = self.repository_id + self.slot_id
        plain = Aead(_wrapping_key(root, self.kdf, binding)).open(0, self.wrapped, _DOMAIN + binding)
        fields = Fields(documents.decode(plain, what), what)
        trust = {
            item.hex("slot", 16): item.hex("signing_public", sign.KEY_SIZE)
            for item in fields.objects("trust", limit=configs.MAX_SLOTS)
        }
        return SlotSecrets(
            kem_private=fields.hex("kem_private", hpke.KEY_SIZE),
            signing=sign.SigningKey(fields.hex("signing_private", sign.KEY_SIZE)),
            trust_number=fields.number("trust_number", low=1),
            trust=trust,
        )

    def encode(self) -> bytes:
        """The stored bytes."""
        params = self.kdf.params
        kdf: dict[str, object] = {"name": _OPEN if params is None else _ARGON2, "salt": self.kdf.salt.hex()}
        if params is not None:
            kdf.update(memory=params.memory, time=params.time, lanes=params.lanes)
        document = {
            "format": FORMAT,
            "version": VERSION,
            "repository": self.repository_id.hex(),
            "slot": self.slot_id.hex(),
            "serial": self.serial,
            "kdf": kdf,
            "wrapped": documents.base64_text(self.wrapped),
            "bundles": [
                {"epoch": b.epoch, "suite": list(b.suite), "sealed": documents.base64_text(b.sealed)}
                for _, b in sorted(self.bundles.items())
            ],
            "config": documents.base64_text(self.config),
        }
        return documents.encode(document)

    def successor(self, bundles: Mapping[int, Bundle], config: bytes) -> SlotObject:
        """The same slot with other bundles and a newer configuration; needs no password.

        Bundles of other epochs stay where they are: anybody may have put them there, and all objects of a slot count.
        """
        serial = min(self.serial + 1, documents.MAX_NUMBER)
        return dataclasses.replace(self, serial=serial, bundles=dict(bundles), config=config)


def wrap(
    secret: SlotSecrets, *, repository_id: bytes, slot_id: bytes, password: bytes | None, params: Argon2Params
) -> tuple[Kdf, bytes]:
    """Wraps secrets under a password, or under the published key when there is none.

    Raises:
        UnsupportedFormat: costs out of bounds.
    """
    kdf = Kdf(salt=secrets.token_bytes(SALT_SIZE), params=None if password is None else params.check())
    document = {
        "kem_private": secret.kem_private.hex(),
        "signing_private": secret.signing.secret().hex(),
        "trust_number": secret.trust_number,
        "trust": [{"slot": slot.hex(), "signing_public": key.hex()} for slot, key in sorted(secret.trust.items())],
    }
    binding = repository_id + slot_id
    key = _wrapping_key(kdf.root(password or b""), kdf, binding)
    return kdf, bytes(Aead(key).seal(0, documents.encode(document), _DOMAIN + binding))


def _wrapping_key(root: bytes, kdf: Kdf, binding: bytes) -> bytes:
    return hkdf(root, salt=kdf.salt, info=_DOMAIN + binding)


def decode_slot(raw: bytes) -> SlotObject:
    """Reads a stored slot; nothing in it is trusted yet.

    Raises:
        IntegrityError: damaged. UnsupportedFormat: of a version or with a method that is not known.
    """
    what = "a slot"
    fields = Fields(documents.decode(raw, what), what)
    if fields.text("format") != FORMAT:
        fields.fail("format")
    if fields.number("version") != VERSION:
        raise UnsupportedFormat("a slot is of a version that is not known")
    bundles = [
        Bundle(epoch=item.number("epoch", low=1), suite=_suite(item), sealed=item.base64("sealed", limit=MAX_SEALED))
        for item in fields.objects("bundles", limit=MAX_EPOCHS)
    ]
    return SlotObject(
        repository_id=fields.hex("repository", 16),
        slot_id=fields.hex("slot", 16),
        serial=fields.number("serial"),
        kdf=_decode_kdf(fields.fields("kdf")),
        wrapped=fields.base64("wrapped", limit=1 << 18),
        bundles={bundle.epoch: bundle for bundle in bundles},
        config=fields.base64("config", limit=configs.MAX_SIZE),
    )


def _decode_kdf(fields: Fields) -> Kdf:
    salt = fields.hex("salt", SALT_SIZE)
    match fields.text("name"):
        case "argon2id":
            costs = {name: fields.number(name) for name in ("memory", "time", "lanes")}
            return Kdf(salt=salt, params=Argon2Params(**costs).check())
        case "open":
            return Kdf(salt=salt, params=None)
        case name:
            raise UnsupportedFormat(f"the key derivation {name!r} of a slot is not known")


def _suite(item: Fields) -> hpke.SuiteId:
    numbers = item.numbers("suite", size=3, high=0xFFFF)
    return hpke.SuiteId(*numbers)


def store_slot(storage: Storage, slot: SlotObject) -> str:
    """Puts a slot and its second copy; returns its name.

    Raises:
        StorageError.
    """
    raw = slot.encode()
    name = name_of(raw)
    storage.put(name, [raw])
    storage.put(COPIES + name, [raw])
    return name


def name_of(raw: bytes) -> str:
    """``keys/<sha256>``."""
    return PREFIX + hashlib.sha256(raw).hexdigest()


def is_name(name: str) -> bool:
    """Whether an object of this name can be a slot."""
    return _NAME.match(name) is not None
