"""Commits are held up for a moment, and no longer: whatever statements, snapshots or signals do."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pymysql
import pytest
from mariadb_server import PASSWORD, Database

from freezer_sdk.errors import ConfigurationError, SnapshotError, SourceError
from freezer_sdk.modes.base import Enter, SnapshotGroup, Tree
from freezer_sdk.modes.mysql import quiesce
from freezer_sdk.modes.mysql.login import Login
from freezer_sdk.modes.mysql.mode import MysqlMode
from freezer_sdk.modes.mysql.server import LockTimeout, Server

pytestmark = pytest.mark.mariadb


class Group(SnapshotGroup):
    """The files as they are: nothing here is read from it."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.views = {path: path for path in paths}
        self.facts = {"provider": "none"}

    def check(self) -> None:
        pass


class Maker:
    """What makes snapshots; what happens meanwhile is the test's affair."""

    def __init__(self, meanwhile: Any = lambda: None) -> None:
        self.meanwhile = meanwhile
        self.removed = 0

    @contextlib.contextmanager
    def __call__(self, paths: Sequence[Path]) -> Iterator[Group]:
        self.meanwhile()
        try:
            yield Group(paths)
        finally:
            self.removed += 1


@pytest.fixture
def table(database: Database) -> Iterator[str]:
    with database.table() as name:
        yield f"{name}.t"


def writes(database: Database, table: str, number: int, *, wait: int = 20) -> bool:
    """Whether a row can be committed."""
    cursor = database.connect()
    try:
        cursor.execute(f"SET lock_wait_timeout = {wait}")
        cursor.execute(f"INSERT INTO {table} VALUES ({number}, '')")
    except pymysql.err.OperationalError as error:
        if error.args[0] != 1205:  # a lock was not to be had
            raise
        return False
    finally:
        cursor.connection.close()
    return True


def test_nothing_is_committed_while_the_snapshot_is_made_and_everything_goes_on_after_it(
    database: Database, table: str
) -> None:
    held = []
    maker = Maker(lambda: held.append(not writes(database, table, 1, wait=1)))
    with MysqlMode(**database.login("snapshot")).protect(snapshots=maker) as protected:
        assert held == [True]
        assert writes(database, table, 1)
        lock = protected.facts["mysql"]["lock"]
        assert lock["held"] >= lock["snapshot"] >= 1
        assert protected.facts["mysql"]["binlog"]["file"].startswith("binlog.")
    assert maker.removed == 1


def test_servers_without_stages_get_a_read_lock(
    database: Database, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiesce, "_BACKUP_STAGE_SINCE", (99, 0, 0))
    held = []
    maker = Maker(lambda: held.append(not writes(database, table, 1, wait=1)))
    with MysqlMode(**database.login("snapshot")).protect(snapshots=maker) as protected:
        assert protected.facts["mysql"]["lock"]["method"] == "read-lock"
    assert held == [True]
    assert writes(database, table, 1)


def test_a_snapshot_that_takes_too_long_is_worth_nothing(database: Database, table: str) -> None:
    """The server gives the lock up by itself, while the snapshot is still being made."""
    written = []
    maker = Maker(lambda: written.append(writes(database, table, 1, wait=60)))
    mode = MysqlMode(**database.login("snapshot", lock_timeout=1))
    with pytest.raises(SnapshotError, match="lock on the databases was lost"), mode.protect(snapshots=maker):
        pass
    assert written == [True]
    assert maker.removed == 1


def test_a_snapshot_that_fails_holds_up_nobody(database: Database, table: str) -> None:
    def fail() -> None:
        raise SnapshotError("no space")

    mode = MysqlMode(**database.login("snapshot"))
    with pytest.raises(SnapshotError, match="no space"), mode.protect(snapshots=Maker(fail)):
        pass
    assert writes(database, table, 1)


