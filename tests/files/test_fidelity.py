"""Every kind of entry survives scan and restore, by the judgement of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trees


def test_every_kind_of_entry_comes_back(every_kind: Path, tmp_path: Path, copy) -> None:
    result = copy(every_kind, tmp_path / "out")
    assert result.problems == []
    trees.compare(every_kind, tmp_path / "out")


def test_restoring_over_the_same_tree_changes_nothing(every_kind: Path, tmp_path: Path, copy) -> None:
    copy(every_kind, tmp_path / "out")
    result = copy(every_kind, tmp_path / "out", overwrite="if-changed", delete=True)
    assert (result.problems, result.deleted) == ([], 0)
    trees.compare(every_kind, tmp_path / "out")


def test_restoring_in_place_keeps_holes_and_inodes(every_kind: Path, tmp_path: Path, copy) -> None:
    copy(every_kind, tmp_path / "out")
    large, sparse = tmp_path / "out/files/large", tmp_path / "out/sparse/hole-at-end"
    inodes = large.stat().st_ino, sparse.stat().st_ino
    large.write_bytes(b"longer than before" * 300_000)
    sparse.write_bytes(b"not sparse at all" * 100_000)
    result = copy(every_kind, tmp_path / "out", overwrite="always", inplace=True)
    assert result.problems == []
    trees.compare(every_kind, tmp_path / "out")
    assert inodes == (large.stat().st_ino, sparse.stat().st_ino)


def test_paths_longer_than_the_system_takes(tmp_path: Path, copy) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    trees.make_deep(os.fsencode(source), levels=40)
    try:
        assert copy(source, target).problems == []
        trees.compare_deep(source, target)
    finally:
        trees.remove(source)
        trees.remove(target)


def _rewrite(path: Path, data: bytes) -> None:
    times = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _unlink_group(path: Path) -> None:
    data, st = path.read_bytes(), path.stat()
    path.unlink()
    path.write_bytes(data)
    os.utime(path, ns=(st.st_mtime_ns, st.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda top: _rewrite(top / "files/small", b"HELLO"),
    "a nanosecond": lambda top: os.utime(top / "files/small", ns=(0, 1_234_567_890_123_456_788)),
    "mode": lambda top: (top / "files/small").chmod(0o640),
    "an attribute": lambda top: os.setxattr(top / "xattrs/file", "user.empty", b"no more"),
    "a hard link": lambda top: _unlink_group(top / "links/two"),
    "a hole": lambda top: _rewrite(top / "sparse/only-a-hole", bytes(1 << 20)),
    "something more": lambda top: (top / "empty-directory/more").mkdir(),
    "something less": lambda top: (top / "special/fifo-too").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_comparison_finds_a_difference(every_kind: Path, tmp_path: Path, copy, change: str) -> None:
    copy(every_kind, tmp_path / "out")
    CHANGES[change](tmp_path / "out")
    with pytest.raises(AssertionError):
        trees.compare(every_kind, tmp_path / "out")
