"""Compressor ``zlib``: DEFLATE in a zlib frame (RFC 1950)."""

from __future__ import annotations

import zlib

from freezer_sdk.compressors._shared import CompressObject, DecompressObject, Inflate, ObjectCompressor, check_level
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
        return Inflate()
