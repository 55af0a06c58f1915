"""The Compressor contract."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Protocol

from freezer_sdk.contract import Plugin
from freezer_sdk.model import Buffer


class Encoder(Protocol):
    """Compresses a stream."""

    def write(self, data: Buffer) -> bytes:
        """Takes bytes in, gives what is ready."""

    def finish(self) -> bytes:
        """Gives the rest; the encoder is not used afterwards."""


class Decoder(Protocol):
    """Decompresses a stream."""

    def write(self, data: Buffer, *, limit: int) -> bytes:
        """Takes bytes in, gives at most ``limit`` bytes; call again with ``b""`` for what is still inside.

        Raises:
            IntegrityError: the stream is damaged.
        """

    @property
    def finished(self) -> bool:
        """The end of the compressed stream was seen."""


class Compressor(Plugin):
    """A compression method. Methods may be called from several threads at once.

    Attributes:
        id: 1 to 16 characters of ``a-z0-9-``, stored with the data; never changes its meaning.
        levels: the lowest and highest level; default_level lies between.
    """

    id: ClassVar[str]
    levels: ClassVar[tuple[int, int]]
    default_level: ClassVar[int]

    @abstractmethod
    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        """One buffer in, one self-contained frame out.

        Raises:
            ConfigurationError: no such level; also from :meth:`encoder`.
        """

    @abstractmethod
    def decompress(self, data: Buffer, *, size: int) -> bytes:
        """The inverse of :meth:`compress`, with memory bounded by ``size``.

        Args:
            size: the exact length that must come out.

        Raises:
            IntegrityError: damaged, trailing bytes, or another length than ``size``.
        """

    @abstractmethod
    def encoder(self, *, level: int | None = None) -> Encoder:
        """A new encoder for a stream."""

    @abstractmethod
    def decoder(self) -> Decoder:
        """A new decoder for a stream."""
