"""Formats of tar streams, and what is left of damaged ones."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import os
import stat
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from tar.chain import TAR, Chain, Level, difference, disk, entry_of, levels_of, merged, read_files

from freezer_sdk.crypto.openssl import OpenSslDecryptor
from freezer_sdk.engines.tar.reading import TarContent, read_levels
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import EntryType, Problem

FORMATS = {
    "old": ("--format=oldgnu",),
    "gnu": ("--format=gnu",),
    "gnu sparse": ("--format=gnu", "--sparse"),
    "posix": ("--format=posix",),
    "posix 0.0": ("--format=posix", "--sparse", "--sparse-version=0.0"),
    "posix 0.1": ("--format=posix", "--sparse", "--sparse-version=0.1"),
    "posix 1.0": ("--format=posix", "--sparse", "--sparse-version=1.0"),
    "everything": ("--format=posix", "--sparse", "--xattrs", "--acls"),
}

needs_tar = pytest.mark.skipif(TAR is None, reason="GNU tar is not installed")


def read(*streams: bytes) -> tuple[TarContent, list[Problem]]:
    problems: list[Problem] = []
    return read_levels(levels_of(streams), problem=problems.append), problems


def kinds(problems: list[Problem]) -> list[tuple[str, str, bool]]:
    return [(problem.path, problem.kind, problem.fatal) for problem in problems]


def make_source(root: Path) -> None:
    """Everything that a tree may hold and this process may make."""
    root.mkdir()
    top = os.fsencode(root)
    (root / "empty").touch()
    (root / "blocks").write_bytes(b"b" * 512 * 3)
    (root / "large").write_bytes(os.urandom(3_000_001))
    os.link(root / "blocks", root / "zz-link")
    os.symlink("t" * 300, root / "symlink")
    os.symlink(b"\xff'\n", top + b"/\xfe\n\"'$(x) ")
    os.mkfifo(root / "fifo", 0o640)
    deep = root / ("d" * 99) / ("e" * 100) / ("f" * 101)
    deep.mkdir(parents=True)
    (deep / ("g" * 255)).write_text("long")
    (root / ("h" * 100)).write_text("exactly 100")
    os.link(deep / ("g" * 255), root / ("i" * 150))
    (root / "old").write_text("1960")
    os.utime(root / "old", ns=(-(3 * 10**17) - 250_000_000, -(3 * 10**17) - 250_000_000))
    (root / "mode").write_text("m")
    os.chmod(root / "mode", 0o4711)
    _make_sparse(root)
    if os.geteuid() == 0:
        os.mknod(root / "device", stat.S_IFCHR | 0o600, os.makedev(10, 200))
        os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
        os.chown(root / "mode", 4_000_000, 3_000_000)


def _make_sparse(root: Path) -> None:
    for name, ranges, size in (("some", 3, 1 << 22), ("many", 60, 60 << 16), ("nothing", 0, 5_000_000), ("end", 1, 9)):
        with open(root / f"sparse-{name}", "wb") as file:
            for number in range(ranges):
                file.seek(number * size // max(ranges, 1))
                file.write(b"%d" % number)
            file.truncate(max(size, file.tell()))


@needs_tar
@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_all_that_a_tree_holds_is_read_in_every_format(tmp_path: Path, options: tuple[str, ...]) -> None:
    make_source(tmp_path / "source")
    chain = Chain(tmp_path / "source", tmp_path, *options)
    chain.backup()
    problems: list[Problem] = []
    fine = "--format=posix" in options
    assert difference(disk(chain.source, fine=fine), merged(chain.content(problems), fine=fine)) == {}
    assert problems == []


@needs_tar
@pytest.mark.parametrize("options", [FORMATS["gnu sparse"], *(FORMATS[f"posix {n}"] for n in ("0.0", "0.1", "1.0"))])
def test_holes_stay_holes(tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "source").mkdir()
    _make_sparse(tmp_path / "source")
    chain = Chain(tmp_path / "source", tmp_path, *options)
    chain.backup()
    content = chain.content()
    extents = entry_of(content, b"sparse-some").extents
    assert extents is not None
    assert len(extents) == 3
    assert sum(length for _, length in extents) < 64 << 10
    assert entry_of(content, b"sparse-nothing").extents == ()
    assert len(list(content.pieces(lambda path: path == b"sparse-nothing"))) == 1


@needs_tar
def test_extended_attributes_and_access_lists(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    (source / "dir").mkdir()
    acl = bytes.fromhex("02000000 01000600ffffffff 0200040002000000 04000400ffffffff 10000600ffffffff 20000000ffffffff")
    try:
        os.setxattr(source / "file", "user.a=b%3D", b"\0\xff\nvalue=")
        os.setxattr(source / "file", "system.posix_acl_access", acl)
        os.setxattr(source / "dir", "system.posix_acl_default", acl)
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")
    chain = Chain(source, tmp_path, "--format=posix", "--xattrs", "--acls")
    chain.backup()
    expected = disk(source, fine=True, xattrs=True)
    if b"SCHILY.acl" not in chain.streams[0]:
        pytest.skip("this GNU tar was built without access lists")
    assert difference(expected, merged(chain.content(), fine=True, xattrs=True)) == {}


@needs_tar
def test_a_single_file_has_no_directory(tmp_path: Path) -> None:
    (tmp_path / "a b.txt").write_text("one")
    command = [TAR or "tar", "--create", f"--listed-incremental={tmp_path}/state", "a b.txt"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    unchanged = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    content, problems = read(first, unchanged)
    assert [entry.path for entry in content.entries()] == [b"a b.txt"]
    assert list(read_files(content)) == [b"a b.txt"]
    assert problems == []


def test_an_archive_without_entries_is_told() -> None:
    content, problems = read(bytes(10_240))
    assert list(content.entries()) == []
    assert kinds(problems) == [("data/tar/h_n/100/0_100/data", "empty", True)]


@needs_tar
def test_archives_one_after_the_other_are_one(tmp_path: Path) -> None:
    """As ``tar --ignore-zeros`` reads them."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "first").write_text("1")
    chain = Chain(tmp_path / "source", tmp_path)
    chain.backup()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("./second")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"2"))
    content, problems = read(chain.streams[0] + buffer.getvalue())
    assert [entry.path for entry in content.entries()] == [b".", b"first", b"second"]
    assert problems == []


