"""What the compressors here have in common: levels, bounded decoding, streams around the stdlib's objects."""

from __future__ import annotations

import zlib
from abc import abstractmethod
from typing import Protocol

from freezer_sdk.compressors.base import Compressor, Decoder, Encoder
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Buffer


def check_level(compressor: Compressor, level: int | None) -> int:
    """The level, or the default one.

    Raises:
        ConfigurationError: the compressor has no such level.
    """
    if level is None:
        return compressor.default_level
    lowest, highest = compressor.levels
    if not lowest <= level <= highest:
        raise ConfigurationError(f"compressor {compressor.id!r} has no level {level}: {lowest} to {highest}")
    return level


class CompressObject(Protocol):
    """The incremental compressor of ``zlib``, ``bz2``, ``lzma`` and ``compression.zstd``."""

    def compress(self, data: Buffer, /) -> bytes:
        """Takes bytes in, gives what is ready."""

    def flush(self) -> bytes:
        """Gives the rest."""


class DecompressObject(Protocol):
    """The incremental decompressor of ``bz2``, ``lzma`` and ``compression.zstd``."""

    @property
    def eof(self) -> bool:
        """The end marker was seen."""

    @property
    def unused_data(self) -> bytes:
        """What followed the end marker."""

    def decompress(self, data: Buffer, max_length: int = -1) -> bytes:
        """At most ``max_length`` bytes; the rest of ``data`` stays inside."""


class Inflate:
    """``zlib.decompressobj`` with the interface of the other modules: it keeps what it could not take yet.

    Args:
        window: as ``wbits`` of ``zlib``: what kind of frame it is.
    """

    def __init__(self, window: int = zlib.MAX_WBITS) -> None:
        self._source = zlib.decompressobj(window)

    @property
    def eof(self) -> bool:
        """The end marker was seen."""
        return self._source.eof

    @property
    def unused_data(self) -> bytes:
        """What followed the end marker."""
        return self._source.unused_data

    def decompress(self, data: Buffer, max_length: int = -1) -> bytes:
        """At most ``max_length`` bytes; the rest of ``data`` stays inside."""
        kept = self._source.unconsumed_tail
        return self._source.decompress(kept + data if kept else data, max_length)


class StreamEncoder:
    """An :class:`~freezer_sdk.compressors.base.Encoder` around a compress object."""

    def __init__(self, target: CompressObject) -> None:
        self._target = target

    def write(self, data: Buffer) -> bytes:
        """Takes bytes in, gives what is ready."""
        return self._target.compress(data)

    def finish(self) -> bytes:
        """Gives the rest."""
        return self._target.flush()


class StreamDecoder:
    """A :class:`~freezer_sdk.compressors.base.Decoder` around a decompress object."""

    def __init__(self, source: DecompressObject, *, method: str, errors: tuple[type[Exception], ...]) -> None:
        self._source = source
        self._method = method
        self._errors = errors

    @property
    def finished(self) -> bool:
        """The end of the compressed stream was seen."""
        return self._source.eof

    def write(self, data: Buffer, *, limit: int) -> bytes:
        """Takes bytes in, gives at most ``limit`` bytes.

        Raises:
            IntegrityError: damaged, or bytes follow its end.
        """
        if limit < 1:
            raise ValueError("limit must be at least 1")
        if self._source.eof:
            if len(data):
                raise IntegrityError(f"bytes follow the end of a {self._method} stream")
            return b""
        try:
            plain = self._source.decompress(data, limit)
        except self._errors as error:
            raise IntegrityError(f"a {self._method} stream is damaged: {error}") from error
        if self._source.eof and self._source.unused_data:
            raise IntegrityError(f"bytes follow the end of a {self._method} stream")
        return plain


def decompress_exactly(
    source: DecompressObject, data: Buffer, size: int, *, method: str, errors: tuple[type[Exception], ...]
) -> bytes:
    """All of a frame that must give exactly ``size`` bytes; never makes more than one byte beyond them.

    Raises:
        IntegrityError: damaged, trailing bytes, or another length.
    """
    try:
        plain = source.decompress(data, size + 1)
    except errors as error:
        raise IntegrityError(f"a {method} frame is damaged: {error}") from error
    if len(plain) > size:
        raise IntegrityError(f"a {method} frame holds more than the {size} bytes that it should")
    if not source.eof:
        raise IntegrityError(f"a {method} frame is cut short")
    if source.unused_data:
        raise IntegrityError(f"bytes follow the end of a {method} frame")
    if len(plain) != size:
        raise IntegrityError(f"a {method} frame holds {len(plain)} bytes and not the {size} that it should")
    return plain


class ObjectCompressor(Compressor):
    """A compressor made of incremental objects; a subclass gives these and the one-shot call."""

    errors: tuple[type[Exception], ...]

    @abstractmethod
    def _compress_object(self, level: int) -> CompressObject: ...

    @abstractmethod
    def _decompress_object(self) -> DecompressObject: ...

    def decompress(self, data: Buffer, *, size: int) -> bytes:
        """See :meth:`Compressor.decompress`."""
        return decompress_exactly(self._decompress_object(), data, size, method=self.id, errors=self.errors)

    def encoder(self, *, level: int | None = None) -> Encoder:
        """A new encoder for a stream."""
        return StreamEncoder(self._compress_object(check_level(self, level)))

    def decoder(self) -> Decoder:
        """A new decoder for a stream."""
        return StreamDecoder(self._decompress_object(), method=self.id, errors=self.errors)
