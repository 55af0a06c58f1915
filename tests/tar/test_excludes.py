"""What patterns leave out of tar streams, and that nothing is lost when they change between levels."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tar.chain import difference, disk
from tar.writer import Writer, names

from freezer_sdk.engines.tar.excludes import member_arguments, name_patterns
from freezer_sdk.engines.tar.writing import WriteOptions
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.modes.base import Enter, TreeRules

pytestmark = pytest.mark.skipif(not shutil.which("tar"), reason="needs GNU tar")
TICK = 0.05

FILES = [
    "a.log",
    "keep.log",
    ".hidden",
    "b/a.log",
    "b/c/a.log",
    "b/c/d",
    "build/x",
    "c/build",
    "[a]",
    "a",
    "sp ace",
    "end ",
    "new\nline",
    "-x",
    "back\\slash",
    "#hash",
    "!bang",
    "a*b",
    "\udcff\udcfe",
    "deep/er/and/deeper/file.tmp",
]


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp()) / "root"
    for name in FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (root / "empty").mkdir()
    yield root
    shutil.rmtree(root.parent)


def walked(root: Path, patterns: list[str]) -> set[str]:
    """What Freezer's own walk records."""
    found = set()
    top = os.fsencode(root)
    for event in LocalTree([top], patterns=Patterns(patterns)).walk(lambda problem: pytest.fail(problem.message)):
        if isinstance(event, Enter) and event.directory.path:
            found |= {os.fsdecode(os.path.relpath(event.directory.path + b"/" + n, top)) for n in event.directory.names}
    return found


PIECES = [
    "a",
    "b",
    "c",
    "log",
    "build",
    "*",
    "?",
    "**",
    "/",
    ".",
    "!",
    "[ab]",
    "[!a]",
    "\\",
    "#",
    " ",
    "-",
    "deep",
    "end",
]


@settings(max_examples=60, deadline=None)
@given(patterns=st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join), max_size=3))
@example(patterns=["*.log", "?", "."])
@example(patterns=["*"])
@example(patterns=[".*"])
@example(patterns=["*.log", "!keep.log"])
@example(patterns=["build/"])
@example(patterns=["/b/*", "!/b/c"])
@example(patterns=["b/**/a.log", "end\\ ", "new?line"])
@example(patterns=["\udcff*"])
def test_patterns_mean_what_they_mean_to_all_engines(tree: Path, patterns: list[str]) -> None:
    writer = Writer(tree, excludes=patterns)
    writer.backup()
    assert {os.fsdecode(path) for path in writer.read()} - {"."} == walked(tree, patterns)


def test_names_with_wildcards_are_left_to_gnu_tar() -> None:
    """They hold for what is made during the run, too."""

    def rules(*patterns: bytes) -> TreeRules:
        return TreeRules(locations={b"/r": b"/r"}, excludes=patterns)

    assert name_patterns(rules(b"*.log", b"core", b".cache", b"a?c")) == (b"*.log", b"core", b".cache", b"a?c")
    for pattern in (b"*", b".", b".*", b"a/b", b"a/", b"!a", b"[a]", b"a\\*", b"{a}"):
        assert name_patterns(rules(b"*.log", pattern)) is None


def test_too_many_names_for_a_command_line_are_told() -> None:
    with pytest.raises(ConfigurationError, match="too many"):
        member_arguments((b"./%0200d\nx" % number for number in range(1000)), file=b"/dev/fd/9")


def test_what_is_no_longer_excluded_is_stored_though_it_is_old(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "build").mkdir(parents=True)
    for name in ("a.log", "kept", "build/product", "b.log"):
        (source / name).write_text("old")
    time.sleep(TICK)
    writer = Writer(source)
    writer.backup(excludes=["a.log", "build/"])
    writer.backup(excludes=["a.log"])
    assert names(writer.read()) == {"kept", "b.log", "build", "build/product"}
    writer.backup()
    assert difference(writer.restored(tmp_path / "one"), disk(source, fine=True)) == {}
    # changed while it was excluded
    (source / "b.log").write_text("new")
    time.sleep(TICK)
    writer.backup(excludes=["*.log"])
    writer.backup()
    assert difference(writer.restored(tmp_path / "two"), disk(source, fine=True)) == {}
    assert difference(writer.read(), disk(source, fine=True)) == {}


@pytest.mark.parametrize("pattern", ["*.log", "b*log", "?.log", "./b.log", "[b].log", "\\b.log"])
def test_the_same_holds_for_patterns_of_gnu_tar(tmp_path: Path, pattern: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "b.log").write_text("old")
    (source / "kept").write_text("old")
    time.sleep(TICK)
    writer = Writer(source)
    writer.backup()
    (source / "b.log").write_text("new")
    time.sleep(TICK)
    raw = WriteOptions(exclude=pattern)
    assert writer.backup(writing=raw).stats.changed_files == 0
    writer.backup()
    assert difference(writer.restored(tmp_path / "restored"), disk(source, fine=True)) == {}


def test_a_pattern_is_one_argument_for_gnu_tar(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a b").write_text("x")
    (source / "c").write_text("x")
    writer = Writer(source, writing=WriteOptions(exclude="a b"))
    writer.backup()
    assert names(writer.read()) == {"c"}
    hostile = Writer(source, writing=WriteOptions(exclude=f"$(touch {tmp_path}/PWNED)`touch {tmp_path}/PWNED`"))
    hostile.backup()
    assert names(hostile.read()) == {"a b", "c"}
    assert not (tmp_path / "PWNED").exists()
