"""Restore drills of PostgreSQL's backups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from postgres_server import Cluster

from freezer_sdk import Freezer, Verifier

pytestmark = [pytest.mark.postgres, pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


@pytest.mark.parametrize("strategy", ["dump", "physical"])
def test_a_server_of_its_own_is_asked(cluster: Cluster, freezer: Freezer, folder: Path, strategy: str) -> None:
    with cluster.database() as database:
        cluster.psql("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 7) i", database=database)
        freezer.backup(mode="postgres", mode_options=cluster.login(strategy=strategy), name="db")
    query = f"{database}: SELECT count(*) FROM t"
    drill = freezer.drills.run(name="db", scratch=folder, queries=[query])
    assert (drill.passed, drill.error, drill.verifier) == (True, None, Verifier.APPLICATION)
    assert drill.facts["queries"] == [[["7"]]]
    failed = freezer.drills.run(name="db", scratch=folder, queries=[f"{database}: SELECT i FROM t WHERE i > 7"])
    assert not failed.passed
    assert list(folder.iterdir()) == []
    assert [each.id for each in freezer.drills.log().drills] == [drill.id, failed.id]


def test_its_files_can_be_compared_as_well(cluster: Cluster, freezer: Freezer, folder: Path) -> None:
    freezer.backup(mode="postgres", mode_options=cluster.login(strategy="physical"), name="db")
    drill = freezer.drills.run(name="db", scratch=folder, verifier="files")
    assert (drill.passed, drill.error) == (True, None)
    assert drill.compared_bytes == drill.bytes > 0
