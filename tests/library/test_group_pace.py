"""One storage that is ten times slower than the other: the other one does not wait for it, and memory does not grow."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MEGABYTE = 1 << 20
CHILD = Path(__file__).parent / "pace_child.py"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """24 MB that do not compress: what would wait for the slow one, if anything did."""
    content, folder = random.Random(1), tmp_path / "source"
    folder.mkdir()
    for number in range(24):
        (folder / f"f{number}").write_bytes(content.randbytes(MEGABYTE))
    return folder


def run(source: Path, seconds: float) -> dict[str, Any]:
    """A run with so many seconds for each object of the second storage."""
    for name in ("quick", "other"):
        shutil.rmtree(source.parent / name, ignore_errors=True)
    command = [sys.executable, str(CHILD), str(source.parent), str(seconds)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=120)
    return dict(json.loads(done.stdout))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_storage_ten_times_slower(source: Path) -> None:
    alike, apart = run(source, 0.02), run(source, 0.2)
    assert (alike["status"], apart["status"]) == ("complete", "complete")
    assert apart["both"] > 2 * apart["quick"]  # the quick one waited for nobody
    assert apart["peak"] < alike["peak"] + 8 * MEGABYTE
