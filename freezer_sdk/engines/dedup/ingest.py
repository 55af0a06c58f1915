"""From bytes to a content reference: cutting, storing, holes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from io import FileIO
from typing import Protocol

from freezer_sdk.engines.dedup.chunker import Chunkers
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.page import Content, ContentBuilder
from freezer_sdk.engines.dedup.tree import get_extra, split_extents
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.modes.base import STAT, Extra, Extras

_MOST_EXTENTS = 4 << 20  # bytes of a list of extents; a more scattered file is stored densely


class Meter(Protocol):
    """Told of progress; raises Cancelled, keeps the lease."""

    def tick(self, path: bytes | None) -> None:
        """Called at least once a segment's worth of bytes and once a directory."""


class Ingest:
    """Stores the contents of files and streams, one at a time.

    Args:
        block: bytes read at once.

    Attributes:
        read_bytes: of everything so far. under_way: of what is being read now.
    """

    def __init__(self, writer: BlobWriter, chunkers: Chunkers, meter: Meter, block: int) -> None:
        self._writer, self._chunkers, self._meter = writer, chunkers, meter
        self._block, self._buffer = block, bytearray()
        self.read_bytes = self.under_way = 0

    def small(self, data: bytes) -> Content:
        """Stores a file that is one blob."""
        self.read_bytes += len(data)
        return Content(0, self._writer.store(Kind.DATA, data))

    def file(self, fd: int, row: bytes, extras: Extras, *, dense: bool) -> tuple[Content, int, Extras]:
        """Stores what an open file holds, no further than its row says.

        Args:
            row: its attributes, read before.
            dense: holes are read as zeros.

        Returns:
            Reference, size that was read (holes count), and the facts that hold for it.

        Raises:
            OSError, StorageError, Cancelled.
        """
        size = STAT.unpack(row)[4]
        found = get_extra(extras, Extra.EXTENTS)
        raw = FileIO(fd, closefd=False)
        os.lseek(fd, 0, os.SEEK_SET)
        extents = None if found is None or dense or len(found) > _MOST_EXTENTS else split_extents(found)
        if extents is None:
            extras = [fact for fact in extras if fact[0] != Extra.EXTENTS]
            extents = [(0, size)]  # and no further: a file may grow faster than it is read
        reader = _ExtentReader(fd, raw, extents)
        content, _read, tag = self.chunks(reader.readinto, size)
        return content, size if reader.complete else reader.position, [*extras, *tag]

    def chunks(
        self, readinto: Callable[[memoryview], int | None], size: int | None
    ) -> tuple[Content, int, list[tuple[int, bytes]]]:
        """Cuts and stores a stream.

        Returns:
            Reference, bytes read, and the fact that names the chunker where it is not the usual one.

        Raises:
            OSError, SourceError, StorageError, Cancelled.
        """
        chosen = self._chunkers.pick(size)
        if len(self._buffer) < 4 * chosen.maximum:
            self._buffer = bytearray(max(self._block, 4 * chosen.maximum))
        cut = self._chunkers.cutter(chosen)
        builder = ContentBuilder(self._writer.store_meta)
        whole = memoryview(self._buffer)
        filled = total = 0
        ended = False
        while not ended:
            while filled < len(whole) and not ended:
                count = readinto(whole[filled:])
                ended = not count
                filled += count or 0
                total += count or 0
                self.under_way = total
            done = self._store_chunks(cut(whole[:filled]), whole, filled, builder, ended=ended)
            whole[: filled - done] = whole[done:filled]
            filled -= done
            self._meter.tick(None)
        self.read_bytes += total
        self.under_way = 0
        tag = [(Extra.CHUNKER, b"fastcdc-%d" % chosen.average)] if chosen.above else []
        return builder.finish(), total, tag

    def _store_chunks(
        self, chunks: Iterator[_Chunk], whole: memoryview, filled: int, builder: ContentBuilder, *, ended: bool
    ) -> int:
        done = 0
        for chunk in chunks:
            end = chunk.offset + chunk.length
            if end == filled and not ended:
                break  # more data may move this cut
            builder.add(self._writer.store(Kind.DATA, whole[chunk.offset : end]))
            done = end
        return done


class _Chunk(Protocol):
    offset: int
    length: int


class _ExtentReader:
    """Reads the data ranges of a sparse file one after the other."""

    def __init__(self, fd: int, raw: FileIO, extents: Sequence[tuple[int, int]]) -> None:
        self._fd, self._raw = fd, raw
        self._left = list(reversed(extents))
        self.position = 0
        self._remaining = 0
        self.complete = True

    def readinto(self, view: memoryview) -> int:
        """0 at the end of the last range, or where the file turned out shorter."""
        while not self._remaining:
            if not self._left:
                return 0
            self.position, self._remaining = self._left.pop()
            os.lseek(self._fd, self.position, os.SEEK_SET)
        count = self._raw.readinto(view[: min(len(view), self._remaining)]) or 0
        if not count:
            self.complete = False
            self._left.clear()
            self._remaining = 0
        self.position += count
        self._remaining -= count
        return count
