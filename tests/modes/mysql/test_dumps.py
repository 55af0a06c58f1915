"""Dumps: what is in them, and how they come back into a running server."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from mariadb_server import PASSWORD, Database

from freezer_sdk import Freezer
from freezer_sdk.errors import ConfigurationError, FreezerError, RestoreConflict, RestoreError, SourceError
from freezer_sdk.model import Status
from freezer_sdk.modes.base import SERVER, Stream
from freezer_sdk.modes.mysql.dump import stream_name
from freezer_sdk.modes.mysql.mode import MysqlMode

pytestmark = pytest.mark.mariadb

ODD = "odd.name'`\" ä/ü%"


@pytest.fixture
def freezer(tmp_path: Path) -> Iterator[Freezer]:
    with Freezer.create(f"file://{tmp_path}/repository", password="p") as freezer:
        yield freezer


@pytest.fixture
def shop(database: Database) -> Iterator[str]:
    """A database with one of everything; and one with an odd name."""
    with database.table() as name:
        cursor = database.connect()
        cursor.execute(f"USE {name}")
        cursor.execute("INSERT INTO t VALUES (1, 'ä\U0001f600'), (2, '')")
        cursor.execute("CREATE TABLE b (data BLOB)")
        cursor.execute("INSERT INTO b VALUES (%s)", (bytes(range(256)),))
        cursor.execute("CREATE VIEW v AS SELECT i FROM t WHERE i > 1")
        cursor.execute("CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.filling = 'triggered'")
        cursor.execute("CREATE PROCEDURE p() SELECT 'called'")
        cursor.execute("CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO SELECT 1")
        cursor.execute("CREATE OR REPLACE USER keeper@localhost IDENTIFIED BY 'k'")
        cursor.execute(f"GRANT SELECT ON {name}.t TO keeper@localhost")
        odd = ODD.replace("`", "``")
        cursor.execute(f"CREATE DATABASE IF NOT EXISTS `{odd}`")
        cursor.execute(f"CREATE TABLE IF NOT EXISTS `{odd}`.t (i INT) ENGINE=MyISAM")
        try:
            yield name
        finally:
            cursor.execute(f"DROP DATABASE IF EXISTS `{odd}`")
            cursor.execute("DROP USER IF EXISTS keeper@localhost")
            cursor.connection.close()


def content(database: Database, name: str) -> list[object]:
    return [
        database.rows(f"SELECT * FROM {name}.t ORDER BY i"),
        database.rows(f"SELECT HEX(data) FROM {name}.b"),
        database.rows(f"SELECT * FROM {name}.v"),
        database.rows(f"CALL {name}.p()"),
        database.rows(f"SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = '{name}'"),
        database.rows(f"SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = '{name}'"),
        database.rows("SHOW GRANTS FOR keeper@localhost"),
    ]


def test_everything_comes_back_into_a_running_server(database: Database, shop: str, freezer: Freezer) -> None:
    login = database.login("dump")
    backup = freezer.backup(mode="mysql", mode_options=login)
    assert (backup.name, backup.status, backup.problems) == ("mysql", Status.COMPLETE, ())
    facts = backup.facts["mysql"]
    assert {shop, ODD} <= set(facts["databases"])
    assert facts["not_transactional"] == [f"{ODD}.t"]
    names = {os.fsdecode(each.path) for each in freezer.entries(backup.id)}
    assert {f"/{shop}.sql", "/odd%2Ename%27%60%22 ä%2Fü%25.sql", "/system.accounts.sql"} <= names

    before = content(database, shop)
    root = {"socket": database.socket, "user": "root"}
    with pytest.raises(RestoreConflict, match="the server has tables in"):
        freezer.restore(backup.id, SERVER, mode_options=root)
    database.rows(f"DROP DATABASE {shop}")
    database.rows("DROP USER keeper@localhost")
    chosen = [f"/{shop}.sql", "/system.accounts.sql"]
    plan = freezer.restore(backup.id, SERVER, mode_options=root, paths=chosen, dry_run=True).plan
    assert {os.fsdecode(each.path) for each in plan} == set(chosen)
    assert not database.rows(f"SHOW DATABASES LIKE '{shop}'")
    result = freezer.restore(backup.id, SERVER, mode_options=root, paths=chosen)
    assert (result.files, result.target) == (2, SERVER)
    assert content(database, shop) == before
    with pytest.raises(RestoreError, match="has no nope"):
        freezer.restore(backup.id, SERVER, mode_options=root, paths=["/nope"])


def test_a_dump_that_the_server_refuses_says_how_far_it_came(database: Database, shop: str, freezer: Freezer) -> None:
    backup = freezer.backup(mode="mysql", mode_options=database.login("dump", databases=[shop]))
    assert [os.fsdecode(each.path) for each in freezer.entries(backup.id)] == [f"/{shop}.sql"]
    with pytest.raises(RestoreError, match=f"{shop}.sql: mariadb: ERROR 1044 .*: Access denied") as caught:
        freezer.restore(backup.id, SERVER, mode_options=database.login("dump"), force=True)
    assert "replayed before: none" in str(caught.value.hint)


def test_one_dump_of_all_as_of_one_moment(database: Database, shop: str, freezer: Freezer, folder: Path) -> None:
    options = database.login("dump", per_database=False, accounts=False, exclude_databases=[ODD])
    backup = freezer.backup(mode="mysql", mode_options=options)
    assert [os.fsdecode(each.path) for each in freezer.entries(backup.id)] == ["/all.databases.sql"]
    freezer.restore(backup.id, folder / "new")
    query = f"SELECT COUNT(*) FROM {shop}.t"
    found = MysqlMode().verify_restored(str(folder / "new"), facts=backup.facts, queries=[query])
    assert found["queries"] == [[[2]]]
    assert os.listdir(folder / "new") == ["all.databases.sql"]


def test_a_dump_cannot_run_programs_when_it_is_replayed(database: Database, freezer: Freezer, folder: Path) -> None:
    """Anybody who has a key for backups could write such a one."""
    with database.table() as name:
        backup = freezer.backup(mode="mysql", mode_options=database.login("dump", databases=[name]))
        freezer.restore(backup.id, folder / "new")
        sql = folder / "new" / f"{name}.sql"
        proof = folder / "proof"
        sql.write_text(f"\\! touch {proof}\n{sql.read_text()}\nsystem touch {proof}\n\\! touch {proof}\n")
        with pytest.raises(RestoreError, match="cannot be replayed"):
            MysqlMode().verify_restored(str(folder / "new"), facts=backup.facts)
        assert not proof.exists()


def test_a_database_that_fails_makes_the_backup_partial(database: Database, shop: str, freezer: Freezer) -> None:
    cursor = database.connect()
    cursor.execute(f"CREATE VIEW {shop}.broken AS SELECT i FROM {shop}.t")
    cursor.execute(f"ALTER TABLE {shop}.t DROP COLUMN i")
    cursor.connection.close()
    backup = freezer.backup(mode="mysql", mode_options=database.login("dump"))
    assert backup.status is Status.PARTIAL
    (problem,) = backup.problems
    assert (problem.path, problem.kind) == (f"/{shop}.sql", "command")
    assert "broken" in problem.message
    assert PASSWORD not in problem.message


def test_databases_that_are_not_there(database: Database) -> None:
    with (
        pytest.raises(SourceError, match="no such database, or not for this account: nope"),
        MysqlMode(**database.login("dump", databases=["nope"])).protect(),
    ):
        pass
    with (
        pytest.raises(ConfigurationError, match="no database is left"),
        MysqlMode(
            **database.login("dump", exclude_databases=[row[0] for row in database.rows("SHOW DATABASES")])
        ).protect(),
    ):
        pass


def test_no_password_reaches_arguments_files_or_the_repository(
    database: Database, freezer: Freezer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each program is replaced by one that keeps what others on the machine can see of it."""
    canary = "canary-8812"
    seen = tmp_path / "seen"
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("mariadb-dump", "mariadb", "mariadb-backup"):
        script = programs / name
        script.write_text(
            f'#!/bin/sh\nfor each in cmdline environ; do tr "\\0" "\\n" </proc/$$/$each; done >>{seen}\n'
            f"ls -laR /tmp/freezer-* >>{seen} 2>&1\n"
            f'grep -rs {canary} /tmp/freezer-* >>{seen}\nexec /usr/bin/{name} "$@"\n'
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    user = database.account("dump")
    database.rows(f"ALTER USER {user}@'localhost' IDENTIFIED BY '{canary}'")
    database.rows(f"GRANT ALL ON *.* TO {user}@'localhost' WITH GRANT OPTION")
    login = {"socket": database.socket, "user": user, "password": canary}
    with database.table() as name:
        dump = freezer.backup(mode="mysql", mode_options=login)
        freezer.backup(mode="mysql", mode_options={**login, "strategy": "physical"})
        freezer.restore(dump.id, SERVER, mode_options=login, paths=[f"/{name}.sql"], force=True)
    told = seen.read_text(errors="replace")
    assert told.count("--defaults-file=/dev/fd/") >= 4
    assert canary not in told
    assert canary not in str(dump)


@pytest.mark.parametrize(
    ("database_name", "file"),
    [("shop", "shop.sql"), ("system.accounts", "system%2Eaccounts.sql"), ("..", "%2E%2E.sql"), ("a/b", "a%2Fb.sql")],
)
def test_names_of_dumps_are_file_names(database_name: str, file: str) -> None:
    assert stream_name(database_name) == file


def test_dumps_come_back_as_files_too(database: Database, shop: str, freezer: Freezer, tmp_path: Path) -> None:
    backup = freezer.backup(mode="mysql", mode_options=database.login("dump", databases=[shop]))
    freezer.restore(backup.id, tmp_path / "out", mode="fs")
    assert f"CREATE DATABASE /*!32312 IF NOT EXISTS*/ `{shop}`" in (tmp_path / f"out/{shop}.sql").read_text()
    with pytest.raises(FreezerError, match="start_check"):
        freezer.restore(backup.id, tmp_path / "other", mode_options={"start_check": True})


@pytest.mark.parametrize(
    ("grant", "missing"),
    [
        ("SELECT, SHOW VIEW, EVENT, BINLOG MONITOR ON *.*", "triggers"),
        ("SELECT, SHOW VIEW, EVENT, TRIGGER ON `{}`.*", "routines"),
        ("SELECT, SHOW VIEW, EVENT, TRIGGER, EXECUTE ON `{}`.*", None),
        ("SELECT, SHOW VIEW, EVENT, TRIGGER ON `{}`.*; GRANT SELECT ON mysql.proc", None),
    ],
)
def test_what_an_account_may_not_see_is_not_left_out_in_silence(
    database: Database, shop: str, freezer: Freezer, grant: str, missing: str | None
) -> None:
    pattern = shop.replace("t", "_", 1)  # grants are patterns
    login = database.login("dump", databases=[shop], accounts=False)
    for host in ("localhost", "127.0.0.1"):
        account = f"{login['user']}@'{host}'"
        database.rows(f"REVOKE ALL PRIVILEGES, GRANT OPTION FROM {account}")
        database.rows(f"GRANT BINLOG MONITOR ON *.* TO {account}")
        database.rows(f"GRANT EXECUTE ON PROCEDURE {shop}.p TO {account}")
        for each in grant.format(pattern).split("; GRANT "):
            database.rows(f"GRANT {each} TO {account}")
    if missing is None:
        with MysqlMode(**login).protect() as protected:
            assert [source.name for source in protected.sources if isinstance(source, Stream)] == [f"{shop}.sql"]
    else:
        with pytest.raises(SourceError, match=f"{missing} of {shop} would be missing"):
            freezer.backup(mode="mysql", mode_options=login)
        assert not freezer.backups()


def test_tables_of_the_server_itself_are_not_replaced_unasked(database: Database, freezer: Freezer) -> None:
    backup = freezer.backup(mode="mysql", mode_options=database.login("dump", databases=["mysql"]))
    with pytest.raises(RestoreConflict, match="tables in mysql"):
        freezer.restore(backup.id, SERVER, mode_options={"socket": database.socket, "user": "root"}, dry_run=True)


def test_the_longest_name_of_a_database_is_a_name_of_a_file() -> None:
    assert len(os.fsencode(stream_name("名" * 64))) < 255
