"""Compressor ``xz``: LZMA2 in one .xz stream."""

from __future__ import annotations

import lzma

from freezer_sdk.compressors._shared import CompressObject, DecompressObject, ObjectCompressor, check_level
from freezer_sdk.model import Buffer

_DICTIONARY_LOGS = (18, 20, 21, 22, 22, 23, 23, 24, 25, 26)  # of liblzma's presets 0 to 9
_SMALLEST_DICTIONARY = 4096
_DECODER_MEMORY = 72 << 20  # what level 9 needs


class XzCompressor(ObjectCompressor):
    """Slowest, smallest."""

    name = "xz"
    api_version = 1
    summary = "LZMA2: slowest, smallest"
    id = "xz"
    levels = (0, 9)
    default_level = 6
    errors = (lzma.LZMAError,)

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        level = check_level(self, level)
        # a dictionary larger than the data only costs both sides memory
        dictionary = max(_SMALLEST_DICTIONARY, min(1 << _DICTIONARY_LOGS[level], memoryview(data).nbytes))
        filters = [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": dictionary}]
        return lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32, filters=filters)

    def _compress_object(self, level: int) -> CompressObject:
        return lzma.LZMACompressor(lzma.FORMAT_XZ, lzma.CHECK_CRC32, preset=level)

    def _decompress_object(self) -> DecompressObject:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_DECODER_MEMORY)
