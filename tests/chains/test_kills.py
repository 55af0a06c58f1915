"""Runs that are killed: what counted before stays whole, and the next run goes on at once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from freezer_sdk import Freezer

CHILD = Path(__file__).with_name("kill_child.py")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")]


def content(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def test_killed_at_every_storage_call(tmp_path: Path) -> None:
    template, store, source = (tmp_path / name for name in ("template", "store", "source"))
    source.mkdir()
    (source / "first").write_bytes(os.urandom(600_000))
    url, options = f"local:{store}", {"strategy": "incremental"}
    with Freezer(f"local:{template}", create=True, engine="tar", encryption=False) as freezer:
        first = freezer.backup(source, name="t")
    old = content(source)
    (source / "second").write_bytes(os.urandom(600_000))
    number, ended = 0, False
    while not ended:
        number += 1
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(template, store)
        command = [sys.executable, str(CHILD), str(store), str(source), str(number)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        ended = run.returncode == 0
        assert ended or run.returncode == -signal.SIGKILL, run.stderr
        with Freezer(url, engine="tar", engine_options=options) as freezer:
            assert [each.level for each in freezer.backups()] in ([0], [0, 1])
            assert freezer.backups()[0].id == first.id
            again = freezer.backup(source, name="t")
            assert again.level == len(freezer.backups()) - 1
            result = freezer.verify(read_data=True)
            assert result.ok, (number, result.problems)
            for backup, expected in ((first, old), (again, content(source))):
                out = tmp_path / "out"
                shutil.rmtree(out, ignore_errors=True)
                freezer.restore(backup.id, out)
                assert content(out) == expected
        streams = list(store.glob("data/*/*/*/*/data"))
        marks = list(store.glob("metadata/*/*/*/*/metadata"))
        assert len(streams) == len(marks) == len(list(store.glob("metadata/*/*/*/*")))
    assert number > 15
