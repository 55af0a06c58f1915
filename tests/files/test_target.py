"""A restore never leaves its target, and never leaves half a file that looks whole."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trees
from files.helpers import as_nobody, can_mount, everybodys_directory, mounted

from freezer_sdk.errors import RestoreConflict, RestoreError, UnsafePath
from freezer_sdk.files.extras import pack_device, pack_extents, pack_xattr
from freezer_sdk.files.target import Decision, Item, RestoreTarget, TargetUnusable
from freezer_sdk.model import Overwrite, Problem, RestoreOptions
from freezer_sdk.modes.base import FLAG_HARDLINK, FLAG_INCOMPLETE, FLAG_NOT_DESCENDED, Attributes, Extra

needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs to mount file systems")
needs_root = pytest.mark.skipif(not trees.is_root(), reason="needs root")

MTIME = 1_500_000_000_123_456_789
UNSAFE = [b"..", b".", b"", b"a/..", b"../a", b"/etc/x", b"a//b", b"a/./b", b"a/", b"nul\0", b"\0/a", b"./a"]


def item(kind: int = stat.S_IFREG, mode: int = 0o644, size: int = 0, *, extras: Any = (), **fields: Any) -> Item:
    values = {"uid": os.geteuid(), "gid": os.getegid(), "flags": 0, "mtime": MTIME, "ctime": 0, "inode": 0} | fields
    return Item(Attributes(mode=kind | mode, size=size, **values), extras)


def directory_item(mode: int = 0o755, **fields: Any) -> Item:
    return item(stat.S_IFDIR, mode, **fields)


def link_item(target: bytes) -> Item:
    return item(stat.S_IFLNK, 0o777, len(target), extras=[(Extra.LINK_TARGET, target)])


class Target(RestoreTarget):
    """With the problems that it reported."""

    problems: list[Problem]

    def kinds(self) -> list[tuple[str, str]]:
        return [(problem.kind, problem.path) for problem in self.problems]

    def file(self, path: bytes, data: bytes = b"new", **fields: Any) -> Decision:
        """What an engine does for a small file."""
        one = item(size=len(data), **fields)
        decision = self.decide(path, one)
        if decision is Decision.WRITE:
            self.write_file(path, one, data)
        elif decision is Decision.METADATA:
            self.metadata(path, one)
        return decision


@contextmanager
def opened(
    path: Path,
    *,
    users: Mapping[int, str] | None = None,
    keep: Collection[str] = (),
    origin: bytes = b"/r",
    **options: Any,
) -> Iterator[Target]:
    problems: list[Problem] = []
    chosen = RestoreOptions(**options)
    target = Target(
        os.fspath(path), chosen, problem=problems.append, users=users or {}, groups={}, keep=list(keep), origin=origin
    )
    target.problems = problems
    with target:
        yield target


def content(root: Path) -> dict[str, bytes | str | None]:
    """Every entry below a directory: content of files, targets of links."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = os.fspath(path.relative_to(root))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Something outside of the target that must not change."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "precious").write_bytes(b"precious")
    (path / "precious").chmod(0o600)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


# -- unsafe paths --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", UNSAFE)
def test_paths_that_lead_elsewhere_are_refused(out: Path, path: bytes) -> None:
    calls: list[Callable[[Target], object]] = [
        lambda t: t.write_file(path, item(), b"x"),
        lambda t: t.open_file(path, item()),
        lambda t: t.special(path, link_item(b"x")),
        lambda t: t.hardlink(path, b"first", item()),
        lambda t: t.hardlink(b"second", path, item()),
        lambda t: t.metadata(path, item()),
    ]
    with opened(out) as target:
        target.file(b"first")
        target.directory(b"a", directory_item())
        for call in calls:
            with pytest.raises(UnsafePath):
                call(target)
        if path:
            target.directory(path, directory_item())
            target.implied_directory(path)
            assert [problem.kind for problem in target.problems] == ["unsafe_path"] * 2
        target.finish()
    assert content(out) == {"first": b"new", "a": None}
    assert {path.name for path in out.parent.iterdir()} == {"out"}


