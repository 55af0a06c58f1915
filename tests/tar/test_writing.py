"""Levels that the engine tar writes: what is in them, and that the original's restore command reads them."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import trees
from files.helpers import as_nobody, can_mount, everybodys_directory, mounted
from tar.chain import difference, disk
from tar.writer import Writer, names

from freezer_sdk.engines.tar.snapshot import Snapshot, settled
from freezer_sdk.engines.tar.writing import WriteOptions

pytestmark = pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs to mount file systems")
TICK = 0.05  # longer than what the engine takes for the coarseness of a file's times


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


def every_kind(path: Path) -> Path:
    """Everything that GNU tar can store: it makes pipes and devices with several names into several of them."""
    trees.make_every_kind(path)
    (path / "special" / "fifo-too").unlink()
    return path


def grow(source: Path, number: int) -> None:
    """Changes of all kinds."""
    (source / f"new-{number}").write_text(f"level {number}")
    (source / "changing").write_text("x" * number)
    (source / "folder").mkdir(exist_ok=True)
    (source / "folder" / f"{number}").write_text("inside")
    if number:
        (source / f"new-{number - 1}").unlink()
        (source / f"moved-{number - 1}").rename(source / f"moved-{number}")
    else:
        (source / "moved-0").mkdir()
        (source / "moved-0" / "stays").write_text("stays")
        (source / "same").write_text("same")


# -- whole trees ---------------------------------------------------------------------------------------------


def test_the_originals_restore_command_gives_every_kind_of_entry_back(tmp_path: Path) -> None:
    source = every_kind(tmp_path / "source")
    writer = Writer(source)
    writer.backup()
    assert {kind for kind, _, _ in writer.said()} <= {"socket", "xattr"}
    expected = disk(source, fine=True)
    assert difference(writer.restored(tmp_path / "restored"), expected) == {}
    assert difference(writer.read(), expected) == {}


def test_attributes_and_holes_come_back(tmp_path: Path) -> None:
    source = every_kind(tmp_path / "source")
    writer = Writer(source)
    writer.backup()
    assert difference(writer.read(xattrs=True), disk(source, fine=True, xattrs=True)) == {}
    writer.restored(tmp_path / "restored", options=["--xattrs", "--xattrs-include=*", "--acls"])
    restored, expected = disk(tmp_path / "restored", fine=True, xattrs=True), disk(source, fine=True, xattrs=True)
    assert difference(restored, expected) == {}
    for each in (source / "sparse").iterdir():
        copy = tmp_path / "restored" / "sparse" / each.name
        assert copy.stat().st_blocks <= each.stat().st_blocks + 8


def test_attributes_and_holes_can_be_left_out(tmp_path: Path, source: Path) -> None:
    (source / "file").write_text("x")
    os.setxattr(source / "file", "user.colour", b"blue")
    with open(source / "holes", "wb") as file:
        file.truncate(1 << 20)
    writer = Writer(source, writing=WriteOptions(xattrs=False, sparse=False))
    writer.backup()
    assert b"user.colour" not in writer.streams[0]
    assert len(writer.streams[0]) > 1 << 20
    assert difference(writer.read(xattrs=True), disk(source, fine=True, xattrs=True))[b"file"][0][7] == ()


def test_every_level_can_be_restored_and_stores_only_what_changed(tmp_path: Path, source: Path) -> None:
    writer, expected = Writer(source), []
    for level in range(4):
        grow(source, level)
        time.sleep(TICK)
        writer.backup()
        expected.append(disk(source, fine=True))
    assert writer.problems == [[], [], [], []]
    for level, facts in enumerate(expected, 1):
        assert difference(writer.restored(tmp_path / f"restored-{level}", levels=level), facts) == {}
        assert difference(writer.read(levels=level), facts) == {}
    stats = writer.written[2].stats
    assert (stats.new_files, stats.changed_files) == (3, 1)  # what was moved with its directory is stored again
    assert stats.unmodified_files == 3  # same, folder/0 and folder/1
    contents = ["level 2", "xx", "inside", "inside", "inside", "same", "stays"]
    assert (stats.files, stats.directories, stats.bytes) == (7, 3, len("".join(contents)))
    assert stats.read_bytes == len("level 2" + "xx" + "inside" + "stays")
    assert writer.written[0].stats.new_files == 5


def test_figures_of_an_increment_are_of_the_whole_tree(tmp_path: Path) -> None:
    source = every_kind(tmp_path / "source")
    time.sleep(TICK)
    writer = Writer(source)
    full, again = writer.backup().stats, writer.backup().stats
    assert again.new_files == 0
    assert again.unmodified_files + again.changed_files == again.files  # times in the future look changed for ever
    assert again.bytes == full.bytes
    facts = writer.restored(tmp_path / "restored")
    for stats in (full, again):
        assert stats.directories + stats.files + stats.others == len(facts)


def test_plain_tar_reads_a_full_level(tmp_path: Path, source: Path) -> None:
    grow(source, 0)
    writer = Writer(source)
    writer.backup()
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        ["tar", "-x", "-C", tmp_path / "out"], input=writer.streams[0], capture_output=True, check=True
    )
    assert done.stderr == b""
    assert difference(disk(tmp_path / "out", fine=True), disk(source, fine=True)) == {}
    with tarfile.open(fileobj=io.BytesIO(writer.streams[0])) as archive:
        assert "./moved-0/stays" in archive.getnames()


def test_a_moved_or_copied_mount_does_not_look_changed(tmp_path: Path) -> None:
    grow_at = tmp_path / "here"
    grow_at.mkdir()
    grow(grow_at, 0)
    time.sleep(TICK)
    writer = Writer(grow_at)
    writer.backup()
    grow_at.rename(tmp_path / "there")
    root = os.fsencode(grow_at)
    shadow = {root: os.fsencode(tmp_path / "there")}
    stats = writer.backup(shadow=shadow).stats
    assert (stats.new_files, stats.changed_files, stats.unmodified_files) == (0, 0, 5)
    assert writer.written[1].root == root


def test_another_device_does_not_make_everything_new(source: Path) -> None:
    """Devices get other numbers with every start of a machine, and with every snapshot of a volume."""
    grow(source, 0)
    time.sleep(TICK)
    writer = Writer(source)
    state = writer.backup().state
    device = b"\0%d\0" % source.stat().st_dev
    assert device in state
    writer.written[0] = replace(writer.written[0], state=state.replace(device, b"\x0012345\0"))
    stats = writer.backup().stats
    assert (stats.new_files, stats.changed_files, stats.unmodified_files) == (0, 0, 5)


@pytest.mark.parametrize(
    ("fractions", "expected"),
    [
        ((b"5", b"0"), (100, 999_999_999 - 20_000_000 + 1)),  # the time of one directory has a fraction
        ((b"0", b"0"), (100, 0)),  # a file system with whole or even seconds
    ],
)
def test_what_changes_as_gnu_tar_starts_is_not_missed(
    fractions: tuple[bytes, bytes], expected: tuple[int, int]
) -> None:
    """Clocks of kernels and file systems are coarser than the one from which GNU tar takes its start."""
    directories = [b"0\x0090\0" + each + b"\x007\x0042\0./%d\0\0\0" % n for n, each in enumerate(fractions)]
    state = b"GNU tar-1.34-2\n101\x000\0" + b"".join(directories)
    assert Snapshot(settled(state, known=None, lost=(), left_out=None)).start == expected


# -- names ---------------------------------------------------------------------------------------------------

NAMES = [
    b"a b",
    b" ",
    b"'\"`",
    b"new\nline",
    b"end ",
    b"$(touch PWNED)",
    b";touch PWNED",
    b"-rf",
    b"--checkpoint-action=exec=touch PWNED",
    b"back\\slash\\n\\101",
    b"\xff\xfe",
    "ünï".encode(),
    b"*",
    b"[a]",
    b"x" * 255,
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_single_file_of_any_name(tmp_path: Path, source: Path, name: bytes) -> None:
    path = os.path.join(os.fsencode(source), name)
    with open(path, "wb") as file:
        file.write(b"content")
    os.utime(source, (1, 1))
    time.sleep(TICK)
    writer = Writer(path)
    assert writer.backup().stats.files == 1
    assert list(writer.restored(tmp_path / "restored").keys() - {b"."}) == [name]
    with open(os.path.join(os.fsencode(tmp_path / "restored"), name), "rb") as file:
        assert file.read() == b"content"
    assert writer.backup().stats.unmodified_files == 1
    with open(path, "ab") as file:
        file.write(b"more")
    assert writer.backup().stats.changed_files == 1
    assert list(writer.restored(tmp_path / "again").keys() - {b"."}) == [name]
    assert os.path.getsize(os.path.join(os.fsencode(tmp_path / "again"), name)) == len(b"contentmore")
    assert not list(tmp_path.rglob("PWNED"))


def test_directories_of_any_name(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        root = os.path.join(os.fsencode(tmp_path), b"%d" % number, name)
        os.makedirs(os.path.join(root, name))
        with open(os.path.join(root, name, name), "wb") as file:
            file.write(name)
        writer = Writer(root)
        writer.backup()
        facts = writer.restored(tmp_path / f"restored-{number}")
        assert facts == disk(Path(os.fsdecode(root)), fine=True)
        assert facts == writer.read()
    assert not list(tmp_path.rglob("PWNED"))


def test_problems_name_the_very_entry() -> None:
    with everybodys_directory() as path:
        for number, name in enumerate(NAMES):
            folder = os.path.join(os.fsencode(path), b"%d" % number)
            os.mkdir(folder)
            with open(os.path.join(folder, name), "wb"):
                pass
            os.chmod(os.path.join(folder, name), 0)

        def run() -> list[str]:
            writer = Writer(path)
            writer.backup()
            return [each.path for each in writer.problems[0] if each.kind == "unreadable"]

        expected = {f"{path}/{number}/" + os.fsdecode(name) for number, name in enumerate(NAMES)}
        assert set(as_nobody(run)) == expected


def test_nothing_is_written_into_the_source(source: Path) -> None:
    grow(source, 0)
    before = disk(source, fine=True)
    Writer(source).backup(excludes=["folder/"])
    assert disk(source, fine=True) == before


# -- links and file systems ----------------------------------------------------------------------------------


def test_links_are_followed_once_and_never_in_circles(tmp_path: Path, source: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "far").write_text("far")
    (outside / "home").symlink_to(source)
    (source / "real").mkdir()
    (source / "real" / "file").write_text("x")
    (source / "real" / "up").symlink_to("..")
    (source / "again").symlink_to("real")
    (source / "far").symlink_to(outside)
    (source / "dangling").symlink_to("nowhere")
    (source / "file").symlink_to("real/file")
    (source / "self").symlink_to("self")
    writer = Writer(source, follow="soft")
    writer.backup()
    assert writer.said() == [
        ("dangling", "dangling", False),
        ("dangling", "self", False),
        ("loop", "again", False),
        ("loop", "far/home", False),
        ("loop", "real/up", False),
    ]
    facts = writer.restored(tmp_path / "restored")
    assert names(facts) == {"real", "real/file", "far", "far/far", "file"}
    assert (tmp_path / "restored" / "file").read_text() == "x"
    assert not (tmp_path / "restored" / "file").is_symlink()
    writer.backup()
    assert names(writer.read()) == names(facts)


def test_names_of_one_file_can_be_stored_apart(tmp_path: Path, source: Path) -> None:
    (source / "a").write_text("x")
    os.link(source / "a", source / "b")
    (source / "link").symlink_to("a")
    writer = Writer(source, follow="hard")
    writer.backup()
    facts = writer.restored(tmp_path / "restored")
    assert (tmp_path / "restored" / "a").stat().st_nlink == 1
    assert (tmp_path / "restored" / "link").is_symlink()
    assert names(facts) == {"a", "b", "link"}
    everything = Writer(source, follow="all")
    everything.backup()
    everything.restored(tmp_path / "all")
    assert not (tmp_path / "all" / "link").is_symlink()
    assert (tmp_path / "all" / "link").stat().st_nlink == 1


@needs_mounts
def test_other_file_systems_can_be_left_out(tmp_path: Path, source: Path) -> None:
    (source / "file").write_text("x")
    with mounted(source / "mount") as mount:
        (mount / "inside").write_text("x")
        writer = Writer(source)
        writer.backup(one_file_system=True)
        assert writer.written[0].mount_points == (os.fsencode(mount),)
        assert writer.problems == [[]]
        assert names(writer.restored(tmp_path / "restored")) == {"file", "mount"}
        time.sleep(TICK)
        writer.backup()
        assert names(writer.restored(tmp_path / "all")) == {"file", "mount", "mount/inside"}


def test_caches_are_stored_as_their_tag_alone(tmp_path: Path, source: Path) -> None:
    (source / "cache").mkdir()
    (source / "cache" / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55")
    (source / "cache" / "data").write_text("x")
    writer = Writer(source, exclude_caches=True)
    writer.backup()
    assert names(writer.restored(tmp_path / "restored")) == {"cache", "cache/CACHEDIR.TAG"}
    assert writer.problems == [[]]
