"""Authenticated streams under a password: ``docs/reference/sealed-streams.md`` describes every byte.

A header of 136 bytes, then chunks under AES-256-GCM (the STREAM construction: the nonce counts the chunks and marks the
last one). A chunk cannot be changed, moved, left out, added or taken over from another stream without notice, and
nothing leaves an :class:`Opener` before it is authenticated. The header tells a wrong password from damage.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import threading
from dataclasses import dataclass
from typing import Final

from freezer_sdk.crypto.aead import TAG_SIZE, Aead
from freezer_sdk.crypto.kdf import SALT_SIZE, Argon2Params, argon2id, hkdf, normalise_password
from freezer_sdk.errors import IntegrityError, UnsupportedFormat, WrongPassword
from freezer_sdk.model import Buffer

MAGIC: Final = b"FZSEALED"
HEADER_SIZE: Final = 136
DEFAULT_CHUNK: Final = 18
"""Chunks hold 2**18 bytes: small enough to keep in memory, large enough to be fast."""
CHUNKS: Final = range(12, 25)
MAX_CHUNKS: Final = 1 << 32  # messages that one key of AES-GCM may protect

_VERSION: Final = 1
_ARGON2ID: Final = 1
_AES_256_GCM: Final = 1
_FIXED: Final = struct.Struct(">8sBBBBIII16s32s32s")  # all but the digest of it
_STREAM_SALT: Final = 32
_CHECK_INFO: Final = b"freezer-sdk sealed stream 1: password check"
_KEY_INFO: Final = b"freezer-sdk sealed stream 1: key"


@dataclass(frozen=True, slots=True)
class _Secret:
    """What the password becomes with one salt."""

    salt: bytes
    params: Argon2Params
    key: bytes
    check: bytes

    def __repr__(self) -> str:
        return f"_Secret(salt={self.salt.hex()})"


class SealKeys:
    """A password, and what was derived from it: the expensive step is done once for each salt. Takes several threads.

    What it seals shares the salt of what it has opened before with the same costs, so that a run which continues a
    chain derives once.

    Args:
        password: text; see :func:`freezer_sdk.crypto.kdf.normalise_password`.
        params: costs of Argon2id for what is sealed.

    Raises:
        ConfigurationError: the password is empty or no valid text.
    """

    def __init__(self, password: str, *, params: Argon2Params | None = None) -> None:
        self._password = normalise_password(password)
        self._params = (params or Argon2Params()).check()
        self._lock = threading.Lock()
        self._known: dict[tuple[bytes, Argon2Params], _Secret] = {}
        self._own: _Secret | None = None

    def sealer(self, context: bytes, *, chunk: int = DEFAULT_CHUNK) -> Sealer:
        """Encrypts a new stream.

        Args:
            context: what the stream is and where it belongs; :meth:`opener` needs the same.
            chunk: of how many bytes a chunk is, as a power of two: 12 to 24.

        Raises:
            ValueError: another size.
        """
        if chunk not in CHUNKS:
            raise ValueError(f"a chunk has 2**{CHUNKS[0]} to 2**{CHUNKS[-1]} bytes")
        secret = self._for_sealing()
        params = secret.params
        fixed = _FIXED.pack(
            MAGIC,
            _VERSION,
            _ARGON2ID,
            _AES_256_GCM,
            chunk,
            params.memory,
            params.time,
            params.lanes,
            secret.salt,
            secrets.token_bytes(_STREAM_SALT),
            secret.check,
        )
        header = fixed + hashlib.sha256(fixed).digest()
        return Sealer(header, _stream_key(secret, header, context), size=1 << chunk)

    def opener(self, context: bytes) -> Opener:
        """Decrypts a stream.

        Args:
            context: as it was sealed.
        """
        return Opener(self, context)

    def _for_sealing(self) -> _Secret:
        with self._lock:
            if self._own is None:
                self._own = self._derive(secrets.token_bytes(SALT_SIZE), self._params)
            return self._own

    def _for_opening(self, salt: bytes, params: Argon2Params, check: bytes) -> _Secret:
        with self._lock:
            secret = self._derive(salt, params)
            if not hmac.compare_digest(secret.check, check):
                raise WrongPassword(
                    "the password is not the one that this was encrypted with",
                    hint="each backup opens with the password that it was made with",
                )
            if self._own is None and params == self._params:
                self._own = secret
            return secret

    def _derive(self, salt: bytes, params: Argon2Params) -> _Secret:
        found = self._known.get((salt, params))
        if found is None:
            key = argon2id(self._password, salt, params)
            found = _Secret(salt, params, key, hkdf(key, salt=b"", info=_CHECK_INFO))
            self._known[salt, params] = found
        return found


class Sealer:
    """Encrypts one stream; holds less than a chunk in memory."""

    def __init__(self, header: bytes, key: bytes, *, size: int) -> None:
        self._header = header
        self._aead = Aead(key)
        self._size = size
        self._kept = bytearray()
        self._number = 0

    def update(self, data: Buffer) -> bytes:
        """Takes bytes in, gives what is ready.

        Raises:
            UnsupportedFormat: more than a stream can hold.
        """
        pieces: list[Buffer] = [self._take_header()]
        view = memoryview(data).cast("B")
        while len(self._kept) + len(view) > self._size:  # a full chunk that cannot be the last one
            if self._kept:
                room = self._size - len(self._kept)
                self._kept += view[:room]
                pieces.append(self._seal(self._kept, last=False))
                self._kept, view = bytearray(), view[room:]
            else:
                pieces.append(self._seal(view[: self._size], last=False))
                view = view[self._size :]
        self._kept += view
        return b"".join(pieces)

    def finalize(self) -> bytes:
        """Gives the rest; the object is not used afterwards."""
        return b"".join((self._take_header(), self._seal(self._kept, last=True)))

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header

    def _seal(self, plaintext: Buffer, *, last: bool) -> bytearray:
        if self._number == MAX_CHUNKS:
            raise UnsupportedFormat(f"a sealed stream cannot hold more than {MAX_CHUNKS} chunks of {self._size} bytes")
        sealed = self._aead.seal(_nonce(self._number, last=last), plaintext)
        self._number += 1
        return sealed


class Opener:
    """Decrypts one stream; holds one chunk in memory, and gives authenticated bytes only."""

    def __init__(self, keys: SealKeys, context: bytes) -> None:
        self._keys = keys
        self._context = context
        self._kept = bytearray()
        self._aead: Aead | None = None
        self._sealed = 0  # bytes of a sealed chunk
        self._number = 0

    def update(self, data: Buffer) -> bytes:
        """Takes bytes in, gives what is authenticated.

        Raises:
            WrongPassword: nothing came out yet.
            UnsupportedFormat: a newer version wrote it.
            IntegrityError: damaged, forged, cut, or another stream than should be here. What came out before is right.
        """
        view = memoryview(data).cast("B")
        if self._aead is None:
            missing = HEADER_SIZE - len(self._kept)
            self._kept += view[:missing]
            view = view[missing:]
            if len(self._kept) < HEADER_SIZE:
                return b""
            self._begin(bytes(self._kept))
            self._kept = bytearray()
        pieces: list[Buffer] = []
        while len(self._kept) + len(view) > self._sealed:  # more follows: it is not the last chunk
            if self._kept:
                room = self._sealed - len(self._kept)
                self._kept += view[:room]
                pieces.append(self._open(self._kept))
                self._kept, view = bytearray(), view[room:]
            else:
                pieces.append(self._open(view[: self._sealed]))
                view = view[self._sealed :]
        self._kept += view
        return b"".join(pieces)

    def finalize(self) -> bytes:
        """Gives the rest; only now the stream is known to be whole. The object is not used afterwards.

        Raises:
            IntegrityError: damaged, forged or cut short.
        """
        if self._aead is None:
            raise IntegrityError(f"an encrypted stream is cut short within its header: {len(self._kept)} bytes")
        if len(self._kept) < TAG_SIZE + min(self._number, 1):  # only the first chunk may be empty
            raise IntegrityError(f"an encrypted stream is cut short in its chunk {self._number}")
        try:
            return bytes(self._aead.open(_nonce(self._number, last=True), self._kept))
        except IntegrityError:
            raise IntegrityError(self._describe_end(self._aead)) from None

    def _begin(self, header: bytes) -> None:
        magic, version, kdf, cipher, chunk, memory, time, lanes, salt, _, check = _FIXED.unpack_from(header)
        if magic != MAGIC:
            raise IntegrityError("this is no sealed stream: its first bytes are others")
        if version != _VERSION:
            raise UnsupportedFormat(f"version {version} of sealed streams is not known to this version")
        if not hmac.compare_digest(hashlib.sha256(header[: _FIXED.size]).digest(), header[_FIXED.size :]):
            raise IntegrityError("the header of an encrypted stream is damaged")
        if kdf != _ARGON2ID or cipher != _AES_256_GCM or chunk not in CHUNKS:
            raise UnsupportedFormat(f"a sealed stream of kind {kdf}/{cipher}/{chunk} is not known to this version")
        params = Argon2Params(memory=memory, time=time, lanes=lanes).check()
        secret = self._keys._for_opening(salt, params, check)
        self._aead = Aead(_stream_key(secret, header, self._context))
        self._sealed = (1 << chunk) + TAG_SIZE

    def _open(self, chunk: Buffer) -> bytearray:
        assert self._aead is not None
        try:
            plaintext = self._aead.open(_nonce(self._number, last=False), chunk)
        except IntegrityError:
            where = f"chunk {self._number} of an encrypted stream is damaged or forged"
            raise IntegrityError(where if self._number else f"{where}, or the stream belongs elsewhere") from None
        self._number += 1
        return plaintext

    def _describe_end(self, aead: Aead) -> str:
        try:
            aead.open(_nonce(self._number, last=False), self._kept)
        except IntegrityError:
            elsewhere = "" if self._number else ", or the stream belongs elsewhere"
            return f"the end of an encrypted stream (chunk {self._number}) is damaged, forged or missing{elsewhere}"
        return f"an encrypted stream is cut short after chunk {self._number}"


def _stream_key(secret: _Secret, header: bytes, context: bytes) -> bytes:
    stream_salt = header[40 : 40 + _STREAM_SALT]
    return hkdf(secret.key, salt=stream_salt, info=_KEY_INFO + header[_FIXED.size :] + context)


def _nonce(number: int, *, last: bool) -> int:
    """11 bytes that count the chunks, one that marks the last; as the number that :class:`Aead` takes."""
    return number << 8 | last
