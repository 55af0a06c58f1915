"""A prune that dies at any of its storage calls, and one that runs into a full disk: no backup is harmed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from dedup.upkeep.prune_killer import make_old
from dedup.upkeep.world import (
    ENGINE,
    NeverOverwrites,
    assert_whole,
    content,
    new_repository,
    opened,
    prune,
    restored,
    write_files,
)

from freezer_sdk import Freezer, StorageError, StorageFull, StorageUnavailable
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.local import LocalStorage
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


def test_dead_from_every_storage_call_on(world: World, tmp_path: Path) -> None:
    """From one call on nothing gets through any more, as when the process had died there."""
    offset = world.storage.offset
    for number in range(1, count_calls(world) + 1):
        world.storage.load(world.start)
        world.storage.offset = offset
        dead = Fault(fail(StorageUnavailable("dead")), at=number, times=None)
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


def test_a_full_disk_at_every_put_of_a_backup(world: World, tmp_path: Path) -> None:
    """What the failed run left is freed again."""
    source = write_files(tmp_path / "source", seed=30, files=12)
    offset = world.storage.offset
    number = 0
    while True:
        number += 1
        world.storage.load(world.start)
        world.storage.offset = offset
        storage = FaultyStorage(world.storage, Fault(fail(StorageFull("full")), at=number, times=None, methods={"put"}))
        with opened(storage) as freezer:
            try:
                freezer.backup(source, name="more", force_read=True)
            except StorageFull:
                pass
            else:
                break
        if number % 3 == 1:
            world.assert_pruned()
            world.assert_kept(tmp_path / str(number))
    assert number > 4


@pytest.mark.slow
def test_killed_at_storage_calls(tmp_path: Path) -> None:
    """The same with processes that are really killed, at every sixth call."""
    template = tmp_path / "template"
    with LocalStorage(path=str(template)) as storage:
        create_repository(storage, password=None, grace=30, short_grace=True)
    mixed = write_files(write_files(tmp_path / "mixed", seed=7, files=4), seed=0, files=5)
    with Freezer(f"local:{template}", engine_options=ENGINE) as freezer:
        gone = [freezer.backup(write_files(tmp_path / "a", seed=0), name="a", force_read=True)]
        freezer.backup(mixed, name="mixed", force_read=True)
        make_old(template)
        freezer.forget([gone[0].id])
        freezer.maintenance.prune(max_waste=0)
        more = freezer.backup(write_files(tmp_path / "b", seed=9), name="b", force_read=True)
        freezer.forget([more.id])
    script = Path(__file__).with_name("prune_killer.py")
    (tmp_path / "work").mkdir()
    run = subprocess.run(
        [sys.executable, str(script), str(template), str(tmp_path / "work"), "6"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) > 8
    for line in lines[:-1]:
        assert line.split(" ", 1)[1] == "True 0 mixed [0, 0]", line
    assert lines[-1].split(" ", 1)[1] == "False 0 mixed [0, 0]"
