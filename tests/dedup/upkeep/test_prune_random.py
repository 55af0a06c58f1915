"""Long random histories of backups, deletions, prunes, deaths and small disasters: no backup ever loses a byte."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from dedup.upkeep.world import GRACE, Clocked, content, keys_of, new_repository, opened, prune, restored

from freezer_sdk import (
    Backup,
    FreezerError,
    LeaseLost,
    RepositoryLocked,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.layout import Kind, digest_of, pack_name
from freezer_sdk.engines.dedup.upkeep.holdings import read_holdings
from freezer_sdk.engines.dedup.upkeep.prune import Prune
from freezer_sdk.storages.base import Capabilities, ObjectInfo
from freezer_sdk.testing import Fault, FaultyStorage, damage, fail, nothing

SEEDS = int(os.environ.get("FREEZER_TEST_HISTORIES", "4"))  # more of them by hand
STEPS = 24
LAG = timedelta(seconds=7)


class History:
    """A repository, what should be in it, and what happens to it."""

    def __init__(self, seed: int, base: Path, storage: Clocked) -> None:
        self.rng, self.base, self.storage = random.Random(seed), base, storage
        new_repository(self.storage)
        self.live: dict[str, tuple[Backup, dict[str, bytes]]] = {}
        self.told: list[str] = []
        self.count = 0

    def run(self) -> None:
        steps: list[tuple[int, Callable[[], object]]] = [
            (6, self.back_up),
            (3, self.forget),
            (5, self.prune),
            (3, self.dies),
            (1, self.fills_up),
            (1, self.cut),
            (5, self.wait),
            (1, self.lose_index),
            (1, self.damage_index),
            (3, self.prune_meanwhile),
            (3, self.back_up_meanwhile),
            (2, self.mark_everything),
            (2, self.lose_copy),
        ]
        for _ in range(STEPS):
            (step,) = self.rng.choices([step for _, step in steps], [weight for weight, _ in steps])
            self.told.append(step.__name__)
            step()
        self.check()
        for _ in range(4):
            self.storage.pass_time()
            result = prune(self.storage, max_waste=0.02)
        self.check()
        left = self.storage.bytes_below("packs/", "meta/")
        assert left <= 1.1 * result.needed_bytes + 5000, (left, result)

    def check(self) -> None:
        self.storage.pass_time(3 * LAG.total_seconds())
        with opened(self.storage) as freezer:
            assert {backup.id for backup in freezer.backups()} == self.live.keys()
            for backup, expected in self.live.values():
                self.count += 1
                assert restored(freezer, backup, self.base / f"out{self.count}") == expected

    def back_up(self, *faults: Fault) -> None:
        source = self.base / "source"
        for _ in range(self.rng.randrange(1, 8)):
            path = source / f"d{self.rng.randrange(3)}" / f"f{self.rng.randrange(30)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if self.rng.random() < 0.8:
                path.write_bytes(random.Random(self.rng.randrange(60)).randbytes(self.rng.choice((50, 3000, 90_000))))
        (source / "always").parent.mkdir(exist_ok=True)
        (source / "always").write_bytes(b"always")
        with opened(FaultyStorage(self.storage, *faults)) as freezer:
            backup = freezer.backup(source, name="t", force_read=self.rng.random() < 0.7)
        self.live[backup.id] = backup, content(source)

    def forget(self) -> None:
        self.storage.pass_time(3 * LAG.total_seconds())
        if self.live:
            victim = self.rng.choice(sorted(self.live))
            with opened(self.storage) as freezer:
                freezer.forget(victim)
            del self.live[victim]

    def options(self) -> dict[str, object]:
        return {
            "max_waste": self.rng.choice((0, 0.05, 0.5, 1)),
            "max_rewrite": self.rng.choice((None, None, 0, 100_000)),
        }

    def prune(self) -> None:
        prune(self.storage, **self.options())

    def dies(self) -> None:
        dead = Fault(fail(StorageUnavailable("dead")), at=self.rng.randrange(1, 80), times=None)
        with suppress(StorageError):
            prune(FaultyStorage(self.storage, dead), **self.options())
        self.storage.pass_time(301)

    def fills_up(self) -> None:
        full = Fault(fail(StorageFull("full")), at=self.rng.randrange(1, 12), times=None, methods={"put"})
        with suppress(StorageFull):
            prune(FaultyStorage(self.storage, full), **self.options())
        self.storage.pass_time(301)

    def cut(self) -> None:
        prefix = self.rng.choice(
            ("backups/", "index/", "packs/", "meta/", "marks/", "sweeps/", "forgotten/", "leases/")
        )
        short = Fault(nothing, methods={"list"}, prefix=prefix, when="short", keep=self.rng.randrange(4), times=None)
        with suppress(FreezerError):
            prune(FaultyStorage(self.storage, short), **self.options())
        self.storage.pass_time(301)

    def meanwhile(self, *steps: Callable[[], None], last: int) -> Fault:
        """Other things that happen while something is suspended at one of its calls."""
        chosen = self.rng.choices(steps, k=self.rng.randrange(1, 4))

        def action(call: object) -> None:
            for step in chosen:
                self.told.append(f"  {step.__name__}")
                with suppress(RepositoryLocked, LeaseLost):
                    step()

        return Fault(action, at=self.rng.randrange(1, last))

    def prune_meanwhile(self) -> None:
        fault = self.meanwhile(self.back_up, self.forget, self.prune, self.wait, last=90)
        with suppress(RepositoryLocked, LeaseLost):
            prune(FaultyStorage(self.storage, fault), **self.options())
        self.storage.pass_time(301)

    def back_up_meanwhile(self) -> None:
        fault = self.meanwhile(self.forget, self.prune, self.wait, self.wait, last=60)
        with suppress(LeaseLost):
            self.back_up(fault)

    def wait(self) -> None:
        self.storage.pass_time(self.rng.choice((60, GRACE / 2, GRACE + 60, 3 * GRACE)))

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in self.storage.content() if name.startswith(prefix))

    def lose_index(self) -> None:
        if names := self.names("index/"):
            self.storage.delete(self.rng.choice(names))

    def damage_index(self) -> None:
        if names := self.names("index/"):
            damage(self.storage, self.rng.choice(names), offset=self.rng.randrange(-60, 60))

    def mark_everything(self) -> None:
        packs = [digest for name in self.names("packs/") + self.names("meta/") if (digest := digest_of(name))]
        protocol.write_mark(self.storage, keys_of(self.storage), self.rng.sample(packs, len(packs) // 2))

    def lose_copy(self) -> None:
        """A pack vanishes of which everything is in other packs, too."""
        with opened(self.storage) as freezer:
            handle: Handle = freezer._opened()._handle  # type: ignore[attr-defined]
        holdings = read_holdings(handle, frozenset(), self.storage.now(), tick=lambda: None)
        places: dict[tuple[Kind, bytes], set[bytes]] = {}
        for section in holdings.index.sections:
            for row in range(len(section)):
                if holdings.present(section.kind, section.pack(row), 0):
                    places.setdefault((section.kind, section.blob(row)), set()).add(section.pack(row))
        single = {pack for packs in places.values() if len(packs) == 1 for pack in packs}
        double = sorted((kind, pack) for kind, pack in holdings.packs if pack not in single)
        known = {pack for packs in places.values() for pack in packs}
        double = [each for each in double if each[1] in known]
        if double:
            self.storage.delete(pack_name(*self.rng.choice(double)))


class Lagging(Clocked):
    """Listings may miss what was stored in the last seconds; there is no conditional put."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._chance = random.Random(seed)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_put=False, listing_lag=LAG, remote=False, persistent=False)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        old = self.now() - LAG
        found = super().list(prefix, delimiter=delimiter)
        return (info for info in found if info.is_prefix or info.modified <= old or self._chance.random() < 0.3)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_histories(seed: int, tmp_path: Path) -> None:
    told(History(seed, tmp_path, Clocked()))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_histories_where_listings_lag(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Lagging(seed)
    monkeypatch.setattr("time.sleep", storage.pass_time)
    waiting = {**(Prune.__init__.__kwdefaults__ or {}), "wait": storage.pass_time}
    monkeypatch.setattr(Prune.__init__, "__kwdefaults__", waiting)
    told(History(seed, tmp_path, storage))


def told(history: History) -> None:
    try:
        history.run()
    except BaseException:
        print(history.told)
        raise
