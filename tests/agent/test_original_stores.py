"""The command lines with which stores of the original were restored do the same here, and chains go on."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from agent.program import Agent

INTEROP = Path(__file__).parents[3] / "shared" / "interop"
LEVELS = ("tar-gzip-levels", "tar-bzip2-levels", "tar-gzip-encrypted", "tar-odd-names", "tar-single-file")


def case_of(name: str) -> dict[str, Any]:
    file = INTEROP / name / "case.json"
    if not file.is_file():
        pytest.skip(f"there is no store of the original beside the project ({file})")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def expected(name: str, run: dict[str, Any]) -> dict[str, str]:
    """Files by digest, links by target, folders."""
    entries = json.loads((INTEROP / name / run["expect"]).read_text(encoding="utf-8", errors="surrogateescape"))
    return {entry["path"]: entry.get("sha256") or entry["type"] for entry in entries if entry["path"] != "."}


def found(folder: Path) -> dict[str, str]:
    result = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if path.is_file() and not path.is_symlink():
            result[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            result[name] = "other"
    return result


def same(name: str, run: dict[str, Any], folder: Path) -> None:
    """Every file has the content of the source, and nothing else is there."""
    wanted, restored = expected(name, run), found(folder)
    assert set(restored) == set(wanted)
    files = {path for path, digest in wanted.items() if len(digest) == 64}
    assert {path: restored[path] for path in files} == {path: wanted[path] for path in files}


def moved(command: str, name: str, store: Path, target: Path) -> list[str]:
    """A recorded command line on paths of the test's own; dates in it are UTC, and now say so."""
    words = shlex.split(command)[1:]
    for index, word in enumerate(words):
        match word:
            case "--container":
                words[index + 1] = str(store)
            case "--restore-abs-path":
                words[index + 1] = str(target)
            case "--encrypt-pass-file":
                words[index + 1] = str(INTEROP / name / "passfile")
            case "--restore-from-date":
                words[index + 1] += "Z"
    return words


@pytest.mark.parametrize("name", LEVELS)
def test_recorded_restores(agent: Agent, name: str, tmp_path: Path) -> None:
    case = case_of(name)
    for number, restore in enumerate(case["restores"]):
        target = tmp_path / f"out{number}"
        agent(*moved(restore["command"], name, INTEROP / name / "store", target))
        same(name, case["runs"][restore["run"]], target)


@pytest.mark.parametrize("name", ["tar-gzip-levels", "tar-gzip-encrypted"])
def test_a_chain_of_the_original_goes_on(agent: Agent, name: str, tmp_path: Path) -> None:
    case = case_of(name)
    store, source = tmp_path / "store", tmp_path / "source"
    shutil.copytree(INTEROP / name / "store", store)
    last = case["restores"][-1]
    agent(*moved(last["command"], name, store, source))
    (source / "new").write_text("new")
    words = moved(case["runs"][-1]["command"], name, store, source)
    words[words.index("--path-to-backup") + 1] = str(source)
    level = case["runs"][-1]["new"][0]["level"]
    made = [agent(*words, "--max-level", "5", "--metadata-out", "-").json["curr_backup_level"] for _ in range(2)]
    assert made == [level + 1, level + 2]
    arguments = ("--action", "restore", "--restore-abs-path", tmp_path / "out", "--storage", "local", "-C", store)
    series = ("--backup-name", case["backup_name"], "--hostname", case["hostname"])
    password = ("--encrypt-pass-file", INTEROP / name / "passfile") if case["encrypted"] else ()
    agent(*arguments, *series, *password)
    assert found(tmp_path / "out") == found(source)
    assert not list(store.glob("metadata/tar-sealed"))
