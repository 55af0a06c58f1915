"""A repository in memory whose storage's clock is set by hand, and what tests of maintenance ask of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from freezer_sdk import Backup, Freezer
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import Capabilities, ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.upkeep_model import PruneResult

GRACE = 3600
ENGINE = {"pack_size": "1M", "threads": 1, "reserve": 0}


class Clocked(MemoryStorage):
    """Its clock is ahead by what tests say; objects can be copied and put back as a whole."""

    offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset

    def content(self) -> dict[str, bytes]:
        with self._space.lock:
            return {name: found.content for name, found in self._space.objects.items()}

    def save(self) -> dict[str, object]:
        with self._space.lock:
            return dict(self._space.objects)

    def load(self, saved: dict[str, object]) -> None:
        with self._space.lock:
            self._space.objects.clear()
            self._space.objects.update(saved)  # type: ignore[arg-type]

    def pass_time(self, seconds: float = GRACE + 60) -> None:
        self.offset += timedelta(seconds=seconds)

    def bytes_below(self, *prefixes: str) -> int:
        return sum(len(content) for name, content in self.content().items() if name.startswith(prefixes))


class NeverOverwrites(Clocked):
    """Nothing is ever stored over something else."""

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        assert if_absent or name not in self.content(), name
        return super().put(name, buffers, if_absent=if_absent)


class Remote(Clocked):
    """Reads are worth a local cache."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_put=True, remote=True, persistent=False)


def new_repository(storage: MemoryStorage, *, grace: int = GRACE) -> KeyRing:
    return create_repository(storage, password=None, grace=grace, short_grace=True)


def keys_of(storage: MemoryStorage) -> KeyRing:
    return open_repository(storage, lambda: None)


def opened(storage: object, **options: object) -> Freezer:
    return Freezer(storage, engine_options={**ENGINE, **options})  # type: ignore[arg-type]


def write_files(base: Path, *, seed: int, files: int = 12, size: int = 120_000, subdirs: int = 3) -> Path:
    """Random files, other ones for each seed."""
    rng = random.Random(seed)
    for number in range(files):
        path = base / f"d{number % subdirs}" / f"f{seed}-{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(size + number))
    return base


def content(base: Path) -> dict[str, bytes]:
    return {str(p.relative_to(base)): p.read_bytes() for p in sorted(base.rglob("*")) if p.is_file()}


def restored(freezer: Freezer, backup: Backup, out: Path) -> dict[str, bytes]:
    result = freezer.restore(backup.id, out)
    assert result.problems == ()
    return content(out)


def assert_whole(freezer: Freezer) -> None:
    """Every backup that counts can be restored, to the last byte."""
    result = freezer.verify(read_data=True)
    assert [problem for problem in result.problems if problem.fatal] == []


def prune(storage: object, **options: object) -> PruneResult:
    with opened(storage) as freezer:
        return freezer.maintenance.prune(**options)  # type: ignore[arg-type]
