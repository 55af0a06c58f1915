"""What a directory holds that could not be read when it was backed up is not deleted from a target, with any engine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rights import AS_OTHERS, needs_rights

from freezer_sdk import Freezer
from freezer_sdk.model import Overwrite, Status
from freezer_sdk.storages.memory import MemoryStorage

pytestmark = needs_rights

BACKUP = """
import sys
from freezer_sdk import Freezer
with Freezer(sys.argv[1], engine=sys.argv[2], create=True, encryption=False) as freezer:
    freezer.backup(sys.argv[3], name="name", host="host")
"""


def made(engine: str, tmp_path: Path) -> tuple[str, Path]:
    """A store with the backup of a tree with a shut directory, and that tree, open."""
    source = tmp_path / "source"
    for name in ("a", "shut/b", "shut/c/d", "open/e"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "shut").chmod(0)
    url = f"local:{tmp_path / 'store'}"
    command = [*AS_OTHERS, sys.executable, "-c", BACKUP, url, engine, str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (source / "shut").chmod(0o700)
    (source / "open" / "new").write_text("new")
    return url, source


def check(freezer: Freezer, source: Path) -> None:
    (backup,) = freezer.backups()
    assert backup.status is Status.PARTIAL
    result = freezer.restore(backup.id, source, overwrite=Overwrite.ALWAYS, delete=True, force=True)
    assert "shut" in {problem.path for problem in result.problems if problem.fatal}
    assert result.deleted == 1
    found = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    assert found == ["a", "open/e", "shut/b", "shut/c/d"]


@pytest.mark.parametrize("engine", ["dedup", "tar", "rsync"])
def test_it_stays(engine: str, tmp_path: Path) -> None:
    url, source = made(engine, tmp_path)
    with Freezer(url) as freezer:
        check(freezer, source)


@pytest.mark.parametrize("engine", ["tar", "rsync"])
def test_it_stays_when_the_backup_was_imported(engine: str, tmp_path: Path) -> None:
    url, source = made(engine, tmp_path)
    with Freezer(url) as levels, Freezer(MemoryStorage(), create=True, encryption=False) as freezer:
        freezer.import_backups(levels)
        check(freezer, source)
