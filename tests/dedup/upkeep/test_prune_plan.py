"""Which packs go, and which marks are due: pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dedup.upkeep.world import Clocked, keys_of, new_repository, opened, write_files
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk import RepositoryLocked
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.engines.dedup.upkeep.plan import PackFigures, choose, find_due
from freezer_sdk.engines.dedup.upkeep.prune import Prune
from freezer_sdk.storages.base import Capabilities
from freezer_sdk.upkeep_model import PruneOptions

START = datetime(2026, 1, 1, tzinfo=UTC)
GRACE, SLACK = timedelta(hours=1), timedelta(seconds=2)
HOUR = 3600


@st.composite
def packs(draw: st.DrawFn) -> list[PackFigures]:
    found = []
    for number in range(draw(st.integers(0, 40))):
        size = draw(st.integers(1, 2000))
        needed = draw(st.one_of(st.just(0), st.just(size), st.integers(0, size)))
        kind, flags = draw(st.sampled_from(Kind)), draw(st.tuples(st.booleans(), st.booleans()))
        found.append(PackFigures(kind, bytes([number]) * 32, size, needed, flags[0] and flags[1], flags[1]))
    return found


@given(packs(), st.floats(0, 1), st.one_of(st.none(), st.integers(0, 20_000)))
def test_what_is_chosen(found: Sequence[PackFigures], max_waste: float, max_rewrite: int | None) -> None:
    plan = choose(found, max_waste=max_waste, max_rewrite=max_rewrite, pack_size=1000)
    known = {pack.digest: pack for pack in found}
    assert plan.dead == {pack.digest for pack in found if not pack.needed and not pack.fixed}
    assert all(known[digest].needed and not known[digest].fixed for digest in plan.rewrite)
    if max_rewrite is not None:
        assert sum(known[digest].needed for digest in plan.rewrite) <= max_rewrite
    else:
        assert {pack.digest for pack in found if pack.urgent and pack.needed and not pack.fixed} <= plan.rewrite
    staying = [pack for pack in found if pack.digest not in plan.dead | plan.rewrite]
    assert plan.wasted == sum(pack.wasted for pack in staying)
    movable = [pack for pack in staying if pack.wasted and not pack.fixed]
    if movable and max_rewrite is None:
        assert plan.wasted <= max_waste * sum(pack.size for pack in found if pack.digest not in plan.dead)


def mark(generation: int, at: int, name: str = "m") -> protocol.Mark:
    stored = START + timedelta(seconds=at)
    return protocol.Mark(
        name=f"marks/{name}{generation}",
        generation=generation,
        packs=frozenset([bytes([generation, at % 256]) * 16]),
        created=stored,
        stored=stored,
    )


def due_at(now: int, *marks: protocol.Mark, decided: int = 0, lease: tuple[int, int] | None = None) -> list[int]:
    """Generations of the marks whose packs are due."""
    decisions = (
        protocol.Decision(
            name="d",
            generation=decided,
            condemned=frozenset(),
            alive=frozenset(),
            released=frozenset(),
            stored=START,
        ),
    )
    leases = []
    if lease is not None:
        opened_at, refreshed = (START + timedelta(seconds=each) for each in lease)
        state = protocol.LeaseState(
            id="l", slot=b"", backup=None, host="", opened=opened_at, refreshed=refreshed, closed=False
        )
        leases = [state]
    found = find_due(
        protocol.Marks(generation=0, condemned=frozenset(), marks=tuple(marks), problems=()),
        protocol.Sweeps(generation=0, announcements=(), decisions=decisions if decided else (), problems=()),
        leases,
        now=START + timedelta(seconds=now),
        grace=GRACE,
        slack=SLACK,
    )
    due = sorted(each.generation for each in marks if each.packs <= found.packs)
    assert found.generation == max(due, default=0)
    everything = frozenset[bytes]().union(*(each.packs for each in marks))
    waiting = frozenset[bytes]().union(*(each.packs for each in found.waiting))
    assert found.packs | waiting | found.spent == everything
    return due


def test_when_marks_are_due() -> None:
    assert due_at(HOUR + 2, mark(1, 0)) == []
    assert due_at(HOUR + 3, mark(1, 0)) == [1]
    assert due_at(HOUR + 3, mark(1, 0), mark(2, 100)) == [1]
    assert due_at(HOUR + 103, mark(1, 0), mark(2, 100)) == [1, 2]
    assert due_at(2 * HOUR, mark(3, 0), mark(3, 5, "n")) == []
    assert due_at(2 * HOUR, mark(3, 0), decided=3) == []
    assert due_at(2 * HOUR, mark(3, 0), decided=4) == []
    assert due_at(2 * HOUR, mark(3, 0), decided=2) == [3]
    assert due_at(2 * HOUR, mark(2, 50), mark(3, 50)) == [3], "equal times: a writer may have seen only the newer one"
    assert due_at(2 * HOUR, mark(2, 50), mark(3, 40)) == [3]


@pytest.mark.parametrize(
    ("opened_at", "refreshed", "due"),
    [
        (-10, 2 * HOUR - 60, []),
        (2, 2 * HOUR - 60, []),
        (3, 2 * HOUR - 60, [1]),
        (-10, HOUR - 3, [1]),
        (-10, HOUR - 2, []),
    ],
)
def test_marks_wait_for_older_leases(opened_at: int, refreshed: int, due: list[int]) -> None:
    assert due_at(2 * HOUR, mark(1, 0), lease=(opened_at, refreshed)) == due


class Lagging(Clocked):
    """Listings may miss what was stored in the last seconds; there is no conditional put."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_put=False, listing_lag=timedelta(seconds=7), remote=False, persistent=False)


def test_where_listings_lag_a_prune_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    storage = Lagging()
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    new_repository(storage)
    with opened(storage) as freezer:
        freezer.forget(freezer.backup(write_files(tmp_path, seed=1), name="a").id)
        handle: Handle = freezer._opened()._handle  # type: ignore[attr-defined]
    storage.pass_time(60)
    waits: list[float] = []
    assert Prune(handle, PruneOptions(), Context(), wait=waits.append).run().marked_packs
    assert waits == [7.0, 7.0]
    storage.pass_time()
    assert Prune(handle, PruneOptions(), Context(), wait=waits.append).run().freed_packs
    assert waits == [7.0, 7.0, 7.0, 14.0, 7.0]


def test_of_two_that_claim_at_once_the_first_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Lagging()
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    new_repository(storage)
    keys = keys_of(storage)
    lost = []

    def second(seconds: float) -> None:
        with pytest.raises(RepositoryLocked), Claim(storage, keys, wait=lambda seconds: None):
            pass
        lost.append(seconds)

    with Claim(storage, keys, wait=second) as claim:
        claim.keep()
    assert lost == [7.0]
    with Claim(storage, keys, wait=lambda seconds: None):
        pass
