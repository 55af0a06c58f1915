"""Real repositories in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dedup.two import KEYS, Two, make_tree, settle, two

from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.storages.memory import MemoryStorage


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def keys(storage: MemoryStorage) -> KeyRing:
    return create_repository(storage, password="correct horse")


@pytest.fixture(params=KEYS)
def pair(request: pytest.FixtureRequest) -> Iterator[Two]:
    yield from two(request.param)


@pytest.fixture
def alike() -> Iterator[Two]:
    yield from two("alike")


@pytest.fixture
def others() -> Iterator[Two]:
    yield from two("other keys")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    base = make_tree(tmp_path / "source")
    settle()
    return base
