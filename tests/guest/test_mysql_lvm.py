"""A MariaDB on a logical volume goes on writing: exactly what was committed when LVM's snapshot was made comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import servers
from lvm_volume import new_group
from mariadb_server import Database, Writer, owners, reachable_folder, sequence

from freezer_sdk import Freezer
from freezer_sdk.modes.mysql.mode import MysqlMode

SERVICES = ("mariadb",)


def test_every_row_that_was_committed(tmp_path: Path, record_property: Callable[[str, str], None]) -> None:
    with new_group("700M") as group, reachable_folder() as folder:
        data = group.new_volume(size="300M") / "data"
        group.folder.chmod(0o755)
        database = Database(servers.start("mariadb", MARIADB_DATA=str(data)))
        try:
            options = database.login("snapshot")
            with (
                database.table() as name,
                Freezer(f"local:{tmp_path}/repository", create=True, encryption=False) as freezer,
            ):
                with Writer(database, name) as writer:
                    before = writer.acknowledged
                    backup = freezer.backup(
                        mode="mysql", mode_options=options, snapshot="lvm", snapshot_options={"size": "200M"}
                    )
                    assert writer.goes_on()
                assert not backup.problems
                assert group.leftovers() == []
                facts = backup.facts["mysql"]
                committed = sequence(facts["gtid"]) - writer.before
                assert before <= committed < writer.acknowledged
                freezer.restore(backup.id, folder / "new")
                assert owners(folder / "new") == owners(data)
        finally:
            servers.stop("mariadb")
        query = f"SELECT COUNT(*), MIN(i), MAX(i) FROM {name}.t"
        found = MysqlMode().verify_restored(str(folder / "new"), facts=backup.facts, queries=[query])
    assert found["queries"] == [[[committed, 1, committed]]]
    lock = facts["lock"]
    beyond = lock["held"] - lock["snapshot"]
    figure = f"LVM: commits held up for {lock['held']:.3f} s, {beyond:.3f} s beyond the snapshot"
    record_property("figure", f"{figure}; {committed} rows, all that were committed")
