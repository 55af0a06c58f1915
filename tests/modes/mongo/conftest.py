from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mongo_server import Mongo, new_mongo

from freezer_sdk import Freezer

STUB = Path(__file__).parents[2] / "stub_mongo_tools.py"


@pytest.fixture(scope="package")
def server() -> Iterator[Mongo]:
    """A server for tests that bear with others who use it."""
    with new_mongo(f"shared-{os.getpid()}") as made:
        yield made


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer(f"local:{tmp_path}/repository", create=True, encryption=False) as opened:
        yield opened


@pytest.fixture
def stub_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stubs of MongoDB's tools in the PATH; each says in ``called`` how it was called, and with what environment."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("mongodump", "mongorestore"):
        program = folder / name
        program.write_text(
            f'#!/bin/sh\n{{ echo {name} "$@"; env; }} >>{folder}/called\nexec {sys.executable} {STUB} {name} "$@"\n'
        )
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder
