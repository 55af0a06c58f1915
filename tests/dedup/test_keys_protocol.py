"""What writers and readers need of the deletion protocol."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import control, protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reload
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.errors import AccessDenied, LeaseLost, StorageUnavailable
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
GRACE = 4000
PACKS = [bytes([number]) * 32 for number in range(4)]
BACKUP = "backups/20260101T000000.000Z-" + "a" * 32


class Clocked(MemoryStorage):
    """The storage's clock is set by hand."""

    offset = timedelta(0)
    fail = False

    def now(self):
        return datetime(2026, 1, 1, tzinfo=UTC) + self.offset

    def put(self, name, buffers, *, if_absent=False):
        if self.fail:
            raise StorageUnavailable("away")
        return super().put(name, buffers, if_absent=if_absent)


class Time:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def storage():
    return Clocked()


@pytest.fixture
def owner(storage):
    return create_repository(storage, password="owner", kdf=CHEAP, grace=GRACE)


@pytest.fixture
def writer(storage, owner):
    add_slot(storage, owner, password="writer", roles={Role.WRITER}, kdf=CHEAP)
    return open_repository(storage, lambda: "writer")


@pytest.fixture
def clock():
    return Time()


def lease_objects(storage):
    return [info.name.split("/")[-1] for info in storage.list("leases/")]


def test_a_lease_is_refreshed_by_new_objects(storage, owner, clock):
    lease = protocol.Lease.create(storage, owner, BACKUP, clock=clock)
    for _ in range(100):
        lease.keep()
    assert lease_objects(storage) == ["00000000"]
    clock.now += GRACE / 8
    lease.keep()
    lease.keep()
    assert lease_objects(storage) == ["00000000", "00000001"]
    lease.refresh()
    assert lease_objects(storage) == ["00000000", "00000001", "00000002"]
    lease.check()
    (state,) = protocol.read_leases(storage, owner).leases
    assert (state.id, state.slot, state.backup, state.closed) == (lease.id, owner.slot_id, BACKUP, False)
    lease.close()
    lease.close()
    assert lease_objects(storage)[-1] == "closed"
    assert protocol.read_leases(storage, owner).leases[0].closed


def test_a_lease_is_lost_by_the_machines_clock(storage, owner, clock):
    lease = protocol.Lease.create(storage, owner, BACKUP, clock=clock)
    clock.now += GRACE - 1
    lease.check()
    clock.now += 1
    for look in (lease.check, lease.keep, lease.refresh):
        with pytest.raises(LeaseLost):
            look()
    assert lease_objects(storage) == ["00000000"]


def test_a_lease_is_lost_by_the_storages_clock(storage, owner, clock):
    """A virtual machine that was stopped and resumed does not know it."""
    lease = protocol.Lease.create(storage, owner, BACKUP, clock=clock)
    storage.offset = timedelta(seconds=GRACE - 1)
    lease.check()
    storage.offset = timedelta(seconds=GRACE)
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_closed_lease_protects_nothing(storage, owner):
    lease = protocol.Lease.create(storage, owner, BACKUP)
    lease.close()
    with pytest.raises(LeaseLost):
        lease.check()


def test_a_storage_that_is_away_for_a_while(storage, owner, clock):
    lease = protocol.Lease.create(storage, owner, BACKUP, clock=clock)
    storage.fail = True
    clock.now += GRACE / 8
    lease.keep()
    clock.now += GRACE / 8
    lease.keep()
    storage.fail = False
    clock.now += GRACE / 8
    lease.keep()
    assert lease_objects(storage) == ["00000000", "00000001"]
    storage.fail = True
    clock.now += GRACE * 0.6
    with pytest.raises(StorageUnavailable):
        lease.keep()
    lease.close()
    assert lease_objects(storage) == ["00000000", "00000001"]


