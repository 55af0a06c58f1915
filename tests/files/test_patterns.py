"""Patterns mean what git says they mean."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.files.patterns import Filter, Patterns, read_patterns

NAMES = [
    b"a",
    b"b",
    b"ab",
    b"a.b",
    b".a",
    b"a b",
    b"[a]",
    b"a\\b",
    b"*",
    b"!a",
    b"#a",
    b"a-b",
    b"\xff",
    b"a\n",
    b"b ",
    b"Z",
]
PIECES = [
    b"a",
    b"b",
    b".",
    b"*",
    b"**",
    b"?",
    b"/",
    b"[ab]",
    b"[!a]",
    b"[^a-b]",
    b"[a",
    b"[]a]",
    b"[[:alpha:]]",
    b"[[:x:]]",
]
PIECES += [
    b"\\",
    b"\\*",
    b" ",
    b"-",
    b"[a-]",
    b"[\\]a]",
    b"!",
    b"#",
    b"\xff",
    b"**/",
    b"/**",
    b"/**/",
    b"Z",
    b"[!b]",
    b"[b-a]",
]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A git work tree two levels deep in which every name is there as a file or a directory."""
    root = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", root], check=True)
    top = os.fsencode(root)
    found: list[bytes] = []
    for first, name in enumerate(NAMES):
        if first % 2:
            _write(top, name, found)
            continue
        os.mkdir(top + b"/" + name)
        found.append(name)
        for second, below in enumerate(NAMES):
            path = name + b"/" + below
            if (first + second) % 3:
                _write(top, path, found)
            else:
                os.mkdir(top + b"/" + path)
                found.append(path)
                for leaf in (b"a", b"b", b"ab"):
                    _write(top, path + b"/" + leaf, found)
    return root, found


def _write(top: bytes, path: bytes, found: list[bytes]) -> None:
    with open(top + b"/" + path, "wb"):
        found.append(path)


def ignored_by_git(root: Path, paths: list[bytes], patterns: bytes) -> set[bytes]:
    (root / ".git/info/exclude").write_bytes(patterns)
    done = subprocess.run(
        ["git", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=root,
        input=b"\0".join(paths) + b"\0",
        capture_output=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
    )
    assert done.returncode in (0, 1), done.stderr
    return set(done.stdout.split(b"\0")) - {b""}


def ignored_by_us(root: Path, paths: list[bytes], text: bytes, scratch: Path) -> set[bytes]:
    scratch.write_bytes(text)
    patterns = Patterns(read_patterns(os.fspath(scratch)))
    top = os.fsencode(root)
    return {path for path in paths if patterns.excludes(b"/" + path, is_directory=os.path.isdir(top + b"/" + path))}


# git compares the literal start of a pattern apart from the rest, so the stars in "ab**/c" count as leading ones there
NOT_AS_DOCUMENTED = re.compile(rb"!?+[^*?\[\\]*[^*?\[\\/]\*\*")

patterns_of_pieces = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(b"".join)
lines = st.lists(
    st.one_of(patterns_of_pieces, st.builds(lambda p: b"!" + p, patterns_of_pieces)), min_size=1, max_size=4
)


@given(lines=lines)
@example(lines=[b"/!a", b"!b"])
@example(lines=[b"*", b"!a", b"!/ab/"])
@example(lines=[b"a/**/b"])
@example(lines=[b"**/ab"])
@example(lines=[b"a?*b", b"/a/**"])
@example(lines=[b"b\\ ", b"a b   "])
@example(lines=[b"\\!a", b"\\#a", b"#b"])
@example(lines=[b"/*/[!a]", b"!*/b/"])
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_excludes_agree_with_git(repository: tuple[Path, list[bytes]], tmp_path: Path, lines: list[bytes]) -> None:
    root, paths = repository
    assume(not any(map(NOT_AS_DOCUMENTED.match, lines)))
    text = b"\n".join(lines) + b"\n"
    assert ignored_by_us(root, paths, text, tmp_path / "patterns") == ignored_by_git(root, paths, text)


@pytest.mark.parametrize(
    ("pattern", "path", "excluded"),
    [
        ("/etc/ssh", b"/etc/ssh", True),  # the recorded absolute path
        ("/ssh", b"/etc/ssh", True),  # relative to the root
        ("ssh/*_key", b"/etc/ssh/host_key", True),
        ("ssh/*_key", b"/etc/x/ssh/host_key", False),
        ("**/ssh/*_key", b"/etc/x/ssh/host_key", True),
        ("host_key", b"/etc/x/ssh/host_key", True),
        ("/x", b"/etc/x/ssh/host_key", True),  # by its parent
        ("/etc", b"/etc/hosts", False),  # a root is what the user asked for
        ("etc", b"/etc/hosts", False),
    ],
)
def test_slashes_anchor_at_the_recorded_path_and_at_the_root(pattern: str, path: bytes, excluded: bool) -> None:
    assert Patterns([pattern]).excludes(path, is_directory=False, root=b"/etc") is excluded


def test_a_file_of_patterns(tmp_path: Path) -> None:
    file = tmp_path / "patterns"
    file.write_bytes(b"\xef\xbb\xbf# comment\r\n\r\n*.tmp \r\n\\#name\n  \nend\\ \n!keep")
    assert read_patterns(os.fspath(file)) == [b"*.tmp", b"\\#name", b"end\\ ", b"!keep"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        read_patterns(os.fspath(tmp_path / "nowhere"))


def chosen(selection: Filter, *paths: bytes) -> set[bytes]:
    """Names with a trailing slash are directories."""
    return {p for p in paths if selection.chooses(p.rstrip(b"/"), is_directory=p.endswith(b"/"), root=b"/r")}


TREE = (
    b"/r/docs/",
    b"/r/docs/a.txt",
    b"/r/docs/b.pdf",
    b"/r/src/",
    b"/r/src/a.txt",
    b"/r/src/docs/",
    b"/r/src/docs/c.py",
)


def test_an_empty_filter_chooses_everything() -> None:
    assert not Filter()
    assert chosen(Filter(), *TREE) == set(TREE)


def test_an_included_directory_includes_what_it_holds() -> None:
    assert chosen(Filter(include=["docs/"]), *TREE) == set(TREE) - {b"/r/src/", b"/r/src/a.txt"}
    assert chosen(Filter(include=["/docs"]), *TREE) == {b"/r/docs/", b"/r/docs/a.txt", b"/r/docs/b.pdf"}


def test_excludes_win_over_includes() -> None:
    selection = Filter(include=["*.txt", "docs"], exclude=["/src"])
    assert chosen(selection, *TREE) == {b"/r/docs/", b"/r/docs/a.txt", b"/r/docs/b.pdf"}
    assert not selection.enters(b"/r/src", root=b"/r")
    assert not selection.enters(b"/r/src/docs", root=b"/r")
    assert selection.enters(b"/r/docs", root=b"/r")


def test_an_included_directory_may_lose_some_of_what_it_holds() -> None:
    assert chosen(Filter(include=["/docs", "!*.pdf"]), *TREE) == {b"/r/docs/", b"/r/docs/a.txt"}
