"""Copies between repositories: the same backup, whatever the keys, and nothing moved twice."""

from __future__ import annotations

import dataclasses
import os
import random
from pathlib import Path

import pytest
from dedup.two import Two, assert_restores, settle
from trees import make_every_kind

from freezer_sdk import CopyOutcome, Freezer, Status
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.chunker import ChunkerClass
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import FaultyStorage


@pytest.mark.root
def test_every_kind_of_entry_comes_over(pair: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_every_kind(source)
    settle()
    backup = pair.source.backup(source, name="tree", tags=["t"], host="elsewhere")
    pair.copy()
    assert pair.target.backups() == [backup]
    assert pair.target.verify(read_data=True).ok
    assert_restores(pair.target, backup.id, source, tmp_path / "out")
    ours, theirs = (list(freezer.entries(backup.id)) for freezer in (pair.source, pair.target))
    assert [dataclasses.replace(each, content=None) for each in ours] == [
        dataclasses.replace(each, content=None) for each in theirs
    ]


def test_everything_that_is_recorded_comes_over(pair: Two, tree: Path) -> None:
    (tree / "secret").write_bytes(b"s")
    os.mkfifo(tree / "pipe")
    backup = pair.source.backup(
        tree,
        name="tree",
        tags=["a", "b"],
        host="elsewhere",
        excludes=["nothing"],
        mode_options={"exclude_caches": True},
    )
    stored = pair.source.backups()[0]
    assert stored == backup
    result = pair.target.copy(pair.source, backup.id)[0]
    assert result.backup == backup
    assert result.read_bytes > 0
    assert result.added_bytes > 0
    assert pair.target.backups() == [backup]
    assert pair.target.find_backup(backup.id).stats == backup.stats


def test_a_partial_backup_stays_partial(pair: Two, tree: Path) -> None:
    backup = pair.source.backup([tree, tree / "nothing here"], name="tree")
    assert backup.status is Status.PARTIAL
    pair.copy()
    copied = pair.target.backups()[0]
    assert copied.status is Status.PARTIAL
    assert copied.problems == backup.problems


def test_streams_come_over(pair: Two, tmp_path: Path) -> None:
    for size in (10, 3_000_000):
        command = ["python3", "-c", f"import sys; sys.stdout.buffer.write(bytes(range(250)) * {size // 10})"]
        pair.source.backup(
            name=f"dump{size}", mode_options={"command": f"dump{size}", "command_arguments": command}, host="h"
        )
    pair.copy()
    for backup in pair.target.backups():
        with (
            pair.target.open(backup.id, f"/{backup.name}") as copied,
            pair.source.open(backup.id, f"/{backup.name}") as original,
        ):
            content = original.read()
            assert content
            assert copied.read() == content


def test_a_copy_of_what_is_there_moves_nothing(pair: Two, tree: Path) -> None:
    pair.source.backup(tree, name="tree")
    pair.copy()
    begins = len(pair.source_storage.calls), len(pair.target_storage.calls)
    assert pair.copy(outcome=CopyOutcome.PRESENT) == 0
    assert not pair.calls(pair.source_storage, begins[0], "packs/", "meta/")
    assert not [call for call in pair.target_storage.calls[begins[1] :] if call.method in ("put", "upload", "delete")]


def test_an_unchanged_run_costs_only_its_commit(pair: Two, tree: Path) -> None:
    pair.source.backup(tree, name="tree")
    pair.copy()
    pair.source.backup(tree, name="tree")
    begins = len(pair.source_storage.calls), len(pair.target_storage.calls)
    results = pair.target.copy(pair.source)
    assert [result.outcome for result in results] == [CopyOutcome.PRESENT, CopyOutcome.COPIED]
    assert (results[1].read_bytes, results[1].added_bytes) == (0, 0)
    assert not pair.calls(pair.source_storage, begins[0], "packs/", "meta/")
    written = pair.calls(pair.target_storage, begins[1], "", methods="put upload")
    assert {name.split("/")[0] for name in written} == {"leases", "backups"}


def test_only_what_changed_is_read(pair: Two, tree: Path, tmp_path: Path) -> None:
    pair.source.backup(tree, name="tree")
    pair.copy()
    (tree / "d1" / "new").write_bytes(os.urandom(5000))
    (tree / "d2" / "e0" / "changed").write_bytes(os.urandom(200_000))
    settle()
    backup = pair.source.backup(tree, name="tree")
    assert pair.target.copy(pair.source, backup.id)[0].read_bytes == 205_000
    assert_restores(pair.target, backup.id, tree, tmp_path / "out")
    assert pair.target.verify(read_data=True).ok


def test_an_unchanged_file_is_not_read_when_its_directory_changed(others: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "large").write_bytes(os.urandom(1_000_000))
    os.link(source / "large", source / "large too")
    settle()
    others.source.backup(source, name="s")
    assert others.copy() == 1_000_000
    (source / "small").write_bytes(b"x")
    (source / "large").chmod(0o600)
    settle()
    backup = others.source.backup(source, name="s")
    assert others.target.copy(others.source, backup.id)[0].read_bytes == 1
    assert_restores(others.target, backup.id, source, tmp_path / "out")


def test_backups_after_a_copy_find_what_it_brought(pair: Two, tree: Path) -> None:
    pair.source.backup(tree, name="tree")
    pair.copy()
    again = pair.target.backup(tree, name="tree")
    assert again.stats.read_bytes == 0
    assert again.stats.added_bytes == 0
    forced = pair.target.backup(tree, name="tree", force_read=True)
    assert forced.stats.added_raw_bytes < 20_000, "contents were cut or named in another way than backups do it"


def test_of_a_large_file_only_what_changed_moves(pair: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    content = bytearray(random.Random(1).randbytes(8 << 20))
    (source / "image").write_bytes(content)
    settle()
    pair.source.backup(source, name="image")
    pair.copy()
    content[4_000_000:4_000_100] = bytes(100)
    (source / "image").write_bytes(content)
    settle()
    backup = pair.source.backup(source, name="image")
    result = pair.target.copy(pair.source, backup.id)[0]
    assert result.added_raw_bytes < 1_000_000
    assert_restores(pair.target, backup.id, source, tmp_path / "out")


def test_content_that_occurs_twice_is_read_once(pair: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    data = os.urandom(500_000)
    for number in range(4):
        (source / f"f{number}").write_bytes(data)
    backup = pair.source.backup(source, name="s")
    assert pair.copy() == 500_000
    assert_restores(pair.target, backup.id, source, tmp_path / "out")


def test_a_long_content_comes_over_list_by_list(alike: Two, tmp_path: Path) -> None:
    """Of a content of many lists only those are read that changed."""
    storage, other = FaultyStorage(MemoryStorage()), MemoryStorage()
    create_repository(storage, password=None, chunker_classes=(ChunkerClass(0, 1 << 10),))
    source = tmp_path / "source"
    source.mkdir()
    content = bytearray(random.Random(1).randbytes(24 << 20))
    (source / "image").write_bytes(content)
    settle()
    with Freezer(storage) as first, Freezer.create(other, encryption=False, like=first) as second:
        first.backup(source, name="image")
        second.copy(first)
        content[-100:] = bytes(100)
        (source / "image").write_bytes(content)
        settle()
        backup = first.backup(source, name="image")
        result = second.copy(first, backup.id)[0]
        assert result.read_bytes < 20_000
        assert second.verify(read_data=True).ok
        assert_restores(second, backup.id, source, tmp_path / "out")


def test_large_directories_come_over(pair: Two, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3000):
        (source / f"file-{number}").write_bytes(b"%d" % number)
    settle()
    pair.source.backup(source, name="s")
    pair.copy()
    (source / "file-1500").write_bytes(b"changed")
    settle()
    backup = pair.source.backup(source, name="s")
    assert pair.target.copy(pair.source, backup.id)[0].read_bytes == 7
    assert_restores(pair.target, backup.id, source, tmp_path / "out")


def test_copies_of_copies(pair: Two, tree: Path, tmp_path: Path) -> None:
    backup = pair.source.backup(tree, name="tree")
    pair.copy()
    with Freezer.create(MemoryStorage(), password="third") as third:
        assert third.copy(pair.target)[0].outcome is CopyOutcome.COPIED
        assert third.copy(pair.source)[0].outcome is CopyOutcome.PRESENT
        assert third.backups() == [backup]
        assert_restores(third, backup.id, tree, tmp_path / "out")
        (tree / "new").write_bytes(b"new")
        settle()
        pair.source.backup(tree, name="tree")
        assert third.copy(pair.source)[1].read_bytes == 3, "a copy of the same backup from elsewhere was not used"


def test_a_copy_into_what_backups_have_filled_moves_little(alike: Two, tree: Path) -> None:
    alike.target.backup(tree, name="tree")
    alike.source.backup(tree, name="tree")
    results = alike.target.copy(alike.source)
    assert results[0].outcome is CopyOutcome.COPIED
    assert results[0].read_bytes == 0
