"""Records of restore drills in a repository: signed, bounded, and nobody but a maintainer can make one up."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from freezer_sdk.drill_model import Drill, Verifier, drill_document, drill_of
from freezer_sdk.engines.dedup import control, keyholders, records
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.audit import audit
from freezer_sdk.engines.dedup.drills import KIND, DrillRecords
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.errors import AccessDenied, IntegrityError
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, nothing

START = datetime(2026, 11, 1, 3, tzinfo=UTC)


def drill(number: int = 0, **changes: object) -> Drill:
    made = Drill(
        id=f"{number:032x}",
        backup=secrets.token_hex(16),
        backup_time=START,
        host="node1",
        name="etc",
        mode="fs",
        started=START + timedelta(hours=number),
        passed=True,
        verifier=Verifier.FILES,
        sample=0.25,
        files=7,
        bytes=1 << 40,
        compared_bytes=1 << 39,
        restore_seconds=12.345,
        verify_seconds=1.5,
        facts={"tables": 3},
        drilled_on="node2",
    )
    return replace(made, **changes)


def test_what_was_written_is_read_with_its_signer(storage: MemoryStorage, keys: KeyRing) -> None:
    service = DrillRecords(storage, keys)
    made = [
        drill(1),
        drill(2, passed=False, verifier=None, error="no\udcff space", error_code="restore", name="\udcff"),
    ]
    signed = [service.write(each) for each in made]
    assert signed == [replace(each, signer=keys.slot_id.hex()) for each in made]
    assert service.read().drills == tuple(signed)
    assert not service.read().problems
    assert not list(audit(storage, keys))


def test_only_maintainers_write_and_only_readers_know(storage: MemoryStorage, keys: KeyRing) -> None:
    keyholders.add_slot(storage, keys, password="a client", roles={Role.WRITER, Role.READER})
    keyholders.add_slot(storage, keys, password="a writer", roles={Role.WRITER})
    client, writer = (open_repository(storage, lambda text=text: text) for text in ("a client", "a writer"))
    with pytest.raises(AccessDenied):
        DrillRecords(storage, client).require()
    with pytest.raises(AccessDenied):
        DrillRecords(storage, client).write(drill())
    owner = open_repository(storage, lambda: "correct horse")
    DrillRecords(storage, owner).write(drill())
    assert len(DrillRecords(storage, client).read().drills) == 1
    with pytest.raises(AccessDenied):
        DrillRecords(storage, writer).read()


def test_forged_and_foreign_records_count_for_nothing_and_are_told(storage: MemoryStorage, keys: KeyRing) -> None:
    keyholders.add_slot(storage, keys, password="a client", roles={Role.WRITER, Role.READER})
    owner, client = (open_repository(storage, lambda text=text: text) for text in ("correct horse", "a client"))
    name = f"{records.PREFIX}{KIND}/20261101T030000.000Z-{secrets.token_hex(16)}"
    facts = {"drills": [drill_document(drill(signer=owner.slot_id.hex()))]}
    document = {"created": "2026-11-01T03:00:00+00:00", "facts": facts}
    storage.put(name, [control.seal(client, records.KIND, name, document, secrecy="data")])
    other = MemoryStorage()
    stranger = create_repository(other, password="correct horse")
    DrillRecords(other, stranger).write(drill())
    (foreign,) = other.list(records.PREFIX)
    storage.put(foreign.name, [other.get(foreign.name)])
    log = DrillRecords(storage, owner).read()
    assert log.drills == ()
    assert sorted(problem.path for problem in log.problems) == sorted([name, foreign.name])


def test_many_records_become_one_and_the_last_hundred_of_a_name_stay(storage: MemoryStorage, keys: KeyRing) -> None:
    service = DrillRecords(storage, keys)
    service.write(drill(999, name="other"))
    for number in range(140):
        service.write(drill(number))
    assert len(list(storage.list(records.PREFIX))) <= 34
    found = service.read().drills
    assert [each.started for each in found if each.name == "other"] == [START + timedelta(hours=999)]
    numbers = [int(each.id, 16) for each in found if each.name == "etc"]
    assert numbers[-100:] == list(range(40, 140))
    assert {each.signer for each in found} == {keys.slot_id.hex()}


def test_where_nothing_can_be_deleted_each_drill_counts_once(storage: MemoryStorage, keys: KeyRing) -> None:
    kept = FaultyStorage(storage, Fault(nothing, when="instead", times=None, methods={"delete"}))
    service = DrillRecords(kept, keys)
    for number in range(70):
        service.write(drill(number))
    assert [int(each.id, 16) for each in service.read().drills] == list(range(70))
    assert len(list(storage.list(records.PREFIX))) == 72


def test_a_newer_program_may_say_more(storage: MemoryStorage, keys: KeyRing) -> None:
    facts = {"drills": [{**drill_document(drill(signer="0" * 32)), "verifier": "oracle", "weather": 1}], "more": 2}
    records.write_record(storage, keys, KIND, facts, secrecy="data")
    (found,) = DrillRecords(storage, keys).read().drills
    assert (found.verifier, found.passed) == (None, True)


def test_what_is_not_understood_stays_as_it_is(storage: MemoryStorage, keys: KeyRing) -> None:
    known = drill_document(drill(7, signer="0" * 32))
    for facts in (
        {"drills": [{**known, "verifier": "oracle"}]},
        {"drills": [{**known, "weather": 1}]},
        {"drills": [known], "more": 2},
        {"drills": [known, {**known, "drill": "f" * 32, "files": "seven"}]},
    ):
        records.write_record(storage, keys, KIND, facts, secrecy="data")
    newer = {info.name for info in storage.list(records.PREFIX)}
    service = DrillRecords(storage, keys)
    assert [each.id for each in service.read().drills] == [known["drill"]]
    for number in range(100, 170):
        service.write(drill(number))
    left = {info.name for info in storage.list(records.PREFIX)}
    assert newer < left
    assert len(left) <= len(newer) + 34
    assert len(service.read().drills) == 71


@pytest.mark.parametrize("name", sorted(drill_document(drill())))
def test_a_document_that_is_wrong_is_refused_or_means_something(name: str) -> None:
    for value in (None, -1, "x" * 5000, [], {}, 1 << 60, True):
        try:
            found = drill_of({**drill_document(drill()), name: value})
        except IntegrityError:
            continue
        assert drill_of(drill_document(found)) == found
