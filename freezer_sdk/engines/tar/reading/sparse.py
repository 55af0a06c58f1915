"""Maps of sparse files, in the four forms in which GNU tar has written them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from freezer_sdk.engines.tar.reading.blocks import BLOCK, BlockReader, padded
from freezer_sdk.engines.tar.reading.numbers import BadNumber, decimal, size_field
from freezer_sdk.engines.tar.reading.pax import SPARSE, Extended

Segments = tuple[tuple[int, int], ...]

_MOST_SEGMENTS = 1 << 20
_ENTRY = 24  # offset and length, 12 bytes each
_LONGEST_LINE = 20


class BadMap(ValueError):
    """A sparse file's map makes no sense."""


def checked(segments: Iterable[tuple[int, int]], *, size: int, stored: int) -> Segments:
    """Data ranges of a file, ascending, within its size, and together as long as what is stored.

    Raises:
        BadMap.
    """
    found = []
    end = total = 0
    for offset, length in segments:
        if offset < end or offset + length > size:
            raise BadMap("a sparse file's map is not in order, or leads beyond its end")
        end = offset + length
        total += length
        if length:
            found.append((offset, length))
    if total != stored:
        raise BadMap(f"a sparse file's map stands for {total} bytes, and {stored} are stored")
    return tuple(found)


def old_gnu(header: bytes, blocks: BlockReader) -> list[tuple[int, int]]:
    """The map of a member of type ``S``: four entries in its header, others in blocks that follow.

    Raises:
        BadMap, BadNumber.
        IntegrityError: the stream ends within.
    """
    segments: list[tuple[int, int]] = []
    whole = _entries(header, 386, 4, segments)
    extended = header[482]
    while extended and whole:
        block = blocks.take(BLOCK)
        whole = _entries(block, 0, 21, segments)
        extended = block[504]
        if len(segments) > _MOST_SEGMENTS:
            raise BadMap("a sparse file's map is too long")
    return segments


def _entries(block: bytes, at: int, count: int, segments: list[tuple[int, int]]) -> bool:
    """Reads entries; whether the map may go on."""
    for start in range(at, at + count * _ENTRY, _ENTRY):
        if not block[start + 12]:
            return False
        segments.append((size_field(block[start : start + 12]), size_field(block[start + 12 : start + 24])))
    return True


def of_header(extended: Extended) -> list[tuple[int, int]] | None:
    """The map of versions 0.0 and 0.1, which an extended header holds; ``None``: it has none.

    Raises:
        BadMap, BadNumber.
    """
    listed = extended.values.get(SPARSE + b"map")
    if listed is not None:
        if listed.count(b",") > 2 * _MOST_SEGMENTS:
            raise BadMap("a sparse file's map is too long")
        return _pairs([decimal(number) for number in listed.split(b",")] if listed else [])
    if not extended.segments and SPARSE + b"numblocks" not in extended.values:
        return None
    if len(extended.segments) > 2 * _MOST_SEGMENTS:
        raise BadMap("a sparse file's map is too long")
    kinds = [keyword.endswith(b"offset") for keyword, _ in extended.segments]
    if kinds != [True, False] * (len(kinds) // 2):
        raise BadMap("a sparse file's map has half of an entry")
    return _pairs([decimal(value) for _, value in extended.segments])


def _pairs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise BadMap("a sparse file's map has half of an entry")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def of_data(blocks: BlockReader, stored: int) -> tuple[list[tuple[int, int]], int]:
    """The map of version 1.0, which stands before the data; and the bytes that it takes, in whole blocks.

    Args:
        stored: bytes of the member, with its map.

    Raises:
        BadMap, BadNumber.
        IntegrityError: the stream ends within.
    """
    lines = _Lines(blocks, padded(stored))
    count = lines.number()
    if count > _MOST_SEGMENTS:
        raise BadMap("a sparse file's map is too long")
    segments = [(lines.number(), lines.number()) for _ in range(count)]
    if lines.used > stored:
        raise BadMap("a sparse file's map is longer than its member")
    return segments, lines.used


class _Lines:
    """Decimal numbers, one a line."""

    def __init__(self, blocks: BlockReader, limit: int) -> None:
        self._blocks = blocks
        self._limit = limit
        self._rest = b""
        self._at = 0
        self.used = 0

    def number(self) -> int:
        end = self._rest.find(b"\n", self._at)
        while end < 0:
            if len(self._rest) - self._at > _LONGEST_LINE or self.used >= self._limit:
                raise BadMap("a sparse file's map has something else than numbers")
            self._rest = self._rest[self._at :] + self._blocks.take(BLOCK)
            self._at = 0
            self.used += BLOCK
            end = self._rest.find(b"\n")
        line = self._rest[self._at : end]
        self._at = end + 1
        if len(line) > _LONGEST_LINE:
            raise BadNumber("a sparse file's map has a number that is too long")
        return decimal(line)
