"""A level 0 alone is restored while it is read once, with the same result as when its tree is known before."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from chains.shelf import T0, Shelf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tar.chain import TAR, Chain, Facts, difference, disk
from tar.test_reading import FORMATS, make_source

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.chains.content import Content, Taker
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.record import Record, Stored, unrecorded
from freezer_sdk.engines.tar.codec import TarCodec
from freezer_sdk.errors import Cancelled, IntegrityError
from freezer_sdk.model import BackupStats, Layout, Overwrite, RestoreResult, Status
from freezer_sdk.modes.base import ProblemHandler
from freezer_sdk.storages.base import Reader
from freezer_sdk.storages.memory import MemoryStorage

pytestmark = pytest.mark.skipif(TAR is None, reason="GNU tar is not installed")
BLOCK = 512
DOCUMENT = b'{"engine_name": "tar", "compression": "gzip", "encryption": false}'
ROOT = "/srv/data"
ABOVE = (b".", b"srv", b"srv/data")  # those of which nothing may be recorded are as old as the restore

Told = tuple[str, str, bool]
"""Path, kind and fatality of a problem; messages count how much of a member is missing."""


class TwoPasses(TarCodec):
    """Knows the whole tree before anything is made."""

    def content_taken(self, levels: Sequence[LevelStream], *, problem: ProblemHandler, taker: Taker) -> Content:
        return self.content(levels, problem=problem)


class Counting(MemoryStorage):
    """Counts what is read of each object."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[str] = Counter()

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        with super().open(name) as reader:
            yield _CountingReader(reader, self.read, name)


class _CountingReader:
    def __init__(self, reader: Reader, counts: Counter[str], name: str) -> None:
        self._reader, self._counts, self._name = reader, counts, name

    def read(self, size: int = -1) -> bytes:
        data = self._reader.read(size)
        self._counts[self._name] += len(data)
        return data


def level_of(number: int) -> LevelId:
    return LevelId(folder="tar", series="host_name", chain=T0, level=number, time=T0 + number)


def shelf_of(*streams: bytes, codec: TarCodec | None = None, root: str | None = None) -> Shelf:
    """A store with one chain.

    Args:
        root: what the levels have a record of; ``None``: they have none, as those of the original.
    """
    shelf = Shelf(codec=codec or TarCodec(), storage=Counting())
    coding = shelf.store().coding
    for level, stream in enumerate(streams):
        place = level_of(level)
        with coding.writing(place, compression="gzip", compression_level=1, cipher="none") as writer:
            writer.write(stream)
            data = writer.commit()
        shelf.storage.put(place.engine_metadata, [b""])
        shelf.storage.put(place.metadata, [DOCUMENT])
        if root is not None:
            backup = unrecorded(place, chain=level_of(0), parent=None)
            record = Record(
                backup=replace(backup, paths=(root,), stats=BackupStats(directories=1)),
                data=data,
                state=Stored(size=0, sha256=hashlib.sha256(b"").hexdigest()),
                metadata=Stored(size=len(DOCUMENT), sha256=hashlib.sha256(DOCUMENT).hexdigest()),
                raw_size=len(stream),
                compression="gzip",
                cipher="none",
            )
            shelf.storage.put(place.record, [record.encode()])
    return shelf