def test_a_link_in_the_backup_is_not_followed(out: Path, outside: Path) -> None:
    with opened(out) as target:
        target.special(b"link", link_item(os.fsencode(outside)))
        for call in (
            lambda: target.file(b"link/precious"),
            lambda: target.file(b"link/new"),
            lambda: target.special(b"link/new", link_item(b"x")),
            lambda: target.metadata(b"link/precious", item(mode=0o777)),
            lambda: target.open_file(b"link/new", item()),
            lambda: target.hardlink(b"mine", b"link/precious", item()),
        ):
            with pytest.raises(UnsafePath, match="symbolic link"):
                call()
        target.directory(b"link", directory_item())
        target.directory(b"link/deeper", directory_item())
        target.finish()
        assert target.kinds() == [("conflict", "link"), ("unsafe_path", "link/deeper")]
    assert content(outside) == {"precious": b"precious"}
    assert stat.S_IMODE((outside / "precious").stat().st_mode) == 0o600


@pytest.mark.parametrize("overwrite", list(Overwrite))
def test_links_that_wait_in_the_target_are_not_followed(out: Path, outside: Path, overwrite: Overwrite) -> None:
    out.mkdir()
    (out / "directory").symlink_to(outside)
    (out / "file").symlink_to(outside / "precious")
    with opened(out, overwrite=overwrite, delete=True) as target:
        target.directory(b"", directory_item(), names={b"directory", b"file"})
        target.directory(b"directory", directory_item(), names={b"precious"})
        kept = overwrite is Overwrite.NEVER
        if kept:
            with pytest.raises(UnsafePath):
                target.file(b"directory/precious")
        else:
            target.file(b"directory/precious")
        assert target.file(b"file") is (Decision.SKIP if kept else Decision.WRITE)
        target.finish()
        assert target.kinds() == ([("conflict", "directory")] if kept else [])
    assert content(outside) == {"precious": b"precious"}
    assert content(out)["file"] == (os.fspath(outside / "precious") if kept else b"new")


def test_a_directory_swapped_for_a_link_meanwhile_is_not_followed(out: Path, outside: Path) -> None:
    with opened(out) as target:
        target.directory(b"d", directory_item(0o777))
        (out / "d").rmdir()
        (out / "d").symlink_to(outside)
        with pytest.raises(UnsafePath):
            target.file(b"d/precious")
        target.finish()
        assert target.kinds() == [("unsafe_path", "d")]
    assert content(outside) == {"precious": b"precious"}
    assert stat.S_IMODE(outside.stat().st_mode) != 0o777


def test_a_file_swapped_meanwhile_does_not_lend_its_attributes(out: Path, outside: Path) -> None:
    out.mkdir()
    (out / "file").write_bytes(b"new")
    os.utime(out / "file", ns=(MTIME, MTIME))
    for plant in (os.symlink, os.link):
        with opened(out, overwrite="if-changed") as target:
            one = item(size=3, mode=0o666)
            assert target.decide(b"file", one) is Decision.METADATA
            (out / "file").rename(out / "saved")
            plant(outside / "precious", out / "file")
            with pytest.raises(RestoreConflict, match="replaced by somebody"):
                target.metadata(b"file", one)
        (out / "saved").replace(out / "file")
    assert stat.S_IMODE((outside / "precious").stat().st_mode) == 0o600


@pytest.mark.parametrize("inplace", [False, True])
def test_a_hard_link_to_a_file_outside_is_replaced_not_written(out: Path, outside: Path, inplace: bool) -> None:
    out.mkdir()
    os.link(outside / "precious", out / "file")
    os.utime(out / "file", ns=(MTIME, MTIME))
    with opened(out, overwrite="if-changed", inplace=inplace) as target:
        assert target.file(b"file", b"8 bytes!") is Decision.WRITE
    assert content(outside) == {"precious": b"precious"}
    assert content(out) == {"file": b"8 bytes!"}


# -- what is there already -----------------------------------------------------------------------------------


def test_a_target_that_is_not_empty_is_refused(out: Path) -> None:
    out.mkdir()
    (out / "mine").write_bytes(b"")
    with pytest.raises(RestoreConflict, match="not empty") as caught, opened(out):
        pass
    assert "--overwrite" in str(caught.value.hint)
    with opened(out, force=True) as target:
        target.file(b"mine")
    assert content(out) == {"mine": b"new"}


