"""Compressor ``zlib``: DEFLATE in a zlib frame (RFC 1950)."""

from __future__ import annotations

import zlib

from freezer_sdk.compressors._shared import CompressObject, DecompressObject, ObjectCompressor, check_level
from freezer_sdk.model import Buffer


class ZlibCompressor(ObjectCompressor):
    """Readable everywhere."""

    name = "zlib"
    api_version = 1
    summary = "DEFLATE: readable everywhere"
    id = "zlib"
    levels = (0, 9)
    default_level = 6
    errors = (zlib.error,)

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        return zlib.compress(data, check_level(self, level))

    def _compress_object(self, level: int) -> CompressObject:
        return zlib.compressobj(level)

    def _decompress_object(self) -> DecompressObject:
        return _Inflate()


class _Inflate:
    """``zlib.decompressobj`` with the interface of the other modules: it keeps what it could not take yet."""

    def __init__(self) -> None:
        self._source = zlib.decompressobj()

    @property
    def eof(self) -> bool:
        return self._source.eof

    @property
    def unused_data(self) -> bytes:
        return self._source.unused_data

    def decompress(self, data: Buffer, max_length: int = -1) -> bytes:
        kept = self._source.unconsumed_tail
        return self._source.decompress(kept + data if kept else data, max_length)
