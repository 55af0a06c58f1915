"""Retention of stores with levels: nothing that stays loses what it needs, wherever a deletion breaks off."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from chains.shelf import T0, Shelf, directory, file
from hypothesis import given, settings
from hypothesis import strategies as st
from joining_storage import JoiningStorage

from freezer_sdk import Freezer, RetentionPolicy
from freezer_sdk.crypto import sealed
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.chains.catalog import Catalog, leftovers
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.lock import SeriesLock
from freezer_sdk.engines.chains.removal import mark_started, remove_level, tidy
from freezer_sdk.engines.chains.retention import ChainRetention
from freezer_sdk.errors import (
    BackupNotFound,
    ConfigurationError,
    PolicyRefusal,
    RepositoryLocked,
    StorageUnavailable,
    WrongPassword,
)
from freezer_sdk.model import Status
from freezer_sdk.policy.retention import plan
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing.faults import Fault, FaultyStorage, fail

CUT = StorageUnavailable("the cable is cut")
DAY = 86_400


def fill(storage, runs, *, series="host_name", folder="tar"):
    """Levels as the original writes them; ``runs`` are (chain, level, time), in days after T0."""
    made = []
    for chain, level, time in runs:
        place = LevelId(folder=folder, series=series, chain=T0 + chain * DAY, level=level, time=T0 + time * DAY)
        storage.put(place.data, [b"stream"])
        storage.put(place.engine_metadata, [b"state"])
        storage.put(place.metadata, [b'{"engine_name": "tar", "compression": "gzip", "encryption": false}'])
        made.append(place)
    return made


def numbers(storage, series="host_name"):
    found = Catalog.read(storage, "tar", series=series).levels
    return sorted(((e.chain - T0) // DAY, e.level, (e.time - T0) // DAY) for e in found)


def day(number):
    return datetime.fromtimestamp(T0 + number * DAY, UTC)


def decide(storage, now, **rules):
    state = Shelf(storage).repository().retention().state()
    policy = RetentionPolicy(**{"floor": timedelta(0), "max_share": 1.0, "group_by": ("host", "name"), **rules})
    return plan(state.backups, policy, now=now, needs=state.needs, holds=state.holds)


def apply(storage, now, **rules):
    found = decide(storage, now, **rules)
    Shelf(storage).repository().retention().forget({each.id: "policy" for each in found.forgotten})
    return numbers(storage)


# -- what is kept ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "age", "left"),
    [
        # the original's "--remove-older-than 0" deletes what it has just made
        ([(0, 0, 0)], 0, [(0, 0, 0)]),
        ([(0, 0, 0), (0, 1, 1), (0, 2, 2)], 0, [(0, 0, 0), (0, 1, 1), (0, 2, 2)]),
        ([(0, 0, 0), (0, 1, 1), (5, 0, 5)], 0, [(5, 0, 5)]),
        # the original deletes young increments together with an old level 0
        ([(0, 0, 0), (0, 1, 1), (0, 2, 28), (29, 0, 29)], 7, [(0, 0, 0), (0, 1, 1), (0, 2, 28), (29, 0, 29)]),
        ([(0, 0, 0), (0, 1, 1), (0, 2, 2), (29, 0, 29)], 7, [(29, 0, 29)]),
        # a repeated level: only the runs that are old, and that nothing needs
        ([(0, 0, 0), (0, 1, 1), (0, 1, 2), (0, 1, 28), (0, 2, 29)], 7, [(0, 0, 0), (0, 1, 28), (0, 2, 29)]),
    ],
)
def test_what_is_old_goes_unless_it_is_needed(runs, age, left):
    storage = MemoryStorage()
    fill(storage, runs)
    assert apply(storage, day(30), older_than=timedelta(days=age)) == left
    assert leftovers(storage, "tar") == []


def test_what_is_needed_is_told_as_such():
    storage = MemoryStorage()
    fill(storage, [(0, 0, 0), (0, 1, 1), (0, 2, 2)])
    (group,) = decide(storage, day(30), keep_last=1).groups
    newest = group.decisions[0].backup.id
    assert [[(r.rule, r.slot) for r in each.reasons] for each in group.decisions] == [
        [("last", "1"), ("newest", "")],
        [("needed", newest)],
        [("needed", newest)],
    ]


def test_the_newest_of_every_series_stays():
    storage = MemoryStorage()
    for series in ("a_x", "a_y", "b_x"):
        fill(storage, [(0, 0, 0), (0, 1, 1), (4, 0, 4)], series=series)
    apply(storage, day(30), older_than=timedelta(0))
    assert [numbers(storage, series) for series in ("a_x", "a_y", "b_x")] == [[(4, 0, 4)]] * 3


def test_backups_that_take_no_part_keep_what_they_need():
    storage = MemoryStorage()
    fill(storage, [(0, 0, 0), (0, 1, 1), (3, 0, 3)])
    state = Shelf(storage).repository().retention().state()
    part = [each for each in state.backups if each.level == 0]
    rules = RetentionPolicy(keep_last=1, floor=timedelta(0))
    assert {each.level for each in plan(part, rules, now=day(9)).forgotten} == {0}
    assert plan(part, rules, now=day(9), needs=state.needs).forgotten == ()


@st.composite
def histories(draw):
    """Runs of a few series, as the engine could have made them, with some of them missing."""
    storage = MemoryStorage()
    for series in ("a_x", "b_x"):
        time, runs = 0, []
        for _chain in range(draw(st.integers(0, 3))):
            start, highest = time, 0
            for _ in range(draw(st.integers(1, 6))):
                level = 0 if time == start else draw(st.sampled_from(sorted({max(1, highest), highest + 1})))
                highest = max(highest, level)
                runs.append((start, level, time))
                time += draw(st.integers(1, 20))
        missing = draw(st.sets(st.sampled_from(runs), max_size=2)) if runs else set()
        fill(storage, [run for run in runs if run not in missing], series=series)
    return storage, time


@given(history=histories(), data=st.data())
@settings(deadline=None, max_examples=80)
def test_nothing_that_stays_loses_what_it_needs(history, data):
    storage, last = history
    rules = data.draw(
        st.fixed_dictionaries(
            {"keep_last": st.integers(1, 3)},
            optional={
                "keep_weekly": st.integers(0, 3),
                "older_than": st.integers(0, 60).map(lambda days: timedelta(days=days)),
                "group_by": st.sampled_from([("host", "name"), ("host",), ()]),
            },
        )
    )
    now = day(last + data.draw(st.integers(0, 40)))
    before = {each.id: each for each in Shelf(storage).repository().retention().state().backups}
    found = decide(storage, now, **rules)
    needs = Shelf(storage).repository().retention().state().needs
    kept = {each.id for each in found.kept}
    assert all(set(needs[each]) <= kept for each in kept)
    alone = plan(before.values(), found.policy, now=now)
    assert {each.id for each in alone.kept} <= kept
    assert kept - {each.id for each in alone.kept} <= {need for each in kept for need in needs[each]}
    apply(storage, now, **rules)
    after = {each.id: each for each in Shelf(storage).repository().backups()}
    assert after == {key: before[key] for key in kept}
    for group in found.groups:
        whole = [each.backup for each in group.decisions if each.backup.status is Status.COMPLETE]
        assert not whole or whole[0].id in kept


# -- deletion --------------------------------------------------------------------------------------------------

RUNS = [(0, 0, 0), (0, 1, 1), (0, 2, 2), (0, 2, 3), (9, 0, 9), (9, 1, 10)]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("chosen", [RUNS[:4], [(0, 2, 2), (9, 1, 10)], RUNS])
def test_deletion_may_break_off_at_any_call(when, chosen):
    at, done = 1, False
    while not done:
        inner = MemoryStorage()
        made = dict(zip(RUNS, fill(inner, RUNS), strict=True))
        storage = FaultyStorage(inner, Fault(fail(CUT), at=at, times=None, when=when))
        wanted = {made[run].default_id: "test" for run in chosen}
        try:
            Shelf(storage).repository().forget(wanted)
            done = True
        except StorageUnavailable:
            pass
        standing = Shelf(inner).repository().backups()
        assert all(each.status is not Status.DAMAGED for each in standing), at
        assert set(numbers(inner)) >= set(RUNS) - set(chosen)
        for lock in [info.name for info in inner.list("freezer-sdk/locks/")]:
            inner.delete(lock)  # of a run that died: it ends by itself
        rest = [each.id for each in standing if each.id in wanted]
        Shelf(inner).repository().forget(rest)
        tidy(inner, Catalog.read(inner, "tar", series="host_name"), "tar", "host_name")
        assert numbers(inner) == sorted(set(RUNS) - set(chosen))
        assert leftovers(inner, "tar") == []
        at += 1
    assert at > 10


def test_the_highest_level_goes_first_and_its_mark_before_its_stream():
    storage = FaultyStorage(MemoryStorage())
    made = fill(storage, RUNS[:4])
    Shelf(storage).repository().forget([each.default_id for each in made])
    deleted = [call.name for call in storage.calls if call.method == "delete" and "/locks/" not in call.name]
    marks = [name for name in deleted if name.endswith("/metadata")]
    assert marks == [made[number].metadata for number in (3, 2, 1, 0)]
    for each in made:
        assert deleted.index(each.metadata) < deleted.index(each.data)


def test_segments_go_too():
    storage = JoiningStorage()
    shelf = Shelf(storage)
    shelf.add(0, [directory(b".")])
    assert any("/segments/" in info.name for info in storage.list())
    (backup,) = shelf.backups()
    shelf.repository().forget([backup.id])
    assert list(storage.list()) == []


def test_what_another_one_needs_is_not_deleted():
    storage = MemoryStorage()
    made = fill(storage, RUNS)
    repository = Shelf(storage).repository()
    with pytest.raises(PolicyRefusal, match="needs level 1") as caught:
        repository.forget([made[0].default_id, made[1].default_id, made[2].default_id])
    assert made[3].default_id[:8] in caught.value.hint
    with pytest.raises(BackupNotFound):
        repository.forget([made[5].default_id, "0" * 32])
    assert numbers(storage) == RUNS
    repository.forget([made[2].default_id])  # the same level again came later


def test_a_backup_that_was_made_meanwhile_keeps_what_it_needs():
    storage = MemoryStorage()
    made = fill(storage, RUNS[:2])

    def build_upon(call):
        if not numbers(storage, "host_name")[2:]:
            fill(storage, [(0, 2, 5)])

    faulty = FaultyStorage(storage, Fault(build_upon, methods={"put"}, prefix="freezer-sdk/locks/", when="after"))
    with pytest.raises(PolicyRefusal, match="needs level 1"):
        Shelf(faulty).repository().forget([made[1].default_id])
    assert numbers(storage) == [*RUNS[:2], (0, 2, 5)]


def test_a_series_at_work_is_left_alone():
    storage = MemoryStorage()
    made = fill(storage, RUNS)
    with SeriesLock(storage, "tar", "host_name"), pytest.raises(RepositoryLocked):
        Shelf(storage).repository().forget([made[-1].default_id])
    assert numbers(storage) == RUNS


def test_what_the_original_left_unfinished_is_not_touched():
    storage = MemoryStorage()
    made = fill(storage, [*RUNS, (9, 2, 11)])
    storage.delete(made[-1].metadata)
    apply(storage, day(30), older_than=timedelta(0))
    assert storage.get(made[-1].data) == b"stream"


# -- listings that lag -----------------------------------------------------------------------------------------


class Lagging(MemoryStorage):
    """Its listings stand still from the moment that they are told to."""

    frozen = None

    @property
    def capabilities(self):
        return replace(super().capabilities, listing_lag=timedelta(microseconds=1))

    def freeze(self):
        self.frozen = list(super().list())

    def list(self, prefix="", *, delimiter=None):
        if self.frozen is None:
            return super().list(prefix, delimiter=delimiter)
        return iter([info for info in self.frozen if info.name.startswith(prefix)])


def test_what_was_just_forgotten_is_not_the_newest():
    storage = Lagging()
    made = fill(storage, [(0, 0, 0), (1, 0, 1), (2, 0, 2)])
    storage.freeze()
    Shelf(storage).repository().forget([made[2].default_id])
    (found,) = decide(storage, day(9), keep_last=1).kept
    assert found.id == made[1].default_id
    apply(storage, day(9), keep_last=1)
    storage.frozen = None
    assert numbers(storage) == [(1, 0, 1)]


def test_what_needed_it_and_was_just_forgotten_is_in_nobodys_way():
    storage = Lagging()
    made = fill(storage, RUNS[:3])
    storage.freeze()
    for level in reversed(made):
        Shelf(storage).repository().forget([level.default_id])
    storage.frozen = None
    assert list(storage.list()) == []


def test_a_backup_that_is_not_listed_yet_is_no_leftover():
    storage = Lagging()
    (level,) = fill(storage, RUNS[:1])
    metadata = storage.get(level.metadata)
    storage.delete(level.metadata)
    mark_started(storage, level)
    storage.freeze()
    storage.put(level.metadata, [metadata])
    assert tidy(storage, Catalog.read(storage, "tar", series="host_name"), "tar", "host_name") == []
    storage.frozen = None
    assert numbers(storage) == RUNS[:1]
    assert storage.get(level.data) == b"stream"


def test_what_is_not_listed_yet_is_removed_with_its_level():
    storage = Lagging()
    storage.freeze()
    (level,) = fill(storage, RUNS[:1])
    remove_level(storage, level)
    storage.frozen = None
    assert list(storage.list()) == []


# -- holds -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cheap(monkeypatch):
    """Passwords that are as easy to guess as to try."""
    monkeypatch.setattr(sealed, "Argon2Params", partial(Argon2Params, memory=64, time=1, lanes=1))


@pytest.mark.parametrize("password", [None, "correct horse"])
def test_holds_keep_a_backup_and_what_it_needs(password, cheap):
    shelf = Shelf(password=password)
    for level in range(3):
        shelf.add(level, [directory(b"."), file(b"a", 0)])
    shelf.add(0, [directory(b".")], chain=T0 + DAY)
    middle = shelf.backups()[1]
    retention = shelf.repository().retention()
    hold = retention.hold(middle.id, reason="the auditors'", until=None)
    stored = [shelf.storage.get(info.name) for info in shelf.storage.list("freezer-sdk/holds/")]
    assert len(stored) == 1
    assert (b"auditors" in stored[0]) is (password is None)
    assert shelf.repository().retention().holds() == (hold,)
    state = shelf.repository().retention().state()
    rules = RetentionPolicy(keep_last=1, floor=timedelta(0), group_by=("host", "name"))
    found = plan(state.backups, rules, now=day(30), needs=state.needs, holds=state.holds)
    assert [each.level for each in found.forgotten] == [2]
    with pytest.raises(PolicyRefusal, match="auditors"):
        shelf.repository().forget([each.id for each in shelf.backups()])
    assert retention.release(middle.id) == [hold]
    assert retention.holds() == ()
    assert list(shelf.storage.list("freezer-sdk/holds/")) == []
    if password:
        retention.hold(middle.id, reason="again", until=None)
        with pytest.raises(WrongPassword):
            shelf.repository("another").retention().holds()


def test_a_hold_that_comes_just_in_time():
    shelf = Shelf()
    level = shelf.add(0, [directory(b".")])
    (backup,) = shelf.backups()

    def hold(call):
        if not list(shelf.storage.list("freezer-sdk/holds/")):
            shelf.repository().retention().hold(backup.id, reason="wait!", until=None)

    faulty = FaultyStorage(shelf.storage, Fault(hold, methods={"put"}, prefix="freezer-sdk/locks/", when="after"))
    with pytest.raises(PolicyRefusal, match="wait!"):
        Shelf(faulty).repository().forget([backup.id])
    assert shelf.storage.get(level.data)


def test_holds_end_by_themselves():
    shelf = Shelf()
    shelf.add(0, [directory(b".")])
    (backup,) = shelf.backups()
    clock = [datetime.now(UTC)]
    retention = shelf.repository().retention()
    until = clock[0] + timedelta(hours=1)
    retention.hold(backup.id, reason="for an hour", until=until)
    assert shelf.repository().retention().holds()[0].until == until
    store = shelf.store()
    late = ChainRetention(store, shelf.repository()._listing, clock=lambda: clock[0] + timedelta(hours=2))
    assert late.holds()  # a clock that runs ahead ends nothing
    store.storage.now = lambda: clock[0] + timedelta(hours=2)
    assert late.holds() == ()
    late.forget({backup.id: "test"})


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff", b"[1]", b'{"until": 3, "reason": "", "created": ""}', b"x" * 20_000]
)
def test_a_hold_that_cannot_be_read_holds(content):
    shelf = Shelf()
    shelf.add(0, [directory(b".")])
    (backup,) = shelf.backups()
    retention = shelf.repository().retention()
    retention.hold(backup.id, reason="x", until=None)
    (name,) = [info.name for info in shelf.storage.list("freezer-sdk/holds/")]
    shelf.storage.put(name, [content])
    shelf.storage.put("freezer-sdk/holds/junk", [b"x"])
    with pytest.raises(PolicyRefusal, match="cannot be read"):
        retention.forget({backup.id: "test"})
    retention.release(backup.id)
    retention.forget({backup.id: "test"})


# -- by the library --------------------------------------------------------------------------------------------


def test_nothing_comes_back(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with Freezer(MemoryStorage(), create=True, engine="tar", encryption=False) as freezer:
        first, second = (freezer.backup(tmp_path, name="t") for _ in range(2))
        rules = RetentionPolicy(older_than=timedelta(0), floor=timedelta(0), max_share=1.0)
        done = freezer.retention.apply(rules)
        assert [each.id for each in done.forgotten] == [first.id]
        assert [each.id for each in freezer.backups()] == [second.id]
        assert not freezer.capabilities.undelete
        for call in (freezer.retention.forgotten, lambda: freezer.retention.undelete(first.id)):
            with pytest.raises(ConfigurationError, match="deletes what is forgotten"):
                call()
