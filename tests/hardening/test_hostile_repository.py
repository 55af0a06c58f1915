"""A repository that somebody made to hurt its readers: a few kilobytes must not cost much memory or time."""

from __future__ import annotations

import bz2
import hashlib
import json
import lzma
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hardening.forge import (
    DIRECTORY,
    FILE,
    LINK,
    ZSTD,
    Entry,
    Forge,
    control_plain,
    frame,
    id_list,
    page,
    raw_frame,
    seal_control,
)

from freezer_sdk import Freezer, IntegrityError
from freezer_sdk.engines.dedup import box
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.index import HEADER
from freezer_sdk.engines.dedup.layout import Kind, index_name
from freezer_sdk.engines.dedup.page import MAX_DEPTH, Content, content_ids
from freezer_sdk.engines.dedup.tree import TreeReader
from freezer_sdk.errors import RestoreError, UnsupportedFormat
from freezer_sdk.modes.base import Extra
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage

CHILD = Path(__file__).with_name("measured_child.py")
MEMORY = 300 << 20
SECONDS = 20  # of processor time: how busy the machine is does not matter
UPKEEP = ("verify", "check", "prune", "repair")
ALL = ("backups", "entries", "restore", "read", "find", *UPKEEP)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Forge]:
    with LocalStorage(path=str(tmp_path / "repository")) as storage:
        yield Forge(storage)


@pytest.fixture
def small() -> Forge:
    return Forge(MemoryStorage())


