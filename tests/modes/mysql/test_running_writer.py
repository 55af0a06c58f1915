"""MariaDB goes on writing while it is backed up: exactly what was committed at the recorded moment comes back.

Nobody but the writer writes into these servers, so that the recorded position of the binary log says which rows were
committed. Each restored data directory is started by a private server, which checks all tables.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import servers
from btrfs_volume import names_at_top, new_subvolume
from killing import killed_at_each_step
from mariadb_server import Database, Writer, owners, reachable_folder, sequence

from freezer_sdk import Backup, Freezer
from freezer_sdk.modes.mysql.mode import MysqlMode
from freezer_sdk.snapshots.btrfs import BtrfsProvider

pytestmark = pytest.mark.mariadb
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Figures = Callable[[str, str], None]


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer.create(f"file://{tmp_path}/repository", password="p") as freezer:
        yield freezer


def rows_in(target: Path, backup: Backup, name: str) -> int:
    """Rows of a table in restored data, which must be 1, 2, 3... without a gap."""
    found = MysqlMode().verify_restored(
        str(target),
        facts=backup.facts,
        queries=[f"SELECT COUNT(*), COALESCE(MIN(i), 1), COALESCE(MAX(i), 0) FROM {name}.t"],
    )
    assert found["tables"] > 20
    (((count, least, most),),) = found["queries"]
    assert (least, most) == (1, count)
    return int(count)


def backed_up(freezer: Freezer, writer: Writer, options: dict[str, Any], **more: Any) -> tuple[Backup, int]:
    """A backup under a writer that is not disturbed; and the last row acknowledged before."""
    before = writer.acknowledged
    backup = freezer.backup(mode="mysql", mode_options=options, **more)
    assert writer.goes_on()
    assert not backup.problems
    return backup, before


@needs_root
@pytest.mark.root
def test_a_snapshot_of_btrfs(freezer: Freezer, record_property: Figures) -> None:
    with new_subvolume() as volume, reachable_folder() as folder:
        instance = "running-btrfs"
        # what was acknowledged lies in the server's memory for a second
        env = servers.start(
            "mariadb",
            instance=instance,
            MARIADB_DATA=str(volume / "data"),
            MARIADB_OPTIONS="--innodb-flush-log-at-trx-commit=0",
        )
        try:
            database = Database(env)
            options = database.login("snapshot")
            with database.table() as name, Writer(database, name) as writer:
                backup, before = backed_up(freezer, writer, options, snapshot="btrfs")
                facts = backup.facts["mysql"]
                assert facts["lock"]["method"] == "backup-stage"
                assert backup.facts["snapshot"]["provider"] == "btrfs"
                assert backup.paths == (str(volume / "data"),)
                committed = sequence(facts["gtid"]) - writer.before
                assert before <= committed < writer.acknowledged
                freezer.restore(backup.id, folder / "new", mode_options={"start_check": True})
                assert rows_in(folder / "new", backup, name) == committed
                assert (
                    owners(folder / "new")
                    == owners(volume / "data")
                    == {f"{env['MARIADB_ACCOUNT']}:{env['MARIADB_ACCOUNT']}"}
                )
            lock = facts["lock"]
            beyond = lock["held"] - lock["snapshot"]
            figure = f"btrfs: commits held up for {lock['held']:.3f} s, {beyond:.3f} s beyond the snapshot"
            record_property("figure", f"{figure}; {committed} rows, all that were committed")
        finally:
            servers.stop("mariadb", instance=instance)


KILLED = """
import json, sys
from freezer_sdk import Freezer
repository, prefix, options = json.loads(sys.argv[1])
with Freezer(repository, password="p") as freezer:
    how = {"snapshot": "btrfs", "snapshot_options": {"label_prefix": prefix}}
    freezer.backup(mode="mysql", mode_options=options, **how)
"""


@needs_root
@pytest.mark.root
def test_kill_9_at_each_step_of_a_snapshot(tmp_path: Path, freezer: Freezer) -> None:
    """The database goes on at once; what was made is removed by reap; nothing that is not whole counts."""
    with new_subvolume() as volume:
        instance, prefix = "killed-btrfs", f"k{volume.name.partition('-')[2]}"
        database = Database(servers.start("mariadb", instance=instance, MARIADB_DATA=str(volume / "data")))
        try:
            options = {**database.login("snapshot"), "strategy": "snapshot"}
            with database.table() as name, Writer(database, name) as writer:
                argument = json.dumps([f"file://{tmp_path}/repository", prefix, options])
                (tmp_path / "steps").mkdir()
                for step in killed_at_each_step(tmp_path / "steps", ["btrfs", "mount", "umount"], KILLED, argument):
                    assert writer.goes_on(), step
                    BtrfsProvider(label_prefix=prefix).reap()
                    assert not [each for each in names_at_top() if each.startswith(prefix)], step
        finally:
            servers.stop("mariadb", instance=instance)
    assert freezer.backups()
    assert freezer.verify(read_data=True).ok


def test_a_dump_and_mariadb_backup(freezer: Freezer, record_property: Figures) -> None:
    instance = "running"
    database = Database(servers.start("mariadb", instance=instance))
    try:
        with reachable_folder() as folder, database.table() as name:
            dump, physical = database.login("dump"), database.login("physical")
            with Writer(database, name) as writer:
                backup, before = backed_up(freezer, writer, dump)
                position = backup.facts["mysql"]["positions"][f"{name}.sql"]
                began = backup.facts["mysql"]["began_at"]["binlog"]
                assert position["position"] >= began["position"]
                assert "binlog" not in backup.facts["mysql"]  # no position is that of all dumps
                freezer.restore(backup.id, folder / "dump")
                assert before <= rows_in(folder / "dump", backup, name) <= writer.acknowledged

                backup, before = backed_up(freezer, writer, physical)
                committed = sequence(backup.facts["mysql"]["gtid"]) - writer.before
                assert before <= committed < writer.acknowledged
                freezer.restore(backup.id, folder / "physical", mode_options={"start_check": True})
                assert rows_in(folder / "physical", backup, name) == committed
                assert owners(folder / "physical") == owners(database.data)
            held = backup.facts["mysql"]["lock"]["held"]
            record_property("figure", f"mariadb-backup: commits held up for {held:.3f} s; {committed} rows")
    finally:
        servers.stop("mariadb", instance=instance)
