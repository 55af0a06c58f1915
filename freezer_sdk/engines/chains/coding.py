"""From a codec's bytes to an object of the storage, and back; in one pass, with little memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

from freezer_sdk.compressors.base import Compressor, Decoder, Encoder
from freezer_sdk.crypto.openssl import OpenSslDecryptor, OpenSslEncryptor
from freezer_sdk.engines.chains.codec import Codec, OpenSslPassword
from freezer_sdk.engines.chains.keys import Keys, Transform, seal_context
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.record import MAX_SIZE, Record, Stored
from freezer_sdk.errors import ChecksumMismatch, IntegrityError, ObjectNotFound, UnsupportedFormat, WrongPassword
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import Reader, Storage
from freezer_sdk.streams.hashing import StreamHash

NONE: Final = "none"
OPENSSL: Final = "openssl"
SEALED: Final = "sealed"

_BLOCK: Final = 256 << 10  # read from the storage at once
_PLAIN: Final = 256 << 10  # decoded at once; what fits a cache is handed on twice as fast as a MiB
_STEP: Final = 64 << 10  # given to the decoder at once: where it finds damage, this much is lost before it
_SENT: Final = 256 << 10  # gathered before it is written to the storage
_MAX_METADATA: Final = 1 << 20
_MAGIC: Final = {
    "gzip": (b"\x1f\x8b\x08",),
    "zlib": (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),
    "bzip2": (b"BZh",),
    "xz": (b"\xfd7zXZ\0",),
}
"""How compressed content begins: the only thing that tells whether an OpenSSL password fits."""


@dataclass(frozen=True, kw_only=True)
class Coding:
    """What streams of one store are made with.

    Attributes:
        compressor: an installed one by its id; raises UnsupportedFormat.
        segment_size: bytes of a segment, where streams lie in segments.
    """

    storage: Storage
    codec: Codec
    keys: Keys
    compressor: Callable[[str], Compressor]
    segment_size: int = 32 << 20

    def stream(self, level: LevelId) -> StoredLevel:
        """A stored level, to be read."""
        return StoredLevel(self, level)

    def record(self, level: LevelId) -> Record | None:
        """What was recorded beyond the original's metadata; ``None`` for a level of the original.

        Raises:
            WrongPassword, IntegrityError, StorageError.
        """
        data = self.small(level.record, limit=MAX_SIZE)
        if data is None:
            return None
        return Record.decode(self.opened(level, "record", data) if level.sealed else data, level)

    def small(self, name: str, *, limit: int | None = None) -> bytes | None:
        """A whole object, or ``None`` where there is none.

        Raises:
            IntegrityError: larger than it can be, or unreadable.
            StorageError.
        """
        try:
            data = self.storage.get(name, length=None if limit is None else limit + 1)
        except ObjectNotFound:
            return None
        except ChecksumMismatch as error:
            raise IntegrityError(error.message, hint=error.hint) from error
        if limit is not None and len(data) > limit:
            raise IntegrityError(f"{name} is larger than it can be")
        return data

    def opened(self, level: LevelId, part: str, data: Buffer) -> bytes:
        """What is sealed in a small object.

        Raises:
            WrongPassword, IntegrityError.
        """
        opener = self.keys.seal().opener(seal_context(level, part))
        return opener.update(data) + opener.finalize()

    def sealed(self, level: LevelId, part: str, data: Buffer) -> bytes:
        """The inverse of :meth:`opened`."""
        sealer = self.keys.seal().sealer(seal_context(level, part))
        return sealer.update(data) + sealer.finalize()

    @contextmanager
    def writing(
        self, level: LevelId, *, compression: str, compression_level: int | None, cipher: str
    ) -> Iterator[StreamWriter]:
        """A new stream on its way into the storage; leaving without ``commit()`` stores nothing.

        Args:
            compression: name in the original's document.
            cipher: :data:`NONE`, :data:`OPENSSL` or :data:`SEALED`.

        Raises:
            ConfigurationError, WrongPassword, StorageError.
        """
        encoder = self.compressor(self.codec.compressions[compression]).encoder(level=compression_level)
        storage, size = self.storage, self.segment_size
        if storage.capabilities.segmented_uploads:
            upload = storage.upload_segmented(level.data, segments=level.segments, size=size)
        else:
            upload = storage.upload(level.data)
        with upload as target:
            yield StreamWriter(encoder, self._encryptor(level, cipher), target)

    def rehearsing(self, *, compression: str, compression_level: int | None) -> StreamWriter:
        """A stream that is made and stored nowhere.

        Raises:
            ConfigurationError.
        """
        encoder = self.compressor(self.codec.compressions[compression]).encoder(level=compression_level)
        return StreamWriter(encoder, None, _Nowhere())

    def _encryptor(self, level: LevelId, cipher: str) -> Transform | None:
        if cipher == SEALED:
            return self.keys.seal().sealer(seal_context(level, "data"))
        if cipher == OPENSSL:
            first = self.codec.passwords(self.keys.text())[0]
            return OpenSslEncryptor(first.password, digest=first.digest)
        return None


class _Nowhere:
    """An upload that stores nothing."""

    def write(self, data: Buffer) -> None:
        return

    def commit(self) -> None:
        return


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


class StoredLevel:
    """A level in a storage: a :class:`~freezer_sdk.engines.chains.codec.LevelStream`."""

    def __init__(self, coding: Coding, level: LevelId) -> None:
        self._coding = coding
        self._id = level
        self._password: OpenSslPassword | None = None

    def __repr__(self) -> str:
        return f"<StoredLevel {self._id.path}>"

    @property
    def id(self) -> LevelId:
        """Where it lies."""
        return self._id

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """The original's document; empty when it is missing.

        Raises:
            IntegrityError, StorageError.
        """
        data = self._coding.small(self._id.metadata, limit=_MAX_METADATA)
        if data is None:
            return {}
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise IntegrityError(f"{self._id.metadata} is damaged: it is no JSON object")
        return document

    @cached_property
    def record(self) -> Record | None:
        """See :meth:`Coding.record`.

        Raises:
            WrongPassword, IntegrityError, StorageError.
        """
        return self._coding.record(self._id)

    @property
    def backup_id(self) -> str:
        """Id of the backup: what the record says, else made of where it lies.

        Raises:
            WrongPassword, StorageError.
        """
        try:
            record = self.record
        except IntegrityError:
            record = None
        return self._id.default_id if record is None else record.backup.id

    @property
    def cipher(self) -> str:
        """How it is encrypted.

        Raises:
            IntegrityError, StorageError.
        """
        if self._id.sealed:
            return SEALED
        return OPENSSL if self.metadata.get("encryption") else NONE

    @property
    def compression(self) -> str:
        """Id of the compressor.

        Raises:
            UnsupportedFormat: a name that this format does not have.
            IntegrityError, StorageError.
        """
        known = self._coding.codec.compressions
        name = self.metadata.get("compression", next(iter(known)))
        if not isinstance(name, str) or name not in known:
            raise UnsupportedFormat(f"{self._id.metadata} names a compression {name!r} that is not known")
        return known[name]

    @contextmanager
    def open(self) -> Iterator[Reader]:
        """The stream from its start; at its end, what was stored is compared with the record.

        Raises:
            WrongPassword, IntegrityError, UnsupportedFormat, StorageError: also from ``read``.
        """
        record = self._usable_record()
        with self._source(None if record is None else record.data) as source:
            decryptor = self._decryptor(source)
            decoder = self._coding.compressor(self.compression).decoder()
            padding = self._coding.codec.padding if self.cipher == OPENSSL else 0
            yield DecodingReader(
                source,
                decryptor,
                decoder,
                name=self._id.data,
                padding=padding,
            )

    def unlock(self) -> None:
        """Looks whether the stream begins as it should, and the password is the right one.

        Raises:
            WrongPassword: it is not, or there is none.
            IntegrityError: it is damaged where it begins.
            UnsupportedFormat, StorageError.
        """
        with self.open() as reader:
            reader.read(1)

    def state(self) -> bytes:
        """What the next level needs to know; empty when there is none.

        Raises:
            WrongPassword, IntegrityError, StorageError.
        """
        name = self._id.engine_metadata
        data = self._coding.small(name)
        record = self.record
        if data is None:
            if record is not None:
                raise IntegrityError(f"{name} is missing")
            return b""
        if record is not None and (len(data), hashlib.sha256(data).hexdigest()) != (
            record.state.size,
            record.state.sha256,
        ):
            raise IntegrityError(f"{name} is damaged: it is not what was stored")
        return self._coding.opened(self._id, "engine_metadata", data) if self._id.sealed else data

    def _usable_record(self) -> Record | None:
        """A damaged record is told by verify; the stream may be whole all the same."""
        with suppress(IntegrityError, WrongPassword):
            return self.record
        return None

    @contextmanager
    def _source(self, expected: Stored | None) -> Iterator[_Source]:
        try:
            with self._coding.storage.open(self._id.data) as reader, StreamHash() as digest:
                yield _Source(reader, expected, digest)
        except ObjectNotFound as error:
            raise IntegrityError(f"{self._id.data} is missing: {error.message}") from error

    def _decryptor(self, source: _Source) -> Transform | None:
        """Chosen by looking at the first bytes, which the source gives once more."""
        cipher = self.cipher
        if cipher == SEALED:
            return self._coding.keys.seal().opener(seal_context(self._id, "data"))
        if cipher == NONE:
            return None
        if self._password is None:
            self._password = self._find_password(source.peek(_BLOCK))
        return OpenSslDecryptor(self._password.password, digest=self._password.digest)

    def _find_password(self, start: bytes) -> OpenSslPassword:
        for each in self._coding.codec.passwords(self._coding.keys.text()):
            plain = OpenSslDecryptor(each.password, digest=each.digest).update(start)
            if not plain or plain.startswith(_MAGIC.get(self.compression, (b"",))):
                return each
        raise WrongPassword(
            f"the password does not open {self._id.data}",
            hint="check the password; the stream has no check of its own, so its first bytes may also be damaged",
        )


class _Source:
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
        source: _Source,
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
