"""The checksum of a tree does not depend on the order in which the file system lists it."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from freezer_cli.agent.consistency import check_restored, checksum
from freezer_sdk.errors import FreezerError


def test_it_is_independent_of_the_order_of_directories(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = checksum(str(tree))
    again = tmp_path / "again"
    shutil.copytree(tree, again, symlinks=True)
    names = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: sorted(names(path), reverse=True))
    assert checksum(str(again)) == first


@pytest.mark.parametrize("change", ["content", "name", "link", "missing", "more", "type"])
def test_every_change_changes_it(tree: Path, change: str) -> None:
    first = checksum(str(tree))
    file = tree / "sub" / "b.conf"
    match change:
        case "content":
            file.write_text("x")
        case "name":
            file.rename(tree / "sub" / "c.conf")
        case "link":
            (tree / "link").unlink()
            (tree / "link").symlink_to("b.txt")
        case "missing":
            file.unlink()
        case "more":
            (tree / "sub" / "new").mkdir()
        case "type":
            file.unlink()
            file.mkdir()
    assert checksum(str(tree)) != first


def test_of_a_file_it_is_the_digest_with_the_name_as_the_original_has_it(tmp_path: Path) -> None:
    file = tmp_path / "f.txt"
    file.write_bytes(b"content")
    found = checksum(str(file))
    assert found == hashlib.sha256(b"content").hexdigest() + "f.txt"
    check_restored(str(tmp_path), found)


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("*.log", ["sub/skip.log"]),
        ("sub", ["sub"]),
        ("./sub/", ["sub"]),
        ("sub/*.log", ["sub/skip.log"]),
        ("s*", ["sub"]),
        ("skip.lo[^x]", ["sub/skip.log"]),
        ("b", []),
        ("*", ["sub", "a.txt", "link"]),
    ],
)
def test_what_is_excluded_does_not_count(tree: Path, pattern: str, gone: list[str]) -> None:
    counted = checksum(str(tree), exclude=pattern)
    for name in gone:
        path = tree / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert checksum(str(tree)) == counted


def test_links_count_as_what_they_lead_to_when_they_are_followed(tree: Path) -> None:
    (tree / "dangling").symlink_to("nowhere")
    followed = checksum(str(tree), follow=True)
    (tree / "link").unlink()
    shutil.copy(tree / "a.txt", tree / "link")
    assert checksum(str(tree)) == followed


def test_a_difference_is_an_error(tree: Path) -> None:
    expected = checksum(str(tree))
    check_restored(str(tree), expected.upper())
    (tree / "a.txt").write_text("other")
    with pytest.raises(FreezerError, match="checksum") as caught:
        check_restored(str(tree), expected)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("wrong", ["", "abc", "x" * 64, "0" * 64 + "../up", "0" * 64 + "missing"])
def test_what_is_no_checksum(tree: Path, wrong: str) -> None:
    with pytest.raises(FreezerError):
        check_restored(str(tree), wrong)
