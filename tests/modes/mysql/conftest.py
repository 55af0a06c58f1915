from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from mariadb_server import Database, reachable_folder


@pytest.fixture(scope="session")
def database() -> Database:
    """A server that one test at a time has for itself: tests lock it, and change its accounts."""
    return Database(servers.start("mariadb", instance=os.environ.get("PYTEST_XDIST_WORKER", "")))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the server's user gets to."""
    with reachable_folder() as path:
        yield path
