"""No space left, at every single write: a clear error, nothing half, and all that was there before is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dedup.two import make_tree, settle
from files.helpers import can_mount, mounted
from hardening.forge import CHEAP

from freezer_sdk import Freezer, RepositoryNotFound, Status, StorageFull
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, fail

PASSWORD = "correct horse"
SMALL = {"pack_size": "1M", "queue_size": "1M"}
WRITES = {"put", "upload", "write", "commit"}


def full(at: int, when: str) -> Fault:
    """A disk that is full from the n-th write on."""
    return Fault(fail(StorageFull("no space left on device")), at=at, when=when, methods=WRITES, times=None)


def copy_of(storage: MemoryStorage) -> MemoryStorage:
    other = MemoryStorage()
    for info in storage.list():
        other.put(info.name, [storage.get(info.name)])
    return other


def run_out(start: MemoryStorage, work: Callable[[Freezer], object]) -> Iterator[MemoryStorage]:
    """What is left when the disk was full at the first write, at the second, and so on, until the work is done."""
    for when in ("before", "after"):
        for at in range(1, 60):
            inner = copy_of(start)
            with Freezer(FaultyStorage(inner, full(at, when)), password=PASSWORD, engine_options=SMALL) as freezer:
                try:
                    work(freezer)
                    break
                except StorageFull:
                    pass
            yield inner
        else:
            raise AssertionError("it never ends")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = make_tree(tmp_path / "source", files=12)
    settle()
    return base


@pytest.fixture
def start(source: Path) -> tuple[MemoryStorage, str]:
    """A repository with one good backup; the source has changed since."""
    storage = MemoryStorage()
    create_repository(storage, password=PASSWORD, kdf=CHEAP)
    with Freezer(storage, password=PASSWORD, engine_options=SMALL) as freezer:
        backup = freezer.backup(source, name="t")
    make_tree(source, files=12, seed=2)
    settle()
    return storage, backup.id


def test_a_full_disk_at_every_write_of_a_backup(start: tuple[MemoryStorage, str], source: Path) -> None:
    storage, first = start
    rounds = 0
    for inner in run_out(storage, lambda freezer: freezer.backup(source, name="t")):
        rounds += 1
        with Freezer(inner, password=PASSWORD, engine_options=SMALL) as freezer:
            found = [backup.id for backup in freezer.backups()]
            assert found[0] == first
            assert len(found) <= 2, "the run may have stored its commit, and no more"
            assert freezer.verify(read_data=True).ok
            if rounds % 4 == 0:
                assert freezer.backup(source, name="t").status is Status.COMPLETE
                assert freezer.verify(read_data=True).ok
    assert rounds > 8


def test_a_full_disk_at_every_write_of_a_copy(start: tuple[MemoryStorage, str], source: Path) -> None:
    storage, first = start
    target = MemoryStorage()
    create_repository(target, password=PASSWORD, kdf=CHEAP)
    with Freezer(target, password=PASSWORD, engine_options=SMALL) as freezer:
        freezer.backup(source / "d0", name="own")
    rounds = 0
    with Freezer(storage, password=PASSWORD) as origin:

        def copy(freezer: Freezer) -> None:
            for result in freezer.copy(origin):
                if result.error is not None:
                    raise result.error

        for inner in run_out(target, copy):
            rounds += 1
            with Freezer(inner, password=PASSWORD, engine_options=SMALL) as freezer:
                assert len(freezer.backups()) <= 2
                assert freezer.verify(read_data=True).ok
                if rounds % 4 == 0:
                    freezer.copy(origin)
                    assert first in {backup.id for backup in freezer.backups()}
                    assert freezer.verify(read_data=True).ok
    assert rounds > 6


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_full_disk_at_every_write_of_init(when: str) -> None:
    for at in range(1, 20):
        inner = MemoryStorage()
        try:
            create_repository(FaultyStorage(inner, full(at, when)), password=PASSWORD, kdf=CHEAP)
        except StorageFull:
            pass
        else:
            break
        try:
            with Freezer(inner, password=PASSWORD) as freezer:
                assert freezer.backups() == []
        except RepositoryNotFound:
            create_repository(inner, password=PASSWORD, kdf=CHEAP)
            with Freezer(inner, password=PASSWORD) as freezer:
                assert freezer.verify().ok
    else:
        raise AssertionError("it never ends")
    assert at > 3


@pytest.mark.root
@pytest.mark.skipif(not can_mount(), reason="cannot mount")
def test_a_real_disk_that_is_full(source: Path, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=6m", "none") as disk:
        storage = LocalStorage(path=str(disk / "repository"))
        create_repository(storage, password=PASSWORD, kdf=CHEAP)
        with Freezer(storage, password=PASSWORD, engine_options=SMALL) as freezer:
            first = freezer.backup(source / "d0", name="t")
            big = make_tree(tmp_path / "big", files=80, seed=3)
            with pytest.raises(StorageFull):
                freezer.backup(big, name="big")
            assert [backup.id for backup in freezer.backups()] == [first.id]
            assert freezer.verify(read_data=True).ok
            assert freezer.restore(first.id, tmp_path / "out").status is Status.COMPLETE
            assert not list(disk.rglob("*.tmp"))
        shutil.rmtree(disk / "repository" / "packs")
