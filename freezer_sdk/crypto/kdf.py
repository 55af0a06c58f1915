"""Keys from passwords (Argon2id, RFC 9106) and from other keys (HKDF-SHA256, RFC 5869)."""

from __future__ import annotations

import threading
import unicodedata
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from freezer_sdk.errors import ConfigurationError, UnsupportedFormat

MAX_MEMORY_KIB: Final = 1 << 20  # 1 GiB: what a hostile slot can make a reader spend
MAX_TIME: Final = 64
MAX_LANES: Final = 64
SALT_SIZE: Final = 16

_one_at_a_time = threading.Lock()
"""OpenSSL 4.0 hangs for ever when two threads derive with several lanes at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Argon2Params:
    """Costs of Argon2id.

    Attributes:
        memory: KiB, at least 8 for each lane.
        time: passes.
        lanes: degree of parallelism.
    """

    memory: int = 28 * 1024
    time: int = 7
    lanes: int = 4

    def check(self) -> Argon2Params:
        """Refuses costs outside the bounds, before anything is allocated; returns the parameters.

        Raises:
            UnsupportedFormat: out of bounds.
        """
        if not (1 <= self.lanes <= MAX_LANES and 1 <= self.time <= MAX_TIME):
            raise UnsupportedFormat(f"Argon2id with time {self.time} and {self.lanes} lanes is out of bounds")
        if not 8 * self.lanes <= self.memory <= MAX_MEMORY_KIB:
            raise UnsupportedFormat(f"Argon2id with {self.memory} KiB of memory is out of bounds")
        return self


def normalise_password(password: str) -> bytes:
    """What people type, as bytes: non-ASCII blanks become U+0020, then NFC, then UTF-8 (OpaqueString of RFC 8265).

    Compatibility forms (NFKC) stay distinct: folding them would only make different passwords equal.

    Raises:
        ConfigurationError: empty, or not text that UTF-8 can hold.
    """
    if not password:
        raise ConfigurationError("the password is empty")
    blanks = "".join(" " if unicodedata.category(character) == "Zs" else character for character in password)
    try:
        return unicodedata.normalize("NFC", blanks).encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigurationError("the password is not valid UTF-8") from None


def argon2id(password: bytes, salt: bytes, params: Argon2Params, *, length: int = 32) -> bytes:
    """A key from a password.

    Args:
        password: see :func:`normalise_password`.
        salt: random, 16 bytes.

    Raises:
        UnsupportedFormat: costs out of bounds (nothing was allocated), or more memory than there is.
    """
    params.check()
    kdf = Argon2id(salt=salt, length=length, iterations=params.time, lanes=params.lanes, memory_cost=params.memory)
    try:
        with _one_at_a_time:
            return kdf.derive(password)
    except MemoryError:
        raise UnsupportedFormat(f"Argon2id needs {params.memory // 1024} MiB of memory, which is not there") from None


def hkdf(key: bytes, *, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """A key from another key (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(key)
