"""A MongoDB on a logical volume goes on writing while a snapshot of LVM is made, without any lock."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lvm_volume import new_group
from mongo_server import MongoWriter, new_mongo
from running_writer import watch

from freezer_sdk import Freezer
from freezer_sdk.modes.mongo.mode import MongoMode
from freezer_sdk.snapshots.lvm import LvmProvider

SERVICES = ("mongodb",)


def test_every_document_that_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, str], None]
) -> None:
    with new_group("600M") as group:
        volume = group.new_volume(size="300M")
        with (
            new_mongo("lvm", data=volume / "data") as server,
            Freezer(f"local:{tmp_path}/repository", create=True, encryption=False) as freezer,
        ):
            with server.database() as database, MongoWriter(server, database) as writer:
                moment = watch(monkeypatch, LvmProvider, writer)
                how = {"snapshot": "lvm", "snapshot_options": {"size": "200M"}}
                backup = freezer.backup(mode="mongo", mode_options=server.login(), **how)
                assert writer.goes_on()
            assert not backup.problems
            assert group.leftovers() == []
            freezer.restore(backup.id, tmp_path / "new")
            found = MongoMode(check_command=server.check_command).verify_restored(
                str(tmp_path / "new"), facts=backup.facts, queries=[json.dumps({"count": "t", "$db": database})]
            )
            (((stored,),),) = found["queries"]
    assert 0 < moment.before <= stored <= moment.after + 1
    figure = f"{stored} documents in a snapshot of LVM, made while {moment.before} to {moment.after}"
    record_property("figure", f"{figure} were acknowledged")
