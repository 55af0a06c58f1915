"""Indexes: where each blob lies; the tables of many packs in one object (repository-format, section "Indexes")."""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.engines.dedup.box import BoxKeys, box_size, open_box, seal_box
from freezer_sdk.engines.dedup.layout import MAX_TABLE, Kind
from freezer_sdk.engines.dedup.pack import SegmentRow
from freezer_sdk.engines.dedup.segment import MAX_STORED
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

MAGIC = b"FZIX"
VERSION = 0
HEADER = struct.Struct("<4sB3xII")
"""magic, version, length of the box for meta packs, length of the box for data packs (0: none)."""

MAX_OBJECT = HEADER.size + 2 * MAX_TABLE
"""Bytes of a stored index."""
INDEX_BOX = {Kind.DATA: 3, Kind.META: 4}
_SMALL = 4096  # sections with fewer blobs share one dictionary


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
    """A stored pack and its segments."""

    kind: Kind
    digest: bytes
    size: int
    rows: Sequence[SegmentRow]


class Section:
    """The blobs of some packs of one kind, in columns sorted by id."""

    __slots__ = (
        "_firsts",
        "_prefixes",
        "_shift",
        "ids",
        "kind",
        "lengths",
        "packs",
        "segment_of",
        "segments",
        "starts",
    )

    def __init__(
        self,
        kind: Kind,
        packs: Sequence[bytes],
        segments: Sequence[tuple[int, int, int]],
        columns: tuple[bytes, array[int], array[int], array[int]],
    ) -> None:
        self.kind = kind
        self.packs = packs
        self.segments = segments  # (number of the pack, offset, stored length)
        self.ids, self.segment_of, self.starts, self.lengths = columns
        self._prefixes: array[int] | None = None
        self._firsts, self._shift = array("I"), 0

    def __len__(self) -> int:
        return len(self.starts)

    def find(self, blob: bytes) -> int:
        """The row of a blob, or -1."""
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
        prefixes = _prefixes(self.ids)
        bits = min(16, max(0, len(prefixes).bit_length() - 4))
        self._shift = 64 - bits
        firsts = array("I", (bisect_left(prefixes, part << self._shift) for part in range(1 << bits)))
        firsts.append(len(prefixes))
        self._firsts = firsts
        self._prefixes = prefixes  # the last: other threads may be looking for something too
        return prefixes

    def place(self, row: int) -> Place:
        """Where the blob of a row lies."""
        number, offset, stored = self.segments[self.segment_of[row]]
        place = (self.kind, self.packs[number], offset, stored, self.starts[row], self.lengths[row])
        return tuple.__new__(Place, place)  # half the time of Place(...): this is called for every blob of a restore

    def pack(self, row: int) -> bytes:
        """The pack of a row's blob."""
        return self.packs[self.segments[self.segment_of[row]][0]]

    def blob_ids(self) -> Iterator[bytes]:
        """All ids."""
        return (self.ids[at : at + 32] for at in range(0, len(self.ids), 32))


def _prefixes(ids: bytes) -> array[int]:
    column = array("Q")
    column.frombytes(memoryview(ids).cast("Q")[::4].tobytes())
    if sys.byteorder == "little":
        column.byteswap()
    return column


def section_of(kind: Kind, packs: Sequence[PackRows]) -> Section:
    """Sorts the blobs of packs into a section."""
    segments: list[tuple[int, int, int]] = []
    ids: list[bytes] = []
    segment_of, starts, lengths = array("I"), array("I"), array("I")  # columns: tuples would take six times as much
    for number, pack in enumerate(packs):
        offset = 0
        for row in pack.rows:
            start = 0
            for length in row.lengths:
                segment_of.append(len(segments))
                starts.append(start)
                start += length
            ids += row.ids
            lengths.extend(row.lengths)
            segments.append((number, offset, row.stored))
            offset += row.stored
    order = sorted(range(len(ids)), key=ids.__getitem__)
    columns = (
        b"".join(map(ids.__getitem__, order)),
        array("I", map(segment_of.__getitem__, order)),
        array("I", map(starts.__getitem__, order)),
        array("I", map(lengths.__getitem__, order)),
    )
    return Section(kind, [pack.digest for pack in packs], segments, columns)