def test_a_lock_that_is_not_to_be_had_in_time(database: Database, table: str) -> None:
    other = database.connect()
    other.execute("BACKUP STAGE START")
    try:
        mode = MysqlMode(**database.login("snapshot", lock_timeout=1))
        with pytest.raises(SourceError, match="wait timeout exceeded") as caught, mode.protect(snapshots=Maker()):
            pass
        assert "lock_timeout" in str(caught.value.hint)
    finally:
        other.execute("BACKUP STAGE END")
        other.connection.close()
    assert writes(database, table, 1)


@contextlib.contextmanager
def long_statement(database: Database, statement: str) -> Iterator[None]:
    """A statement that runs until the context is left."""
    cursor = database.connect()
    cursor.execute("SELECT CONNECTION_ID()")
    number = cursor.fetchone()[0]

    def run() -> None:
        with contextlib.suppress(pymysql.Error):
            cursor.execute(statement)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        query = (
            f"SELECT TIME FROM information_schema.PROCESSLIST WHERE ID = {number} AND COMMAND = 'Query' AND TIME >= 1"
        )
        while not database.rows(query):
            time.sleep(0.1)
        yield
    finally:
        with contextlib.suppress(pymysql.Error):
            database.rows(f"KILL QUERY {number}")
        thread.join()
        cursor.connection.close()


def test_a_long_statement_is_noticed_before_anything_is_locked(database: Database, table: str) -> None:
    options = database.login("snapshot", long_query=1, long_query_wait=1)
    maker = Maker(lambda: pytest.fail("a snapshot was made"))
    with long_statement(database, f"INSERT INTO {table} SELECT 7, SLEEP(3600) /* canary */"):
        mode = MysqlMode(**options)
        with pytest.raises(SourceError, match="INSERT of user 'root'") as caught, mode.protect(snapshots=maker):
            pass
        assert "canary" not in str(caught.value)
        assert writes(database, table, 1)


def test_a_long_statement_is_waited_for(database: Database, table: str) -> None:
    options = database.login("snapshot", long_query=1, long_query_wait=600)
    with contextlib.ExitStack() as stack:
        stack.enter_context(long_statement(database, f"INSERT INTO {table} SELECT 7, SLEEP(3600)"))
        timer = threading.Timer(1, stack.close)
        timer.start()
        with MysqlMode(**options).protect(snapshots=Maker()):
            pass
        timer.join()


def test_readers_neither_wait_nor_are_waited_for(database: Database) -> None:
    options = database.login("snapshot", long_query=1, long_query_wait=0, lock_timeout=5)
    with long_statement(database, "SELECT SLEEP(3600)"), MysqlMode(**options).protect(snapshots=Maker()):
        pass


