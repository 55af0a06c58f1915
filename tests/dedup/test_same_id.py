"""One backup, known by one id in several repositories."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.repository import DedupRepository
from freezer_sdk.errors import ConfigurationError, LeaseLost, RepositoryError
from freezer_sdk.model import Backup, BackupOptions
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage

ID = "0123456789abcdef0123456789abcdef"
TIME = datetime(2026, 3, 4, 5, 6, 7, 891234, tzinfo=UTC)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"content")
    return tmp_path / "source"


def nobody() -> None:
    return None


def made(storage: MemoryStorage | FaultyStorage) -> DedupRepository:
    return DedupEngine().create(storage, password=nobody, encryption=False)


def store(
    repository: DedupRepository, source: Path, *, backup: str | None = ID, time: datetime | None = TIME
) -> Backup:
    options = BackupOptions(name="n", host="h", id=backup, time=time)
    with FilesystemMode(paths=[str(source)]).protect() as protected:
        return repository.backup(protected, options, Context())


def test_id_and_time_are_those_given(source: Path) -> None:
    for _repository in range(2):
        with made(MemoryStorage()) as repository:
            backup = store(repository, source)
            assert (backup.id, backup.time) == (ID, TIME)
            assert repository.backups() == [backup]


def test_an_id_is_used_once(source: Path) -> None:
    with made(MemoryStorage()) as repository:
        store(repository, source)
        with pytest.raises(RepositoryError, match=ID):
            store(repository, source, time=None)
        assert len(repository.backups()) == 1
        repository.forget([ID])
        with pytest.raises(RepositoryError, match=ID):
            store(repository, source)
        assert repository.backups() == []


def test_of_two_runs_with_one_id_at_the_same_time_one_fails(source: Path) -> None:
    inner = MemoryStorage()

    def other(call: object) -> None:
        with DedupEngine().open(inner, password=nobody) as repository:
            store(repository, source)

    storage = FaultyStorage(inner, Fault(other, when="before", methods={"put"}, prefix="backups/"))
    with made(storage) as repository:
        with pytest.raises(RepositoryError, match=ID):
            store(repository, source)
        assert [backup.id for backup in repository.backups()] == [ID]


def test_a_run_that_lost_its_lease_leaves_no_tombstone_on_a_given_id(source: Path) -> None:
    """Or no copy of the same backup could ever be stored here."""
    inner = MemoryStorage()

    def sweep(call: object) -> None:
        keys = open_repository(inner, nobody)
        protocol.announce(inner, keys, protocol.next_generation(inner, keys))

    storage = FaultyStorage(inner, Fault(sweep, when="before", methods={"put"}, prefix="backups/"))
    with made(storage) as repository, pytest.raises(LeaseLost):
        store(repository, source)
    assert not list(inner.list("forgotten/"))


@pytest.mark.parametrize("backup", ["", "x" * 32, ID.upper(), ID[:-1], ID + "\n"])
def test_what_is_no_id_is_refused(source: Path, backup: str) -> None:
    with made(MemoryStorage()) as repository:
        with pytest.raises(ConfigurationError, match="id"):
            store(repository, source, backup=backup)
        with pytest.raises(ConfigurationError, match="zone"):
            store(repository, source, time=TIME.replace(tzinfo=None))
        assert repository.backups() == []
