"""A restore drill of a MariaDB backup, its record, and ``freezer status`` before and after."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli.program import Cli
from mariadb_server import Database, reachable_folder

from freezer_sdk import Freezer

pytestmark = [pytest.mark.mariadb, pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.mark.parametrize("strategy", ["dump", "physical"])
def test_a_drill_and_status_before_and_after(database: Database, tmp_path: Path, strategy: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    cli = Cli(home, {"FREEZER_STORAGE": f"local:{tmp_path / 'repository'}"})
    limits = ["--max-age", "26h", "--drill-max-age", "30d", "-f", "json"]
    with database.table() as name, reachable_folder() as scratch:
        database.rows(f"INSERT INTO {name}.t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
        with Freezer.create(cli.env["FREEZER_STORAGE"], encryption=False) as freezer:
            backup = freezer.backup(mode="mysql", mode_options=database.login(strategy), name="db")
        (before,) = cli("status", *limits, code=15).json
        assert (before["name"], before["state"]) == ("db", "undrilled")

        query = f"SELECT COUNT(*) FROM {name}.t"
        drill = cli("drill", "run", "--name", "db", "--scratch", scratch, "--query", query, "-f", "json").json
        assert (drill["passed"], drill["verifier"], drill["backup"]) == (True, "application", backup.id)
        assert drill["facts"]["queries"] == [[[3]]]
        assert drill["facts"]["tables"] > 20
        assert drill["restore_seconds"] > 0
        assert list(scratch.iterdir()) == []

        (after,) = cli("status", *limits).json
        assert (after["state"], after["recovery_seconds"]) == ("ok", drill["restore_seconds"])
        assert [each["id"] for each in cli("drill", "list", "-f", "json").json] == [drill["id"]]

        missing = f"SELECT i FROM {name}.t WHERE i = 4"
        failed = cli("drill", "run", "--name", "db", "--scratch", scratch, "--query", missing, code=13)
        assert "DID NOT PASS: a query has no answer" in failed.out
        assert cli("status", *limits, code=15).json[0]["state"] == "undrilled"
        assert list(scratch.iterdir()) == []
