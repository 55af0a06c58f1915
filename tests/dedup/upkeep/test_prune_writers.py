"""Writers and prunes at the same time, stopped at each of their storage calls: a backup that was made is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from dedup.upkeep.world import (
    Clocked,
    assert_whole,
    content,
    keys_of,
    new_repository,
    opened,
    prune,
    restored,
    write_files,
)

from freezer_sdk import Backup, IntegrityError, LeaseLost, RepositoryLocked
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.testing import Fault, FaultyStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)


class Shared:
    """What a forgotten backup holds is what the next one will want to store."""

    def __init__(self, base: Path) -> None:
        self.storage = Clocked()
        new_repository(self.storage)
        self.wanted = write_files(base / "wanted", seed=1, files=4, size=50_000)
        self.other = write_files(base / "other", seed=2, files=4, size=50_000)
        with opened(self.storage) as freezer:
            old = freezer.backup(self.wanted, name="old", force_read=True)
            self.kept = freezer.backup(self.other, name="kept", force_read=True)
            freezer.forget(old.id)
            self.storage.pass_time(60)
        self.unmarked, self.offset = self.storage.save(), self.storage.offset
        prune(self.storage)
        self.marked = self.storage.save()

    def reset(self, *, marked: bool) -> None:
        self.storage.load(self.marked if marked else self.unmarked)
        self.storage.offset = self.offset

    def back_up(self, storage: object) -> Backup:
        with opened(storage) as freezer:
            return freezer.backup(self.wanted, name="new", force_read=True)

    def check(self, made: Backup | None, out: Path) -> None:
        """All that was reported as made is whole; what is visible is whole in any case."""
        with opened(self.storage) as freezer:
            assert_whole(freezer)
            visible = {backup.id for backup in freezer.backups()}
            assert self.kept.id in visible
            assert restored(freezer, self.kept, out / "kept") == content(self.other)
            if made is not None:
                assert made.id in visible
                assert restored(freezer, made, out / "made") == content(self.wanted)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    return Shared(tmp_path_factory.mktemp("shared"))


def harmless(work: Callable[[], object]) -> Callable[[object], None]:
    def action(call: object) -> None:
        with suppress(IntegrityError, RepositoryLocked, LeaseLost):
            work()

    return action


def each_call(run: Callable[[FaultyStorage], object], storage: Clocked, reset: Callable[[], None]) -> Iterator[int]:
    reset()
    counting = FaultyStorage(storage)
    run(counting)
    yield from range(1, len(counting.calls) + 1)


@pytest.mark.parametrize("marked", [True, False], ids=["marked", "not marked"])
@pytest.mark.parametrize("between", ["prune", "wait, prune, wait, prune"])
def test_prunes_within_a_backup(shared: Shared, tmp_path: Path, marked: bool, between: str) -> None:
    storage = shared.storage
    failed = 0

    def work() -> None:
        for step in between.split(", "):
            if step == "wait":
                storage.pass_time()
            else:
                with suppress(RepositoryLocked):
                    prune(storage)

    for number in each_call(shared.back_up, storage, lambda: shared.reset(marked=marked)):
        shared.reset(marked=marked)
        made = None
        try:
            made = shared.back_up(FaultyStorage(storage, Fault(harmless(work), at=number)))
        except (LeaseLost, IntegrityError):
            failed += 1
        for _ in range(2):
            storage.pass_time()
            prune(storage)
        shared.check(made, tmp_path / str(number))
    assert failed or between == "prune"


@pytest.mark.parametrize("paused", [False, True], ids=["at once", "paused"])
def test_a_backup_within_a_prune(shared: Shared, tmp_path: Path, paused: bool) -> None:
    """Also while the prune is suspended for longer than the grace time, and another one works meanwhile."""
    storage = shared.storage

    def reset() -> None:
        shared.reset(marked=True)
        storage.pass_time()

    for number in each_call(prune, storage, reset):
        reset()
        made: list[Backup] = []

        def work(made: list[Backup] = made) -> None:
            if paused:
                storage.pass_time()
            made.append(shared.back_up(storage))
            if paused:
                prune(storage)
                storage.pass_time()
                prune(storage)

        with suppress(LeaseLost, IntegrityError):
            prune(FaultyStorage(storage, Fault(harmless(work), at=number)))
        for _ in range(2):
            storage.pass_time()
            prune(storage)
        shared.check(made[0] if made else None, tmp_path / str(number))


def test_a_running_writer_delays_the_sweep(shared: Shared) -> None:
    shared.reset(marked=False)
    storage = shared.storage
    keys = keys_of(storage)
    lease = protocol.Lease.create(storage, keys, "backups/20260101T000000.000Z-" + "a" * 32)
    prune(storage)
    storage.pass_time(3000)
    lease.refresh()
    storage.pass_time(1000)
    waiting = prune(storage)
    assert (waiting.freed_packs, waiting.held_by) == (0, (lease.id,))
    lease.close()
    assert prune(storage).freed_packs


def test_packs_of_a_running_writer_are_no_garbage(shared: Shared, tmp_path: Path) -> None:
    shared.reset(marked=False)
    storage = shared.storage
    keys = keys_of(storage)
    lease = protocol.Lease.create(storage, keys, "backups/20260101T000000.000Z-" + "a" * 32)
    before = prune(storage, dry_run=True).marked_packs
    with opened(storage) as freezer:
        new = freezer.backup(write_files(tmp_path / "more", seed=9), name="new", force_read=True)
        freezer.forget(new.id)
    assert prune(storage).marked_packs == before
    lease.close()
    assert prune(storage).marked_packs


def test_only_one_prune_works_at_a_time(shared: Shared) -> None:
    shared.reset(marked=True)
    storage = shared.storage
    storage.pass_time()
    refused = 0

    def second(call: object) -> None:
        nonlocal refused
        with pytest.raises(RepositoryLocked, match="is being maintained"):
            prune(storage)
        refused += 1

    result = prune(FaultyStorage(storage, Fault(second, methods={"put"}, prefix="sweeps/", times=None)))
    assert refused == 2
    assert result.freed_packs
    with Claim(storage, keys_of(storage)), pytest.raises(RepositoryLocked):
        prune(storage)
    prune(storage)


def test_a_prune_that_died_keeps_nobody_for_long(shared: Shared) -> None:
    shared.reset(marked=True)
    storage = shared.storage
    Claim(storage, keys_of(storage)).__enter__()
    with pytest.raises(RepositoryLocked):
        prune(storage)
    storage.pass_time(301)
    prune(storage)


def test_writers_cannot_keep_maintainers_away(tmp_path: Path) -> None:
    storage = Clocked()
    owner = create_repository(storage, password="owner", kdf=CHEAP)
    add_slot(storage, owner, password="writer", roles={Role.WRITER}, kdf=CHEAP)
    writer = open_repository(storage, lambda: "writer")
    protocol.Lease.create(storage, writer, "maintenance")
    with Claim(storage, open_repository(storage, lambda: "owner")):
        pass


def test_marks_of_one_generation_are_not_swept(shared: Shared) -> None:
    """Two maintainers who did not see each other; the packs are marked again, and freed later."""
    shared.reset(marked=True)
    storage = shared.storage
    keys = keys_of(storage)
    (mark,) = protocol.read_marks(storage, keys).marks
    protocol.write_mark(storage, keys, [], generation=mark.generation)
    storage.pass_time()
    first = prune(storage)
    assert (first.freed_packs, first.marked_packs) == (0, len(mark.packs))
    storage.pass_time()
    assert prune(storage).freed_packs == len(mark.packs)


def test_a_mark_that_came_late_is_not_swept(shared: Shared) -> None:
    """A writer that knows the newer mark need not have seen it."""
    shared.reset(marked=True)
    storage = shared.storage
    keys = keys_of(storage)
    kept = {pack for pack in keys_of_packs(storage) if pack not in protocol.read_marks(storage, keys).condemned}
    protocol.write_mark(storage, keys, kept, generation=7)
    storage.pass_time(60)
    late = sorted(kept)[:1]
    protocol.write_mark(storage, keys, late, generation=5)
    for _ in range(2):
        storage.pass_time()
        prune(storage)
    assert not any(int(d.generation) == 5 for d in protocol.read_sweeps(storage, keys).decisions)
    with opened(storage) as freezer:
        assert_whole(freezer)


def keys_of_packs(storage: Clocked) -> set[bytes]:
    return {bytes.fromhex(name[-64:]) for name in storage.content() if name.startswith(("packs/", "meta/"))}
