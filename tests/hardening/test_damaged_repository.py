"""Objects that are damaged or lost: nothing good is lost with them, and the next backup is whole again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from freezer_sdk import Freezer, IntegrityError, Problem
from freezer_sdk.storages.local import LocalStorage

PASSWORD = "correct horse"


def content(base: Path) -> dict[str, bytes]:
    return {str(path.relative_to(base)): path.read_bytes() for path in sorted(base.rglob("*")) if path.is_file()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    base = tmp_path / "source"
    for folder in ("a", "b"):
        (base / folder).mkdir(parents=True)
        for number in range(3):
            (base / folder / f"f{number}").write_bytes(f"{folder}{number}".encode() * 40_000)
    return base


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return tmp_path / "repository"


def opened(repository: Path) -> Freezer:
    return Freezer(f"local:{repository}", password=PASSWORD, create=True)


def objects(repository: Path, kind: str) -> list[Path]:
    return sorted(path for path in (repository / kind).rglob("*") if path.is_file())


def restored(freezer: Freezer, backup: str, target: Path) -> dict[str, bytes]:
    assert freezer.restore(backup, target).status == "complete"
    return content(target)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGE = pytest.mark.parametrize("damage", [flip, truncate, empty, Path.unlink])


@DAMAGE
def test_an_index_is_replaced_by_the_tables_of_its_packs(
    source: Path, repository: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with opened(repository) as freezer:
        first = freezer.backup(source, name="t")
    for path in objects(repository, "index"):
        damage(path)
    with opened(repository) as freezer:
        assert restored(freezer, first.id, tmp_path / "first") == content(source)
        assert not [p for p in freezer.verify(read_data=True).problems if not p.path.startswith("index/")]
    (source / "new").write_bytes(b"new" * 10_000)
    with opened(repository) as freezer:
        second = freezer.backup(source, name="t")
        assert (second.status, second.stats.unmodified_files) == ("complete", 6)
        assert second.stats.added_bytes < 5_000, "what the packs hold was stored a second time"
        assert any(problem.kind == "index" for problem in second.problems)
        assert restored(freezer, second.id, tmp_path / "second") == content(source)
    with opened(repository) as freezer:
        assert not freezer.backup(source, name="t").problems, "the lost index was not written again"


@DAMAGE
def test_directories_that_cannot_be_read_are_stored_again(
    source: Path, repository: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    with opened(repository) as freezer:
        first = freezer.backup(source, name="t")
    for path in objects(repository, "meta"):
        damage(path)
    with opened(repository) as freezer:
        with pytest.raises(IntegrityError):
            freezer.restore(first.id, tmp_path / "first")
        second = freezer.backup(source, name="t")
        assert second.status == "complete"
    with opened(repository) as freezer:
        assert restored(freezer, second.id, tmp_path / "second") == content(source)
        third = freezer.backup(source, name="t")
        assert (third.stats.unmodified_files, third.problems) == (6, ())
        assert restored(freezer, third.id, tmp_path / "third") == content(source)
        assert restored(freezer, first.id, tmp_path / "again") == content(source), "the first backup is mended too"


@pytest.mark.parametrize("damage", [truncate, empty, Path.unlink])
@pytest.mark.parametrize("options", [{"force_read": True}, {"host": "not-yet-today"}])
def test_content_of_lost_packs_is_stored_again(
    source: Path, repository: Path, tmp_path: Path, damage: Callable[[Path], None], options: dict[str, Any]
) -> None:
    with opened(repository) as freezer:
        first = freezer.backup(source, name="t")
    for path in objects(repository, "packs"):
        damage(path)
    with opened(repository) as freezer:
        assert not freezer.verify().ok
        second = freezer.backup(source, name="t", **options)
        lost = [problem for problem in second.problems if problem.kind == "lost"]
        assert second.status == "complete"
        assert lost
        assert all(isinstance(problem, Problem) and not problem.fatal for problem in lost)
    with opened(repository) as freezer:
        assert restored(freezer, second.id, tmp_path / "second") == content(source)
        assert restored(freezer, first.id, tmp_path / "first") == content(source), "the first backup is mended too"


def test_a_lost_pack_that_the_last_backup_does_not_need_costs_no_reading(source: Path, repository: Path) -> None:
    with opened(repository) as freezer:
        freezer.backup(source, name="t", host="h")
        before = set(objects(repository, "packs"))
        gone = source / "gone"
        gone.write_bytes(b"gone" * 50_000)
        freezer.backup(source, name="t", host="h")
        for path in set(objects(repository, "packs")) - before:
            path.unlink()
        gone.unlink()
        freezer.backup(source, name="t", host="h")
        again = freezer.backup(source, name="other", host="not-yet-today")
        assert any(problem.kind == "lost" for problem in again.problems)
        assert again.stats.added_bytes < 10_000


def test_only_files_with_damaged_content_are_missing_after_a_restore(
    source: Path, repository: Path, tmp_path: Path
) -> None:
    with opened(repository) as freezer:
        freezer.backup(source / "a", name="a")
        before = set(objects(repository, "packs"))
        both = freezer.backup(source, name="t")
        for path in set(objects(repository, "packs")) - before:
            flip(path)
    with opened(repository) as freezer:
        result = freezer.restore(both.id, tmp_path / "out")
        assert result.status == "partial"
        whole = {name: data for name, data in content(source).items() if name.startswith("a/")}
        assert whole.items() <= content(tmp_path / "out").items()
        assert content(tmp_path / "out").items() <= content(source).items()


class Hungry(LocalStorage):
    """Notes the largest piece that a reader takes into memory."""

    largest = 0

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        data = super().get(name, offset=offset, length=length)
        self.largest = max(self.largest, len(data))
        return data


def test_a_swollen_object_is_not_read_whole(repository: Path, source: Path) -> None:
    with opened(repository) as freezer:
        backup = freezer.backup(source)
    sizes = {"backups": (64 << 20) + 4097, "packs": 80 << 20}
    for kind, size in sizes.items():
        for path in objects(repository, kind):
            os.truncate(path, size)  # a hole: takes no space
    storage = Hungry(path=str(repository))
    with Freezer(storage, password=PASSWORD) as freezer:
        assert [found.status for found in freezer.backups()] == ["damaged"]
        damaged = {problem.path.partition("/")[0] for problem in freezer.verify(read_data=True).problems}
        assert set(sizes) <= damaged
        with pytest.raises(IntegrityError, match="larger"):
            freezer.restore(backup.id, repository.parent / "out")
    assert storage.largest <= (64 << 20) + 4097


def test_latest_tells_that_a_newer_backup_is_damaged(
    source: Path, repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(repository) as freezer:
        first = freezer.backup(source, name="t")
        second = freezer.backup(source, name="t")
        assert freezer.find_backup("latest").id == second.id
        assert not caplog.records
    flip(next((repository / "backups").glob(f"*{second.id}")))
    with opened(repository) as freezer:
        assert freezer.find_backup("latest").id == first.id
        assert second.short_id in caplog.text
        caplog.clear()
        assert freezer.find_backup("latest", at=first.time).id == first.id
        assert not caplog.records
