"""A tree to back up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "sub").mkdir(parents=True)
    (path / "first").write_bytes(b"first\n" * 100)
    (path / "sub" / "second").write_bytes(os.urandom(50_000))
    return path
