"""Pruning: what nobody needs goes, one grace time after it was marked, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest
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
