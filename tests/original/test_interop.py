"""Every store of the original restores to what was backed up: by the library, by freezer, by freezer-agent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from agent.program import Agent
from cli.program import Cli
from original.stores import EMPTY, NAMES, Case, check, names_below, needs_stores, open_case

from freezer_sdk import Freezer
from freezer_sdk.errors import RepositoryNotFound

pytestmark = needs_stores
RESTORABLE = [name for name in NAMES if name not in EMPTY]


def password(case: Case) -> str | None:
    return None if case.passfile is None else case.passfile.read_text().rstrip("\n")


@pytest.mark.parametrize("name", RESTORABLE)
def test_by_the_library(name: str, tmp_path: Path) -> None:
    case = open_case(name, tmp_path)
    with Freezer(f"local:{case.store}", password=password(case)) as freezer:
        assert freezer.info().engine == case.engine
        backups = {int(backup.time.timestamp()): backup for backup in freezer.backups()}
        assert sorted(backups) == sorted(run.time for run in case.runs)
        for run in case.runs:
            backup = backups[run.time]
            assert (backup.level, f"{backup.host}_{backup.name}") == (run.level, case.document["hostname_backup_name"])
            result = freezer.restore(backup.id, tmp_path / str(run.time))
            check(case, run, tmp_path / str(run.time))
            assert (str(result.status) == "partial") >= bool(case.lost(run) - {"sym_dir"})
            whole = freezer.verify(backup.id, read_data=True)
            assert whole.ok or result.status == "partial"


@pytest.mark.parametrize("name", RESTORABLE)
def test_by_freezer(name: str, tmp_path: Path) -> None:
    case = open_case(name, tmp_path)
    program = Cli(tmp_path, {"FREEZER_STORAGE": f"local:{case.store}"})
    if case.passfile is not None:
        program.env["FREEZER_PASSWORD"] = str(password(case))
    rows = program.inside("backup", "list", "-f", "json").json
    ids = {int(datetime.fromisoformat(row["time"]).timestamp()): row["id"] for row in rows}
    assert sorted((row["level"], row["engine"]) for row in rows) == sorted(
        (run.level, case.engine) for run in case.runs
    )
    for run in case.runs:
        target = tmp_path / str(run.time)
        done = program.inside("backup", "restore", ids[run.time], target, code=None)
        assert done.code == (3 if case.lost(run) - {"sym_dir"} else 0), done.err
        check(case, run, target)
        for path in case.lost(run) - {"sym_dir"}:
            assert path in done.err or "nothing was backed up" in done.err


@pytest.mark.parametrize("name", RESTORABLE)
def test_by_freezer_agent(name: str, tmp_path: Path) -> None:
    case = open_case(name, tmp_path)
    agent = Agent(tmp_path)
    host, _, series = case.document["hostname_backup_name"].partition("_")
    options = ["--engine", case.engine, "--backup-name", series, "--hostname", host]
    if case.passfile is not None:
        options += ["--encrypt-pass-file", str(case.passfile)]
    for run in case.runs:
        target = tmp_path / str(run.time)
        date = datetime.fromtimestamp(run.time, UTC).isoformat()
        place = ["--storage", "local", "--container", case.store, "--restore-abs-path", target]
        code = 3 if case.lost(run) - {"sym_dir"} else 0
        agent("--action", "restore", *place, "--restore-from-date", date, *options, code=code)
        check(case, run, target)


@pytest.mark.parametrize("name", sorted(set(NAMES) & EMPTY))
def test_a_store_of_failed_runs_says_that_there_is_no_backup(name: str, tmp_path: Path) -> None:
    case = open_case(name, tmp_path)
    try:
        with Freezer(f"local:{case.store}", password=password(case)) as freezer:
            assert freezer.backups() == []
            assert {problem.kind for problem in freezer.verify(read_data=True).problems} == {"leftover"}
    except RepositoryNotFound:  # not even a stream was begun
        pass
    program = Cli(tmp_path, {"FREEZER_STORAGE": f"local:{case.store}"})
    done = program.inside("backup", "restore", "latest", tmp_path / "out", code=None)
    assert done.code in (1, 10)
    assert "there is no such backup" in done.err
    assert not (tmp_path / "out").exists() or names_below(tmp_path / "out") == {b"."}
