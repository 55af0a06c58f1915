"""Two repositories to copy between."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator
from pathlib import Path

from trees import compare

from freezer_sdk import CopyOutcome, Freezer, Status
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import FaultyStorage

PASSWORD = "correct horse"
KEYS = ["alike", "other keys", "to unencrypted", "from unencrypted"]
SMALL_PACKS = {"pack_size": "1M"}
CHEAP = Argon2Params(memory=8, time=1, lanes=1)


@dataclasses.dataclass
class Two:
    """Two repositories whose calls are counted."""

    source: Freezer
    target: Freezer
    source_storage: FaultyStorage
    target_storage: FaultyStorage

    def copy(self, *ids: str, outcome: CopyOutcome = CopyOutcome.COPIED) -> int:
        """Copies, and gives how many bytes were read."""
        results = self.target.copy(self.source, ids)
        assert {result.outcome for result in results} == {outcome}
        return sum(result.read_bytes for result in results)

    def calls(self, storage: FaultyStorage, begin: int, *prefixes: str, methods: str = "get open put") -> list[str]:
        return [
            call.name
            for call in storage.calls[begin:]
            if call.method in methods.split() and call.name.startswith(prefixes or ("packs/", "meta/"))
        ]


def two(keys: str) -> Iterator[Two]:
    first, second = FaultyStorage(MemoryStorage()), FaultyStorage(MemoryStorage())
    passwords = {"to unencrypted": (PASSWORD, None), "from unencrypted": (None, PASSWORD)}.get(keys, (PASSWORD,) * 2)
    model = create_repository(first, password=passwords[0], kdf=CHEAP)
    create_repository(second, password=passwords[1], kdf=CHEAP, like=model if keys == "alike" else None)
    with (
        Freezer(first, password=passwords[0], engine_options=SMALL_PACKS) as source,
        Freezer(second, password=passwords[1], engine_options=SMALL_PACKS) as target,
    ):
        yield Two(source, target, first, second)


def make_tree(base: Path, *, files: int = 60, seed: int = 1) -> Path:
    rng = random.Random(seed)
    for number in range(files):
        path = base / f"d{number % 5}" / f"e{number % 3}" / f"f{seed}-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((0, 10, 3000, 60_000, 70_000, 400_000))))
    return base


def settle() -> None:
    """Waits until what was just written is older than the racy window."""
    time.sleep(0.1)


def assert_restores(freezer: Freezer, backup: str, source: Path, out: Path) -> None:
    result = freezer.restore(backup, out)
    assert result.status is Status.COMPLETE, result.problems
    compare(source, out)
