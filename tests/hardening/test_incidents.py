"""What went wrong in other backup programs must not go wrong here: a test for each, with its public id.

``docs/explanation/incidents.md`` tells what happened, and what is done here so that it cannot happen. Forgeries, paths
and exit statuses are in ``test_incidents_trust.py``; the names in both files are compared with the document.
"""

from __future__ import annotations

import random
import re
from contextlib import suppress
from pathlib import Path

import pytest
from dedup.upkeep.world import (
    GRACE,
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
from hardening.forge import Entry, Forge

from freezer_sdk import Backup, Freezer, IntegrityError, LeaseLost, RepositoryLocked
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.engines.dedup import protocol, writer
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.model import Buffer, Status
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, damage
from freezer_sdk.upkeep_model import LeaseStatus

DOCUMENT = Path(__file__).parents[2] / "docs" / "explanation" / "incidents.md"


@pytest.fixture
def storage() -> Clocked:
    made = Clocked()
    new_repository(made)
    return made


def names(storage: Clocked, *prefixes: str) -> list[str]:
    return sorted(name for name in storage.content() if name.startswith(prefixes))


def test_every_incident_of_the_document_has_its_test_here() -> None:
    told = set(re.findall(r"`(test_[a-z_]+)`", DOCUMENT.read_text(encoding="utf-8")))
    files = Path(__file__).parent.glob("test_incidents*.py")
    here = {name for file in files for name in re.findall(r"(?m)^def (test_[a-z_]+)", file.read_text(encoding="utf-8"))}
    assert told == here - {"test_every_incident_of_the_document_has_its_test_here"}


# -- what is stored is not what was read ---------------------------------------------------------------------------


def test_a_compressor_that_makes_bad_frames(storage: Clocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """restic #4523, #4677: a compression library gave frames that decode to something else."""
    compress = ZstdCompressor.compress
    calls = []

    def bad(self: ZstdCompressor, data: Buffer, *, level: int | None = None) -> bytes:
        calls.append(len(data))
        return compress(self, bytes(data)[:-1] + b"?" if len(calls) == 3 else data, level=level)

    monkeypatch.setattr(ZstdCompressor, "compress", bad)
    base = tmp_path / "source"
    base.mkdir()
    (base / "f").write_bytes(b"The quick brown fox jumps over the lazy dog. " * 200_000)
    with opened(storage) as freezer:
        with pytest.raises(IntegrityError, match="damaged a segment"):
            freezer.backup(base, name="t")
        assert freezer.backups() == []
        assert freezer.backup(base, name="t").status is Status.COMPLETE
        assert_whole(freezer)


def test_memory_that_flips_a_bit_before_encryption(
    storage: Clocked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """restic #4765, #5086: faulty memory changed data after they were hashed."""
    seal = writer.BlobWriter._seal

    def flipped(self: writer.BlobWriter, kind: Kind, joining: writer._Joining) -> None:
        joining.buffer[joining.size // 2] ^= 1
        seal(self, kind, joining)

    monkeypatch.setattr(writer.BlobWriter, "_seal", flipped)
    with opened(storage) as freezer:
        with pytest.raises(IntegrityError, match="memory"):
            freezer.backup(write_files(tmp_path / "a", seed=1), name="t")
        assert freezer.backups() == []


def test_packs_that_are_written_anew_hold_what_they_held(storage: Clocked, tmp_path: Path) -> None:
    """rustic #88: repacking stored compressed blobs as if they were plain."""
    base = tmp_path / "source"
    base.mkdir()
    for number in range(60):
        (base / f"f{number}").write_bytes(b"line %d of a log\n" % number * 4000)
    with opened(storage) as freezer:
        old = freezer.backup(base, name="all", force_read=True)
        for number in range(0, 60, 2):
            (base / f"f{number}").unlink()
        kept = freezer.backup(base, name="half", force_read=True)
        freezer.forget(old.id)
    before = set(names(storage, "packs/", "meta/"))
    for _ in range(3):
        storage.pass_time()
        prune(storage, max_waste=0)
    assert not before & set(names(storage, "packs/")), "nothing was written anew"
    with opened(storage) as freezer:
        assert_whole(freezer)
        assert restored(freezer, kept, tmp_path / "out") == content(base)


# -- deleting what is needed ---------------------------------------------------------------------------------------


class Marked:
    """A repository whose packs are marked, and a source that would use what lies in them again."""

    def __init__(self, storage: Clocked, base: Path) -> None:
        self.storage = storage
        self.source = write_files(base / "source", seed=1, files=4)
        with opened(storage) as freezer:
            freezer.backup(write_files(base / "other", seed=2, files=4), name="other", force_read=True)
            freezer.forget(freezer.backup(self.source, name="old", force_read=True).id)
        storage.pass_time(60)
        assert prune(storage).marked_packs

    def back_up(self, storage: object) -> Backup:
        with opened(storage) as freezer:
            return freezer.backup(self.source, name="new", force_read=True)

    def assert_whole(self, backup: Backup, out: Path) -> None:
        with opened(self.storage) as freezer:
            assert_whole(freezer)
            assert restored(freezer, backup, out) == content(self.source)


def test_a_deletion_that_slept_while_a_backup_was_made(storage: Clocked, tmp_path: Path) -> None:
    """kopia #1949: maintenance that was suspended deleted what a backup had begun to use meanwhile."""
    world = Marked(storage, tmp_path)
    storage.pass_time()
    made: list[Backup] = []

    def sleep(call: object) -> None:
        storage.pass_time(5 * GRACE)
        made.append(world.back_up(storage))
        storage.pass_time(5 * GRACE)

    deleting = FaultyStorage(storage, Fault(sleep, methods={"delete"}, prefix="packs/"))
    with suppress(IntegrityError, RepositoryLocked, LeaseLost):
        prune(deleting)
    assert made
    world.assert_whole(made[0], tmp_path / "out")
    for _ in range(3):
        storage.pass_time()
        prune(storage)
    world.assert_whole(made[0], tmp_path / "again")


def test_a_backup_that_uses_what_is_about_to_be_deleted(storage: Clocked, tmp_path: Path) -> None:
    """kopia #1087: indexes named blobs that maintenance had deleted."""
    world = Marked(storage, tmp_path)
    backup = world.back_up(storage)
    assert backup.stats.added_bytes > 400_000, "it relied on what is marked"
    for _ in range(3):
        storage.pass_time()
        prune(storage)
    world.assert_whole(backup, tmp_path / "out")


def test_packs_of_a_backup_that_is_under_way(storage: Clocked, tmp_path: Path) -> None:
    """duplicacy #323: a search for unreferenced chunks found those of a running backup."""
    source = write_files(tmp_path / "source", seed=1)

    def maintain(call: object) -> None:
        for _ in range(2):
            with suppress(RepositoryLocked, IntegrityError):
                prune(storage)
            storage.pass_time(GRACE / 4)

    busy = FaultyStorage(storage, Fault(maintain, methods={"put"}, prefix="index/"))
    with opened(busy) as freezer:
        backup = freezer.backup(source, name="t")
    with opened(storage) as freezer:
        assert_whole(freezer)
        assert restored(freezer, backup, tmp_path / "out") == content(source)


def test_a_pack_that_is_needed_and_not_there(storage: Clocked, tmp_path: Path) -> None:
    """rustic #391: the check of prune for packs that are needed was wrong."""
    world = Marked(storage, tmp_path)
    backup = world.back_up(storage)
    for _ in range(3):
        storage.pass_time()
        prune(storage)
    for name in names(storage, "packs/"):
        if storage.stat(name).modified == max(storage.stat(each).modified for each in names(storage, "packs/")):
            lost = storage.get(name)
            storage.delete(name)
            break
    before = set(names(storage, "packs/", "meta/"))
    for _ in range(2):
        with pytest.raises(IntegrityError):
            prune(storage)
        storage.pass_time()
    assert before <= set(names(storage, "packs/", "meta/"))
    storage.put(name, [lost])
    world.assert_whole(backup, tmp_path / "out")


# -- locks ---------------------------------------------------------------------------------------------------------


def test_a_lock_that_is_in_use_is_not_removed(storage: Clocked, tmp_path: Path) -> None:
    """restic #2452: locks were not refreshed in time, so that ``unlock`` removed those of running programs."""
    seen: list[LeaseStatus] = []

    def unlock(call: object) -> None:
        storage.pass_time(0.9 * GRACE)
        with opened(storage) as other:
            for info in other.maintenance.leases():
                seen.append(info.status)
                with pytest.raises(RepositoryLocked):
                    other.maintenance.unlock(info.id)
            assert not other.maintenance.unlock()

    busy = FaultyStorage(storage, Fault(unlock, methods={"put"}, prefix="index/"))
    with opened(busy) as freezer:
        freezer.backup(write_files(tmp_path / "a", seed=1), name="t")
    assert seen == [LeaseStatus.OPEN]
    with opened(storage) as freezer:
        assert_whole(freezer)


def test_a_lock_is_refreshed_without_removing_the_old_one(storage: Clocked) -> None:
    """restic #2473: a refresh put a new lock and removed the old one; when that failed it never came right again."""
    lease = protocol.Lease.create(FaultyStorage(storage), keys_of(storage), "backups/20260101T000000.000Z-" + 32 * "a")
    for _ in range(3):
        storage.pass_time(GRACE / 2)
        lease.refresh()
    assert len(names(storage, "leases/")) == 4, "each refresh is an object of its own"
    assert [info.status for info in opened(storage).maintenance.leases()] == [LeaseStatus.OPEN]
    lease.close()


def test_a_laptop_that_sleeps_in_the_middle_of_a_backup(storage: Clocked, tmp_path: Path) -> None:
    """restic #4374: after a sleep the lock was gone, and the backup went on all the same."""
    world = Marked(storage, tmp_path)

    def sleep(call: object) -> None:
        for _ in range(3):
            storage.pass_time(2 * GRACE)
            prune(storage)

    asleep = FaultyStorage(storage, Fault(sleep, when="before", methods={"put"}, prefix="backups/"))
    with pytest.raises(LeaseLost):
        world.back_up(asleep)
    with opened(storage) as freezer:
        assert [backup.name for backup in freezer.backups()] == ["other"]
        assert_whole(freezer)


# -- repairs -------------------------------------------------------------------------------------------------------


def test_a_repair_that_takes_good_for_bad(storage: Clocked, tmp_path: Path) -> None:
    """borg #3444: a repair threw valid items away that it could not recognise behind a lost chunk."""
    source = write_files(tmp_path / "source", seed=1, subdirs=6)
    with opened(storage) as freezer:
        first = freezer.backup(source, name="t")
        second = freezer.backup(write_files(source, seed=2, subdirs=2), name="t")
    before = storage.content()
    rng = random.Random(1)
    for name in names(storage, "meta/"):
        damage(storage, name, offset=rng.randrange(len(before[name])))
    damaged = storage.content()
    with opened(storage) as freezer:
        freezer.maintenance.repair(read_data=True)
        freezer.maintenance.repair(read_data=True)
    assert damaged.items() <= storage.content().items(), "a repair only adds"
    for name in names(storage, "meta/"):
        if name in before:
            storage.put(name, [before[name]])  # the disk was only badly connected
    with opened(storage) as freezer:
        assert restored(freezer, second, tmp_path / "out") == content(source)
        assert freezer.restore(first.id, tmp_path / "first").status is Status.COMPLETE


def test_entries_with_facts_that_nobody_knows(tmp_path: Path) -> None:
    """borg #1837: a repair killed every item that had an attribute which older programs had written."""
    made = Forge(MemoryStorage())
    entry = Entry(b"f", content=made.file(b"x"), size=1, facts=[(200, b"from another time"), (0, b"")])
    backup = made.backup(entry, strange={"field": "of a newer program"})
    target = MemoryStorage()
    create_repository(target, password=None)
    with Freezer(made.storage) as freezer, Freezer(target) as other:
        assert {finding.kind for finding in freezer.maintenance.check(read_data=True).findings} <= {"unindexed"}
        assert freezer.maintenance.repair(read_data=True).lost == ()
        assert freezer.restore(backup, tmp_path / "out").status is Status.COMPLETE
        other.copy(freezer)
        assert other.restore(backup, tmp_path / "copy").status is Status.COMPLETE
