"""A listing that ends too early, and says nothing of it, never leads to harm or to a wrong "not there"."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from trees import compare

from freezer_sdk import (
    BackupNotFound,
    CopyOutcome,
    Freezer,
    FreezerError,
    IntegrityError,
    RepositoryError,
    RepositoryExists,
    RepositoryNotFound,
    Status,
    StorageUnavailable,
    WrongPassword,
)
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import access
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reconfigure, rotate
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import Kind, backup_name, pack_name
from freezer_sdk.engines.dedup.protocol import write_tombstone
from freezer_sdk.model import BackupOptions, Buffer
from freezer_sdk.modes.base import Protected
from freezer_sdk.modes.fs import FilesystemMode
from freezer_sdk.storages.base import Capabilities, ObjectInfo
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, nothing

PASSWORD = "correct horse"
CHEAP = Argon2Params(memory=8, time=1, lanes=1)
SMALL_PACKS = {"pack_size": "1M"}
PREFIXES = (
    "", "config/", "keys/", "copies/", "packs/", "meta/", "index/", "backups/", "forgotten/", "leases/", "marks/",
    "sweeps/",
)  # fmt: skip


class WriteOnce(MemoryStorage):
    """Notes everything that must never happen to what is stored."""

    def __init__(self, *, conditional: bool = True, remote: bool = False) -> None:
        super().__init__()
        self.harm: list[str] = []
        self._capabilities = Capabilities(conditional_put=conditional, remote=remote, persistent=False)

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        if not if_absent and name in self.content():
            self.harm.append(f"overwritten: {name}")
        return super().put(name, buffers, if_absent=if_absent)

    def delete(self, name: str) -> None:
        if name in self.content():
            self.harm.append(f"deleted: {name}")
        super().delete(name)

    def content(self) -> dict[str, bytes]:
        return {name: found.content for name, found in dict(self._space.objects).items()}


def cut(storage: MemoryStorage, *prefixes: str, keep: int = 0) -> FaultyStorage:
    """The storage behind a proxy that cuts listings short."""
    faults = [Fault(nothing, methods={"list"}, prefix=each, when="short", keep=keep, times=None) for each in prefixes]
    return FaultyStorage(storage, *faults)


def opened(storage: MemoryStorage | FaultyStorage, **options: object) -> Freezer:
    return Freezer(storage, password=PASSWORD, engine_options={**SMALL_PACKS, **options})


def tree(base: Path) -> Path:
    rng = random.Random(1)
    for number in range(30):
        path = base / f"d{number % 3}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(200_000))
    time.sleep(0.1)  # older than what counts as racy
    return base


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("cut") / "source")


@pytest.fixture(params=[True, False], ids=["conditional", "unconditional"])
def store(request: pytest.FixtureRequest, source: Path) -> Iterator[WriteOnce]:
    """A repository with three backups, one of which was forgotten, in several packs, and two configurations."""
    storage = WriteOnce(conditional=request.param)
    reconfigure(storage, create_repository(storage, password=PASSWORD, kdf=CHEAP), grace=7200)
    with opened(storage) as freezer:
        first, second = freezer.backup(source, name="first"), freezer.backup(source / "d1", name="second")
        freezer.forget(second.id)
        freezer.backup(source, name="third", force_read=True)
    assert first.stats.added_bytes > 4 << 20
    assert sum(name.startswith("packs/") for name in storage.content()) > 3
    storage.harm.clear()
    yield storage
    assert storage.harm == []


def everything_is_whole(storage: MemoryStorage, source: Path, out: Path, *, least: int = 2) -> None:
    """Seen without a proxy."""
    with opened(storage) as freezer:
        assert freezer.verify(read_data=True).problems == ()
        backups = freezer.backups()
        assert {"first", "third"} <= {backup.name for backup in backups}
        assert len(backups) >= least
        for backup in backups:
            if backup.name in ("first", "third", "new"):
                freezer.restore(backup.id, out / backup.id)
                compare(source, out / backup.id)


@pytest.mark.parametrize("keep", [0, 1, 3])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_nothing_is_harmed_by_any_work(store: WriteOnce, source: Path, tmp_path: Path, prefix: str, keep: int) -> None:
    before, made = store.content(), []
    storage = cut(store, prefix, keep=keep)

    def work(freezer: Freezer) -> Iterator[Callable[[], object]]:
        yield lambda: freezer.verify()
        yield lambda: made.append(freezer.backup(source, name="new", force_read=True))
        yield lambda: freezer.restore(freezer.find_backup(name="first").id, tmp_path / "restored")
        yield lambda: freezer.forget(freezer.find_backup(name="new").id)
        yield lambda: made.append(freezer.backup(source, name="new"))

    try:
        with Freezer(storage, password=PASSWORD, create=True, engine_options=SMALL_PACKS) as freezer:
            for step in work(freezer):
                try:
                    step()
                except (BackupNotFound, StorageUnavailable):
                    assert prefix in ("", "backups/")
    except IntegrityError:
        assert prefix in ("", "keys/", "copies/")
    with pytest.raises(RepositoryExists):
        Freezer.create(storage, password=PASSWORD)
    after = store.content()
    assert {name: after.get(name) for name in before} == before
    everything_is_whole(store, source, tmp_path, least=2 + (len(made) > 0))


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("prefixes", [("config/",), ("config/", "copies/"), ("",)])
@pytest.mark.parametrize("conditional", [True, False])
def test_no_second_repository_is_made_over_the_first(prefixes: tuple[str, ...], keep: int, conditional: bool) -> None:
    storage = WriteOnce(conditional=conditional)
    create_repository(storage, password=PASSWORD, kdf=CHEAP)
    before = storage.content()
    for password in (PASSWORD, "another"):
        with pytest.raises(RepositoryExists):
            create_repository(cut(storage, *prefixes, keep=keep), password=password, kdf=CHEAP)
    assert access.is_repository(cut(storage, *prefixes, keep=keep))
    assert storage.content() == before
    assert storage.harm == []


def test_one_of_two_places_is_enough_to_know_a_repository() -> None:
    storage = WriteOnce()
    create_repository(storage, password=PASSWORD, kdf=CHEAP)
    storage.delete("config/00000001")
    assert access.is_repository(cut(storage, ""))


def test_an_empty_storage_is_none() -> None:
    with pytest.raises(RepositoryNotFound):
        open_repository(cut(WriteOnce(), ""), lambda: PASSWORD)


class TestConfigurations:
    @pytest.mark.parametrize("keep", [0, 1, 2])
    def test_the_newest_holds(self, store: WriteOnce, keep: int) -> None:
        keys = open_repository(store, lambda: PASSWORD)
        reconfigure(store, keys, grace=9000)
        found = open_repository(cut(store, "config/", "copies/config/", keep=keep), lambda: PASSWORD)
        assert found.config.number == 3
        assert found.config.grace == 9000

    @pytest.mark.parametrize("keep", [0, 1])
    def test_the_next_one_replaces_none(self, store: WriteOnce, keep: int) -> None:
        before = store.content()
        storage = cut(store, "config/", keep=keep)
        keys = reconfigure(storage, open_repository(storage, lambda: PASSWORD), grace=9000)
        assert keys.config.number == 3
        assert store.content().items() >= before.items()

    def test_a_password_that_was_removed_stays_removed(self, store: WriteOnce) -> None:
        keys = open_repository(store, lambda: PASSWORD)
        line = add_slot(store, keys, password="second password", roles=keys.roles, kdf=CHEAP)
        rotate(store, open_repository(store, lambda: PASSWORD), revoke=[line.id])
        with pytest.raises(WrongPassword, match="removed"):
            open_repository(cut(store, "config/", keep=1), lambda: "second password")

    @pytest.mark.parametrize("keep", [0, 1])
    def test_no_second_copy_is_written_over_a_good_one(self, store: WriteOnce, source: Path, keep: int) -> None:
        for prefix in ("copies/", "config/", "keys/"):
            before = store.content()
            with suppress(IntegrityError), opened(cut(store, prefix, keep=keep)) as freezer:
                freezer.backup(source)
            assert store.content().items() >= before.items()


class TestPasswords:
    def test_the_right_one_is_not_called_wrong(self, store: WriteOnce) -> None:
        with pytest.raises(IntegrityError, match="cannot be") as caught:
            open_repository(cut(store, "keys/", "copies/"), lambda: PASSWORD)
        assert "list only a part" in str(caught.value.hint)

    def test_nor_when_other_slots_are_listed(self, store: WriteOnce) -> None:
        keys = open_repository(store, lambda: PASSWORD)
        add_slot(store, keys, password="second password", roles=keys.roles, kdf=CHEAP)
        storage = cut(store, "keys/", "copies/", keep=1)
        results = []
        for password in (PASSWORD, "second password", "wrong"):
            try:
                results.append(type(open_repository(storage, lambda password=password: password)))
            except FreezerError as error:
                results.append(type(error))
        assert results.count(KeyRing) == 1
        assert results.count(IntegrityError) == 2
        with pytest.raises(WrongPassword):
            open_repository(store, lambda: "wrong")


class TestPacks:
    @pytest.mark.parametrize("keep", [0, 1])
    @pytest.mark.parametrize("prefix", ["packs/", "meta/", ""])
    def test_none_is_distrusted(
        self, store: WriteOnce, source: Path, keep: int, prefix: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with opened(store) as whole:
            expected = whole.backup(source, name="whole", force_read=True)
        storage = cut(store, "packs/", "meta/", keep=keep) if not prefix else cut(store, prefix, keep=keep)
        with opened(storage) as freezer:
            backup = freezer.backup(source, name="new", force_read=True)
        assert [problem.kind for problem in backup.problems] == []
        assert backup.stats.added_bytes < expected.stats.added_bytes + 5000
        assert "lists only a part" in caplog.text

    def test_one_that_is_really_gone_is_found_all_the_same(self, store: WriteOnce, source: Path) -> None:
        (gone, *_others) = sorted(name for name in store.content() if name.startswith("packs/"))
        MemoryStorage.delete(store, gone)
        with opened(cut(store, "packs/", keep=1)) as freezer:
            backup = freezer.backup(source, name="new", force_read=True)
        assert [problem.path for problem in backup.problems if problem.kind == "lost"] == [gone]
        assert backup.stats.added_bytes > 500_000


class TestVerification:
    @pytest.mark.parametrize("read_data", [False, True])
    @pytest.mark.parametrize("prefix", ["packs/", "meta/", "index/"])
    def test_nothing_is_called_missing(self, store: WriteOnce, prefix: str, read_data: bool) -> None:
        with opened(store) as freezer:
            expected = freezer.verify(read_data=read_data)
        for keep in (0, 1):
            with opened(cut(store, prefix, keep=keep)) as freezer:
                found = freezer.verify(read_data=read_data)
                chosen = freezer.verify(freezer.find_backup(name="first").id, read_data=read_data)
            assert found.ok
            assert chosen.ok
            assert found.blobs == expected.blobs  # what is not listed is read too

    def test_a_pack_that_is_gone_is_called_so(self, store: WriteOnce) -> None:
        gone = next(name for name in store.content() if name.startswith("packs/"))
        MemoryStorage.delete(store, gone)
        with opened(cut(store, "packs/")) as freezer:
            assert not freezer.verify().ok


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("prefix", ["index/", "packs/", "meta/"])
def test_restores_find_everything(store: WriteOnce, source: Path, tmp_path: Path, prefix: str, keep: int) -> None:
    with opened(cut(store, prefix, keep=keep)) as freezer:
        for name in ("first", "third"):
            result = freezer.restore(freezer.find_backup(name=name).id, tmp_path / name)
            assert result.status is Status.COMPLETE
            compare(source, tmp_path / name)


class Away(FaultyStorage):
    """Behind a network, where a cache remembers."""

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(conditional_put=True, persistent=False)


class TestBackups:
    def away(self, storage: MemoryStorage, *prefixes: str) -> Away:
        faults = [Fault(nothing, methods={"list"}, prefix=each, when="short", times=None) for each in prefixes]
        return Away(storage, *faults)

    def test_those_that_this_machine_knows_are_not_called_absent(
        self, store: WriteOnce, source: Path, tmp_path: Path
    ) -> None:
        cache = str(tmp_path / "cache")
        with opened(self.away(store), cache=cache) as freezer:
            known = freezer.backup(source, name="known")
        with opened(self.away(store, "backups/"), cache=cache) as freezer:
            assert [problem.kind for problem in freezer.problems] == []  # nothing was set back
            calls: tuple[Callable[[], object], ...] = (
                freezer.backups,
                lambda: freezer.find_backup(known.id),
                lambda: freezer.forget(known.id),
                lambda: freezer.restore(known.id, tmp_path / "out"),
            )
            for call in calls:
                with pytest.raises(StorageUnavailable, match="lists only a part"):
                    call()
            assert freezer.backup(source, name="new").parent == known.id

    def test_those_that_this_process_has_seen_are_not_called_absent(self, store: WriteOnce) -> None:
        missing: set[str] = set()

        class Forgetful(FaultyStorage):
            def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
                return (info for info in super().list(prefix, delimiter=delimiter) if info.name not in missing)

        with opened(Forgetful(store)) as freezer:
            (first, *_others) = freezer.backups()
            missing.add(backup_name(first.time, first.id))
            for _ in range(2):
                with pytest.raises(StorageUnavailable):
                    freezer.backups()
            MemoryStorage.delete(store, missing.pop())
            assert first.id not in {backup.id for backup in freezer.backups()}

    def test_a_listing_that_may_lag_is_made_good(self, store: WriteOnce, source: Path, tmp_path: Path) -> None:
        from datetime import timedelta

        class Lagging(Away):
            @property
            def capabilities(self) -> Capabilities:
                return Capabilities(conditional_put=True, persistent=False, listing_lag=timedelta(milliseconds=1))

        fault = Fault(nothing, methods={"list"}, prefix="backups/", when="short", keep=0, times=None)
        cache = str(tmp_path / "cache")
        with opened(self.away(store), cache=cache) as freezer:
            known = freezer.backup(source, name="known")
        with opened(Lagging(store, fault), cache=cache) as freezer:
            assert [backup.id for backup in freezer.backups()] == [known.id]

    def test_one_of_a_given_id_is_not_stored_over_another(self, store: WriteOnce, source: Path) -> None:
        with opened(store) as freezer:
            first = freezer.find_backup(name="first")
        before = store.content()
        options = BackupOptions(name="x", host="h", id=first.id, time=first.time)
        with (
            opened(cut(store, "backups/")) as freezer,
            FilesystemMode(paths=(str(source),)).protect() as protected,
            pytest.raises(RepositoryError, match="already"),
        ):
            store_in(freezer, protected, options)
        assert store.content().items() >= before.items()

    def test_a_copy_that_is_there_is_not_made_again(self, store: WriteOnce, source: Path) -> None:
        target = WriteOnce(conditional=store.capabilities.conditional_put)
        create_repository(target, password=PASSWORD, kdf=CHEAP)
        with opened(store) as freezer, opened(target) as other:
            other.copy(freezer)
        names: Collection[str] = target.content().keys()
        with opened(store) as freezer, opened(cut(target, "backups/")) as other:
            assert {result.outcome for result in other.copy(freezer)} == {CopyOutcome.PRESENT}
        assert target.content().keys() == names
        assert target.harm == []

    def test_forgetting_twice_overwrites_nothing(self, store: WriteOnce) -> None:
        keys = open_repository(store, lambda: PASSWORD)
        forgotten = next(name for name in store.content() if name.startswith("forgotten/"))
        before = store.content()
        write_tombstone(cut(store, "forgotten/"), keys, forgotten.removeprefix("forgotten/"))
        assert store.content() == before


def store_in(freezer: Freezer, protected: Protected, options: BackupOptions) -> None:
    freezer._opened().backup(protected, options, Context(events=lambda event: None))


@pytest.fixture(autouse=True)
def _warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="freezer_sdk")


def test_the_names_used_here_are_those_of_the_format() -> None:
    assert pack_name(Kind.DATA, bytes(32)).startswith("packs/")
    assert pack_name(Kind.META, bytes(32)).startswith("meta/")
