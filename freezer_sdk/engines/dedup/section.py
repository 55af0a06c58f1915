"""Sections: where the blobs of some packs lie, in columns sorted by id."""

from __future__ import annotations

import sys
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, compress
from mmap import mmap
from typing import NamedTuple

from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.pack import SegmentRow

if sys.platform == "linux":
    from mmap import MADV_DONTNEED

_AT_ONCE = 1 << 16  # ids whose first bytes are copied at once
_MOST_BITS = 18  # of an id, that the table of first rows goes by: it takes 1 MiB then


class Place(NamedTuple):
    """Where a blob lies.

    Attributes:
        pack: SHA-256 of the pack.
        offset, stored: of its segment in the pack.
        start, length: of the blob in the segment's plain content.
    """

    kind: Kind
    pack: bytes
    offset: int
    stored: int
    start: int
    length: int


@dataclass(slots=True)
class PackRows:
    """A stored pack and its segments.

    Attributes:
        writer: the slot that signed the pack's table, 16 bytes.
    """

    kind: Kind
    digest: bytes
    size: int
    rows: Sequence[SegmentRow]
    writer: bytes


class Packs(NamedTuple):
    """The packs of a section, column by column; one pack's segments lie one after the other from its first byte.

    Attributes:
        digests, writers: of each pack.
        counts: of each pack, its segments.
        stored: of each segment, pack after pack, its stored length.
    """

    digests: Sequence[bytes]
    writers: Sequence[bytes]
    counts: Sequence[int]
    stored: array[int]


class Blobs(NamedTuple):
    """The blobs of a section, column by column, ids ascending.

    Attributes:
        ids: 32 bytes each; in memory, or mapped from a file.
        segments: the number of the segment within the section.
        starts, lengths: in the segment's plain content.
    """

    ids: bytes | mmap
    segments: array[int]
    starts: array[int]
    lengths: array[int]


class Section:
    """The blobs of some packs of one kind. Never changed; may be asked from several threads.

    Attributes:
        signer: the slot that vouches for all of it, 16 bytes; empty for what was joined in memory.
        packs, writers: SHA-256 and writer's slot of each pack. A pack has several numbers when sources disagreed.
        first_segments: number of the first segment of each pack, and of all segments at the end.
        segment_packs, offsets, stored: of each segment: number of its pack, offset in it, stored length.
        ids, segment_of, starts, lengths: of each row, see :class:`Blobs`.
    """

    __slots__ = (
        "_firsts",
        "_lock",
        "_prefixes",
        "_shift",
        "first_segments",
        "ids",
        "kind",
        "lengths",
        "offsets",
        "packs",
        "segment_of",
        "segment_packs",
        "signer",
        "starts",
        "stored",
        "writers",
    )

    def __init__(self, kind: Kind, signer: bytes, packs: Packs, blobs: Blobs) -> None:
        self.kind, self.signer = kind, signer
        self.packs, self.writers, counts, self.stored = packs
        self.first_segments = array("I", accumulate(counts, initial=0))
        self.segment_packs, self.offsets = array("I"), array("Q")
        for number, count in enumerate(counts):
            first = self.first_segments[number]
            self.segment_packs.extend([number] * count)
            self.offsets.extend(accumulate(self.stored[first : first + count - 1], initial=0) if count else ())
        self.ids, self.segment_of, self.starts, self.lengths = blobs
        self._prefixes: array[int] | None = None
        self._firsts, self._shift = array("I"), 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.starts)

    def find(self, blob: bytes) -> int:
        """The first row of a blob, or -1; more may follow it."""
        prefixes = self._prefixes or self._prepare()
        wanted = int.from_bytes(blob[:8], "big")
        part = wanted >> self._shift
        row = bisect_left(prefixes, wanted, self._firsts[part], self._firsts[part + 1])
        while row < len(prefixes) and prefixes[row] == wanted:
            if self.ids[32 * row : 32 * row + 32] == blob:
                return row
            row += 1
        return -1

    def _prepare(self) -> array[int]:
        """Makes look-ups short: the rows of ids that begin alike are known beforehand."""
        with self._lock:
            if self._prefixes is None:
                prefixes = prefixes_of(self.ids)
                bits = min(_MOST_BITS, max(0, len(prefixes).bit_length() - 4))
                self._shift = 64 - bits
                firsts = array("I", (bisect_left(prefixes, part << self._shift) for part in range(1 << bits)))
                firsts.append(len(prefixes))
                forget_pages(self.ids)
                self._firsts = firsts
                self._prefixes = prefixes  # the last: other threads may be looking for something too
            return self._prefixes

    def rest(self) -> None:
        """Gives back memory that only :meth:`find` needs; it takes it again when it is asked again."""
        self._prefixes = None

    def rows(self, blob: bytes) -> range:
        """All rows of a blob."""
        row = last = self.find(blob)
        if row < 0:
            return range(0)
        while self.ids[32 * last : 32 * last + 32] == blob:
            last += 1
        return range(row, last)

    def place(self, row: int) -> Place:
        """Where the blob of a row lies."""
        segment = self.segment_of[row]
        place = (
            self.kind,
            self.packs[self.segment_packs[segment]],
            self.offsets[segment],
            self.stored[segment],
            self.starts[row],
            self.lengths[row],
        )
        return tuple.__new__(Place, place)  # half the time of Place(...): this is called for every blob of a restore

    def pack(self, row: int) -> bytes:
        """The pack of a row's blob."""
        return self.packs[self.segment_packs[self.segment_of[row]]]

    def pack_number(self, row: int) -> int:
        """The number of a row's pack in ``packs``."""
        return self.segment_packs[self.segment_of[row]]

    def blob(self, row: int) -> bytes:
        """The id of a row."""
        return self.ids[32 * row : 32 * row + 32]

    def blob_ids(self) -> Iterator[bytes]:
        """All ids, row by row."""
        return (self.ids[at : at + 32] for at in range(0, 32 * len(self), 32))

    def ends(self) -> Iterator[tuple[bytes, int]]:
        """Of each pack the offset behind its last segment."""
        for number, pack in enumerate(self.packs):
            last = self.first_segments[number + 1] - 1
            empty = last < self.first_segments[number]
            yield pack, 0 if empty else self.offsets[last] + self.stored[last]

    def segment_bytes(self, marks: Iterable[int] | None = None) -> list[int]:
        """Of each segment the plain bytes of its blobs.

        Args:
            marks: one number a row; only rows whose number is not 0 count.
        """
        found = [0] * len(self.stored)
        rows = zip(self.segment_of, self.lengths, strict=True)
        for segment, length in rows if marks is None else compress(rows, marks):
            found[segment] += length
        return found

    def pack_bytes(self, marks: Iterable[int] | None = None) -> list[int]:
        """Of each pack the plain bytes of its blobs; see :meth:`segment_bytes`."""
        found = self.segment_bytes(marks)
        firsts = self.first_segments
        return [sum(found[firsts[number] : firsts[number + 1]]) for number in range(len(self.packs))]


