"""Copies under deletion, damage, races and lesser rights: never a backup that is not whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from dedup.two import CHEAP, PASSWORD, Two, assert_restores

from freezer_sdk import Backup, Cancelled, CancelToken, CopyOutcome, Freezer, IntegrityError
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.config import Role
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.keyholders import add_slot
from freezer_sdk.errors import AccessDenied, BackupNotFound, ConfigurationError, LeaseLost
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage


def test_packs_that_are_about_to_be_deleted_are_not_relied_upon(pair: Two, tree: Path, tmp_path: Path) -> None:
    backup = pair.source.backup(tree, name="tree")
    pair.copy()
    keys = open_repository(pair.target_storage, lambda: None if not pair.target.info().encrypted else PASSWORD)
    packs = [info.name for prefix in ("packs/", "meta/") for info in pair.target_storage.list(prefix)]
    protocol.write_mark(pair.target_storage, keys, [bytes.fromhex(name.rsplit("/")[-1]) for name in packs])
    protocol.write_tombstone(pair.target_storage, keys, backup.id)
    later = pair.source.backup(tree, name="tree")
    result = pair.target.copy(pair.source, later.id)[0]
    assert result.outcome is CopyOutcome.COPIED
    pair.target_storage.delete_many(packs)
    assert_restores(pair.target, later.id, tree, tmp_path / "out")
    assert pair.target.verify(later.id, read_data=True).ok


def test_lost_packs_are_replaced(pair: Two, tree: Path, tmp_path: Path) -> None:
    pair.source.backup(tree, name="tree")
    pair.copy()
    lost = [info.name for info in pair.target_storage.list("packs/")][:2]
    pair.target_storage.delete_many(lost)
    later = pair.source.backup(tree, name="tree")
    told: list[str] = []
    with Freezer(pair.target_storage, password=PASSWORD if pair.target.info().encrypted else None) as target:
        target.copy(
            pair.source, later.id, events=lambda event: told.append(event.problem.kind) if event.problem else None
        )
        assert_restores(target, later.id, tree, tmp_path / "out")
        assert target.verify(later.id, read_data=True).ok
    assert told == ["lost"] * len(lost)


def test_what_was_forgotten_here_stays_forgotten(pair: Two, tree: Path) -> None:
    backup = pair.source.backup(tree, name="tree")
    pair.copy()
    pair.target.forget(backup.id)
    assert pair.copy(outcome=CopyOutcome.FORGOTTEN) == 0
    assert pair.target.copy(pair.source, dry_run=True)[0].outcome is CopyOutcome.FORGOTTEN
    assert pair.target.backups() == []


def test_a_dry_run_writes_nothing(pair: Two, tree: Path) -> None:
    pair.source.backup(tree, name="tree")
    begin = len(pair.target_storage.calls)
    assert pair.target.copy(pair.source, dry_run=True)[0].outcome is CopyOutcome.MISSING
    assert not [call for call in pair.target_storage.calls[begin:] if call.method in ("put", "upload", "delete")]
    assert pair.target.backups() == []


def test_backups_are_chosen(alike: Two, tree: Path) -> None:
    made = [
        alike.source.backup(tree, name=name, host=host, tags=tags)
        for name, host, tags in [("a", "h1", ["x"]), ("b", "h1", []), ("a", "h2", ["x", "y"]), ("a", "h1", [])]
    ]

    def copied(*ids: str, **wanted: object) -> list[Backup]:
        return [result.backup for result in alike.target.copy(alike.source, ids, dry_run=True, **wanted)]  # type: ignore[arg-type]

    assert copied() == made
    assert copied(name="a") == [made[0], made[2], made[3]]
    assert copied(name="a", host="h1") == [made[0], made[3]]
    assert copied(tags=["x"]) == [made[0], made[2]]
    assert copied(before=made[1].time) == [made[0]]
    assert copied(after=made[2].time) == made[2:]
    assert copied(made[3].short_id, made[1].id, made[3].id) == [made[1], made[3]]
    assert copied("latest", name="a", host="h1") == [made[3]]
    with pytest.raises(BackupNotFound):
        copied("ffffffff")


def test_what_is_damaged_in_the_source_is_not_copied(pair: Two, tree: Path, tmp_path: Path) -> None:
    good = pair.source.backup(tree / "d0", name="good")
    bad = pair.source.backup(tree, name="bad")
    known = {info.name for info in pair.source_storage.list("packs/")}
    (tree / "later").write_bytes(os.urandom(10_000))
    pair.source.backup(tree, name="bad")
    for info in list(pair.source_storage.list("packs/")):
        if info.name not in known:
            pair.source_storage.delete(info.name)
    told: list[str] = []
    results = pair.target.copy(
        pair.source, events=lambda event: told.append(event.problem.path) if event.problem else None
    )
    assert [result.outcome for result in results] == [CopyOutcome.COPIED, CopyOutcome.COPIED, CopyOutcome.FAILED]
    assert isinstance(results[2].error, IntegrityError)
    assert len(told) == 1
    assert {backup.id for backup in pair.target.backups()} == {good.id, bad.id}
    assert pair.target.verify(read_data=True).ok


def test_a_changed_byte_in_the_source_is_noticed(pair: Two, tree: Path) -> None:
    pair.source.backup(tree, name="tree")
    name = next(iter(pair.source_storage.list("packs/"))).name
    stored = bytearray(pair.source_storage.get(name))
    stored[1000] ^= 1
    pair.source_storage.put(name, [stored])
    assert pair.target.copy(pair.source)[0].outcome is CopyOutcome.FAILED
    assert pair.target.backups() == []


def test_a_repository_is_not_copied_into_itself(alike: Two, tree: Path) -> None:
    backup = alike.source.backup(tree, name="tree")
    with (
        DedupEngine().open(alike.source_storage, password=lambda: PASSWORD) as repository,
        DedupEngine().open(alike.source_storage, password=lambda: PASSWORD) as again,
        pytest.raises(ConfigurationError, match="itself"),
    ):
        repository.copy(again, backup.id, Context())


def test_a_sweep_that_began_meanwhile_fails_the_copy_and_the_next_one_succeeds(tree: Path) -> None:
    with Freezer.create(MemoryStorage(), encryption=False) as source:
        source.backup(tree, name="tree")
        inner = MemoryStorage()
        keys = create_repository(inner, password=None)

        def sweep(call: object) -> None:
            protocol.announce(inner, keys, protocol.next_generation(inner, keys))

        storage = FaultyStorage(inner, Fault(sweep, when="before", methods={"put"}, prefix="backups/"))
        with Freezer(storage) as target:
            result = target.copy(source)[0]
            assert isinstance(result.error, LeaseLost)
            generation = protocol.read_sweeps(inner, keys).generation
            protocol.decide(inner, keys, generation, condemned=[], alive=[])
            assert target.backups() == []
            again = target.copy(source)[0]
            assert again.outcome is CopyOutcome.FAILED
            assert "does not count" in str(again.error)
            inner.delete_many([info.name for info in inner.list("backups/")])  # as maintenance will
            assert target.copy(source)[0].outcome is CopyOutcome.COPIED
            assert target.verify(read_data=True).ok


def test_of_two_copies_at_once_one_finds_the_other(tree: Path) -> None:
    with Freezer.create(MemoryStorage(), encryption=False) as source:
        backup = source.backup(tree, name="tree")
        inner = MemoryStorage()

        def other(call: object) -> None:
            with Freezer(inner) as target:
                assert target.copy(source)[0].outcome is CopyOutcome.COPIED

        storage = FaultyStorage(inner, Fault(other, when="before", methods={"put"}, prefix="backups/"))
        with Freezer.create(storage, encryption=False) as target:
            assert target.copy(source)[0].outcome is CopyOutcome.PRESENT
            assert target.backups() == [backup]
            assert target.verify(read_data=True).ok


def test_who_may_only_read_cannot_copy_here(alike: Two, tree: Path) -> None:
    alike.source.backup(tree, name="tree")
    for storage, roles in ((alike.target_storage, [Role.READER]), (alike.source_storage, [Role.WRITER])):
        keys = open_repository(storage, lambda: PASSWORD)
        add_slot(storage, keys, password="less", kdf=CHEAP, roles=roles)
    with Freezer(alike.target_storage, password="less") as target, pytest.raises(AccessDenied):
        target.copy(alike.source)


def test_who_may_only_write_can_copy_here(pair: Two, tree: Path, tmp_path: Path) -> None:
    if not pair.target.info().encrypted:
        return  # it has one kind of holder only
    secret = pair.source.info().encrypted
    backup = pair.source.backup(tree, name="tree")
    keys = open_repository(pair.target_storage, lambda: PASSWORD)
    add_slot(pair.target_storage, keys, password="less", kdf=CHEAP, roles=[Role.WRITER])
    with (
        DedupEngine().open(pair.target_storage, password=lambda: "less") as target,
        DedupEngine().open(pair.source_storage, password=lambda: PASSWORD if secret else None) as source,
    ):
        assert target.copy(source, backup.id, Context()).outcome is CopyOutcome.COPIED
        assert target.copy(source, backup.id, Context()).outcome is CopyOutcome.PRESENT
    with Freezer(pair.target_storage, password=PASSWORD) as target:
        assert_restores(target, backup.id, tree, tmp_path / "out")


def test_a_cancelled_copy_leaves_nothing_visible(pair: Two, tree: Path) -> None:
    pair.source.backup(tree, name="tree")
    token = CancelToken()
    with pytest.raises(Cancelled):
        pair.target.copy(
            pair.source,
            cancel=token,
            events=lambda event: token.cancel() if event.kind == "progress" and event.bytes else None,
        )
    assert pair.target.backups() == []
    pair.copy()
    assert pair.target.verify(read_data=True).ok


def test_progress_is_told(pair: Two, tree: Path) -> None:
    backup = pair.source.backup(tree, name="tree")
    events = []
    pair.target.copy(pair.source, events=events.append)
    assert {event.operation for event in events} == {"copy"}
    assert [event.kind for event in events][:1] == ["start"]
    assert events[0].data["backup"] == backup.id
    assert events[-1].kind == "finish"
    assert events[-1].data["outcome"] == "copied"
    done = [event for event in events if event.kind == "progress"][-1]
    assert done.files == backup.stats.files
    assert done.bytes == events[-1].bytes > 0
    assert done.added_bytes == events[-1].added_bytes > 0


def test_the_local_storage_too(tree: Path, tmp_path: Path) -> None:
    with (
        Freezer.create(LocalStorage(path=str(tmp_path / "one")), encryption=False) as one,
        Freezer.create(f"local:{tmp_path / 'two'}", password=PASSWORD) as two_,
    ):
        backup = one.backup(tree, name="tree")
        two_.copy(one)
        assert_restores(two_, backup.id, tree, tmp_path / "out")