def encode_index(keys: BoxKeys, sections: Iterable[Section], compressor: Compressor) -> bytes:
    """The whole object."""
    boxes = {
        section.kind: seal_box(keys, INDEX_BOX[section.kind], _encode(section, compressor)) for section in sections
    }
    meta, data = boxes.get(Kind.META, b""), boxes.get(Kind.DATA, b"")
    return HEADER.pack(MAGIC, VERSION, len(meta), len(data)) + meta + data


def index_parts(head: Buffer, size: int) -> dict[Kind, tuple[int, int]]:
    """Offset and length of the boxes in an index object of ``size`` bytes.

    Raises:
        IntegrityError: not an index.
    """
    if len(head) < HEADER.size:
        raise IntegrityError("an index is shorter than its header")
    magic, version, meta, data = HEADER.unpack_from(head)
    if (
        magic != MAGIC
        or version != VERSION
        or HEADER.size + meta + data != size
        or bytes(head[5:8]) != b"\0\0\0"
        or max(meta, data) > MAX_TABLE
    ):
        raise IntegrityError("an index's header is damaged")
    parts = {Kind.META: (HEADER.size, meta), Kind.DATA: (HEADER.size + meta, data)}
    return {kind: part for kind, part in parts.items() if part[1]}


def decode_section(keys: BoxKeys, kind: Kind, box: Buffer, compressor: Compressor) -> Section:
    """Opens one box of an index.

    Raises:
        IntegrityError: damaged, forged, or not adding up.
    """
    body = open_box(keys, INDEX_BOX[kind], box)
    try:
        (size,) = struct.unpack_from("<I", body)
        if size > MAX_TABLE:
            raise IntegrityError("an index is out of bounds")
        return _decode(kind, compressor.decompress(memoryview(body)[4:], size=size))
    except struct.error:
        raise IntegrityError("an index is damaged") from None


def _encode(section: Section, compressor: Compressor) -> bytes:
    counts = [0] * len(section.packs)
    for number, _offset, _stored in section.segments:
        counts[number] += 1
    body = b"".join(
        (
            struct.pack("<III", len(section.packs), len(section.segments), len(section)),
            b"".join(section.packs),
            struct.pack(f"<{len(counts)}I", *counts),
            struct.pack(f"<{len(section.segments)}I", *(row[2] for row in section.segments)),
            section.ids,
            _little(section.segment_of),
            _little(section.starts),
            _little(section.lengths),
        )
    )
    return struct.pack("<I", len(body)) + compressor.compress(body)


def _decode(kind: Kind, body: bytes) -> Section:
    n_packs, n_segments, n_blobs = struct.unpack_from("<III", body)
    if 12 + 36 * n_packs + 4 * n_segments + 44 * n_blobs != len(body):
        raise IntegrityError("an index does not add up")
    at = 12
    packs = [body[at + 32 * i : at + 32 * i + 32] for i in range(n_packs)]
    at += 32 * n_packs
    counts = struct.unpack_from(f"<{n_packs}I", body, at)
    at += 4 * n_packs
    stored = struct.unpack_from(f"<{n_segments}I", body, at)
    at += 4 * n_segments
    if sum(counts) != n_segments:
        raise IntegrityError("an index does not add up")
    if max(stored, default=0) > MAX_STORED:
        raise IntegrityError("an index names a segment that is longer than it may be")
    segments: list[tuple[int, int, int]] = []
    for number, count in enumerate(counts):
        offset = 0
        for length in stored[len(segments) : len(segments) + count]:
            segments.append((number, offset, length))
            offset += length
    ids = body[at : at + 32 * n_blobs]
    at += 32 * n_blobs
    columns = []
    for _ in range(3):
        column = array("I")
        column.frombytes(body[at : at + 4 * n_blobs])
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column)
        at += 4 * n_blobs
    if n_blobs and max(columns[0]) >= n_segments:
        raise IntegrityError("an index names a segment that it does not have")
    order = _prefixes(ids).tolist()
    if order != sorted(order):
        raise IntegrityError("an index is not sorted")
    return Section(kind, packs, segments, (ids, columns[0], columns[1], columns[2]))


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = array("I", column)
        column.byteswap()
    return column.tobytes()


