"""When a backup was made, and when a storage got it: times that survive copies, and odd ones."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from dedup.retention.dated import DAILY, DAY, NOW, Dated, daily, decisions, ids, make_backup
from dedup.two import CHEAP, PASSWORD

from freezer_sdk import (
    CopyOutcome,
    Freezer,
    RetentionPolicy,
)
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.firstseen import KIND, read_first_seen
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.records import read_records
from freezer_sdk.storages.local import LocalStorage


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
