"""Who is at work, who died at it, and what becomes of old control objects."""

from __future__ import annotations

import socket
from datetime import timedelta
from pathlib import Path

import pytest
from dedup.upkeep.world import GRACE, Clocked, assert_whole, keys_of, new_repository, opened, prune, write_files

from freezer_sdk import ConfigurationError, Freezer, RepositoryLocked, StorageFull, StorageUnavailable
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.keyholders import reconfigure
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.testing import Fault, FaultyStorage, fail, nothing
from freezer_sdk.upkeep_model import LeaseStatus

COMMIT = "backups/20260101T000000.000Z-" + "a" * 32


@pytest.fixture
def storage() -> Clocked:
    storage = Clocked()
    new_repository(storage)
    return storage


def names(storage: Clocked, prefix: str) -> list[str]:
    return sorted(name for name in storage.content() if name.startswith(prefix))


def test_leases_tell_who_holds_them(storage: Clocked) -> None:
    keys = keys_of(storage)
    writer = protocol.Lease.create(storage, keys, COMMIT)
    with opened(storage) as freezer:
        (info,) = freezer.maintenance.leases()
        assert (info.id, info.purpose, info.backup) == (writer.id, "backup", "a" * 32)
        assert (info.holder, info.host) == (keys.slot_id.hex()[:8], socket.gethostname()[:255])
        assert info.status is LeaseStatus.OPEN
        assert timedelta(0) <= info.expires - info.refreshed - timedelta(seconds=GRACE) < timedelta(seconds=1)
        storage.pass_time(60)
        with Claim(storage, keys):
            first, second = freezer.maintenance.leases()
            assert (first.id, second.purpose, second.backup) == (writer.id, "maintenance", None)
        writer.close()
        assert {info.status for info in freezer.maintenance.leases()} == {LeaseStatus.CLOSED}


def test_only_leases_of_the_dead_are_removed(storage: Clocked) -> None:
    keys = keys_of(storage)
    old = protocol.Lease.create(storage, keys, COMMIT)
    storage.pass_time(GRACE / 2)
    young, closed = protocol.Lease.create(storage, keys, COMMIT), protocol.Lease.create(storage, keys, COMMIT)
    closed.close()
    with opened(storage) as freezer:
        maintenance = freezer.maintenance
        with pytest.raises(RepositoryLocked, match="in use") as caught:
            maintenance.unlock(old.id)
        assert caught.value.exit_code == 11
        assert "by the storage's clock" in (caught.value.hint or "")
        assert {info.id for info in maintenance.unlock()} == {closed.id}
        storage.pass_time(GRACE / 2 + 1)
        assert [info.status for info in maintenance.leases()] == [LeaseStatus.DEAD, LeaseStatus.OPEN]
        with pytest.raises(RepositoryLocked):
            maintenance.unlock([old.id, young.id])
        assert {info.id for info in maintenance.unlock(old.id[:10])} == {old.id}
        assert [info.id for info in maintenance.leases()] == [young.id]
        for wrong in ("", "no such lease"):
            with pytest.raises(ConfigurationError):
                maintenance.unlock([wrong])


def test_leases_tell_of_backups_until_a_prune_has_taken_note(storage: Clocked, tmp_path: Path) -> None:
    """A listing that lacks the backup would otherwise be believed."""
    with opened(storage) as freezer:
        backup = freezer.backup(write_files(tmp_path, seed=1), name="a")
        assert freezer.maintenance.unlock() == []
        storage.pass_time(60)
        freezer.maintenance.prune()
        (info,) = [info for info in freezer.maintenance.leases() if info.backup]
        assert info.backup == backup.id
        short = FaultyStorage(
            storage, Fault(nothing, methods={"list"}, prefix="backups/", when="short", keep=0, times=None)
        )
        with pytest.raises(StorageUnavailable, match="lists only a part"):
            prune(short)
        freezer.forget(freezer.backup(write_files(tmp_path, seed=2), name="b", force_read=True).id)
        for _ in range(3):
            storage.pass_time()
            freezer.maintenance.prune()
        assert [info for info in freezer.maintenance.leases() if info.backup] == []
    with pytest.raises(StorageUnavailable, match="lists only a part"):
        prune(short)


