"""Backup runs of engines with levels: which level they make, what they leave, and that each of them can be restored."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from chains.running import PASSWORD, change, check, content, opened, runs
from joining_storage import JoiningStorage

from freezer_sdk import Backup, Freezer
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.lock import SeriesLock
from freezer_sdk.engines.tar.engine import TarEngine
from freezer_sdk.errors import (
    Cancelled,
    ConfigurationError,
    FreezerError,
    IntegrityError,
    LeaseLost,
    RepositoryLocked,
    StorageUnavailable,
)
from freezer_sdk.model import BackupOptions, Event
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.testing.faults import Fault, FaultyStorage, damage, fail

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


# -- levels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ({"strategy": "full"}, [0, 0, 0, 0, 0]),
        ({}, [0, 1, 2, 3, 4]),
        ({"max_level": 2}, [0, 1, 2, 0, 1]),
        ({"always_level": 2}, [0, 1, 2, 2, 2]),
        ({"strategy": "differential"}, [0, 1, 1, 1, 1]),
        ({"restart_always_level": 1, "always_level": 1}, [0, 1, 1, 1, 1]),
    ],
)
@pytest.mark.parametrize("password", [None, PASSWORD])
def test_every_run_can_be_restored(
    options: dict[str, Any], levels: list[int], password: str | None, tree: Path, tmp_path: Path
) -> None:
    storage = MemoryStorage()
    with opened(storage, password=password, **options) as freezer:
        made = runs(freezer, tree, 5)
        assert [backup.level for backup, _ in made] == levels
        assert [backup.id for backup in freezer.backups()] == [backup.id for backup, _ in made]
        assert all(backup.chain == backup.id for backup, _ in made if backup.level == 0)
    with opened(storage, password=password) as freezer:
        check(freezer, made, tmp_path / "out")


def test_chosen_paths_come_back_under_their_full_names(tree: Path, tmp_path: Path) -> None:
    with opened(MemoryStorage()) as freezer:
        backup = freezer.backup(tree, name="etc")
        result = freezer.restore(backup.id, tmp_path / "out", layout="full", paths=["sub/second", "first"])
    assert not result.problems
    inside = Path(f"{tmp_path}/out{tree}")
    assert (inside / "first").read_bytes() == (tree / "first").read_bytes()
    assert (inside / "sub" / "second").read_bytes() == (tree / "sub" / "second").read_bytes()


def test_level_options_without_a_strategy_mean_increments(tree: Path) -> None:
    with Freezer(MemoryStorage(), create=True, engine="tar", encryption=False, engine_options={"max_level": 6}) as one:
        assert [one.backup(tree, name="t").level for _ in range(2)] == [0, 1]
    with Freezer(MemoryStorage(), create=True, engine="tar", encryption=False) as one:
        assert [one.backup(tree, name="t").level for _ in range(2)] == [0, 0]


def test_reading_every_file_makes_a_full_backup(tree: Path) -> None:
    with opened(MemoryStorage()) as freezer:
        freezer.backup(tree, name="t")
        assert freezer.backup(tree, name="t", force_read=True).level == 0


def test_series_are_apart(tree: Path) -> None:
    with opened(MemoryStorage()) as freezer:
        assert freezer.backup(tree, name="a").level == 0
        assert freezer.backup(tree, name="b").level == 0
        assert freezer.backup(tree, name="a", host="other").level == 0
        assert freezer.backup(tree, name="a").level == 1


@pytest.mark.parametrize("name", ["a b", 'it\'s "so"', "$(touch x)", "line\nend", "under_score", "ünï", "-rf", "."])
def test_names_are_just_names(name: str, tree: Path, tmp_path: Path) -> None:
    with opened(LocalStorage(path=str(tmp_path / "store"))) as freezer:
        made = [freezer.backup(tree, name=name, host="my_host") for _ in range(2)]
        assert [backup.level for backup in made] == [0, 1]
        assert freezer.backups(name=name, host="my_host") == made
        freezer.restore(made[1].id, tmp_path / "out")
        assert content(tmp_path / "out") == content(tree)


@pytest.mark.parametrize("name", ["a/b", "../x", "x" * 300])
def test_names_that_cannot_be_are_refused(name: str, tree: Path, tmp_path: Path) -> None:
    with opened(LocalStorage(path=str(tmp_path / "store"))) as freezer:
        with pytest.raises(FreezerError):
            freezer.backup(tree, name=name)
        assert not freezer.backups()


def test_a_dry_run_writes_nothing(tree: Path) -> None:
    storage = FaultyStorage(MemoryStorage())
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
        before = len(storage.calls)
        backup = freezer.backup(tree, name="t", dry_run=True)
        assert backup.dry_run
        assert backup.level == 1
        assert {call.method for call in storage.calls[before:]} <= {"get", "list", "stat", "open", "read", "now"}


def test_a_parent_cannot_be_chosen(tree: Path) -> None:
    with opened(MemoryStorage()) as freezer:
        first = freezer.backup(tree, name="t")
        with pytest.raises(ConfigurationError, match="chooses itself"):
            freezer.backup(tree, name="t", parent=first.id)


# -- times ---------------------------------------------------------------------------------------------------


def run_at(storage: Storage, tree: Path, when: datetime, *, events: Callable[[Event], None] = print) -> Backup:
    engine = TarEngine(strategy="incremental")
    none = lambda: None  # noqa: E731
    repository = engine.open(storage, password=none) if engine.probe(storage) else None
    repository = repository or engine.create(storage, password=none, encryption=False)
    with FilesystemMode(paths=(str(tree),)).protect() as protected:
        return repository.backup(protected, BackupOptions(name="t", host="h", time=when), Context(events=events))


def test_runs_of_the_same_second_do_not_collide(tree: Path, tmp_path: Path) -> None:
    storage, when = MemoryStorage(), datetime(2026, 5, 1, 12, 0, 0, 500_000, tzinfo=UTC)
    made = []
    for number in range(4):
        change(tree, number)
        made.append((run_at(storage, tree, when), content(tree)))
    assert len({backup.time.replace(microsecond=0) for backup, _ in made}) == 4
    assert made[0][0].time == when
    assert [backup.level for backup, _ in made] == [0, 1, 2, 3]
    check(opened(storage), made, tmp_path / "out")


def test_a_clock_that_is_set_back_changes_no_order(tree: Path, tmp_path: Path) -> None:
    storage, when = MemoryStorage(), datetime(2026, 5, 1, tzinfo=UTC)
    made, problems = [], []
    for number, back in enumerate([0, 10, 3600, 86400 * 400]):
        change(tree, number)
        backup = run_at(storage, tree, when - timedelta(seconds=back))
        made.append((backup, content(tree)))
        problems.append([problem.kind for problem in backup.problems])
    assert [backup.level for backup, _ in made] == [0, 1, 2, 3]
    assert [backup.time for backup, _ in made] == sorted(backup.time for backup, _ in made)
    assert problems == [[], [], ["clock"], ["clock"]]
    check(opened(storage), made, tmp_path / "out")


@pytest.mark.parametrize(("last", "works"), [(253_402_300_798, True), (253_402_300_799, False), (10**15, True)])
def test_junk_from_the_end_of_time(last: int, works: bool, tree: Path) -> None:
    storage = MemoryStorage()
    storage.put(f"metadata/tar/h_t/5/0_{last}/metadata", [b"{}"])
    if works:
        backup = run_at(storage, tree, datetime(2026, 5, 1, tzinfo=UTC))
        assert opened(storage).backups()[-1] == backup
    else:
        with pytest.raises(IntegrityError, match="end of all time"):
            run_at(storage, tree, datetime(2026, 5, 1, tzinfo=UTC))


def test_what_lies_there_without_counting_is_not_overwritten(tree: Path) -> None:
    storage, when = MemoryStorage(), datetime(2026, 5, 1, tzinfo=UTC)
    stamp = int(when.timestamp())
    foreign = f"data/tar/h_t/{stamp}/0_{stamp}/data"
    storage.put(foreign, [b"of an agent that is at work"])
    backup = run_at(storage, tree, when)
    assert backup.time == when + timedelta(seconds=1)
    assert storage.get(foreign) == b"of an agent that is at work"


def test_a_listing_that_lags_behind_overwrites_nothing(tree: Path) -> None:
    storage, when = MemoryStorage(), datetime(2026, 5, 1, tzinfo=UTC)
    first = run_at(storage, tree, when)
    before = {item.name: storage.get(item.name) for item in storage.list()}
    blind = FaultyStorage(
        storage,
        Fault(lambda call: None, when="short", times=None, methods={"list"}, prefix="metadata/"),
        Fault(lambda call: None, when="short", times=None, methods={"list"}, prefix="data/"),
    )
    second = run_at(blind, tree, when)
    assert second.time > first.time
    assert {name: storage.get(name) for name in before} == before


# -- broken chains -------------------------------------------------------------------------------------------


def the_object(storage: Storage, ending: str) -> str:
    return [item.name for item in storage.list() if item.name.endswith(ending)][-1]


@pytest.mark.parametrize("password", [None, PASSWORD])
@pytest.mark.parametrize("what", ["engine_metadata", "data"])
@pytest.mark.parametrize("how", ["missing", "damaged", "empty"])
def test_a_chain_that_is_not_whole_is_not_continued(
    what: str, how: str, password: str | None, tree: Path, tmp_path: Path
) -> None:
    storage = MemoryStorage()
    with opened(storage, password=password) as freezer:
        first = freezer.backup(tree, name="t")
        name = the_object(storage, f"/{what}")
        if how == "missing":
            storage.delete(name)
        elif how == "empty":
            storage.put(name, [b""])
        else:
            damage(storage, name, offset=0 if what == "data" else 5)
        backup = freezer.backup(tree, name="t")
        if (what, how, password) == ("data", "damaged", None):  # only reading all of it would tell
            return
        assert backup.level == 0
        assert [problem.kind for problem in backup.problems] == ["chain"]
        assert backup.status == "complete"
        freezer.restore(backup.id, tmp_path / "out")
        assert content(tmp_path / "out") == content(tree)
        assert first.id in {each.id for each in freezer.backups()}


def test_a_missing_level_in_between_ends_the_chain(tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        for _ in range(3):
            freezer.backup(tree, name="t")
        storage.delete(next(item.name for item in storage.list("metadata/") if "/1_" in item.name))
        assert freezer.backup(tree, name="t").level == 0


def test_a_state_that_is_none_begins_a_new_chain(tree: Path) -> None:
    """Without a record only the codec can tell; as in stores of the original."""
    storage = MemoryStorage()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
        storage.delete(the_object(storage, "/record"))
        storage.put(the_object(storage, "/engine_metadata"), [b"no snapshot file"])
        backup = freezer.backup(tree, name="t")
        assert backup.level == 0
        assert [problem.kind for problem in backup.problems] == ["chain"]


# -- locks ---------------------------------------------------------------------------------------------------


def test_two_runs_at_once_are_refused(tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        host = freezer.backup(tree, name="t").host
        with SeriesLock(storage, "tar", f"{host}_t"):
            with pytest.raises(RepositoryLocked) as caught:
                freezer.backup(tree, name="t")
            assert caught.value.exit_code == 11
            freezer.backup(tree, name="other")
        assert freezer.backup(tree, name="t").level == 1


# -- crashes -------------------------------------------------------------------------------------------------


def failing_runs(make: Callable[[], Storage], tree: Path, when: str, password: str | None) -> Iterator[Storage]:
    """Storages in which the last run failed at its first, second, ... call; ends with the run that succeeds."""
    number = 0
    while True:
        number += 1
        storage = make()
        with opened(storage, password=password) as freezer:
            freezer.backup(tree, name="t")
        faulty = FaultyStorage(storage, Fault(fail(StorageUnavailable("cut")), at=number, times=None, when=when))
        change(tree, number)
        try:
            with opened(faulty, password=password) as freezer:
                freezer.backup(tree, name="t")
        except FreezerError:
            yield storage
        else:
            assert number > 15
            return


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [MemoryStorage, JoiningStorage])
def test_a_run_that_fails_at_any_call_harms_nothing(
    kind: Callable[[], Storage], when: str, tree: Path, tmp_path: Path
) -> None:
    for number, storage in enumerate(failing_runs(kind, tree, when, None)):
        out = tmp_path / str(number)
        with opened(storage) as freezer:
            listed = freezer.backups()
            assert listed[0].level == 0
            assert freezer.verify(read_data=True).ok
            for backup in listed:
                freezer.restore(backup.id, out / backup.id)
            for name in [item.name for item in storage.list("freezer-sdk/locks/")]:
                storage.delete(name)  # as after ten minutes
            again = freezer.backup(tree, name="t")
            assert again.level == len(listed)
            freezer.restore(again.id, out / "again")
            assert content(out / "again") == content(tree)
            whole = {backup.id for backup in freezer.backups()}
            assert whole == {backup.id for backup in listed} | {again.id}
        shutil.rmtree(out)
        streams = [item.name for item in storage.list("data/") if item.name.endswith("/data")]
        assert len(streams) == len(whole)
        parts = [item.name.rpartition("/segments/")[0] for item in storage.list("data/")]
        assert {f"{part}/data" for part in parts if part} in ({*streams}, set())
        assert not [item.name for item in storage.list("freezer-sdk/") if item.name.endswith("/started")]


def test_what_an_interrupted_run_left_is_told_and_removed(tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
        faulty = FaultyStorage(
            storage,
            Fault(fail(StorageUnavailable("cut")), times=None, methods={"put"}, prefix="metadata/"),
            Fault(fail(StorageUnavailable("cut")), times=None, methods={"delete"}),
        )
        with pytest.raises(StorageUnavailable), opened(faulty) as broken:
            broken.backup(tree, name="t")
        assert len(freezer.backups()) == 1
        for name in [item.name for item in storage.list("freezer-sdk/locks/")]:
            storage.delete(name)
        backup = freezer.backup(tree, name="t")
        assert [problem.kind for problem in backup.problems] == ["interrupted"]
        assert backup.status == "complete"


def test_a_run_that_lost_its_lock_does_not_count(tree: Path) -> None:
    storage = MemoryStorage()

    def lose(_call: object) -> None:
        for item in list(storage.list("freezer-sdk/locks/")):
            storage.delete(item.name)

    with opened(FaultyStorage(storage, Fault(lose, methods={"flush"}, at=2))) as freezer:
        with pytest.raises(LeaseLost):
            freezer.backup(tree, name="t")
        assert not freezer.backups()
    assert [item.name for item in storage.list()] == ["freezer-sdk/store"]


def test_a_cancelled_run_leaves_nothing(tree: Path) -> None:
    storage, token = MemoryStorage(), CancelToken()

    def stop(event: Event) -> None:
        if event.kind == "progress":
            token.cancel()

    with opened(storage) as freezer:
        with pytest.raises(Cancelled):
            freezer.backup(tree, name="t", events=stop, cancel=token)
        assert not freezer.backups()
    assert [item.name for item in storage.list()] == ["freezer-sdk/store"]


def test_what_cannot_be_read_whole_makes_a_partial_level(tree: Path) -> None:
    storage = MemoryStorage()

    def grow(event: Event) -> None:
        if event.kind == "progress":
            (tree / "sub" / "second").write_bytes(b"changed while it was read" * 100_000)

    (tree / "sub" / "second").write_bytes(os.urandom(30 << 20))
    with opened(storage, compression_level=1) as freezer:
        backup = freezer.backup(tree, name="t", events=grow)
        assert backup.status == "partial"
        assert freezer.backups() == [backup]
        assert freezer.backup(tree, name="t").status == "complete"
