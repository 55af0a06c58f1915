"""Sections made of sections: merged for the storage, or joined in memory so that fewer need to be searched."""

from __future__ import annotations

import os
import sys
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import groupby
from mmap import ACCESS_READ, mmap
from operator import itemgetter
from pathlib import Path
from typing import IO, Final, NamedTuple

from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.section import Blobs, Packs, Section, forget_pages

MERGED_BLOBS: Final = 1 << 18
"""Blobs of a merged section, unless one pack has more: 12 MB stored, and little memory for those who read it."""

NOBODY: Final = bytes(16)
"""The writer of a pack about which signers disagree; no slot has this id, so nobody trusts it."""

_AT_ONCE: Final = 1 << 15  # rows that are joined at once
_FORGET: Final = 32  # so often before what was read from files is let go
_Row = tuple[bytes, int, int, int]
"""Id, number of the segment in its pack, start, length."""


class _Version(NamedTuple):
    """What a section says of a pack's segments: honest ones all say the same. Of several the largest holds."""

    segments: int
    stored: bytes


def merge(
    sections: Sequence[Section],
    *,
    leave_out: Collection[bytes] = frozenset(),
    limit: int = MERGED_BLOBS,
    signer: bytes = b"",
) -> Iterator[Section]:
    """The same knowledge in few sections, each of whole packs, in the order of the packs' names.

    What comes out does not depend on the order of what goes in, nor on how often it goes in; merging it again changes
    nothing. Each pack keeps its writer. Memory is taken for the result that is being made, and 4 bytes for each row.

    Args:
        sections: signed by slots that may be trusted; this function asks nobody.
        leave_out: packs that are gone, or about to go.
        limit: blobs after which a section takes no more packs.
        signer: who will sign the result.
    """
    for kind in Kind:
        ours = [section for section in sections if section.kind is kind]
        packs = _choose_packs(ours, frozenset(leave_out))
        sources = [_PackOrder(section) for section in ours]
        chosen: list[_Pack] = []
        blobs = 0
        for pack in sorted(packs):
            version, writer, found = packs[pack]
            rows = sorted(set().union(*(sources[which].rows(number) for which, number in found)))
            if chosen and blobs + len(rows) > limit:
                yield _build(kind, signer, chosen)
                chosen, blobs = [], 0
            chosen.append(_Pack(pack, writer, version, rows))
            blobs += len(rows)
        if chosen:
            yield _build(kind, signer, chosen)


class _Pack(NamedTuple):
    digest: bytes
    writer: bytes
    version: _Version
    rows: Sequence[_Row]


_Chosen = dict[bytes, tuple[_Version, bytes, list[tuple[int, int]]]]
"""By pack: its segments, its writer, and where that is said: numbers of the section, and of the pack in it."""


def _choose_packs(sections: Sequence[Section], leave_out: frozenset[bytes]) -> _Chosen:
    packs: _Chosen = {}
    for which, section in enumerate(sections):
        for number, pack in enumerate(section.packs):
            if pack in leave_out:
                continue
            version, writer, found = _version(section, number), section.writers[number], [(which, number)]
            known = packs.get(pack)
            if known is not None and version <= known[0]:
                if version < known[0]:
                    continue
                writer = writer if writer == known[1] else NOBODY
                found = known[2] + found
            packs[pack] = version, writer, found
    return packs


def _version(section: Section, number: int) -> _Version:
    first, end = section.first_segments[number : number + 2]
    return _Version(end - first, section.stored[first:end].tobytes())


class _PackOrder:
    """The rows of a section, pack by pack."""

    def __init__(self, section: Section) -> None:
        self._section = section
        segments, count = section.segment_of, len(section.stored)
        shift = max(0, count.bit_length() - 10)  # in parts: sorting all at once would take ten times the memory
        parts = [array("I") for _ in range((count >> shift) + 1)]
        for row, segment in enumerate(segments):
            parts[segment >> shift].append(row)
        self._order = array("I")
        for part in parts:
            self._order.extend(sorted(part, key=segments.__getitem__))

    def rows(self, number: int) -> list[_Row]:
        section, order = self._section, self._order
        segments = section.segment_of
        first, end = section.first_segments[number : number + 2]
        begin = bisect_left(order, first, key=segments.__getitem__)
        mine = order[begin : bisect_left(order, end, begin, key=segments.__getitem__)]
        return [(section.blob(row), segments[row] - first, section.starts[row], section.lengths[row]) for row in mine]


def _build(kind: Kind, signer: bytes, packs: Sequence[_Pack]) -> Section:
    stored, firsts = array("I"), []
    for pack in packs:
        firsts.append(len(stored))
        stored.frombytes(pack.version.stored)
    rows = sorted(
        (blob, first + segment, start, length)
        for pack, first in zip(packs, firsts, strict=True)
        for blob, segment, start, length in pack.rows
    )
    blobs = Blobs(
        b"".join(map(itemgetter(0), rows)),
        array("I", map(itemgetter(1), rows)),
        array("I", map(itemgetter(2), rows)),
        array("I", map(itemgetter(3), rows)),
    )
    counts = [pack.version.segments for pack in packs]
    return Section(kind, signer, Packs([p.digest for p in packs], [p.writer for p in packs], counts, stored), blobs)


