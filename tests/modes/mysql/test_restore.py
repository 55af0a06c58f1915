"""Data directories come back whole, for the server's user, and only where no server is."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import servers
from btrfs_volume import make_subvolume, new_subvolume
from mariadb_server import Database, owners, reachable_folder

from freezer_sdk import Backup, Freezer
from freezer_sdk.errors import (
    ConfigurationError,
    IntegrityError,
    RestoreConflict,
    RestoreError,
    SourceError,
    UnsafePath,
)
from freezer_sdk.modes.base import SERVER
from freezer_sdk.modes.mysql.archive import CheckedArchive
from freezer_sdk.modes.mysql.datadir import data_directory, in_use
from freezer_sdk.modes.mysql.login import Login
from freezer_sdk.modes.mysql.mode import MysqlMode
from freezer_sdk.modes.mysql.server import connected

pytestmark = pytest.mark.mariadb


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Freezer, Backup, Database]]:
    """A backup by mariadb-backup, which later tests only read."""
    database = Database(servers.start("mariadb", instance=os.environ.get("PYTEST_XDIST_WORKER", "")))
    folder = tmp_path_factory.mktemp("repository")
    with Freezer.create(f"file://{folder}/r", password="p") as freezer:
        backup = freezer.backup(mode="mariadb", mode_options=database.login("physical"))
        yield freezer, backup, database


def test_into_nothing_and_in_place_of_what_was_there(made: tuple[Freezer, Backup, Database], folder: Path) -> None:
    freezer, backup, database = made
    target = folder / "data"
    plan = freezer.restore(backup.id, target, dry_run=True).plan
    assert [(each.action, each.path) for each in plan] == [("create", b"/mariadb-backup.xb")]
    assert not target.exists()
    result = freezer.restore(backup.id, target)
    assert result.files > 100
    assert owners(target) == owners(database.data)
    (target / "stale.ibd").write_text("of another time")
    with pytest.raises(RestoreConflict, match="not empty"):
        freezer.restore(backup.id, target)
    checked = freezer.restore(backup.id, target, delete=True, mode_options={"start_check": True})
    assert checked.facts["start_check"]["tables"] > 0
    assert not (target / "stale.ibd").exists()
    assert not [each for each in os.listdir(target) if each.startswith(".freezer")]


def test_not_where_a_server_runs(made: tuple[Freezer, Backup, Database]) -> None:
    freezer, backup, database = made
    assert in_use(str(database.data))
    with pytest.raises(RestoreConflict, match="a database server runs on"):
        freezer.restore(backup.id, database.data, delete=True)
    with pytest.raises(RestoreError, match="runs on"):
        MysqlMode().verify_restored(str(database.data), facts=backup.facts)


def test_not_in_parts_and_not_into_a_running_server(made: tuple[Freezer, Backup, Database], folder: Path) -> None:
    freezer, backup, _ = made
    with pytest.raises(ConfigurationError, match="restored whole"):
        freezer.restore(backup.id, folder / "new", include=["*.ibd"])
    with pytest.raises(ConfigurationError, match="running server"):
        freezer.restore(backup.id, SERVER)


def test_a_check_finds_what_is_damaged(made: tuple[Freezer, Backup, Database], folder: Path) -> None:
    freezer, backup, _ = made
    freezer.restore(backup.id, folder / "data")
    table = folder / "data/mysql/innodb_index_stats.ibd"
    with open(table, "r+b") as file:
        file.seek(3 * 16384 + 200)
        file.write(os.urandom(8192))
    with pytest.raises(RestoreError, match=r"damaged|fails on the restored data|no server runs"):
        MysqlMode().verify_restored(str(folder / "data"), facts=backup.facts)
    with pytest.raises(RestoreError):
        MysqlMode().verify_restored(str(folder), facts=backup.facts)
    assert not in_use(str(folder / "data"))


def test_a_query_must_succeed_and_have_an_answer(made: tuple[Freezer, Backup, Database], folder: Path) -> None:
    freezer, backup, _ = made
    freezer.restore(backup.id, folder / "data")
    target, mode = str(folder / "data"), MysqlMode()
    found = mode.verify_restored(target, facts=backup.facts, queries=["SELECT 1, 'a', NOW() IS NULL", "SELECT 2.50"])
    assert found["queries"] == [[[1, "a", 0]], [["2.50"]]]
    for query in ("SELECT * FROM nowhere.t", "SELECT 1 FROM DUAL WHERE 1 = 0"):
        with pytest.raises(RestoreError):
            mode.verify_restored(target, facts=backup.facts, queries=[query])


class Elsewhere:
    """What a server on another machine, or in a container, says."""

    def __init__(self, datadir: Path, *, is_here: bool, hostname: str = os.uname().nodename) -> None:
        self.is_here = is_here
        self._said = {"datadir": str(datadir), "hostname": hostname}

    def variables(self, *names: str) -> dict[str, str]:
        return self._said


def test_a_server_that_runs_elsewhere_is_not_mistaken(made: tuple[Freezer, Backup, Database], tmp_path: Path) -> None:
    """A data directory of the same name may be there, of another server."""
    _, _, database = made

    there: Any = Elsewhere(database.data, is_here=True, hostname="1f2e3d4c5b6a")  # through a published port
    with pytest.raises(SourceError, match="another machine"):
        data_directory(there, None)
    there = Elsewhere(database.data, is_here=False)
    with pytest.raises(SourceError, match="another machine"):
        data_directory(there, None)
    assert data_directory(there, str(database.data)) == database.data
    with pytest.raises(SourceError, match="not a data directory"):
        data_directory(there, str(tmp_path))
    (tmp_path / "mysql").mkdir()
    (tmp_path / "ibdata1").touch()
    with pytest.raises(SourceError, match="no server uses"):
        data_directory(cast(Any, Elsewhere(tmp_path, is_here=True)), None)
    assert data_directory(cast(Any, Elsewhere(tmp_path, is_here=True)), str(tmp_path)) == tmp_path


def test_data_outside_of_the_directory_are_refused(made: tuple[Freezer, Backup, Database]) -> None:
    freezer, _, database = made
    with reachable_folder() as elsewhere, connected(Login(socket=database.socket, user="root")) as server:
        if database.env["MARIADB_ACCOUNT"] == "mysql":
            import shutil

            shutil.chown(elsewhere, "mysql", "mysql")
        with database.table() as name:
            database.rows(f"CREATE TABLE {name}.far (i INT) DATA DIRECTORY='{elsewhere}'")
            with pytest.raises(SourceError, match=f"table {name}/far.isl"):
                data_directory(server, None)
            # the restored server would follow what leads there, perhaps into the files of a running one
            with pytest.raises(SourceError, match=f"table {name}/far.isl"):
                freezer.backup(mode="mysql", mode_options=database.login("physical"))
        assert data_directory(server, None) == database.data


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.root
def test_another_file_system_below_is_refused() -> None:
    with new_subvolume() as volume:
        (volume / "mysql").mkdir()
        make_subvolume(volume / "shop")
        there: Any = Elsewhere(volume, is_here=True)
        with pytest.raises(SourceError, match="shop is another file system"):
            data_directory(there, str(volume))


def test_a_server_that_was_started_meanwhile_keeps_its_files(
    made: tuple[Freezer, Backup, Database], folder: Path
) -> None:
    freezer, _, database = made
    backup = freezer.backup(mode="mysql", mode_options=database.login("physical"))
    folder.joinpath("ibdata1").write_text("another server's")
    lock = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(); input()"
    servers_lock: list[subprocess.Popen[bytes]] = []

    def start(_: object) -> None:
        if not servers_lock:
            command = [sys.executable, "-c", lock, str(folder / "ibdata1")]
            servers_lock.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert servers_lock[0].stdout is not None
            servers_lock[0].stdout.readline()

    try:
        with pytest.raises(RestoreConflict, match="runs on"):
            freezer.restore(backup.id, folder, delete=True, events=start)
    finally:
        for each in servers_lock:
            each.communicate(b"\n")
    assert os.listdir(folder) == ["ibdata1"]


def test_a_server_of_another_version_does_not_touch_the_files(
    made: tuple[Freezer, Backup, Database], folder: Path
) -> None:
    freezer, backup, _ = made
    freezer.restore(backup.id, folder / "data")
    before = {each: each.stat().st_mtime_ns for each in (folder / "data").rglob("*")}
    written = backup.facts["mysql"]["server"]
    for change in ({"version": "10.6.1-MariaDB"}, {"product": "MySQL", "version": "10.11.1"}):
        with pytest.raises(ConfigurationError, match=r"not of the version|is missing"):
            MysqlMode().verify_restored(str(folder / "data"), facts={"mysql": {"server": {**written, **change}}})
    assert {each: each.stat().st_mtime_ns for each in (folder / "data").rglob("*")} == before


HANGS = """\
#!/bin/sh
# Stands in for a mariadb-backup that does not get on while it holds up commits.
echo "Starting BACKUP STAGE BLOCK_COMMIT" >&2
echo data
exec sleep 3600
"""


def test_mariadb_backup_may_not_hold_up_commits_for_ever(
    made: tuple[Freezer, Backup, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    freezer, _, database = made
    (tmp_path / "mariadb-backup").write_text(HANGS)
    (tmp_path / "mariadb-backup").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    before = len(freezer.backups())
    with pytest.raises(SourceError, match="mariadb-backup"):
        freezer.backup(mode="mysql", mode_options=database.login("physical", lock_timeout=1))
    assert len(freezer.backups()) == before


def test_a_dry_run_stores_nothing(made: tuple[Freezer, Backup, Database]) -> None:
    freezer, _, database = made
    before = len(freezer.backups())
    for strategy in ("physical", "dump"):
        assert freezer.backup(mode="mysql", mode_options=database.login(strategy), dry_run=True).dry_run
    assert len(freezer.backups()) == before


def chunk(kind: bytes, path: bytes, data: bytes = b"") -> bytes:
    head = b"XBSTCK01" + bytes([0]) + kind + struct.pack("<I", len(path)) + path
    return head + (struct.pack("<QQI", len(data), 0, zlib.crc32(data)) + data if kind == b"P" else b"")


class Dribble(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(3)


def passed(pieces: Sequence[bytes], kind: type[io.BytesIO] = io.BytesIO) -> bytes:
    reader = CheckedArchive(kind(b"".join(pieces)))
    return b"".join(iter(lambda: reader.read(1000), b""))


@pytest.mark.parametrize("kind", [io.BytesIO, Dribble])
def test_an_archive_is_passed_on_as_it_is(kind: type[io.BytesIO]) -> None:
    good = [chunk(b"P", b"./shop/t.ibd", os.urandom(2000)), chunk(b"E", b"./shop/t.ibd"), chunk(b"P", b"a", b"")]
    assert passed(good, kind) == b"".join(good)


@pytest.mark.parametrize("path", [b"/etc/passwd", b"../x", b"a/../../x", b"./../x", b"a//b", b"a/\0", b".", b"a/"])
@pytest.mark.parametrize("kind", [b"P", b"E"])
def test_an_archive_that_leads_elsewhere(path: bytes, kind: bytes) -> None:
    with pytest.raises(UnsafePath):
        passed([chunk(b"P", b"fine", b"data"), chunk(kind, path)])


@pytest.mark.parametrize(
    "data",
    [b"x" * 50, chunk(b"Z", b"a"), chunk(b"P", b"a", b"data")[:-1], chunk(b"E", b"a")[:-1], chunk(b"P", b"a" * 5000)],
)
def test_what_is_no_archive(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        passed([data])
