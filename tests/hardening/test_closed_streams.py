"""Started by something that closed the standard streams, as some daemons do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freezer_sdk import Freezer

PASSWORD = "correct horse"
PROGRAM = "import sys; from freezer_cli.main import main; sys.exit(main())"


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_end_no_backup_and_spoil_no_object(tmp_path: Path, closed: tuple[int, ...]) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"content" * 100_000)
    (tmp_path / "source" / "secret").write_text("unreadable")
    storage = f"local:{tmp_path / 'repository'}"
    with Freezer(storage, password=PASSWORD, create=True):
        pass
    words = ["--storage", storage, "backup", "create", str(tmp_path / "source"), str(tmp_path / "gone"), "--no-sync"]
    command = [sys.executable, "-c", PROGRAM, *words]
    shell = ["sh", "-c", " ".join(['exec "$@"', *(f"{number}>&-" for number in closed)]), "sh", *command]
    run = subprocess.run(
        shell, capture_output=True, env={**os.environ, "FREEZER_PASSWORD": PASSWORD, "HOME": str(tmp_path)}, check=False
    )
    assert run.returncode == 3, run.stderr
    assert b"Traceback" not in run.stderr
    with Freezer(storage, password=PASSWORD) as freezer:
        assert [backup.status for backup in freezer.backups()] == ["partial"]
        assert freezer.verify(read_data=True).ok
