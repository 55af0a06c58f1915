"""A hostile repository: it cannot make the program write elsewhere, run for ever, or take the machine's memory."""

from __future__ import annotations

import argparse
import bz2
import contextlib
import ctypes.util
import lzma
import os
import random
import stat
import struct
import sys
import time
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from backports import zstd

from .conftest import FAST


class Pages:
    """Blobs of a repository whose maker holds all keys, and so can store what he likes."""

    def __init__(self, tool: ModuleType) -> None:
        self.tool = tool
        self.blobs: dict[tuple[int, bytes], bytes] = {}

    def blob(self, kind: int, blob: bytes) -> bytes:
        try:
            return self.blobs[kind, blob]
        except KeyError:
            raise self.tool.Damage("it is missing") from None

    def there(self, kind: int, blob: bytes) -> bool:
        return (kind, blob) in self.blobs

    def put(self, kind: int, content: bytes) -> bytes:
        identifier = bytes(self.tool.keyed_hash(bytes(32), bytes([kind]) + content))
        self.blobs[kind, identifier] = content
        return identifier

    def page(self, *entries: tuple[Any, ...]) -> bytes:
        """A page of entries ``(name, mode, size, depth, ids, facts)``."""
        names = b"\0".join(entry[0] for entry in entries)
        rows = b"".join(
            struct.pack(
                "<IIIIQqqQ", entry[1], os.geteuid(), os.getegid(), entry[6] if len(entry) > 6 else 0, entry[2], 0, 0, 0
            )
            for entry in entries
        )
        counts = bytes(entry[3] << 4 | len(entry[4]) for entry in entries)
        ids = b"".join(each for entry in entries for each in entry[4])
        facts = b"".join(
            struct.pack("<IBI", number, tag, len(value)) + value
            for number, entry in enumerate(entries)
            for tag, value in entry[5]
        )
        head = struct.pack("<2sHIII", b"\x50\1", 0, len(entries), len(names), len(facts))
        return self.put(self.tool.META, head + names + rows + counts + ids + facts)


def directory(name: bytes, *pages: bytes, depth: int = 0) -> tuple[Any, ...]:
    return (name, stat.S_IFDIR | 0o755, 0, depth, pages, ())


def file(name: bytes, *blobs: bytes, size: int, depth: int = 0, facts: Any = ()) -> tuple[Any, ...]:
    return (name, stat.S_IFREG | 0o644, size, depth, blobs, facts)


def link(name: bytes, target: bytes) -> tuple[Any, ...]:
    return (name, stat.S_IFLNK | 0o777, len(target), 0, (), ((1, target),))


class Commit:
    def __init__(self, tool: ModuleType, root: bytes, paths: list[bytes]) -> None:
        self.root = tool.Reference(0, (root,))
        self.paths = paths
        self.problems: list[tuple[bytes, str]] = []


@pytest.fixture
def pages(tool: ModuleType) -> Pages:
    return Pages(tool)


def restore(tool: ModuleType, pages: Pages, tmp_path: Path, root: bytes, *paths: bytes) -> Any:
    options = argparse.Namespace(path=[], target=str(tmp_path / "out"), damaged=False)
    run = tool.Restore(pages, Commit(tool, root, list(paths)), options)
    run.run()
    return run


