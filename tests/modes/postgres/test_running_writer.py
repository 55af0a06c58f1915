"""PostgreSQL goes on writing while it is backed up: all that was acknowledged by then comes back, and nothing else.

Each restored data directory is started by a private server, which reads all tables.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from btrfs_volume import new_subvolume
from postgres_server import Cluster, PostgresWriter, new_cluster
from running_writer import reachable, watch

from freezer_sdk import Backup, Freezer
from freezer_sdk.modes.postgres.mode import PostgresMode
from freezer_sdk.snapshots.btrfs import BtrfsProvider

pytestmark = pytest.mark.postgres
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
Figures = Callable[[str, str], None]


def rows_in(target: Path, backup: Backup, database: str) -> int:
    """Rows of the table in restored data, which must be 1, 2, 3... without a gap."""
    found = PostgresMode().verify_restored(
        str(target),
        facts=backup.facts,
        queries=[f"{database}: SELECT count(*), coalesce(min(i), 1), coalesce(max(i), 0) FROM t"],
    )
    assert found["tables"] >= 1
    (((count, least, most),),) = found["queries"]
    assert (least, most) == ("1", count)
    return int(count)


@needs_root
@pytest.mark.root
def test_a_snapshot_of_btrfs(
    freezer: Freezer, folder: Path, monkeypatch: pytest.MonkeyPatch, record_property: Figures
) -> None:
    with (
        new_subvolume() as volume,
        reachable(volume) as place,
        new_cluster(f"btrfs-{os.getpid()}", data=place / "data") as cluster,
        cluster.database() as database,
        PostgresWriter(cluster, database) as writer,
    ):
        moment = watch(monkeypatch, BtrfsProvider, writer)
        backup = freezer.backup(mode="postgres", mode_options=cluster.login(), snapshot="btrfs")
        before, after = moment.before, moment.after
        assert writer.goes_on()
        assert not backup.problems
        assert backup.facts["postgres"]["strategy"] == "snapshot"
        assert backup.facts["snapshot"]["provider"] == "btrfs"
        assert backup.paths == (str(place / "data"),)
        again = freezer.backup(mode="postgres", mode_options=cluster.login(), snapshot="btrfs")
        assert again.stats.added_bytes < backup.stats.bytes / 2
        result = freezer.restore(backup.id, folder / "new", mode_options={"start_check": True})
        assert result.facts["start_check"]["databases"] == 2
        assert (folder / "new").stat().st_mode & 0o777 == 0o700
        assert {each.owner() for each in (folder / "new").rglob("*")} == {cluster.account}
        freezer.restore(backup.id, folder / "other")  # servers write into what they are started on
        stored = rows_in(folder / "other", backup, database)
    assert 0 < before <= stored <= after + 1
    record_property("figure", f"{stored} rows in a btrfs snapshot, made while {before} to {after} were acknowledged")


def test_pg_basebackup_and_dumps(cluster: Cluster, freezer: Freezer, folder: Path, record_property: Figures) -> None:
    with cluster.database() as database, PostgresWriter(cluster, database) as writer:
        figures = []
        for strategy in ("physical", "dump"):
            before = writer.acknowledged
            backup = freezer.backup(mode="postgres", mode_options=cluster.login(strategy=strategy))
            after = writer.acknowledged
            assert writer.goes_on()
            assert not backup.problems
            freezer.restore(backup.id, folder / strategy)
            stored = rows_in(folder / strategy, backup, database)
            assert before <= stored <= after + 1
            figures.append(f"{strategy}: {stored} rows of {before} to {after}")
    record_property("figure", "; ".join(figures))
