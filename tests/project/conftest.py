"""What the tests of the repository itself share."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The top of the checkout."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tracked(checkout: Path) -> list[Path]:
    """All files that belong to the repository: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, check=True)
    names = [name for name in done.stdout.decode().split("\0") if name]
    return [checkout / name for name in names if (checkout / name).is_file()]
