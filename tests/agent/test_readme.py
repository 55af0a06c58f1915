"""The examples of the original's README and user guide, of both generations, on paths of the test's own."""

from __future__ import annotations

import configparser
import shutil
import socket
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from agent.program import Agent
from agent.store import contents
from servers import start
from ssh_server import Sshd

PROGRAMS = pytest.mark.parametrize("program", ["freezerc", "freezer-agent"])
PATH_OPTION = {"freezerc": "--file-to-backup", "freezer-agent": "--path-to-backup"}
HOST_OPTION = {"freezerc": "--restore-from-host", "freezer-agent": "--hostname"}


def there_and_back(agent: Agent, lines: list[str], places: Mapping[str, Path], tmp_path: Path) -> None:
    """A backup and its restore: the restore of the example goes where the source was."""
    source = places["/data/dir/to/backup"]
    before = contents(source)
    for number, line in enumerate(lines):
        if number:
            shutil.move(source, tmp_path / "moved-away")
        for example, real in places.items():
            line = line.replace(example, str(real))
        agent.line(line)
    assert contents(source) == before


@PROGRAMS
def test_local_storage(agent: Agent, program: str, tree: Path, tmp_path: Path) -> None:
    lines = [
        f"{program} {PATH_OPTION[program]} /data/dir/to/backup "
        "--container /tmp/my_backup_path/ --backup-name my-backup-name --storage local",
        f"{program} --action restore --restore-abs-path /data/dir/to/backup "
        "--container /tmp/my_backup_path/ --backup-name my-backup-name --storage local",
    ]
    there_and_back(agent, lines, {"/data/dir/to/backup": tree, "/tmp/my_backup_path/": tmp_path / "store"}, tmp_path)


@pytest.mark.sshd
@PROGRAMS
def test_ssh_storage(agent: Agent, program: str, tree: Path, tmp_path: Path) -> None:
    server = Sshd.start()
    login = f"--ssh-username {server.env['SSH_USER']} --ssh-key {server.key()} --ssh-host {server.env['SSH_HOST']}"
    lines = [
        f"{program} {PATH_OPTION[program]} /data/dir/to/backup --container /remote-machine-path/ "
        f"--backup-name my-backup-name --storage ssh {login} --ssh-port {server.port}",
        f"{program} --action restore --restore-abs-pat /data/dir/to/backup --container /remote-machine-path/ "
        f"--backup-name my-backup-name --storage ssh {login} --ssh-port {server.port}",
    ]
    places = {"/data/dir/to/backup": tree, "/remote-machine-path/": tmp_path / "remote"}
    first = lines[0]
    for example, real in places.items():
        first = first.replace(example, str(real))
    assert "host key" in agent.line(first, code=1).err  # the original would have taken any
    known = agent.home / ".ssh" / "known_hosts"
    known.parent.mkdir(mode=0o700)
    shutil.copy(server.env["SSH_KNOWN_HOSTS"], known)
    there_and_back(agent, lines, places, tmp_path)


@pytest.fixture
def swift(agent: Agent) -> str:
    """A login in the environment, and a container."""
    env = start("swift")
    agent.env |= {"ST_AUTH": env["SWIFT_AUTH_URL"], "ST_USER": env["SWIFT_USER"], "ST_KEY": env["SWIFT_KEY"]}
    agent.env["ST_AUTH_VERSION"] = "1"
    return f"container-{uuid.uuid4().hex[:12]}"


@pytest.mark.swift
@pytest.mark.parametrize(("program", "storage"), [("freezerc", ""), ("freezer-agent", "--storage swift")])
def test_swift_storage(agent: Agent, program: str, storage: str, swift: str, tree: Path, tmp_path: Path) -> None:
    lines = [
        f"{program} {PATH_OPTION[program]} /data/dir/to/backup --container {swift} "
        f"--backup-name my-backup-name {storage}",
        f"{program} --action restore --restore-abs-path /data/dir/to/backup --container {swift} "
        f"--backup-name my-backup-name {storage}",
    ]
    there_and_back(agent, lines, {"/data/dir/to/backup": tree}, tmp_path)


@pytest.mark.swift
def test_containers_with_the_prefix_of_early_agents(agent: Agent, swift: str, tree: Path, tmp_path: Path) -> None:
    agent.line(f"freezerc --file-to-backup {tree} --container freezer_{swift} --backup-name b")
    line = f"freezerc --action restore --restore-abs-path {tmp_path / 'out'} --container {swift} --backup-name b"
    assert f"freezer_{swift}" in agent.line(line).err
    assert contents(tmp_path / "out") == contents(tree)
    listed = agent.line(f"freezerc --action info --container {swift} --metadata-out -").json["containers"]
    assert [each["container_name"] for each in listed] == [f"freezer_{swift}"]


@pytest.mark.s3
def test_s3_storage(agent: Agent, tree: Path, tmp_path: Path) -> None:
    env = start("seaweedfs")
    agent.env |= {"ACCESS_KEY": env["S3_ACCESS"], "SECRET_KEY": env["S3_SECRET"], "ENDPOINT": env["S3_ENDPOINT"]}
    agent.env["AWS_DEFAULT_REGION"] = env["S3_REGION"]
    bucket = f"freezer-container-{uuid.uuid4().hex[:8]}"
    lines = [
        "freezer-agent --path-to-backup /data/dir/to/backup "
        f"--container {bucket} --backup-name my-backup-name --storage s3",
        "freezer-agent --action restore --restore-abs-path /data/dir/to/backup "
        f"--container {bucket} --backup-name my-backup-name --storage s3",
    ]
    there_and_back(agent, lines, {"/data/dir/to/backup": tree}, tmp_path)


