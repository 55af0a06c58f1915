"""The conformance suite that the SDK ships, on a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from btrfs_volume import new_subvolume
from postgres_server import Cluster, new_cluster
from running_writer import reachable

from freezer_sdk.modes.postgres.mode import PostgresMode
from freezer_sdk.snapshots.base import SnapshotProvider
from freezer_sdk.snapshots.btrfs import BtrfsProvider
from freezer_sdk.testing import ModeSuite

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


@pytest.fixture(scope="module")
def volume_cluster() -> Iterator[Cluster]:
    with (
        new_subvolume() as volume,
        reachable(volume) as place,
        new_cluster(f"suite-{os.getpid()}", data=place / "data") as cluster,
    ):
        cluster.psql("CREATE TABLE numbers (n int)")
        yield cluster


class TestPostgres(ModeSuite):
    mode = PostgresMode

    @pytest.fixture(autouse=True)
    def _cluster(self, volume_cluster: Cluster) -> None:
        self.cluster = volume_cluster
        self.options: dict[str, Any] = volume_cluster.login()

    def make_provider(self) -> SnapshotProvider:
        return BtrfsProvider()

    def change(self) -> None:
        self.cluster.psql("INSERT INTO numbers SELECT count(*) FROM numbers")

    def content(self) -> object:
        return self.cluster.psql("SELECT count(*) FROM numbers")

    def restored(self, target: str) -> object:
        Path(target).parent.chmod(0o711)  # the server's user has to get there
        major = int(self.cluster.programs.parent.name)
        facts = {"postgres": {"strategy": "physical", "major": major, "superuser": "postgres"}}
        found = PostgresMode().verify_restored(target, facts=facts, queries=["SELECT count(*) FROM numbers"])
        return found["queries"][0][0][0]

    def check_resumed(self) -> None:
        assert self.cluster.psql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'freezer'") == "0"
