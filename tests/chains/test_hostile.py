"""Stores made to get out of the target, or to make the program stumble."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from chains.shelf import Part, Shelf, directory, file, symlink

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.layout import LAST_TIME
from freezer_sdk.errors import IntegrityError, RestoreError, UnsupportedFormat
from freezer_sdk.model import Entry, EntryType, Overwrite, RestoreOptions, RestoreResult, Status

EVIL = b"root::0:0::/:/bin/sh\n"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A directory that nothing may reach, looked at again at the end."""
    path = tmp_path / "outside"
    path.mkdir(mode=0o700)
    (path / "file").write_bytes(b"precious")
    (path / "file").chmod(0o600)
    yield path
    assert sorted(os.listdir(path)) == ["file"]
    assert (path / "file").read_bytes() == b"precious"
    assert stat.S_IMODE((path / "file").stat().st_mode) == 0o600
    assert (path / "file").stat().st_nlink == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def evil(path: bytes, **facts: object) -> tuple[Entry, Part]:
    return file(path, len(EVIL), **facts), Part(path, EVIL)


def restored(tmp_path: Path, *levels: tuple[list[Entry], list[Part]], **options: object) -> RestoreResult:
    shelf = Shelf()
    for number, (tree, parts) in enumerate(levels):
        shelf.add(number, tree, parts)
    return shelf.restore(tmp_path / "target", level=len(levels) - 1, **options)


@pytest.mark.parametrize(
    "name",
    [
        b"../outside/file",
        b"a/../../outside/file",
        b"/outside/file",
        b"a//b",
        b"./a",
        b"a/.",
        b"..",
        b"",
        b"a\0b",
        b"a/",
    ],
)
def test_names_that_lead_elsewhere(tmp_path: Path, outside: Path, name: bytes) -> None:
    bad, part = evil(name)
    good, fine = evil(b"z")
    result = restored(tmp_path, ([directory(b"."), directory(b"a"), bad, good], [part, fine]))
    assert sorted(os.listdir(tmp_path / "target")) == ["a", "z"]
    assert os.listdir(tmp_path / "target/a") == []
    assert [problem.kind for problem in result.problems if problem.fatal] == ["unsafe_path"]


@pytest.mark.parametrize("kind", [EntryType.DIRECTORY, EntryType.SYMLINK, EntryType.FIFO])
def test_other_entries_with_such_names(tmp_path: Path, outside: Path, kind: EntryType) -> None:
    bad = Entry(path=b"../outside/new", type=kind, mode=0o777, link_target=b"x" if kind is EntryType.SYMLINK else None)
    result = restored(tmp_path, ([directory(b"."), bad], []))
    assert result.status is Status.PARTIAL
    assert os.listdir(tmp_path / "target") == []


def test_a_file_below_a_link_of_the_same_level(tmp_path: Path, outside: Path) -> None:
    inside, part = evil(b"link/file")
    result = restored(tmp_path, ([directory(b"."), symlink(b"link", os.fsencode(outside)), inside], [part]))
    assert result.status is Status.PARTIAL
    assert os.readlink(tmp_path / "target/link") == str(outside)


def test_a_link_planted_by_a_level_where_another_had_a_directory(tmp_path: Path, outside: Path) -> None:
    inside, part = evil(b"d/file")
    first = ([directory(b"."), directory(b"d"), inside], [part])
    second = ([directory(b"."), symlink(b"d", os.fsencode(outside)), directory(b"d"), inside], [part])
    result = restored(tmp_path, first, second)
    assert result.status is Status.PARTIAL
    assert (tmp_path / "target/d").is_symlink()


def test_a_link_that_is_in_the_target_already(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "target").mkdir()
    os.symlink(outside, tmp_path / "target/d")
    inside, part = evil(b"d/file")
    result = restored(tmp_path, ([directory(b"."), directory(b"d"), inside], [part]), overwrite=Overwrite.ALWAYS)
    assert result.status is Status.COMPLETE
    assert not (tmp_path / "target/d").is_symlink()
    assert (tmp_path / "target/d/file").read_bytes() == EVIL


def test_a_file_in_place_of_a_link_and_the_link_in_place_of_the_file(tmp_path: Path, outside: Path) -> None:
    twice, part = evil(b"x")
    for tree in ([symlink(b"x", b"../outside/file"), twice], [twice, symlink(b"x", b"../outside/file")]):
        result = restored(tmp_path, ([directory(b"."), *tree], [part]), overwrite=Overwrite.ALWAYS)
        assert [problem.kind for problem in result.problems] == ["damaged"]
        assert "twice" in result.problems[0].message


def test_one_name_twice(tmp_path: Path) -> None:
    entry, part = evil(b"a")
    result = restored(tmp_path, ([directory(b"."), entry, entry, directory(b".")], [part, part]))
    assert (tmp_path / "target/a").read_bytes() == EVIL
    assert result.files == 1
    assert {problem.path for problem in result.problems} == {"a", "."}


def test_a_root_that_is_no_directory(tmp_path: Path, outside: Path) -> None:
    result = restored(tmp_path, ([symlink(b".", os.fsencode(outside))], []))
    assert result.status is Status.PARTIAL
    assert not (tmp_path / "target").is_symlink()


def test_a_hard_link_to_what_is_outside(tmp_path: Path, outside: Path) -> None:
    (tmp_path / "target").mkdir()
    os.symlink(outside / "file", tmp_path / "target/first")
    bad, _ = evil(b"../outside/file", link_group=b"1")
    good, part = evil(b"first", link_group=b"1")
    other, _ = evil(b"second", link_group=b"1")
    restored(tmp_path, ([directory(b"."), bad, good, other], [part]), overwrite=Overwrite.ALWAYS)
    assert (tmp_path / "target/first").read_bytes() == EVIL
    assert (tmp_path / "target/second").read_bytes() == EVIL


