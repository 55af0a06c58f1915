"""Backup runs of engines with levels: which level they make, what they leave, and that each of them can be restored."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from joining_storage import JoiningStorage

from freezer_sdk import Backup, Freezer, FreezerGroup
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.lock import SeriesLock
from freezer_sdk.engines.tar.engine import TarEngine
from freezer_sdk.errors import (
    Cancelled,
    ConfigurationError,
    FreezerError,
    IntegrityError,
    LeaseLost,
    RepositoryExists,
    RepositoryLocked,
    RepositoryNotFound,
    StorageUnavailable,
    UnsupportedFormat,
    WrongPassword,
)
from freezer_sdk.model import BackupOptions, Event
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.testing.faults import Fault, FaultyStorage, damage, fail

PASSWORD = "correct horse"
INTEROP = Path(__file__).parents[3] / "shared" / "interop"

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "tree"
    (path / "sub").mkdir(parents=True)
    (path / "first").write_bytes(b"first\n" * 100)
    (path / "sub" / "second").write_bytes(os.urandom(50_000))
    return path


def opened(storage: Storage, *, password: str | None = None, **options: Any) -> Freezer:
    return Freezer(
        storage,
        password=password,
        create=True,
        engine="tar",
        encryption=password is not None,
        engine_options={"strategy": "incremental", **options},
    )


def content(path: Path) -> dict[str, bytes]:
    return {str(each.relative_to(path)): each.read_bytes() for each in path.rglob("*") if each.is_file()}


def change(tree: Path, number: int) -> None:
    (tree / f"new{number}").write_bytes(b"%d" % number * 1000)
    (tree / "first").write_bytes(b"changed %d\n" % number)
    old = tree / f"new{number - 2}"
    if old.exists():
        old.unlink()


def runs(freezer: Freezer, tree: Path, count: int) -> list[tuple[Backup, dict[str, bytes]]]:
    made = []
    for number in range(count):
        change(tree, number)
        made.append((freezer.backup(tree, name="t"), content(tree)))
    return made


def check(freezer: Freezer, made: list[tuple[Backup, dict[str, bytes]]], out: Path) -> None:
    listed = {backup.id: backup for backup in freezer.backups()}
    for backup, expected in made:
        assert listed[backup.id] == backup
        target = out / backup.id
        assert freezer.restore(backup.id, target).status == "complete"
        assert content(target) == expected
    result = freezer.verify(read_data=True)
    assert result.ok, result.problems


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


# -- encryption ----------------------------------------------------------------------------------------------


def everything(storage: Storage) -> bytes:
    return b"".join(item.name.encode() + storage.get(item.name) for item in storage.list())


def test_sealed_streams_show_no_names(tree: Path) -> None:
    (tree / "a very secret name").write_bytes(b"x")
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD) as freezer:
        freezer.backup(tree, name="t")
        freezer.backup(tree, name="t")
    assert not list(storage.list("metadata/tar/"))
    assert b"secret" not in everything(storage)
    assert PASSWORD.encode() not in everything(storage)


def test_exchange_streams_are_opened_by_openssl_and_tar(tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD, cipher="openssl") as freezer:
        made = runs(freezer, tree, 2)
        check(freezer, made, tmp_path / "out")
    for item in storage.list("data/"):
        if item.name.endswith("/data") and "/0_" in item.name:
            command = ["openssl", "enc", "-d", "-aes-256-cfb", "-md", "sha256", "-pass", f"pass:{PASSWORD}"]
            plain = subprocess.run(command, input=storage.get(item.name), capture_output=True, check=True).stdout
            target = tmp_path / "by tar"
            target.mkdir()
            subprocess.run(["tar", "-xzf", "-", "-C", str(target)], input=plain, check=True)
            assert content(target) == made[0][1]


@pytest.mark.parametrize("cipher", ["openssl", "sealed"])
def test_a_wrong_password_is_told(cipher: str, tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD, cipher=cipher) as freezer:
        freezer.backup(tree, name="t")
    for password in ("wrong", None):
        with pytest.raises(WrongPassword):
            opened(storage, password=password)
    storage.delete("freezer-sdk/store")  # as a store of the original
    options = {"cipher": cipher, "strategy": "incremental"}
    with Freezer(storage, engine="tar", password="wrong", engine_options=options) as freezer:
        for series in ("t", "new") if cipher == "sealed" else ("t",):
            with pytest.raises(WrongPassword):
                freezer.backup(tree, name=series)


def test_a_series_stays_in_the_form_it_has(tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    with opened(storage, password=PASSWORD, cipher="openssl") as freezer:
        made = runs(freezer, tree, 1)
    with opened(storage, password=PASSWORD) as freezer:
        made += runs(freezer, tree, 1)
    assert made[-1][0].level == 1
    with opened(storage, password=PASSWORD, cipher="sealed") as freezer:
        made += runs(freezer, tree, 1)
        made += runs(freezer, tree, 1)
    assert [backup.level for backup, _ in made] == [0, 1, 0, 1]
    with opened(storage, password=PASSWORD) as freezer:
        made += runs(freezer, tree, 1)
        assert made[-1][0].level == 2
        check(freezer, made, tmp_path / "out")


def test_a_password_for_a_plain_series_begins_an_encrypted_chain(tree: Path, tmp_path: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        made = runs(freezer, tree, 2)
    with opened(storage, password=PASSWORD) as freezer:
        made += runs(freezer, tree, 2)
        assert [backup.level for backup, _ in made] == [0, 1, 0, 1]
        check(freezer, made, tmp_path / "out")
    with opened(storage) as freezer:
        backup = freezer.backup(tree, name="t")
        assert backup.level == 0
        assert "cipher" in {problem.kind for problem in backup.problems}


class Person:
    """Sits at a terminal, and counts how often it is asked for the password."""

    interactive = True

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        return PASSWORD


def test_nobody_is_asked_for_a_password_that_is_not_needed(tree: Path) -> None:
    storage, person = MemoryStorage(), Person()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
    for marked in (True, False):
        if not marked:
            storage.delete("freezer-sdk/store")
        with Freezer(storage, password=person, engine="tar") as freezer:
            backup = freezer.backup(tree, name="t")
            assert freezer.verify(read_data=True).ok
            assert not backup.problems
    assert not person.asked
    assert not list(storage.list("metadata/tar-sealed/"))


@pytest.mark.parametrize("cipher", ["openssl", "sealed"])
def test_who_sits_at_a_terminal_is_asked_once_when_it_must_be(cipher: str, tree: Path) -> None:
    storage, person = MemoryStorage(), Person()
    with opened(storage, password=PASSWORD, cipher=cipher) as freezer:
        freezer.backup(tree, name="t")
    storage.delete("freezer-sdk/store")
    with Freezer(storage, password=person, engine="tar", engine_options={"max_level": 3}) as freezer:
        assert [freezer.backup(tree, name="t").level for _ in range(2)] == [1, 2]
        assert freezer.verify(read_data=True).ok
    assert person.asked == 1


def test_encryption_needs_a_password() -> None:
    with pytest.raises(ConfigurationError, match="needs a password"):
        Freezer.create(MemoryStorage(), engine="tar")


# -- stores --------------------------------------------------------------------------------------------------


def test_an_empty_storage_is_no_store() -> None:
    with pytest.raises(RepositoryNotFound):
        Freezer(MemoryStorage(), engine="tar")


@pytest.mark.parametrize(
    "change", [("openssl", "sealed"), ("sealed", "openssl"), ("2026", "2025"), ('"version": 1', '"version": 2')]
)
def test_a_store_tells_when_what_it_says_was_changed(change: tuple[str, str], tree: Path) -> None:
    storage = MemoryStorage()
    cipher = change[0] if change[0] in ("openssl", "sealed") else "sealed"
    options = {"cipher": cipher}
    with Freezer(storage, create=True, engine="tar", password=PASSWORD, engine_options=options) as freezer:
        freezer.backup(tree, name="t")
    text = storage.get("freezer-sdk/store").decode()
    storage.put("freezer-sdk/store", [text.replace(*change).encode()])
    if change[0] == "2026":  # when it was made is for people
        Freezer(storage, engine="tar", password=PASSWORD).close()
        return
    with pytest.raises((IntegrityError, UnsupportedFormat)):
        Freezer(storage, engine="tar", password=PASSWORD)


@pytest.mark.parametrize("content", [b"", b"junk", b"[]", b"{}", b'{"version": 1, "id": 5}'])
def test_a_damaged_store_object_is_told_and_can_be_removed(content: bytes, tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        backup = freezer.backup(tree, name="t")
    storage.put("freezer-sdk/store", [content])
    with pytest.raises(IntegrityError) as caught:
        Freezer(storage, engine="tar")
    assert "remove it" in (caught.value.hint or "")
    storage.delete("freezer-sdk/store")
    with Freezer(storage, engine="tar") as freezer:
        assert freezer.backups() == [backup]


def test_a_store_is_made_once() -> None:
    storage = MemoryStorage()
    Freezer.create(storage, engine="tar", encryption=False).close()
    with pytest.raises(RepositoryExists):
        Freezer.create(storage, engine="tar", encryption=False)


def test_the_engine_of_a_store_is_found_out(tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
    with Freezer(storage) as freezer:
        assert [backup.engine for backup in freezer.backups()] == ["tar"]


def test_two_engines_in_one_store(tree: Path) -> None:
    """As in containers of the original."""
    storage = MemoryStorage()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
    with Freezer(storage, create=True, engine="rsync", encryption=False) as other:
        assert [problem.kind for problem in other.problems] == ["engine"]
        assert not other.backups()
        assert other.backup(tree, name="t").level == 0
    with Freezer(storage, engine="rsyncv2") as other:
        assert not other.problems
        assert [backup.engine for backup in other.backups()] == ["rsync"]
    with pytest.raises(ConfigurationError, match="several engines: rsync, tar"):
        Freezer(storage)


@pytest.mark.skipif(not INTEROP.exists(), reason="needs stores written by the real agent (../shared/interop)")
def test_a_chain_of_the_original_is_continued(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(INTEROP / "tar-gzip-levels" / "store", store)
    with Freezer(f"local:{store}", engine="tar", engine_options={"strategy": "incremental"}) as freezer:
        before = freezer.backups()
        newest = before[-1]
        backup = freezer.backup(tree, name=newest.name, host=newest.host)
        assert backup.level == (newest.level or 0) + 1
        assert backup.chain == newest.chain
        freezer.restore(backup.id, tmp_path / "out")
        assert content(tmp_path / "out") == content(tree)
        assert [each.id for each in freezer.backups()] == [*(each.id for each in before), backup.id]
    assert not (store / "freezer-sdk" / "store").exists()


def test_gnu_tar_restores_a_chain_that_lies_in_a_folder(tree: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    with opened(LocalStorage(path=str(store))) as freezer:
        made = runs(freezer, tree, 3)
    out.mkdir()
    streams = sorted(store.glob("data/tar/*/*/*/data"), key=lambda path: path.parent.name)
    assert [path.parent.name.split("_")[0] for path in streams] == ["0", "1", "2"]
    for path in streams:
        command = ["tar", "-z", "--incremental", "--extract", "--ignore-zeros", "--warning=none", "--overwrite"]
        subprocess.run([*command, "--directory", str(out), "--file", str(path)], check=True)
    assert content(out) == made[-1][1]


def test_several_storages_at_once(tree: Path, tmp_path: Path) -> None:
    storages: list[Storage] = [MemoryStorage(), LocalStorage(path=str(tmp_path / "store"))]
    members = [opened(storage) for storage in storages]
    with FreezerGroup(members) as group:
        for number in range(3):
            change(tree, number)
            result = group.backup(tree, name="t")
            assert result.status == "complete"
    for member in members:
        backups = member.backups()
        assert [backup.level for backup in backups] == [0, 1, 2]
        target = tmp_path / f"out{members.index(member)}"
        member.restore(backups[-1].id, target)
        assert content(target) == content(tree)
    assert [backup.id for backup in members[0].backups()] == [backup.id for backup in members[1].backups()]
    for member in members:
        member.close()
