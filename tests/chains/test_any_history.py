"""Whatever happens between runs: every backup that was acknowledged is listed, and restores as the tree was."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.tar.engine import TarEngine
from freezer_sdk.errors import FreezerError, StorageUnavailable
from freezer_sdk.model import Backup, BackupOptions, RestoreOptions
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing.faults import Fault, FaultyStorage, fail

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")]

PASSWORD = "correct horse"
POLICIES: list[dict[str, Any]] = [
    {"strategy": "full"},
    {"strategy": "incremental"},
    {"strategy": "differential"},
    {"max_level": 1},
    {"max_level": 3},
    {"always_level": 1},
    {"always_level": 2, "restart_always_level": 1.0},
]
RUNS = st.lists(
    st.fixed_dictionaries(
        {
            "policy": st.sampled_from(POLICIES),
            "password": st.sampled_from([PASSWORD, PASSWORD, None]),
            "step": st.sampled_from([0, 0, 1, 3600, 200_000, -1, -100_000]),
            "fails_at": st.none() | st.integers(1, 30),
            "later": st.booleans(),
            "changes": st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "sub"])), max_size=3),
        }
    ),
    min_size=3,
    max_size=7,
)


def content(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def change(tree: Path, number: int, name: str, folder: str) -> None:
    """Makes a file, changes it, or removes it where there is one of this number already."""
    path = tree / folder / name
    path.parent.mkdir(exist_ok=True)
    if path.exists() and number % 3 == 0:
        path.unlink()
    else:
        path.write_bytes(f"{number} {name}".encode() * (number + 1))


def run(storage: Storage, tree: Path, when: datetime, each: dict[str, Any]) -> Backup:
    engine = TarEngine(cipher="openssl", **each["policy"])  # sealed streams take seconds for their keys
    with FilesystemMode(paths=(str(tree),)).protect() as protected:
        repository = engine.open(storage, password=lambda: each["password"])
        return repository.backup(protected, BackupOptions(name="t", host="h", time=when), Context())


def next_run_is_possible(storage: Storage) -> None:
    """As ten minutes later: locks that could not be given back are dead."""
    for item in list(storage.list("freezer-sdk/locks/")):
        storage.delete(item.name)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=RUNS)
def test_every_acknowledged_backup_restores(history: list[dict[str, Any]]) -> None:
    storage, when = MemoryStorage(), datetime(2026, 5, 1, tzinfo=UTC)
    made: list[tuple[Backup, dict[str, bytes]]] = []
    TarEngine().create(storage, password=lambda: None, encryption=False).close()
    with tempfile.TemporaryDirectory() as folder:
        tree, out = Path(folder) / "tree", Path(folder) / "out"
        tree.mkdir()
        for number, each in enumerate(history):
            when += timedelta(seconds=each["step"])
            for name, below in each["changes"]:
                change(tree, number, name, below)
            used: Storage = storage
            if each["fails_at"] is not None:
                fault = fail(StorageUnavailable("cut"))
                moment = "after" if each["later"] else "before"
                used = FaultyStorage(storage, Fault(fault, at=each["fails_at"], times=None, when=moment))
            try:
                made.append((run(used, tree, when, each), content(tree)))
            except FreezerError:
                assert each["fails_at"] is not None
            next_run_is_possible(storage)
        repository = TarEngine().open(storage, password=lambda: PASSWORD)
        listed = {backup.id: backup for backup in repository.backups()}
        times = [backup.time for backup, _ in made]
        assert times == sorted(times)
        for backup, expected in made:
            assert listed[backup.id] == backup
            result = repository.restore(backup.id, str(out), RestoreOptions(), Context())
            assert result.status == "complete", result.problems
            assert content(out) == expected
            shutil.rmtree(out)
        assert repository.verify([], read_data=True, context=Context()).ok
