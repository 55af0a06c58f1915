"""A stream as the blocks of 512 bytes that tar is made of, read once from its start to its end."""

from __future__ import annotations

from collections.abc import Iterator

from freezer_sdk.errors import IntegrityError
from freezer_sdk.storages.base import Reader

BLOCK = 512
_CHUNK = 1 << 20


class BlockReader:
    """Gives blocks, and what lies between them, without copying what it has read.

    Attributes:
        position: bytes of the stream before what comes next.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._chunk = b""
        self._at = 0  # in the chunk
        self._before = 0  # bytes of the stream before the chunk

    @property
    def position(self) -> int:
        """Offset in the stream of what comes next."""
        return self._before + self._at

    def damaged(self, what: str, at: int | None = None) -> IntegrityError:
        """An error that tells where in the stream it is."""
        return IntegrityError(f"{what}, at byte {self.position if at is None else at} of the tar stream")

    def _more(self) -> bool:
        """Reads on when the chunk is used up; whether there is anything."""
        self._before += self._at
        self._at = 0
        self._chunk = b""  # it must not be given again when reading fails
        try:
            self._chunk = self._reader.read(_CHUNK)
        except IntegrityError as error:
            raise IntegrityError(f"{error} (at byte {self._before} of the tar stream)", hint=error.hint) from error
        return bool(self._chunk)

    def block(self) -> bytes | None:
        """The next block; ``None``: this is the end.

        Raises:
            IntegrityError: the stream ends within the block, or cannot be decoded.
        """
        at = self._at
        if at + BLOCK <= len(self._chunk):
            self._at = at + BLOCK
            return self._chunk[at : at + BLOCK]
        if at == len(self._chunk) and not self._more():
            return None
        return self.take(BLOCK)

    def take(self, size: int) -> bytes:
        """The next bytes in one piece; memory grows with what is there, not with what is asked for.

        Raises:
            IntegrityError: the stream is shorter, or cannot be decoded.
        """
        return b"".join(self.pieces(size))

    def view(self, size: int) -> memoryview | None:
        """The next bytes, where they are in memory already; ``None``, and nothing read, where they are not all."""
        at = self._at
        if at + size > len(self._chunk):
            return None
        self._at = at + size
        return memoryview(self._chunk)[at : at + size]

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next bytes as they come; all of them must be asked for.

        Raises:
            IntegrityError: the stream is shorter, or cannot be decoded.
        """
        while size:
            if self._at == len(self._chunk) and not self._more():
                raise self.damaged(f"the stream ends {size} bytes too early")
            data = memoryview(self._chunk)[self._at : self._at + size]
            self._at += len(data)
            size -= len(data)
            yield data

    def skip(self, size: int) -> None:
        """Passes over the next bytes.

        Raises:
            IntegrityError: the stream is shorter, or cannot be decoded.
        """
        left = len(self._chunk) - self._at
        while size > left:
            size -= left
            self._at += left
            if not self._more():
                raise self.damaged(f"the stream ends {size} bytes too early")
            left = len(self._chunk)
        self._at += size


def padded(size: int) -> int:
    """A size rounded up to whole blocks."""
    return (size + BLOCK - 1) & -BLOCK
