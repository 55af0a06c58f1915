"""What ``freezer-agent`` stores of a running database is restored by the original."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import servers
from agent.program import Agent
from btrfs_volume import new_subvolume
from mariadb_server import PASSWORD, Database, Writer, reachable_folder
from original_agent import OriginalAgent

pytestmark = [
    pytest.mark.original,
    pytest.mark.mariadb,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


def test_mysql_from_snapshots(agent: OriginalAgent, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with new_subvolume() as volume, reachable_folder() as folder:
        instance = "original"
        database = Database(servers.start("mariadb", instance=instance, MARIADB_DATA=str(volume / "data")))
        try:
            conf = home / "mysql.conf"
            conf.touch(0o600)
            login = {"host": "127.0.0.1", "port": database.port, "user": database.account("snapshot")}
            lines = [f"{name} = {value}" for name, value in (login | {"password": PASSWORD}).items()]
            conf.write_text("\n".join(["[default]", *lines, ""]))
            with database.table() as name:
                for _level in range(2):
                    with Writer(database, name):
                        Agent(home)(
                            *("--mode", "mysql", "--snapshot", "--path-to-backup", volume / "data"),
                            *("--mysql-conf", conf, "--storage", "local", "--container", tmp_path / "store"),
                            *("--backup-name", "b", "--hostname", "node1", "--max-level", "2"),
                        )
                    rows = database.rows(f"SELECT COUNT(*) FROM {name}.t")
                    database.rows(f"DELETE FROM {name}.t")
                servers.stop("mariadb", instance=instance)
                agent.restore(tmp_path / "store", folder / "new")
                shutil.rmtree(volume / "data")
                shutil.copytree(folder / "new", volume / "data")
                again = Database(servers.start("mariadb", instance=instance, MARIADB_DATA=str(volume / "data")))
                assert again.rows(f"CHECK TABLE {name}.t EXTENDED")[0][2:] == ("status", "OK")
                ((count, last),) = again.rows(f"SELECT COUNT(*), MAX(i) FROM {name}.t")
                assert 50 <= count == last <= rows[0][0]
        finally:
            servers.stop("mariadb", instance=instance)
