"""The stream of ``openssl enc -aes-256-cfb``: for exchange with the original Freezer, which writes and reads it.

``Salted__``, a salt of 8 bytes, then AES-256 in CFB mode with full blocks and no padding. Key and IV come from
``EVP_BytesToKey`` of OpenSSL with one round. Nothing in it is authenticated: who can change the stream can change what
comes out, and a wrong password gives noise instead of an error. New stores use :mod:`freezer_sdk.crypto.sealed`.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Buffer

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:  # before cryptography moved it there
    from cryptography.hazmat.primitives.ciphers.modes import CFB  # type: ignore[assignment,no-redef,unused-ignore]

MAGIC: Final = b"Salted__"
SALT_SIZE: Final = 8
HEADER_SIZE: Final = len(MAGIC) + SALT_SIZE
DIGESTS: Final = ("sha256", "md5")
"""What ``openssl enc`` hashes passwords with unless told otherwise: SHA-256 since 1.1.0, MD5 before.

The stream does not tell which."""

_KEY_SIZE: Final = 32
_IV_SIZE: Final = 16


class OpenSslEncryptor:
    """Encrypts a stream as ``openssl enc -aes-256-cfb -md DIGEST`` does.

    Args:
        password: the bytes that are hashed; whether a line end belongs to them differs between engines.
        digest: ``sha256`` or ``md5``.
        salt: 8 bytes, for tests; random unless given. A salt must not be used twice.

    Raises:
        ConfigurationError: unknown digest, an empty password, or a salt of another length.
    """

    def __init__(self, password: bytes, *, digest: str = "sha256", salt: bytes | None = None) -> None:
        salt = secrets.token_bytes(SALT_SIZE) if salt is None else bytes(salt)
        if len(salt) != SALT_SIZE:
            raise ConfigurationError(f"a salt of {SALT_SIZE} bytes is needed, not one of {len(salt)}")
        self._context: CipherContext = _cipher(password, salt, digest).encryptor()
        self._header = MAGIC + salt

    def update(self, data: Buffer) -> bytes:
        """Takes bytes in, gives what is ready: the header first, then as many bytes as came in."""
        encrypted = self._context.update(data)
        if self._header:
            encrypted, self._header = self._header + encrypted, b""
        return encrypted

    def finalize(self) -> bytes:
        """Gives the rest; the object is not used afterwards."""
        return self.update(b"") + self._context.finalize()


class OpenSslDecryptor:
    """Decrypts a stream of ``openssl enc -aes-256-cfb``. Any password and digest give *something*: the caller looks
    whether it makes sense.

    Args:
        password: the bytes that are hashed.
        digest: ``sha256`` or ``md5``.

    Raises:
        ConfigurationError: unknown digest, or an empty password.
    """

    def __init__(self, password: bytes, *, digest: str) -> None:
        _check(password, digest)
        self._password, self._digest = bytes(password), digest
        self._header = bytearray()
        self._context: CipherContext | None = None

    def update(self, data: Buffer) -> bytes:
        """Takes bytes in, gives as many decrypted ones as there are behind the header.

        Raises:
            IntegrityError: it does not begin as such a stream does.
        """
        if self._context is not None:
            return self._context.update(data)
        view = memoryview(data).cast("B")
        missing = HEADER_SIZE - len(self._header)
        self._header += view[:missing]
        if not MAGIC.startswith(self._header[: len(MAGIC)]):
            raise IntegrityError("this is no encrypted stream: it does not begin with 'Salted__'")
        if len(self._header) < HEADER_SIZE:
            return b""
        self._context = _cipher(self._password, bytes(self._header[len(MAGIC) :]), self._digest).decryptor()
        return self._context.update(view[missing:])

    def finalize(self) -> bytes:
        """Gives the rest; the object is not used afterwards.

        Raises:
            IntegrityError: it ended within its header.
        """
        if self._context is None:
            raise IntegrityError(f"an encrypted stream is cut short: it has {len(self._header)} bytes")
        return self._context.finalize()


def derive_key(password: bytes, salt: bytes, digest: str) -> tuple[bytes, bytes]:
    """Key (32 bytes) and IV (16 bytes) as OpenSSL's ``EVP_BytesToKey`` makes them with one round.

    Raises:
        ConfigurationError: unknown digest, or an empty password.
    """
    _check(password, digest)
    block, material = b"", b""
    while len(material) < _KEY_SIZE + _IV_SIZE:
        block = hashlib.new(digest, block + password + salt, usedforsecurity=False).digest()
        material += block
    return material[:_KEY_SIZE], material[_KEY_SIZE : _KEY_SIZE + _IV_SIZE]


def _check(password: bytes, digest: str) -> None:
    if digest not in DIGESTS:
        raise ConfigurationError(f"{digest!r} is no digest of OpenSSL streams", hint=f"one of {', '.join(DIGESTS)}")
    if not password:
        raise ConfigurationError("the password is empty")


def _cipher(password: bytes, salt: bytes, digest: str) -> Cipher[CFB]:
    key, vector = derive_key(password, salt, digest)
    return Cipher(AES(key), CFB(vector))
