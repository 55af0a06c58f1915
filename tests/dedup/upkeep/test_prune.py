"""Pruning: what nobody needs goes, one grace time after it was marked, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
from dedup.upkeep.world import (
    NeverOverwrites,
    Remote,
    assert_whole,
    content,
    new_repository,
    opened,
    prune,
    restored,
    write_files,
)

from freezer_sdk import Backup


@pytest.fixture
def storage() -> NeverOverwrites:
    storage = NeverOverwrites()
    new_repository(storage)
    return storage


def back_up(storage: NeverOverwrites, source: Path, name: str = "t") -> Backup:
    with opened(storage) as freezer:
        return freezer.backup(source, name=name, force_read=True)


def test_the_first_run_marks_and_a_later_one_frees(storage: NeverOverwrites, tmp_path: Path) -> None:
    old = back_up(storage, write_files(tmp_path / "old", seed=1))
    new = back_up(storage, write_files(tmp_path / "new", seed=2))
    with opened(storage) as freezer:
        freezer.forget(old.id)
    storage.pass_time(60)  # since the writers were at work
    before = storage.bytes_below("packs/", "meta/")
    first = prune(storage)
    assert (first.freed_bytes, first.released_backups, first.backups) == (0, 0, 1)
    assert first.marked_bytes > 1_000_000
    assert first.waiting_bytes == first.marked_bytes
    assert first.due is not None
    assert storage.bytes_below("packs/", "meta/") >= before
    again = prune(storage)
    assert (again.freed_bytes, again.marked_packs, again.waiting_bytes) == (0, 0, first.waiting_bytes)
    storage.pass_time()
    second = prune(storage)
    assert second.freed_bytes == first.marked_bytes
    assert (second.released_backups, second.waiting_packs, second.due) == (1, 0, None)
    left = storage.bytes_below("packs/", "meta/")
    assert left == second.stored_bytes
    assert left <= 1.1 * second.needed_bytes
    with opened(storage) as freezer:
        assert [backup.id for backup in freezer.backups()] == [new.id]
        assert_whole(freezer)
        assert restored(freezer, new, tmp_path / "out") == content(tmp_path / "new")
    storage.pass_time()
    third = prune(storage)
    assert (third.freed_bytes, third.marked_packs) == (0, 0)
    assert not [name for name in storage.content() if name.startswith("marks/")]


def test_packs_with_much_waste_are_written_anew(storage: NeverOverwrites, tmp_path: Path) -> None:
    """Half of each pack is needed; a limit holds, and what is not needed is gone in the end."""
    base = write_files(write_files(tmp_path / "a", seed=1, files=24), seed=2, files=24)
    with opened(storage) as freezer:
        gone = freezer.backup(base, name="all", force_read=True)
        for path in base.glob("*/f2-*"):
            path.unlink()
        kept = freezer.backup(base, name="half", force_read=True)
        freezer.forget(gone.id)
    storage.pass_time(60)
    lazy = prune(storage, max_waste=1, dry_run=True)
    assert lazy.rewritten_bytes == 0
    limited = prune(storage, max_rewrite=0)
    assert limited.rewritten_bytes == 0
    assert limited.wasted_bytes > 1_000_000
    with opened(storage, threads=3) as freezer:
        result = freezer.maintenance.prune(max_rewrite=1_500_000)
    assert 0 < result.rewritten_bytes <= 1_600_000
    for _ in range(3):
        storage.pass_time()
        result = prune(storage)
    assert result.stored_bytes <= 1.1 * result.needed_bytes
    assert storage.bytes_below("packs/", "meta/") <= 1.1 * result.needed_bytes
    with opened(storage) as freezer:
        assert restored(freezer, kept, tmp_path / "out") == content(tmp_path / "a")


def test_small_packs_and_indexes_are_joined(storage: NeverOverwrites, tmp_path: Path) -> None:
    with opened(storage) as freezer:
        for number in range(40):
            source = write_files(tmp_path / f"s{number}", seed=number, files=1, size=30_000)
            freezer.backup(source, name=f"n{number}", force_read=True)
    storage.pass_time(60)
    before = [name for name in storage.content() if name.startswith(("packs/", "index/"))]
    with opened(storage, threads=4) as freezer:
        for _ in range(3):
            result = freezer.maintenance.prune()
            storage.pass_time()
    after = [name for name in storage.content() if name.startswith(("packs/", "index/"))]
    assert len(after) < len(before) / 4
    assert (result.marked_packs, result.backups) == (0, 40)
    with opened(storage) as freezer:
        assert_whole(freezer)


def test_what_is_open_finds_what_a_prune_has_moved(storage: NeverOverwrites, tmp_path: Path) -> None:
    both = [write_files(tmp_path / "a", seed=1), write_files(tmp_path / "b", seed=2)]
    with opened(storage) as freezer:
        gone = freezer.backup(both, name="both")
        kept = freezer.backup(both[0], name="a")
        freezer.forget(gone.id)
        assert len(list(freezer.entries(kept.id))) > 10  # has the index in memory
        storage.pass_time(60)
        assert prune(storage, max_waste=0).rewritten_bytes
        storage.pass_time()
        assert prune(storage).freed_packs
        assert restored(freezer, kept, tmp_path / "out") == content(tmp_path / "a")


def test_a_machine_that_remembers_what_was_swept_is_not_alarmed(tmp_path: Path) -> None:
    storage = Remote()
    new_repository(storage)
    cache = {"cache": str(tmp_path / "cache")}
    with opened(storage, **cache) as freezer:
        freezer.forget(freezer.backup(write_files(tmp_path / "a", seed=1), name="a").id)
        storage.pass_time(60)
        freezer.maintenance.prune()
        last = freezer.backup(write_files(tmp_path / "b", seed=2), name="b")
    with opened(storage, **cache) as freezer:
        assert freezer.problems == ()
        freezer.forget(last.id)
    storage.pass_time()
    swept = prune(storage)
    assert swept.released_backups == 2
    with opened(storage, **cache) as freezer:
        assert freezer.problems == ()


def test_a_lost_index_is_made_again_and_what_is_needed_by_it_stays(storage: NeverOverwrites, tmp_path: Path) -> None:
    kept = back_up(storage, write_files(tmp_path / "a", seed=1))
    gone = back_up(storage, write_files(tmp_path / "b", seed=2), name="b")
    with opened(storage) as freezer:
        freezer.forget(gone.id)
    storage.delete_many([name for name in storage.content() if name.startswith("index/")])
    storage.pass_time(60)
    assert prune(storage).marked_packs
    assert [name for name in storage.content() if name.startswith("index/")]
    storage.pass_time()
    assert prune(storage).freed_packs
    with opened(storage) as freezer:
        assert freezer.verify(read_data=True).problems == ()
        assert restored(freezer, kept, tmp_path / "out") == content(tmp_path / "a")
