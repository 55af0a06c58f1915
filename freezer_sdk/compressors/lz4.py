"""Compressor ``lz4``: LZ4 frames with a checksum of their content; needs the library ``lz4`` (extra ``lz4``)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Final

from freezer_sdk.compressors._shared import CompressObject, DecompressObject, ObjectCompressor, check_level
from freezer_sdk.model import Buffer

_BLOCK: Final = 5  # 256 KiB, in the format's own numbers


class Lz4Compressor(ObjectCompressor):
    """The fastest, with the least to gain; levels from 3 on are slow and compress better."""

    name = "lz4"
    api_version = 1
    summary = "LZ4: the fastest, modest ratio"
    id = "lz4"
    levels = (0, 12)
    default_level = 0
    errors = (RuntimeError, EOFError)

    @classmethod
    def available(cls) -> str | None:
        """Whether the library is installed."""
        return None if find_spec("lz4") else "pip install 'freezer-sdk[lz4]'"

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        from lz4 import frame

        level = check_level(self, level)
        made: bytes = frame.compress(data, compression_level=level, content_checksum=True, block_size=_BLOCK)
        return made

    def _compress_object(self, level: int) -> CompressObject:
        return _Lz4Encoder(level)

    def _decompress_object(self) -> DecompressObject:
        from lz4 import frame

        made: DecompressObject = frame.LZ4FrameDecompressor()
        return made


class _Lz4Encoder:
    """``LZ4FrameCompressor`` with the interface of the other modules: it writes its header by itself."""

    def __init__(self, level: int) -> None:
        from lz4 import frame

        self._target: Any = frame.LZ4FrameCompressor(compression_level=level, content_checksum=True, block_size=_BLOCK)
        self._begun = False

    def compress(self, data: Buffer, /) -> bytes:
        header = self._header()
        body: bytes = self._target.compress(data) if len(data) else b""
        return header + body if header else body

    def flush(self) -> bytes:
        header, rest = self._header(), self._target.flush()
        return header + bytes(rest)

    def _header(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        header: bytes = self._target.begin()
        return header
