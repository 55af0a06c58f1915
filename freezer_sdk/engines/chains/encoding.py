"""From a codec's bytes to an upload: compressed, encrypted, hashed."""

from __future__ import annotations

import hashlib
from typing import Final, Protocol

from freezer_sdk.compressors.base import Encoder
from freezer_sdk.engines.chains.keys import Transform
from freezer_sdk.engines.chains.record import Stored
from freezer_sdk.model import Buffer

_SENT: Final = 256 << 10  # gathered before it is written to the storage


class Nowhere:
    """An upload that stores nothing."""

    def write(self, data: Buffer) -> None:
        """Takes bytes."""

    def commit(self) -> None:
        """Ends it."""


class _Target(Protocol):
    """Of an upload, what is needed here."""

    def write(self, data: Buffer) -> None: ...

    def commit(self) -> object: ...


class StreamWriter:
    """Compresses, encrypts, hashes and stores what a codec gives."""

    def __init__(self, encoder: Encoder, encryptor: Transform | None, upload: _Target) -> None:
        self._encoder = encoder
        self._encryptor = encryptor
        self._upload = upload
        self._hash = hashlib.sha256()
        self._kept = bytearray()
        self._size = 0
        self.raw_size = 0

    @property
    def size(self) -> int:
        """Bytes that were given to the storage."""
        return self._size

    def write(self, data: Buffer) -> None:
        """Takes bytes of the stream.

        Raises:
            StorageError.
        """
        self.raw_size += memoryview(data).nbytes
        self._encrypt(self._encoder.write(data))

    def commit(self) -> Stored:
        """Ends the stream and makes the object visible.

        Raises:
            StorageError.
        """
        self._encrypt(self._encoder.finish())
        if self._encryptor is not None:
            self._kept += self._encryptor.finalize()
        self._send()
        self._upload.commit()
        return Stored(size=self._size, sha256=self._hash.hexdigest())

    def _encrypt(self, data: bytes) -> None:
        if data:
            self._kept += data if self._encryptor is None else self._encryptor.update(data)
        if len(self._kept) >= _SENT:
            self._send()

    def _send(self) -> None:
        kept, self._kept = self._kept, bytearray()
        self._hash.update(kept)
        self._size += len(kept)
        self._upload.write(kept)
