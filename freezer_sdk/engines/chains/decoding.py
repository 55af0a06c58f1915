"""From a stored object to the bytes of a codec: decrypted, decompressed, compared with what was stored."""

from __future__ import annotations

from typing import Final

from freezer_sdk.compressors.base import Decoder
from freezer_sdk.engines.chains.keys import Transform
from freezer_sdk.engines.chains.record import Stored
from freezer_sdk.errors import ChecksumMismatch, IntegrityError
from freezer_sdk.storages.base import Reader
from freezer_sdk.streams.hashing import StreamHash

_BLOCK: Final = 256 << 10  # read from the storage at once
_PLAIN: Final = 256 << 10  # decoded at once; what fits a cache is handed on twice as fast as a MiB
_STEP: Final = 64 << 10  # given to the decoder at once: where it finds damage, this much is lost before it


class Source:
    """The stored bytes: hashed where that is compared with anything, and the first ones can be looked at."""

    def __init__(self, reader: Reader, expected: Stored | None, digest: StreamHash) -> None:
        self._reader = reader
        self._expected = expected
        self._peeked = b""
        self._hash = digest

    def peek(self, size: int) -> bytes:
        """The first bytes, which the next read gives again."""
        while len(self._peeked) < size and (data := self._get(size - len(self._peeked))):
            self._peeked += data
        return self._peeked

    def read(self) -> bytes:
        """The next bytes; ``b""`` at the end."""
        data, self._peeked = self._peeked, b""
        data = data or self._get(_BLOCK)
        if self._expected is not None:
            self._hash.update(data)
        return data

    @property
    def matches(self) -> bool:
        """Whether all that was read is what was stored, as far as that is known."""
        return self._expected in (None, Stored(size=self._hash.size, sha256=self._hash.hexdigest()))

    def _get(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except ChecksumMismatch as error:
            raise IntegrityError(error.message, hint=error.hint) from error


class DecodingReader:
    """Decrypts and decompresses. What decodes is given before damage is told.

    Args:
        padding: bytes that may follow the end of the compressed content.
    """

    def __init__(
        self,
        source: Source,
        decryptor: Transform | None,
        decoder: Decoder,
        *,
        name: str,
        padding: int = 0,
    ) -> None:
        self._source = source
        self._decryptor = decryptor
        self._decoder = decoder
        self._name = name
        self._padding = padding
        self._input = memoryview(b"")
        self._held = b""  # may be padding
        self._more = False  # the decoder may have more inside
        self._ended = False
        self._failure: Exception | None = None
        self._plain: bytes | memoryview = b""

    def read(self, size: int = -1) -> bytes:
        """See :class:`~freezer_sdk.storages.base.Reader`.

        Raises:
            WrongPassword, IntegrityError, StorageError.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(_PLAIN), b""))
        while not self._plain and size:
            if self._failure is not None:
                raise self._failure
            if self._ended:
                return b""
            try:
                self._plain = self._next()
            except IntegrityError as error:
                self._failure = error
        if isinstance(self._plain, bytes) and len(self._plain) <= size:  # mostly; not copied
            whole, self._plain = self._plain, b""
            return whole
        plain = memoryview(self._plain)
        self._plain = plain[size:]
        return bytes(plain[:size])

    def _next(self) -> bytes:
        """What comes next, or nothing yet."""
        if self._more:
            plain = self._decoder.write(b"", limit=_PLAIN)
            self._more = bool(plain)
            return plain
        if not self._input:
            data = self._source.read()
            if not data:
                return self._end()
            decrypted = data if self._decryptor is None else self._decryptor.update(data)
            self._input = memoryview(self._held_back(decrypted))
        data, self._input = bytes(self._input[:_STEP]), self._input[_STEP:]
        return self._decode(data)

    def _held_back(self, data: bytes) -> bytes:
        if not self._padding:
            return data
        data = self._held + data
        self._held = data[-self._padding :]
        return data[: -self._padding]

    def _decode(self, data: bytes) -> bytes:
        if not data:
            return b""
        self._more = True
        return self._decoder.write(data, limit=_PLAIN)

    def _end(self) -> bytes:
        """The end of what is stored: gives the rest, then looks whether all was there."""
        if self._decryptor is not None:
            decryptor, self._decryptor = self._decryptor, None
            self._held += decryptor.finalize()
        while self._held and not self._decoder.finished:
            step = 1 if self._padding else _STEP  # one by one, as soon as something may follow the end
            data, self._held = self._held[:step], self._held[step:]
            if plain := self._decode(data):
                return plain
        self._ended = True
        if not self._decoder.finished:
            raise IntegrityError(f"{self._name} is cut short")
        if not self._source.matches:
            raise IntegrityError(f"{self._name} is damaged: it is not what was stored")
        return b""
