"""Merging sections: what is known stays known, in whatever order and however often."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterable, Sequence
from mmap import mmap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.engines.dedup import merge as merging
from freezer_sdk.engines.dedup.index import PackRows, Section, decode_section, encode_index, index_parts, section_of
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.merge import NOBODY, IdColumn, join, merge
from freezer_sdk.engines.dedup.pack import SegmentRow

ZSTD = ZstdCompressor()
SIGNER = bytes(range(16))


def blob(number: int) -> bytes:
    return random.Random(number).randbytes(32)


Row = tuple[Kind, bytes, bytes, bytes, int, int, int, int]


def rows_of(sections: Iterable[Section]) -> set[Row]:
    """Everything that sections say: kind, blob, pack, its writer, and the place."""
    found = set()
    for section in sections:
        for row in range(len(section)):
            place = section.place(row)
            writer = section.writers[section.pack_number(row)]
            found.add((section.kind, section.blob(row), place.pack, writer, *place[2:]))
    return found


def stored(section: Section) -> tuple[object, ...]:
    """All that is stored of a section."""
    return (
        section.kind,
        list(section.packs),
        list(section.writers),
        section.first_segments,
        section.stored,
        bytes(section.ids),
        section.segment_of,
        section.starts,
        section.lengths,
    )


packs = st.builds(
    lambda kind, number, writer, segments: PackRows(
        kind,
        blob(1_000_000 + number),
        0,
        [
            SegmentRow(200 + stored, [blob(number) for number in ids], [1 + number % 50 for number in ids])
            for stored, ids in segments
        ],
        bytes([writer]) * 16,
    ),
    st.sampled_from(Kind),
    st.integers(0, 8),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 30), min_size=1, max_size=6)), max_size=4),
)


@st.composite
def many_sections(draw: Callable[..., list[PackRows]]) -> list[Section]:
    found = []
    for chosen in draw(st.lists(st.lists(packs, max_size=4), max_size=6)):
        for kind in Kind:
            mine = {pack.digest: pack for pack in chosen if pack.kind is kind}
            found.append(section_of(kind, list(mine.values()), SIGNER))
    return found


@given(sections=many_sections(), limit=st.integers(1, 40), data=st.data())
@settings(max_examples=60, deadline=None)
def test_order_and_repetition_do_not_matter(sections: list[Section], limit: int, data: st.DataObject) -> None:
    once = [stored(section) for section in merge(sections, limit=limit)]
    other = data.draw(st.permutations(sections)) + data.draw(
        st.lists(st.sampled_from(sections)) if sections else st.just([])
    )
    assert [stored(section) for section in merge(other, limit=limit)] == once
    again = list(merge(list(merge(sections, limit=limit)), limit=limit))
    assert [stored(section) for section in again] == once
    cut = data.draw(st.integers(0, len(sections)))
    halves = [*merge(sections[:cut]), *merge(sections[cut:])]
    assert [stored(section) for section in merge(halves, limit=limit)] == once


def honest(seed: int, *, count: int = 30) -> list[PackRows]:
    """Packs of which everybody says the same."""
    rng = random.Random(seed)
    return [
        PackRows(
            Kind.DATA,
            rng.randbytes(32),
            0,
            [
                SegmentRow(rng.randrange(200, 9000), [blob(rng.randrange(400)) for _ in range(n)], [5] * n)
                for n in (rng.randrange(1, 12) for _ in range(rng.randrange(1, 5)))
            ],
            bytes([rng.randrange(1, 4)]) * 16,
        )
        for _ in range(count)
    ]


def dealt(packs: Sequence[PackRows], seed: int) -> list[Section]:
    """Sections of some packs each, some packs in several."""
    rng = random.Random(seed)
    sections = [section_of(Kind.DATA, rng.sample(packs, rng.randrange(1, 9)), SIGNER) for _ in range(8)]
    return [*sections, section_of(Kind.DATA, packs[::2], SIGNER), section_of(Kind.DATA, packs[1::2], SIGNER)]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_and_packs_stay_whole(seed: int) -> None:
    packs = honest(seed)
    sections = dealt(packs, seed)
    for limit in (1, 50, 1 << 20):
        merged = list(merge(sections, limit=limit))
        assert rows_of(merged) == rows_of(sections)
        names = [pack for section in merged for pack in section.packs]
        assert sorted(names) == sorted(pack.digest for pack in packs)
        for section in merged:
            assert len(section) <= limit or len(section.packs) == 1
            assert bytes(section.ids) == b"".join(sorted(section.blob_ids()))


def test_packs_that_are_left_out_are_gone() -> None:
    packs = honest(3)
    gone = {pack.digest for pack in packs[::3]}
    merged = list(merge(dealt(packs, 3), leave_out=gone))
    assert rows_of(merged) == {row for row in rows_of(dealt(packs, 3)) if row[2] not in gone}
    assert not gone & {pack for section in merged for pack in section.packs}


def test_a_merged_section_is_stored_and_read_as_any_other(keys: KeyRing) -> None:
    sections = dealt(honest(4), 4)
    (merged,) = merge(sections, signer=keys.slot_id)
    assert merged.signer == keys.slot_id
    data = encode_index(keys, [merged], ZSTD)
    ((kind, (offset, length)),) = index_parts(data, len(data)).items()
    read = decode_section(keys, kind, data[offset : offset + length], ZSTD)
    assert read.signer == keys.slot_id
    assert stored(read) == stored(merged)
    assert rows_of([read]) == rows_of(sections)


def test_a_pack_that_signers_ascribe_to_different_writers_is_trusted_by_nobody() -> None:
    rows = [SegmentRow(300, [blob(1)], [5])]
    mine, yours = (PackRows(Kind.DATA, blob(9), 0, rows, bytes([writer]) * 16) for writer in (1, 2))
    (merged,) = merge([section_of(Kind.DATA, [mine], SIGNER), section_of(Kind.DATA, [yours], SIGNER)])
    assert list(merged.writers) == [NOBODY]


@pytest.mark.parametrize("spill", [False, True])
@pytest.mark.parametrize("at_once", [1, 7, 1 << 15])
def test_joined_sections_know_what_they_were_made_of(
    monkeypatch: pytest.MonkeyPatch, spill: bool, at_once: int
) -> None:
    monkeypatch.setattr(merging, "_AT_ONCE", at_once)
    sections = dealt(honest(6), 6)
    joined = join(sections, spill=spill)
    assert isinstance(joined.ids, mmap if spill else bytes)
    assert rows_of([joined]) == rows_of(sections)
    assert len(joined) == len(rows_of(sections))  # each once
    for wanted in sorted({row[1] for row in rows_of(sections)}):
        places = {joined.place(row) for row in joined.rows(wanted)}
        assert {place.pack for place in places} == {row[2] for row in rows_of(sections) if row[1] == wanted}
    assert list(joined.rows(bytes(32))) == []


def test_ids_stay_in_memory_where_there_is_no_room_for_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(merging, "_folder", lambda: str(tmp_path / "missing"))
    column = IdColumn(spill=True)
    column.append(b"a" * 32)
    assert column.finish() == b"a" * 32
    monkeypatch.setattr(merging, "_folder", lambda: "/dev")
    full = Path("/dev/full")
    if not full.exists():
        return
    with full.open("r+b", buffering=0) as file:
        monkeypatch.setattr(merging.tempfile, "TemporaryFile", lambda **_options: file)
        column = IdColumn(spill=True)
        column.append(b"b" * 32)
        assert column.finish() == b"b" * 32


def test_what_marked_rows_of_a_section_hold() -> None:
    packs = honest(8, count=4)
    section = section_of(Kind.DATA, packs, SIGNER)
    marks = bytearray(len(section))
    marks[::3] = b"\1" * len(marks[::3])
    total, used = array("Q", [0] * 4), array("Q", [0] * 4)
    for row in range(len(section)):
        total[section.pack_number(row)] += section.lengths[row]
        used[section.pack_number(row)] += section.lengths[row] * marks[row]
    assert section.pack_bytes() == list(total)
    assert section.pack_bytes(marks) == list(used)
    assert sum(section.segment_bytes(marks)) == sum(used)