def prefixes_of(ids: bytes | mmap) -> array[int]:
    """The first 8 bytes of each id, as numbers that sort as the ids do.

    Piece by piece into a column of its final size: the C library may keep what a large copy beside it took.
    """
    column = array("Q", bytes(8)) * (len(ids) // 32)
    with memoryview(ids) as whole, whole.cast("Q") as words, words[::4] as firsts:
        for at in range(0, len(column), _AT_ONCE):
            column[at : at + _AT_ONCE] = array("Q", firsts[at : at + _AT_ONCE].tobytes())
    if sys.byteorder == "little":
        column.byteswap()
    return column


def forget_pages(ids: bytes | mmap) -> None:
    """Pages of a file that were read once, and are looked at here and there from now on, need not stay in memory."""
    if isinstance(ids, mmap) and sys.platform == "linux":
        ids.madvise(MADV_DONTNEED)


def section_of(kind: Kind, packs: Sequence[PackRows], signer: bytes) -> Section:
    """Sorts the blobs of packs into a section.

    Args:
        signer: who vouches for it.
    """
    stored, ids = array("I"), list[bytes]()
    segment_of, starts, lengths = array("I"), array("I"), array("I")  # columns: tuples would take six times as much
    for pack in packs:
        for row in pack.rows:
            start = 0
            for length in row.lengths:
                segment_of.append(len(stored))
                starts.append(start)
                start += length
            ids += row.ids
            lengths.extend(row.lengths)
            stored.append(row.stored)
    order = sorted(range(len(ids)), key=ids.__getitem__)
    blobs = Blobs(
        b"".join(map(ids.__getitem__, order)),
        array("I", map(segment_of.__getitem__, order)),
        array("I", map(starts.__getitem__, order)),
        array("I", map(lengths.__getitem__, order)),
    )
    digests, writers = [pack.digest for pack in packs], [pack.writer for pack in packs]
    return Section(kind, signer, Packs(digests, writers, [len(pack.rows) for pack in packs], stored), blobs)