def test_names_that_lead_out(tool: ModuleType, pages: Pages, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    blob = pages.put(tool.DATA, b"evil")
    inner = pages.page(
        *(file(name, blob, size=4) for name in (b"", b".", b"..", b"../evil", b"/evil", b"a/b", b"fine"))
    )
    run = restore(tool, pages, tmp_path, pages.page(directory(b"/r", inner)), b"/r")
    assert run.problems == 6
    assert os.listdir(tmp_path / "out") == ["fine"]
    assert sorted(os.listdir(tmp_path)) == ["out"]
    assert "not allowed" in capfd.readouterr().err


@pytest.mark.parametrize("name", [b"relative", b"/..", b"/a/../../b", b"//a", b"/a/", b"/a/./b", b""])
def test_roots_that_lead_out(tool: ModuleType, pages: Pages, tmp_path: Path, name: bytes) -> None:
    blob = pages.put(tool.DATA, b"evil")
    run = restore(tool, pages, tmp_path, pages.page(file(name, blob, size=4)), b"/one", b"/two")
    assert run.problems == 1
    assert os.listdir(tmp_path / "out") == []


def test_a_link_is_never_followed(tool: ModuleType, pages: Pages, tmp_path: Path) -> None:
    """The same name as a link and as a folder: in one page, in two, and as roots that lie in each other."""
    (tmp_path / "victim").mkdir()
    blob = pages.put(tool.DATA, b"evil")
    evil = pages.page(file(b"evil", blob, size=4))
    out = os.fsencode(tmp_path / "victim")
    twice = pages.page(link(b"a", out), directory(b"a", evil))
    two_pages = (pages.page(link(b"a", out)), pages.page(directory(b"a", evil)))
    roots = pages.page(
        link(b"/l", out),
        file(b"/l/evil", blob, size=4),
        directory(b"/l/x", evil),
        directory(b"/one", twice),
        directory(b"/two", *two_pages),
    )
    run = restore(tool, pages, tmp_path, roots, b"/l", b"/one")
    assert run.problems == 4
    assert os.listdir(tmp_path / "victim") == []
    for path in ("l", "one/a", "two/a"):
        assert (tmp_path / "out" / path).is_symlink()


def test_a_hard_link_group_stays_inside(tool: ModuleType, pages: Pages, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    first = (
        *link(b"a", os.fsencode(tmp_path / "victim"))[:5],
        ((1, os.fsencode(tmp_path / "victim")), (4, b"g")),
        8,
    )
    second = (*file(b"b", pages.put(tool.DATA, b"evil"), size=4)[:5], ((4, b"g"),), 8)
    run = restore(tool, pages, tmp_path, pages.page(directory(b"/r", pages.page(first, second))), b"/r")
    assert run.problems == 0
    assert (tmp_path / "out" / "a").is_symlink()
    assert (tmp_path / "out" / "b").read_bytes() == b"evil"  # all names of one file are of one type
    assert (tmp_path / "victim").read_text() == "mine"


@pytest.mark.parametrize(
    ("size", "extents"),
    [
        (4, [(0, 2), (1, 2)]),
        (4, [(2, 2), (0, 2)]),
        (4, [(0, 5)]),
        (1 << 63, []),
        (3, None),
        (5, None),
        (4, [(1 << 63, 1 << 63)]),
    ],
)
def test_sizes_and_holes_that_lie(
    tool: ModuleType, pages: Pages, tmp_path: Path, size: int, extents: list[tuple[int, int]] | None
) -> None:
    facts = () if extents is None else ((5, b"".join(struct.pack("<QQ", *pair) for pair in extents)),)
    blob = pages.put(tool.DATA, b"evil")
    inner = pages.page(file(b"a", blob, size=size, facts=facts), file(b"b", blob, size=4))
    run = restore(tool, pages, tmp_path, pages.page(directory(b"/r", inner)), b"/r")
    assert run.problems == 1
    assert os.listdir(tmp_path / "out") == ["b"]


def test_what_could_not_be_read_whole_is_kept(tool: ModuleType, pages: Pages, tmp_path: Path) -> None:
    blob = pages.put(tool.DATA, b"half of it")
    inner = pages.page(*((*file(name, blob, size=size), 2) for name, size in ((b"a", 20), (b"b", 4))))
    restore(tool, pages, tmp_path, pages.page(directory(b"/r", inner)), b"/r")
    assert (tmp_path / "out" / "a").read_bytes() == b"half of it" + bytes(10)
    assert (tmp_path / "out" / "b").read_bytes() == b"half"


def test_lists_that_grow(tool: ModuleType, pages: Pages, tmp_path: Path) -> None:
    """Seven levels of lists name 16,384 to the 7th pieces; the size of the file bounds what is read."""
    ids = pages.put(tool.DATA, b"x")
    for _ in range(7):
        ids = pages.put(tool.META, b"\x4c\1" + ids * 1000)
    empty = pages.put(tool.META, b"\x4c\1")
    for _ in range(6):
        empty = pages.put(tool.META, b"\x4c\1" + empty * 1000)
    begun = time.process_time()
    inner = pages.page(file(b"a", ids, size=5000, depth=7), file(b"b", empty, size=0, depth=7))
    run = restore(tool, pages, tmp_path, pages.page(directory(b"/r", inner)), b"/r")
    assert run.problems == 2
    assert time.process_time() - begun < 20


def test_folders_without_end(tool: ModuleType, pages: Pages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tool, "MAX_FOLDERS", 50)
    inner = pages.page(file(b"end", size=0))
    for _ in range(60):
        inner = pages.page(directory(b"d", inner))
    run = restore(tool, pages, tmp_path, pages.page(directory(b"/r", inner)), b"/r")
    assert run.problems == 1


def test_what_is_shared_is_verified_once(tool: ModuleType, pages: Pages) -> None:
    """Forty levels of two folders that are the same: 2 to the 40th paths."""
    inner = pages.page(file(b"end", size=0))
    for _ in range(40):
        inner = pages.page(directory(b"a", inner), directory(b"b", inner))
    root = pages.page(directory(b"/r", inner))

    class Catalog:
        damaged = ()

        def visible(self, hidden: bool) -> list[Any]:
            commit = Commit(tool, root, [b"/r"])
            commit.title = "t"  # type: ignore[attr-defined]
            return [commit]

    pages.damaged = {}  # type: ignore[attr-defined]
    begun = time.process_time()
    assert tool.command_verify(Catalog(), lambda: pages, argparse.Namespace(read_data=False, forgotten=False)) == 0
    assert time.process_time() - begun < 20


BOMBS = {
    "zstd": zstd.compress(bytes(200 << 20)),
    "zlib": zlib.compress(bytes(50 << 20)),
    "bzip2": bz2.compress(bytes(50 << 20)),
    "xz": lzma.compress(bytes(50 << 20)),
}


@pytest.mark.parametrize("method", BOMBS)
def test_decompression_is_bounded(tool: ModuleType, method: str) -> None:
    with pytest.raises(tool.Damage):
        tool.decompress(method, BOMBS[method], 1000)
    with pytest.raises(tool.Damage):
        tool.decompress(method, BOMBS[method][:-5], 1 << 20)
    with pytest.raises(tool.Damage):
        tool.decompress(method, b"rubbish", 1000)


@pytest.mark.skipif(ctypes.util.find_library("zstd") is None, reason="the system has no libzstd")
def test_decompression_is_bounded_with_the_systems_library(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FAST:
        monkeypatch.setitem(sys.modules, name, None)
    frame = zstd.compress(b"hello" * 100)
    assert tool.decompress("zstd", frame, 500) == b"hello" * 100
    for data, size in ((frame, 499), (frame, 501), (frame[:-1], 500), (BOMBS["zstd"], 500), (b"rubbish", 500)):
        with pytest.raises(tool.Damage):
            tool.decompress("zstd", data, size)


def test_a_large_dictionary_is_refused(tool: ModuleType) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]
    with pytest.raises(tool.Damage):
        tool.decompress("xz", lzma.compress(b"x" * 1000, lzma.FORMAT_XZ, filters=filters), 1000)


def test_names_do_not_command_the_terminal(tool: ModuleType) -> None:
    shown = tool.show(b"\x1b[2Jred\r\n\x9b\xff" + "\u202ex".encode())
    assert shown.isprintable()
    assert tool.show("plain ü 日本".encode() + b"\xff") == "plain ü 日本\\xff"
    assert tool.show("\ud800\x1b") == "\\ud800\\x1b"


def test_a_name_counts_once(tool: ModuleType, pages: Pages) -> None:
    inner = [pages.page(file(b"b", size=0), file(b"b", size=0), file(b"a", size=0)), pages.page(file(b"b", size=0))]
    told: list[str] = []
    root = pages.page(directory(b"/r", *inner), directory(b"/r", *inner))
    tree = tool.Tree(pages, Commit(tool, root, [b"/r"]), lambda path, message: told.append(message))
    assert [path for _, _, path in tree.walk()] == [b"/r", b"/r/b"]
    assert len(told) == 4


def test_damaged_pages_are_damage_and_nothing_else(tool: ModuleType, pages: Pages) -> None:
    blob = pages.put(tool.DATA, b"x")
    facts = ((5, struct.pack("<QQ", 0, 1)), (2, b"\x03\0keyvalue"))
    page = pages.blobs[
        tool.META,
        pages.page(directory(b"a", blob), file(b"b", blob, size=1, facts=facts), link(b"c", b"to")),
    ]
    chance = random.Random(5)
    whole = 0
    for _ in range(3000):
        data = bytearray(page)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(data))
            data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        with contextlib.suppress(tool.Damage):
            whole += len(tool.decode_page(bytes(data))) > 0
    assert 0 < whole < 3000  # what names and attributes are is not known to a page


def test_damaged_sections_are_damage_and_nothing_else(tool: ModuleType, tmp_path: Path) -> None:
    packs, segments, blobs = 2, 3, 4
    section = struct.pack("<3I", packs, segments, blobs) + bytes(48 * packs) + struct.pack("<5I", 1, 2, 200, 300, 400)
    section += bytes(range(32 * blobs)) + struct.pack("<12I", 0, 0, 1, 2, *range(8))
    chance = random.Random(6)
    for _ in range(1000):
        data = bytearray(section)
        data[chance.randrange(len(data))] = chance.randrange(256)
        del data[chance.randrange(len(data)) :: max(1, chance.randrange(900))]
        store = tool.Store(tool.Folder(str(tmp_path)), None)
        with contextlib.suppress(tool.Damage), tool.decoding("it"):
            store._section(tool.DATA, bytes(data))
        assert store.places[tool.DATA].find(bytes(range(32))) in ([], [0])
