"""Tests that take turns, also those of several workers of pytest."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def turn(name: str) -> Iterator[None]:
    """As long as it lasts, no other test of this checkout has the turn of this name."""
    folder = Path(os.environ.get("FREEZER_TEST_SERVICES", Path(__file__).parents[1] / ".test-services"))
    folder.mkdir(exist_ok=True)
    with open(folder / f"{name}.turn", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
