from __future__ import annotations

from pathlib import Path

import pytest
from cli.program import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("alpha\n")
    (root / "sub" / "b.conf").write_text("beta\n" * 100)
    (root / "link").symlink_to("a.txt")
    return root


@pytest.fixture
def repo(cli: Cli, tmp_path: Path) -> Cli:
    """The program, with an unencrypted repository as its storage (a password costs time in every command)."""
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    cli("repository", "init", "--no-encryption")
    return cli


@pytest.fixture
def filled(repo: Cli, tree: Path) -> Cli:
    """Two backups named etc: in the second one file is new, one is gone, and one changed."""
    repo("backup", "create", tree, "--name", "etc", "--tag", "first")
    (tree / "new.txt").write_text("new\n")
    (tree / "link").unlink()
    (tree / "a.txt").write_text("alpha and more\n")
    repo("backup", "create", tree, "--name", "etc", "--tag", "second")
    return repo


PLUGINS = """
import os
import sys
from datetime import timedelta

from freezer_sdk import errors
from freezer_sdk.modes.base import Mode
from freezer_sdk.options import Option
from freezer_sdk.storages.base import Capabilities, Storage
from freezer_sdk.storages.memory import MemoryStorage


class RaisingStorage(MemoryStorage):
    name = "raising"
    api_version = 1
    summary = "raises the error that its URL names"
    options = (Option(name="error", help="name of the class"), Option(name="key", help="a key", secret=True))

    @classmethod
    def parse_url(cls, url):
        return {"error": url.partition(":")[2]}

    def __init__(self, *, error, key=None):
        if error == "key":
            raise errors.ConfigurationError(f"the key has {len(key)} letters")
        if error == "defect":
            raise AssertionError("this should not happen")
        raise getattr(errors, error)(f"this is {error}\\x1b[31m", hint="do something")


class ForgetfulStorage(MemoryStorage):
    name = "forgetful"
    api_version = 1
    summary = "forgets what it should delete"
    options = ()

    def __init__(self):
        super().__init__()

    def delete(self, name):
        pass


class GreedyMode(Mode):
    name = "greedy"
    api_version = 1
    summary = "has options whose names are taken"
    options = (Option(name="name", help="taken by the command"), Option(name="depth", type="int", help="free"))

    def __init__(self, *, name=None, depth=None):
        raise errors.ConfigurationError(f"name={name} depth={depth}")

    def protect(self): ...

    def restore(self, restorer, target): ...


class OldStorage(MemoryStorage):
    name = "old"
    api_version = 0
"""


@pytest.fixture
def plugins(cli: Cli, tmp_path: Path) -> Cli:
    """The program, with a distribution of plug-ins installed beside it."""
    site = tmp_path / "site"
    meta = site / "strange_plugins-1.5.dist-info"
    meta.mkdir(parents=True)
    (site / "strange_plugins.py").write_text(PLUGINS)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: strange-plugins\nVersion: 1.5\n")
    (meta / "entry_points.txt").write_text(
        "[freezer_sdk.storages]\nraising = strange_plugins:RaisingStorage\n"
        "forgetful = strange_plugins:ForgetfulStorage\n"
        "old = strange_plugins:OldStorage\ngone = strange_plugins_gone:GoneStorage\n"
        "[freezer_sdk.modes]\ngreedy = strange_plugins:GreedyMode\n"
        "[freezer.cli]\nstrange_broken = strange_plugins_gone:Command\n"
    )
    cli.env["PYTHONPATH"] = str(site)
    return cli