def test_hard_links_of_different_types_are_not_mixed(tmp_path: Path, outside: Path) -> None:
    link = symlink(b"a", os.fsencode(outside / "file"), link_group=b"1")
    entry, part = evil(b"b", link_group=b"1")
    restored(tmp_path, ([directory(b"."), link, entry], [part]))
    assert not (tmp_path / "target/b").is_symlink()
    assert (tmp_path / "target/b").read_bytes() == EVIL


@pytest.mark.parametrize(
    "part",
    [
        Part(b"a", b"x" * 11),
        Part(b"a", b"x" * 5, offset=6),
        Part(b"a", b"x", offset=-1),
        Part(b"a", b"x", offset=1 << 60),
        Part(b"a", b"x" * 10, last=False),
    ],
)
def test_content_that_does_not_fit(tmp_path: Path, part: Part) -> None:
    result = restored(tmp_path, ([directory(b"."), file(b"a", 10), file(b"b", 1)], [part, Part(b"b", b"b")]))
    assert os.listdir(tmp_path / "target") == ["b"]
    assert [(problem.path, problem.kind) for problem in result.problems] == [("a", "damaged")]
    assert result.files == 1


@pytest.mark.parametrize(
    "facts",
    [
        {"uid": -1},
        {"uid": 1 << 40},
        {"gid": 1 << 32},
        {"size": -1},
        {"size": 1 << 70},
        {"extents": ((0, 50),)},
        {"extents": ((5, 1), (0, 1))},
        {"extents": ((0, 0),)},
        {"device": (1 << 40, 0), "type": EntryType.CHARACTER_DEVICE},
        {"link_target": b"a\0b", "type": EntryType.SYMLINK},
        {"type": EntryType.SYMLINK},
        {"type": EntryType.BLOCK_DEVICE},
    ],
)
def test_facts_that_cannot_be(tmp_path: Path, facts: dict[str, object]) -> None:
    bad = Entry(**{"path": b"a", "type": EntryType.FILE, "size": 10, **facts})  # type: ignore[arg-type]
    good, part = evil(b"b")
    result = restored(tmp_path, ([directory(b"."), bad, good], [Part(b"a", b"0123456789"), part]))
    assert os.listdir(tmp_path / "target") == ["b"]
    assert [problem.path for problem in result.problems if problem.fatal] == ["a"]


@pytest.mark.parametrize("moment", [1 << 80, -(1 << 80)])
def test_times_beyond_all_calendars(tmp_path: Path, moment: int) -> None:
    entry, part = evil(b"a", mtime_ns=moment)
    restored(tmp_path, ([directory(b"."), entry, file(b"b", 0)], [part]))
    assert (tmp_path / "target/b").exists()


def test_very_deep_trees(tmp_path: Path) -> None:
    paths = [b"/".join([b"d"] * depth) for depth in range(1, 400)]
    result = restored(tmp_path, ([directory(b"."), *map(directory, paths)], []))
    assert result.directories == 400
    assert not result.problems


def test_browsing_does_not_give_unsafe_names() -> None:
    bad, part = evil(b"../x")
    shelf = Shelf()
    shelf.add(0, [directory(b"."), bad], [part])
    repository = shelf.repository()
    (backup,) = repository.backups()
    entries = repository.entries(backup.id)
    assert next(entries).path == b"/"
    with pytest.raises(RestoreError, match="unsafe"):
        next(entries)
    with pytest.raises(RestoreError, match="has no"):
        repository.open(backup.id, b"/../x")


def test_names_of_levels_that_cannot_be(tmp_path: Path) -> None:
    shelf = Shelf()
    shelf.add(0, [directory(b".")])
    for name in (
        "metadata/tar/host_name/x/0_1/metadata",
        "metadata/tar/host_name/1/-1_1/metadata",
        "metadata/tar/host_name/99999999999999999999/0_1/metadata",
        "metadata/tar/junk",
        "metadata/tar/a/b/c/d/e/f",
    ):
        shelf.storage.put(name, [b"{}"])
    assert len(shelf.backups()) == 1


def test_the_end_of_all_calendars(tmp_path: Path) -> None:
    shelf = Shelf()
    tree = [directory(b"."), file(b"a", 1)]
    shelf.add(0, tree, [Part(b"a", b"a")], chain=LAST_TIME)
    shelf.add(0, tree, [Part(b"a", b"a")], chain=LAST_TIME + 1)
    (backup,) = shelf.backups()
    assert backup.time.year == 9999
    shelf.restore(tmp_path / "out")


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{",
        b'{"compression": 1}',
        b'{"compression": []}',
        b'{"compression": "rot13"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_metadata_documents_that_say_nothing(tmp_path: Path, document: bytes) -> None:
    shelf = Shelf()
    level = shelf.add(0, [directory(b"."), file(b"a", 1)], [Part(b"a", b"a")])
    shelf.storage.put(level.metadata, [document])
    repository = shelf.repository()
    (backup,) = repository.backups()
    with pytest.raises((IntegrityError, UnsupportedFormat)):
        repository.restore(backup.id, str(tmp_path / "out"), RestoreOptions(), Context())
    assert not (tmp_path / "out").exists()
    assert not repository.verify([], read_data=True, context=Context()).ok
