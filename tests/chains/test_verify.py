"""Verification of chains: what is missing or changed is named, and so is every backup that it harms."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from chains.shelf import Part, Shelf, directory, file

from freezer_sdk import Backup, Freezer
from freezer_sdk.engines.base import Context
from freezer_sdk.errors import BackupNotFound, Cancelled, WrongPassword
from freezer_sdk.model import Event, Status, VerifyResult
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.streams.cancel import CancelToken

needs_tar = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


def verify(shelf: Shelf, *levels: int, read_data: bool = True, context: Context | None = None) -> VerifyResult:
    repository = shelf.repository()
    chosen = [each.id for each in repository.backups() if each.level in levels]
    return repository.verify(chosen, read_data=read_data, context=context or Context())


@pytest.fixture
def shelf() -> Shelf:
    made = Shelf()
    made.add(0, [directory(b"."), file(b"a", 4)], [Part(b"a", b"aaaa")])
    made.add(1, [directory(b"."), file(b"a", 4), file(b"b", 4)], [Part(b"b", b"bbbb")])
    made.add(2, [directory(b"."), file(b"b", 4), file(b"c", 4)], [Part(b"c", b"cccc")])
    return made


def test_all_is_well(shelf: Shelf) -> None:
    result = verify(shelf)
    assert result.ok
    assert not result.problems
    assert result.backups == 3
    assert result.objects == 9
    assert result.bytes_read == sum(item.size for item in shelf.storage.list() if item.name.endswith("/data"))


@pytest.mark.parametrize("read_data", [False, True])
def test_a_stream_that_is_missing(shelf: Shelf, read_data: bool) -> None:
    name = next(item.name for item in shelf.storage.list() if "/1_" in item.name and item.name.endswith("/data"))
    shelf.storage.delete(name)
    result = verify(shelf, read_data=read_data)
    assert (name, "missing") in {(problem.path, problem.kind) for problem in result.problems}
    assert not result.ok


def test_a_level_that_is_missing(shelf: Shelf) -> None:
    shelf.storage.delete(next(item.name for item in shelf.storage.list("metadata/") if "/1_" in item.name))
    result = verify(shelf, read_data=False)
    assert [problem.message for problem in result.problems if problem.fatal] == [
        "needs level 1 of its chain, which is not there"
    ]
    assert any(problem.kind == "leftover" and not problem.fatal for problem in result.problems)
    assert verify(shelf, 0).ok


def test_damage_is_told_for_each_backup_that_needs_it(shelf: Shelf) -> None:
    name = next(item.name for item in shelf.storage.list() if "/1_" in item.name and item.name.endswith("/data"))
    whole = shelf.storage.get(name)
    shelf.storage.put(name, [whole[: len(whole) // 2]])
    assert verify(shelf, read_data=False).ok
    result = verify(shelf)
    ids = {each.level: each.id[:8] for each in shelf.backups()}
    affected = {problem.path.partition(":")[0] for problem in result.problems if problem.fatal}
    assert affected == {ids[1], ids[2]}
    assert f"{ids[2]}:b" in {problem.path for problem in result.problems}
    assert verify(shelf, 0).ok


def test_a_backup_that_is_not_there(shelf: Shelf) -> None:
    with pytest.raises(BackupNotFound):
        shelf.repository().verify(["0" * 32], read_data=False, context=Context())


def test_cancelling(shelf: Shelf) -> None:
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(Cancelled):
        verify(shelf, context=Context(cancel=cancel))


def test_a_wrong_password_is_no_damage() -> None:
    shelf = Shelf(password="right")
    shelf.add(0, [directory(b".")])
    (backup,) = shelf.backups()
    for password in ("wrong", None):
        other = Shelf(storage=shelf.storage, password=password).repository()
        with pytest.raises(WrongPassword):
            other.verify([backup.id], read_data=True, context=Context())


def test_problems_are_told_as_they_are_found(shelf: Shelf) -> None:
    shelf.damage(next(item.name for item in shelf.storage.list("data/") if item.name.endswith("/data")))
    told: list[Event] = []
    result = verify(shelf, context=Context(events=told.append))
    assert [event.problem for event in told if event.kind == "problem"] == list(result.problems)


# -- with records ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[None, "password"])
def freezer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Freezer]:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"a" * 5000)
    with Freezer.create(
        MemoryStorage(),
        engine="tar",
        password=request.param,
        encryption=request.param is not None,
        engine_options={"max_level": 3},
    ) as made:
        for name in "bcd":
            made.backup([source], name="name", host="host")
            (source / name).write_bytes(name.encode() * 5000)
        yield made


def storage_of(freezer: Freezer) -> MemoryStorage:
    storage = freezer._place.repository.store.storage  # type: ignore[attr-defined]
    while not isinstance(storage, MemoryStorage):
        storage = storage._storage
    return storage


def levels(freezer: Freezer) -> dict[int | None, Backup]:
    return {each.level: each for each in freezer.backups()}


@needs_tar
def test_what_we_wrote_is_whole(freezer: Freezer) -> None:
    assert sorted(level for level in levels(freezer) if level is not None) == [0, 1, 2]
    assert freezer.verify().ok
    result = freezer.verify(read_data=True)
    assert result.ok
    assert not result.problems


@needs_tar
@pytest.mark.parametrize("part", ["data", "engine_metadata", "metadata", "record"])
def test_every_flipped_bit_is_found(freezer: Freezer, part: str) -> None:
    """Whatever the compressor would let pass: the record knows what was stored."""
    storage = storage_of(freezer)
    name = next(item.name for item in storage.list() if "/1_" in item.name and item.name.endswith(f"/{part}"))
    whole = storage.get(name)
    plain = part == "record" and "sealed" not in name  # another digit in it is as good as the one before
    for at in {0} if plain else {0, 4, 9, len(whole) // 2, len(whole) - 1}:
        data = bytearray(whole)
        data[at] ^= 1
        storage.put(name, [bytes(data)])
        result = freezer.verify(read_data=True)
        assert not result.ok, at
        assert any(name in problem.path or "1_" in problem.path for problem in result.problems), result.problems
    storage.put(name, [whole])
    assert freezer.verify(read_data=True).ok


@needs_tar
@pytest.mark.parametrize("part", ["data", "engine_metadata"])
@pytest.mark.parametrize("left", [-1, 0])
def test_a_size_is_compared_without_reading(freezer: Freezer, part: str, left: int) -> None:
    storage = storage_of(freezer)
    name = next(item.name for item in storage.list() if "/1_" in item.name and item.name.endswith(f"/{part}"))
    storage.put(name, [storage.get(name)[:left]])
    result = freezer.verify()
    assert [problem.path for problem in result.problems] == [name]


@needs_tar
def test_a_sealed_level_has_a_record(freezer: Freezer) -> None:
    """Without one, a level is the original's: it seals nothing."""
    storage = storage_of(freezer)
    name = next(item.name for item in storage.list() if "/1_" in item.name and item.name.endswith("/record"))
    storage.delete(name)
    sealed = "-sealed/" in name
    result = freezer.verify(read_data=True)
    assert [problem.path for problem in result.problems if problem.fatal] == [name] * sealed
    assert levels(freezer)[1].status is (Status.DAMAGED if sealed else Status.COMPLETE)


