"""The example plug-ins, installed as wheels beside ours into a fresh environment, work like our own."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from btrfs_volume import new_subvolume

HERE = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "freezer-storage-sqlite": "freezer_storage_sqlite",
    "freezer-compressor-brotli": "freezer_compressor_brotli",
    "freezer-mode-redis": "freezer_mode_redis",
    "freezer-snapshot-reflink": "freezer_snapshot_reflink",
}
OURS = ("freezer_sdk", "freezer_cli", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")

pytestmark = pytest.mark.slow


def run(*command, cwd=None, env=None):
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Environment:
    """A virtual environment with all wheels; nothing of the source tree can be imported."""

    def __init__(self, folder):
        self.folder = folder
        self.wheels = folder / "wheels"
        self.bin = folder / "venv" / "bin"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "FREEZER_"))}
        self.env |= {"HOME": str(folder / "home"), "FREEZER_PASSWORD": "correct horse", "NO_COLOR": "1"}

    def build(self):
        sources = self.folder / "sources"
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist", ".*")
        for name in OURS:
            source, target = HERE / name, sources / "freezer-sdk" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target, ignore=ignored) if source.is_dir() else shutil.copy(source, target)
        for name in EXAMPLES:
            shutil.copytree(HERE / "plugins_examples" / name, sources / name, ignore=ignored)
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        run(*pip, "--wheel-dir", self.wheels, *sources.iterdir())

    def install(self):
        run(sys.executable, "-m", "venv", self.bin.parent)
        pins = HERE / "constraints.txt"
        constraints = ["--constraint", pins] if pins.exists() else []
        wheels = sorted(self.wheels.iterdir())
        run(self.bin / "python", "-m", "pip", "install", "--quiet", *constraints, *wheels, "pytest", env=self.env)

    def run(self, program, *arguments, **variables):
        return run(self.bin / program, *arguments, cwd=self.folder, env={**self.env, **variables})

    def freezer(self, *arguments):
        return self.run("freezer", *arguments)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    environment = Environment(tmp_path_factory.mktemp("examples"))
    environment.build()
    environment.install()
    return environment


@pytest.fixture
def tree(tmp_path):
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "text").write_text("freezer " * 100_000)
    (source / "deep" / "random").write_bytes(os.urandom(3_000_000))
    (source / "deep" / "er" / "empty").touch()
    return source


def test_wheels_hold_the_package_and_its_types_only(environment):
    for distribution, package in EXAMPLES.items():
        (wheel,) = environment.wheels.glob(f"{distribution.replace('-', '_')}-*.whl")
        names = zipfile.ZipFile(wheel).namelist()
        assert f"{package}/py.typed" in names
        assert {name.split("/")[0].split("-")[0] for name in names} == {package}


@contextlib.contextmanager
def redis():
    """A server can be started."""
    subprocess.run(["sh", HERE / "tests" / "services" / "redis" / "install"], capture_output=True, check=True)
    yield {}


@contextlib.contextmanager
def btrfs():
    """There is a folder on btrfs."""
    if os.geteuid():
        pytest.skip("only root can mount file systems")
    with new_subvolume() as folder:
        yield {"FREEZER_REFLINK_FOLDER": str(folder)}


REAL_PARTS = {"freezer-mode-redis": redis, "freezer-snapshot-reflink": btrfs}
"""What the tests of some examples need, and the variables that tell them of it."""


@pytest.mark.parametrize(("distribution", "package"), EXAMPLES.items())
def test_their_own_tests_pass_from_the_installed_wheel(environment, distribution, package, tmp_path):
    where = environment.run("python", "-c", f"import {package}, freezer_sdk; print({package}.__file__)").strip()
    assert Path(where).is_relative_to(environment.bin.parent)
    shutil.copytree(HERE / "plugins_examples" / distribution / "tests", tmp_path / "tests")
    command = ("python", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", tmp_path / "tests")
    with REAL_PARTS.get(distribution, lambda: contextlib.nullcontext({}))() as variables:
        out = environment.run(*command, **variables)
    assert " passed" in out
    assert os.geteuid() or "skipped" not in out


def test_plugin_list_names_their_distributions(environment):
    listed = json.loads(environment.freezer("plugin", "list", "-f", "json"))
    found = {(row["kind"], row["name"]): row for row in listed}
    for kind, name, distribution in (
        ("storage", "sqlite", "freezer-storage-sqlite"),
        ("compressor", "brotli", "freezer-compressor-brotli"),
        ("mode", "redis", "freezer-mode-redis"),
        ("snapshot", "reflink", "freezer-snapshot-reflink"),
        ("storage", "local", "freezer-sdk"),
    ):
        row = found[kind, name]
        assert (row["distribution"], row["available"]) == (distribution, True)


def test_plugin_test_runs_the_suites(environment, tmp_path):
    for arguments in (("sqlite", "--option", f"path={tmp_path}/trial.db"), ("brotli", "--kind", "compressor")):
        results = json.loads(environment.freezer("plugin", "test", *arguments, "-f", "json"))
        assert {result["outcome"] for result in results} == {"passed"}
        assert len(results) > 10


def test_backup_and_restore_with_both(environment, tree, tmp_path):
    storage = ("--storage", f"sqlite:{tmp_path}/backups.db")
    brotli = ("--compression", "brotli")
    environment.freezer("repository", "init", *storage, *brotli)
    environment.freezer("backup", "create", tree, "--name", "tree", *storage, *brotli)
    environment.freezer("backup", "verify", "--read-data", *storage)
    environment.freezer("backup", "restore", "latest", tmp_path / "target", "--name", "tree", *storage)
    for name in ("text", "deep/random", "deep/er/empty"):
        assert filecmp.cmp(tree / name, tmp_path / "target" / name, shallow=False)


def test_a_missing_compressor_is_named(environment, tree, tmp_path):
    storage = ("--storage", f"local:{tmp_path}/store")
    environment.freezer("repository", "init", *storage, "--compression", "brotli")
    environment.freezer("backup", "create", tree, *storage, "--compression", "brotli")
    environment.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "freezer-compressor-brotli")
    try:
        done = subprocess.run(
            [environment.bin / "freezer", "backup", "verify", *storage],
            env=environment.env,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        (wheel,) = environment.wheels.glob("freezer_compressor_brotli-*.whl")
        environment.run("python", "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    assert done.returncode not in (0, 2)
    assert "brotli" in done.stderr
