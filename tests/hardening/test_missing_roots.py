"""One of several paths is not there: the others are backed up, and nobody is led to believe that all is well."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from freezer_sdk import Freezer, RestoreError, SourceUnreadable

PASSWORD = "correct horse"


@pytest.fixture
def freezer(tmp_path: Path) -> Freezer:
    return Freezer(f"local:{tmp_path / 'repository'}", password=PASSWORD, create=True)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("content")
    return tmp_path / "there"


def test_the_other_paths_are_backed_up(freezer: Freezer, there: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    backup = freezer.backup([there, gone], name="t")
    assert backup.status == "partial"
    assert [(problem.path, problem.fatal) for problem in backup.problems] == [(str(gone), True)]
    assert backup.paths == (str(gone), str(there))


def test_a_missing_path_inside_another_one_is_told(freezer: Freezer, there: Path) -> None:
    backup = freezer.backup([there, there / "gone"], name="t")
    assert [problem.path for problem in backup.problems] == [str(there / "gone")]
    assert backup.status == "partial"


def test_nothing_is_stored_when_no_path_is_there(freezer: Freezer, tmp_path: Path) -> None:
    for paths in ([tmp_path / "gone"], [tmp_path / "gone", tmp_path / "lost"]):
        with pytest.raises(SourceUnreadable, match="gone"):
            freezer.backup(paths, name="t")
    assert freezer.backups() == []


def test_the_layout_of_a_restore_does_not_depend_on_what_could_be_read(
    freezer: Freezer, there: Path, tmp_path: Path
) -> None:
    backup = freezer.backup([there, tmp_path / "gone"], name="t")
    result = freezer.restore(backup.id, tmp_path / "out")
    assert (tmp_path / "out" / str(there).lstrip("/") / "file").read_text() == "content"
    assert result.status == "partial"
    assert [problem.path for problem in result.problems] == [str(tmp_path / "gone")]


def test_the_layout_is_full_when_the_command_beside_a_path_failed(
    freezer: Freezer, there: Path, tmp_path: Path
) -> None:
    options = {"command": "dump.sql", "command_arguments": ["false"]}
    backup = freezer.backup(there, name="t", mode_options=options)
    assert backup.status == "partial"
    assert freezer.restore(backup.id, tmp_path / "out").status == "partial"
    assert (tmp_path / "out" / str(there).lstrip("/") / "file").read_text() == "content"


def test_a_path_that_comes_back_is_whole_again(freezer: Freezer, there: Path, tmp_path: Path) -> None:
    later = tmp_path / "later"
    time.sleep(0.1)  # what was written just now would be read again
    freezer.backup([there, later], name="t")
    later.mkdir()
    (later / "new").write_text("new")
    backup = freezer.backup([there, later], name="t")
    assert (backup.status, backup.stats.unmodified_files, backup.stats.new_files) == ("complete", 1, 1)


def test_a_missing_path_cannot_be_restored_alone(freezer: Freezer, there: Path, tmp_path: Path) -> None:
    backup = freezer.backup([there, tmp_path / "gone"], name="t")
    with pytest.raises(RestoreError, match="gone"):
        freezer.restore(backup.id, tmp_path / "out", paths=[str(tmp_path / "gone")])
