"""When it is not certain what backups need, nothing is deleted."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import pytest
from dedup.two import settle
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

from freezer_sdk import Backup, FreezerError, IntegrityError, StorageUnavailable
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.layout import digest_of
from freezer_sdk.testing import Fault, FaultyStorage, damage, nothing


class Repository:
    """Three backups, one of them forgotten and marked, and the mark is due."""

    def __init__(self, base: Path) -> None:
        self.base, self.storage = base, Clocked()
        new_repository(self.storage)
        with opened(self.storage) as freezer:
            made = {
                name: freezer.backup(write_files(base / name, seed=seed), name=name, force_read=True)
                for seed, name in enumerate("abc")
            }
            freezer.forget(made.pop("b").id)
            self.storage.pass_time(60)
            freezer.maintenance.prune()
        self.storage.pass_time()
        self.kept: dict[str, Backup] = made
        self.start, self.offset = self.storage.save(), self.storage.offset

    def reset(self) -> None:
        self.storage.load(self.start)
        self.storage.offset = self.offset

    def names(self, *prefixes: str) -> list[str]:
        return sorted(name for name in self.storage.content() if name.startswith(prefixes))

    def assert_kept(self, out: Path) -> None:
        with opened(self.storage) as freezer:
            for name, backup in self.kept.items():
                assert restored(freezer, backup, out / name) == content(self.base / name)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    return Repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture
def repository(made: Repository) -> Repository:
    made.reset()
    return made


def lost(before: Collection[str], storage: Clocked) -> set[str]:
    return {name for name in set(before) - storage.content().keys() if name.startswith(("packs/", "meta/", "backups/"))}


@pytest.mark.parametrize(
    "prefix", ["backups/", "index/", "meta/", "config/", "copies/", "keys/", "marks/", "forgotten/"]
)
@pytest.mark.parametrize("offset", [10, -1])
def test_one_flipped_bit_then_prune(repository: Repository, tmp_path: Path, prefix: str, offset: int) -> None:
    """Whatever is damaged: what was whole is there afterwards, and is restored when the damage is mended."""
    storage = repository.storage
    needed = set(repository.names("packs/", "meta/", "backups/"))
    for number, name in enumerate(repository.names(prefix)):
        repository.reset()
        whole = storage.get(name)
        damage(storage, name, offset=offset)
        for _ in range(2):
            with suppress(FreezerError):
                prune(storage, max_waste=0)
            storage.pass_time()
        marked = {pack.hex() for mark in protocol.read_marks(storage, keys_of(storage)).marks for pack in mark.packs}
        assert not {
            name for name in lost(needed, storage) if name.rsplit("/", 1)[-1] not in marked | garbage(repository)
        }
        if prefix not in ("marks/", "forgotten/") and name in storage.content():
            storage.put(name, [whole])
        repository.assert_kept(tmp_path / str(number))


def garbage(repository: Repository) -> set[str]:
    """What only the forgotten backup needs: all that was marked in the beginning, and its commit."""
    now = repository.storage.save()
    repository.storage.load(repository.start)
    keys = keys_of(repository.storage)
    names = {pack.hex() for mark in protocol.read_marks(repository.storage, keys).marks for pack in mark.packs}
    forgotten = protocol.forgotten(repository.storage, keys)
    names |= {name.rsplit("/", 1)[-1] for name in repository.names("backups/") if name[-32:] in forgotten}
    repository.storage.load(now)
    return names


def test_a_commit_that_cannot_be_read_stops_everything(repository: Repository) -> None:
    storage = repository.storage
    keep = next(name for name in repository.names("backups/") if name.endswith(repository.kept["a"].id))
    damage(storage, keep, offset=200)
    before = storage.content().keys()
    with pytest.raises(IntegrityError, match="cannot be read") as caught:
        prune(storage)
    assert "freezer backup delete" in (caught.value.hint or "")
    assert lost(before, storage) == set()
    assert not any("/decided-" in name for name in storage.content())
    protocol.write_tombstone(storage, keys_of(storage), repository.kept["a"].id)
    assert prune(storage).freed_packs


def test_a_pack_that_is_needed_and_gone_stops_everything(repository: Repository) -> None:
    storage = repository.storage
    keys = keys_of(storage)
    condemned = protocol.read_marks(storage, keys).condemned
    victim = next(name for name in repository.names("packs/") if digest_of(name) not in condemned)
    storage.delete(victim)
    before = storage.content().keys()
    with pytest.raises(IntegrityError, match="not whole"):
        prune(storage)
    assert lost(before, storage) == set()


def test_a_backup_that_vanished_stops_everything_until_it_is_given_up(repository: Repository) -> None:
    storage = repository.storage
    assert prune(storage).freed_packs
    name = next(name for name in repository.names("backups/") if name.endswith(repository.kept["a"].id))
    storage.delete(name)
    storage.pass_time()
    before = storage.content().keys()
    with pytest.raises(IntegrityError, match="nobody has forgotten it"):
        prune(storage)
    assert lost(before, storage) == set()
    assert not any(name.startswith("marks/") for name in storage.content().keys() - before)
    assert prune(storage, forget_missing=True).marked_packs
    storage.pass_time()
    assert prune(storage).freed_packs
    with opened(storage) as freezer:
        assert [backup.name for backup in freezer.backups()] == ["c"]
        assert_whole(freezer)


@pytest.mark.parametrize("keep", [0, 1, 3])
@pytest.mark.parametrize(
    "prefix", ["backups/", "index/", "packs/", "meta/", "leases/", "marks/", "sweeps/", "forgotten/", ""]
)
def test_listings_that_end_too_early(repository: Repository, tmp_path: Path, prefix: str, keep: int) -> None:
    storage = repository.storage
    cut = FaultyStorage(storage, Fault(nothing, methods={"list"}, prefix=prefix, when="short", keep=keep, times=None))
    for _ in range(3):
        with suppress(IntegrityError, StorageUnavailable):
            prune(cut, max_waste=0)
        storage.pass_time()
    with opened(storage) as freezer:
        assert_whole(freezer)
        assert {backup.id for backup in freezer.backups()} == {backup.id for backup in repository.kept.values()}
    repository.assert_kept(tmp_path / "out")
    for _ in range(3):
        result = prune(storage)
        storage.pass_time()
    assert storage.bytes_below("packs/", "meta/") <= 1.1 * result.needed_bytes


def test_a_dry_run_writes_nothing(repository: Repository) -> None:
    storage = repository.storage
    before = storage.content()
    calls = FaultyStorage(storage)
    told = prune(calls, dry_run=True, max_waste=0)
    assert storage.content() == before
    assert {call.method for call in calls.calls} <= {"get", "list", "stat", "now"}
    done = prune(storage, max_waste=0)
    assert told.freed_packs
    assert (told.freed_packs, told.freed_bytes, told.released_backups, told.backups) == (
        done.freed_packs,
        done.freed_bytes,
        done.released_backups,
        done.backups,
    )


def test_a_damaged_pack_that_is_needed_is_not_thrown_away(tmp_path: Path) -> None:
    """Half of it is of no use and it should be written anew, but a part of what is needed cannot be read."""
    storage = Clocked()
    new_repository(storage)
    needed = write_files(tmp_path / "needed", seed=1, files=6)
    with opened(storage) as freezer:
        both = freezer.backup([needed, write_files(tmp_path / "more", seed=2, files=6)], name="both", force_read=True)
        kept = freezer.backup(needed, name="kept", force_read=True)
        freezer.forget(both.id)
        packs = [name for name in storage.content() if name.startswith("packs/")]
        for name in packs:
            damage(storage, name, offset=300)
        for _ in range(4):
            storage.pass_time()
            result = freezer.maintenance.prune(max_waste=0)
        assert {problem.path for problem in result.problems} & set(packs)
        for name in set(packs) & storage.content().keys():
            damage(storage, name, offset=300)  # as it was
        assert restored(freezer, kept, tmp_path / "out") == content(needed)


def test_packs_that_nothing_can_read_stay(repository: Repository) -> None:
    """A pack without a readable table that no index names: perhaps somebody can still save what is in it."""
    storage = repository.storage
    name = "packs/00/" + "00" * 32
    storage.put(name, [b"FZSG" + bytes(1000)])
    for _ in range(3):
        storage.pass_time()
        result = prune(storage)
    assert name in storage.content()
    assert [problem.path for problem in result.problems] == [name]


@pytest.mark.parametrize("how", ["gone", "cut short"])
def test_a_copy_that_is_not_there_does_not_count(tmp_path: Path, how: str) -> None:
    """The blobs of a marked pack were stored again, and the other pack is lost: the marked one is saved."""
    storage = Clocked()
    new_repository(storage)
    source = write_files(tmp_path / "source", seed=1, files=4)
    settle()  # or pages say that the files may have changed since
    with opened(storage) as freezer:
        first = freezer.backup(source, name="first", force_read=True)
        packs = {name for name in storage.content() if name.startswith(("packs/", "meta/"))}
        protocol.write_mark(storage, keys_of(storage), [digest for name in packs if (digest := digest_of(name))])
        second = freezer.backup(source, name="second", force_read=True)
        again = {name for name in storage.content() if name.startswith(("packs/", "meta/"))} - packs
        assert len(again) == len(packs)
        for name in again:
            data = storage.get(name)
            storage.delete(name)
            if how == "cut short":
                storage.put(name, [data[: len(data) // 2]])
        for _ in range(3):
            storage.pass_time()
            freezer.maintenance.prune()
        for number, backup in enumerate((first, second)):
            assert restored(freezer, backup, tmp_path / str(number)) == content(source)