def measure(tmp_path: Path, *operations: str, limit: int = 200_000) -> dict[str, str]:
    """What became of operations on a small repository, after looking at what they cost."""
    repository = tmp_path / "repository"
    assert sum(path.stat().st_size for path in repository.rglob("*") if path.is_file()) < limit
    done = subprocess.run(
        [sys.executable, str(CHILD), str(repository), str(tmp_path / "out"), *operations],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["memory"] < MEMORY, found
    assert max(found["seconds"].values()) < SECONDS, found
    outcomes: dict[str, str] = found["outcomes"]
    return outcomes


# -- decompression bombs -------------------------------------------------------------------------------------------

BOMB = bytes(48 << 20)
BOMBS: dict[bytes, Callable[[], bytes]] = {
    b"zlib": lambda: zlib.compress(BOMB, 1),
    b"bzip2": lambda: bz2.compress(BOMB, 1),
    b"xz": lambda: lzma.compress(BOMB, preset=0),
    b"zstd": lambda: ZSTD.compress(BOMB, level=1),
}


@pytest.mark.parametrize("method", sorted(BOMBS))
def test_compressed_data_that_grow_beyond_what_they_say(made: Forge, tmp_path: Path, method: bytes) -> None:
    payload = BOMBS[method]()
    for claimed in (1000, 32 << 20):
        lengths = [min(claimed, 16 << 20)] * max(1, claimed >> 24)
        ids = [made.id(Kind.META, bytes(length)) for length in lengths]
        made.raw_pack(Kind.META, [raw_frame(method, claimed, lengths, payload)], [(ids, lengths)])
        made.commit(Content(0, b"".join(ids)))
    outcomes = measure(tmp_path, *ALL, limit=1_000_000)
    assert "Integrity" in outcomes["entries"]
    assert outcomes["verify"] != "0 problems"


def test_many_segments_that_are_as_large_as_they_may_be(made: Forge, tmp_path: Path) -> None:
    """24 segments of 32 MiB in some kilobytes, of meta and of file data."""
    blob = bytes(16 << 20)
    entries = []
    for kind in (Kind.META, Kind.DATA):
        frames, rows, ids = [], [], b""
        for number in range(12):
            marked = struct.pack("<I", number) + blob[4:]
            frames.append(frame([marked, blob]))
            rows.append(([made.id(kind, marked), made.id(kind, blob)], [len(blob), len(blob)]))
            ids += rows[-1][0][0]
        made.raw_pack(kind, frames, rows)
        for number in range(0, 12, 4):
            content = Content(0, ids[32 * number : 32 * number + 128])
            mode, size = (FILE, 4 * len(blob)) if kind is Kind.DATA else (DIRECTORY, 0)
            entries.append(Entry(b"%s-%02d" % (kind.name.encode(), number), mode, content, size=size))
    made.backup(*sorted(entries, key=lambda entry: entry.name))
    outcomes = measure(tmp_path, "entries", "restore", "check", "prune")
    assert "Integrity" in outcomes["entries"]


def test_a_million_blobs_in_a_segment(made: Forge, tmp_path: Path) -> None:
    count = 1 << 20
    payload = ZSTD.compress(bytes(count))
    blob = made.id(Kind.META, b"\0")
    made.raw_pack(Kind.META, [raw_frame(b"zstd", count, [1] * count, payload)], [([blob], [1])])
    made.commit(Content(0, blob))
    assert "Integrity" in measure(tmp_path, "entries", "check", "repair", limit=6_000_000)["entries"]


@pytest.mark.parametrize("lengths", [[0], [5, 0], []])
def test_blobs_without_content_do_not_exist(small: Forge, lengths: list[int]) -> None:
    blobs = [b"x" * length for length in lengths]
    ids = [small.id(Kind.DATA, blob) for blob in blobs]
    small.raw_pack(Kind.DATA, [raw_frame(b"none", sum(lengths), lengths, b"".join(blobs))], [(ids, lengths)])
    backup = small.backup(Entry(b"f", content=Content(0, b"".join(ids)), size=sum(lengths)))
    with Freezer(small.storage) as freezer:
        problems = freezer.verify(read_data=True).problems
        assert any(problem.path.startswith("packs/") for problem in problems)
        if lengths:
            with pytest.raises(IntegrityError), freezer.open(backup, "/srv/f") as reader:
                reader.read()


def test_an_unknown_compression_is_named(small: Forge) -> None:
    data = b"content"
    blob = small.id(Kind.DATA, data)
    small.raw_pack(Kind.DATA, [raw_frame(b"no\x1b[31m", 7, [7], data)], [([blob], [7])])
    backup = small.backup(Entry(b"f", content=Content(0, blob), size=7))
    with Freezer(small.storage) as freezer, pytest.raises(UnsupportedFormat), freezer.open(backup, "/srv/f") as reader:
        reader.read()


# -- documents -----------------------------------------------------------------------------------------------------


def test_documents_that_grow_when_they_are_read(made: Forge, tmp_path: Path) -> None:
    """JSON of many megabytes in some kilobytes: commits, tombstones and sweeps are read by everybody."""
    bomb = b'{"a":[' + b"[]," * (20 << 20) + b"[]]}"
    stored = zlib.compress(bomb, 9)
    for number in range(3):
        for kind, name in (
            ("tombstone", f"forgotten/{number:032x}"),
            ("mark", f"marks/{number:032x}"),
            ("decision", f"sweeps/0000000000000001/decided-{number:032x}"),
        ):
            plain = control_plain(made.keys, kind, name, bomb, encoding=1, stored=stored, size=len(bomb))
            made.storage.put(name, [seal_control(made.keys, kind, name, plain)])
    made.backup(Entry(b"f"))
    outcomes = measure(tmp_path, *ALL, limit=1_000_000)
    assert outcomes["entries"] == "2 entries"


def test_a_document_that_compresses_too_well_is_stored_as_it_is(small: Forge) -> None:
    tags = ["same"] * 500_000
    backup = small.backup(Entry(b"f"), tags=tags)
    with Freezer(small.storage) as freezer:
        assert len(freezer.find_backup(backup).tags) == 500_000


# -- indexes -------------------------------------------------------------------------------------------------------


def test_an_index_that_grows_when_it_is_read(made: Forge, tmp_path: Path) -> None:
    """256 MiB of equal rows in some kilobytes: everybody loads every index."""
    made.backup(Entry(b"f"))
    for size in (250 << 20, 20 << 20):
        body = struct.pack("<I", size) + ZSTD.compress(struct.pack("<III", 0, 0, 0) + bytes(size - 12), level=1)
        sealed = box.seal_box(made.keys, 4, body)
        data = HEADER.pack(b"FZIX", 0, len(sealed), 0) + sealed
        made.storage.put(index_name(hashlib.sha256(data).digest()), [data])
    outcomes = measure(tmp_path, *ALL)
    assert outcomes["entries"] == "2 entries", "packs have tables of their own"


# -- directories ---------------------------------------------------------------------------------------------------


def chain(made: Forge, depth: int, pad: Callable[[Entry], bytes]) -> Content:
    """Directories in each other, each of one large page."""
    content = Content(0, b"")
    for level in range(depth):
        content = Content(0, made.store(pad(Entry(b"%05d" % level, DIRECTORY, content))))
    return content


def facts_page(entry: Entry) -> bytes:
    entry.facts = [(99, b"")] * 1_000_000
    return page([entry])


def padded_page(entry: Entry) -> bytes:
    entry.facts = [(99, bytes(15 << 20))]
    return page([entry])


def names_page(entry: Entry) -> bytes:
    return page([entry])[:16] + b"ab\0" * (4 << 20) + page([entry])[16:]


@pytest.mark.parametrize("pad", [facts_page, names_page])
def test_pages_that_take_much_memory(made: Forge, tmp_path: Path, pad: Callable[[Entry], bytes]) -> None:
    made.commit(made.directory(Entry(b"/srv", DIRECTORY, chain(made, 3, pad))))
    assert "Integrity" in measure(tmp_path, "entries", "restore", *UPKEEP)["entries"]


def test_large_pages_in_each_other(made: Forge, tmp_path: Path) -> None:
    made.commit(made.directory(Entry(b"/srv", DIRECTORY, chain(made, 16, padded_page))))
    outcomes = measure(tmp_path, "entries", "restore", "check", "prune")
    assert outcomes["entries"] == "17 entries"
    assert outcomes["restore"] == "0 problems"


def test_a_page_of_more_entries_than_it_may_have(small: Forge) -> None:
    entries = [Entry(b"%06d" % number) for number in range((1 << 16) + 1)]
    backup = small.commit(small.directory(Entry(b"/srv", DIRECTORY, Content(0, small.store(page(entries))))))
    with Freezer(small.storage) as freezer, pytest.raises(IntegrityError):
        list(freezer.entries(backup))


def test_shared_directories_are_verified_once(made: Forge, tmp_path: Path) -> None:
    """30 directories that each hold the next twice: a billion paths. Looking at all of them would never end."""
    content = made.directory(Entry(b"f"))
    for _ in range(30):
        content = made.directory(Entry(b"a", DIRECTORY, content), Entry(b"b", DIRECTORY, content))
    made.commit(made.directory(Entry(b"/srv", DIRECTORY, content)))
    outcomes = measure(tmp_path, "backups", *UPKEEP)
    assert outcomes["verify"] == "0 problems"
    assert outcomes["prune"] == "1 backups"


@pytest.mark.parametrize("like", [True, False])
def test_shared_directories_are_copied_once(small: Forge, like: bool) -> None:
    content = small.directory(Entry(b"f", size=3, content=small.file(b"abc")))
    for _ in range(30):
        content = small.directory(Entry(b"a", DIRECTORY, content), Entry(b"b", DIRECTORY, content))
    backup = small.commit(small.directory(Entry(b"/srv", DIRECTORY, content)))
    target = MemoryStorage()
    create_repository(target, password=None, like=small.keys if like else None)
    with Freezer(small.storage) as source, Freezer(target) as freezer:
        (result,) = freezer.copy(source, [backup])
        assert result.outcome == "copied"
        path = "/srv" + "/a" * 15 + "/b" * 15 + "/f"
        with freezer.open(backup, path) as reader:
            assert reader.read() == b"abc"


class Snake:
    """Blobs that hold themselves, as a broken hash would allow."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def meta(self, blob: bytes) -> bytes:
        top = page([Entry(b"/srv", DIRECTORY, Content(0, bytes(32)))])
        return top if blob == b"t" * 32 else self.data


def test_a_directory_in_itself_ends() -> None:
    trees = TreeReader(Snake(page([Entry(b"a", DIRECTORY, Content(0, bytes(32)))])))  # type: ignore[arg-type]
    with pytest.raises(IntegrityError, match="deeper"):
        for _path, _node in trees.walk(Content(0, b"t" * 32)):
            pass


def test_a_list_in_itself_ends() -> None:
    snake = Snake(id_list([bytes(32)]))
    assert list(content_ids(Content(MAX_DEPTH, bytes(32)), snake.meta)) == [bytes(32)]
    with pytest.raises(IntegrityError):
        list(content_ids(Content(MAX_DEPTH + 1, bytes(32)), snake.meta))


# -- content -------------------------------------------------------------------------------------------------------


def endless(made: Forge, blob: bytes) -> Content:
    """Lists of lists of one blob: more than any disk holds, in a few kilobytes."""
    inner = blob
    for _ in range(MAX_DEPTH):
        inner = made.store(id_list([inner] * 16_384))
    return Content(MAX_DEPTH, inner)


@pytest.mark.parametrize("size", [10, (1 << 63) - 1])
def test_content_without_end(made: Forge, tmp_path: Path, size: int) -> None:
    content = endless(made, made.file(b"x").ids)
    made.backup(Entry(b"f", content=content, size=size))
    outcomes = measure(tmp_path, "backups", "entries", "restore", *UPKEEP, *(["read"] if size == 10 else []))
    assert outcomes["entries"] == "2 entries"
    assert outcomes["restore"] == "1 problems"
    assert outcomes["verify"] == "1 problems"
    assert not (tmp_path / "out" / "0" / "f").exists()


def test_a_list_that_is_longer_than_it_may_be(small: Forge) -> None:
    ids = small.file(b"x").ids
    backup = small.backup(Entry(b"f", content=Content(1, small.store(id_list([ids] * 16_385))), size=16_385))
    with Freezer(small.storage) as freezer, pytest.raises(IntegrityError), freezer.open(backup, "/srv/f") as reader:
        reader.read()


EXTENTS: dict[str, tuple[tuple[int, int], ...]] = {
    "overlap": ((0, 10), (5, 10)),
    "backwards": ((100, 10), (0, 10)),
    "beyond": ((90, 20),),
    "far": ((1 << 62, 1),),
    "huge": ((0, (1 << 64) - 1),),
    "wrap": (((1 << 64) - 1, (1 << 64) - 1),),
    "empty": ((0, 0), (0, 20)),
}


@pytest.mark.parametrize("extents", EXTENTS.values(), ids=EXTENTS.keys())
def test_holes_that_make_no_sense(small: Forge, tmp_path: Path, extents: tuple[tuple[int, int], ...]) -> None:
    packed = b"".join(struct.pack("<QQ", *extent) for extent in extents)
    content = small.file(b"x" * 20)
    entry = Entry(b"f", content=content, size=100, facts=[(Extra.EXTENTS, packed)])
    backup = small.backup(Entry(b"a", content=content, size=20), entry)
    with Freezer(small.storage) as freezer:
        result = freezer.restore(backup, tmp_path / "out")
        assert [problem.path for problem in result.problems] == ["f"]
        assert (tmp_path / "out" / "a").read_bytes() == b"x" * 20
        assert not (tmp_path / "out" / "f").exists()
        with pytest.raises(IntegrityError), freezer.open(backup, "/srv/f") as reader:
            reader.read()


def test_a_million_empty_holes(made: Forge, tmp_path: Path) -> None:
    entry = Entry(b"f", content=made.file(b"x"), size=1, facts=[(Extra.EXTENTS, bytes(15 << 20))])
    made.backup(entry)
    measure(tmp_path, "entries", "restore", "read", "check")


@pytest.mark.parametrize("size", [1 << 63, (1 << 64) - 1])
def test_sizes_that_no_file_can_have(small: Forge, tmp_path: Path, size: int) -> None:
    backup = small.backup(Entry(b"f", content=small.file(b"x"), size=size))
    with Freezer(small.storage) as freezer:
        with pytest.raises(IntegrityError):
            list(freezer.entries(backup))
        result = freezer.restore(backup, tmp_path / "out")
        assert [problem.kind for problem in result.problems] == ["damaged"]


def test_a_file_larger_than_the_disk_fails_alone(small: Forge, tmp_path: Path) -> None:
    sparse = Entry(b"b", size=(1 << 63) - 1, facts=[(Extra.EXTENTS, b"")])
    backup = small.backup(Entry(b"a", content=small.file(b"x"), size=1), sparse)
    with Freezer(small.storage) as freezer:
        result = freezer.restore(backup, tmp_path / "out", sparse=False)
        assert [problem.path for problem in result.problems] == ["b"]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


# -- names ---------------------------------------------------------------------------------------------------------

BAD_NAMES = [b"", b".", b"..", b"../x", b"a/b", b"/etc/passwd", b"a/../../b"]


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("mode", [FILE, DIRECTORY, LINK])
def test_names_that_lead_elsewhere(small: Forge, tmp_path: Path, name: bytes, mode: int) -> None:
    facts = [(Extra.LINK_TARGET, b"/etc")] if mode == LINK else []
    evil = Entry(name, mode, small.file(b"x") if mode == FILE else None, size=int(mode == FILE), facts=facts)
    backup = small.backup(evil)
    assert_nothing_outside(small, backup, tmp_path)


BAD_ROOTS = [b"", b".", b"..", b"/..", b"/a/../../b", b"//etc", b"/a//b", b"/a/", b"a/b", b"/.", b"/a/./b"]


@pytest.mark.parametrize("root", BAD_ROOTS)
def test_roots_that_lead_elsewhere(small: Forge, tmp_path: Path, root: bytes) -> None:
    backup = small.backup(Entry(b"f", content=small.file(b"x"), size=1), root=root)
    assert_nothing_outside(small, backup, tmp_path)


def assert_nothing_outside(small: Forge, backup: str, tmp_path: Path) -> None:
    """Neither a restore nor a listing takes such a name."""
    with Freezer(small.storage) as freezer:
        for layout in ("full", "content"):
            try:
                assert freezer.restore(backup, tmp_path / layout / "out", layout=layout).problems
            except (IntegrityError, RestoreError):
                pass
            outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / layout / "out")]
            assert all(path.is_dir() for path in outside)
            assert not [path for path in (tmp_path / layout).rglob("*") if path.is_file() or path.is_symlink()]
        with pytest.raises(IntegrityError):
            list(freezer.entries(backup))


@pytest.mark.parametrize("names", [(b"a", b"a"), (b"b", b"a"), (b"a", b"A", b"a")])
def test_names_that_are_there_twice(small: Forge, tmp_path: Path, names: tuple[bytes, ...]) -> None:
    backup = small.backup(*(Entry(name, content=small.file(name * 3), size=len(name) * 3) for name in names))
    with Freezer(small.storage) as freezer:
        with pytest.raises(IntegrityError, match="sorted"):
            list(freezer.entries(backup))
        assert freezer.restore(backup, tmp_path / "out").status == "partial"


def test_a_name_that_is_there_again_on_the_next_page(small: Forge) -> None:
    pages = small.store(page([Entry(b"a"), Entry(b"c")]), page([Entry(b"c"), Entry(b"d")]))
    backup = small.commit(small.directory(Entry(b"/srv", DIRECTORY, Content(0, pages))))
    with Freezer(small.storage) as freezer, pytest.raises(IntegrityError, match="sorted"):
        list(freezer.entries(backup))


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"\xed\xa0\x80", "e\u0301".encode(), b"\xf4\x90\x80\x80", b"x" * 255])
def test_names_of_any_bytes_come_back(small: Forge, tmp_path: Path, raw: bytes) -> None:
    backup = small.backup(Entry(raw, content=small.file(b"x"), size=1))
    with Freezer(small.storage) as freezer:
        assert not freezer.restore(backup, tmp_path / "out").problems
        assert [entry.path for entry in freezer.entries(backup)][1:] == [b"/srv/" + raw]
    assert os.listdir(os.fsencode(tmp_path / "out")) == [raw]


def test_a_name_longer_than_the_file_system_takes(small: Forge, tmp_path: Path) -> None:
    backup = small.backup(
        Entry(b"a", content=small.file(b"x"), size=1), Entry(b"x" * 300, content=small.file(b"x"), size=1)
    )
    with Freezer(small.storage) as freezer:
        result = freezer.restore(backup, tmp_path / "out")
        assert len(result.problems) == 1
        assert (tmp_path / "out" / "a").exists()
