from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from mongo_server import Mongo, new_mongo

from freezer_sdk import Freezer


@pytest.fixture(scope="package")
def server() -> Iterator[Mongo]:
    """A server for tests that bear with others who use it."""
    with new_mongo(f"shared-{os.getpid()}") as made:
        yield made


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer(f"local:{tmp_path}/repository", create=True, password="p") as opened:
        yield opened