def test_a_fresh_file_system_counts_as_empty(out: Path) -> None:
    (out / "lost+found").mkdir(parents=True)
    with opened(out) as target:
        target.file(b"x")
        with pytest.raises(RestoreConflict):
            target.file(b"lost+found")
    assert content(out) == {"lost+found": None, "x": b"new"}


def test_a_target_that_is_a_file_is_refused(out: Path) -> None:
    out.write_bytes(b"")
    with pytest.raises(RestoreConflict, match="no directory"), opened(out):
        pass


@pytest.mark.parametrize(
    ("overwrite", "expected"),
    [
        ("always", {"equal": "write", "edited": "write", "touched": "write", "new": "write"}),
        ("if-changed", {"equal": "metadata", "edited": "write", "touched": "write", "new": "write"}),
        ("never", {"equal": "skip", "edited": "skip", "touched": "skip", "new": "write"}),
    ],
)
def test_overwrite_policies(out: Path, overwrite: str, expected: dict[str, str]) -> None:
    out.mkdir()
    for name, data, mtime in (("equal", b"old", MTIME), ("edited", b"edited", MTIME), ("touched", b"old", MTIME + 1)):
        (out / name).write_bytes(data)
        (out / name).chmod(0o600)
        os.utime(out / name, ns=(1, mtime))
    before = content(out)
    with opened(out, overwrite=Overwrite(overwrite)) as target:
        decisions = {name: str(target.file(os.fsencode(name), mode=0o640)) for name in expected}
        target.finish()
    assert decisions == expected
    for name, decision in decisions.items():
        assert (out / name).read_bytes() == (b"new" if decision == "write" else before[name])
        assert stat.S_IMODE((out / name).stat().st_mode) == (0o600 if decision == "skip" else 0o640)


def test_types_that_differ_are_replaced(out: Path) -> None:
    out.mkdir()
    (out / "file").symlink_to("nowhere")
    (out / "link").write_bytes(b"x")
    os.mkfifo(out / "directory")
    (out / "fifo").mkdir()
    with opened(out, overwrite="if-changed") as target:
        target.file(b"file")
        assert target.decide(b"link", link_item(b"x")) is Decision.WRITE
        target.special(b"link", link_item(b"x"))
        target.directory(b"directory", directory_item())
        target.file(b"directory/inside")
        assert target.decide(b"fifo", item(stat.S_IFIFO)) is Decision.WRITE
        target.special(b"fifo", item(stat.S_IFIFO))
        target.finish()
        assert target.problems == []
    assert content(out) == {"file": b"new", "link": "x", "directory": None, "directory/inside": b"new", "fifo": None}
    assert stat.S_ISFIFO((out / "fifo").stat().st_mode)


def test_equal_links_and_fifos_only_get_attributes(out: Path) -> None:
    out.mkdir()
    (out / "link").symlink_to("there")
    os.mkfifo(out / "fifo")
    inode = (out / "fifo").stat().st_ino
    with opened(out, overwrite="if-changed") as target:
        for name, one in ((b"link", link_item(b"there")), (b"fifo", item(stat.S_IFIFO, 0o604))):
            assert target.decide(name, one) is Decision.METADATA
            target.metadata(name, one)
    assert (out / "link").lstat().st_mtime_ns == MTIME
    after = (out / "fifo").stat()
    assert (after.st_ino, stat.S_IMODE(after.st_mode), after.st_mtime_ns) == (inode, 0o604, MTIME)


def test_a_full_directory_in_the_way_of_a_file_stays_unless_deletion_is_allowed(out: Path) -> None:
    (out / "name/sub").mkdir(parents=True)
    (out / "name/sub/mine").write_bytes(b"mine")
    with opened(out, overwrite="always") as target:
        with pytest.raises(RestoreConflict, match="in the way") as caught:
            target.file(b"name")
        assert "--delete" in str(caught.value.hint)
    assert (out / "name/sub/mine").exists()
    with opened(out, overwrite="always", delete=True) as target:
        target.file(b"name")
        assert target.deleted == 3
    assert content(out) == {"name": b"new"}


def test_something_that_appears_meanwhile_is_a_conflict(out: Path) -> None:
    out.mkdir()
    (out / "lost+found").mkdir()
    with opened(out) as target:
        (out / "file").write_bytes(b"mine")
        with pytest.raises(RestoreConflict, match="exists in the target"):
            target.file(b"file")
    assert content(out)["file"] == b"mine"


