"""Every kind of entry, and a real tree, through the engine and back: other programs find no difference."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from trees import compare, make_every_kind

from freezer_sdk import Freezer, Status

PASSWORD = "correct horse"
REAL = [path for path in ("/usr/lib/python3", "/etc") if os.path.isdir(path)]


def round_trip(source: Path, tmp_path: Path) -> None:
    with Freezer(f"local:{tmp_path / 'repository'}", password=PASSWORD, create=True) as freezer:
        backup = freezer.backup(source, name="tree")
        assert backup.status is Status.COMPLETE, backup.problems
        assert freezer.verify(read_data=True).ok
        result = freezer.restore(backup.id, tmp_path / "out")
        assert result.status is Status.COMPLETE, result.problems
        compare(source, tmp_path / "out")
        again = freezer.backup(source, name="tree")
        assert again.stats.read_bytes == 0
        assert again.stats.files == backup.stats.files
        assert again.stats.bytes == backup.stats.bytes


@pytest.mark.root
def test_every_kind_of_entry(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_every_kind(source)
    os.sync()  # lets the clock's tick pass as well
    round_trip(source, tmp_path)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("path", REAL)
def test_real_tree(path: str, tmp_path: Path) -> None:
    round_trip(Path(path), tmp_path)
