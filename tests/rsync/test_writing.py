"""What the engine writes: read again by itself, and by a reader that knows only the original's format."""

from __future__ import annotations

import bz2
import os
import socket
import stat
import tempfile
import zlib
from pathlib import Path

import msgpack
import pytest
from hypothesis import given, settings
from rsync.chain import Facts, Writer, chain, look, read
from rsync.changes import change, histories
from rsync.original import SecondVersion, extract, wait_for_the_clock

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.rsync.codec import RsyncCodec
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.modes.base import Protected

ALL = ("mode", "mtime_ns", "uid", "gid", "size")


def as_the_original(source: Path) -> dict[bytes, tuple[object, ...]]:
    """What the original's reader should have of a directory; it knows no sockets."""
    found: dict[bytes, tuple[object, ...]] = {}
    for path in look(source, root_too=False):
        full = os.path.join(os.fsencode(source), path)
        st = os.lstat(full)
        content: object = None
        if stat.S_ISREG(st.st_mode):
            content = Path(os.fsdecode(full)).read_bytes()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(full)
        found[path] = (st.st_mode, st.st_mtime, content)
    return found


@settings(max_examples=40, deadline=None)
@given(histories())
def test_every_level_restores_whatever_has_changed(history: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        writer = Writer(source, block=512)
        expected: list[tuple[Facts, dict[bytes, tuple[object, ...]]]] = []
        for seeds in history:
            for seed in seeds:
                change(source, seed)
            writer.run()
            expected.append((look(source, *ALL), as_the_original(source)))
        assert not any(writer.problems)
        for level, (ours, theirs) in enumerate(expected):
            found = read(writer.levels()[: level + 1])
            assert not found.problems
            assert found.facts(*ALL) == ours
            assert extract(writer.streams[: level + 1], block=512) == theirs


@settings(max_examples=20, deadline=None)
@given(histories(levels=4))
def test_the_original_can_go_on_with_a_chain_and_so_can_we(history: list[list[int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        writer = Writer(source, block=512)
        for level, seeds in enumerate(history):
            for seed in seeds:
                change(source, seed)
            if level % 2:
                agent = SecondVersion(source, block=512, state=writer.states[-1])
                agent.run()
                writer.streams += agent.streams
                writer.states.append(agent.states[-1])
            else:
                writer.run()
                wait_for_the_clock()
            found = read(chain(writer.streams, writer.states, block=512))
            assert not found.fatal
            got, real = found.facts(), look(source)
            got.pop(b".", None)
            real.pop(b".")
            assert got == real


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    made.mkdir()
    return made


def test_hard_links_are_one_file(source: Path) -> None:
    (source / "one").write_bytes(b"1" * 5000)
    (source / "sub").mkdir()
    os.link(source / "one", source / "sub/two")
    os.symlink("nowhere", source / "link")
    os.link(source / "link", source / "sub/link-too", follow_symlinks=False)
    writer = Writer(source)
    writer.run()
    entries = writer.read().entries
    assert entries[b"one"].link_group == entries[b"sub/two"].link_group is not None
    assert entries[b"link"].link_group == entries[b"sub/link-too"].link_group is not None
    assert entries[b"link"].link_group != entries[b"one"].link_group
    (source / "sub/two").unlink()
    (source / "three").write_bytes(b"3")
    writer.run()
    found = writer.read()
    assert found.entries[b"one"].link_group is None
    assert found.whole[b"one"] == b"1" * 5000


def test_a_link_group_comes_under_the_first_name_that_is_wanted(source: Path) -> None:
    (source / "a").write_bytes(b"content")
    os.link(source / "a", source / "b")
    os.link(source / "a", source / "c")
    writer = Writer(source)
    writer.run()
    asked: list[bytes] = []

    def wanted(path: bytes) -> bool:
        asked.append(path)
        return path != b"a"

    found = read(writer.levels(), wanted=wanted)
    assert found.whole == {b"b": b"content"}
    assert asked[:3] == [b"a", b"b", b"c"]


def test_facts_that_the_original_has_no_place_for(source: Path) -> None:
    (source / "file").write_bytes(b"x")
    os.setxattr(source / "file", "user.odd", b"\xff\0\n")
    os.setxattr(source, "user.root", b"r")
    os.mkfifo(source / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(source / "socket"))
    os.utime(source / "file", ns=(1, 1_234_567_890_123_456_789))
    os.chmod(source, 0o711)
    os.utime(source, ns=(1, 987_654_321_012_345_678))
    writer = Writer(source)
    writer.run()
    found = writer.read()
    assert found.facts(*ALL) == look(source, *ALL)
    assert found.entries[b"file"].xattrs == ((b"user.odd", b"\xff\0\n"),)
    assert found.entries[b"."].xattrs == ((b"user.root", b"r"),)
    writer.run()
    assert writer.read().facts(*ALL) == look(source, *ALL)


@pytest.mark.root
def test_devices_and_owners_without_a_name(source: Path) -> None:
    os.mknod(source / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (source / "file").write_bytes(b"x")
    os.chown(source / "file", 123_456, 234_567)
    writer = Writer(source)
    writer.run()
    entries = writer.read().entries
    assert entries[b"null"].device == (1, 3)
    assert (entries[b"file"].uid, entries[b"file"].gid) == (123_456, 234_567)
    assert entries[b"file"].user is None
    items = {item[b"path"]: item for item in msgpack.unpackb(writer.streams[0][:-1], raw=True)}
    assert items[b"null"][b"dev"] == os.makedev(1, 3), "where the original looks for it"
    assert items[b"file"][b"inode"][b"uname"] == b"root", "the original fails on a name that it cannot find"


def test_a_changed_block_costs_a_block(source: Path) -> None:
    data = os.urandom(1 << 20)
    (source / "large").write_bytes(data)
    writer = Writer(source)
    writer.run()
    (source / "large").write_bytes(data[:100_000] + b"changed" + data[100_007:])
    writer.run()
    assert len(writer.streams[1]) < 6000
    os.utime(source / "large", ns=(1, 1))
    os.chmod(source / "large", 0o600)
    writer.run()
    assert len(writer.streams[2]) < 6000, "new facts do not cost the content"
    assert writer.read().facts(*ALL) == look(source, *ALL)
    (source / "large").write_bytes(b"inserted" + (source / "large").read_bytes())
    writer.run()
    assert len(writer.streams[3]) > 1 << 20, "an insertion moves all blocks behind it"
    assert writer.read().facts(*ALL) == look(source, *ALL)


def test_a_level_without_changes_is_nearly_empty(source: Path) -> None:
    for number in range(50):
        (source / f"file-{number}").write_bytes(os.urandom(1000))
        os.utime(source / f"file-{number}", ns=(1, 1))
    writer = Writer(source)
    writer.run()
    writer.run()
    assert len(writer.streams[1]) < 400
    assert writer.written[1].stats.unmodified_files == 50


def test_a_single_file(source: Path) -> None:
    file = source / "a b'\"\n$(x).txt"
    file.write_bytes(b"single")
    writer = Writer(file)
    for content in (b"single", b"single and more"):
        file.write_bytes(content)
        writer.run()
        found = writer.read()
        assert found.whole == {os.fsencode(file.name): content}
        assert list(found.entries) == [os.fsencode(file.name)]


@pytest.mark.parametrize(("compression", "expand"), [("gzip", zlib.decompress), ("bzip2", bz2.decompress)])
def test_the_state_is_what_the_original_reads(source: Path, compression: str, expand: object) -> None:
    (source / "file").write_bytes(b"a" * 5000)
    writer = Writer(source, compression=compression)
    writer.run()
    assert callable(expand)
    plain = expand(writer.states[0])
    state = msgpack.unpackb(plain, raw=True)
    assert b"\xda\x00\x28" in plain, "checksums in the old spelling of texts"
    assert b"\xd9\x28" not in plain
    assert state[b"rsync_struct_ver"] == 2
    assert state[b"abs_backup_path"] == os.fsencode(source)
    weak, strong = state[b"files"][b"file"][b"signature"]
    assert weak == [zlib.adler32(b"a" * 4096), zlib.adler32(b"a" * 904)]
    assert len(strong) == 2
    assert state[b"files"][b"file"][b"mtime"] == os.stat(source / "file").st_mtime


def test_a_chain_keeps_its_block_size(source: Path) -> None:
    (source / "file").write_bytes(b"a" * 5000)
    writer = Writer(source, block=1024)
    assert writer.run().document == {"rsync_block_size": 1024}
    writer.codec = RsyncCodec(block_size=4096)
    assert writer.run().document == {"rsync_block_size": 1024}


@pytest.mark.parametrize("block", [0, 1, 511, (16 << 20) + 1])
def test_block_sizes_that_cannot_be_meant(block: int) -> None:
    with pytest.raises(ConfigurationError):
        RsyncCodec(block_size=block)


def test_several_directories_are_refused(source: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    tree = LocalTree([os.fsencode(source), os.fsencode(tmp_path / "other")])
    with pytest.raises(ConfigurationError) as caught:
        Writer(source).run(tree)
    assert caught.value.hint
    with pytest.raises(ConfigurationError):
        RsyncCodec().write(
            Protected(sources=[]),
            level=0,
            base=None,
            output=lambda data: None,
            context=Context(),
            problem=lambda problem: None,
        )


@pytest.mark.parametrize("state", [b"", b"junk", zlib.compress(b"{}"), zlib.compress(b"junk")])
def test_a_state_that_no_level_can_be_written_on(source: Path, state: bytes) -> None:
    with pytest.raises(IntegrityError):
        RsyncCodec().check_state(state)
    writer = Writer(source)
    writer.run()
    RsyncCodec().check_state(writer.states[0])