# -- deletion ------------------------------------------------------------------------------------------------


@pytest.fixture
def full(out: Path, outside: Path) -> Path:
    for name in ("keep", "extra", "d/keep", "d/extra", "gone/a/b", "unlisted/extra", "skipped/extra", "partial/extra"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(b"x")
    (out / "gone/link").symlink_to(outside)
    (out / "extra-link").symlink_to(outside)
    return out


def restore_full(target: Target) -> None:
    top = {b"keep", b"d", b"unlisted", b"skipped", b"partial"}
    target.directory(b"", directory_item(), names=top)
    target.file(b"keep")
    for name, names, flags in (
        (b"d", {b"keep"}, 0),
        (b"unlisted", None, 0),
        (b"skipped", set(), FLAG_NOT_DESCENDED),
        (b"partial", set(), FLAG_INCOMPLETE),
    ):
        target.directory(name, directory_item(flags=flags), names=names)
    target.file(b"d/keep")
    target.finish()


STAYING = {"keep", "d", "d/keep", "unlisted", "unlisted/extra", "skipped", "skipped/extra", "partial", "partial/extra"}


def test_delete_removes_what_the_backup_has_not_and_no_more(full: Path, outside: Path) -> None:
    with opened(full, overwrite="always", delete=True) as target:
        restore_full(target)
        assert target.problems == []
        assert target.deleted == 7
    assert set(content(full)) == STAYING
    assert content(outside) == {"precious": b"precious"}
    assert full.stat().st_mtime_ns == (full / "d").stat().st_mtime_ns == MTIME


def test_nothing_is_deleted_without_the_option(full: Path) -> None:
    with opened(full, overwrite="always") as target:
        restore_full(target)
        assert target.deleted == 0
    assert set(content(full)) >= {"extra", "d/extra", "gone/a/b"}


@pytest.mark.parametrize("pattern", ["b", "/gone/a/b", "/r/gone/a/b", "gone/*/b", "a/"])
def test_delete_spares_what_the_backup_excludes(full: Path, pattern: str) -> None:
    with opened(full, overwrite="always", delete=True, keep=[pattern]) as target:
        restore_full(target)
        assert target.problems == []
    assert set(content(full)) == STAYING | {"gone", "gone/a", "gone/a/b"}


@needs_mounts
@pytest.mark.parametrize("bind", [False, True])
def test_delete_does_not_enter_mounts(full: Path, outside: Path, bind: bool) -> None:
    arguments = ("--bind", os.fspath(outside)) if bind else ("-t", "tmpfs", "none")
    for place in ("mount", "gone/mount"):
        with mounted(full / place, *arguments):
            (full / place / "inside").write_bytes(b"x")
            with opened(full, overwrite="always", delete=True) as target:
                restore_full(target)
                assert target.kinds() == [("mount_point", place)]
            assert (full / place / "inside").exists()
        assert (full / place).is_dir()
    assert (outside / "precious").exists()


def test_deep_trees_are_deleted(out: Path) -> None:
    out.mkdir()
    trees.make_deep(os.fsencode(out), levels=30)
    with opened(out, overwrite="always", delete=True) as target:
        target.directory(b"", directory_item(), names=set())
        target.finish()
        assert (target.problems, target.deleted) == ([], 34)
    assert content(out) == {}


# -- dry run -------------------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing_and_tells_everything(full: Path) -> None:
    os.utime(full / "d/keep", ns=(1, MTIME))
    (full / "d/keep").chmod(0o644)
    (full / "unlisted").chmod(0o755)
    os.utime(full / "unlisted", ns=(1, MTIME))
    before = content(full), full.stat().st_mtime_ns
    with opened(full, overwrite="if-changed", delete=True, dry_run=True) as target:
        restore_full(target)
        assert target.decide(b"d/keep", item(size=1)) is Decision.METADATA
        target.directory(b"new", directory_item())
        target.file(b"new/file", b"12345")
        target.special(b"new/link", link_item(b"x"))
        target.hardlink(b"new/name", b"keep", item())
        plan = [(action.action, os.fsdecode(action.path), action.size) for action in target.plan]
    assert (content(full), full.stat().st_mtime_ns) == before
    assert set(plan) >= {
        ("replace", "keep", 3),
        ("metadata", "d", 0),
        ("same", "unlisted", 0),
        ("same", "d/keep", 1),
        ("create", "new", 0),
        ("create", "new/file", 5),
        *(
            ("delete", name, 0)
            for name in ("extra", "extra-link", "d/extra", "gone", "gone/a", "gone/a/b", "gone/link")
        ),
    }
    assert ("delete", "keep", 0) not in plan


def test_a_dry_run_makes_no_target(out: Path) -> None:
    with opened(out, dry_run=True) as target:
        target.directory(b"", directory_item())
        target.directory(b"d", directory_item())
        assert target.file(b"d/file") is Decision.WRITE
        assert not target.exists(b"d/file")
        target.finish()
        assert [action.action for action in target.plan] == ["create", "create"]
    assert not out.exists()


# -- content -------------------------------------------------------------------------------------------------


def test_a_file_is_private_and_nameless_until_it_is_whole(out: Path) -> None:
    with opened(out) as target:
        with target.open_file(b"file", item(size=6, mode=0o666)) as writer:
            writer.write_at(3, b"def")
            (only,) = out.iterdir()
            assert only.name != "file"
            assert stat.S_IMODE(only.stat().st_mode) == 0o600
            writer.write_at(0, b"abc")
            writer.commit()
        assert content(out) == {"file": b"abcdef"}
        with target.open_file(b"other", item(size=6)) as writer:
            writer.write_at(0, b"abc")
        with pytest.raises(ZeroDivisionError), target.open_file(b"third", item(size=6)):
            raise ZeroDivisionError
    assert content(out) == {"file": b"abcdef"}


def test_an_existing_file_stays_until_the_new_one_is_whole(out: Path) -> None:
    out.mkdir()
    (out / "file").write_bytes(b"old")
    with opened(out, overwrite="always") as target, target.open_file(b"file", item(size=6)) as writer:
        writer.write_at(0, b"abc")
        assert (out / "file").read_bytes() == b"old"
    assert content(out) == {"file": b"old"}


def test_pieces_may_come_from_several_threads(out: Path) -> None:
    blocks = [bytes([number]) * 5000 for number in range(64)]
    with opened(out) as target:
        for name in (b"one", b"two"):
            target.directory(name, directory_item())
        one = item(size=64 * 5000)
        writers = [target.open_file(b"one/large", one), target.open_file(b"two/large", one)]

        def work(start: int) -> None:
            for number in range(start, 64, 4):
                for writer in writers:
                    writer.write_at(number * 5000, blocks[number])
                for name in (b"one/%d", b"two/%d"):
                    target.write_file(name % number, item(size=5000), blocks[number])

        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for writer in writers:
            writer.commit()
        target.finish()
    found = content(out)
    assert len(found) == 2 + 2 * 65
    for name in ("one", "two"):
        assert found[f"{name}/large"] == b"".join(blocks)
        assert [found[f"{name}/{number}"] for number in range(64)] == blocks


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("inplace", [True, False])
def test_holes_stay_holes(out: Path, small: bool, inplace: bool) -> None:
    size, block = 64 << 16, 1 << 16
    extents = [(block, block), (3 * block, 2 * block)]
    one = item(size=size, extras=[(Extra.EXTENTS, pack_extents(extents))])
    data = bytearray(size)
    for start, length in extents:
        data[start : start + length] = b"x" * length
    out.mkdir()
    (out / "file").write_bytes(b"full of data" * 1_000_000)
    with opened(out, overwrite="always", inplace=inplace) as target:
        if small:
            target.write_file(b"file", one, data)
        else:
            with target.open_file(b"file", one) as writer:
                for start in range(0, size, 100_000):
                    writer.write_at(start, data[start : start + 100_000])
                writer.commit()
    assert (out / "file").read_bytes() == data
    assert (out / "file").stat().st_blocks * 512 <= 3 * block + 8192


def test_holes_are_filled_when_asked_for(out: Path) -> None:
    one = item(size=1 << 20, extras=[(Extra.EXTENTS, b"")])
    with opened(out, sparse=False) as target, target.open_file(b"file", one) as writer:
        writer.commit()
    assert (out / "file").read_bytes() == bytes(1 << 20)
    assert (out / "file").stat().st_blocks * 512 >= 1 << 20


@pytest.mark.parametrize(
    "extents", [b"odd", pack_extents([(0, 11)]), pack_extents([(4, 2), (0, 1)]), pack_extents([(1, 0)])]
)
def test_extents_that_make_no_sense_fail_the_file(out: Path, extents: bytes) -> None:
    one = item(size=10, extras=[(Extra.EXTENTS, extents)])
    with opened(out) as target:
        for call in (lambda: target.write_file(b"file", one, bytes(10)), lambda: target.open_file(b"file", one)):
            with pytest.raises(RestoreError, match="extent"):
                call()
    assert content(out) == {}


def test_a_failed_file_leaves_nothing_behind(out: Path) -> None:
    long = b"n" * 256
    with opened(out) as target:
        with pytest.raises(RestoreError, match="too long"):
            target.file(long)
        with pytest.raises(RestoreError, match=r"attribute"):
            target.file(b"file", extras=[(Extra.XATTR, b"\xff\xffdamaged")])
        with pytest.raises(RestoreError, match="was not restored"):
            target.file(b"nowhere/file")
        with pytest.raises(RestoreError):
            target.special(b"link", item(stat.S_IFLNK))
        with pytest.raises(RestoreError):
            target.hardlink(b"name", b"missing", item())
        assert not target.exists(b"file")
        target.file(b"file")
        assert target.exists(b"file")
    assert content(out) == {"file": b"new"}


@needs_mounts
def test_a_full_target_ends_the_restore_with_a_hint(out: Path) -> None:
    with mounted(out, "-t", "tmpfs", "-o", "size=1m", "none"), opened(out) as target:
        with pytest.raises(TargetUnusable, match="no space left") as caught:
            target.file(b"big", bytes(2 << 20))
        assert caught.value.ends_restore
        assert caught.value.hint
        assert content(out) == {}
        with pytest.raises(TargetUnusable), target.open_file(b"big", item(size=2 << 20)) as writer:
            writer.write_at(0, bytes(2 << 20))
        assert content(out) == {}


# -- links and special files ---------------------------------------------------------------------------------


def test_hard_links_also_over_existing_names(out: Path) -> None:
    out.mkdir()
    for name in ("first", "second", "third"):
        (out / name).write_bytes(b"old")
    os.link(out / "third", out / "fourth")
    linked = {"flags": FLAG_HARDLINK}
    with opened(out, overwrite="always") as target:
        target.file(b"first", **linked)
        for _ in range(2):  # linking what is linked already changes nothing
            for name in (b"second", b"third", b"new"):
                assert target.decide(name, item(**linked)) is Decision.WRITE
                target.hardlink(name, b"first", item(**linked))
    assert len({(out / name).stat().st_ino for name in ("first", "second", "third", "new")}) == 1
    assert content(out) == {"first": b"new", "second": b"new", "third": b"new", "new": b"new", "fourth": b"old"}


@needs_mounts
def test_a_hard_link_that_cannot_be_made_becomes_a_copy(out: Path) -> None:
    out.mkdir()
    with mounted(out / "mount"), opened(out, overwrite="always") as target:
        target.file(b"first", b"content")
        for name in (b"mount/second", b"mount/third"):
            target.hardlink(name, b"first", item(size=7, flags=FLAG_HARDLINK))
        target.finish()
        assert [(problem.kind, problem.fatal) for problem in target.problems] == [("hardlink", False)] * 2
        assert "1 more" in target.problems[1].message
        assert content(out)["mount/second"] == content(out)["mount/third"] == b"content"


@needs_root
def test_devices_only_where_the_user_may_make_them() -> None:
    device = [(Extra.DEVICE, pack_device(1, 3))]

    def restore() -> list[tuple[str, bool]]:
        with opened(base / "out") as target:
            for name in (b"null", b"zero"):
                target.special(name, item(stat.S_IFCHR, 0o666, extras=device))
            target.special(b"fifo", item(stat.S_IFIFO))
            target.special(b"socket", item(stat.S_IFSOCK))
            target.finish()
            return [(problem.kind, problem.fatal) for problem in target.problems]

    with everybodys_directory() as base:
        assert as_nobody(restore) == [("special", False)] * 2  # once, and how often
        assert {path.name for path in (base / "out").iterdir()} == {"fifo", "socket"}
        trees.remove(base / "out")
        assert restore() == []
        assert (base / "out/null").stat().st_rdev == os.makedev(1, 3)


# -- attributes ----------------------------------------------------------------------------------------------


@needs_root
def test_owners_are_mapped_by_name_unless_told_not_to(out: Path) -> None:
    for numeric, uid in ((False, 1), (True, 4242)):
        with opened(out, users={4242: "daemon"}, overwrite="always", numeric_owner=numeric) as target:
            target.file(b"file", uid=4242, gid=4343)
            target.special(b"link", Item(link_item(b"x").attributes._replace(uid=4242), link_item(b"x").extras))
            target.directory(b"d", directory_item(uid=4242))
            target.finish()
        found = (out / "file").stat()
        assert (found.st_uid, found.st_gid) == (uid, 4343)
        assert (out / "link").lstat().st_uid == (out / "d").stat().st_uid == uid


@needs_root
def test_ownership_may_be_left_alone(out: Path) -> None:
    with opened(out, owner=False) as target:
        target.file(b"file", uid=4242, mode=0o4755)
        target.finish()
        assert target.kinds() == [("mode", "file")]
    assert ((out / "file").stat().st_uid, stat.S_IMODE((out / "file").stat().st_mode)) == (0, 0o755)


@needs_root
@pytest.mark.parametrize("owner", [None, True])
def test_privileges_are_dropped_when_the_owner_cannot_be_set(owner: bool | None) -> None:
    capability = (
        Extra.XATTR,
        pack_xattr(b"security.capability", bytes.fromhex("0100000200200000000000000000000000000000")),
    )

    def restore() -> list[str]:
        with opened(base / "out", owner=owner) as target:
            target.file(b"setuid", mode=0o4755, uid=0)
            target.file(b"setgid", mode=0o2755, gid=0)
            target.file(b"mine", mode=0o4755)
            target.file(b"capable", mode=0o755, uid=0, extras=[capability])
            target.directory(b"shared", directory_item(0o2775, gid=0))
            target.finish()
            return [problem.kind for problem in target.problems if "more)" not in problem.message]

    with everybodys_directory() as base:
        kinds = as_nobody(restore)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (base / "out").iterdir()}
        assert os.listxattr(base / "out/capable") == []
    assert modes == {"setuid": 0o755, "setgid": 0o755, "mine": 0o4755, "capable": 0o755, "shared": 0o775}
    assert sorted(kinds) == sorted(["mode", "capability", *(["owner"] if owner else [])])


