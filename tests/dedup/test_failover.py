"""Restores that take from another repository what their own cannot give."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dedup.test_same_id import ID, store
from dedup.two import CHEAP, PASSWORD, Two, assert_restores, settle, two
from trees import compare, make_every_kind

from freezer_sdk import BackupNotFound, Event, Freezer, IntegrityError, RestoreResult, Status, StorageUnavailable
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage


@pytest.fixture(params=["alike", "other keys"])
def both(request: pytest.FixtureRequest) -> Iterator[Two]:
    yield from two(request.param)


@pytest.fixture
def stored(both: Two, tree: Path) -> str:
    backup = both.source.backup(tree, name="tree")
    both.copy()
    return backup.id


def lose(storage: Storage, *prefixes: str, keep: Callable[[int], bool] = lambda number: False) -> int:
    names = [info.name for prefix in prefixes for info in storage.list(prefix)]
    lost = [name for number, name in enumerate(names) if not keep(number)]
    storage.delete_many(lost)
    return len(lost)


def spoil(storage: Storage, prefix: str, *, at: int = 600) -> None:
    for info in list(storage.list(prefix)):
        data = bytearray(storage.get(info.name))
        data[at % len(data)] ^= 1
        storage.put(info.name, [data])


def reopened(storage: Storage) -> Freezer:
    """Knows nothing of what was read before."""
    return Freezer(storage, password=PASSWORD)


def restore(pair: Two, backup: str, out: Path, **options: object) -> tuple[RestoreResult, list[Event]]:
    events: list[Event] = []
    with reopened(pair.source_storage) as source:
        result = source.restore(backup, out, others=[pair.target], events=events.append, **options)  # type: ignore[arg-type]
    return result, events


def assert_whole(result: RestoreResult, events: list[Event], source: Path, out: Path) -> None:
    assert result.status is Status.COMPLETE, result.problems
    assert result.problems
    assert {(problem.kind, problem.fatal) for problem in result.problems} == {("fallback", False)}
    assert [event.problem for event in events if event.problem] == list(result.problems)
    compare(source, out)
    files = [path for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    assert result.files == len(files)
    assert result.directories == 1 + sum(path.is_dir() and not path.is_symlink() for path in source.rglob("*"))
    assert result.bytes == sum(path.stat().st_size for path in files)


def test_nothing_is_read_elsewhere_while_all_is_well(both: Two, stored: str, tree: Path, tmp_path: Path) -> None:
    begin = len(both.target_storage.calls)
    result, _events = restore(both, stored, tmp_path / "out")
    assert result.problems == ()
    compare(tree, tmp_path / "out")
    methods = {call.method for call in both.target_storage.calls[begin:]}
    assert not methods & {"get", "open", "put", "upload"}


@pytest.mark.parametrize("harm", ["lost", "spoilt", "half"])
def test_contents_come_from_elsewhere(both: Two, stored: str, tree: Path, tmp_path: Path, harm: str) -> None:
    if harm == "spoilt":
        spoil(both.source_storage, "packs/")
    else:
        assert lose(both.source_storage, "packs/", keep=lambda number: harm == "half" and number % 2 == 0)
    result, events = restore(both, stored, tmp_path / "out")
    assert_whole(result, events, tree, tmp_path / "out")


@pytest.mark.parametrize("harm", ["meta/", "index/", "packs/ meta/", "backups/"])
def test_directories_indexes_and_commits_come_from_elsewhere(
    both: Two, stored: str, tree: Path, tmp_path: Path, harm: str
) -> None:
    lose(both.source_storage, *harm.split())
    result, events = restore(both, stored, tmp_path / "out")
    if harm == "index/":  # the packs' own tables say the same
        assert result.problems == ()
        compare(tree, tmp_path / "out")
        return
    assert_whole(result, events, tree, tmp_path / "out")


def test_a_commit_that_is_damaged(both: Two, stored: str, tree: Path, tmp_path: Path) -> None:
    spoil(both.source_storage, "backups/")
    result, events = restore(both, stored, tmp_path / "out")
    assert_whole(result, events, tree, tmp_path / "out")
    assert any(both.target.location in problem.message for problem in result.problems)


def three_runs(pair: Two, source: Path, second: Path, third: Path) -> tuple[str, str]:
    """The last of three runs, and the pack with the pages that the second one changed and the third did not."""
    settle()
    pair.source.backup(source, name="s")
    known = {info.name for info in pair.source_storage.list("meta/")}
    second.write_bytes(b"second")
    settle()
    pair.source.backup(source, name="s")
    (pack,) = {info.name for info in pair.source_storage.list("meta/")} - known
    third.write_bytes(b"third")
    settle()
    backup = pair.source.backup(source, name="s")
    pair.copy()
    return backup.id, pack


def test_one_damaged_directory_among_many(both: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(5):
        (source / f"d{number}" / "below").mkdir(parents=True)
        (source / f"d{number}" / "below" / "file").write_bytes(os.urandom(1000))
    backup, pack = three_runs(both, source, source / "d3" / "below" / "more", source / "d1" / "more")
    both.source_storage.delete(pack)
    alone = reopened(both.source_storage).restore(backup, tmp_path / "alone")
    assert [problem.path for problem in alone.problems] == [str(source / "d3")]
    result, events = restore(both, backup, tmp_path / "out")
    assert_whole(result, events, source, tmp_path / "out")


def test_a_large_directory_of_which_a_part_is_damaged(both: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "large").mkdir(parents=True)
    for number in range(4000):
        (source / "large" / f"file-{number}").write_bytes(b"%d" % number)
    backup, pack = three_runs(both, source, source / "large" / "file-999", source / "other")
    both.source_storage.delete(pack)
    alone = reopened(both.source_storage).restore(backup, tmp_path / "alone")
    assert 1 < alone.files < 4001
    result, events = restore(both, backup, tmp_path / "out")
    assert_whole(result, events, source, tmp_path / "out")


@pytest.mark.root
@pytest.mark.parametrize("harm", ["packs/", "meta/", "gone"])
def test_every_kind_of_entry(both: Two, tmp_path: Path, harm: str) -> None:
    source = tmp_path / "source"
    make_every_kind(source)
    settle()
    backup = both.source.backup(source, name="s")
    both.copy()
    if harm == "gone":
        freezer, _cable = cut(both.source_storage, "packs/")
        result = freezer.restore(backup.id, tmp_path / "out", others=[both.target])
    else:
        lose(both.source_storage, harm)
        result, _events = restore(both, backup.id, tmp_path / "out")
    assert result.status is Status.COMPLETE, result.problems
    compare(source, tmp_path / "out")


def test_a_file_whose_parts_are_whole_in_different_places(alike: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    content = random.Random(1).randbytes(6 << 20)
    packs: list[set[str]] = []
    for size in (3 << 20, 6 << 20):
        (source / "image").write_bytes(content[:size])
        settle()
        backup = alike.source.backup(source, name="s")
        alike.target.copy(alike.source)
        packs += [
            {info.name for info in storage.list("packs/")} for storage in (alike.source_storage, alike.target_storage)
        ]
    alike.source_storage.delete_many(packs[0])
    alike.target_storage.delete_many(packs[3] - packs[1])
    for freezer in (alike.source, alike.target):
        assert freezer.restore(backup.id, tmp_path / freezer.info().id).status is Status.PARTIAL
    result, events = restore(alike, backup.id, tmp_path / "out")
    assert_whole(result, events, source, tmp_path / "out")


class Cut:
    """A cable that is cut when a number of calls have passed."""

    def __init__(self, after: int = 0) -> None:
        self.left, self.calls = after, 0
        self.ready = False

    def __call__(self, call: object) -> None:
        if self.ready:
            self.calls += 1
            if self.calls > self.left:
                raise StorageUnavailable("the cable is cut")


def cut(storage: Storage, prefix: str = "", *, after: int = 0, methods: str = "get") -> tuple[Freezer, Cut]:
    """A repository that is open when its storage goes away."""
    cable = Cut(after)
    fault = Fault(cable, times=None, methods=methods.split(), prefix=prefix)
    freezer = Freezer(FaultyStorage(storage, fault), password=PASSWORD)
    cable.ready = True
    return freezer, cable


@pytest.mark.parametrize("after", [0, 1, 3, 5, 8])
def test_a_storage_that_goes_away_in_the_middle(both: Two, stored: str, tree: Path, tmp_path: Path, after: int) -> None:
    events: list[Event] = []
    source, cable = cut(both.source_storage, after=after, methods="get list")
    with source:
        result = source.restore(stored, tmp_path / "out", others=[both.target], events=events.append)
        assert_whole(result, events, tree, tmp_path / "out")
        assert cable.calls > after
        with pytest.raises(StorageUnavailable):
            source.restore(stored, tmp_path / "alone")


def test_a_storage_that_is_gone_is_not_asked_for_every_file(both: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"f{number}").write_bytes(os.urandom(600_000))
    backup = both.source.backup(source, name="s")
    both.copy()
    freezer, cable = cut(both.source_storage, "packs/")
    with freezer:
        result = freezer.restore(backup.id, tmp_path / "out", others=[both.target])
    assert result.status is Status.COMPLETE
    compare(source, tmp_path / "out")
    assert cable.calls <= 4, "more than were under way at once"


def test_the_second_other_has_what_the_first_one_lacks(tree: Path, tmp_path: Path) -> None:
    storages = [MemoryStorage() for _ in range(3)]
    for storage in storages:
        create_repository(storage, password=PASSWORD, kdf=CHEAP)
    options = {"pack_size": "1M"}
    first, second, third = (Freezer(each, password=PASSWORD, engine_options=options) for each in storages)
    backup = first.backup(tree, name="t")
    for freezer in (second, third):
        freezer.copy(first)
    lose(storages[0], "packs/")
    lose(storages[1], "packs/", keep=lambda number: number == 0)
    result = first.restore(backup.id, tmp_path / "out", others=[second, third])
    assert result.status is Status.COMPLETE, result.problems
    compare(tree, tmp_path / "out")
    nobody = first.restore(backup.id, tmp_path / "none", others=[second])
    assert nobody.status is Status.PARTIAL
    assert {problem.kind for problem in nobody.problems if problem.fatal} == {"damaged"}
    for freezer in (first, second, third):
        freezer.close()


def test_a_backup_that_is_only_elsewhere(both: Two, tree: Path, tmp_path: Path) -> None:
    backup = both.target.backup(tree, name="tree")
    with pytest.raises(BackupNotFound):
        both.source.restore(backup.id, tmp_path / "out")
    result = both.source.restore(backup.id, tmp_path / "out", others=[both.target])
    assert result.status is Status.COMPLETE
    assert [problem.kind for problem in result.problems] == ["fallback"]
    compare(tree, tmp_path / "out")


def test_others_that_do_not_have_the_backup_change_nothing(both: Two, tree: Path, tmp_path: Path) -> None:
    backup = both.source.backup(tree, name="tree")
    lose(both.source_storage, "packs/")
    result, _events = restore(both, backup.id, tmp_path / "out")
    assert result.status is Status.PARTIAL
    alone = reopened(both.source_storage).restore(backup.id, tmp_path / "alone")
    assert sorted(problem.path for problem in result.problems) == sorted(problem.path for problem in alone.problems)
    assert result.files == alone.files


def test_chosen_paths_and_deletions(both: Two, tree: Path, tmp_path: Path) -> None:
    backup = both.source.backup(tree, name="tree")
    both.copy()
    lose(both.source_storage, "packs/", "meta/")
    result, _events = restore(both, backup.id, tmp_path / "part", paths=["d1", "d2/e0"], exclude=["f1-1*"])
    reference = both.target.restore(backup.id, tmp_path / "reference", paths=["d1", "d2/e0"], exclude=["f1-1*"])
    assert result.status is Status.COMPLETE
    for name in ("d1", "d2"):
        compare(tmp_path / "reference" / name, tmp_path / "part" / name)
    assert (result.files, result.directories) == (reference.files, reference.directories)
    shutil.copytree(tree, tmp_path / "out", symlinks=True)
    (tmp_path / "out" / "d1" / "extra").write_bytes(b"x")
    changed = next(path for path in (tmp_path / "out" / "d2").rglob("f*") if path.stat().st_size)
    changed.write_bytes(b"changed")
    result, _events = restore(both, backup.id, tmp_path / "out", delete=True, overwrite="always")
    assert result.status is Status.COMPLETE, result.problems
    assert result.deleted == 1
    compare(tree, tmp_path / "out")


def test_what_a_run_into_both_stored_counts_as_the_same_backup(tree: Path, tmp_path: Path) -> None:
    storages = [MemoryStorage(), MemoryStorage()]
    for storage in storages:
        with DedupEngine().create(storage, password=lambda: None, encryption=False) as repository:
            store(repository, tree)
    lose(storages[0], "packs/")
    with Freezer(storages[0]) as first, Freezer(storages[1]) as second:
        result = first.restore(ID, tmp_path / "out", others=[second])
        assert result.status is Status.COMPLETE
        compare(tree, tmp_path / "out")


def test_verify_looks_at_one_repository_only(both: Two, stored: str) -> None:
    lose(both.source_storage, "packs/")
    with reopened(both.source_storage) as source:
        assert not source.verify(read_data=True).ok


# -- reading one file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [-1, 1000, 1 << 20])
@pytest.mark.parametrize("harm", ["packs/", "meta/", "backups/", "half", "gone"])
def test_a_file_is_read_from_elsewhere(both: Two, tmp_path: Path, harm: str, size: int) -> None:
    source = tmp_path / "source"
    source.mkdir()
    content = random.Random(1).randbytes(5 << 20)
    (source / "image").write_bytes(content)
    settle()
    backup = both.source.backup(source, name="s")
    both.copy()
    freezer, _cable = cut(both.source_storage, "packs/" if harm == "gone" else "none", after=3)
    if harm == "half":
        lose(both.source_storage, "packs/", keep=lambda number: number % 2 == 0)
    elif harm != "gone":
        lose(both.source_storage, harm)
    with freezer, freezer.open(backup.id, "image", others=[both.target]) as reader:
        pieces = [reader.read()] if size < 0 else list(iter(lambda: reader.read(size), b""))
    assert b"".join(pieces) == content


def test_another_state_of_a_file_is_not_mixed_in(others: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    storages = [MemoryStorage(), MemoryStorage()]
    for number, storage in enumerate(storages):
        (source / "file").write_bytes(bytes([number]) * 3_000_000)
        time.sleep(0.05)
        create_repository(storage, password=None)
        with DedupEngine(pack_size=1 << 20).open(storage, password=lambda: None) as repository:
            store(repository, source)
    lose(storages[0], "packs/")
    with (
        Freezer(storages[0]) as first,
        Freezer(storages[1]) as second,
        first.open(ID, "file", others=[second]) as reader,
        pytest.raises(IntegrityError),
    ):
        reader.read()


def test_copies_are_whole_after_all(both: Two, stored: str, tree: Path, tmp_path: Path) -> None:
    assert_restores(both.target, stored, tree, tmp_path / "out")