def test_archives_of_other_programs_are_read() -> None:
    """Directories without listings, numbers in base 256, global headers, names in two parts."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "all"}) as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("d/" + "n" * 120, tarfile.REGTYPE), ("d/l", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.uid, info.mtime = kind, "d", 2**31, 1.5
            archive.addfile(info)
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(tarfile.TarInfo("p" * 90 + "/" + "q" * 90))
    with tarfile.open(fileobj=buffer, mode="w:", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("gnu")
        info.uid, info.mtime = 2**32 - 1, -5
        archive.addfile(info)
    content, problems = read(buffer.getvalue())
    found = {entry.path: entry for entry in content.entries()}
    assert problems == []
    assert found[b"d/" + b"n" * 120].uid == 2**31
    assert found[b"d/l"].mtime_ns == 1_500_000_000
    assert found[b"p" * 90].type is EntryType.DIRECTORY
    assert found[b"gnu"].uid == 2**32 - 1
    assert found[b"gnu"].mtime_ns == -5_000_000_000


@needs_tar
@pytest.mark.parametrize("format_name", ["gnu", "posix"])
def test_an_exchange_that_gnu_tar_repeats_is_made_once(tmp_path: Path, format_name: str) -> None:
    """GNU tar tells of it at every later level; a restore by GNU tar gives each directory the other one's files."""
    source = tmp_path / "source"
    for name in ("blue", "green"):
        (source / name).mkdir(parents=True)
        (source / name / "same").write_text(f"{name} {'x' * len(name)}")
    chain = Chain(source, tmp_path, f"--format={format_name}")
    chain.backup()
    time.sleep(1.1)  # whole seconds tell the exchange from what was before
    os.rename(source / "blue", source / "between")
    os.rename(source / "green", source / "blue")
    os.rename(source / "between", source / "green")
    for number in range(1, 4):
        chain.backup()
        if number == 2:
            (source / "blue" / "more").write_text("of the same")
    for count in range(2, 5):
        problems: list[Problem] = []
        later = int(time.time()) + 10  # as if the backups were further apart
        content = read_levels(levels_of(chain.streams[:count], time=later), problem=problems.append)
        assert problems == []
        assert entry_of(content, b"blue/same").size == len("green xxxxx")
        assert entry_of(content, b"green/same").size == len("blue xxxx")