@needs_root
def test_an_unprivileged_user_gets_through_directories_without_rights() -> None:
    def restore(**options: Any) -> list[tuple[str, str]]:
        with opened(base / "out", **options) as target:
            target.directory(b"closed", directory_item(0o500))
            target.directory(b"closed/in", directory_item(0o000))
            target.file(b"closed/in/file", mode=0o400)
            target.finish()
            return target.kinds()

    with everybodys_directory() as base:
        assert as_nobody(restore) == []
        assert as_nobody(lambda: restore(overwrite="always")) == []
        (base / "out/closed/in").chmod(0o100)
        (base / "out/closed/in/file").unlink()
        assert as_nobody(lambda: restore(overwrite="never")) == []
        modes = [
            stat.S_IMODE((base / "out" / name).stat().st_mode) for name in ("closed", "closed/in", "closed/in/file")
        ]
        assert modes == [0o500, 0o100, 0o400]
        assert (base / "out/closed/in/file").read_bytes() == b"new"


def test_inherited_lists_do_not_stick_to_restored_entries(out: Path) -> None:
    out.mkdir()
    acl = bytes.fromhex(
        "02000000 01000700ffffffff 02000700 39300000 04000500ffffffff 10000700ffffffff 20000500ffffffff".replace(
            " ", ""
        )
    )
    os.setxattr(out, "system.posix_acl_default", acl)
    with opened(out) as target:
        target.directory(b"d", directory_item())
        for name in (b"file", b"d/file"):
            target.file(name)
        target.special(b"fifo", item(stat.S_IFIFO))
        with target.open_file(b"piecewise", item(size=1)) as writer:
            writer.write_at(0, b"x")
            writer.commit()
        target.finish()
    for name in ("d", "file", "d/file", "fifo", "piecewise"):
        assert [one for one in os.listxattr(out / name) if "acl" in one] == [], name


