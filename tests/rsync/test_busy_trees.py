"""Trees that change between the two looks that the format needs: what is stored is right, or somebody is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rsync.chain import Writer, look
from rsync.original import extract

from freezer_sdk.files.scan import LocalTree
from freezer_sdk.modes.base import Enter, Leave, ProblemHandler, Tree


class Busy(Tree):
    """Does something when it is walked for the second time."""

    def __init__(self, source: Path, between: Callable[[], None]) -> None:
        self._tree = LocalTree([os.fsencode(source)])
        self._between = between
        self._walks = 0
        self.roots = self._tree.roots

    @property
    def mount_points(self) -> list[bytes]:  # type: ignore[override]
        return self._tree.mount_points

    def again(self) -> Tree:
        raise AssertionError("nobody calls this")

    def walk(self, problem: ProblemHandler) -> Iterator[Enter | Leave]:
        self._walks += 1
        if self._walks == 2:
            self._between()
        return self._tree.walk(problem)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    made = tmp_path / "source"
    (made / "sub").mkdir(parents=True)
    (made / "a").write_bytes(b"a" * 10_000)
    (made / "sub/b").write_bytes(b"b" * 10_000)
    (made / "sub/c").write_bytes(b"c" * 10_000)
    (made / "z").write_bytes(b"z" * 10_000)
    for each in ("a", "sub/b", "sub/c", "z"):
        os.utime(made / each, ns=(1, 1))
    return made


def still_in_step(writer: Writer) -> None:
    """The original's reader has the other files, too."""
    tree = extract(writer.streams, block=4096)
    for path in (b"a", b"z"):
        assert tree[path][2] == path * 10_000


def removed(source: Path) -> None:
    (source / "sub/b").unlink()


def folder_removed(source: Path) -> None:
    os.rename(source / "sub", source.parent / "moved")


def replaced(source: Path) -> None:
    (source / "sub/b").unlink()
    (source / "sub/b").mkdir()


@pytest.mark.parametrize("between", [removed, folder_removed, replaced])
def test_a_file_that_is_gone_is_lost_and_told(source: Path, between: Callable[[Path], None]) -> None:
    writer = Writer(source)
    writer.run(Busy(source, lambda: between(source)))
    assert (f"{source}/sub/b", True) in {(problem.path, problem.fatal) for problem in writer.problems[0]}
    found = writer.read()
    assert b"sub/b" not in found.whole
    assert found.entries[b"sub/b"].incomplete
    still_in_step(writer)
    if between is removed:
        (source / "sub/b").write_bytes(b"back")
        writer.run()
        assert writer.read().facts() == look(source)


def test_a_file_that_shrinks_is_told(source: Path) -> None:
    writer = Writer(source)
    writer.run(Busy(source, lambda: os.truncate(source / "sub/b", 5000)))
    assert [(p.kind, p.fatal) for p in writer.problems[0]] == [("changed", True)]
    assert writer.read().whole[b"sub/b"] == b"b" * 5000 + bytes(5000)
    still_in_step(writer)
    writer.run()
    assert writer.read().facts() == look(source)


def test_a_file_that_grows_is_stored_as_far_as_it_was(source: Path) -> None:
    def append() -> None:
        with (source / "sub/b").open("ab") as file:
            file.write(b"more")

    writer = Writer(source)
    writer.run(Busy(source, append))
    assert [(p.kind, p.fatal) for p in writer.problems[0]] == [("changed", False)]
    assert writer.read().whole[b"sub/b"] == b"b" * 10_000
    still_in_step(writer)
    writer.run()
    assert writer.read().facts() == look(source)


def test_a_block_that_changes_again_is_told(source: Path) -> None:
    writer = Writer(source)
    writer.run()
    (source / "sub/b").write_bytes(b"B" + b"b" * 9999)
    writer.run(Busy(source, lambda: (source / "sub/b").write_bytes(b"BB" + b"b" * 9998) and None))
    assert [(p.kind, p.fatal) for p in writer.problems[1]] == [("changed", True)]
    assert not writer.read().fatal, "what was stored is what is restored"
    writer.run()
    assert writer.read().facts() == look(source)


def test_an_edit_in_the_same_moment_is_found(source: Path) -> None:
    """The original misses a change within the clock's tick."""
    writer = Writer(source)
    for content in (b"1", b"2", b"3"):
        (source / "fresh").write_bytes(content)
        os.utime(source / "fresh", ns=(1, 1))
        writer.run()
        assert writer.read().whole[b"fresh"] == content


class Unreadable(LocalTree):
    """Cannot open some files."""

    def __init__(self, source: Path, names: set[bytes]) -> None:
        super().__init__([os.fsencode(source)])
        self._names = names

    def walk(self, problem: ProblemHandler) -> Iterator[Enter | Leave]:
        for step in super().walk(problem):
            if isinstance(step, Enter):
                directory, opened = step.directory, step.directory.open

                def refuse(index: int, directory: object = directory, opened: Callable[[int], int] = opened) -> int:
                    if directory.names[index] in self._names:  # type: ignore[attr-defined]
                        raise PermissionError(13, "Permission denied")
                    return opened(index)

                directory.open = refuse  # type: ignore[method-assign]
            yield step


def test_unreadable_files_are_told_and_tried_again(source: Path) -> None:
    writer = Writer(source)
    writer.run()
    (source / "sub/b").write_bytes(b"new content")
    writer.run(Unreadable(source, {b"b"}))
    assert [(p.path, p.kind, p.fatal) for p in writer.problems[1]] == [(f"{source}/sub/b", "unreadable", True)]
    found = writer.read()
    assert b"sub/b" not in found.whole, "never the state of an earlier level"
    assert found.entries[b"sub/b"].incomplete
    writer.run()
    assert writer.read().facts() == look(source)
