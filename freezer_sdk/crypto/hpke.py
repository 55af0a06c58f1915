"""Sealing to a public key: HPKE in base mode (RFC 9180), one message for each encapsulation."""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from freezer_sdk.errors import IntegrityError, UnsupportedFormat
from freezer_sdk.model import Buffer


class SuiteId(NamedTuple):
    """The registered numbers of RFC 9180."""

    kem: int
    kdf: int
    aead: int


SUITE: Final = SuiteId(0x0020, 0x0001, 0x0002)
"""DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""
KEY_SIZE: Final = 32
OVERHEAD: Final = 32 + 16
"""What sealing adds: the encapsulated key in front, the tag behind."""

_SUITES: Final = {SUITE: Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)}


class KeyPair(NamedTuple):
    """An X25519 key pair, 32 bytes each."""

    private: bytes
    public: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.hex()})"


def generate() -> KeyPair:
    """A new random key pair."""
    key = X25519PrivateKey.generate()
    return KeyPair(key.private_bytes_raw(), key.public_key().public_bytes_raw())


def public_key(private: bytes) -> bytes:
    """The public half of a private key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def seal(public: bytes, plaintext: Buffer, info: bytes, *, suite: SuiteId = SUITE) -> bytes:
    """Encrypts to the holder of a key; anybody can, so who did must be signed elsewhere.

    Args:
        info: binds the purpose; opening needs the same.

    Returns:
        The encapsulated key (32 bytes) and the ciphertext with its tag.

    Raises:
        UnsupportedFormat: unknown suite.
        IntegrityError: the public key is none.
    """
    try:
        return _suite(suite).encrypt(plaintext, X25519PublicKey.from_public_bytes(public), info)
    except ValueError:
        raise IntegrityError("a public key of the repository is not valid") from None


def open(private: bytes, sealed: Buffer, info: bytes, *, suite: SuiteId = SUITE) -> bytes:
    """Decrypts what was sealed to a key.

    Raises:
        UnsupportedFormat: unknown suite.
        IntegrityError: damaged, or sealed to another key or for another purpose.
    """
    try:
        return _suite(suite).decrypt(sealed, X25519PrivateKey.from_private_bytes(private), info)
    except (InvalidTag, ValueError):
        raise IntegrityError("a sealed key is damaged or meant for somebody else") from None


def _suite(suite: SuiteId) -> Suite:
    try:
        return _SUITES[suite]
    except KeyError:
        numbers = "/".join(f"{number:#06x}" for number in suite)
        raise UnsupportedFormat(f"HPKE suite {numbers} is not known to this version") from None