def test_no_object_of_a_lease_in_use_is_removed(storage: Clocked) -> None:
    """However long ago it was taken."""
    lease = protocol.Lease.create(storage, keys_of(storage), COMMIT)
    for _ in range(4):
        storage.pass_time(GRACE * 0.6)
        lease.refresh()
        prune(storage)
    assert len(names(storage, f"leases/{lease.id}/")) == 5
    with opened(storage) as freezer:
        opened_at = {info.id: info.opened for info in freezer.maintenance.leases()}
        assert opened_at[lease.id] == lease.opened


def test_a_damaged_lease_counts_until_it_is_old(storage: Clocked) -> None:
    lease = protocol.Lease.create(storage, keys_of(storage), COMMIT)
    storage.put(f"leases/{lease.id}/00000000", [b"rubbish"])
    with opened(storage) as freezer:
        (info,) = freezer.maintenance.leases()
        assert (info.purpose, info.holder, info.status) == ("unknown", "", LeaseStatus.OPEN)
        storage.pass_time()
        assert [info.id for info in freezer.maintenance.unlock()] == [lease.id]


def test_old_control_objects_go(storage: Clocked, tmp_path: Path) -> None:
    """Weeks of daily backups, prunes and deletions leaves a bounded number of objects besides the tombstones."""
    counts = []
    with opened(storage) as freezer:
        backups = []
        for day in range(50):
            for path in tmp_path.glob("d*/*"):
                path.unlink()
            write_files(tmp_path, seed=day, files=2, size=2000)
            backups.append(freezer.backup(tmp_path, name="t", force_read=True))
            storage.pass_time(60)
            freezer.forget([backup.id for backup in backups[:-3]])
            del backups[:-3]
            result = freezer.maintenance.prune()
            storage.pass_time(86_400 - 60)
            counts.append(len(storage.content()) - len(names(storage, "forgotten/")))
        assert {backup.id for backup in freezer.backups()} == {backup.id for backup in backups}
        assert_whole(freezer)
    assert counts[-1] <= max(counts[36:46]) + 2
    assert len(names(storage, "marks/")) <= 3
    assert len(names(storage, "sweeps/")) <= 80
    assert len(names(storage, "leases/")) <= 12
    assert len(names(storage, "index/")) <= 20
    assert len(names(storage, "backups/")) <= 5
    assert result.problems == ()
    assert len(names(storage, "forgotten/")) == 47


def test_a_sweep_that_says_which_backups_there_are_keeps_its_last_word(storage: Clocked, tmp_path: Path) -> None:
    with opened(storage) as freezer:
        freezer.forget(freezer.backup(write_files(tmp_path / "a", seed=1), name="a").id)
        kept = freezer.backup(write_files(tmp_path / "b", seed=2), name="b")
        for _ in range(3):
            storage.pass_time()
            freezer.maintenance.prune()
        storage.pass_time(365 * 86_400)
        freezer.maintenance.prune()
    (decision,) = protocol.read_sweeps(storage, keys_of(storage)).decisions
    assert [name[-32:] for name in decision.alive] == [kept.id]


# -- the reserve ---------------------------------------------------------------------------------------------------


def test_the_reserve_is_made_with_the_repository_and_freed_for_a_prune(tmp_path: Path) -> None:
    storage = Clocked()
    options = {"reserve": 100_000, "pack_size": "1M"}
    with Freezer.create(storage, encryption=False, engine_options=options) as freezer:
        (reserve,) = names(storage, "reserve/")
        assert len(storage.content()[reserve]) == 100_000
        freezer.forget(freezer.backup(write_files(tmp_path, seed=1), name="a").id)
        storage.pass_time(60)
    seen = []

    def full(call: object) -> None:
        if names(storage, "reserve/"):
            raise StorageFull("full")
        seen.append(call)

    faulty = FaultyStorage(storage, Fault(full, methods={"put"}, times=3))
    with Freezer(faulty, engine_options=options) as freezer:
        assert freezer.maintenance.prune().marked_packs
    assert seen
    assert names(storage, "reserve/") == [reserve]


