"""The layers hold, and no plug-in is forgotten in the contracts that check them."""

from __future__ import annotations

import configparser
import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest


@pytest.mark.skipif(importlib.util.find_spec("importlinter") is None, reason="import-linter is not installed")
def test_import_contracts_hold(checkout: Path) -> None:
    command = [sys.executable, "-c", "import sys; from importlinter.cli import lint_imports_command as main; main()"]
    done = subprocess.run([*command, "--no-cache"], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_plugin_is_in_the_independence_contract(checkout: Path) -> None:
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    (contract,) = (each for each in project["tool"]["importlinter"]["contracts"] if each["id"] == "independence")
    config = configparser.ConfigParser()
    config.read(checkout / "setup.cfg")
    points = config["options.entry_points"]
    lines = [line for group, text in points.items() if group.startswith("freezer_sdk.") for line in text.split("\n")]
    objects = [line.partition("=")[2].strip() for line in lines if "=" in line]
    assert {".".join(name.partition(":")[0].split(".")[:3]) for name in objects} == set(contract["modules"])


def test_only_crypto_imports_ciphers(checkout: Path) -> None:
    users = {
        path.parent.name
        for path in (checkout / "freezer_sdk").rglob("*.py")
        if any(
            line.lstrip().startswith(("import cryptography", "from cryptography"))
            for line in path.read_text().splitlines()
        )
    }
    assert users == {"crypto"}
