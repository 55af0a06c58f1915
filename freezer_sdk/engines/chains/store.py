"""A store: what it says about itself, and what its backups are read and written with."""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from freezer_sdk.engines.chains.codec import Codec
from freezer_sdk.engines.chains.coding import NONE, OPENSSL, SEALED, Coding
from freezer_sdk.engines.chains.keys import Keys
from freezer_sdk.engines.chains.layout import STORE
from freezer_sdk.engines.chains.settings import ChainSettings
from freezer_sdk.errors import (
    IntegrityError,
    ObjectExists,
    ObjectNotFound,
    RepositoryExists,
    UnsupportedFormat,
)
from freezer_sdk.storages.base import Storage

_VERSION: Final = 1
_CONTEXT: Final = b"freezer-sdk store"
_LIMIT: Final = 64 << 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Marker:
    """What a store says that was made by this program; the original's have none.

    Attributes:
        id: 32 hexadecimal digits.
        engine: that it was made for.
        cipher: of new series: ``none``, ``openssl`` or ``sealed``.
        check: id and cipher, sealed: opens only with the password, and nobody else changes the cipher to another one;
            empty without encryption.
    """

    id: str
    created: datetime
    engine: str
    cipher: str
    check: bytes = b""

    @classmethod
    def new(cls, engine: str, *, cipher: str, keys: Keys) -> Self:
        """Of a store that is about to be made."""
        identifier, check = uuid.uuid4().hex, b""
        if cipher != NONE:
            sealer = keys.seal().sealer(_CONTEXT)
            check = sealer.update(_sealed(identifier, cipher)) + sealer.finalize()
        created = datetime.now(UTC).replace(microsecond=0)
        return cls(id=identifier, created=created, engine=engine, cipher=cipher, check=check)

    @classmethod
    def read(cls, storage: Storage) -> Self | None:
        """That of a store; ``None``: it was made by the original, or there is none.

        Raises:
            IntegrityError, UnsupportedFormat, StorageError.
        """
        try:
            data = storage.get(STORE, length=_LIMIT)
        except ObjectNotFound:
            return None
        try:
            document = json.loads(data)
            version = document["version"]
            if version != _VERSION:
                raise UnsupportedFormat(
                    f"the store has version {version!r}, which is not known here", hint="use a newer release"
                )
            marker = cls(
                id=str(document["id"]),
                created=datetime.fromisoformat(document["created"]).astimezone(UTC),
                engine=str(document["engine"]),
                cipher=str(document["cipher"]),
                check=base64.b64decode(document["check"], validate=True),
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError, binascii.Error):
            raise IntegrityError(
                f"{STORE} is damaged", hint="backups do not depend on it: remove it to open the store as an old one"
            ) from None
        if marker.cipher not in (NONE, OPENSSL, SEALED):
            raise UnsupportedFormat(f"the store is encrypted by {marker.cipher!r}, which is not known here")
        return marker

    def write(self, storage: Storage) -> None:
        """Stores it.

        Raises:
            RepositoryExists: there is one.
            StorageError.
        """
        document = {
            "version": _VERSION,
            "id": self.id,
            "created": self.created.isoformat(),
            "engine": self.engine,
            "cipher": self.cipher,
            "check": base64.b64encode(self.check).decode(),
        }
        conditional = storage.capabilities.conditional_put
        try:
            storage.put(STORE, [json.dumps(document).encode()], if_absent=conditional)
        except ObjectExists:
            raise RepositoryExists(f"there is a store already: {storage.location}") from None
        storage.flush()

    def unlock(self, keys: Keys) -> None:
        """Looks whether the password is the right one, where one is needed.

        Raises:
            WrongPassword: it is not, or there is none.
            IntegrityError: the marker is damaged.
        """
        if self.cipher != NONE:
            opener = keys.seal().opener(_CONTEXT)
            if opener.update(self.check) + opener.finalize() != _sealed(self.id, self.cipher):
                raise IntegrityError(f"{STORE} is damaged or forged: its parts do not belong together")


def _sealed(identifier: str, cipher: str) -> bytes:
    return f"{identifier} {cipher}".encode()


@dataclass(frozen=True, kw_only=True)
class Store:
    """An open store.

    Attributes:
        engine: name of the engine that opened it.
        marker: ``None`` for a store of the original.
    """

    engine: str
    coding: Coding
    settings: ChainSettings
    marker: Marker | None = None

    @property
    def storage(self) -> Storage:
        """Where it lies."""
        return self.coding.storage

    @property
    def codec(self) -> Codec:
        """The format of its levels."""
        return self.coding.codec

    @property
    def keys(self) -> Keys:
        """Its password."""
        return self.coding.keys
