"""AES-256-GCM with counter nonces, without copies and without holding the interpreter lock."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

KEY_SIZE: Final = 32
TAG_SIZE: Final = 16


class Aead:
    """One key. A counter must never seal twice: the caller counts. May be used from several threads.

    Args:
        key: 32 bytes.
    """

    __slots__ = ("_cipher",)

    def __init__(self, key: Buffer) -> None:
        if len(key) != KEY_SIZE:
            raise ValueError("AES-256-GCM takes a key of 32 bytes")
        self._cipher = AESGCM(key)

    def seal(self, counter: int, plaintext: Buffer, aad: Buffer = b"", *, headroom: int = 0) -> bytearray:
        """Encrypts.

        Args:
            counter: the nonce, 0 to 2**96-1.
            aad: authenticated, not encrypted.
            headroom: zero bytes left in front, for a header that the caller fills in.

        Returns:
            Headroom, ciphertext of the plaintext's length, tag of 16 bytes.
        """
        sealed = bytearray(headroom + len(plaintext) + TAG_SIZE)
        with memoryview(sealed)[headroom:] as target:
            self._cipher.encrypt_into(counter.to_bytes(12, "big"), plaintext, aad, target)
        return sealed

    def seal_into(self, counter: int, plaintext: Buffer, aad: Buffer, target: memoryview) -> None:
        """As :meth:`seal`, into memory of the caller's: 16 bytes longer than the plaintext, and apart from it."""
        self._cipher.encrypt_into(counter.to_bytes(12, "big"), plaintext, aad, target)

    def open(self, counter: int, ciphertext: Buffer, aad: Buffer = b"") -> bytearray:
        """Decrypts and authenticates.

        Raises:
            IntegrityError: not what this key sealed under this counter and associated data.
        """
        size = len(ciphertext) - TAG_SIZE
        if size < 0:
            raise IntegrityError("encrypted data are cut short")
        plaintext = bytearray(size)
        try:
            self._cipher.decrypt_into(counter.to_bytes(12, "big"), ciphertext, aad, plaintext)
        except InvalidTag:
            raise IntegrityError("encrypted data are damaged or forged") from None
        return plaintext
