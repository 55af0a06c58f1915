"""The secrets of an epoch, and the bundles that carry them to slots (repository-format, "Keys")."""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from freezer_sdk.crypto import hpke
from freezer_sdk.crypto.hashing import derive
from freezer_sdk.engines.dedup import documents
from freezer_sdk.engines.dedup.config import Epoch, Role
from freezer_sdk.engines.dedup.documents import Fields
from freezer_sdk.errors import IntegrityError

FORMAT: Final = "freezer-bundle"
VERSION: Final = 1
MAX_SEALED: Final = 4096

_INFO: Final = b"freezer-sdk/1/bundle\0"
_COMMITMENT: Final = "freezer-sdk/1/epoch-commitment"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """The secrets of an epoch, sealed to one slot."""

    epoch: int
    suite: hpke.SuiteId
    sealed: bytes


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class EpochSecrets:
    """What the holders of keys share in an epoch.

    Attributes:
        hash_key: names blobs; the same in all epochs, so that rotation does not end deduplication.
        chunker_seed: 1 to 2**63-1; the same in all epochs.
        index_key: opens what writers may read.
        data_private: opens run keys, and so data and pages; ``None`` for slots that only write.
    """

    number: int
    hash_key: bytes
    chunker_seed: int
    index_key: bytes
    data_public: bytes
    data_private: bytes | None

    @classmethod
    def generate(cls, number: int, previous: EpochSecrets | None = None) -> EpochSecrets:
        """New keys; the names of content stay."""
        data = hpke.generate()
        return cls(
            number=number,
            hash_key=previous.hash_key if previous else secrets.token_bytes(32),
            chunker_seed=previous.chunker_seed if previous else 1 + secrets.randbelow((1 << 63) - 1),
            index_key=secrets.token_bytes(32),
            data_public=data.public,
            data_private=data.private,
        )

    def commitment(self, repository_id: bytes) -> bytes:
        """32 bytes that fix every secret without telling any; the configuration lists them."""
        head = struct.pack("<IQ", self.number, self.chunker_seed)
        return derive(_COMMITMENT, repository_id + head + self.hash_key + self.index_key + self.data_public)

    def public(self, repository_id: bytes, created: datetime) -> Epoch:
        """What the configuration says about the epoch."""
        return Epoch(
            number=self.number,
            created=created,
            data_public=self.data_public,
            commitment=self.commitment(repository_id),
        )

    def seal(self, repository_id: bytes, slot_id: bytes, kem_public: bytes, roles: frozenset[Role]) -> Bundle:
        """The bundle for one slot, with what its roles need."""
        private = self.data_private if Role.READER in roles else None
        document = {
            "format": FORMAT,
            "version": VERSION,
            "epoch": self.number,
            "hash_key": self.hash_key.hex(),
            "chunker_seed": f"{self.chunker_seed:016x}",
            "index_key": self.index_key.hex(),
            "data_public": self.data_public.hex(),
            "data_private": None if private is None else private.hex(),
        }
        info = _info(repository_id, slot_id, self.number)
        sealed = hpke.seal(kem_public, documents.encode(document), info)
        return Bundle(epoch=self.number, suite=hpke.SUITE, sealed=sealed)


def open_bundle(
    bundle: Bundle, *, repository_id: bytes, slot_id: bytes, kem_private: bytes, epoch: Epoch, roles: frozenset[Role]
) -> EpochSecrets:
    """Opens a bundle and compares it with the signed configuration.

    Raises:
        IntegrityError: damaged, or not what the configuration committed to.
        UnsupportedFormat: an unknown suite.
    """
    what = f"the key bundle of epoch {epoch.number}"
    info = _info(repository_id, slot_id, epoch.number)
    plain = hpke.open(kem_private, bundle.sealed, info, suite=bundle.suite)
    fields = Fields(documents.decode(plain, what), what)
    if fields.text("format") != FORMAT or fields.number("version") != VERSION:
        fields.fail("format")
    found = EpochSecrets(
        number=fields.number("epoch", low=1),
        hash_key=fields.hex("hash_key", 32),
        chunker_seed=int.from_bytes(fields.hex("chunker_seed", 8), "big"),
        index_key=fields.hex("index_key", 32),
        data_public=fields.hex("data_public", hpke.KEY_SIZE),
        data_private=fields.hex("data_private", hpke.KEY_SIZE) if Role.READER in roles else None,
    )
    if found.number != epoch.number or found.data_public != epoch.data_public:
        raise IntegrityError(f"{what} is not the one that the configuration names")
    if found.commitment(repository_id) != epoch.commitment:
        raise IntegrityError(f"{what} is not the one that the configuration names")
    if found.data_private is not None and hpke.public_key(found.data_private) != found.data_public:
        raise IntegrityError(f"{what} holds keys that do not belong together")
    return found


def _info(repository_id: bytes, slot_id: bytes, epoch: int) -> bytes:
    return _INFO + repository_id + slot_id + struct.pack("<I", epoch)
