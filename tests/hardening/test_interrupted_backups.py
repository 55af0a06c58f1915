"""Runs that end early in an orderly way: what they stored is not stored again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from freezer_sdk import Cancelled, CancelToken, Freezer, StorageFull
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage

PASSWORD = "correct horse"
SIZE = 12_000_000
OPTIONS = {"pack_size": "1M", "queue_size": "1M"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    base.mkdir()
    rng = random.Random(7)
    for number in range(24):
        (base / f"f{number:02}").write_bytes(rng.randbytes(SIZE // 24))
    return base


def stored(repository: Path) -> int:
    return sum(path.stat().st_size for path in repository.glob("packs/*/*"))


def test_a_cancelled_backup_is_continued_by_the_next_one(source: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    inner = LocalStorage(path=str(repository))
    with Freezer(inner, password=PASSWORD, create=True, engine_options=OPTIONS) as freezer:
        for _ in range(2):  # the second one begins with what the first one left
            cancel = CancelToken()
            fault = Fault(lambda _call, cancel=cancel: cancel.cancel(), at=4, methods={"put"}, prefix="packs/")
            storage = FaultyStorage(inner, fault)
            with Freezer(storage, password=PASSWORD, engine_options=OPTIONS) as stopped, pytest.raises(Cancelled):
                stopped.backup(source, name="t", cancel=cancel)
        before = stored(repository)
        assert before > 5_000_000
        backup = freezer.backup(source, name="t")
        assert backup.status == "complete"
        assert stored(repository) < SIZE * 1.3, "what the cancelled runs had stored was stored again"
        assert freezer.verify(read_data=True).ok


def test_a_full_disk_loses_nothing_that_was_stored(source: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    inner = LocalStorage(path=str(repository))

    def full(call: object) -> None:
        if stored(repository) > 5_000_000:
            raise StorageFull("no space left on device")

    with Freezer(inner, password=PASSWORD, create=True, engine_options=OPTIONS) as freezer:
        storage = FaultyStorage(inner, Fault(full, when="before", methods={"put"}, times=None))
        with Freezer(storage, password=PASSWORD, engine_options=OPTIONS) as failing, pytest.raises(StorageFull):
            failing.backup(source, name="t")
        before = stored(repository)
        assert before > 4_000_000
        assert freezer.backup(source, name="t").status == "complete"
        assert stored(repository) < SIZE * 1.3
        assert freezer.verify(read_data=True).ok