CHILD = """
import contextlib, json, sys, time
from freezer_sdk.modes.mysql.mode import MysqlMode
@contextlib.contextmanager
def maker(paths):
    print("locked", flush=True)
    time.sleep(3600)
    yield
with MysqlMode(**json.loads(sys.stdin.readline())).protect(snapshots=maker):
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_killed_holds_up_nobody(database: Database, table: str, number: signal.Signals) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child, contextlib.ExitStack() as stack:
        stack.callback(child.kill)
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(database.login("snapshot")) + "\n")
        child.stdin.flush()
        assert child.stdout.readline() == "locked\n"
        assert not writes(database, table, 1, wait=1)
        child.send_signal(number)
        assert child.wait(60) == -number
    assert writes(database, table, 1)


def test_privileges_that_are_missing_are_told_before_anybody_is_held_up(database: Database) -> None:
    options = database.login("snapshot")
    for host in ("localhost", "127.0.0.1"):
        database.rows(f"REVOKE BINLOG MONITOR ON *.* FROM freezer_snapshot@'{host}'")
    maker = Maker(lambda: pytest.fail("a snapshot was made"))
    with pytest.raises(SourceError, match="BINLOG MONITOR") as caught, MysqlMode(**options).protect(snapshots=maker):
        pass
    assert "privileges" in str(caught.value.hint)


def test_a_wrong_password_is_told_and_not_shown(database: Database) -> None:
    options = {**database.login("snapshot"), "password": "canary-7781"}
    with pytest.raises(SourceError, match="Access denied") as caught, MysqlMode(**options).protect(snapshots=Maker()):
        pass
    assert "canary" not in str(caught.value) + str(caught.value.hint)
    assert caught.value.__cause__ is None


def test_over_tls_with_the_servers_certificate(database: Database, tmp_path: Path) -> None:
    user = database.account("snapshot")
    database.rows(f"ALTER USER {user}@'127.0.0.1' REQUIRE SSL")
    conf = tmp_path / "my.cnf"
    quoted = PASSWORD.replace("\\", "\\\\").replace('"', '\\"')
    text = f'[client]\nhost=127.0.0.1\nport={database.port}\nuser={user}\npassword="{quoted}"\n'
    conf.write_text(f"{text}ssl-ca={database.env['MARIADB_CA']}\n")
    with MysqlMode(defaults_file=str(conf)).protect(snapshots=Maker()) as protected:
        assert protected.facts["mysql"]["data_directory"] == os.path.realpath(database.data)
    conf.write_text(f"{text}skip-ssl\n")
    with (
        pytest.raises(SourceError, match="Access denied"),
        MysqlMode(defaults_file=str(conf)).protect(snapshots=Maker()),
    ):
        pass
    conf.write_text(f"{text}ssl-verify-server-cert\n")  # nobody whom this machine trusts vouches for it
    with (
        pytest.raises(SourceError, match="certificate"),
        MysqlMode(defaults_file=str(conf)).protect(snapshots=Maker()),
    ):
        pass


@pytest.mark.parametrize(
    ("options", "snapshots", "message"),
    [
        ({"strategy": "snapshot"}, False, "needs volume snapshots"),
        ({"strategy": "dump"}, True, "no use for a volume snapshot"),
        ({"databases": ["a"]}, True, "takes all databases"),
    ],
)
def test_strategies_that_do_not_fit(options: dict[str, Any], snapshots: bool, message: str) -> None:
    maker = Maker() if snapshots else None
    with pytest.raises(ConfigurationError, match=message) as caught, MysqlMode(**options).protect(snapshots=maker):
        pass
    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [{"lock_timeout": 0.5}, {"server_options": ["rm -rf"]}, {"databases": ["a"], "exclude_databases": ["a"]}],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        MysqlMode(**options)


def test_a_database_with_an_odd_name_is_in_the_snapshot(database: Database) -> None:
    database.rows("CREATE DATABASE ibtmp_orders")  # the server has files for temporary tables that begin so
    try:
        with MysqlMode(**database.login("snapshot")).protect(snapshots=Maker()) as protected:
            (tree,) = protected.sources
            assert isinstance(tree, Tree)
            inside = {each.directory.path for each in tree.walk(lambda problem: None) if isinstance(each, Enter)}
        assert os.fsencode(database.data / "ibtmp_orders") in inside
    finally:
        database.rows("DROP DATABASE ibtmp_orders")


def test_all_steps_of_the_lock_share_its_time(database: Database) -> None:
    """Four locks are taken one after the other; each would wait as long as the whole is allowed to take."""
    login = database.login("snapshot", lock_timeout=3)
    asked: list[float] = []

    class Slow(Server):
        def run(self, statement: str) -> None:
            if statement.startswith("BACKUP STAGE"):
                asked.append(float(self.value("SELECT @@SESSION.lock_wait_timeout")))
                self.value("SELECT SLEEP(1)")
            super().run(statement)

    limits = quiesce.LockLimits(held=3, long_query=0, patience=0)
    connection = pymysql.connect(unix_socket=database.socket, user=login["user"], password=PASSWORD.encode())
    server = Slow(connection, Login(user=login["user"], socket=database.socket))
    with pytest.raises(LockTimeout), quiesce.quiesced(server, limits):
        raise AssertionError("four seconds are more than three")
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] == 1