def test_grace_after_a_change_is_the_shorter_for_writers(storage, owner, clock):
    from freezer_sdk.engines.dedup.keyholders import reconfigure

    ring = reconfigure(storage, owner, grace=GRACE * 2)
    lease = protocol.Lease.create(storage, ring, BACKUP, clock=clock)
    clock.now += GRACE
    with pytest.raises(LeaseLost):
        lease.check()


def test_marks_and_generations(storage, owner, writer):
    owner = reload(storage, owner)
    assert protocol.read_marks(storage, writer).generation == 0
    protocol.write_mark(storage, owner, PACKS[:2])
    protocol.write_mark(storage, owner, PACKS[1:3])
    marks = protocol.read_marks(storage, writer)
    assert marks.generation == 2
    assert [mark.generation for mark in marks.marks] == [1, 2]
    assert marks.condemned == set(PACKS[:3])
    protocol.announce(storage, owner, 5)
    assert protocol.next_generation(storage, owner) == 6
    assert marks.problems == ()
    with pytest.raises(AccessDenied):
        protocol.write_mark(storage, writer, PACKS)


def test_the_look_after_the_commit(storage, owner, writer):
    owner = reload(storage, owner)
    lease = protocol.Lease.create(storage, writer, BACKUP)
    protocol.write_mark(storage, owner, PACKS)
    lease.confirm(0)  # a mark alone harms nobody
    protocol.announce(storage, owner, 1)
    lease.confirm(1)
    with pytest.raises(LeaseLost):
        lease.confirm(0)


def test_void_backups(storage, owner):
    protocol.decide(storage, owner, 3, condemned=PACKS, alive=["backups/a"], released=["backups/b"])
    sweeps = protocol.read_sweeps(storage, owner)
    assert sweeps.generation == 3
    assert sweeps.decisions[0].condemned == set(PACKS)
    assert not sweeps.void("backups/a", 0)
    assert sweeps.void("backups/b", 3)  # let go
    assert sweeps.void("backups/c", 2)  # came too late
    assert not sweeps.void("backups/c", 3)
    protocol.decide(storage, owner, 4, condemned=[], alive=["backups/c"])
    assert protocol.read_sweeps(storage, owner).void("backups/a", 3)


def test_tombstones(storage, owner, writer):
    owner = reload(storage, owner)
    protocol.write_tombstone(storage, owner, "a" * 32, reason="by hand")
    before = storage.get("forgotten/" + "a" * 32)
    protocol.write_tombstone(storage, owner, "a" * 32)
    assert storage.get("forgotten/" + "a" * 32) == before
    assert protocol.forgotten(storage, writer) == {"a" * 32}
    with pytest.raises(AccessDenied):
        protocol.write_tombstone(storage, writer, "b" * 32)


def test_a_place_taken_by_somebody_else_does_not_stop_a_tombstone(storage, owner):
    storage.put("forgotten/" + "a" * 32, [b"junk"])
    assert protocol.forgotten(storage, owner) == frozenset()
    protocol.write_tombstone(storage, owner, "a" * 32)
    assert protocol.forgotten(storage, owner) == {"a" * 32}


def plant(storage, ring, kind, name, payload):
    storage.put(name, [control.seal(ring, kind, name, payload, secrecy="index")])


def test_what_a_writer_forges_is_passed_over_and_reported(storage, owner, writer):
    owner = reload(storage, owner)
    now = "2026-01-01T00:00:00+00:00"
    names = {
        "mark": "marks/" + "1" * 32,
        "announcement": "sweeps/0000000000000009/announced-" + "1" * 32,
        "decision": "sweeps/0000000000000009/decided-" + "1" * 32,
        "tombstone": "forgotten/" + "1" * 32,
    }
    payload = {
        "generation": 9,
        "packs": [PACKS[0].hex()],
        "condemned": [],
        "alive": [],
        "released": [],
        "created": now,
        "backup": "1" * 32,
    }
    for kind, name in names.items():
        plant(storage, writer, kind, name, payload)
    marks, sweeps = protocol.read_marks(storage, owner), protocol.read_sweeps(storage, owner)
    tombstones = protocol.read_tombstones(storage, owner)
    assert (marks.generation, marks.condemned, sweeps.generation) == (0, frozenset(), 0)
    assert tombstones.ids == frozenset()
    assert not sweeps.void("backups/x", 0)
    reported = [problem.path for problem in (*marks.problems, *sweeps.problems, *tombstones.problems)]
    assert sorted(reported) == sorted(names.values())
    # the same by a maintainer counts
    for kind, name in names.items():
        plant(storage, owner, kind, name, payload)
    assert protocol.read_marks(storage, writer).generation == 9
    assert protocol.read_sweeps(storage, writer).void("backups/x", 0)
    assert protocol.forgotten(storage, writer) == {"1" * 32}