# -- in memory -----------------------------------------------------------------------------------------------------


def join(sections: Sequence[Section], *, spill: bool) -> Section:
    """All rows in one section, for searching only: nobody vouches for it.

    What sources say of a pack is kept side by side where they disagree; what is said twice is kept once.

    Args:
        sections: of one kind, at least one.
        spill: keep the ids in a temporary file instead of in memory.
    """
    packs, numbers = _union(sections)
    ids = IdColumn(spill=spill)
    most = sum(map(len, sections))  # columns that grow would leave holes in memory
    segment_of, starts, lengths = (array("I", bytes(4)) * most for _ in range(3))
    rows, parts = 0, most // _AT_ONCE + 1
    begins = [0] * len(sections)
    for part in range(parts):
        ends = [_first_row(section, part + 1, parts) for section in sections]
        named: list[bytes] = []
        columns = array("I"), array("I"), array("I")
        for section, new, begin, end in zip(sections, numbers, begins, ends, strict=True):
            raw = section.ids[32 * begin : 32 * end]
            named += [raw[at : at + 32] for at in range(0, len(raw), 32)]
            columns[0].extend(map(new.__getitem__, section.segment_of[begin:end]))
            columns[1].extend(section.starts[begin:end])
            columns[2].extend(section.lengths[begin:end])
            if part % _FORGET == 0:
                forget_pages(section.ids)
        order = _order(named, columns)
        ids.append(b"".join(map(named.__getitem__, order)))
        for column, found in zip((segment_of, starts, lengths), columns, strict=True):
            column[rows : rows + len(order)] = array("I", map(found.__getitem__, order))
        rows += len(order)
        begins = ends
    for column in (segment_of, starts, lengths):
        del column[rows:]
    return Section(sections[0].kind, b"", packs, Blobs(ids.finish(), segment_of, starts, lengths))


def _union(sections: Iterable[Section]) -> tuple[Packs, list[array[int]]]:
    """The packs of all, and for each section the new numbers of its segments."""
    known: dict[tuple[bytes, bytes, _Version], int] = {}  # number of the first segment
    digests, writers, counts, stored = [], [], [], array("I")
    numbers = []
    for section in sections:
        new = array("I")
        for number, (pack, writer) in enumerate(zip(section.packs, section.writers, strict=True)):
            version = _version(section, number)
            first = known.get((pack, writer, version))
            if first is None:
                first = known[pack, writer, version] = len(stored)
                digests.append(pack)
                writers.append(writer)
                counts.append(version.segments)
                stored.frombytes(version.stored)
            new.extend(range(first, first + version.segments))
        numbers.append(new)
    return Packs(digests, writers, counts, stored), numbers


def _first_row(section: Section, part: int, parts: int) -> int:
    """The first row of a part, when all possible ids are dealt to so many parts of the same size."""
    if part == parts:
        return len(section)
    begin = (part << 64) // parts
    return bisect_left(range(len(section)), begin.to_bytes(8, "big"), key=section.blob)


def _order(ids: Sequence[bytes], columns: Sequence[Sequence[int]]) -> Sequence[int]:
    """Numbers of the rows by id, each row once."""
    order = sorted(range(len(ids)), key=ids.__getitem__)
    if len(set(ids)) == len(ids):
        return order
    once: list[int] = []
    for _blob, same in groupby(order, key=ids.__getitem__):
        rows = {tuple(column[row] for column in columns): row for row in same}
        once += map(rows.__getitem__, sorted(rows))
    return once


class IdColumn:
    """A column of ids that grows, and is then read only.

    In a file it needs no memory of its own: what the system keeps of the file it can drop. Ids are keyed hashes; the
    file, which has no name, tells nothing to those who do not have the key.

    Args:
        spill: put it into a file; where there is no room for one, it stays in memory.
    """

    def __init__(self, *, spill: bool) -> None:
        self._memory = bytearray()
        self._size = 0
        self._file: IO[bytes] | None = None
        if spill:
            try:
                self._file = tempfile.TemporaryFile(buffering=0, dir=_folder())  # noqa: SIM115 - closed by finish
            except OSError:
                pass

    def append(self, ids: bytes) -> None:
        """Adds ids at the end."""
        self._size += len(ids)
        if self._file is None:
            self._memory += ids
            return
        rest = memoryview(ids)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._fall_back(ids)

    def _fall_back(self, ids: bytes) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._memory += self._file.read(self._size - len(ids))
        self._memory += ids
        self._file.close()
        self._file = None

    def finish(self) -> bytes | mmap:
        """The column."""
        if self._file is None:
            return bytes(self._memory)
        with self._file as file:
            try:
                return mmap(file.fileno(), 0, access=ACCESS_READ) if self._size else b""
            except OSError:  # not every file system maps files
                file.seek(0)
                return file.read()


def give_back() -> None:
    """Asks the C library to give freed memory back: large joins leave holes that it would keep."""
    if sys.platform == "linux":
        import ctypes

        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; others need no asking
        if trim is not None:
            trim(0)


def _folder() -> str | None:
    """Where temporary files may be large: not in memory."""
    default, roomy = Path(tempfile.gettempdir()), Path(os.path.sep, "var", "tmp")
    return str(roomy) if default == Path(os.path.sep, "tmp") and roomy.is_dir() else None
