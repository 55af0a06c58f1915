"""Objects that are there and cannot be read, as on a failing disk: the rest stays of use."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from freezer_sdk import ChecksumMismatch, Freezer, StorageUnavailable
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, fail

PASSWORD = "correct horse"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    base.mkdir()
    (base / "old").write_bytes(os.urandom(100_000))
    return base


@pytest.fixture
def repository(source: Path, tmp_path: Path) -> Path:
    """Two backups; the second one has its own packs for one file."""
    with Freezer(f"local:{tmp_path / 'repository'}", password=PASSWORD, create=True) as freezer:
        freezer.backup(source, name="t")
        (source / "new").write_bytes(os.urandom(100_000))
        freezer.backup(source, name="t")
    return tmp_path / "repository"


@contextmanager
def failing(repository: Path, *names: str, error: Exception | None = None) -> Iterator[Freezer]:
    """The repository on a medium that cannot read these objects."""
    error = error or ChecksumMismatch("cannot read it: Input/output error")
    faults = [Fault(fail(error), times=None, methods={"get", "open", "read"}, prefix=name) for name in names]
    storage = FaultyStorage(LocalStorage(path=str(repository)), *faults)
    with Freezer(storage, password=PASSWORD) as freezer:
        yield freezer


def newest(repository: Path, kind: str) -> str:
    paths = [path for path in (repository / kind).rglob("*") if path.is_file()]
    return str(max(paths, key=lambda path: path.stat().st_mtime_ns).relative_to(repository))


@pytest.mark.parametrize("kind", ["config", "keys", "copies", "leases", "index"])
def test_nothing_is_lost_with_what_can_be_replaced(source: Path, repository: Path, tmp_path: Path, kind: str) -> None:
    bad = newest(repository, kind)
    with failing(repository, bad) as freezer:
        assert [backup.status for backup in freezer.backups()] == ["complete", "complete"]
        assert freezer.restore("latest", tmp_path / "out").status == "complete"
        assert (tmp_path / "out/new").read_bytes() == (source / "new").read_bytes()
        assert bad in {problem.path for problem in freezer.verify(read_data=True).problems}
        assert freezer.backup(source, name="t").status == "complete"


def test_an_unreadable_commit_is_listed_as_damaged(repository: Path, tmp_path: Path) -> None:
    with failing(repository, newest(repository, "backups")) as freezer:
        assert [backup.status for backup in freezer.backups()] == ["complete", "damaged"]
        assert freezer.restore("latest", tmp_path / "out").status == "complete"
        assert sorted(os.listdir(tmp_path / "out")) == ["old"]


def test_files_beside_an_unreadable_pack_are_restored(source: Path, repository: Path, tmp_path: Path) -> None:
    bad = newest(repository, "packs")
    with failing(repository, bad) as freezer:
        result = freezer.restore("latest", tmp_path / "out")
        assert (result.status, [problem.path for problem in result.problems]) == ("partial", ["new"])
        assert (tmp_path / "out/old").read_bytes() == (source / "old").read_bytes()
        affected = [problem.path for problem in freezer.verify(read_data=True).problems]
        assert bad in affected
        assert any(path.endswith(f":{source / 'new'}") for path in affected)


def test_a_storage_that_is_away_is_no_damage(repository: Path, tmp_path: Path) -> None:
    away = StorageUnavailable("the cable is cut")
    with failing(repository, newest(repository, "packs"), error=away) as freezer, pytest.raises(StorageUnavailable):
        freezer.restore("latest", tmp_path / "out")


def test_the_local_storage_tells_a_failing_medium_from_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = LocalStorage(path=str(tmp_path))
    storage.put("object", [b"content"])

    def broken(*_args: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    for call in ("read", "readv", "preadv", "pread"):
        monkeypatch.setattr(os, call, broken)
    with pytest.raises(ChecksumMismatch, match="Input/output error") as caught:
        storage.get("object")
    assert caught.value.hint
