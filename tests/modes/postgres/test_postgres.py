"""Mode postgres: what it refuses, what it records, secrets, tablespaces, and dumps into a running server."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import servers
from btrfs_volume import make_subvolume, new_subvolume
from postgres_server import PAGE, Cluster, new_cluster
from running_writer import commands, reachable

from freezer_sdk import Freezer
from freezer_sdk.errors import (
    ConfigurationError,
    RestoreConflict,
    RestoreError,
    SourceError,
    SourceUnreadable,
    UnsafePath,
)
from freezer_sdk.model import RestoreOptions, RestoreResult
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.modes.postgres.mode import PostgresMode
from freezer_sdk.modes.postgres.replay import Dumps, replay
from freezer_sdk.modes.postgres.volume import _check_one_volume

pytestmark = pytest.mark.postgres
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Group(SnapshotGroup):
    """Shows the folders themselves, which nobody writes to."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.views = {path: path for path in paths}
        self.facts = {"provider": "none"}

    def check(self) -> None:
        pass


@contextmanager
def no_snapshot(paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
    yield Group(paths)


def enter(mode: PostgresMode, **how: Any) -> Any:
    with mode.protect(**how) as protected:
        return protected


def check(target: Path, backup: Any, *queries: str) -> Any:
    return PostgresMode().verify_restored(str(target), facts=backup.facts, queries=queries)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "physical", "databases": ["shop"]}, "takes all databases"),
        ({"password": "s3cret", "passfile": "/x"}, "both a password and a password file"),
        ({"strategy": "best"}, "none of"),
        ({"password": "two\nlines"}, "line break"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PostgresMode(**options)


def test_a_strategy_and_a_snapshot_that_do_not_fit(cluster: Cluster) -> None:
    with pytest.raises(ConfigurationError, match="needs volume snapshots"):
        enter(PostgresMode(**cluster.login(strategy="snapshot")))
    with pytest.raises(ConfigurationError, match="no use for a volume snapshot"):
        enter(PostgresMode(**cluster.login(strategy="dump")), snapshots=no_snapshot)
    with pytest.raises(ConfigurationError, match="takes all databases"):
        enter(PostgresMode(**cluster.login(databases=["postgres"])), snapshots=no_snapshot)


def test_a_data_directory_of_another_server(cluster: Cluster, tmp_path: Path) -> None:
    other = tmp_path / "data"
    (other / "global").mkdir(parents=True)
    (other / "global/pg_control").write_bytes(bytes(8192))
    with pytest.raises(ConfigurationError, match="belongs to another server"):
        enter(PostgresMode(**cluster.login(data_directory=other)), snapshots=no_snapshot)
    with pytest.raises(SourceUnreadable, match="cannot be read"):
        enter(PostgresMode(**cluster.login(data_directory=tmp_path)), snapshots=no_snapshot)


def test_an_unknown_database(cluster: Cluster) -> None:
    with pytest.raises(ConfigurationError, match="no database 'shop'"):
        enter(PostgresMode(**cluster.login(strategy="dump", databases=["shop"])))


@pytest.mark.parametrize("name", ["base", "pg_xact", "base/5"])
def test_links_in_place_of_data_are_refused(tmp_path: Path, name: str) -> None:
    """A backup would hold the link in place of the data, and what is restored would lead to the old server's."""
    for each in ("elsewhere", "data/base", "data/pg_wal", "data/pg_tblspc", "data/log"):
        (tmp_path / each).mkdir(parents=True)
    _check_one_volume(tmp_path / "data", {})
    if name == "base":
        (tmp_path / "data/base").rmdir()
    (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=f"data/{name} is a link"):
        _check_one_volume(tmp_path / "data", {})


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched_programs(cluster: Cluster, tmp_path: Path) -> Path:
    """PostgreSQL's programs; each says in ``called`` how it was called, and with what environment."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for program in cluster.programs.iterdir():
        wrapper = folder / program.name
        wrapper.write_text(f'#!/bin/sh\n{{ echo {program.name} "$@"; env; }} >>{folder}/called\nexec {program} "$@"\n')
        wrapper.chmod(0o755)
    return folder


def test_the_password_is_in_no_argument_and_no_message(
    cluster: Cluster, freezer: Freezer, watched_programs: Path, folder: Path
) -> None:
    login = cluster.login(programs=watched_programs)
    for strategy in ("physical", "dump"):
        backup = freezer.backup(mode="postgres", mode_options={**login, "strategy": strategy})
        assert cluster.password not in repr(backup)
    called = (watched_programs / "called").read_text()
    assert {"psql", "pg_basebackup", "pg_dump", "pg_dumpall"} <= set(called.split())
    assert cluster.password not in called
    mode = PostgresMode(**{**login, "password": "a canary"})
    with pytest.raises(SourceUnreadable, match="password authentication failed") as caught:
        enter(mode)
    assert "a canary" not in f"{caught.value} {caught.value.hint} {mode._settings!r}"


@pytest.mark.parametrize("password", ["with: colon \\ and 'quotes' é", "a" * 900])
def test_passwords_with_everything_special(cluster: Cluster, password: str) -> None:
    quoted = password.replace("'", "''")
    cluster.psql(f"SET standard_conforming_strings = on; CREATE ROLE special LOGIN PASSWORD '{quoted}'")
    try:
        login = cluster.login(user="special", password=password, strategy="dump", role_passwords=False)
        assert enter(PostgresMode(**login)).facts["postgres"]["databases"] == ["postgres"]
    finally:
        cluster.psql("DROP ROLE special")


def test_tls_with_the_name_checked(cluster: Cluster) -> None:
    login = cluster.login(sslmode="verify-full", sslrootcert=cluster.env["POSTGRES_CA"], strategy="dump")
    assert enter(PostgresMode(**login)).facts["postgres"]["databases"] == ["postgres"]
    with pytest.raises(SourceUnreadable, match="localhost"):
        enter(PostgresMode(**{**login, "host": "localhost"}))


# -- programs that fail -----------------------------------------------------------------------------------------------


def test_a_stream_that_fails_is_no_backup(cluster: Cluster, freezer: Freezer, watched_programs: Path) -> None:
    (watched_programs / "pg_basebackup").write_text("#!/bin/sh\necho half\necho connection lost >&2\nexit 1\n")
    with pytest.raises(SourceError, match="exited with status 1: connection lost"):
        freezer.backup(mode="postgres", mode_options=cluster.login(programs=watched_programs))
    assert freezer.backups() == []


def test_one_dump_that_fails_makes_the_backup_partial(
    cluster: Cluster, freezer: Freezer, watched_programs: Path
) -> None:
    (watched_programs / "pg_dump").write_text("#!/bin/sh\necho half\necho connection lost >&2\nexit 1\n")
    login = cluster.login(programs=watched_programs, strategy="dump")
    backup = freezer.backup(mode="postgres", mode_options=login)
    assert backup.status == "partial"
    assert [each.path for each in backup.problems if each.fatal] == ["/postgres.dump"]


# -- data directories -------------------------------------------------------------------------------------------------


def test_a_data_directory_is_restored_into_an_empty_folder_only(
    cluster: Cluster, freezer: Freezer, folder: Path
) -> None:
    backup = freezer.backup(mode="postgres", mode_options=cluster.login())
    assert backup.facts["postgres"]["timeline"] == 1
    target = folder / "data"
    target.mkdir()
    (target / "mine").touch()
    with pytest.raises(RestoreConflict, match="not empty"):
        freezer.restore(backup.id, target, force=True)
    (target / "mine").unlink()
    assert freezer.restore(backup.id, target, dry_run=True).plan
    assert list(target.iterdir()) == []
    with pytest.raises(ConfigurationError, match="a part of a data directory"):
        freezer.restore(backup.id, target, include=["base"])
    with pytest.raises(ConfigurationError, match="cannot be restored into a running server"):
        freezer.restore(backup.id, "server:", mode_options=cluster.login())
    result = freezer.restore(backup.id, target)
    assert result.bytes > 1_000_000
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    assert {each.owner() for each in (target, *target.rglob("*"))} == {cluster.account}
    freezer.restore(backup.id, folder / "plain", mode="fs")
    assert [each.name for each in (folder / "plain").iterdir()] == ["base.tar"]


def test_damage_is_found(cluster: Cluster, freezer: Freezer, folder: Path) -> None:
    with cluster.database() as database:
        cluster.psql("INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 1000) i", database=database)
        backup = freezer.backup(mode="postgres", mode_options=cluster.login())
        place = cluster.psql("SELECT pg_relation_filepath('t')", database=database)
    freezer.restore(backup.id, folder / "data")
    file = folder / "data" / place
    content = bytearray(file.read_bytes())
    content[20000:20100] = bytes(100)
    file.write_bytes(content)
    with pytest.raises(RestoreError, match="checksum mismatch"):
        check(folder / "data", backup)
    (folder / "data/backup_manifest").unlink()
    content[8192:8292] = bytes([255]) * 100  # a page header
    file.write_bytes(content)
    with pytest.raises(RestoreError, match="invalid page in block 1"):
        check(folder / "data", backup)


def test_nothing_runs_after_a_check_that_fails(cluster: Cluster, freezer: Freezer, folder: Path) -> None:
    backup = freezer.backup(mode="postgres", mode_options=cluster.login())
    freezer.restore(backup.id, folder / "data")
    with pytest.raises(RestoreError, match="no row answers"):
        check(folder / "data", backup, "SELECT 1 WHERE false")
    with pytest.raises(RestoreError, match="nowhere"):
        check(folder / "data", backup, "SELECT * FROM nowhere")
    found = check(folder / "data", backup, "postgres: SELECT 'a,b', 2", "SELECT 1")
    assert found["queries"] == [[["a,b", "2"]], [["1"]]]
    assert not (folder / "data/postmaster.pid").exists()


@pytest.fixture
def volume_cluster(folder: Path) -> Iterator[Cluster]:
    with (
        new_subvolume() as volume,
        reachable(volume) as place,
        new_cluster(f"volume-{os.getpid()}", data=place / "data") as made,
    ):
        yield made


@needs_root
@pytest.mark.root
def test_tablespaces_and_the_log_elsewhere_come_back_inside(
    volume_cluster: Cluster, freezer: Freezer, folder: Path, tmp_path: Path
) -> None:
    cluster = volume_cluster
    with Freezer(f"local:{tmp_path}/tar", create=True, engine="tar", encryption=False) as tar:
        backup = tar.backup(mode="postgres", mode_options=cluster.login(), snapshot="btrfs")
        tar.restore(backup.id, folder / "tar")
        assert check(folder / "tar", backup)["databases"] == 1
    servers.stop("postgresql", instance=f"volume-{os.getpid()}")
    (cluster.data / "pg_wal").rename(cluster.data.parent / "log")
    (cluster.data / "pg_wal").symlink_to(cluster.data.parent / "log")
    servers.start("postgresql", instance=f"volume-{os.getpid()}", POSTGRES_DATA=str(cluster.data))
    space = cluster.data.parent / "space"
    space.mkdir()
    shutil.chown(space, cluster.account)
    cluster.psql(f"CREATE TABLESPACE away LOCATION '{space}'")
    cluster.psql("CREATE TABLE far (n int) TABLESPACE away; INSERT INTO far VALUES (7)")
    with pytest.raises(SourceError, match="tablespaces of its own"):
        enter(PostgresMode(**cluster.login(strategy="physical")))
    backup = freezer.backup(mode="postgres", mode_options=cluster.login(), snapshot="btrfs")
    log, link = sorted(backup.facts["postgres"]["linked"], reverse=True)
    assert (log, link[:10]) == ("pg_wal", "pg_tblspc/")
    freezer.restore(backup.id, folder / "new")
    cluster.psql("DROP TABLE far")
    assert check(folder / "new", backup, "SELECT n FROM far")["queries"] == [[["7"]]]
    assert not (folder / "new" / link).is_symlink()
    assert not [each for each in (folder / "new").rglob("*") if each.is_symlink()]

    make_subvolume(cluster.data.parent / "elsewhere")
    (cluster.data / "pg_tblspc/99999").symlink_to(cluster.data.parent / "elsewhere")
    with pytest.raises(SourceError, match="lies on another file system"):
        enter(PostgresMode(**cluster.login()), snapshots=no_snapshot)
    (cluster.data / "pg_tblspc/99999").unlink()


@needs_root
@pytest.mark.root
def test_a_server_that_does_not_flush_is_refused(volume_cluster: Cluster) -> None:
    volume_cluster.psql("ALTER SYSTEM SET fsync = off")
    volume_cluster.psql("SELECT pg_reload_conf()")
    while volume_cluster.psql("SHOW fsync") != "off":
        pass
    with pytest.raises(SourceError, match="fsync = off"):
        enter(PostgresMode(**volume_cluster.login()), snapshots=no_snapshot)


# -- dumps ------------------------------------------------------------------------------------------------------------


def test_dumps_into_a_running_server(cluster: Cluster, freezer: Freezer, folder: Path) -> None:
    odd = 'odd/"name" %'
    quoted = '"' + odd.replace('"', '""') + '"'
    cluster.psql(f"CREATE DATABASE {quoted}; CREATE ROLE \"Some Owner\" LOGIN PASSWORD 'first'")
    try:
        cluster.psql(
            'CREATE TABLE t (i int); ALTER TABLE t OWNER TO "Some Owner"; INSERT INTO t VALUES (1)', database=odd
        )
        login = cluster.login(strategy="dump")
        backup = freezer.backup(mode="postgres", mode_options=login)
        streams = backup.facts["postgres"]["streams"]
        assert set(streams) == {"postgres", odd}
        with pytest.raises(RestoreConflict, match="odd"):
            freezer.restore(backup.id, "server:", mode_options=login)
        with pytest.raises(ConfigurationError, match="has no database 'other'"):
            freezer.restore(backup.id, "server:", mode_options={**login, "databases": ["other"]})
        with pytest.raises(ConfigurationError, match="start_check is for data directories"):
            freezer.restore(backup.id, folder / "checked", mode_options={"start_check": True})

        cluster.psql("INSERT INTO t VALUES (2)", database=odd)
        chosen = {**login, "databases": [odd]}
        assert freezer.restore(backup.id, "server:", mode_options=chosen, force=True, dry_run=True).plan
        assert cluster.psql("SELECT count(*) FROM t", database=odd) == "2"
        freezer.restore(backup.id, "server:", mode_options=chosen, force=True)
        assert cluster.psql("SELECT count(*) FROM t", database=odd) == "1"

        cluster.psql(f'DROP DATABASE {quoted}; DROP ROLE "Some Owner"')
        freezer.restore(backup.id, "server:", mode_options=chosen)
        assert cluster.psql(
            "SELECT tableowner, count(*) FROM pg_tables, t WHERE tablename = 't' GROUP BY 1", database=odd
        )
        # the administrator, over TCP, still has the password that this session depends on
        assert freezer.backup(mode="postgres", mode_options=login).status == "complete"

        freezer.restore(backup.id, folder / "files")
        assert check(folder / "files", backup, "SELECT 1")["databases"] == 2
        assert {each.name for each in (folder / "files").iterdir()} == {*streams.values(), "roles.sql"}
    finally:
        cluster.psql(f"DROP DATABASE IF EXISTS {quoted}")
        cluster.psql('DROP ROLE IF EXISTS "Some Owner"')


def test_roles_that_are_there_stay_as_they_are(cluster: Cluster, freezer: Freezer) -> None:
    cluster.psql("CREATE ROLE keeper LOGIN PASSWORD 'old'")
    try:
        login = cluster.login(strategy="dump")
        backup = freezer.backup(mode="postgres", mode_options=login)
        cluster.psql("ALTER ROLE keeper NOLOGIN")
        freezer.restore(backup.id, "server:", mode_options=login, force=True)
        assert cluster.psql("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'keeper'") == "f"
    finally:
        cluster.psql("DROP ROLE keeper")


class Forged:
    """Gives a mode what whoever can write into a repository could make of a backup."""

    options = RestoreOptions()

    def __init__(self, linked: dict[str, str], *, links: dict[str, Path] | None = None) -> None:
        facts = {"strategy": "snapshot", "data_directory": "/data", "linked": linked}
        self.facts, self._links = {"postgres": facts}, links or {}
        self.restored: list[str] = []

    def files(self, target: str, *, root: str) -> RestoreResult:
        self.restored.append(target)
        Path(target).mkdir(exist_ok=True)
        for name, place in self._links.items():
            Path(target, name).symlink_to(place)
        return RestoreResult(backup="0" * 32, target=target)


@pytest.mark.parametrize("name", ["../outside", "/etc/cron.d", "pg_tblspc/../../x", "base", ""])
def test_a_forged_backup_puts_nothing_outside(tmp_path: Path, name: str) -> None:
    forged: Any = Forged({name: "/x"})
    with pytest.raises(UnsafePath, match="no place"):
        PostgresMode().restore(forged, str(tmp_path / "data"))
    assert not forged.restored


def test_a_forged_backup_puts_nothing_where_its_own_links_lead(tmp_path: Path) -> None:
    forged: Any = Forged({"pg_tblspc/16384": "/x"}, links={"pg_tblspc": tmp_path})
    with pytest.raises(UnsafePath, match="no place"):
        PostgresMode().restore(forged, str(tmp_path / "data"))
    assert forged.restored == [str(tmp_path / "data")]


def test_roles_of_a_forged_backup_run_no_programs(cluster: Cluster, tmp_path: Path) -> None:
    """Programs of psql would run here, as whoever restores: mostly as root."""
    made = tmp_path / "made"
    sql = "\\restrict x\nCREATE ROLE forged COMMENT\n\\unrestrict x\n".replace(" COMMENT", ";")
    for line, error in (("", None), (f"\\! touch {made}", RestoreError), (f"SELECT 1 \\! touch {made}", RestoreError)):
        text = f"{sql}{line}\n".encode()
        dumps = Dumps(open=lambda name, text=text: contextlib.closing(io.BytesIO(text)), streams={}, roles="roles.sql")
        with PostgresMode(**cluster.login())._settings.login.session() as session:
            if error is None:
                replay(session, dumps, force=False, dry_run=False, timeout=300)
            else:
                with pytest.raises(error):
                    replay(session, dumps, force=False, dry_run=False, timeout=300)
        cluster.psql("DROP ROLE IF EXISTS forged")
    assert not made.exists()


# -- the documentation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["snapshot", "physical", "dump"])
def test_the_privileges_of_the_documentation_suffice(cluster: Cluster, strategy: str) -> None:
    (create,) = commands(PAGE, "## Log in", "sql")[:1]
    (grant,) = commands(PAGE, f"### Privileges for `{strategy}`", "sql")
    with cluster.database() as database:
        cluster.psql("CREATE TABLE private (i int); REVOKE ALL ON private FROM public", database=database)
        cluster.psql(f"{create}; {grant}")
        try:
            login = cluster.login(user="freezer", password="a long password", strategy=strategy, role_passwords=False)
            if strategy == "snapshot":
                enter(PostgresMode(**login), snapshots=no_snapshot)
                return
            with PostgresMode(**login).protect() as protected:
                for source in protected.sources:
                    with source.open() as reader:
                        buffer = bytearray(1 << 20)
                        while reader.readinto(memoryview(buffer)):
                            pass
        finally:
            cluster.psql("DROP ROLE freezer")
