"""The example command lines of the original's README that make snapshots of LVM.

MySQL goes to Swift as there; starting that takes so long in a guest that the others go to a folder.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import servers
from agent.program import Agent
from lvm_volume import Group, new_group, run
from mariadb_server import PASSWORD, Database, Writer, reachable_folder
from mongo_server import MongoWriter, new_mongo

from freezer_sdk.modes.mysql.mode import MysqlMode
from freezer_sdk.snapshots.label import RUN

SERVICES = ("mariadb", "mongodb", "swift")
PAUSE = 0.05


@pytest.fixture
def swift() -> Iterator[dict[str, str]]:
    """Swift wants a file system that takes extended attributes of users, which the guest's memory does not."""
    with new_group("300M") as group:
        state = servers.state_root() / "swift"
        state.mkdir()
        run("mount", "--bind", group.new_volume("swift", size="250M"), state)
        yield servers.start("swift")
        servers.stop("swift")
        run("umount", state)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    home = tmp_path / "home"
    home.mkdir()
    return Agent(home)


def named(group: Group, name: str) -> Group:
    """The group under the name that the README gives it."""
    run("vgrename", group.name, name)
    group.name = name
    return group


def test_files(agent: Agent, tmp_path: Path) -> None:
    with new_group("2G") as group:
        home = named(group, "jenkins").new_volume("jenkins-home")
        (home / "jobs").mkdir()
        (home / "jobs/config.xml").write_text("<project/>")
        (home / "jobs/build.lock").touch()
        line = (
            "freezer-agent --lvm-srcvol /dev/jenkins/jenkins-home --lvm-dirmount /var/snapshot-backup "
            "--lvm-volgroup jenkins --path-to-backup /var/snapshot-backup "
            "--storage local --container freezer_jenkins-backup-prod "
            "--exclude *.lock --mode fs --backup-name jenkins-ops2"
        )
        assert agent.line(f"{line} --metadata-out -").json["path_to_backup"] == "/var/snapshot-backup"
        assert set(group.volumes()) == {"jenkins-home"}
        (home / "jobs/config.xml").write_text("<changed/>")
        short = (
            f"freezer-agent --path-to-backup {home} --snapshot --lvm-snapsize 80%FREE --max-level 3 "
            "--storage local --container freezer_jenkins-backup-prod "
            "--exclude *.lock --mode fs --backup-name jenkins-ops2"
        )
        assert agent.line(f"{short} --metadata-out -").json["curr_backup_level"] == 1
        assert set(group.volumes()) == {"jenkins-home"}
    restored = tmp_path / "restored"
    agent.line(
        "freezer-agent --action restore --storage local --container freezer_jenkins-backup-prod "
        f"--restore-abs-path {restored} --backup-name jenkins-ops2"
    )
    assert (restored / "jobs/config.xml").read_text() == "<changed/>"
    assert not (restored / "jobs/build.lock").exists()


def test_mysql_to_swift(agent: Agent, swift: dict[str, str], record_property: Callable[[str, str], None]) -> None:
    agent.env |= {"ST_AUTH": swift["SWIFT_AUTH_URL"], "ST_USER": swift["SWIFT_USER"], "ST_KEY": swift["SWIFT_KEY"]}
    agent.env["ST_AUTH_VERSION"] = "1"
    with new_group("2G") as group:
        data = named(group, "mysqlvg").new_volume("mysqlvol", size="300M")
        group.folder.chmod(0o755)  # for the server's user
        database = Database(servers.start("mariadb", MARIADB_DATA=str(data)))
        file = agent.home / ".freezer/freezer-mysql.conf"
        file.parent.mkdir()
        file.touch(0o600)
        user = database.account("snapshot")
        file.write_text(f"[default]\nhost = 127.0.0.1\nport = {database.port}\nuser = {user}\npassword = {PASSWORD}\n")
        line = (
            "freezer-agent --lvm-srcvol /dev/mysqlvg/mysqlvol --lvm-dirmount /var/snapshot-backup "
            f"--lvm-volgroup mysqlvg --path-to-backup /var/snapshot-backup --mysql-conf {file} "
            "--container freezer_mysql-backup-prod --mode mysql --backup-name mysql-ops002"
        )
        database.rows("CREATE DATABASE d")
        database.rows("CREATE TABLE d.t (i INT PRIMARY KEY, filling VARCHAR(200)) ENGINE=InnoDB")
        with Writer(database, "d", pause=PAUSE) as writer:
            before = writer.acknowledged
            agent.process(*line.split()[1:])
            after = writer.acknowledged
            assert writer.goes_on()
        servers.stop("mariadb")
        assert set(group.volumes()) == {"mysqlvol"}
    with reachable_folder() as folder:
        agent.line(
            f"freezer-agent --action restore --container freezer_mysql-backup-prod --backup-name mysql-ops002 "
            f"--restore-abs-path {folder}/new"
        )
        assert not (folder / "new/lost+found").exists()
        query = "SELECT COUNT(*), MAX(i) FROM d.t"
        (((count, last),),) = MysqlMode().verify_restored(f"{folder}/new", facts={}, queries=[query])["queries"]
    assert count == last
    assert before <= last <= after + 1
    record_property("figure", f"{last} rows in a backup that began after {before} and ended after {after}")