# -- damage --------------------------------------------------------------------------------------------------


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """Three levels: ``a`` is of level 0, ``b`` of level 1, ``c`` of level 2; ``n`` is new in level 1."""
    if TAR is None:
        pytest.skip("GNU tar is not installed")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("a", "b", "c"):
        (source / name).write_text(f"{name} 0 " * 500)
    chain = Chain(source, tmp_path)
    chain.backup()
    (source / "b").write_text("b 1 " * 1000)
    (source / "n").write_text("n 1 " * 1000)
    chain.backup()
    (source / "c").write_text("c 2 " * 1000)
    chain.backup()
    return chain


def test_a_cut_stream_keeps_what_was_whole(chain: Chain) -> None:
    cut = chain.streams[1].index(b"n 1 ")
    content, problems = read(chain.streams[0], chain.streams[1][: cut + 700], chain.streams[2])
    whole = {entry.path for entry in content.entries() if not entry.incomplete}
    assert whole == {b".", b"a", b"b", b"c"}
    assert [entry.path for entry in content.entries() if entry.incomplete] == [b"n"]
    assert set(read_files(content)) == {b"a", b"b", b"c"}
    assert kinds(problems) == [("data/tar/h_n/100/1_101/data", "damaged", True), ("n", "damaged", True)]
    assert "byte " in problems[0].message


def test_a_file_in_the_lost_part_is_never_given_in_an_older_state(chain: Chain) -> None:
    cut = chain.streams[1].index(b"./b\0")
    content, problems = read(chain.streams[0], chain.streams[1][:cut], chain.streams[2])
    assert entry_of(content, b"b").incomplete
    assert b"n" not in {entry.path for entry in content.entries()}
    assert set(read_files(content)) == {b"a", b"c"}
    assert {problem.path for problem in problems} == {"data/tar/h_n/100/1_101/data", "b", "n"}


def test_a_missing_level_is_told(chain: Chain) -> None:
    problems: list[Problem] = []
    content = read_levels(levels_of([chain.streams[0], chain.streams[2]], [0, 2]), problem=problems.append)
    assert set(read_files(content)) == {b"a", b"b", b"c"}
    assert kinds(problems) == [("tar/h_n/100/1", "missing", True), ("n", "lost", True)]


def test_a_missing_level_0_leaves_what_changed_later(chain: Chain) -> None:
    problems: list[Problem] = []
    content = read_levels(levels_of(chain.streams[1:], [1, 2]), problem=problems.append)
    assert set(read_files(content)) == {b"b", b"n", b"c"}
    assert kinds(problems) == [("tar/h_n/100/0", "missing", True), ("a", "lost", True)]