class BlobIndex:
    """Everything that is known about where blobs lie. Not locked: loaded and asked by one thread at a time.

    Args:
        condemned: packs that a maintainer has marked; what lies only there is not to be reused.
    """

    def __init__(self, condemned: frozenset[bytes] = frozenset()) -> None:
        self.condemned = condemned
        self.sections: list[Section] = []
        self._large: dict[Kind, list[Section]] = {Kind.DATA: [], Kind.META: []}
        self._small: dict[Kind, dict[bytes, tuple[Section, int]]] = {Kind.DATA: {}, Kind.META: {}}
        self._again: dict[bytes, list[tuple[Section, int]]] = {}  # blobs of small sections that have more places

    def add(self, section: Section) -> None:
        """Takes in a section."""
        self.sections.append(section)
        if len(section) >= _SMALL:
            self._large[section.kind].append(section)
            return
        small = self._small[section.kind]
        for row, blob in enumerate(section.blob_ids()):
            known = small.get(blob)
            if known is None:
                small[blob] = (section, row)
            elif known[0].pack(known[1]) in self.condemned:
                small[blob] = (section, row)
                self._again.setdefault(blob, []).append(known)
            else:
                self._again.setdefault(blob, []).append((section, row))

    def find(self, kind: Kind, blob: bytes) -> Place | None:
        """Where a blob lies, preferring packs that are not condemned."""
        condemned = self.condemned
        best: Place | None = None
        known = self._small[kind].get(blob)
        if known is not None:
            best = known[0].place(known[1])
            if best.pack not in condemned:
                return best
            for section, row in self._again.get(blob, ()):
                if section.kind is kind and section.pack(row) not in condemned:
                    return section.place(row)
        for section in self._large[kind]:
            row = section.find(blob)
            if row >= 0:
                best = section.place(row)
                if best.pack not in condemned:
                    return best
        return best

    def places(self, kind: Kind, blob: bytes) -> list[Place]:
        """Everywhere a blob lies: when one place is damaged or gone, another may not be."""
        known = self._small[kind].get(blob)
        rows = [] if known is None else [known, *self._again.get(blob, ())]
        rows += [(section, row) for section in self._large[kind] if (row := section.find(blob)) >= 0]
        return [section.place(row) for section, row in rows if section.kind is kind]

    def reusable(self, kind: Kind, blob: bytes) -> bool:
        """Whether a new backup may rely on a stored copy."""
        if self.condemned:
            place = self.find(kind, blob)
            return place is not None and place.pack not in self.condemned
        return blob in self._small[kind] or any(section.find(blob) >= 0 for section in self._large[kind])

    def distrust(self, pack: bytes) -> None:
        """What lies in this pack is read from elsewhere where that is possible, and not reused."""
        self.condemned |= {pack}

    def ends(self, kind: Kind) -> dict[bytes, int]:
        """Of every pack the offset behind its last segment: the least that it must be long."""
        found: dict[bytes, int] = {}
        for section in self.sections:
            if section.kind is kind:
                for number, offset, stored in section.segments:
                    pack = section.packs[number]
                    found[pack] = max(found.get(pack, 0), offset + stored)
        return found

    def segments(self, kind: Kind, pack: bytes) -> set[tuple[int, int]]:
        """Offset and stored length of a pack's segments, as far as they are known."""
        return {
            (offset, stored)
            for section in self.sections
            if section.kind is kind and pack in section.packs
            for number, offset, stored in section.segments
            if section.packs[number] == pack
        }

    def packs(self, kind: Kind) -> set[bytes]:
        """All packs of a kind that have a place in a section."""
        return {pack for section in self.sections if section.kind is kind for pack in section.packs}


__all__ = ["BlobIndex", "PackRows", "Place", "Section", "box_size", "decode_section", "encode_index", "section_of"]