def test_mongo(agent: Agent, tmp_path: Path) -> None:
    with new_group("2G") as group:
        volume = named(group, "mongo").new_volume("mongolv", size="300M")
        with new_mongo("agent", data=volume / "mongod_ops2") as server:
            file = agent.home / "mongo.conf"
            file.touch(0o600)
            file.write_text(f"[default]\nport = {server.port}\nuser = root\npassword = {server.password}\n")
            line = (
                "freezer-agent --lvm-srcvol /dev/mongo/mongolv --lvm-dirmount /var/lib/snapshot-backup "
                "--lvm-volgroup mongo --path-to-backup /var/lib/snapshot-backup/mongod_ops2 "
                "--storage local --container freezer_mongodb-backup-prod "
                "--exclude *.lock --mode mongo --backup-name mongod-ops2"
            )
            with server.database() as name, MongoWriter(server, name, pause=PAUSE) as writer:
                before = writer.acknowledged
                agent.process(*line.split()[1:], "--mongo-conf", file)
                after = writer.acknowledged
            assert set(group.volumes()) == {"mongolv"}
        restored = tmp_path / "mongo"
        agent.line(
            "freezer-agent --action restore --storage local --container freezer_mongodb-backup-prod "
            f"--backup-name mongod-ops2 --restore-abs-path {restored}"
        )
        with new_mongo("restored", data=restored) as server, server.client() as client:
            numbers = sorted(each["_id"] for each in client[name].t.find({}, {"_id": True}))
    assert numbers == list(range(1, len(numbers) + 1))
    assert before <= len(numbers) <= after + 1


def test_a_killed_agent_leaves_a_database_unlocked_and_what_reap_removes(agent: Agent) -> None:
    with new_group("2G") as group:
        data = group.new_volume(size="300M")
        database = Database(servers.start("mariadb", MARIADB_DATA=str(data)))
        folder = agent.home / "bin"
        folder.mkdir()
        program = folder / "lvcreate"
        program.write_text(f'#!/bin/sh\n{run("sh", "-c", "command -v lvcreate").strip()} "$@"\nkill -KILL $PPID\n')
        program.chmod(0o755)
        user = database.account("snapshot")
        file = agent.home / "mysql.conf"
        file.touch(0o600)
        file.write_text(f"user = {user}\npassword = {PASSWORD}\nsocket = {database.socket}\n")  # without a section
        line = f"--snapshot --lvm-snapsize 200M --mode mysql --path-to-backup {data} --mysql-conf {file}"
        path = f"{folder}:{os.environ['PATH']}"
        with database.table() as name, Writer(database, name, pause=PAUSE) as writer:
            agent.process(*line.split(), "--storage", "local", "-C", "store", code=-9, env={"PATH": path})
            assert writer.goes_on()
        assert len(group.volumes()) == 2
        reaped = subprocess.run(["freezer", "snapshot", "reap"], capture_output=True, text=True, check=False)
        assert reaped.returncode == 0, reaped.stderr
        assert set(group.volumes()) == {"data"}
        assert list(RUN.iterdir()) == []
        servers.stop("mariadb")
