"""Differences of two backups, against a plain comparison of dictionaries."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk import Change, Entry, EntryType
from freezer_sdk.diff import changes, in_tree_order

FILE, DIRECTORY, LINK = EntryType.FILE, EntryType.DIRECTORY, EntryType.SYMLINK

Tree = dict[bytes, Entry]


def entry(path: bytes, kind: EntryType = FILE, **values: object) -> Entry:
    return Entry(path=path, type=kind, **values)  # type: ignore[arg-type]


def walk(tree: Tree) -> Iterator[Entry]:
    """Depth first, parents first, siblings by raw name: what engines give."""

    def below(parent: bytes) -> Iterator[Entry]:
        names = sorted(path for path in tree if path.rpartition(b"/")[0] == parent)
        for path in names:
            yield tree[path]
            yield from below(path)

    yield from below(b"")


def kinds(before: list[Entry], after: list[Entry], *, metadata: bool = False) -> list[tuple[bytes, str]]:
    trees = [{each.path: each for each in entries} for entries in (before, after)]
    return [(change.path, change.kind) for change in changes(walk(trees[0]), walk(trees[1]), metadata=metadata)]


names = st.sampled_from([b"a", b"a-b", b"a.b", b"b", b"ab", b"\xff", b"0"])
paths = st.lists(names, min_size=1, max_size=3).map(lambda parts: b"/" + b"/".join(parts))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree: Tree = {}
    for path in draw(st.lists(paths, max_size=12)):
        parts = path.split(b"/")[1:]
        for depth in range(1, len(parts)):
            parent = b"/" + b"/".join(parts[:depth])
            tree[parent] = entry(parent, DIRECTORY)
        kind = draw(st.sampled_from([FILE, LINK]))
        tree.setdefault(path, entry(path, kind, content=draw(st.sampled_from([b"1", b"2"])) if kind is FILE else None))
    return tree


@given(trees(), trees())
def test_equals_a_comparison_of_dictionaries(before: Tree, after: Tree) -> None:
    found = {change.path: change.kind for change in changes(walk(before), walk(after), metadata=True)}
    expected = {}
    for path in before.keys() | after.keys():
        old, new = before.get(path), after.get(path)
        if old is None or new is None:
            expected[path] = "added" if old is None else "removed"
        elif old.type is not new.type:
            expected[path] = "type"
        elif old != new:
            expected[path] = "content"
    assert found == expected


@given(trees(), trees())
def test_reversed_arguments_give_the_mirror_image(before: Tree, after: Tree) -> None:
    mirror = {"added": "removed", "removed": "added"}
    forth = [(change.path, change.kind) for change in changes(walk(before), walk(after))]
    back = [(change.path, mirror.get(change.kind, change.kind)) for change in changes(walk(after), walk(before))]
    assert forth == back


def test_both_sides_are_given() -> None:
    old, new = entry(b"/a", size=1), entry(b"/a", size=2)
    assert list(changes(iter([old]), iter([new]))) == [Change(path=b"/a", kind="content", before=old, after=new)]


def test_content_is_compared_by_its_id_not_by_time() -> None:
    old = entry(b"/a", size=1, mtime_ns=1, content=b"x")
    touched = dataclasses.replace(old, mtime_ns=2)
    assert kinds([old], [touched]) == []
    assert kinds([old], [touched], metadata=True) == [(b"/a", "metadata")]
    assert kinds([old], [dataclasses.replace(old, content=b"y")]) == [(b"/a", "content")]


def test_without_ids_a_new_time_counts_as_new_content() -> None:
    old = entry(b"/a", size=1, mtime_ns=1)
    assert kinds([old], [dataclasses.replace(old, mtime_ns=2)]) == [(b"/a", "content")]


def test_links_and_devices() -> None:
    link = entry(b"/a", LINK, link_target=b"x")
    assert kinds([link], [dataclasses.replace(link, link_target=b"y")]) == [(b"/a", "content")]
    device = entry(b"/a", EntryType.BLOCK_DEVICE, device=(8, 1))
    assert kinds([device], [dataclasses.replace(device, device=(8, 2))]) == [(b"/a", "content")]


def test_metadata_is_only_told_when_asked() -> None:
    old = entry(b"/a", DIRECTORY, mode=0o700, uid=1, xattrs=((b"user.x", b"1"),))
    for change in ({"mode": 0o755}, {"uid": 2}, {"gid": 3}, {"user": "x"}, {"xattrs": ()}, {"mtime_ns": 5}):
        new = dataclasses.replace(old, **change)
        assert kinds([old], [new]) == []
        assert kinds([old], [new], metadata=True) == [(b"/a", "metadata")]
    moved = dataclasses.replace(old, inode=7, ctime_ns=9)
    assert kinds([old], [moved], metadata=True) == []


def test_a_folder_that_became_a_file() -> None:
    before = [entry(b"/a", DIRECTORY), entry(b"/a/x"), entry(b"/a-b")]
    assert kinds(before, [entry(b"/a"), entry(b"/a-b")]) == [(b"/a", "type"), (b"/a/x", "removed")]


def test_walks_from_different_places() -> None:
    before = [entry(b"/old/etc", DIRECTORY), entry(b"/old/etc/a"), entry(b"/old/etc/b")]
    after = [entry(b"/", DIRECTORY), entry(b"/b", size=5), entry(b"/c")]
    found = [(change.path, change.kind) for change in changes(iter(before), iter(after), bases=(b"/old/etc", b"/"))]
    assert found == [(b"/old/etc/a", "removed"), (b"/b", "content"), (b"/c", "added")]


def test_roots_inside_roots_come_in_tree_order_and_once() -> None:
    """Engines walk root by root; ``/`` meets ``/home`` as a mount point, and again as a root."""
    roots = {
        b"/": [b"/", b"/etc", b"/etc/x", b"/home", b"/usr"],
        b"/home": [b"/home", b"/home/me"],
        b"/home-2": [b"/home-2", b"/home-2/x"],
        b"/srv/a": [b"/srv/a"],
    }

    def engine(path: bytes | None, *, recursive: bool = True) -> Iterator[Entry]:
        for root, inside in roots.items():
            for each in [root] if not recursive else inside:
                if path is None or each == path or each.startswith(path.rstrip(b"/") + b"/"):
                    yield entry(each, DIRECTORY)

    found = [each.path for each in in_tree_order(engine, None, several_roots=True)]
    assert found == sorted(
        {each for inside in roots.values() for each in inside}, key=lambda p: p.rstrip(b"/").split(b"/")
    )
