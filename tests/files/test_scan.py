"""What a scan records, and what it makes of trees that change or cannot be read."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trees
from files.helpers import as_nobody, can_mount, everybodys_directory, mounted

from freezer_sdk.errors import ConfigurationError, SourceUnreadable
from freezer_sdk.files import extras as facts
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import Problem
from freezer_sdk.modes.base import FLAG_HARDLINK, FLAG_NOT_DESCENDED, STAT, Attributes, Directory, Enter, Extra, Extras

needs_mounts = pytest.mark.skipif(not can_mount(), reason="needs to mount file systems")
needs_root = pytest.mark.skipif(not trees.is_root(), reason="needs root")


class Scan:
    """Everything that one walk gives, by path."""

    def __init__(self, *roots: Path | bytes, **options: Any) -> None:
        self.tree = LocalTree([os.fsencode(root) for root in roots], **options)
        self.problems: list[Problem] = []
        self.found: dict[bytes, Attributes] = {}
        self.extras: dict[bytes, Extras] = {}
        self.entered: list[bytes] = []
        self.incomplete: set[bytes] = set()
        depth = 0
        for event in self.tree.walk(self.problems.append):
            depth += 1 if isinstance(event, Enter) else -1
            if isinstance(event, Enter):
                self._directory(event.directory)
        assert depth == 0

    def _directory(self, directory: Directory) -> None:
        self.entered.append(directory.path)
        assert list(directory.names) == sorted(directory.names)
        assert len(directory.stats) == len(directory.names) * STAT.size
        if directory.incomplete:
            self.incomplete.add(directory.path)
        for index, name in enumerate(directory.names):
            path = os.path.join(directory.path, name)
            self.found[path] = Attributes(*STAT.unpack_from(directory.stats, index * STAT.size))
            self.extras[path] = directory.extras(index, None)

    def kinds(self) -> list[tuple[str, str]]:
        return [(problem.kind, os.path.basename(problem.path)) for problem in self.problems]

    def fact(self, path: Path, tag: int) -> bytes | None:
        return facts.find(self.extras[os.fsencode(path)], tag)

    def names(self, root: Path) -> set[str]:
        return {os.path.relpath(os.fsdecode(path), root) for path in self.found} - {"."}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "b/inner").mkdir(parents=True)
    (root / "a").write_bytes(b"12345")
    (root / "b/inner/file").write_bytes(b"x")
    return root


def test_rows_hold_what_stat_says(every_kind: Path) -> None:
    scan = Scan(every_kind)
    assert scan.problems == []
    assert len(scan.found) > 100
    for path, found in scan.found.items():
        if len(path) > 4000:
            continue
        st = os.lstat(path)
        size = st.st_size if stat.S_ISREG(st.st_mode) or stat.S_ISLNK(st.st_mode) else 0
        linked = st.st_nlink > 1 and not stat.S_ISDIR(st.st_mode)
        expected = (st.st_mode, st.st_uid, st.st_gid, FLAG_HARDLINK if linked else 0, size)
        assert found == (*expected, st.st_mtime_ns, st.st_ctime_ns, st.st_ino), path


def test_the_walk_is_depth_first_in_the_order_of_names(tree: Path) -> None:
    (tree / "b.d").mkdir()
    top = os.fsencode(tree)
    assert Scan(tree).entered == [b"", top, top + b"/b", top + b"/b/inner", top + b"/b.d"]


def test_a_walk_can_be_repeated_and_left(tree: Path) -> None:
    local = LocalTree([os.fsencode(tree)])
    before = len(os.listdir("/proc/self/fd"))
    walk = local.walk(lambda problem: None)
    for _ in range(4):
        next(walk)
    walk.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(list(local.walk(lambda problem: None))) == len(list(local.walk(lambda problem: None))) == 8


# -- roots ---------------------------------------------------------------------------------------------------


def test_several_roots_files_and_links_among_them(tree: Path) -> None:
    (tree / "link").symlink_to("a")
    scan = Scan(tree / "b", tree / "a", tree / "link")
    assert scan.entered == [b"", *(os.fsencode(tree / name) for name in ("b", "b/inner"))]
    assert stat.S_ISLNK(scan.found[os.fsencode(tree / "link")].mode)
    assert scan.fact(tree / "link", Extra.LINK_TARGET) == b"a"


def test_a_root_file_can_be_opened(tree: Path) -> None:
    for event in LocalTree([os.fsencode(tree / "a")]).walk(pytest.fail):
        if isinstance(event, Enter):
            fd = event.directory.open(0)
            assert os.read(fd, 10) == b"12345"
            assert event.directory.restat(0, fd) == event.directory.stats
            os.close(fd)


def test_duplicate_and_nested_roots_are_one(tree: Path) -> None:
    roots = [tree, tree / "b", tree, tree / "b/inner/../inner", f"{tree}-x"]
    assert LocalTree([os.fsencode(root) for root in roots]).roots == (os.fsencode(tree), os.fsencode(f"{tree}-x"))
    assert LocalTree([b"//", b"/etc"]).roots == (b"/",)


@pytest.mark.parametrize("roots", [[], [b"relative"], [b"/nul\0"]])
def test_roots_that_make_no_sense(roots: list[bytes]) -> None:
    with pytest.raises(ConfigurationError):
        LocalTree(roots)


def test_a_missing_root_is_an_error(tree: Path) -> None:
    with pytest.raises(SourceUnreadable, match="nowhere"):
        Scan(tree / "nowhere")


def test_a_root_that_is_a_link_to_a_directory_is_pointed_out(tree: Path) -> None:
    (tree / "link").symlink_to("b")
    assert Scan(tree / "link").kinds() == [("symlink", "link")]


def test_a_shadow_is_read_and_the_root_is_recorded(tree: Path, tmp_path: Path) -> None:
    os.link(tree / "a", tree / "b/again")
    plain = Scan(tree)
    tree.rename(tmp_path / "snapshot")
    shadowed = Scan(tree, shadow={os.fsencode(tree): os.fsencode(tmp_path / "snapshot")})
    assert (shadowed.extras, shadowed.entered) == (plain.extras, plain.entered)
    assert shadowed.found.keys() == plain.found.keys()
    assert shadowed.tree.roots == (os.fsencode(tree),)


# -- extras --------------------------------------------------------------------------------------------------


def test_link_groups_are_equal_for_all_names_and_in_the_next_run(tree: Path) -> None:
    os.link(tree / "a", tree / "b/again")
    os.link(tree / "b/inner/file", tree / "other")
    first, second = Scan(tree), Scan(tree)
    names = ("a", "b/again", "b/inner/file", "other")
    groups = [first.fact(tree / name, Extra.LINK_GROUP) for name in names]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert groups == [second.fact(tree / name, Extra.LINK_GROUP) for name in names]
    assert all(first.found[os.fsencode(tree / name)].flags == FLAG_HARDLINK for name in names)


def test_link_groups_span_roots(tree: Path) -> None:
    os.link(tree / "a", tree / "b/again")
    scan = Scan(tree / "a", tree / "b")
    assert scan.fact(tree / "a", Extra.LINK_GROUP) == scan.fact(tree / "b/again", Extra.LINK_GROUP) is not None


def test_data_ranges_of_sparse_files(every_kind: Path) -> None:
    scan = Scan(every_kind)
    for name, (blocks, _size) in trees.SPARSE.items():
        extents = facts.extents(scan.extras[os.fsencode(every_kind / "sparse" / name)])
        assert extents == [(block << 16, count << 16) for block, count in blocks], name
    assert scan.fact(every_kind / "files/zeros", Extra.EXTENTS) is None


def test_asking_for_extents_leaves_an_open_file_at_its_start(every_kind: Path) -> None:
    for event in LocalTree([os.fsencode(every_kind / "sparse")]).walk(pytest.fail):
        if isinstance(event, Enter) and event.directory.path:
            index = event.directory.names.index(b"odd")
            fd = event.directory.open(index)
            assert event.directory.extras(index, fd) == event.directory.extras(index, None)
            assert os.lseek(fd, 0, os.SEEK_CUR) == 0
            os.close(fd)


def test_a_file_of_very_many_holes_has_a_bounded_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freezer_sdk.files.posix._MOST_EXTENTS", 100)
    with open(tmp_path / "holes", "wb") as file:
        for block in range(0, 2000, 2):
            os.pwrite(file.fileno(), b"x" * 4096, block * 4096)
        os.ftruncate(file.fileno(), 2001 * 4096)
    extents = facts.extents(Scan(tmp_path).extras[os.fsencode(tmp_path / "holes")])
    assert extents is not None
    assert 1 <= len(extents) <= 100
    covered = {block for start, length in extents for block in range(start // 4096, (start + length) // 4096)}
    assert covered >= set(range(0, 2000, 2))


# -- options -------------------------------------------------------------------------------------------------


def test_excluded_directories_are_not_entered(tree: Path) -> None:
    assert Scan(tree, patterns=Patterns(["inner/"])).names(tree) == {"a", "b"}
    assert Scan(tree, patterns=Patterns(["/b/*"])).names(tree) == {"a", "b"}
    assert Scan(tree, patterns=Patterns([f"{tree}/b/inner/file"])).names(tree) == {"a", "b", "b/inner"}
    assert Scan(tree, patterns=Patterns(["*", "!b", "!inner"])).names(tree) == {"b", "b/inner"}


def test_excluded_entries_are_not_even_looked_at(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: (looked.append(path), real(path, **how))[1])
    Scan(tree, patterns=Patterns(["a", "b/"]))
    assert b"a" not in looked
    assert b"b" not in looked


def test_caches_keep_their_tag_alone(tree: Path) -> None:
    for name, text in (("b", b"Signature: 8a477f597d28d172789f06886806bc55\n# more"), ("b/inner", b"Signature: other")):
        (tree / name / "CACHEDIR.TAG").write_bytes(text)
    (tree / "fifo").mkdir()
    os.mkfifo(tree / "fifo/CACHEDIR.TAG")
    scan = Scan(tree, exclude_caches=True)
    assert scan.names(tree) == {"a", "b", "b/CACHEDIR.TAG", "fifo", "fifo/CACHEDIR.TAG"}
    assert scan.found[os.fsencode(tree / "b")].flags == FLAG_NOT_DESCENDED
    assert scan.found[os.fsencode(tree / "fifo")].flags == 0


def test_soft_links_are_followed(tree: Path) -> None:
    (tree / "file-link").symlink_to("a")
    (tree / "directory-link").symlink_to("b/inner")
    (tree / "dangling").symlink_to("nowhere")
    (tree / "b/inner/loop").symlink_to(tree / "b")
    scan = Scan(tree, follow="soft")
    assert scan.names(tree) >= {"file-link", "directory-link/file", "dangling", "b/inner/loop"}
    assert scan.found[os.fsencode(tree / "file-link")].size == 5
    assert stat.S_ISLNK(scan.found[os.fsencode(tree / "dangling")].mode)
    assert sorted(scan.kinds()) == [("dangling", "dangling"), ("loop", "loop"), ("loop", "loop")]
    assert not any(problem.fatal for problem in scan.problems)


def test_a_followed_link_can_be_read(tree: Path) -> None:
    (tree / "link").symlink_to("b")
    read = {}
    for event in LocalTree([os.fsencode(tree)], follow="soft").walk(pytest.fail):
        if isinstance(event, Enter) and event.directory.path.endswith(b"/link/inner"):
            fd = event.directory.open(0)
            read[event.directory.names[0]] = os.read(fd, 10)
            os.close(fd)
    assert read == {b"file": b"x"}


@pytest.mark.parametrize(("follow", "linked"), [("none", True), ("soft", True), ("hard", False), ("all", False)])
def test_hard_links_become_separate_files(tree: Path, follow: str, linked: bool) -> None:
    os.link(tree / "a", tree / "again")
    scan = Scan(tree, follow=follow)
    assert bool(scan.found[os.fsencode(tree / "a")].flags & FLAG_HARDLINK) is linked
    assert (scan.fact(tree / "a", Extra.LINK_GROUP) is not None) is linked


@needs_mounts
def test_one_file_system(tree: Path) -> None:
    with mounted(tree / "b/mount"):
        (tree / "b/mount/inside").write_bytes(b"x")
        (tree / "b/mount/deeper").mkdir()
        everything, one = Scan(tree), Scan(tree, one_file_system=True)
        assert everything.names(tree) == one.names(tree) | {"b/mount/inside", "b/mount/deeper"}
        assert one.found[os.fsencode(tree / "b/mount")].flags == FLAG_NOT_DESCENDED
        assert (list(one.tree.mount_points), list(everything.tree.mount_points)) == (
            [os.fsencode(tree / "b/mount")],
            [],
        )
        both = Scan(tree, tree / "b/mount", tree / "b/mount/deeper", one_file_system=True)
        assert both.tree.roots == (os.fsencode(tree), os.fsencode(tree / "b/mount"))
        assert both.names(tree) == everything.names(tree)


@needs_mounts
def test_walks_of_one_tree_at_the_same_time_do_not_disturb_each_other(tree: Path) -> None:
    with mounted(tree / "b/mount"):
        first = LocalTree([os.fsencode(tree)], one_file_system=True)
        second = first.again()
        one, other = first.walk(pytest.fail), second.walk(pytest.fail)
        paths: list[list[bytes]] = [[], []]
        for steps in zip(one, other, strict=True):  # each begins before the other ends
            for found, step in zip(paths, steps, strict=True):
                if isinstance(step, Enter):
                    found.append(step.directory.path)
        assert paths[0] == paths[1]
        assert first.mount_points == second.mount_points == [os.fsencode(tree / "b/mount")]
        assert list(first.again().mount_points) == []


@needs_mounts
def test_files_of_two_file_systems_with_one_inode_number_are_not_links(tree: Path) -> None:
    with mounted(tree / "m1"), mounted(tree / "m2"):
        for mount in ("m1", "m2"):
            (tree / mount / "x").write_bytes(b"x")
            os.link(tree / mount / "x", tree / mount / "y")
        scan = Scan(tree)
        assert (tree / "m1/x").stat().st_ino == (tree / "m2/x").stat().st_ino
        groups = [scan.fact(tree / name, Extra.LINK_GROUP) for name in ("m1/x", "m1/y", "m2/x", "m2/y")]
        assert groups[0] == groups[1] != groups[2] == groups[3]


# -- trouble -------------------------------------------------------------------------------------------------


def races(tree: Path, change: dict[str, Any]) -> Iterator[tuple[bytes, Directory]]:
    """Walks, and changes the tree as soon as the walk enters the named directory."""
    for event in LocalTree([os.fsencode(tree)]).walk(change["problems"].append):
        if isinstance(event, Enter):
            if os.path.basename(event.directory.path) == change["at"]:
                change["do"]()
            yield event.directory.path, event.directory


def test_a_directory_swapped_for_a_link_is_not_followed(tree: Path) -> None:
    def swap() -> None:
        (tree / "b").rename(tree.parent / "moved")
        (tree / "b").symlink_to("/etc")

    problems: list[Problem] = []
    entered = [path for path, _ in races(tree, {"at": b"tree", "do": swap, "problems": problems})]
    assert entered == [b"", os.fsencode(tree)]
    assert [(problem.kind, problem.path, problem.fatal) for problem in problems] == [
        ("vanished", str(tree / "b"), True)
    ]


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "gone"])
def test_a_file_that_became_something_else_is_not_opened(tree: Path, kind: str) -> None:
    def swap() -> None:
        (tree / "a").unlink()
        if kind == "link":
            (tree / "a").symlink_to("/etc/passwd")
        elif kind == "fifo":
            os.mkfifo(tree / "a")
        elif kind == "directory":
            (tree / "a").mkdir()

    before = len(os.listdir("/proc/self/fd"))
    for path, directory in races(tree, {"at": b"tree", "do": swap, "problems": []}):
        if path == os.fsencode(tree):
            with pytest.raises(OSError, match=r"Errno"):
                directory.open(0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_vanishes_during_the_listing_is_no_failure(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: [*real(fd), "ghost"])
    scan = Scan(tree)
    assert scan.names(tree) == {"a", "b", "b/inner", "b/inner/file"}
    assert {(problem.kind, problem.fatal) for problem in scan.problems} == {("vanished", False)}
    assert scan.fact(tree / "a", Extra.LINK_GROUP) is None


@needs_root
def test_what_cannot_be_read_is_reported_and_the_rest_is_walked() -> None:
    with everybodys_directory() as base:
        for name, mode in (("closed", 0o000), ("listed-only", 0o444), ("passable-only", 0o111), ("open", 0o755)):
            (base / name).mkdir()
            (base / name / "file").write_bytes(b"x")
            (base / name).chmod(mode)

        def scan() -> tuple[list[tuple[str, str]], list[bytes], set[bytes], set[str]]:
            done = Scan(base)
            return done.kinds(), done.entered, done.incomplete, done.names(base)

        kinds, entered, incomplete, names = as_nobody(scan)
    assert sorted(kinds) == [("unreadable", "closed"), ("unreadable", "file"), ("unreadable", "passable-only")]
    assert entered == [b"", os.fsencode(base), os.fsencode(base / "listed-only"), os.fsencode(base / "open")]
    assert incomplete == {os.fsencode(base / "listed-only")}
    assert names == {"closed", "listed-only", "passable-only", "open", "open/file"}


@needs_root
def test_unreadable_attributes_are_one_warning() -> None:
    with everybodys_directory() as base:
        for name in ("one", "two", "three"):
            (base / name).write_bytes(b"x")
            os.setxattr(base / name, "user.comment", b"secret")
            (base / name).chmod(0o000)
        problems = as_nobody(lambda: [(p.kind, p.fatal, p.message) for p in Scan(base).problems])
    assert [problem[:2] for problem in problems] == [("xattr", False), ("xattr", False)]
    assert "user.comment" in problems[0][2]
    assert "and 2 more" in problems[1][2]


def test_reading_does_not_touch_access_times(tree: Path) -> None:
    os.utime(tree / "a", ns=(1, 1))
    for event in LocalTree([os.fsencode(tree)]).walk(pytest.fail):
        if isinstance(event, Enter) and event.directory.path == os.fsencode(tree):
            fd = event.directory.open(0)
            os.read(fd, 10)
            os.close(fd)
    assert (tree / "a").stat().st_atime_ns == 1


def test_several_thousand_levels_need_few_descriptors_and_no_recursion(tmp_path: Path) -> None:
    depth = 1200
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        for name in ("d", "e"):
            os.mkdir(name, dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        entered = deepest = 0
        problems: list[Problem] = []
        for event in LocalTree([os.fsencode(tmp_path)]).walk(problems.append):
            if isinstance(event, Enter):
                entered += 1
                deepest = max(deepest, event.directory.path.count(b"/d"))
                if event.directory.path:  # also of directories that had been put away
                    assert len(event.directory.names) in (0, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        trees.remove(tmp_path / "d")
    assert problems == []
    assert (entered, deepest >= depth) == (2 * depth + 2, True)


def test_a_directory_that_was_put_away_and_moved_is_not_mistaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freezer_sdk.files.scan._KEPT_OPEN", 3)
    deep = tmp_path / "tree"
    (deep / "d/d/d/d/d/d").mkdir(parents=True)
    (deep / "d/z").mkdir()
    problems: list[Problem] = []
    for event in LocalTree([os.fsencode(deep)]).walk(problems.append):
        if isinstance(event, Enter) and event.directory.path == os.fsencode(deep / "d/d/d/d/d/d"):
            (deep / "d").rename(tmp_path / "away")
            (deep / "d/z").mkdir(parents=True)
    assert [(problem.kind, problem.path) for problem in problems] == [("vanished", str(deep / "d/z"))]


def test_devices_and_fifos_are_recorded_without_being_opened(every_kind: Path) -> None:
    trace = subprocess.run(
        ["find", os.fspath(every_kind / "special"), "-printf", "%y %f\\n"], capture_output=True, check=True, text=True
    ).stdout.split("\n")
    scan = Scan(every_kind / "special")
    letters = {stat.S_IFIFO: "p", stat.S_IFSOCK: "s", stat.S_IFCHR: "c", stat.S_IFBLK: "b"}
    seen = {
        f"{letters[stat.S_IFMT(found.mode)]} {os.path.basename(path).decode()}"
        for path, found in scan.found.items()
        if not stat.S_ISDIR(found.mode)
    }
    assert seen == {line for line in trace if line and line[0] != "d"}
    if trees.is_root():
        assert facts.device(scan.extras[os.fsencode(every_kind / "special/null")]) == (1, 3)


def test_rules_say_how_another_program_reads_the_same_entries(tmp_path: Path) -> None:
    root, snapshot = os.fsencode(tmp_path / "root"), os.fsencode(tmp_path / "snapshot")
    tree = LocalTree(
        [root],
        patterns=Patterns(["*.log", "!keep.log"]),
        one_file_system=True,
        exclude_caches=True,
        follow="soft",
        shadow={root: snapshot},
    )
    rules = tree.rules
    assert rules is not None
    assert rules.locations == {root: snapshot}
    assert rules.excludes == (b"*.log", b"!keep.log")
    assert (rules.one_file_system, rules.exclude_caches, rules.follow) == (True, True, "soft")
    assert tree.again().rules == rules


def test_links_to_follow_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="sideways"):
        LocalTree([os.fsencode(tmp_path)], follow="sideways")
