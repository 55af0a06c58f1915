"""A MongoDB goes on writing while it is backed up: every document that was acknowledged by then comes back.

The restored data directory is started by a private server, which recovers from its journal and checks all collections.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from btrfs_volume import new_subvolume
from mongo_server import MongoWriter, new_mongo
from running_writer import watch

from freezer_sdk import Freezer
from freezer_sdk.modes.mongo.mode import MongoMode
from freezer_sdk.snapshots.btrfs import BtrfsProvider

pytestmark = pytest.mark.mongo


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.root
def test_a_snapshot_of_btrfs(
    freezer: Freezer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, str], None]
) -> None:
    with (
        new_subvolume() as volume,
        new_mongo(f"btrfs-{os.getpid()}", data=volume / "data") as server,
        server.database() as database,
        MongoWriter(server, database) as writer,
    ):
        moment = watch(monkeypatch, BtrfsProvider, writer)
        backup = freezer.backup(mode="mongo", mode_options=server.login(), snapshot="btrfs")
        assert writer.goes_on()
        assert not backup.problems
        assert backup.facts["snapshot"]["provider"] == "btrfs"
        facts = backup.facts["mongo"]
        assert (facts["strategy"], facts["role"], facts["engine"]) == ("snapshot", "primary", "wiredTiger")
        assert facts["oplog"]["time"] > 0
        assert backup.paths == (str(volume / "data"),)
        check = {"check_command": server.check_command}
        result = freezer.restore(backup.id, tmp_path / "new", mode_options={**check, "start_check": True})
        assert result.facts["start_check"]["tables"] >= 1
        found = MongoMode(**check).verify_restored(
            str(tmp_path / "new"),
            facts=backup.facts,
            queries=[
                json.dumps({"count": "t", "$db": database}),
                json.dumps({"find": "t", "sort": {"_id": -1}, "limit": 1, "$db": database}),
            ],
        )
        (((stored,),), ((last,),)) = found["queries"]
        assert last["_id"] == stored
        assert 0 < moment.before <= stored <= moment.after + 1
        figure = f"{stored} documents in a btrfs snapshot, made while {moment.before} to {moment.after}"
        record_property("figure", f"{figure} were acknowledged")
