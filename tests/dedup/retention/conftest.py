"""A repository whose storage has a clock that tests set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dedup.retention.dated import Dated
from dedup.two import CHEAP, PASSWORD, SMALL_PACKS, make_tree

from freezer_sdk import (
    Freezer,
)
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.keyring import KeyRing


@pytest.fixture
def storage() -> Dated:
    return Dated()


@pytest.fixture
def keys(storage: Dated) -> KeyRing:
    return create_repository(storage, password=PASSWORD, kdf=CHEAP)


@pytest.fixture
def freezer(storage: Dated, keys: KeyRing) -> Iterator[Freezer]:
    with Freezer(storage, password=PASSWORD, engine_options=SMALL_PACKS) as opened:
        yield opened


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "source", files=6)
