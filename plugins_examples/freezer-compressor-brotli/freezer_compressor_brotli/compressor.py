"""Compressor ``brotli``: Brotli streams (RFC 7932), by the library of their authors."""

from __future__ import annotations

import importlib.util
from typing import Any

from freezer_sdk.compressors.base import Compressor, Decoder, Encoder
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Buffer


class BrotliCompressor(Compressor):
    """Good on text and on the web's formats; the high levels are slow."""

    name = "brotli"
    api_version = 1
    summary = "Brotli: good on text, slow at high levels"
    id = "brotli"
    levels = (0, 11)
    default_level = 5

    @classmethod
    def available(cls) -> str | None:
        """``None`` when the library is installed, else what to install."""
        if importlib.util.find_spec("brotli") is None:
            return "the library is missing: pip install brotli"
        return None

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """See :meth:`Compressor.compress`."""
        import brotli

        frame: bytes = brotli.compress(data, quality=self._checked(level))
        return frame

    def decompress(self, data: Buffer, *, size: int) -> bytes:
        """See :meth:`Compressor.decompress`."""
        decoder = _Decoder()
        plain = decoder.write(data, limit=size + 1)  # one more: what is too long is noticed, and nothing beyond is made
        if len(plain) != size or not decoder.finished:
            raise IntegrityError(f"a brotli frame does not hold exactly the {size} bytes that it should")
        return plain

    def encoder(self, *, level: int | None = None) -> Encoder:
        """A new encoder for a stream."""
        return _Encoder(self._checked(level))

    def decoder(self) -> Decoder:
        """A new decoder for a stream."""
        return _Decoder()

    def _checked(self, level: int | None) -> int:
        if level is None:
            return self.default_level
        lowest, highest = self.levels
        if not lowest <= level <= highest:
            raise ConfigurationError(f"brotli has no level {level}: {lowest} to {highest}")
        return level


class _Encoder:
    def __init__(self, level: int) -> None:
        import brotli

        self._target: Any = brotli.Compressor(quality=level)

    def write(self, data: Buffer) -> bytes:
        ready: bytes = self._target.process(data)
        return ready

    def finish(self) -> bytes:
        rest: bytes = self._target.finish()
        return rest


class _Decoder:
    """Keeps to its limit: the library's own may be exceeded by a buffer, and what is too much is handed out later."""

    def __init__(self) -> None:
        import brotli

        self._source: Any = brotli.Decompressor()
        self._error: type[Exception] = brotli.error
        self._waiting = bytearray()  # compressed, not taken yet
        self._ready = bytearray()  # plain, not handed out yet

    @property
    def finished(self) -> bool:
        return bool(self._source.is_finished()) and not self._ready

    def write(self, data: Buffer, *, limit: int) -> bytes:
        if limit < 1:
            raise ValueError("limit must be at least 1")
        self._waiting += data
        while len(self._ready) < limit and self._step(limit - len(self._ready)):
            pass
        plain = bytes(self._ready[:limit])
        del self._ready[:limit]
        return plain

    def _step(self, limit: int) -> bool:
        """Decompresses some more; whether there may be more to come."""
        if self._source.is_finished():
            if self._waiting:
                raise IntegrityError("bytes follow the end of a brotli stream")
            return False
        data = b""
        if self._source.can_accept_more_data():
            data = bytes(self._waiting)
            self._waiting.clear()
        try:
            plain = self._source.process(data, output_buffer_limit=limit)
        except self._error as error:
            raise IntegrityError("a brotli stream is damaged, or bytes follow its end") from error
        self._ready += plain
        return bool(plain or self._waiting)
