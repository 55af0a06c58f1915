"""What a backup could not read is told by its restores, too, and is not deleted from a target."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rights import AS_OTHERS, needs_rights

from freezer_sdk import Freezer
from freezer_sdk.model import Layout, Overwrite, Status
from freezer_sdk.storages.memory import MemoryStorage

PASSWORD = "correct horse"

pytestmark = needs_rights

BACKUP = """
import sys
from freezer_sdk import Freezer
with Freezer(sys.argv[1], password=sys.argv[2], create=True) as freezer:
    freezer.backup(sys.argv[3])
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with a file and a directory that cannot be read."""
    root = tmp_path / "source"
    for name in ("a", "shut/b", "open/c", "open/d"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "open" / "c").chmod(0)
    (root / "shut").chmod(0)
    return root


@pytest.fixture
def url(source: Path, tmp_path: Path) -> str:
    """A repository with its backup."""
    url = f"local:{tmp_path / 'repository'}"
    command = [*AS_OTHERS, sys.executable, "-c", BACKUP, url, PASSWORD, str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (source / "shut").chmod(0o700)
    return url


def test_a_restore_says_what_is_missing(url: str, tmp_path: Path) -> None:
    with Freezer(url, password=PASSWORD) as freezer:
        (backup,) = freezer.backups()
        assert backup.status is Status.PARTIAL
        for layout in (Layout.CONTENT, Layout.FULL):
            result = freezer.restore(backup.id, tmp_path / layout.value, layout=layout)
            assert result.status is Status.PARTIAL
            root = str(tmp_path / "source")[1:] + "/" if layout is Layout.FULL else ""
            told = [(each.kind, each.path) for each in result.problems]
            assert sorted(told) == [("incomplete", f"{root}open/c"), ("incomplete", f"{root}shut")]
            assert all("backed up" in each.message for each in result.problems)


def test_of_what_was_chosen_only(url: str, tmp_path: Path) -> None:
    with Freezer(url, password=PASSWORD) as freezer:
        (backup,) = freezer.backups()
        assert freezer.restore(backup.id, tmp_path / "1", paths=["a"]).status is Status.COMPLETE
        assert freezer.restore(backup.id, tmp_path / "2", paths=["open/d"]).status is Status.COMPLETE
        result = freezer.restore(backup.id, tmp_path / "3", paths=["open"])
        assert [each.path for each in result.problems] == ["open/c"]
        result = freezer.restore(backup.id, tmp_path / "4", exclude=["c"], dry_run=True)
        assert [each.path for each in result.problems] == ["shut"]


def test_it_stays_where_others_are_deleted(url: str, source: Path) -> None:
    (source / "open" / "new").write_text("new")
    with Freezer(url, password=PASSWORD) as freezer:
        (backup,) = freezer.backups()
        result = freezer.restore(backup.id, source, overwrite=Overwrite.ALWAYS, delete=True, force=True)
    assert result.status is Status.PARTIAL
    found = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    assert set(found) - {"open/new"} == {"a", "open/c", "open/d", "shut/b"}


def imported(tmp_path: Path, *problems: dict[str, object]) -> Freezer:
    """A repository with a level that was told to be partial."""
    source, old = tmp_path / "old", MemoryStorage()
    (source / "d").mkdir(parents=True)
    (source / "a").write_text("a")
    with Freezer.create(old, engine="tar", encryption=False) as freezer:
        freezer.backup([source], name="name", host="host")
        name = next(item.name for item in old.list() if item.name.endswith("/record"))
        record = {**json.loads(old.get(name)), "status": "partial", "problems": list(problems)}
        del record["digest"], record["record_sha256"]
        old.put(name, [json.dumps(record).encode()])
    new = Freezer.create(MemoryStorage(), password=PASSWORD)
    with Freezer(old, engine="tar") as levels:
        new.import_backups(levels)
    return new


def test_an_imported_level(tmp_path: Path) -> None:
    problem = {"path": f"{tmp_path}/old/d/no/x", "kind": "unreadable", "message": "Permission denied", "fatal": True}
    with imported(tmp_path, problem) as freezer:
        (backup,) = freezer.backups()
        assert backup.status is Status.PARTIAL
        result = freezer.restore(backup.id, tmp_path / "out")
        assert [(each.kind, each.path) for each in result.problems] == [("incomplete", "d/no/x")]
        for mine in ("d/no/x", "d/other"):
            (tmp_path / "out" / mine).mkdir(parents=True)
        freezer.restore(backup.id, tmp_path / "out", overwrite=Overwrite.ALWAYS, delete=True, force=True)
        assert sorted(os.listdir(tmp_path / "out" / "d")) == ["no"]
        assert os.listdir(tmp_path / "out" / "d" / "no") == ["x"]


def test_an_imported_level_of_which_not_all_is_known(tmp_path: Path) -> None:
    problem = {"path": "", "kind": "cut", "message": "7 more problems are not listed", "fatal": False}
    with imported(tmp_path, problem) as freezer:
        (backup,) = freezer.backups()
        (tmp_path / "out" / "d" / "mine").mkdir(parents=True)
        result = freezer.restore(backup.id, tmp_path / "out", overwrite=Overwrite.ALWAYS, delete=True, force=True)
        assert "delete" in [each.kind for each in result.problems]
        assert (tmp_path / "out" / "d" / "mine").exists()
