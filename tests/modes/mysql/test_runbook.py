"""What the how-to page tells to do when a server is lost, done as it is written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import servers
from mariadb_server import PAGE, PASSWORD, Database, owners, reachable_folder

pytestmark = pytest.mark.mariadb

SYSTEMCTL = """\
#!/bin/sh
# Stands in for systemctl: starts and stops the test's own server.
[ "$2" = mariadb ] && exec sh {services}/mariadb/"$1"
"""
OPTION_FILE = '[client]\nsocket = {socket}\nuser = {user}\npassword = "{password}"\n'


def runbook() -> list[str]:
    """The commands of the page's runbook."""
    section = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    part = next(each for each in section if each.startswith("Recovery runbook"))
    return re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)


def test_the_runbook(tmp_path: Path) -> None:
    instance = "runbook"
    with reachable_folder() as folder:
        variables = {"MARIADB_DATA": str(folder / "mysql"), "FREEZER_TEST_INSTANCE": instance}
        database = Database(servers.start("mariadb", instance=instance, MARIADB_DATA=variables["MARIADB_DATA"]))
        try:
            with database.table() as name:
                _follow(database, name, folder, tmp_path, variables)
        finally:
            servers.stop("mariadb", instance=instance)


def _follow(database: Database, name: str, folder: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "systemctl").write_text(SYSTEMCTL.format(services=servers.HERE))
    (programs / "systemctl").chmod(0o755)
    environment = {**os.environ, **variables, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    environment["PATH"] = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment |= {"FREEZER_STORAGE": f"file://{tmp_path}/repository", "FREEZER_PASSWORD": "p"}

    def run(script: str) -> str:
        for path, there in (("/var/lib/mysql", folder / "mysql"), ("/etc/freezer", tmp_path)):
            script = script.replace(path, str(there))
        done = subprocess.run(
            ["sh", "-euc", script],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    password = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    for file, strategy in (("mysql.cnf", "physical"), ("dump.cnf", "dump")):
        user = database.account(strategy)
        text = OPTION_FILE.format(socket=database.socket, user=user, password=password)
        (tmp_path / file).write_text(text, encoding="utf-8")
    (tmp_path / "admin.cnf").write_text(f"[client]\nsocket = {database.socket}\nuser = root\n")
    database.rows(f"INSERT INTO {name}.t VALUES (1, 'before')")
    run("freezer repository init")
    run("freezer backup create --mode mysql --mode-defaults-file /etc/freezer/mysql.cnf --mode-strategy physical")
    run(
        "freezer backup create --name dumps --mode mysql --mode-defaults-file /etc/freezer/dump.cnf"
        " --mode-strategy dump"
    )
    database.rows(f"INSERT INTO {name}.t VALUES (2, 'lost')")
    before = owners(folder / "mysql")

    directory, positions, dumps = runbook()
    run(directory)
    assert owners(folder / "mysql") == before
    assert database.rows(f"SELECT i FROM {name}.t") == [(1,)]
    assert '"gtid"' in run(positions)
    database.rows(f"DROP DATABASE {name}")
    run(dumps)
    assert database.rows(f"SELECT i FROM {name}.t") == [(1,)]
