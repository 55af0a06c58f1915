"""The command line gives the library a place for the local cache of storages across a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.program import Cli

FAR = """
import dataclasses

from freezer_sdk.storages.local import LocalStorage


class FarStorage(LocalStorage):
    name = "far"
    summary = "a folder that counts as a storage across a network"

    @classmethod
    def parse_url(cls, url):
        return {"path": url.partition(":")[2]}

    @property
    def capabilities(self):
        return dataclasses.replace(super().capabilities, remote=True)
"""


@pytest.fixture
def far(cli: Cli, tmp_path: Path) -> Cli:
    """The program with an unencrypted repository in a storage that counts as remote."""
    meta = tmp_path / "site" / "far_storage-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta.parent / "far_storage.py").write_text(FAR)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: far-storage\nVersion: 1.0\n")
    (meta / "entry_points.txt").write_text("[freezer_sdk.storages]\nfar = far_storage:FarStorage\n")
    cli.env |= {"PYTHONPATH": str(meta.parent), "FREEZER_STORAGE": f"far:{tmp_path / 'store'}"}
    cli("repository", "init", "--no-encryption")
    return cli


def test_a_far_storage_gets_a_cache_in_its_usual_place(far: Cli, tree: Path, tmp_path: Path) -> None:
    far("backup", "create", tree, "--name", "etc")
    listed = far("backup", "ls", "latest").out
    (folder,) = (far.home / ".cache" / "freezer-sdk").iterdir()
    assert any((folder / "meta").rglob("*/*"))
    elsewhere = tmp_path / "elsewhere"
    assert far("backup", "ls", "latest", "--engine-option", f"cache={elsewhere}").out == listed
    assert any(elsewhere.rglob("index/*"))
    assert far("backup", "ls", "latest", env={"XDG_CACHE_HOME": str(tmp_path / "xdg")}).out == listed
    assert (tmp_path / "xdg" / "freezer-sdk" / folder.name).is_dir()


def test_nobody_needs_one(far: Cli, tree: Path) -> None:
    far("backup", "create", tree, "--cache", "-", env={"XDG_CACHE_HOME": str(far.home / "none")})
    assert not (far.home / "none" / "freezer-sdk").exists()


def test_a_near_storage_has_none(filled: Cli) -> None:
    filled("backup", "ls", "latest")
    assert not (filled.home / ".cache" / "freezer-sdk").exists()


def test_a_storage_that_was_set_back_is_told(far: Cli, tree: Path, tmp_path: Path) -> None:
    far("backup", "create", tree, "--name", "etc")
    done = far("backup", "create", tree, "--name", "etc", "-f", "json")
    assert "set back" not in done.err
    (commit,) = (path for path in (tmp_path / "store" / "backups").iterdir() if path.name.endswith(done.json["id"]))
    commit.unlink()
    told = far("backup", "list")
    assert "the storage was set back" in told.err
    assert done.json["id"] in told.err
