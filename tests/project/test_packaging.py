"""What is installed is what was meant to be installed."""

from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

KINDS = ("compressors", "engines", "modes", "snapshots", "storages")


@pytest.fixture(scope="module")
def declared(checkout: Path) -> dict[str, dict[str, str]]:
    """The entry points of setup.cfg: group -> name -> object."""
    config = configparser.ConfigParser()
    config.read(checkout / "setup.cfg")
    groups = {}
    for group, text in config["options.entry_points"].items():
        lines = (line.partition("=") for line in text.strip().splitlines())
        groups[group] = {name.strip(): value.strip() for name, _, value in lines}
    return groups


@pytest.fixture(scope="module")
def wheel(checkout: Path, tracked: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """A wheel, built from a copy: an old build/ in the checkout would add to it."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked:
        copy = folder / "source" / path.relative_to(checkout)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--quiet",
        "-w",
        "out",
        "./source",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "out").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        yield archive


def entry_points_of(text: str) -> dict[str, dict[str, str]]:
    config = configparser.ConfigParser(delimiters="=")
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read_string(text)
    return {group: dict(config[group]) for group in config.sections()}


def test_wheel_holds_all_modules_and_nothing_else(wheel: zipfile.ZipFile, checkout: Path, tracked: list[Path]) -> None:
    packages = ("freezer_sdk", "freezer_cli")
    modules = {str(path.relative_to(checkout)) for path in tracked if path.relative_to(checkout).parts[0] in packages}
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert inside == modules


def test_wheel_is_typed_and_has_no_tests(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {"freezer_sdk/py.typed", "freezer_cli/py.typed"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "docs")) or "/test_" in name]


def test_wheel_has_licence_and_metadata(wheel: zipfile.ZipFile) -> None:
    names = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert any(name.endswith("LICENSE") for name in names)
    metadata = wheel.read(names["METADATA"]).decode()
    assert "Name: freezer-sdk\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "# Freezer SDK" in metadata


def test_wheel_has_the_declared_entry_points(wheel: zipfile.ZipFile, declared: dict[str, dict[str, str]]) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert entry_points_of(wheel.read(name).decode()) == declared


def test_installed_entry_points_equal_the_declared_ones(declared: dict[str, dict[str, str]]) -> None:
    points = importlib.metadata.distribution("freezer-sdk").entry_points
    installed: dict[str, dict[str, str]] = {}
    for point in points:
        installed.setdefault(point.group, {})[point.name] = point.value
    assert installed == declared


def test_every_entry_point_can_be_loaded(declared: dict[str, dict[str, str]]) -> None:
    for group, points in declared.items():
        for name, value in points.items():
            module, _, attribute = value.partition(":")
            found = getattr(importlib.import_module(module), attribute)
            if group.rpartition(".")[2] in KINDS:
                # a class that serves several names says the first of them
                assert found.name in points, f"{group}: {name}"
                assert found.api_version == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_plugin_module_has_its_entry_point(
    kind: str, checkout: Path, declared: dict[str, dict[str, str]]
) -> None:
    folder = checkout / "freezer_sdk" / kind
    modules = {path.stem for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    plugins = {
        name for name in modules if not name.startswith("_") and name not in ("base", "chains", "label", "mounts")
    }  # shared by engines, and by snapshot providers
    values = declared.get(f"freezer_sdk.{kind}", {}).values()
    assert plugins == {value.partition(":")[0].split(".")[2] for value in values}


def test_source_archive_has_what_a_recovery_needs(checkout: Path) -> None:
    lines = (checkout / "MANIFEST.in").read_text().split()
    for name in ("tools/freezer_recover.py", "docs/reference/repository-format.md"):
        assert name in lines
        assert (checkout / name).is_file()


def test_metadata_lie_in_setup_cfg_only(checkout: Path) -> None:
    # with a [project] table setuptools would install no entry points of setup.cfg, and say nothing
    project = tomllib.loads((checkout / "pyproject.toml").read_text())
    assert "project" not in project
