"""Stores of engines with levels: how they are made, told apart, damaged; chains of the original; several at once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from chains.running import INTEROP, PASSWORD, change, content, opened, runs

from freezer_sdk import Freezer, FreezerGroup
from freezer_sdk.errors import (
    ConfigurationError,
    IntegrityError,
    RepositoryExists,
    RepositoryNotFound,
    UnsupportedFormat,
)
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage

pytestmark = pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")


def test_an_empty_storage_is_no_store() -> None:
    with pytest.raises(RepositoryNotFound):
        Freezer(MemoryStorage(), engine="tar")


@pytest.mark.parametrize(
    "change", [("openssl", "sealed"), ("sealed", "openssl"), ("2026", "2025"), ('"version": 1', '"version": 2')]
)
def test_a_store_tells_when_what_it_says_was_changed(change: tuple[str, str], tree: Path) -> None:
    storage = MemoryStorage()
    cipher = change[0] if change[0] in ("openssl", "sealed") else "sealed"
    options = {"cipher": cipher}
    with Freezer(storage, create=True, engine="tar", password=PASSWORD, engine_options=options) as freezer:
        freezer.backup(tree, name="t")
    text = storage.get("freezer-sdk/store").decode()
    storage.put("freezer-sdk/store", [text.replace(*change).encode()])
    if change[0] == "2026":  # when it was made is for people
        Freezer(storage, engine="tar", password=PASSWORD).close()
        return
    with pytest.raises((IntegrityError, UnsupportedFormat)):
        Freezer(storage, engine="tar", password=PASSWORD)


@pytest.mark.parametrize("content", [b"", b"junk", b"[]", b"{}", b'{"version": 1, "id": 5}'])
def test_a_damaged_store_object_is_told_and_can_be_removed(content: bytes, tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        backup = freezer.backup(tree, name="t")
    storage.put("freezer-sdk/store", [content])
    with pytest.raises(IntegrityError) as caught:
        Freezer(storage, engine="tar")
    assert "remove it" in (caught.value.hint or "")
    storage.delete("freezer-sdk/store")
    with Freezer(storage, engine="tar") as freezer:
        assert freezer.backups() == [backup]


def test_a_store_is_made_once() -> None:
    storage = MemoryStorage()
    Freezer.create(storage, engine="tar", encryption=False).close()
    with pytest.raises(RepositoryExists):
        Freezer.create(storage, engine="tar", encryption=False)


def test_the_engine_of_a_store_is_found_out(tree: Path) -> None:
    storage = MemoryStorage()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
    with Freezer(storage) as freezer:
        assert [backup.engine for backup in freezer.backups()] == ["tar"]


def test_two_engines_in_one_store(tree: Path) -> None:
    """As in containers of the original."""
    storage = MemoryStorage()
    with opened(storage) as freezer:
        freezer.backup(tree, name="t")
    with Freezer(storage, create=True, engine="rsync", encryption=False) as other:
        assert [problem.kind for problem in other.problems] == ["engine"]
        assert not other.backups()
        assert other.backup(tree, name="t").level == 0
    with Freezer(storage, engine="rsyncv2") as other:
        assert not other.problems
        assert [backup.engine for backup in other.backups()] == ["rsync"]
    with pytest.raises(ConfigurationError, match="several engines: rsync, tar"):
        Freezer(storage)


@pytest.mark.skipif(not INTEROP.exists(), reason="needs stores written by the real agent (../shared/interop)")
def test_a_chain_of_the_original_is_continued(tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(INTEROP / "tar-gzip-levels" / "store", store)
    with Freezer(f"local:{store}", engine="tar", engine_options={"strategy": "incremental"}) as freezer:
        before = freezer.backups()
        newest = before[-1]
        backup = freezer.backup(tree, name=newest.name, host=newest.host)
        assert backup.level == (newest.level or 0) + 1
        assert backup.chain == newest.chain
        freezer.restore(backup.id, tmp_path / "out")
        assert content(tmp_path / "out") == content(tree)
        assert [each.id for each in freezer.backups()] == [*(each.id for each in before), backup.id]
    assert not (store / "freezer-sdk" / "store").exists()


def test_gnu_tar_restores_a_chain_that_lies_in_a_folder(tree: Path, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "out"
    with opened(LocalStorage(path=str(store))) as freezer:
        made = runs(freezer, tree, 3)
    out.mkdir()
    streams = sorted(store.glob("data/tar/*/*/*/data"), key=lambda path: path.parent.name)
    assert [path.parent.name.split("_")[0] for path in streams] == ["0", "1", "2"]
    for path in streams:
        command = ["tar", "-z", "--incremental", "--extract", "--ignore-zeros", "--warning=none", "--overwrite"]
        subprocess.run([*command, "--directory", str(out), "--file", str(path)], check=True)
    assert content(out) == made[-1][1]


def test_several_storages_at_once(tree: Path, tmp_path: Path) -> None:
    storages: list[Storage] = [MemoryStorage(), LocalStorage(path=str(tmp_path / "store"))]
    members = [opened(storage) for storage in storages]
    with FreezerGroup(members) as group:
        for number in range(3):
            change(tree, number)
            result = group.backup(tree, name="t")
            assert result.status == "complete"
    for member in members:
        backups = member.backups()
        assert [backup.level for backup in backups] == [0, 1, 2]
        target = tmp_path / f"out{members.index(member)}"
        member.restore(backups[-1].id, target)
        assert content(target) == content(tree)
    assert [backup.id for backup in members[0].backups()] == [backup.id for backup in members[1].backups()]
    for member in members:
        member.close()
