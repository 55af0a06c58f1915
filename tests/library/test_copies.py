"""Several repositories over time: a run into two of which one dies, the repair by a copy, restores from both."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from trees import compare

from freezer_sdk import (
    CopyOutcome,
    Freezer,
    FreezerGroup,
    PluginError,
    Status,
    StorageUnavailable,
)
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, fail


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for number in range(12):
        path = tmp_path / "source" / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(300_000))
    time.sleep(0.1)
    return tmp_path / "source"


SMALL = {"pack_size": "1M"}


def dying(tmp_path: Path) -> FaultyStorage:
    """A storage that takes some packs and then nothing any more."""
    gone = Fault(fail(StorageUnavailable("gone")), at=2, times=None, methods={"put"}, prefix="packs/")
    return FaultyStorage(LocalStorage(path=str(tmp_path / "two")), gone)


@pytest.mark.parametrize("alike", [True, False])
def test_a_copy_repairs_a_run_of_which_one_repository_died(source: Path, tmp_path: Path, *, alike: bool) -> None:
    urls = [f"local:{tmp_path / name}" for name in ("one", "two")]
    with Freezer.create(urls[0], encryption=False) as one:
        Freezer.create(urls[1], encryption=False, like=one if alike else None).close()
        with Freezer(dying(tmp_path), engine_options=SMALL) as two, FreezerGroup([one, two]) as group:
            result = group.backup(source, name="s")
        assert result.status is Status.PARTIAL
        with Freezer(urls[1]) as two:
            assert two.backups() == []
            copied = two.copy(one)
            assert [(each.backup.id, each.outcome) for each in copied] == [(result.id, CopyOutcome.COPIED)]
            assert two.backups() == one.backups()
            assert two.verify(read_data=True).ok
            two.restore(result.id, tmp_path / "out")
            compare(source, tmp_path / "out")
            with FreezerGroup([one, two]) as group:
                again = group.backup(source, name="s")
                assert again.status is Status.COMPLETE
                stats = [each.backup.stats for each in again.targets if each.backup is not None]
                assert [each.read_bytes for each in stats] == [0, 0]


def test_a_group_restores_what_no_single_repository_could(source: Path, tmp_path: Path) -> None:
    urls = [f"local:{tmp_path / name}" for name in ("one", "two")]
    with (
        Freezer.create(urls[0], encryption=False, engine_options=SMALL) as one,
        Freezer.create(urls[1], encryption=False, engine_options=SMALL) as two,
    ):
        one.backup(source / "d0", name="d0")
        two.copy(one)
        backup = one.backup(source, name="s")
        two.copy(one, backup.id)
    packs = [
        sorted((tmp_path / name / "packs").glob("*/*"), key=lambda path: path.stat().st_mtime_ns)
        for name in ("one", "two")
    ]
    packs[0][0].unlink()
    packs[1][-1].unlink()
    with Freezer(urls[0]) as one, Freezer(urls[1]) as two, FreezerGroup([one, two]) as group:
        for freezer in group.freezers.values():
            assert not freezer.verify(read_data=True).ok
        result = group.restore(backup.id, tmp_path / "out")
        assert result.status is Status.COMPLETE
        assert {problem.kind for problem in result.problems} == {"fallback"}
    compare(source, tmp_path / "out")


def test_streams_too(tmp_path: Path) -> None:
    """What a mode reads back, and ``open``, fall over as restores do."""
    with Freezer.create(MemoryStorage(), encryption=False) as one, Freezer.create(MemoryStorage(), password="p") as two:
        command = ["python3", "-c", "import sys; sys.stdout.write('dump' * 300000)"]
        backup = one.backup(name="db", mode_options={"command": "db", "command_arguments": command})
        two.copy(one)
        storage = one._place.storage
        storage.delete_many([info.name for info in storage.list("packs/")])
        result = one.restore(backup.id, tmp_path / "out", others=[two])
        assert result.status is Status.COMPLETE
        assert (tmp_path / "out" / "db").read_text() == "dump" * 300000
        with one.open(backup.id, "/db", others=[two]) as reader:
            assert reader.read() == b"dump" * 300000


def test_two_threads_copy_from_one_repository(source: Path) -> None:
    with Freezer.create(MemoryStorage(), encryption=False) as one:
        backups = [one.backup(source / f"d{number}", name=f"d{number}") for number in range(3)]
        targets = [Freezer.create(MemoryStorage(), encryption=False) for _ in range(3)]
        threads = [threading.Thread(target=target.copy, args=(one,)) for target in targets]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for target in targets:
            assert target.backups() == backups
            assert target.verify(read_data=True).ok
            target.close()


def test_what_the_sources_storage_raises_names_it(source: Path) -> None:
    class BrokenStorage(MemoryStorage):
        def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
            if name.startswith("packs/"):
                raise LookupError("broken")
            return super().get(name, offset=offset, length=length)

    with Freezer.create(BrokenStorage(), encryption=False) as one, Freezer.create(MemoryStorage(), password="p") as two:
        one.backup(source, name="s")
        with pytest.raises(PluginError, match="broken"):
            two.copy(one)
        assert two.backups() == []


def test_lists_of_words_are_no_texts() -> None:
    with (
        Freezer.create(MemoryStorage(), encryption=False) as one,
        Freezer.create(MemoryStorage(), password="p") as two,
        pytest.raises(ConfigurationError, match="list"),
    ):
        two.copy(one, tags="tag")
