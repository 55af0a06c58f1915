"""Compressor ``bzip2``: one bzip2 stream."""

from __future__ import annotations

import bz2

from freezer_sdk.compressors._shared import CompressObject, DecompressObject, ObjectCompressor, check_level
from freezer_sdk.model import Buffer


class Bzip2Compressor(ObjectCompressor):
    """Slow; good on text."""

    name = "bzip2"
    api_version = 1
    summary = "bzip2: slow, good on text"
    id = "bzip2"
    levels = (1, 9)
    default_level = 9
    errors = (OSError, ValueError)

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        return bz2.compress(data, check_level(self, level))

    def _compress_object(self, level: int) -> CompressObject:
        return bz2.BZ2Compressor(level)

    def _decompress_object(self) -> DecompressObject:
        return bz2.BZ2Decompressor()
