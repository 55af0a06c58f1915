"""A prune that dies at any of its storage calls, and one that runs into a full disk: no backup is harmed."""

from __future__ import annotations

from contextlib import suppress
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

from freezer_sdk import StorageError, StorageFull, StorageUnavailable
from freezer_sdk.testing import Fault, FaultyStorage, fail


class World:
    """A repository in which a prune has everything to do: sweep, rewrite, merge, mark."""

    def __init__(self, base: Path) -> None:
        self.base, self.storage = base, NeverOverwrites()
        new_repository(self.storage)
        sources = {name: write_files(base / name, seed=seed) for seed, name in enumerate("abc")}
        mixed = write_files(write_files(base / "mixed", seed=7, files=4), seed=0, files=5)
        with opened(self.storage) as freezer:
            first = freezer.backup(sources["a"], name="a", force_read=True)
            both = freezer.backup([sources["a"], sources["b"]], name="ab", force_read=True)
            self.kept = {"c": freezer.backup(sources["c"], name="c", force_read=True)}
            self.kept["mixed"] = freezer.backup(mixed, name="mixed", force_read=True)
            freezer.forget([first.id])
            self.storage.pass_time(60)
            freezer.maintenance.prune(max_waste=0)
            freezer.forget([both.id])
        self.storage.pass_time()
        self.expected = {name: content(base / name) for name in self.kept}
        self.start = self.storage.save()

    def assert_kept(self, out: Path) -> None:
        with opened(self.storage) as freezer:
            assert {backup.id for backup in freezer.backups()} == {backup.id for backup in self.kept.values()}
            assert_whole(freezer)
            for name, backup in self.kept.items():
                assert restored(freezer, backup, out / name) == self.expected[name]

    def assert_pruned(self) -> None:
        """Two prunes later nothing is left but what is needed."""
        for _ in range(2):
            self.storage.pass_time()
            result = prune(self.storage, max_waste=0.02)
        assert result.problems == ()
        assert self.storage.bytes_below("packs/", "meta/") <= 1.1 * result.needed_bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture
def world(made: World) -> World:
    made.storage.load(made.start)
    return made


def count_calls(world: World) -> int:
    storage = FaultyStorage(world.storage)
    result = prune(storage, max_waste=0.02)
    assert result.freed_packs
    assert result.marked_packs
    assert result.rewritten_bytes
    calls = [call.method for call in storage.calls]
    world.storage.load(world.start)
    assert len(calls) > 60
    return len(calls)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_every_storage_call(world: World, tmp_path: Path, when: str) -> None:
    """From one call on nothing gets through any more, as when the process had died there."""
    offset = world.storage.offset
    for number in range(1, count_calls(world) + 1):
        world.storage.load(world.start)
        world.storage.offset = offset
        dead = Fault(fail(StorageUnavailable("dead")), at=number + (when == "after"), times=None)
        with suppress(StorageError):
            prune(FaultyStorage(world.storage, dead), max_waste=0.02)
        with opened(world.storage) as freezer:
            assert {backup.id for backup in freezer.backups()} == {backup.id for backup in world.kept.values()}
            assert_whole(freezer)
        if number % 7 == 0:
            world.assert_pruned()
            world.assert_kept(tmp_path / str(number))


@pytest.mark.parametrize("forever", [True, False])
def test_a_full_disk_at_every_put(world: World, tmp_path: Path, forever: bool) -> None:
    """From one put on, or at one only, there is no space."""
    offset = world.storage.offset
    number = 0
    while True:
        number += 1
        world.storage.load(world.start)
        world.storage.offset = offset
        full = Fault(fail(StorageFull("full")), at=number, times=None if forever else 1, methods={"put"})
        storage = FaultyStorage(world.storage, full)
        with suppress(StorageFull):
            prune(storage, max_waste=0.02)
        with opened(world.storage) as freezer:
            assert_whole(freezer)
        if number % 5 == 1:
            world.assert_pruned()
            world.assert_kept(tmp_path / str(number))
        if sum(call.method == "put" for call in storage.calls) < number:
            break
    assert number > 8