def test_a_wrong_checksum_at_the_end_loses_nothing(chain: Chain) -> None:
    class Checked(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise IntegrityError("the checksum is wrong")
            return data

    problems: list[Problem] = []
    whole = levels_of(chain.streams)
    first = Level(whole[0].id, b"", opened=lambda: Checked(chain.streams[0]))
    content = read_levels([first, *whole[1:]], problem=problems.append)
    assert set(read_files(content)) == {b"a", b"b", b"c", b"n"}
    assert kinds(problems) == [("data/tar/h_n/100/0_100/data", "damaged", True)]


def test_nothing_at_all_can_be_read(chain: Chain) -> None:
    with pytest.raises(IntegrityError, match="at byte 0 of the tar stream"):
        read(b"\1" + chain.streams[0][1:])
    with pytest.raises(IntegrityError, match="at byte 0"):
        read(b"")


def test_what_follows_the_end_is_no_archive(chain: Chain) -> None:
    content, problems = read(chain.streams[0] + b"\7" * 512)
    assert set(read_files(content)) == {b"a", b"b", b"c"}
    assert [problem.kind for problem in problems] == ["damaged"]
    assert "what follows the end" in problems[0].message


@pytest.mark.parametrize("target", ["../../etc/passwd", "/etc/passwd"])
def test_hostile_names_stay_in_the_tree(target: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        for info in (link, tarfile.TarInfo("way/passwd"), tarfile.TarInfo("../out"), tarfile.TarInfo("a/../../b")):
            archive.addfile(info)
        hard = tarfile.TarInfo("hard")
        hard.type, hard.linkname = tarfile.LNKTYPE, target
        archive.addfile(hard)
        archive.addfile(tarfile.TarInfo("/absolute"))
    content, problems = read(buffer.getvalue())
    assert {entry.path for entry in content.entries()} == {b"way", b"absolute"}
    assert {problem.path for problem in problems} == {"way/passwd", "../out", "a/../../b", "hard"}
    assert all(problem.fatal for problem in problems)


@needs_tar
def test_sockets_are_told_but_no_failure(tmp_path: Path) -> None:
    import socket

    source = tmp_path / "source"
    source.mkdir()
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(source)
        try:
            listening.bind("socket")
        finally:
            os.chdir(here)
        chain = Chain(source, tmp_path)
        chain.backup()
        chain.backup()
    problems: list[Problem] = []
    chain.content(problems)
    assert kinds(problems) == [("socket", "missing", False)]


@needs_tar
def test_what_was_left_out_is_no_loss(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.log").write_text("x")
    (source / "b").write_text("x")
    chain = Chain(source, tmp_path, "--exclude=*.log")
    chain.backup()
    chain.backup()
    problems: list[Problem] = []
    assert [entry.path for entry in chain.content(problems).entries()] == [b".", b"b"]
    assert problems == []


# -- stores of the original ----------------------------------------------------------------------------------

INTEROP = Path(__file__).parents[2] / ".." / "shared" / "interop"
CASES = sorted(path.name for path in INTEROP.glob("tar-*") if list(path.glob("store/metadata/*")))


@pytest.mark.skipif(not CASES, reason="the stores of the original are not here")
@pytest.mark.parametrize("case", CASES)
def test_stores_of_the_original(case: str) -> None:
    folder = INTEROP / case
    document = json.loads((folder / "case.json").read_text())
    root = folder / "store" / "data" / "tar" / document["hostname_backup_name"]
    for run in document["runs"]:
        made = run["new"][0]
        chain = root / str(made["level_zero_timestamp"])
        streams = []
        for number in range(made["level"] + 1):
            (level,) = chain.glob(f"{number}_*")
            streams.append(_decoded((level / "data").read_bytes(), folder))
        content, problems = read(*streams)
        expected = {_expected(each)[0]: _expected(each)[1] for each in json.loads((folder / run["expect"]).read_text())}
        if case == "tar-single-file-space":
            assert [problem.kind for problem in problems] == ["empty"]
            continue
        found = {
            path: (facts[0], facts[1], facts[2], facts[3], facts[4], facts[5])
            for path, facts in _found(content).items()
        }
        if case == "tar-dereference-all":  # links became files: that is what was asked for
            expected.pop(b"data/link_to_readme")
            assert found.pop(b"data/link_to_readme")[0] == stat.S_IFREG
        assert problems == []
        assert found == expected


def _found(content: TarContent) -> dict[bytes, tuple[Any, ...]]:
    return merged(content, fine=False)


def _decoded(data: bytes, folder: Path) -> bytes:
    if data.startswith(b"Salted__"):
        password = (folder / "passfile").read_bytes().split(b"\n")[0]
        for digest in ("sha256", "md5"):
            opener = OpenSslDecryptor(password, digest=digest)
            plain = opener.update(data) + opener.finalize()
            if plain.startswith((b"\x1f\x8b", b"BZh")):
                data = plain
                break
    return bz2.decompress(data) if data.startswith(b"BZh") else gzip.decompress(data)


_TYPES = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK, "fifo": stat.S_IFIFO}


def _expected(each: dict[str, Any]) -> tuple[bytes, tuple[Any, ...]]:
    kind = _TYPES[each["type"]]
    value: Any = None
    if kind == stat.S_IFREG:
        value = each["size"], each["sha256"]
    elif kind == stat.S_IFLNK:
        value = os.fsencode(each["target"])
    path = each["path"].encode("utf-8", "surrogateescape")
    return path, (kind, int(each["mode"], 8), each["uid"], each["gid"], each["mtime"], value)
