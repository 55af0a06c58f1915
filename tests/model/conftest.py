"""Labs for worlds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from model.lab import Lab
from model.virtual import Virtual


@pytest.fixture(scope="session")
def virtual() -> Iterator[Virtual]:
    with Virtual().installed() as virtual:
        yield virtual


@pytest.fixture
def lab(virtual: Virtual, tmp_path: Path) -> Lab:
    return Lab(virtual, tmp_path)
