"""Forgetting by rules, in a repository; writers who are not trusted change nothing for others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dedup.retention.dated import DAILY, DAY, NOW, WRITER, Dated, daily, decisions, ids, make_backup
from dedup.two import CHEAP, PASSWORD

from freezer_sdk import (
    AccessDenied,
    ConfigurationError,
    CopyOutcome,
    Freezer,
    PolicyRefusal,
    RetentionPolicy,
    StorageUnavailable,
)
from freezer_sdk.engines.dedup import control, protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.records import PREFIX as RECORDS
from freezer_sdk.testing import Fault, FaultyStorage, fail


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
