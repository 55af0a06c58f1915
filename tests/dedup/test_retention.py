"""Retention in a repository: forgetting by rules, times that survive copies, holds, and the way back."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dedup.two import CHEAP, PASSWORD, SMALL_PACKS, assert_restores, make_tree
from dedup.upkeep.world import (
    NeverOverwrites,
    assert_whole,
    content,
    new_repository,
    opened,
    prune,
    restored,
    write_files,
)

from freezer_sdk import (
    AccessDenied,
    Backup,
    BackupNotFound,
    ConfigurationError,
    CopyOutcome,
    Freezer,
    IntegrityError,
    PolicyRefusal,
    RetentionPlan,
    RetentionPolicy,
    Status,
    StorageUnavailable,
)
from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import control, holds, protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.firstseen import KIND, read_first_seen
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import digest_of, parse_backup_name
from freezer_sdk.engines.dedup.records import PREFIX as RECORDS
from freezer_sdk.engines.dedup.records import read_records
from freezer_sdk.plugins import PluginRegistry
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.subject import build_subject
from freezer_sdk.testing import Fault, FaultyStorage, fail

NOW = datetime(2026, 6, 15, 3, tzinfo=UTC)
DAY = timedelta(days=1)
DAILY = RetentionPolicy(keep_daily=10, zone=UTC)
WRITER = "a writer's password"


class Dated(MemoryStorage):
    """A storage whose clock stands where a test sets it."""

    clock = NOW

    def now(self) -> datetime:
        return self.clock

    def copied(self, *, keep_times: bool) -> Dated:
        """As ``cp -a`` copies a repository, or ``cp -r``."""
        other = Dated()
        other.clock = self.clock
        for name, item in self._space.objects.items():
            info = item.info if keep_times else replace(item.info, modified=self.clock)
            other._space.objects[name] = replace(item, info=info)
        return other


@pytest.fixture
def storage() -> Dated:
    return Dated()


@pytest.fixture
def keys(storage: Dated) -> KeyRing:
    return create_repository(storage, password=PASSWORD, kdf=CHEAP)


@pytest.fixture
def freezer(storage: Dated, keys: KeyRing) -> Iterator[Freezer]:
    with Freezer(storage, password=PASSWORD, engine_options=SMALL_PACKS) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", files=6)


def make_backup(freezer: Freezer, storage: Dated, tree: Path, time: datetime, **values: Any) -> Backup:
    """A backup whose writer believes that it is ``time``.

    Args:
        stored: what the storage's clock says.
    """
    before, storage.clock = storage.clock, values.pop("stored", time)
    try:
        subject = build_subject(
            PluginRegistry(),
            [tree],
            boundary=Boundary({"x": "x"}),
            name=values.pop("name", "etc"),
            mode="fs",
            mode_options={"sync": False},
            tags=values.pop("tags", ()),
            host=values.pop("host", "node1"),
            excludes=(),
            force_read=False,
            dry_run=False,
        )
        with subject.protect(Boundary({"x": "x"})) as protected:
            options = replace(subject.options, time=time, **values)
            return freezer._opened().backup(protected, options, Context())
    finally:
        storage.clock = before


def daily(freezer: Freezer, storage: Dated, tree: Path, count: int) -> list[Backup]:
    """A backup every night, the newest last."""
    return [make_backup(freezer, storage, tree, NOW - n * DAY) for n in reversed(range(count))]


def ids(freezer: Freezer) -> list[str]:
    return [backup.id for backup in freezer.backups()]


def decisions(found: RetentionPlan) -> dict[str, tuple[bool, list[str]]]:
    return {
        each.backup.id: (each.keep, [f"{reason.rule} {reason.slot}" for reason in each.reasons])
        for group in found.groups
        for each in group.decisions
    }


# -- forgetting by rules -----------------------------------------------------------------------------------


def test_forget_by_rules_with_reasons(freezer: Freezer, storage: Dated, keys: KeyRing, tree: Path) -> None:
    made = [each.id for each in daily(freezer, storage, tree, 14)]
    dry = freezer.retention.apply(DAILY, dry_run=True)
    assert not dry.applied
    assert ids(freezer) == made
    assert not list(storage.list(RECORDS)), "a dry run writes nothing"
    done = freezer.retention.apply(DAILY)
    assert done.applied
    assert [backup.id for backup in done.forgotten] == made[3::-1]
    assert ids(freezer) == made[4:]
    stones = {each.backup: each.reason for each in protocol.read_tombstones(storage, keys).tombstones}
    assert stones[made[0]] == "policy: daily 2026-06-02"
    assert [each.reason for each in freezer.retention.forgotten()] == [stones[each] for each in made[:4]]
    again = freezer.retention.apply(DAILY)
    assert again.forgotten == ()
    assert decisions(again) == {key: value for key, value in decisions(done).items() if value[0]}


def test_filters_choose_who_takes_part(freezer: Freezer, storage: Dated, tree: Path) -> None:
    others = [
        make_backup(freezer, storage, tree, NOW - 40 * DAY, host="node2").id,
        make_backup(freezer, storage, tree, NOW - 39 * DAY, name="home", tags=("x",)).id,
    ]
    made = [make_backup(freezer, storage, tree, NOW - n * DAY, tags=("y",)).id for n in (30, 20, 10)]
    rules = RetentionPolicy(keep_last=2)
    for wanted in ({"host": "node2"}, {"name": "home"}, {"tags": ["x"]}, {"tags": ["y"], "host": "node2"}):
        assert not freezer.retention.apply(rules, **wanted).forgotten
    found = freezer.retention.plan(rules, name="etc", host="node1", tags=["y"])
    assert [backup.id for backup in found.forgotten] == made[:1]
    assert len(found.groups) == 1
    freezer.retention.apply(rules)
    assert ids(freezer) == [*others, *made[1:]]


def test_the_guard_stops_everything_unless_forced(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = [make_backup(freezer, storage, tree, NOW - n * 10 * DAY).id for n in (4, 3, 2, 1)]
    make_backup(freezer, storage, tree, NOW - 50 * DAY, host="node2")
    rules = RetentionPolicy(keep_last=1)
    assert [group.refused for group in freezer.retention.plan(rules).groups] == [True, False]
    with pytest.raises(PolicyRefusal, match="3 of 4") as refusal:
        freezer.retention.apply(rules)
    assert refusal.value.exit_code == 14
    assert len(ids(freezer)) == 5
    assert not freezer.retention.forgotten()
    freezer.retention.apply(replace(rules, max_share=0.75), dry_run=True)
    freezer.retention.apply(rules, force=True)
    assert made[-1] in ids(freezer)
    assert len(ids(freezer)) == 2


def test_a_policy_that_keeps_nothing_is_refused_before_anything_is_read(freezer: Freezer) -> None:
    for rules in (RetentionPolicy(), RetentionPolicy(keep_daily=-1), RetentionPolicy(keep_daily=1, group_by=("x",))):
        with pytest.raises(ConfigurationError):
            freezer.retention.apply(rules, force=True)


def test_a_commit_that_cannot_be_read_is_left_alone(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = daily(freezer, storage, tree, 12)
    name = next(info.name for info in storage.list("backups/") if made[0].id in info.name)
    storage.put(name, [b"x" * 500])
    with Freezer(storage, password=PASSWORD) as opened:
        found = opened.retention.plan(DAILY)
        assert decisions(found)[made[0].id] == (True, ["damaged "])
        assert [backup.id for backup in found.forgotten] == [made[1].id]


def test_only_maintainers_forget(storage: Dated, keys: KeyRing, freezer: Freezer, tree: Path) -> None:
    daily(freezer, storage, tree, 12)
    add_slot(storage, keys, password=WRITER, roles={Role.WRITER, Role.READER}, kdf=CHEAP)
    with Freezer(storage, password=WRITER) as other:
        assert other.retention.plan(DAILY).forgotten
        before = set(storage._space.objects)
        with pytest.raises(AccessDenied):
            other.retention.apply(DAILY)
        with pytest.raises(AccessDenied):
            other.retention.hold(ids(other)[0], reason="mine")
        assert set(storage._space.objects) == before


@pytest.mark.parametrize("when", ["before", "after"])
def test_forgetting_that_fails_at_any_call_is_done_by_the_next_run(
    freezer: Freezer, storage: Dated, tree: Path, when: Any
) -> None:
    made = [each.id for each in daily(freezer, storage, tree, 13)]
    rules = replace(DAILY, max_share=1.0)
    counting = FaultyStorage(storage.copied(keep_times=True))
    with Freezer(counting, password=PASSWORD):
        opening = len(counting.calls)
    for number in itertools.count(1):
        copy = storage.copied(keep_times=True)
        faulty = FaultyStorage(copy, Fault(fail(StorageUnavailable("gone")), at=opening + number, when=when))
        with Freezer(faulty, password=PASSWORD) as opened:
            try:
                opened.retention.apply(rules)
            except StorageUnavailable:
                pass
            else:
                break
        with Freezer(copy, password=PASSWORD) as opened:
            assert set(made[3:]) <= set(ids(opened))
            opened.retention.apply(rules)
            assert ids(opened) == made[3:]
    assert number > 8


# -- times -------------------------------------------------------------------------------------------------


def test_a_copy_of_the_storage_decides_the_same(freezer: Freezer, storage: Dated, tree: Path) -> None:
    daily(freezer, storage, tree, 14)
    expected = decisions(freezer.retention.plan(DAILY))
    with Freezer(storage.copied(keep_times=True), password=PASSWORD) as copy:
        assert decisions(copy.retention.plan(DAILY)) == expected
        copy.retention.apply(DAILY)
        assert len(ids(copy)) == 10


def test_a_copy_that_lost_the_times_forgets_nothing(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = [each.id for each in daily(freezer, storage, tree, 14)]
    with Freezer(storage.copied(keep_times=False), password=PASSWORD) as copy:
        found = copy.retention.apply(DAILY, force=True)
        assert found.forgotten == ()
        assert ids(copy) == made
        assert decisions(found)[made[0]][1][0].startswith("implausible ")
        assert copy.find_backup(host="node1").id == made[-1]


@pytest.mark.parametrize(("options", "forgets"), [("-a", 4), ("-r", 0)])
def test_cp_of_a_real_repository(tmp_path: Path, tree: Path, options: str, forgets: int) -> None:
    with LocalStorage(path=str(tmp_path / "store")) as local:
        create_repository(local, password=PASSWORD, kdf=CHEAP)
        with Freezer(local, password=PASSWORD) as freezer:
            for n in reversed(range(14)):
                made = make_backup(freezer, Dated(), tree, NOW - n * DAY)
                (commit,) = (tmp_path / "store" / "backups").glob(f"*{made.id}")
                os.utime(commit, (made.time.timestamp(),) * 2)
    subprocess.run(["cp", options, tmp_path / "store", tmp_path / "copy"], check=True)
    with Freezer(f"local:{tmp_path / 'copy'}", password=PASSWORD) as copy:
        before = ids(copy)
        assert len(copy.retention.apply(DAILY, force=True).forgotten) == forgets
        assert ids(copy) == before[forgets:]
        assert copy.verify(read_data=True).ok
    with Freezer(f"local:{tmp_path / 'store'}", password=PASSWORD) as freezer:
        assert ids(freezer) == before


def test_times_that_were_written_down_survive_such_a_copy(freezer: Freezer, storage: Dated, tree: Path) -> None:
    daily(freezer, storage, tree, 14)
    freezer.retention.apply(replace(DAILY, keep_daily=13))
    expected = decisions(freezer.retention.plan(DAILY))
    copied = storage.copied(keep_times=False)
    with Freezer(copied, password=PASSWORD) as copy:
        assert all(backup.plausible for backup in copy.backups())
        assert decisions(copy.retention.plan(DAILY)) == expected


def test_a_copied_backup_keeps_the_time_when_it_was_first_seen(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = daily(freezer, storage, tree, 14)
    lie = make_backup(freezer, storage, tree, NOW - 90 * DAY, stored=NOW - 9 * DAY)
    other, third = Dated(), Dated()
    for each in (other, third):
        create_repository(each, password=PASSWORD, kdf=CHEAP)
    with Freezer(other, password=PASSWORD) as target, Freezer(third, password=PASSWORD) as last:
        assert {each.outcome for each in target.copy(freezer)} == {CopyOutcome.COPIED}
        assert decisions(target.retention.plan(DAILY)) == decisions(freezer.retention.plan(DAILY))
        last.copy(target)
        assert [each.id for each in last.backups() if not each.plausible] == [lie.id]
        assert {each.id: each.first_seen for each in last.backups()}[made[0].id] == made[0].time
        assert {each.outcome for each in last.copy(target)} == {CopyOutcome.PRESENT}


@pytest.mark.parametrize("year", [1970, 2106])
def test_dates_far_off(freezer: Freezer, storage: Dated, tree: Path, year: int) -> None:
    odd = make_backup(freezer, storage, tree, datetime(year, 2, 1, tzinfo=UTC), stored=NOW - 12 * DAY)
    made = daily(freezer, storage, tree, 14)
    assert freezer.find_backup(name="etc", host="node1").id == made[-1].id
    found = freezer.retention.apply(DAILY)
    assert [backup.id for backup in found.forgotten] == [each.id for each in made[3::-1]]
    assert odd.id in ids(freezer)
    freezer.forget(odd.id)
    assert odd.id not in ids(freezer)
    assert freezer.verify(read_data=True).ok


def test_a_backup_from_the_future_is_no_parent_of_later_ones(freezer: Freezer, storage: Dated, tree: Path) -> None:
    odd = make_backup(freezer, storage, tree, datetime(2106, 2, 1, tzinfo=UTC), stored=NOW - 3 * DAY)
    first = make_backup(freezer, storage, tree, NOW - 2 * DAY)
    assert first.parent == odd.id, "there is no other"
    assert make_backup(freezer, storage, tree, NOW - DAY).parent == first.id


def test_latest_is_an_odd_one_only_when_there_is_no_other(freezer: Freezer, storage: Dated, tree: Path) -> None:
    odd = make_backup(freezer, storage, tree, NOW + 400 * DAY, stored=NOW - 3 * DAY)
    assert freezer.find_backup(host="node1").id == odd.id
    made = make_backup(freezer, storage, tree, NOW - 2 * DAY)
    assert freezer.find_backup(host="node1").id == made.id


def test_a_storage_clock_that_runs_ahead_makes_nothing_old(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = make_backup(freezer, storage, tree, datetime.now(UTC) - DAY)
    make_backup(freezer, storage, tree, datetime.now(UTC) - DAY / 2)
    storage.clock = datetime(2106, 1, 1, tzinfo=UTC)
    assert not freezer.retention.plan(RetentionPolicy(older_than=2 * DAY)).forgotten
    storage.clock = datetime(1970, 1, 1, tzinfo=UTC)
    assert not freezer.retention.plan(RetentionPolicy(keep_last=1)).forgotten
    assert made.id in ids(freezer)


def test_many_records_of_times_become_one(freezer: Freezer, storage: Dated, keys: KeyRing, tree: Path) -> None:
    first = make_backup(freezer, storage, tree, NOW - 60 * DAY)
    gone = make_backup(freezer, storage, tree, NOW - 59 * DAY, host="node2")
    for n in range(40):
        made = make_backup(freezer, storage, tree, NOW - (45 - n) * DAY)
        storage.clock = made.time
        freezer.retention.apply(RetentionPolicy(keep_yearly=9, older_than=500 * DAY))
        if n == 20:
            storage.delete(next(info.name for info in storage.list("backups/") if gone.id in info.name))
    assert len(read_records(storage, keys, KIND)) < 15
    times = read_first_seen(storage, keys).times
    assert times[first.id] == first.time
    assert len(times) == 41
    assert gone.id not in times


# -- writers who are not trusted ------------------------------------------------------------------------------


def test_an_untrusted_writer_changes_nothing_for_others(
    storage: Dated, keys: KeyRing, freezer: Freezer, tree: Path
) -> None:
    """Floods under the same host and name, with honest and forged times, before and after a maintenance."""
    add_slot(storage, keys, password=WRITER, roles={Role.WRITER, Role.READER}, kdf=CHEAP)
    made = [each.id for each in daily(freezer, storage, tree, 14)]
    with Freezer(storage, password=PASSWORD) as opened, Freezer(storage, password=WRITER) as attacker:
        expected = decisions(opened.retention.plan(DAILY))
        lies = []
        for n in range(14):
            honest = NOW - n * DAY + timedelta(hours=5)
            lies.append(make_backup(attacker, storage, tree, honest).id)
            lies.append(make_backup(attacker, storage, tree, NOW + (n - 7) * 100 * DAY, stored=NOW).id)
        found = opened.retention.plan(DAILY)
        assert {key: value for key, value in decisions(found).items() if key in made} == expected
        (theirs,) = (group for group in found.groups if group.writer)
        assert {each.backup.id for each in theirs.decisions} == set(lies)
        forged = {"backup": made[-1], "hold": "1" * 32, "reason": "", "until": None, "created": NOW.isoformat()}
        writer = open_repository(storage, lambda: WRITER)
        for number, name in enumerate((made[0], made[1])):
            target = f"holds/{name}-{'1' * 32}"
            document = {**forged, "backup": name}
            storage.put(target, [control.seal(writer, "hold", target, document, secrecy=("data", "index")[number])])
        opened.retention.apply(DAILY, host="node1", force=True)
        assert [each for each in ids(opened) if each in made] == made[4:]


@pytest.mark.parametrize("trusted", [True, False])
def test_only_trusted_writers_say_when_an_original_was_seen(
    storage: Dated, keys: KeyRing, freezer: Freezer, tree: Path, trusted: bool
) -> None:
    """Somebody copies backups out of a repository of his own, whose clock says what he likes."""
    add_slot(storage, keys, password=WRITER, roles={Role.WRITER, Role.READER}, trusted=trusted, kdf=CHEAP)
    own = Dated()
    create_repository(own, password=None)
    with Freezer(own) as source, Freezer(storage, password=WRITER) as writer:
        made = make_backup(source, own, tree, NOW - 90 * DAY)
        assert writer.copy(source)[0].outcome is CopyOutcome.COPIED
    with Freezer(storage, password=PASSWORD) as opened:
        (found,) = opened.backups()
        assert found.first_seen == (made.time if trusted else NOW)
        assert found.plausible is trusted
        (group,) = opened.retention.plan(DAILY).groups
        assert bool(group.writer) is not trusted


# -- holds -------------------------------------------------------------------------------------------------


def test_holds(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = [each.id for each in daily(freezer, storage, tree, 14)]
    for_ever = freezer.retention.hold(made[0], reason="case 4711")
    freezer.retention.hold(made[1][:8], reason="audit", until=datetime(2100, 1, 1, tzinfo=UTC))
    assert [(hold.backup, hold.reason) for hold in freezer.retention.holds()] == [
        (made[0], "case 4711"),
        (made[1], "audit"),
    ]
    found = freezer.retention.apply(DAILY)
    assert {backup.id for backup in found.forgotten} == set(made[2:4])
    assert decisions(found)[made[0]] == (True, ["held case 4711"])
    with pytest.raises(PolicyRefusal, match="case 4711"):
        freezer.forget([made[5], made[0]])
    assert made[5] in ids(freezer), "all or nothing"
    assert list(freezer.retention.release(made[0])) == [for_ever]
    with pytest.raises(PolicyRefusal, match="not held"):
        freezer.retention.release(made[0])
    freezer.forget(made[0])
    assert [hold.backup for hold in freezer.retention.holds()] == [made[1]]


def test_several_holds_of_one_backup_stand_beside_each_other(
    freezer: Freezer, storage: Dated, keys: KeyRing, tree: Path
) -> None:
    made = make_backup(freezer, storage, tree, NOW - DAY)
    short = holds.write_hold(storage, keys, made.id, reason="short", until=NOW - timedelta(seconds=1))
    freezer.retention.hold(made.id, reason="long", until=datetime(2100, 1, 1, tzinfo=UTC))
    freezer.retention.hold(made.id, reason="longer")
    assert [hold.reason for hold in freezer.retention.holds()] == ["long", "longer"]
    assert short in holds.read_holds(storage, keys)
    assert len(freezer.retention.release(made.id)) == 2
    assert not freezer.retention.holds()
    assert [hold.reason for hold in holds.read_holds(storage, keys)] == ["short"]


def test_what_a_hold_must_have(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = make_backup(freezer, storage, tree, NOW - DAY)
    for values in (
        {"reason": " "},
        {"reason": "x" * 501},
        {"reason": "x", "until": datetime(2020, 1, 1)},
    ):
        with pytest.raises(ConfigurationError):
            freezer.retention.hold(made.id, **values)
    with pytest.raises(BackupNotFound):
        freezer.retention.hold("f" * 32, reason="x")
    assert not freezer.retention.holds()
    assert not list(storage.list("holds/"))


def test_a_damaged_hold_holds_nothing_and_is_reported(
    freezer: Freezer, storage: Dated, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = daily(freezer, storage, tree, 12)
    freezer.retention.hold(made[0].id, reason="x")
    freezer.retention.hold(made[1].id, reason="moved")
    first, second = (info.name for info in storage.list("holds/"))
    contents = {name: storage.get(name) for name in (first, second)}
    storage.put(first, [contents[second]])
    storage.put(second, [contents[second][:-1]])
    assert not freezer.retention.holds()
    assert first in caplog.text
    assert second in caplog.text
    assert {problem.path for problem in freezer.verify().problems} >= {first, second}


# -- bringing back -----------------------------------------------------------------------------------------


def condemn(storage: Dated, keys: KeyRing, packs: set[str]) -> int:
    """A mark of these packs; gives its generation."""
    generation = protocol.next_generation(storage, keys)
    protocol.write_mark(storage, keys, [digest_of(name) or b"" for name in packs], generation=generation)
    return generation


def sweep(storage: Dated, keys: KeyRing, generation: int, packs: set[str], *, released: set[str]) -> None:
    """What maintenance does to marked packs, and to the commits of forgotten backups."""
    protocol.announce(storage, keys, generation)
    names = {info.name: parse_backup_name(info.name) for info in storage.list("backups/")}
    gone = {name for name, parsed in names.items() if parsed is not None and parsed[1] in released}
    condemned = [digest_of(name) or b"" for name in packs]
    protocol.decide(storage, keys, generation, condemned=condemned, alive=names.keys() - gone, released=gone)
    storage.delete_many(sorted({*gone, *packs}))


def packs_of(storage: Dated) -> set[str]:
    return {info.name for prefix in ("packs/", "meta/") for info in storage.list(prefix)}


@pytest.fixture
def two_states(freezer: Freezer, storage: Dated, tree: Path) -> tuple[Backup, Backup, set[str]]:
    """Two backups, and the packs that only the first one needs."""
    first = make_backup(freezer, storage, make_tree(tree.parent / "first", files=5, seed=2), NOW - 9 * DAY)
    packs = packs_of(storage)
    return first, make_backup(freezer, storage, tree, NOW - 8 * DAY), packs


def test_undelete(freezer: Freezer, storage: Dated, tree: Path, tmp_path: Path) -> None:
    made = make_backup(freezer, storage, tree, NOW - 9 * DAY, tags=("x",))
    freezer.forget(made.id)
    assert [each.backup.id for each in freezer.retention.forgotten()] == [made.id]
    back = freezer.retention.undelete(made.short_id)
    assert ids(freezer) == [back.id]
    found = freezer.backups()[0]
    assert found.id != made.id
    assert replace(found, id=made.id) == made
    assert found.first_seen == made.time
    assert found.plausible
    assert_restores(freezer, back.id, tree, tmp_path / "out")
    assert freezer.retention.undelete(made.id) == back, "once is enough"
    assert ids(freezer) == [back.id]
    freezer.forget(back.id)
    third = freezer.retention.undelete(made.id)
    assert third.id not in (made.id, back.id)
    assert ids(freezer) == [third.id]
    assert freezer.verify(read_data=True).ok


def test_undelete_stores_again_what_is_marked(
    freezer: Freezer, storage: Dated, keys: KeyRing, two_states: tuple[Backup, Backup, set[str]], tmp_path: Path
) -> None:
    first, second, packs = two_states
    freezer.forget(first.id)
    generation = condemn(storage, keys, packs)
    back = freezer.retention.undelete(first.id)
    sweep(storage, keys, generation, packs, released={first.id})
    with Freezer(storage, password=PASSWORD) as opened:
        assert ids(opened) == [back.id, second.id]
        assert opened.verify(read_data=True).ok
        assert_restores(opened, back.id, tmp_path / "first", tmp_path / "out")


def test_undelete_moves_nothing_when_nothing_is_marked(
    freezer: Freezer, storage: Dated, two_states: tuple[Backup, Backup, set[str]]
) -> None:
    before = packs_of(storage)
    freezer.forget(two_states[0].id)
    freezer.retention.undelete(two_states[0].id)
    assert packs_of(storage) == before


def test_undelete_after_the_sweep_is_refused(
    freezer: Freezer, storage: Dated, keys: KeyRing, two_states: tuple[Backup, Backup, set[str]]
) -> None:
    first, second, packs = two_states
    freezer.forget(first.id)
    commit = next(info.name for info in storage.list("backups/") if first.id in info.name)
    content = storage.get(commit)
    sweep(storage, keys, condemn(storage, keys, packs), packs, released={first.id})
    with Freezer(storage, password=PASSWORD) as opened:
        assert not opened.retention.forgotten()
        with pytest.raises(BackupNotFound, match="could come back"):
            opened.retention.undelete(first.id)
        storage.put(commit, [content])  # the sweep was stopped before it deleted the commit
        with pytest.raises(BackupNotFound, match="let go"):
            opened._opened().retention().undelete(first.id, Context())
        with pytest.raises(BackupNotFound, match="was not forgotten"):
            opened.retention.undelete(second.id)
        assert ids(opened) == [second.id]


def test_a_sweep_during_an_undelete(
    storage: Dated, keys: KeyRing, freezer: Freezer, two_states: tuple[Backup, Backup, set[str]]
) -> None:
    """The mark is older than the lease, and grace is over: packs vanish while they are read."""
    first, second, packs = two_states
    freezer.forget(first.id)
    generation = condemn(storage, keys, packs)

    for prefix in ("packs/", "meta/"):
        copy = storage.copied(keep_times=True)
        swept = iter([copy])

        def begin(call: object, swept: Iterator[Dated] = swept) -> None:
            for each in swept:
                sweep(each, keys, generation, packs, released={first.id})

        trap = FaultyStorage(copy, Fault(begin, times=None, methods={"get"}, prefix=prefix))
        with Freezer(trap, password=PASSWORD) as opened:
            with pytest.raises(BackupNotFound, match="let go"):
                opened.retention.undelete(first.id)
            assert next(swept, None) is None
            assert ids(opened) == [second.id]
            assert opened.verify(read_data=True).ok


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_undelete_that_fails_at_any_call_harms_nothing(
    storage: Dated, keys: KeyRing, freezer: Freezer, two_states: tuple[Backup, Backup, set[str]], when: Any
) -> None:
    first, second, packs = two_states
    freezer.forget(first.id)
    condemn(storage, keys, packs)
    counting = FaultyStorage(storage.copied(keep_times=True))
    with Freezer(counting, password=PASSWORD):
        opening = len(counting.calls)
    for number in itertools.count(1):
        copy = storage.copied(keep_times=True)
        faulty = FaultyStorage(copy, Fault(fail(StorageUnavailable("gone")), at=opening + number, when=when))
        with Freezer(faulty, password=PASSWORD) as opened:
            try:
                opened._opened().retention().undelete(first.id, Context())
            except StorageUnavailable:
                pass
            else:
                break
        with Freezer(copy, password=PASSWORD) as opened:
            assert second.id in ids(opened)
            if number % 5 == 0:
                assert opened.verify(read_data=True).ok
            back = opened.retention.undelete(first.id)
            assert ids(opened) == [back.id, second.id]
            assert opened.find_backup(back.id).status is Status.COMPLETE
    assert number > 15


def test_undelete_needs_a_maintainer(storage: Dated, keys: KeyRing, freezer: Freezer, tree: Path) -> None:
    add_slot(storage, keys, password=WRITER, roles={Role.WRITER, Role.READER}, kdf=CHEAP)
    made = make_backup(freezer, storage, tree, NOW - DAY)
    freezer.forget(made.id)
    with Freezer(storage, password=WRITER) as other:
        assert [each.backup.id for each in other.retention.forgotten()] == [made.id]
        with pytest.raises(AccessDenied):
            other.retention.undelete(made.id)


def test_the_same_backup_comes_back_alike_in_two_repositories(freezer: Freezer, storage: Dated, tree: Path) -> None:
    made = make_backup(freezer, storage, tree, NOW - 9 * DAY)
    other = Dated()
    create_repository(other, password=PASSWORD, kdf=CHEAP)
    with Freezer(other, password=PASSWORD) as target:
        target.copy(freezer)
        for each in (freezer, target):
            each.forget(made.id)
        assert target.retention.undelete(made.id).id == freezer.retention.undelete(made.id).id
        assert {each.outcome for each in target.copy(freezer)} == {CopyOutcome.PRESENT}


# -- together with maintenance -----------------------------------------------------------------------------


@pytest.fixture
def pruned() -> NeverOverwrites:
    storage = NeverOverwrites()
    new_repository(storage)
    return storage


def test_what_is_marked_comes_back_before_the_sweep(pruned: NeverOverwrites, tmp_path: Path) -> None:
    with opened(pruned) as freezer:
        old = freezer.backup(write_files(tmp_path / "old", seed=1), name="t")
        new = freezer.backup(write_files(tmp_path / "new", seed=2), name="t")
        freezer.forget(old.id)
        pruned.pass_time(60)
        assert prune(pruned).marked_bytes > 1_000_000
        back = freezer.retention.undelete(old.id)
    pruned.pass_time()
    assert prune(pruned).freed_bytes > 1_000_000
    with opened(pruned) as freezer:
        assert ids(freezer) == [back.id, new.id]
        assert_whole(freezer)
        assert restored(freezer, back, tmp_path / "out") == content(tmp_path / "old")
        assert not freezer.retention.forgotten()


def test_a_prune_right_after_a_forget_leaves_time_for_second_thoughts(pruned: NeverOverwrites, tmp_path: Path) -> None:
    """As every night: forget, then prune, which sweeps what the last one marked."""
    made = []
    with opened(pruned) as freezer:
        for number in range(4):
            source = write_files(tmp_path / str(number), seed=number)
            made.append(freezer.backup(source, name="t", force_read=True))
    for number in range(2):
        with opened(pruned) as freezer:
            freezer.forget(made[number].id)
        pruned.pass_time(60)  # since the writers were at work
        prune(pruned)
        pruned.pass_time()
    with opened(pruned) as freezer:
        freezer.forget(made[2].id)
    swept = prune(pruned)
    assert swept.freed_bytes > 1_000_000
    assert swept.released_backups >= 1
    with opened(pruned) as freezer:
        assert made[2].id in [each.backup.id for each in freezer.retention.forgotten()]
        back = freezer.retention.undelete(made[2].id)
        assert restored(freezer, back, tmp_path / "out") == content(tmp_path / "2")
        freezer.forget(back.id)
    for _ in range(4):
        pruned.pass_time()
        last = prune(pruned)
    assert (last.waiting_bytes, last.stored_bytes) == (0, pruned.bytes_below("packs/", "meta/"))
    assert last.stored_bytes <= 1.1 * last.needed_bytes
    with opened(pruned) as freezer:
        assert not freezer.retention.forgotten()
        assert ids(freezer) == [made[3].id]
        assert_whole(freezer)


def test_a_forgotten_backup_that_is_damaged_does_not_stop_a_prune(pruned: NeverOverwrites, tmp_path: Path) -> None:
    with opened(pruned) as freezer:
        old = freezer.backup(write_files(tmp_path / "old", seed=1), name="t")
        lost = {name for name in pruned.content() if name.startswith(("packs/", "meta/"))}
        other = freezer.backup(write_files(tmp_path / "other", seed=3), name="t", force_read=True)
        new = freezer.backup(write_files(tmp_path / "new", seed=2), name="t", force_read=True)
        freezer.forget(other.id)
        pruned.pass_time(60)
        prune(pruned)
        pruned.pass_time()
        for name in lost:
            pruned.delete(name)
        freezer.forget(old.id)
    assert prune(pruned).freed_bytes > 1_000_000
    with opened(pruned) as freezer:
        assert ids(freezer) == [new.id]
        with pytest.raises((BackupNotFound, IntegrityError)):
            freezer.retention.undelete(old.id)
        assert ids(freezer) == [new.id]
        assert_whole(freezer)
