"""Labs for worlds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from model.lab import Lab
from model.virtual import Virtual


@pytest.fixture(scope="module")
def virtual() -> Iterator[Virtual]:
    """Not for longer: other tests in this process need threads and clocks as they are."""
    with Virtual().installed() as virtual:
        yield virtual


@pytest.fixture
def lab(virtual: Virtual, tmp_path: Path) -> Lab:
    return Lab(virtual, tmp_path)
