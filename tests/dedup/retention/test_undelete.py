"""The way back of what was forgotten, until maintenance has swept it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dedup.retention.dated import DAY, NOW, WRITER, Dated, ids, make_backup
from dedup.two import CHEAP, PASSWORD, assert_restores, make_tree
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
    CopyOutcome,
    Freezer,
    IntegrityError,
    Status,
    StorageUnavailable,
)
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import digest_of, parse_backup_name
from freezer_sdk.testing import Fault, FaultyStorage, fail


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
