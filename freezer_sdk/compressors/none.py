"""Compressor ``none``: the bytes as they are, for data that is compressed already."""

from __future__ import annotations

from freezer_sdk.compressors._shared import check_level
from freezer_sdk.compressors.base import Compressor, Decoder, Encoder
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer


class NoCompressor(Compressor):
    """Stores bytes as they are; finds no damage but a wrong length."""

    name = "none"
    api_version = 1
    summary = "no compression"
    id = "none"
    levels = (0, 0)
    default_level = 0

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        check_level(self, level)
        return bytes(data)

    def decompress(self, data: Buffer, *, size: int) -> bytes:
        """See :meth:`Compressor.decompress`."""
        if memoryview(data).nbytes != size:
            raise IntegrityError(f"{memoryview(data).nbytes} bytes are stored and not the {size} that should be")
        return bytes(data)

    def encoder(self, *, level: int | None = None) -> Encoder:
        """A new encoder for a stream."""
        check_level(self, level)
        return _CopyEncoder()

    def decoder(self) -> Decoder:
        """A new decoder for a stream."""
        return _CopyDecoder()


class _CopyEncoder:
    def write(self, data: Buffer) -> bytes:
        return bytes(data)

    def finish(self) -> bytes:
        return b""


class _CopyDecoder:
    """Without a frame there is no end to see: it counts as finished whenever nothing is left inside."""

    def __init__(self) -> None:
        self._kept = bytearray()

    @property
    def finished(self) -> bool:
        return not self._kept

    def write(self, data: Buffer, *, limit: int) -> bytes:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self._kept += data
        plain = bytes(self._kept[:limit])
        del self._kept[:limit]
        return plain
