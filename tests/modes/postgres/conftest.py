from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import Cluster, new_cluster
from running_writer import open_folder

from freezer_sdk import Freezer


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """A server for tests that bear with others who use it."""
    with new_cluster(f"shared-{os.getpid()}") as made:
        yield made


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the server's user gets to."""
    with open_folder() as path:
        yield path


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer(f"local:{tmp_path}/repository", create=True, encryption=False) as opened:
        yield opened
