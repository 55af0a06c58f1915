"""Compressor ``gzip``: DEFLATE in a gzip member (RFC 1952), as ``gzip`` and ``tar -z`` read it.

With the library ``isal`` (extra ``fast``) levels 1 to 3 and reading are several times as fast; what is written is plain
gzip with or without it. A stream may be several members one after the other, and end in zeros, as ``gzip`` allows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final

from freezer_sdk.compressors._shared import CompressObject, DecompressObject, Inflate, ObjectCompressor, check_level
from freezer_sdk.compressors.base import Decoder
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # it is only faster
    igzip_lib = isal_zlib = None  # type: ignore[assignment,unused-ignore]

_MAGIC: Final = b"\x1f\x8b"
_WRAPPED: Final = 31  # zlib's way to ask for a gzip member with the largest window
_FASTEST: Final = 3  # the highest level that isal knows
_ERRORS: Final[tuple[type[Exception], ...]] = (zlib.error, getattr(isal_zlib, "error", zlib.error))


class GzipCompressor(ObjectCompressor):
    """What the original Freezer's tar engine uses unless told otherwise."""

    name = "gzip"
    api_version = 1
    summary = "gzip: readable everywhere, fast with the extra 'fast'"
    id = "gzip"
    levels = (1, 9)
    default_level = 2
    errors = _ERRORS

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        level = check_level(self, level)
        module: Any = isal_zlib if isal_zlib is not None and level <= _FASTEST else zlib
        frame: bytes = module.compress(data, level, _WRAPPED)
        return frame

    def decoder(self) -> Decoder:
        """A new decoder for a stream of one member or more."""
        return _Members(self._decompress_object)

    def _compress_object(self, level: int) -> CompressObject:
        module: Any = isal_zlib if isal_zlib is not None and level <= _FASTEST else zlib
        made: CompressObject = module.compressobj(level, zlib.DEFLATED, _WRAPPED)
        return made

    def _decompress_object(self) -> DecompressObject:
        if isal_zlib is None:
            return Inflate(_WRAPPED)
        made: DecompressObject = igzip_lib.IgzipDecompressor(igzip_lib.DECOMP_GZIP)
        return made


class _Members:
    """Decodes members one after the other."""

    def __init__(self, begin: Callable[[], DecompressObject]) -> None:
        self._begin = begin
        self._member = begin()
        self._kept = b""  # behind the end of a member
        self._padded = False

    @property
    def finished(self) -> bool:
        return self._member.eof and not self._kept

    def write(self, data: Buffer, *, limit: int) -> bytes:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        while True:
            if self._member.eof:
                data, self._kept = self._kept + data, b""
                if not self._begin_next(data):
                    return b""
            try:
                plain = self._member.decompress(data, limit)
            except _ERRORS as error:
                raise IntegrityError(f"a gzip stream is damaged: {error}") from error
            if self._member.eof:
                self._kept = self._member.unused_data
            if plain or not self._kept:
                return plain
            data = b""

    def _begin_next(self, data: bytes) -> bool:
        """Whether there is anything behind a member but the zeros that may end a stream."""
        rest = data.lstrip(b"\0") if self._padded or data.startswith(b"\0") else data
        self._padded = self._padded or len(rest) != len(data)
        if rest and (self._padded or not rest.startswith(_MAGIC[: len(rest)])):
            raise IntegrityError("bytes follow the end of a gzip stream")
        if rest:
            self._member = self._begin()
        return bool(rest)