@pytest.mark.ftp
@pytest.mark.parametrize("kind", ["ftp", "ftps"])
def test_ftp_storage(agent: Agent, tree: Path, tmp_path: Path, kind: str) -> None:
    env = start("pyftpdlib")
    port = env["FTPS_PORT" if kind == "ftps" else "FTP_PORT"]
    ini = tmp_path / "ftp.ini"
    ini.write_text(
        f"[default]\nstorage = {kind}\nftp_host = 127.0.0.1\nftp_port = {port}\nftp_username = {env['FTP_USER']}\n"
    )
    with ini.open("a") as file:
        file.write(f"ftp_password = {env['FTP_PASSWORD']}\ninsecure = {kind == 'ftps'}\n")
    ini.chmod(0o600)
    place = f"--config {ini} --container agent-{uuid.uuid4().hex[:8]} --backup-name b"
    before = contents(tree)
    for level in range(2):
        (tree / f"new{level}").write_text("new")
        before = contents(tree)
        said = agent.line(f"freezer-agent --path-to-backup {tree} {place} --max-level 2 --metadata-out -")
        assert said.json["curr_backup_level"] == level
    agent.line(f"freezer-agent --action restore --restore-abs-path {tmp_path / 'out'} {place}")
    assert contents(tmp_path / "out") == before


@PROGRAMS
def test_restores_of_another_host_and_a_date(agent: Agent, program: str, tree: Path, tmp_path: Path) -> None:
    store, target = tmp_path / "local_backup_storage", tmp_path / "repositories" / "adminui.git"
    for name, host in (("adminui.git", "git-HP-DL380-host-001"), ("mysq-prod", "db-HP-DL380-host-001")):
        agent.line(f"{program} -F {tree} --storage local -C {store}/ --backup-name {name} --hostname {host}")
        date = f"{datetime.now() + timedelta(seconds=2):%Y-%m-%dT%H:%M:%S}+00:00"
        target = tmp_path / name
        result = agent.line(
            f"{program} --action restore --container {store}/ --backup-name {name} {HOST_OPTION[program]} {host} "
            f"--restore-abs-path {target}/ --restore-from-date {date} --storage local",
        )
        assert "restoring what was backed up until" in result.err
        assert contents(target) == contents(tree)


def test_the_name_of_the_log(agent: Agent, tree: Path, tmp_path: Path) -> None:
    agent.line(
        f"freezerc --action backup --mode fs --backup-name testwindows --path-to-backup {tree} "
        f"--container {tmp_path / 'freezer_windows'} --log-file {tmp_path / 'path' / 'to' / 'freezer.log'} "
        "--storage local"
    )
    assert (tmp_path / "path" / "to" / "freezer.log").is_file()


@PROGRAMS
def test_administration(agent: Agent, program: str, tree: Path, tmp_path: Path) -> None:
    store = tmp_path / "freezer_dev-test"
    place = f"--container {store} --backup-name dev-test-01 --storage local"
    agent.line(f"{program} -F {tree} {place}")
    agent.line(f"{program} --action admin {place} --remove-older-then 1")
    agent.line(f"{program} --action admin {place} --remove-older-than 1")
    agent.line(f"{program} --action admin {place} --remove-before-date 2016-07-11T00:00:00")
    listed = agent.line(f"{program} --action info {place} -l")
    assert "dev-test-01" in listed.out
    assert listed.err.count("warning") == 1
    assert "dev-test-01" in agent.line(f"{program} --action info {place} -L").out


PARALLEL = """
[default]
action = backup
mode = fs
path_to_backup = {source}
backup_name = mytest6
always_level = 2
max_segment_size = 67108864
container = {unused}
storage = local

[storage:first]
storage=local
container = {first}

[storage:second]
storage=local
container = {second}
"""


def test_the_file_for_parallel_backups(agent: Agent, tree: Path, tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("first", "second", "unused")}
    file = tmp_path / "backup.ini"
    file.write_text(PARALLEL.format(source=tree, **places))
    assert configparser.ConfigParser().read(file)
    levels = []
    for _ in range(4):
        levels.append(agent("--config", file, "--metadata-out", "-").json["curr_backup_level"])
    assert levels == [0, 1, 2, 2]
    assert not places["unused"].exists()
    for name in ("first", "second"):
        arguments = ("--storage", "local", "--container", places[name], "--backup-name", "mytest6")
        agent("--action", "restore", "--restore-abs-path", tmp_path / f"out-{name}", *arguments)
        assert contents(tmp_path / f"out-{name}") == contents(tree)
        series = places[name] / "metadata" / "tar" / f"{socket.gethostname()}_mytest6"
        assert len(list(series.iterdir())) == 1


LATER = [
    "--cinder-vol-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--mode cinder --cinder-vol-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--mysql-conf /etc/freezer/freezer-mysql.conf --container freezer_mysql-backup-prod --mode mysql --backup-name "
    "mysql-ops002 --cinder-vol-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--nova-inst-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--mode nova --nova-inst-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--action restore --cinder-inst-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--action restore --cinder-vol-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--action restore --cindernative-vol-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
    "--action restore --nova-inst-id 3ad7a62f-217a-48cd-a861-43ec0a04a78b",
]


@PROGRAMS
@pytest.mark.parametrize("line", LATER)
def test_what_comes_later_is_refused_with_advice(agent: Agent, program: str, line: str) -> None:
    result = agent.line(f"{program} {line}", code=2)
    assert "not in this version" in result.err
    assert "hint:" in result.err
