"""Ed25519 signatures (RFC 8032)."""

from __future__ import annotations

from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from freezer_sdk.model import Buffer

KEY_SIZE: Final = 32
SIGNATURE_SIZE: Final = 64


class SigningKey:
    """A private key.

    Args:
        secret: its 32 bytes.

    Attributes:
        public: the 32 bytes that check its signatures.
    """

    __slots__ = ("_key", "public")

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()

    @classmethod
    def generate(cls) -> Self:
        """A new random key."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    def secret(self) -> bytes:
        """The 32 bytes to keep wrapped."""
        return self._key.private_bytes_raw()

    def sign(self, message: Buffer) -> bytes:
        """A signature of 64 bytes."""
        return self._key.sign(message)


def verify(public: bytes, message: Buffer, signature: Buffer) -> bool:
    """Whether the holder of the key signed the message; anything malformed counts as not."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(bytes(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True