def test_attributes_that_the_backup_has_not_are_taken_away(out: Path) -> None:
    (out / "d").mkdir(parents=True)
    (out / "file").write_bytes(b"new")
    for name in ("d", "file"):
        os.setxattr(out / name, "user.old", b"x")
        os.setxattr(out / name, "user.both", b"x")
    os.utime(out / "file", ns=(MTIME, MTIME))
    extras = [(Extra.XATTR, pack_xattr(b"user.both", b"y"))]
    with opened(out, overwrite="if-changed") as target:
        target.directory(b"d", directory_item(extras=extras))
        assert target.file(b"file", extras=extras) is Decision.METADATA
        target.finish()
    for name in ("d", "file"):
        assert {one: os.getxattr(out / name, one) for one in os.listxattr(out / name)} == {"user.both": b"y"}


@needs_mounts
def test_a_file_system_without_attributes_is_one_warning_and_no_wider_access(out: Path) -> None:
    acl = bytes.fromhex(
        "02000000 01000600ffffffff 02000600 39300000 04000000ffffffff 10000600ffffffff 20000000ffffffff".replace(
            " ", ""
        )
    )
    extras = [(Extra.XATTR, pack_xattr(b"system.posix_acl_access", acl)), (Extra.XATTR, pack_xattr(b"user.x", b"y"))]
    with mounted(out, "-t", "ramfs", "none"), opened(out) as target:
        for name in (b"one", b"two", b"three"):
            target.file(name, mode=0o660, extras=extras)
        target.finish()
        assert {problem.kind for problem in target.problems} == {"xattr"}
        assert len(target.problems) == 4  # two kinds, and how often each
        assert stat.S_IMODE((out / "one").stat().st_mode) == 0o600  # the group had no rights; 6 was the mask


