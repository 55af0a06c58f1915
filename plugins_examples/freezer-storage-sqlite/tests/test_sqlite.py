"""The contract, as Freezer SDK tests it for everybody, and what is special here."""

import contextlib
import sqlite3
import stat
import time

import pytest
from freezer_storage_sqlite.storage import SqliteStorage

from freezer_sdk.errors import StorageError
from freezer_sdk.testing import StorageSuite


class TestSqlite(StorageSuite):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path):
        self.options = {"path": str(tmp_path / "objects.db")}

    def make_storage(self):
        return SqliteStorage(**self.options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "objects.db"


def test_the_file_is_private(path):
    with SqliteStorage(path=str(path)) as storage:
        storage.put("x", [b"x"])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_objects_stay(path):
    with SqliteStorage(path=str(path)) as storage:
        storage.put("x", [b"x" * 3_000_000])
        location = storage.location
    with SqliteStorage(**SqliteStorage.parse_url(location)) as storage:
        assert storage.get("x", offset=2_999_990) == b"x" * 10


def test_another_file_is_refused(path):
    path.write_bytes(b"this is no database at all" * 100)
    with SqliteStorage(path=str(path)) as storage, pytest.raises(StorageError, match=r"objects\.db"):
        storage.put("x", [b"x"])


def test_a_folder_that_does_not_exist(tmp_path):
    with SqliteStorage(path=str(tmp_path / "no" / "such" / "x.db")) as storage, pytest.raises(StorageError):
        storage.put("x", [b"x"])


def test_leftovers_of_killed_runs_go_after_a_day(path):
    with SqliteStorage(path=str(path)) as storage:
        storage.put("x", [b"x"])
    with contextlib.closing(sqlite3.connect(path)) as database:
        now = time.time_ns() // 1000
        for age in (1, 25):
            database.execute("INSERT INTO objects (size, modified) VALUES (0, ?)", (now - age * 3_600_000_000,))
        database.commit()
    with SqliteStorage(path=str(path)) as storage:
        assert [info.name for info in storage.list()] == ["x"]
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM objects").fetchone() == (2,)
