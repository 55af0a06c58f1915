"""A folder with distributions that exist only for one test."""

from __future__ import annotations

import sys
import textwrap
from importlib.metadata import distributions
from pathlib import Path

import pytest

from freezer_sdk.plugins import PluginRegistry


class Site:
    """Distributions in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, name: str, version: str, points: dict[str, str], **modules: str) -> None:
        """Writes a distribution.

        Args:
            points: ``{"storages: name": "module:Class"}``.
            modules: source by module name.
        """
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        groups: dict[str, list[str]] = {}
        for key, target in points.items():
            group, _, point = key.partition(": ")
            groups.setdefault(group, []).append(f"{point} = {target}")
        text = "".join(f"[freezer_sdk.{group}]\n" + "\n".join(lines) + "\n" for group, lines in groups.items())
        (info / "entry_points.txt").write_text(text)
        for module, source in modules.items():
            (self.folder / f"{module}.py").write_text(textwrap.dedent(source))

    def registry(self) -> PluginRegistry:
        """What is in this folder, and nothing else."""
        return PluginRegistry(distributions(path=[str(self.folder)]))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An empty site, importable during the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(folder) in str(sys.modules[name].__file__):
            del sys.modules[name]