def stream_of(root: Path, scratch: Path, *options: str) -> bytes:
    chain = Chain(root, scratch, *options)
    chain.backup()
    return chain.streams[0]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_source(tmp_path / "source")
    return tmp_path / "source"


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_the_stream_is_read_once(source: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    shelf, data = shelf_of(stream_of(source, tmp_path, *options)), level_of(0).data
    result = shelf.restore(tmp_path / "out")
    assert result.problems == ()
    fine = "--format=posix" in options
    assert difference(disk(source, fine=fine), disk(tmp_path / "out", fine=fine)) == {}
    assert isinstance(shelf.storage, Counting)
    stored = len(shelf.storage.get(data))
    assert stored > 3_000_000
    assert stored <= shelf.storage.read[data] <= stored + (1 << 20)  # its beginning shows the password
    assert result.files + result.directories + result.others == len(disk(source, fine=True))


@pytest.mark.parametrize("target", ["missing", "empty", "with content"])
@pytest.mark.parametrize("layout", [Layout.CONTENT, Layout.FULL])
def test_wherever_it_goes(source: Path, tmp_path: Path, target: str, layout: Layout) -> None:
    stream = stream_of(source, tmp_path)
    outs = []
    for name, codec in (("one", TarCodec()), ("two", TwoPasses())):
        outs.append(tmp_path / name)
        if target != "missing":
            outs[-1].mkdir()
        if target == "with content":
            (outs[-1] / "mine").write_text("mine")
            (outs[-1] / "blocks").write_text("mine, too")
            os.utime(outs[-1] / "mine", (1, 1))
            os.utime(outs[-1] / "blocks", (1, 1))
        result = shelf_of(stream, codec=codec).restore(outs[-1], layout=layout, overwrite=Overwrite.NEVER)
        assert result.problems == ()
        os.utime(outs[-1], (1, 1))
    assert difference(disk(outs[0], fine=True), disk(outs[1], fine=True)) == {}


def test_levels_above_make_two_passes(source: Path, tmp_path: Path) -> None:
    chain = Chain(source, tmp_path)
    chain.backup()
    (source / "large").unlink()
    (source / "blocks").write_text("changed")
    chain.backup()
    result = shelf_of(*chain.streams).restore(tmp_path / "out", level=1)
    assert result.problems == ()
    assert difference(disk(source, fine=False), disk(tmp_path / "out", fine=False)) == {}


def test_the_name_that_the_stream_has_first_need_not_be_the_first_of_the_tree(tmp_path: Path) -> None:
    root = tmp_path / "source"
    (root / "a").mkdir(parents=True)
    (root / "z").write_text("one file")
    for name in ("a/1", "a/2", "b"):
        os.link(root / "z", root / name)
    result = shelf_of(stream_of(root, tmp_path)).restore(tmp_path / "out")
    assert (result.files, result.problems) == (4, ())
    assert os.stat(tmp_path / "out" / "z").st_nlink == 4


def test_a_link_whose_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from freezer_sdk.engines.chains import items

    def refuse(extents: object, size: int) -> None:
        raise IntegrityError("this cannot be")

    root = tmp_path / "source"
    (root / "a").mkdir(parents=True)
    with open(root / "z", "wb") as file:
        file.write(b"data")
        file.truncate(1 << 20)
    os.link(root / "z", root / "a" / "1")
    (root / "other").write_text("other")
    monkeypatch.setattr(items, "_check_extents", refuse)
    result = shelf_of(stream_of(root, tmp_path, "--sparse")).restore(tmp_path / "out")
    assert {problem.path for problem in result.problems} == {"z", "a/1"}
    assert sorted(os.listdir(tmp_path / "out")) == ["a", "other"]


def test_cancelled_in_the_middle(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from freezer_sdk.engines.chains import restore

    stream = stream_of(source, tmp_path)
    seen = 0

    def stop(self: object, path: bytes) -> None:
        nonlocal seen
        seen += path == b"large"
        if seen == 2:
            raise Cancelled("enough")

    monkeypatch.setattr(restore.Restore, "_tick", stop)
    with pytest.raises(Cancelled):
        shelf_of(stream).restore(tmp_path / "out")
    assert seen == 2
    left = [name for _, _, names in os.walk(tmp_path / "out") for name in names]
    assert "large" not in left
    assert not [name for name in left if name.startswith(".freezer")]


# -- streams that GNU tar does not write -------------------------------------------------------------------------------


def small_source(root: Path) -> None:
    for number, name in enumerate(("a", "b/c", "b/d", "e/f/g", "e/h", "i")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(random.Random(name).randbytes(number * 700))
    os.link(root / "i", root / "b" / "link")
    os.symlink("a", root / "e" / "symlink")
    with open(root / "holes", "wb") as file:
        for number in range(6):
            file.seek(number * 8192)
            file.write(b"data")


def members_of(stream: bytes) -> list[bytes]:
    """The members of a stream, each with its content, and its end."""
    found, at = [], 0
    while stream[at : at + 1] != b"\0":
        size = int(stream[at + 124 : at + 135], 8)
        end = at + BLOCK + (0 if stream[at + 156 : at + 157] == b"1" else -(-size // BLOCK) * BLOCK)
        found.append(stream[at:end])
        at = end
    return [*found, stream[at:]]


def renamed(member: bytes, name: bytes) -> bytes:
    """A member under another name."""
    header = bytearray(member[:BLOCK])
    header[:100] = name.ljust(100, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + member[BLOCK:]


def outcome(stream: bytes, codec: TarCodec, out: Path, layout: Layout) -> tuple[Facts, RestoreResult | None, set[Told]]:
    try:
        result = shelf_of(stream, codec=codec, root=ROOT).restore(out, layout=layout)
    except IntegrityError:
        assert not out.exists()
        return {}, None, set()
    facts = {
        path: (*fact[:4], fact[4] if path not in ABOVE else None, *fact[5:])
        for path, fact in disk(out, fine=True).items()
    }
    return facts, result, {(each.path, each.kind, each.fatal) for each in result.problems}


def same(stream: bytes, scratch: Path, *, layout: Layout = Layout.CONTENT) -> RestoreResult | None:
    """Restores in both ways; what is there and what is told does not differ."""
    one, result, told = outcome(stream, TarCodec(), scratch / "one", layout)
    two, other, also_told = outcome(stream, TwoPasses(), scratch / "two", layout)
    assert difference(one, two) == {}
    assert told == also_told
    if result is not None and other is not None:
        counts = [(each.files, each.directories, each.others, each.bytes, each.status) for each in (result, other)]
        assert counts[0] == counts[1]
    return result


@pytest.fixture(scope="module")
def members() -> list[bytes]:
    with tempfile.TemporaryDirectory(prefix="freezer-test-") as scratch:
        small_source(Path(scratch) / "source")
        return members_of(stream_of(Path(scratch) / "source", Path(scratch), "--format=gnu"))


def test_members_are_what_they_should_be(members: list[bytes]) -> None:
    names = [member[:100].rstrip(b"\0") for member in members[:-1]]
    assert names[:4] == [b"./", b"./b/", b"./e/", b"./e/f/"]
    assert len(names) == 4 + 9


@pytest.mark.parametrize("name", [b"./b/c", b"./e/f", b"./b", b"./new/er", b"./../up", b"./e/f/g/h", b"./i", b"."])
def test_a_file_where_none_belongs(members: list[bytes], tmp_path: Path, name: bytes) -> None:
    file = next(member for member in members if member.startswith(b"./e/h\0"))
    same(b"".join([*members[:-1], renamed(file, name), members[-1]]), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


@pytest.mark.parametrize("layout", [Layout.CONTENT, Layout.FULL])
@pytest.mark.parametrize("at", [-1, 7])
@pytest.mark.parametrize("directory", [0, 1, 2, 3])
def test_a_directory_after_files(members: list[bytes], tmp_path: Path, at: int, directory: int, layout: Layout) -> None:
    changed = list(members)
    changed.insert(at, members[directory])
    assert same(b"".join(changed), tmp_path, layout=layout) is not None
    emptied = renamed(members[directory], b"./e/")  # its listing purges what was given
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(tmp_path / "two")
    changed = list(members)
    changed.insert(at, emptied)
    same(b"".join(changed), tmp_path, layout=layout)


def test_a_directory_that_cannot_be_made_counts_once(tmp_path: Path) -> None:
    root = tmp_path / "source"
    (root / "long").mkdir(parents=True)
    for name in ("long/lost", "whole"):
        (root / name).write_text("content")
    result = same(stream_of(root, tmp_path, "--format=gnu", f"--transform=s,long,{'l' * 300},"), tmp_path)
    assert result is not None
    assert {problem.kind for problem in result.problems if problem.fatal} == {"unwritable"}
    assert os.listdir(tmp_path / "one") == ["whole"]


@pytest.mark.parametrize("codec", [TarCodec, TwoPasses])
@pytest.mark.parametrize("sound", [True, False])
def test_where_the_archive_makes_no_sense_the_end_of_the_stream_says_whether_it_is_as_it_was_stored(
    members: list[bytes], tmp_path: Path, codec: type[TarCodec], sound: bool
) -> None:
    more = bytes(16 << 20)  # than is read ahead
    shelf = shelf_of(b"".join([*members[:-2], b"nonsense".ljust(BLOCK), more]), codec=codec())
    if not sound:
        shelf.damage(level_of(0).data, at=-6)
    result = shelf.restore(tmp_path / "out")
    assert result.status is Status.PARTIAL
    assert (tmp_path / "out" / "e" / "h").read_bytes() == random.Random("e/h").randbytes(2800)
    assert ("e/h" in {each.path for each in result.problems if each.kind == "unverified"}) is not sound


def test_damage_in_the_middle(members: list[bytes], tmp_path: Path) -> None:
    stream = bytearray(b"".join(members))
    stream[sum(map(len, members[:8])) + 5] ^= 1
    result = same(bytes(stream), tmp_path)
    assert result is not None
    assert result.status is Status.PARTIAL


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_order(members: list[bytes], data: st.DataObject) -> None:
    changed = list(members[:-1])
    names = [member[:100].rstrip(b"\0") for member in changed]
    for _ in range(data.draw(st.integers(1, 4))):
        number = data.draw(st.integers(0, len(changed) - 1))
        kind = data.draw(st.sampled_from(["move", "double", "remove", "rename", "flip", "cut"]))
        member = changed[number]
        if kind in ("move", "remove"):
            del changed[number]
        if kind in ("move", "double"):
            changed.insert(data.draw(st.integers(0, len(changed))), member)
        elif kind == "rename":
            changed[number] = renamed(member, data.draw(st.sampled_from(names)))
        elif kind == "flip" and member:
            at = data.draw(st.integers(0, len(member) - 1))
            changed[number] = member[:at] + bytes([member[at] ^ 1]) + member[at + 1 :]
        elif kind == "cut":
            changed[number] = member[: data.draw(st.integers(0, len(member) // BLOCK)) * BLOCK]
        if not changed:
            return
        changed = [each for each in changed if each] or [members[0]]
    layout = data.draw(st.sampled_from([Layout.CONTENT, Layout.FULL]))
    with tempfile.TemporaryDirectory(prefix="freezer-test-") as scratch:
        same(b"".join([*changed, members[-1]]), Path(scratch), layout=layout)
