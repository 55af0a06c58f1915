"""The tutorial, as a reader would type it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FENCE = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_tutorial_works_as_it_is_written(checkout: Path, tmp_path: Path) -> None:
    if not Path("/usr/share/common-licenses").is_dir():
        pytest.skip("the tutorial is written for Debian")
    install, *steps = FENCE.findall((checkout / "docs/tutorial/first-backup.md").read_text())
    assert "scripts/quickstart" in install
    script = "set -euo pipefail\n" + "\n".join(steps)
    # `cd` without an argument goes home, and the last step removes everything
    env = {"HOME": str(tmp_path), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["bash", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not a byte differs" in done.stdout
    assert "0 new, 0 changed" in done.stdout
    assert "no damage" in done.stdout
    assert not (tmp_path / "freezer-tutorial").exists()


def test_quickstart_shows_the_main_job(checkout: Path) -> None:
    text = (checkout / "scripts/quickstart").read_text()
    for command in ("repository init", "backup create", "backup list", "backup verify --read-data", "backup restore"):
        assert f"show freezer {command}" in text
