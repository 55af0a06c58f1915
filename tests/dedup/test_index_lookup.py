"""Looking blobs up: the same answers from few and from very many sections, in memory and in files."""

from __future__ import annotations

import random
import threading
from mmap import mmap

import pytest

from freezer_sdk.engines.dedup import lookup
from freezer_sdk.engines.dedup.index import BlobIndex, PackRows, Section, section_of
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.pack import SegmentRow
from freezer_sdk.engines.dedup.section import Place

FRIEND, STRANGER = b"f" * 16, b"s" * 16


def trusts(slot: bytes) -> bool:
    return slot == FRIEND


class Sample:
    """Sections of packs, and what is known about every blob."""

    def __init__(self, seed: int, sections: int, blobs: int) -> None:
        rng = random.Random(seed)
        self.blobs = [rng.randbytes(32) for _ in range(blobs)]
        self.sections: list[Section] = []
        self.places: dict[tuple[Kind, bytes], dict[Place, bool]] = {}
        for _ in range(sections):
            kind = rng.choice(list(Kind))
            signer, packs = rng.choice((FRIEND, FRIEND, STRANGER)), []
            for _ in range(rng.randrange(1, 4)):
                rows = []
                for _ in range(rng.randrange(1, 4)):
                    ids = rng.sample(self.blobs, rng.randrange(1, 12))
                    rows.append(SegmentRow(1000, ids, [rng.randrange(1, 99) for _ in ids]))
                packs.append(PackRows(kind, rng.randbytes(32), 0, rows, rng.choice((FRIEND, FRIEND, STRANGER))))
                self._note(packs[-1], signer)
            self.sections.append(section_of(kind, packs, signer))

    def _note(self, pack: PackRows, signer: bytes) -> None:
        for number, row in enumerate(pack.rows):
            start = 0
            for blob, length in zip(row.ids, row.lengths, strict=True):
                place = Place(pack.kind, pack.digest, 1000 * number, 1000, start, length)
                self.places.setdefault((pack.kind, blob), {})[place] = signer == pack.writer == FRIEND
                start += length

    def check(self, index: BlobIndex) -> None:
        """Everything that can be asked."""
        for kind in Kind:
            for blob in self.blobs:
                places = self.places.get((kind, blob), {})
                good = {place for place, trusted in places.items() if trusted and place.pack not in index.condemned}
                whole = {place for place in places if place.pack not in index.condemned}
                found = index.find(kind, blob)
                assert (found is None) is not bool(places)
                assert found in (good or whole or places or {None})
                assert set(index.places(kind, blob)) == set(places)
                assert len(index.places(kind, blob)) == len(places)
                assert index.reusable(kind, blob) is bool(good)
                best = index.row_of(kind, blob)
                assert (best is None) is not bool(places)
                assert best is None or best[0].place(best[1]) in (good or whole or places)
            assert index.packs(kind) == {
                place.pack for of, _blob in self.places for place in self.places[of, _blob] if of is kind
            }


THRESHOLDS = {
    "as shipped": {},
    "all large": {"_SMALL": 0},
    "joined when searched": {"_SMALL": 0, "_PROBES": 0},
    "small ones joined": {"_MOST_SMALL": 40, "_RUN": 100},
    "in files": {"_SMALL": 30, "_SPILLED": 1, "_RUN": 60, "_MOST_SMALL": 10},
    "in few files": {"_SMALL": 0, "_SPILLED": 400, "_MOST_SECTIONS": 3},
}


@pytest.mark.parametrize("thresholds", THRESHOLDS.values(), ids=THRESHOLDS)
@pytest.mark.parametrize("condemned", [False, True])
def test_answers_do_not_depend_on_how_sections_are_kept(
    monkeypatch: pytest.MonkeyPatch, thresholds: dict[str, int], condemned: bool
) -> None:
    for name, value in thresholds.items():
        monkeypatch.setattr(lookup, name, value)
    sample = Sample(7, sections=60, blobs=300)
    packs = sorted({pack for section in sample.sections for pack in section.packs})
    index = BlobIndex(frozenset(packs[::4]) if condemned else frozenset(), trusts=trusts)
    for number, section in enumerate(sample.sections):
        index.add(section)
        if number % 17 == 0:
            index.find(section.kind, section.blob(0))
    sample.check(index)
    index.distrust(packs[1])
    sample.check(index)
    index.settle()
    assert len(index.sections) <= 4
    sample.check(index)
    more = Sample(8, sections=9, blobs=30)
    for section in more.sections:
        index.add(section)
    assert all(index.find(kind, blob) in places for (kind, blob), places in more.places.items())


def test_rows_stay_what_they_are_once_settled() -> None:
    sample = Sample(3, sections=40, blobs=200)
    index = BlobIndex(trusts=trusts)
    for section in sample.sections:
        index.add(section)
    index.settle()
    sections = index.sections
    before = {blob: index.rows_of(Kind.DATA, blob) for blob in sample.blobs}
    for blob in sample.blobs * 50:
        index.find(Kind.DATA, blob)
    assert index.sections == sections
    assert {blob: index.rows_of(Kind.DATA, blob) for blob in sample.blobs} == before
    for blob, rows in before.items():
        assert all(section in sections and section.blob(row) == blob for section, row in rows)


def test_ids_of_large_indexes_lie_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_SMALL", 10)
    monkeypatch.setattr(lookup, "_SPILLED", 50)
    index = BlobIndex(trusts=trusts)
    for section in Sample(1, sections=60, blobs=500).sections:
        index.add(section)
    assert any(isinstance(section.ids, mmap) for section in index.sections)


def test_a_long_backup_neither_searches_many_sections_nor_moves_rows_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_SMALL", 0)
    moved = []

    def join(sections: list[Section], *, spill: bool) -> Section:
        moved.append(sum(map(len, sections)))
        return joining(sections, spill=spill)

    joining = lookup.join
    monkeypatch.setattr(lookup, "join", join)
    rng = random.Random(4)
    index = BlobIndex(trusts=trusts)
    most = 0
    for _ in range(150):
        rows = [SegmentRow(100, [rng.randbytes(32) for _ in range(40)], [5] * 40)]
        index.add(section_of(Kind.DATA, [PackRows(Kind.DATA, rng.randbytes(32), 0, rows, FRIEND)], FRIEND))
        assert not any(index.reusable(Kind.DATA, rng.randbytes(32)) for _ in range(60))
        most = max(most, len(index.sections))
    assert most <= 24
    assert sum(moved) <= 150 * 40 * 8  # each row as often as sizes can double


def test_several_threads_find_everything_while_sections_are_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_PROBES", 1)
    monkeypatch.setattr(lookup, "_SMALL", 20)
    sample = Sample(5, sections=200, blobs=3000)
    index = BlobIndex(trusts=trusts)
    for section in sample.sections:
        index.add(section)
    missed = []

    def look(seed: int) -> None:
        wanted = sorted(sample.places)
        random.Random(seed).shuffle(wanted)
        missed.extend(key for key in wanted if index.find(*key) not in sample.places[key])

    threads = [threading.Thread(target=look, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missed == []


def test_nothing_may_be_reused_where_nobody_is_trusted() -> None:
    (section,) = Sample(2, sections=1, blobs=20).sections
    index = BlobIndex()
    index.add(section)
    assert index.find(section.kind, section.blob(0)) is not None
    assert not index.reusable(section.kind, section.blob(0))
