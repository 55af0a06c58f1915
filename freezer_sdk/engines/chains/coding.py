"""From a codec's bytes to an object of the storage, and back; in one pass, with little memory."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.crypto.openssl import OpenSslDecryptor, OpenSslEncryptor
from freezer_sdk.engines.chains.codec import Codec, OpenSslPassword
from freezer_sdk.engines.chains.decoding import DecodingReader, Source
from freezer_sdk.engines.chains.encoding import Nowhere, StreamWriter
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

_LOOKED_AT: Final = 256 << 10  # bytes of a stream that a password is tried on
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
        return StreamWriter(encoder, None, Nowhere())

    def _encryptor(self, level: LevelId, cipher: str) -> Transform | None:
        if cipher == SEALED:
            return self.keys.seal().sealer(seal_context(level, "data"))
        if cipher == OPENSSL:
            first = self.codec.passwords(self.keys.text())[0]
            return OpenSslEncryptor(first.password, digest=first.digest)
        return None


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
        """The original's document; where that is damaged, what the record says; empty when it is missing.

        Raises:
            IntegrityError, StorageError.
        """
        data = self._coding.small(self._id.metadata, limit=_MAX_METADATA)
        if data is None:
            return {}
        record = self._usable_record()
        if record is not None and hashlib.sha256(data).hexdigest() != record.metadata.sha256:
            return self._coding.codec.metadata(compression=record.compression, encrypted=record.cipher != NONE)
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
    def open(self, *, compare: bool = True) -> Iterator[Reader]:
        """The stream from its start.

        Args:
            compare: at its end, what was stored is compared with the record.

        Raises:
            WrongPassword, IntegrityError, UnsupportedFormat, StorageError: also from ``read``.
        """
        record = self._usable_record() if compare else None
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
    def _source(self, expected: Stored | None) -> Iterator[Source]:
        try:
            with self._coding.storage.open(self._id.data) as reader, StreamHash() as digest:
                yield Source(reader, expected, digest)
        except ObjectNotFound as error:
            raise IntegrityError(f"{self._id.data} is missing: {error.message}") from error

    def _decryptor(self, source: Source) -> Transform | None:
        """Chosen by looking at the first bytes, which the source gives once more."""
        cipher = self.cipher
        if cipher == SEALED:
            return self._coding.keys.seal().opener(seal_context(self._id, "data"))
        if cipher == NONE:
            return None
        if self._password is None:
            self._password = self._find_password(source.peek(_LOOKED_AT))
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
