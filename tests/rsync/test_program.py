"""The engine from the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli.program import PASSWORD, Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    (tmp_path / "home").mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_bytes(os.urandom(20_000))
    return Cli(tmp_path / "home", {"FREEZER_PASSWORD": PASSWORD, "FREEZER_STORAGE": f"local:{tmp_path}/store"})


def test_levels_are_made_listed_verified_and_restored(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "source/file"
    contents = []
    cli.inside("repository", "init", "--engine", "rsync")
    for number in range(4):
        data = file.read_bytes()
        file.write_bytes(data[: number * 4096] + b"%d" % number + data[number * 4096 + 1 :])
        contents.append(file.read_bytes())
        cli.inside("backup", "create", str(file.parent), "--name", "n", "--engine", "rsync", "--max-level", "2")
    listed = cli.inside("backup", "list", "-f", "json").json
    assert [each["level"] for each in listed] == [0, 1, 2, 0]
    cli.inside("backup", "verify", "--read-data")
    for each, content in zip(listed, contents, strict=True):
        target = tmp_path / each["id"]
        cli.inside("backup", "restore", each["id"], str(target))
        assert (target / "file").read_bytes() == content
    shown = cli.inside("backup", "cat", f"{listed[1]['id']}:{file}")
    assert shown.raw == contents[1]