@needs_tar
def test_a_level_whose_metadata_is_lost_is_told(freezer: Freezer) -> None:
    """It is recorded as whole, so that nobody is at work on it."""
    storage = storage_of(freezer)
    names = [item.name for item in storage.list("metadata/") if item.name.endswith("/metadata")]
    name = next(name for name in names if "/2_" in name)
    content = storage.get(name)
    storage.delete(name)
    result = freezer.verify()
    assert [(each.path, each.kind) for each in result.problems if each.fatal] == [(name, "missing")]
    storage.put(name.replace("metadata/", "freezer-sdk/", 1).removesuffix("metadata") + "started", [b"{}"])
    assert [(each.kind, each.fatal) for each in freezer.verify().problems] == [("leftover", False)]
    storage.put(name, [content])
    assert freezer.verify().ok


@needs_tar
def test_a_damaged_record_does_not_stop_a_restore(freezer: Freezer, tmp_path: Path) -> None:
    storage = storage_of(freezer)
    name = next(item.name for item in storage.list() if "/2_" in item.name and item.name.endswith("/record"))
    storage.put(name, [storage.get(name)[:-5]])
    (damaged,) = (each for each in freezer.backups() if each.status is Status.DAMAGED)
    assert damaged.level == 2
    assert [problem.path for problem in damaged.problems] == [name]
    assert not damaged.measured
    freezer.restore(damaged.id, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "c"]


@needs_tar
def test_every_level_restores_and_streams(freezer: Freezer, tmp_path: Path) -> None:
    for level, names in enumerate(["a", "ab", "abc"]):
        backup = levels(freezer)[level]
        result = freezer.restore(backup.id, tmp_path / str(level))
        assert result.status is Status.COMPLETE
        assert sorted(path.name for path in (tmp_path / str(level)).iterdir()) == list(names)
        with freezer.open(backup.id, "a") as reader:
            assert reader.read() == b"a" * 5000


@needs_tar
def test_a_single_file(tmp_path: Path) -> None:
    source = tmp_path / "a file"
    source.write_bytes(b"content")
    with Freezer.create(MemoryStorage(), engine="tar", encryption=False) as freezer:
        backup = freezer.backup([source], name="name", host="host")
        assert backup.paths == (str(source),)
        assert [entry.path for entry in freezer.entries(backup.id)] == [str(source).encode()]
        with freezer.open(backup.id, str(source)) as reader:
            assert reader.read() == b"content"
        freezer.restore(backup.id, tmp_path / "out")
        assert (tmp_path / "out/a file").read_bytes() == b"content"
        freezer.restore(backup.id, tmp_path / "chosen", paths=["a file"])
        assert (tmp_path / "chosen/a file").read_bytes() == b"content"
