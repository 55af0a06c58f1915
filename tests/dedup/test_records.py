"""Records: only those of maintainers count, and nothing else about them is trusted."""

from __future__ import annotations

import secrets

import pytest

from freezer_sdk.engines.dedup import control, damage, keyholders, losses, records
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.audit import audit
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.errors import AccessDenied, ConfigurationError
from freezer_sdk.model import Problem
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, nothing


def test_what_was_written_is_read_by_kind_and_in_order(storage: MemoryStorage, keys: KeyRing) -> None:
    names = [records.write_record(storage, keys, "drill", {"number": number}) for number in range(3)]
    records.write_record(storage, keys, "verified", {"reads": []}, secrecy="data")
    found = records.read_records(storage, keys, "drill")
    assert [record.facts.number("number") for record in found] == [0, 1, 2]
    assert {record.name for record in found} == set(names)
    assert {record.signer for record in found} == {keys.slot_id}
    assert [record.kind for record in records.read_records(storage, keys, "verified")] == ["verified"]
    assert not list(audit(storage, keys))


def test_a_record_says_all_of_the_older_ones_before_they_go(storage: MemoryStorage, keys: KeyRing) -> None:
    records.write_record(storage, keys, "drill", {"number": 1})
    seen = records.read_records(storage, keys, "drill")
    late = records.write_record(storage, keys, "drill", {"number": 2})  # of a program that runs at the same time
    name = records.supersede(storage, keys, "drill", {"number": 3}, seen)
    assert [info.name for info in storage.list(records.PREFIX)] == sorted([late, name])
    faulty = FaultyStorage(storage, Fault(nothing, when="instead", times=None, methods={"delete"}))
    records.supersede(faulty, keys, "drill", {"number": 4}, records.read_records(storage, keys, "drill"))
    assert [record.facts.number("number") for record in records.read_records(storage, keys, "drill")] == [2, 3, 4]


def test_only_maintainers_write_and_count(storage: MemoryStorage, keys: KeyRing) -> None:
    keyholders.add_slot(storage, keys, password="a client", roles={Role.WRITER})
    owner, client = (open_repository(storage, lambda text=text: text) for text in ("correct horse", "a client"))
    with pytest.raises(AccessDenied):
        records.write_record(storage, client, "drill", {})
    name = f"{records.PREFIX}drill/20260102T030405.678Z-{secrets.token_hex(16)}"
    document = {"created": "2026-01-02T03:04:05.678000+00:00", "facts": {}}
    storage.put(name, [control.seal(client, records.KIND, name, document, secrecy="index")])
    problems: list[Problem] = []
    assert not records.read_records(storage, owner, "drill", problems=problems)
    assert [problem.path for problem in problems] == [name]
    assert [(problem.path, problem.kind) for problem in audit(storage, owner)] == [(name, "damaged")]


@pytest.mark.parametrize(
    "change",
    [
        {"created": "2026-01-02T03:04:06+00:00"},
        {"created": "yesterday"},
        {"facts": []},
        {"facts": None},
    ],
)
def test_a_record_that_does_not_agree_with_itself_is_passed_over(
    storage: MemoryStorage, keys: KeyRing, change: dict[str, object]
) -> None:
    name = f"{records.PREFIX}drill/20260102T030405.678Z-{secrets.token_hex(16)}"
    good = {"created": "2026-01-02T03:04:05.678901+00:00", "facts": {}}
    storage.put(name, [control.seal(keys, records.KIND, name, good, secrecy="index")])
    assert records.read_records(storage, keys, "drill")
    storage.put(name, [control.seal(keys, records.KIND, name, good | change, secrecy="index")])
    problems: list[Problem] = []
    assert not records.read_records(storage, keys, "drill", problems=problems)
    assert [problem.path for problem in problems] == [name]


@pytest.mark.parametrize("kind", ["", "Drill", "a b", "x" * 33, "../x"])
def test_a_kind_is_a_short_word(storage: MemoryStorage, keys: KeyRing, kind: str) -> None:
    with pytest.raises(ConfigurationError):
        records.write_record(storage, keys, kind, {})


def test_nobody_else_can_call_packs_damaged_or_files_lost(storage: MemoryStorage, keys: KeyRing) -> None:
    """Who may only write could else have everything stored again, or make others believe that their files are gone."""
    keyholders.add_slot(storage, keys, password="a client", roles={Role.WRITER, Role.READER})
    owner, client = (open_repository(storage, lambda text=text: text) for text in ("correct horse", "a client"))
    pack, backup = secrets.token_bytes(32), secrets.token_hex(16)
    facts = {
        damage.KIND: {"packs": [pack.hex()], "whole": []},
        losses.KIND: {"backups": [{"backup": backup, "paths": [], "more": 7}], "blobs": ""},
    }
    for kind, said in facts.items():
        name = f"{records.PREFIX}{kind}/20260102T030405.678Z-{secrets.token_hex(16)}"
        document = {"created": "2026-01-02T03:04:05.678000+00:00", "facts": said}
        storage.put(name, [control.seal(client, records.KIND, name, document, secrecy="index")])
    assert damage.damaged_packs(storage, owner) == frozenset()
    assert losses.read_losses(storage, owner) == losses.NONE
    damage.note_damaged(storage, owner, [pack])
    losses.write_losses(storage, owner, losses.Losses({backup: losses.Loss((b"/etc/\xff",), 2)}, frozenset([pack])))
    assert damage.damaged_packs(storage, client) == {pack}
    assert losses.read_losses(storage, client).backups == {backup: losses.Loss((b"/etc/\xff",), 2)}


def test_damage_is_known_as_long_as_it_lasts(storage: MemoryStorage, keys: KeyRing) -> None:
    first, second = secrets.token_bytes(32), secrets.token_bytes(32)
    kept = FaultyStorage(storage, Fault(nothing, when="instead", times=None, methods={"delete"}))
    assert damage.note_damaged(kept, keys, [first])
    assert damage.note_damaged(kept, keys, [second])
    assert not damage.note_damaged(kept, keys, [first, second])
    assert damage.note_damaged(kept, keys, [], [first])
    assert damage.damaged_packs(storage, keys) == {second}, "an older record that stays must not bring it back"
    assert damage.note_damaged(storage, keys, [first], [second])
    assert damage.damaged_packs(storage, keys) == {first}
    assert len(list(storage.list(records.PREFIX))) == 1
