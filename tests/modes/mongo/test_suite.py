"""The conformance suite that the SDK ships, on a real server of MongoDB's protocol."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from btrfs_volume import new_subvolume
from mongo_server import Mongo, new_mongo

from freezer_sdk.modes.mongo.mode import MongoMode
from freezer_sdk.snapshots.base import SnapshotProvider
from freezer_sdk.snapshots.btrfs import BtrfsProvider
from freezer_sdk.testing import ModeSuite

pytestmark = [
    pytest.mark.mongo,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture(scope="module")
def volume_server() -> Iterator[Mongo]:
    with new_subvolume() as volume, new_mongo(f"suite-{os.getpid()}", data=volume / "data") as server:
        with server.client() as client:
            client.suite.numbers.insert_one({})
        yield server


class TestMongo(ModeSuite):
    mode = MongoMode

    @pytest.fixture(autouse=True)
    def _server(self, volume_server: Mongo, stub_tools: Path) -> None:
        self.server = volume_server
        self.options: dict[str, Any] = {**volume_server.login(data_path=None), "strategy": "dump"}
        self.snapshot_options = volume_server.login()

    def make_provider(self) -> SnapshotProvider:
        return BtrfsProvider()

    def change(self) -> None:
        with self.server.client() as client:
            client.suite.numbers.insert_one({})

    def content(self) -> object:
        with self.server.client() as client:
            return client.suite.numbers.count_documents({})

    def restored(self, target: str) -> object:
        dumped = os.path.exists(f"{target}/dump.archive")
        facts = {"strategy": "dump" if dumped else "snapshot", "stream": "dump.archive", "oplog_in_dump": True}
        found = MongoMode(check_command=self.server.check_command).verify_restored(
            target, facts={"mongo": facts}, queries=[json.dumps({"count": "numbers", "$db": "suite"})]
        )
        return found["queries"][0][0][0]
