"""One level's stream, of either version: its items, and what each has stored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.rsync import v1, v2
from freezer_sdk.engines.rsync.items import Damaged, Item
from freezer_sdk.engines.rsync.state import DEFAULT_BLOCK_SIZE, check_block_size
from freezer_sdk.engines.rsync.unpack import Unpacker
from freezer_sdk.errors import IntegrityError, UnsupportedFormat
from freezer_sdk.storages.base import Reader

_BLOCK_SIZE: Final = "rsync_block_size"
_CHUNK: Final = 256 << 10
_DIGITS: Final = frozenset(b"0123456789")


class Level:
    """A level, open from the start of its stream.

    Attributes:
        version: of the format; told by how the stream begins, and by the metadata where it is empty.
        block_size: of this level.
    """

    def __init__(self, stream: LevelStream, reader: Reader) -> None:
        recorded = stream.metadata.get(_BLOCK_SIZE)
        self._bytes = _Bytes(reader)
        first = self._bytes.peek()
        if first:
            self.version = 1 if first[0] in _DIGITS else 2
        else:
            self.version = 1 if recorded is None else 2
        try:
            self.block_size = v1.BLOCK_SIZE if self.version == 1 else check_block_size(recorded or DEFAULT_BLOCK_SIZE)
        except Damaged as error:
            raise UnsupportedFormat(f"{stream.id.metadata}: {error}") from error
        self._values = Unpacker(self._bytes) if self.version == 2 else None
        self._left = 0

    def items(self) -> Iterator[Item]:
        """All items, without their contents; the level is of no use afterwards.

        Raises:
            Damaged: the stream is not whole; what came before is.
            WrongPassword, StorageError.
        """
        if self._values is not None:
            yield from v2.read_items(self._values, block_size=self.block_size)
            return
        for item in v1.read_items(self._bytes):
            self._skip(item.stored)
            yield item

    def contents(self) -> Iterator[Item]:
        """Items of regular files; what each has stored is read by :meth:`read` before the next.

        Raises:
            Damaged: the stream is not whole; what came before is.
            WrongPassword, StorageError.
        """
        if self._values is not None:
            items: Iterator[Item] = iter(
                [item for item in v2.read_items(self._values, block_size=self.block_size) if item.is_file]
            )
        else:
            items = v1.read_items(self._bytes)
        for item in items:
            if not item.is_file:
                continue
            self._left = item.stored
            yield item
            self._skip(self._left)

    def read(self, size: int) -> bytes:
        """The next bytes of what the item has stored, ``size`` at most, and at least one.

        Raises:
            Damaged: the stream ends here.
            WrongPassword, StorageError.
        """
        size = min(size, self._left, _CHUNK)
        data = self._values.read(size) if self._values is not None else self._bytes.read(size)
        if not data:
            raise self._bytes.damage()
        self._left -= len(data)
        return data

    def skip(self, size: int) -> None:
        """Passes by some of what the item has stored.

        Raises:
            Damaged: the stream ends before.
            WrongPassword, StorageError.
        """
        while size:
            size -= len(self.read(size))

    def _skip(self, size: int) -> None:
        self._left = size
        self.skip(size)


@contextmanager
def opened(stream: LevelStream) -> Iterator[Level]:
    """A level, from the start of its stream.

    Raises:
        Damaged: it cannot be opened.
        UnsupportedFormat, WrongPassword, StorageError.
    """
    with ExitStack() as stack:
        try:
            reader = stack.enter_context(stream.open())
        except IntegrityError as error:
            raise Damaged(error.message) from error
        yield Level(stream, reader)


class _Bytes:
    """The stream; where it is damaged, it ends, and says why when it is asked."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._ready = b""
        self._at = 0
        self._failure: IntegrityError | None = None

    def peek(self) -> bytes:
        """The next bytes, one at least unless the stream ends."""
        self._fill()
        return self._ready[self._at : self._at + 1]

    def ended(self) -> bool:
        """Whether the stream ends here, as it should.

        Raises:
            Damaged: it ends because it is damaged.
        """
        self._fill()
        if self._at < len(self._ready):
            return False
        if self._failure is not None:
            raise self.damage()
        return True

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end."""
        self._fill()
        data = self._ready[self._at : self._at + size]
        self._at += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        """The next bytes, all of them.

        Raises:
            Damaged: the stream ends before.
        """
        parts = []
        while size:
            data = self.read(size)
            if not data:
                raise self.damage()
            parts.append(data)
            size -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def damage(self) -> Damaged:
        """Why the stream has ended."""
        return Damaged("it ends too early" if self._failure is None else self._failure.message)

    def _fill(self) -> None:
        if self._at < len(self._ready) or self._failure is not None:
            return
        self._at = 0
        self._ready = b""
        try:
            self._ready = self._reader.read(_CHUNK)
        except IntegrityError as error:
            self._failure = error
