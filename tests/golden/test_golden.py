"""Golden repositories are read by the library and by the recovery program, and give what was once put into them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from golden.make import MAKERS, version
from golden.manifest import Manifest, take, without_rights

from freezer_sdk import Freezer
from freezer_sdk.drill_model import drill_document

HERE = Path(__file__).parent
TOOL = HERE.parents[1] / "tools" / "freezer_recover.py"
STORED = sorted(path.parent.name + "/" + path.stem for path in HERE.glob("v*/*.json"))


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Those that would be stored if it were done today: what makes them works, and they are small."""
    out = tmp_path_factory.mktemp("golden") / "fresh"
    done = subprocess.run([sys.executable, HERE / "make.py", "--out", out], capture_output=True, text=True, check=False)
    if os.geteuid() != 0:
        pytest.skip("only root can make all kinds of entries")
    assert done.returncode == 0, done.stderr
    return out


def manifests(about: dict[str, Any]) -> dict[str, Manifest]:
    """What each backup must give."""
    found, entries = {}, {}
    for backup, changes in about["backups"].items():
        entries = {path: entry for path, entry in entries.items() if path not in changes["gone"]} | changes["changed"]
        found[backup] = entries
    return found


def taken(root: Path) -> Manifest:
    manifest = take(root)
    return manifest if os.geteuid() == 0 else without_rights(manifest)


def run(*words: Any, password: str | None) -> str:
    environment = dict(os.environ) if password is None else {**os.environ, "FREEZER_PASSWORD": password}
    done = subprocess.run(
        [sys.executable, "-I", TOOL, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or os.geteuid() != 0, done.stderr
    return done.stdout


def check(archive: Path, tmp_path: Path) -> None:
    about = json.loads(archive.with_name(archive.name.replace(".tar.gz", ".json")).read_text())
    repository = tmp_path / "repository"
    with tarfile.open(archive) as tar:
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # since Python 3.11.4
        tar.extractall(repository, **safely)
    states = {backup: changes["status"] for backup, changes in about["backups"].items()}
    visible = {backup: state for backup, state in states.items() if state not in ("forgotten", "void")}
    first, *others = about["passwords"]
    listed = run("list", repository, "--forgotten", password=first).splitlines()
    assert {line.split()[0]: line.split()[2] for line in listed} == {id[:12]: state for id, state in states.items()}
    with Freezer(f"local:{repository}", password=first) as freezer:
        assert freezer.verify(read_data=True).ok
        assert {backup.id: str(backup.status) for backup in freezer.backups()} == visible
        log = freezer.drills.log()
        assert ([drill_document(drill) for drill in log.drills], log.problems) == (about.get("drills", []), ())
        for number, (backup, expected) in enumerate(manifests(about).items()):
            wanted = expected if os.geteuid() == 0 else without_rights(expected)
            target = tmp_path / str(number)
            if states[backup] != "void":
                run("restore", repository, backup, target / "recovered", "--forgotten", password=first)
                assert taken(target / "recovered") == wanted
            if backup in visible:
                freezer.restore(backup, target / "library", numeric_owner=True)
                assert taken(target / "library") == wanted
    for password in others:
        run("verify", repository, "--read-data", password=password)
        with Freezer(f"local:{repository}", password=password) as freezer:
            assert {backup.id: str(backup.status) for backup in freezer.backups()} == visible


@pytest.mark.parametrize("name", MAKERS)
def test_fresh_ones(name: str, fresh: Path, tmp_path: Path) -> None:
    check(fresh / f"{name}.tar.gz", tmp_path)


def test_stored_ones(tmp_path: Path) -> None:
    for name in STORED:
        check(HERE / f"{name}.tar.gz", tmp_path / name)


def test_every_version_has_its_own() -> None:
    """Version 0 is a draft; each later one is read for ever, so what it was must be kept."""
    for number in range(1, version() + 1):
        assert {f"v{number}/{name}" for name in MAKERS} <= set(STORED), "python tests/golden/make.py"
