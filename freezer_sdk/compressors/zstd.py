"""Compressor ``zstd``: Zstandard (RFC 8878), one frame with its content size recorded."""

from __future__ import annotations

import sys
import threading

from freezer_sdk.compressors._shared import (
    CompressObject,
    DecompressObject,
    ObjectCompressor,
    check_level,
    decompress_exactly,
)
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_SMALLEST_WINDOW_LOG = 10  # the format's own minimum


class _PerThread(threading.local):
    """Compressor objects of one thread: two threads inside one object crash the process."""

    def __init__(self) -> None:
        self.by_level: dict[int, zstd.ZstdCompressor] = {}


class ZstdCompressor(ObjectCompressor):
    """Fast, and the default; negative levels are faster still."""

    name = "zstd"
    api_version = 1
    summary = "Zstandard: fast, good ratio"
    id = "zstd"
    levels = (-7, 22)
    default_level = 3
    errors = (zstd.ZstdError,)

    def __init__(self) -> None:
        self._local = _PerThread()

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        level = check_level(self, level)
        # taken out while in use: an object that failed half-way is not used again
        worker = self._local.by_level.pop(level, None) or zstd.ZstdCompressor(level)
        frame = worker.compress(data, mode=zstd.ZstdCompressor.FLUSH_FRAME)
        self._local.by_level[level] = worker
        return frame

    def decompress(self, data: Buffer, *, size: int) -> bytes:
        """See :meth:`Compressor.decompress`."""
        try:
            recorded = zstd.get_frame_info(data).decompressed_size
        except zstd.ZstdError as error:
            raise IntegrityError(f"a zstd frame is damaged: {error}") from error
        if recorded is not None and recorded != size:
            raise IntegrityError(f"a zstd frame says it holds {recorded} bytes and not the {size} that it should")
        window = max((size - 1).bit_length(), _SMALLEST_WINDOW_LOG)
        source = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: window})
        return decompress_exactly(source, data, size, method=self.id, errors=self.errors)

    def _compress_object(self, level: int) -> CompressObject:
        return zstd.ZstdCompressor(level)

    def _decompress_object(self) -> DecompressObject:
        return zstd.ZstdDecompressor()