def test_implied_directories_look_like_any_new_one(out: Path) -> None:
    (out.parent / "like").mkdir()
    with opened(out) as target:
        target.implied_directory(b"a")
        target.implied_directory(b"a/b")
        target.implied_directory(b"a/b")
        target.file(b"a/b/file")
        target.finish()
        assert target.problems == []
    assert (out / "a/b").stat().st_mode == (out.parent / "like").stat().st_mode


def test_times_of_directories_are_set_after_what_they_hold(out: Path) -> None:
    names = [b"a", b"a/b", b"a/b/c"]
    with opened(out) as target:
        target.directory(b"", directory_item(mtime=MTIME - 1))
        for number, name in enumerate(names):
            target.directory(name, directory_item(0o711, mtime=MTIME + number))
        for name in names:
            target.file(name + b"/file")
        target.finish()
    assert out.stat().st_mtime_ns == MTIME - 1
    assert [(out / os.fsdecode(name)).stat().st_mtime_ns for name in names] == [MTIME, MTIME + 1, MTIME + 2]


def test_many_directories_need_few_descriptors(out: Path) -> None:
    with opened(out) as target:
        names = [b"d%03d" % number for number in range(300)]
        for name in names:
            target.directory(name, directory_item())
        for name in names:
            target.file(name + b"/file")
        assert len(os.listdir("/proc/self/fd")) < 150
        target.finish()
        before = len(os.listdir("/proc/self/fd"))
    assert len(os.listdir("/proc/self/fd")) < before
    assert len(content(out)) == 600


def test_a_target_that_cannot_be_is_refused(out: Path) -> None:
    with pytest.raises(RestoreError, match="cannot use the target"), opened(out / "nul\0"):
        pass


@needs_root
def test_read_only_files_get_their_extended_attributes() -> None:
    extras = [(Extra.XATTR, pack_xattr(b"user.x", b"y"))]

    def restore(**options: Any) -> list[tuple[str, str]]:
        with opened(base / "out", **options) as target:
            target.file(b"file", mode=0o400, extras=extras)
            target.finish()
            return target.kinds()

    with everybodys_directory() as base:
        assert as_nobody(restore) == []
        os.removexattr(base / "out/file", "user.x")
        assert as_nobody(lambda: restore(overwrite=Overwrite.IF_CHANGED)) == []
        assert os.getxattr(base / "out/file", "user.x") == b"y"
        assert stat.S_IMODE((base / "out/file").stat().st_mode) == 0o400