def test_a_full_storage_is_emptied_without_writing_anything_anew(tmp_path: Path) -> None:
    """Not one pack can be stored; what nobody needs goes all the same."""
    storage = Clocked()
    new_repository(storage)
    with opened(storage) as freezer:
        both = freezer.backup([write_files(tmp_path / "a", seed=1), write_files(tmp_path / "b", seed=2)], name="both")
        kept = freezer.backup(tmp_path / "a", name="a")
        gone = freezer.backup(write_files(tmp_path / "c", seed=3), name="c")
        freezer.forget([both.id, gone.id])
    storage.pass_time(60)
    full = [Fault(fail(StorageFull("full")), times=None, methods={"put"}, prefix=each) for each in ("packs/", "meta/")]
    for _ in range(2):
        result = prune(FaultyStorage(storage, *full), max_waste=0)
        storage.pass_time()
    assert result.freed_bytes > 1_000_000
    assert [problem.kind for problem in result.problems] == ["full"]
    with opened(storage) as freezer:
        assert [backup.id for backup in freezer.backups()] == [kept.id]
        assert_whole(freezer)
    for _ in range(2):
        result = prune(storage, max_waste=0)
        storage.pass_time()
    assert storage.bytes_below("packs/", "meta/") <= 1.1 * result.needed_bytes


# -- the grace time ------------------------------------------------------------------------------------------------


def test_the_grace_time_is_chosen_with_the_repository(tmp_path: Path) -> None:
    storage = Clocked()
    with pytest.raises(ConfigurationError, match="one hour"):
        Freezer.create(storage, encryption=False, engine_options={"grace": 60.0})
    with Freezer.create(storage, encryption=False, engine_options={"grace": 7200.0, "reserve": 0}) as freezer:
        assert freezer.info().details["grace_seconds"] == 7200


def test_a_grace_time_that_was_changed_meanwhile_holds(storage: Clocked, tmp_path: Path) -> None:
    """Also for a program that opened the repository before."""
    with opened(storage) as freezer:
        freezer.forget(freezer.backup(write_files(tmp_path, seed=1), name="a").id)
        storage.pass_time(60)
        assert freezer.maintenance.prune().marked_packs
        reconfigure(storage, keys_of(storage), grace=5 * GRACE)
        storage.pass_time()
        assert freezer.maintenance.prune().freed_packs == 0
        storage.pass_time(4 * GRACE)
        assert freezer.maintenance.prune().freed_packs


def test_tombstones_of_backups_that_are_gone_cost_nothing(storage: Clocked, tmp_path: Path) -> None:
    """They stay, so that copies bring nothing back, but nobody reads them."""
    keys = keys_of(storage)
    for number in range(50):
        protocol.write_tombstone(storage, keys, f"{number:032x}")
    with opened(storage) as freezer:
        kept, gone = (freezer.backup(write_files(tmp_path, seed=n), name="t", force_read=True) for n in range(2))
        freezer.forget(gone.id)
    calls = FaultyStorage(storage)
    with opened(calls) as freezer:
        assert [backup.id for backup in freezer.backups()] == [kept.id]
    assert [call.name for call in calls.calls if call.name.startswith("forgotten/") and call.method == "get"] == [
        f"forgotten/{gone.id}"
    ]


class SlowLeases(Clocked):
    """Time passes with each lease that is read."""

    seconds = 0.0

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if name.startswith("leases/"):
            self.seconds += 1.0
        return super().get(name, offset=offset, length=length)


def test_a_claim_does_not_age_while_many_leases_are_read() -> None:
    storage = SlowLeases()
    keys = new_repository(storage, grace=20)
    for _ in range(50):
        protocol.Lease.create(storage, keys, COMMIT)
    with Claim(storage, keys, clock=lambda: storage.seconds) as claim:
        assert storage.seconds > 20
        claim.keep()
