"""A real repository in memory."""

from __future__ import annotations

import pytest

from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.storages.memory import MemoryStorage


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
def keys(storage: MemoryStorage) -> KeyRing:
    return create_repository(storage, password="correct horse")
