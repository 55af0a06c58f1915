"""Mode mongo: whom it backs up, what it refuses, secrets, and dumps by stubs of MongoDB's tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mongo_server import PAGE, Mongo, new_mongo
from running_writer import commands

from freezer_sdk import Freezer
from freezer_sdk.errors import (
    ConfigurationError,
    RestoreConflict,
    RestoreError,
    SourceError,
    SourceUnreadable,
)
from freezer_sdk.modes.mongo.mode import MongoMode
from freezer_sdk.modes.mongo.server import Server
from freezer_sdk.modes.mongo.settings import Member, settings_from
from freezer_sdk.options import validate

pytestmark = pytest.mark.mongo


def settings(**options: Any) -> Any:
    return settings_from(validate(MongoMode.options, options, owner="mode 'mongo'"))


def described(**differences: Any) -> Server:
    values: dict[str, Any] = {
        "version": "8.0.1",
        "engine": "wiredTiger",
        "role": "primary",
        "replica_set": "rs0",
        "me": "db1:27017",
        "primary": "db1:27017",
        "position": None,
        "pid": 1,
        "options": {},
    }
    return Server(**{**values, **differences})


@contextmanager
def no_snapshot(paths: Sequence[Path]) -> Any:
    raise AssertionError("nobody asked for a snapshot")
    yield


def enter(mode: MongoMode, **how: Any) -> None:
    with mode.protect(**how):
        pass


# -- members ---------------------------------------------------------------------------------------------------------


def test_a_secondary_is_not_backed_up_unless_it_is_wanted() -> None:
    secondary = described(role="secondary", me="db2:27017")
    with pytest.raises(SourceError, match="a secondary of the replica set 'rs0', not a primary") as caught:
        secondary.check_member(Member.PRIMARY)
    assert "db1:27017" in (caught.value.hint or "")
    secondary.check_member(Member.SECONDARY)
    secondary.check_member(Member.ANY)
    with pytest.raises(SourceError, match="a primary of the replica set"):
        described().check_member(Member.SECONDARY)
    described(role="standalone", replica_set=None).check_member(Member.PRIMARY)


def test_a_primary_that_must_be_a_secondary_fails_the_run(server: Mongo, freezer: Freezer) -> None:
    mode = MongoMode(**server.login(member="secondary"))
    with pytest.raises(SourceError, match="not a secondary"), mode.protect(snapshots=no_snapshot):
        pass
    assert freezer.backups() == []


# -- data that a snapshot would not show as of one moment -------------------------------------------------------------


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ({"role": "router"}, "router of a sharded cluster"),
        ({"engine": "inMemory"}, "'inMemory' has no files"),
        ({"options": {"storage": {"journal": {"enabled": False}}}}, "without a journal"),
        ({"options": {"storage": {"dbPath": "/nonexistent"}}}, "cannot be read|not a data directory"),
    ],
)
def test_what_has_no_consistent_snapshot_is_refused(differences: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        described(**differences).data_path(settings())


def test_a_server_that_tells_no_path_needs_one(server: Mongo) -> None:
    mode = MongoMode(**server.login(data_path=None))
    with pytest.raises(ConfigurationError, match="does not tell its dbPath"), mode.protect(snapshots=no_snapshot):
        pass


def test_the_directory_of_another_server_is_refused(server: Mongo) -> None:
    told = {"storage": {"dbPath": str(server.data)}}
    own = described(options=told, pid=int(server.env["MONGODB_PID"]))
    assert own.data_path(settings()) == server.data.resolve()
    with pytest.raises(SourceError, match="does not use"):
        described(options=told, pid=1 << 22).data_path(settings())


def test_links_out_of_the_data_directory_are_refused(server: Mongo, tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    (data / "WiredTiger").write_text("WiredTiger")
    (data / "journal").symlink_to(elsewhere)
    mode = MongoMode(**server.login(data_path=data))
    with pytest.raises(SourceError, match="journal leads to another place"), mode.protect(snapshots=no_snapshot):
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uri": "mongodb://h", "host": "h"}, "leave out host"),
        ({"user": "u"}, "both user and password"),
        ({"strategy": "snapshot", "database": "shop"}, "takes all databases"),
        ({"uri": "mongodb://me:s3cr@t@h/"}, "make no sense"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        enter(MongoMode(**options), snapshots=no_snapshot)
    assert "s3cr" not in str(caught.value)


def test_the_strategy_snapshot_needs_a_snapshot(server: Mongo) -> None:
    with pytest.raises(ConfigurationError, match="needs volume snapshots"):
        enter(MongoMode(**server.login(strategy="snapshot")))


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_uri", [False, True])
def test_no_message_has_the_password(server: Mongo, by_uri: bool) -> None:
    canary = "canary-of-mongo"
    options: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "user": "root", "password": canary}
    if by_uri:
        options = {"uri": f"mongodb://root:{canary}@127.0.0.1:{server.port}/?authSource=admin"}
    mode = MongoMode(**options, data_path=server.data)
    with pytest.raises(SourceUnreadable, match="uthentication failed") as caught, mode.protect(snapshots=no_snapshot):
        pass
    assert canary not in f"{caught.value} {caught.value.hint} {mode._settings!r}"


def test_tls_with_the_certificate_checked() -> None:
    with new_mongo(f"tls-{os.getpid()}", MONGODB_TLS="yes") as server:
        login = server.login(tls_ca=server.env["MONGODB_CA"], timeout=10)
        with pytest.raises(AssertionError, match="nobody asked"):
            enter(MongoMode(**login), snapshots=no_snapshot)
        with pytest.raises(SourceUnreadable, match="certificate verify failed"):
            enter(MongoMode(**{**login, "tls_ca": None, "tls": True, "timeout": 2}), snapshots=no_snapshot)


@pytest.mark.parametrize("by_uri", [False, True])
def test_dumps_by_stubs_of_the_tools(server: Mongo, freezer: Freezer, stub_tools: Path, by_uri: bool) -> None:
    login = server.login(data_path=None)
    if by_uri:
        login = {"uri": f"mongodb://root:{server.password}@127.0.0.1:{server.port}/?authSource=admin"}
    with server.database() as database:
        with server.client() as client:
            client[database].people.insert_many([{"_id": number} for number in range(100)])
        backup = freezer.backup(mode="mongo", mode_options=login)
        assert backup.facts["mongo"]["oplog_in_dump"] is True
        with server.client() as client:
            client[database].people.delete_many({"_id": {"$lt": 60}})
        with pytest.raises(RestoreConflict, match=database):
            freezer.restore(backup.id, "server:", mode_options=login)
        result = freezer.restore(backup.id, "server:", mode_options=login, force=True)
        assert result.bytes > 500
        with server.client() as client:
            assert client[database].people.count_documents({}) == 100
    called = (stub_tools / "called").read_text()
    assert "mongodump" in called
    assert "--oplog" in called
    assert "--oplogReplay --drop" in called
    assert server.password not in called


def test_a_dump_of_one_database(server: Mongo, freezer: Freezer, stub_tools: Path, tmp_path: Path) -> None:
    login = server.login(data_path=None)
    with server.database() as database, server.database() as other:
        with server.client() as client:
            client[database].people.insert_one({"_id": 7})
            client[other].people.insert_one({"_id": 8})
        backup = freezer.backup(mode="mongo", mode_options={**login, "database": database})
        with pytest.raises(ConfigurationError, match="start_check is for data directories"):
            freezer.restore(backup.id, tmp_path / "checked", mode_options={"start_check": True})
        freezer.restore(backup.id, tmp_path / "files")
        assert other.encode() not in (tmp_path / "files/dump.archive").read_bytes()
        check = {"check_command": server.check_command}
        query = json.dumps({"find": "people", "$db": database})
        found = MongoMode(**check).verify_restored(str(tmp_path / "files"), facts=backup.facts, queries=[query])
        assert found["queries"] == [[[{"_id": 7}]]]
        assert [each.name for each in (tmp_path / "files").iterdir()] == ["dump.archive"]
        nothing = json.dumps({"find": "people", "filter": {"_id": 8}, "$db": database})
        with pytest.raises(RestoreError, match="no document answers"):
            MongoMode(**check).verify_restored(str(tmp_path / "files"), facts=backup.facts, queries=[nothing])


def test_a_dump_that_fails_is_no_backup(server: Mongo, freezer: Freezer, stub_tools: Path) -> None:
    (stub_tools / "mongodump").write_text("#!/bin/sh\necho half of a dump\necho no more >&2\nexit 7\n")
    login = server.login(data_path=None)
    with pytest.raises(SourceError, match="exited with status 7: no more"):
        freezer.backup(mode="mongo", mode_options=login)
    assert freezer.backups() == []


def test_without_the_tools(server: Mongo, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="'mongodump' is missing") as caught:
        enter(MongoMode(**server.login(strategy="dump")))
    assert "mongodb-database-tools" in (caught.value.hint or "")


# -- restores ---------------------------------------------------------------------------------------------------------


def test_damaged_data_are_found(server: Mongo, tmp_path: Path) -> None:
    facts = {"mongo": {"strategy": "snapshot"}}
    data = tmp_path / "data"
    data.mkdir()
    (data / "WiredTiger").write_text("WiredTiger")
    (data / "WiredTiger.turtle").write_text("not what it should be")
    with pytest.raises(RestoreError, match="is of no use to MongoDB"):
        MongoMode(check_command=server.check_command).verify_restored(str(data), facts=facts)


def test_without_mongod_nothing_can_be_checked(tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match="'mongod' is missing"):
        MongoMode().verify_restored(str(tmp_path), facts={"mongo": {"strategy": "snapshot"}})


# -- the documentation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["snapshot", "dump"])
def test_the_privileges_of_the_documentation_suffice(server: Mongo, strategy: str, stub_tools: Path) -> None:
    (statement,) = commands(PAGE, f"### Privileges for `{strategy}`", "json")
    wanted = json.loads(statement)
    wanted["createUser"] = f"freezer-{strategy}"
    with server.database() as database, server.client() as client:
        client[database].people.insert_one({"_id": 1})
        client.admin.command(wanted)
        try:
            login = {**server.login(), "user": wanted["createUser"], "password": wanted["pwd"], "strategy": strategy}
            if strategy == "dump":
                with MongoMode(**login).protect() as protected, protected.sources[0].open() as reader:
                    buffer = bytearray(1 << 20)
                    while reader.readinto(memoryview(buffer)):
                        pass
            else:
                with pytest.raises(AssertionError, match="nobody asked"):
                    enter(MongoMode(**login), snapshots=no_snapshot)
        finally:
            client.admin.command("dropUser", wanted["createUser"])


def test_unlocker_needs_a_login() -> None:
    command = [sys.executable, "-P", "-m", "freezer_sdk.modes.mongo.unlocker", "5"]
    assert subprocess.run(command, stdin=subprocess.DEVNULL, check=True, capture_output=True).stdout == b""