def test_objects_that_were_moved_or_replayed_are_passed_over(storage, owner):
    mark = protocol.write_mark(storage, owner, PACKS[:1])
    announced = protocol.announce(storage, owner, 1)
    protocol.write_tombstone(storage, owner, "a" * 32)
    storage.put("marks/" + "2" * 32, [storage.get(mark)])
    storage.put("sweeps/0000000000000007/announced-" + "2" * 32, [storage.get(announced)])
    storage.put("sweeps/0000000000000001/decided-" + "2" * 32, [storage.get(announced)])
    storage.put("forgotten/" + "b" * 32, [storage.get("forgotten/" + "a" * 32)])
    assert len(protocol.read_marks(storage, owner).marks) == 1
    sweeps = protocol.read_sweeps(storage, owner)
    assert (sweeps.generation, sweeps.decisions, len(sweeps.problems)) == (1, (), 2)
    assert protocol.forgotten(storage, owner) == {"a" * 32}


@pytest.mark.parametrize(
    "payload", [{}, {"generation": "9"}, {"generation": 8}, {"generation": 2**60}, {"generation": -1}]
)
def test_signed_but_wrong(storage, owner, payload):
    now = {"created": "2026-01-01T00:00:00+00:00", "packs": ["zz"], "condemned": ["00"], "alive": [], "released": []}
    for kind, name in (
        ("mark", "marks/" + "1" * 32),
        ("decision", "sweeps/0000000000000009/decided-" + "1" * 32),
        ("tombstone", "forgotten/" + "1" * 32),
    ):
        plant(storage, owner, kind, name, {**now, **payload})
    assert protocol.read_marks(storage, owner).marks == ()
    assert protocol.read_sweeps(storage, owner).generation == 0
    assert protocol.forgotten(storage, owner) == frozenset()


def test_other_objects_are_not_looked_at(storage, owner):
    for name in ("marks/readme", "sweeps/readme", "sweeps/1/announced-x", "forgotten/x", "leases/x/1", "leases/readme"):
        storage.put(name, [b"junk"])
    assert protocol.read_marks(storage, owner).problems == ()
    assert protocol.read_sweeps(storage, owner).problems == ()
    assert protocol.read_tombstones(storage, owner).problems == ()
    assert protocol.read_leases(storage, owner).leases == ()


def test_an_unreadable_lease_still_counts(storage, owner):
    lease = protocol.Lease.create(storage, owner, BACKUP)
    name = f"leases/{lease.id}/00000000"
    storage.put(name, [b"damaged"])
    (state,) = protocol.read_leases(storage, owner).leases
    assert (state.backup, state.slot, state.closed) == (None, None, False)


def test_a_lease_is_closed_only_by_its_holder(storage, owner, writer):
    owner = reload(storage, owner)
    lease = protocol.Lease.create(storage, owner, BACKUP)
    name = f"leases/{lease.id}/closed"
    plant(storage, writer, "lease-closed", name, {"lease": lease.id})
    assert not protocol.read_leases(storage, owner).leases[0].closed
    storage.put(name, [b"junk"])
    states = protocol.read_leases(storage, owner)
    assert not states.leases[0].closed
    assert states.problems
