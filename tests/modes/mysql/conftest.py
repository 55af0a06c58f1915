from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import servers
from mariadb_server import Database, reachable_folder


@pytest.fixture(scope="session")
def database() -> Database:
    """A server for tests that bear with others who use it."""
    return Database(servers.start("mariadb"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the server's user gets to."""
    with reachable_folder() as path:
        yield path
