"""Backups on an SSH server, from the command line and from Python; the server goes away in the middle."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
import trees
from cli.program import PASSWORD, Cli
from ssh_server import Sshd
from tcp_proxy import TcpProxy

from freezer_sdk import Freezer, StorageError, open_storage

pytestmark = pytest.mark.sshd


@pytest.fixture(scope="module")
def sshd():
    return Sshd.start()


@pytest.fixture
def source(tmp_path):
    trees.make_every_kind(tmp_path / "source")
    return tmp_path / "source"


@pytest.fixture
def cli(sshd, tmp_path):
    """The program with a home where ssh would log in at the server without a question."""
    home = tmp_path / "home"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh/known_hosts").write_text(Path(sshd.env["SSH_KNOWN_HOSTS"]).read_text())
    (home / ".ssh/config").write_text(f"Host *\n  IdentityFile {sshd.key()}\n")
    return Cli(home, {"FREEZER_PASSWORD": PASSWORD})


def test_from_the_command_line(cli, sshd, source, tmp_path):
    """By URL and by profile, all verbs of a backup's life."""
    url = f"sftp://{sshd.env['SSH_USER']}@127.0.0.1:{sshd.port}{tmp_path}/repository"
    storage = ("--storage", url)
    cli("repository", "init", *storage)
    made = cli("backup", "create", source, *storage, "-f", "json").json
    assert made["status"] == "complete"
    cli("backup", "verify", "--read-data", *storage)
    profile = tmp_path / "freezer.toml"
    profile.write_text(f'[profiles.there]\nstorage = "{url.replace("sftp:", "ssh:", 1)}"\n')
    by_profile = ("--config", profile, "--profile", "there")
    assert [backup["id"] for backup in cli("backup", "list", *by_profile, "-f", "json").json] == [made["id"]]
    cli("backup", "restore", "latest", tmp_path / "target", *by_profile)
    trees.compare(source, tmp_path / "target")


def options(sshd):
    keep_out = ("host", "port", "user", "path")
    return {name: value for name, value in sshd.options("/").items() if name not in keep_out}


def url(sshd, path, port=None):
    return f"sftp://{sshd.env['SSH_USER']}@127.0.0.1:{port or sshd.port}{path}"


def large(folder, megabytes):
    folder.mkdir(exist_ok=True)
    for number in range(megabytes):
        (folder / f"file-{number}").write_bytes(os.urandom(1 << 20))


def test_server_killed_and_restarted_in_mid_backup(tmp_path):
    """The run goes on where it was; the earlier backup and the new one are whole."""
    server = Sshd.start(f"backups-{os.getpid()}")
    try:
        large(tmp_path / "source", 4)
        path = tmp_path / "repository"
        settings = {**options(server), "timeout": 10.0}
        with Freezer(url(server, path), create=True, password=PASSWORD, storage_options=settings) as freezer:
            freezer.backup(tmp_path / "source")
            large(tmp_path / "source", 40)

            def away():
                before = sum(1 for _ in path.glob("packs/*/*"))
                deadline = time.monotonic() + 20
                while sum(1 for _ in path.glob("packs/*/*")) <= before and time.monotonic() < deadline:
                    time.sleep(0.01)
                server.stop()
                time.sleep(1)
                server.restart()

            killer = threading.Thread(target=away)
            killer.start()
            backup = freezer.backup(tmp_path / "source")
            killer.join()
            assert backup.status == "complete"
            assert len(list(freezer.backups())) == 2
            assert freezer.verify(read_data=True).problems == ()
            freezer.restore(backup.id, tmp_path / "target")
        trees.compare(tmp_path / "source", tmp_path / "target")
    finally:
        server.remove()


def test_server_that_does_not_come_back(sshd, tmp_path):
    """The run fails clearly and in time; what was there is whole."""
    large(tmp_path / "source", 4)
    path = tmp_path / "repository"
    settings = {**options(sshd), "retry_time": 1.0, "host_key": sshd.env["SSH_FINGERPRINT"]}
    with TcpProxy("127.0.0.1", sshd.port) as proxy:
        address = url(sshd, path, proxy.port)
        with Freezer(address, create=True, password=PASSWORD, storage_options=settings) as freezer:
            first = freezer.backup(tmp_path / "source")
            large(tmp_path / "source", 30)
            proxy.cut("reset", after=8 << 20, direction="up")
            started = time.monotonic()
            with pytest.raises(StorageError):
                freezer.backup(tmp_path / "source")
            assert time.monotonic() - started < 120
    with Freezer(url(sshd, path), password=PASSWORD, storage_options=options(sshd)) as freezer:
        assert [backup.id for backup in freezer.backups()] == [first.id]
        assert freezer.verify(read_data=True).problems == ()


def test_connections_that_drop_all_the_time(sshd, tmp_path):
    """Each one after a few MiB: nobody notices but by the time."""
    content = os.urandom(3 << 20)
    settings = {**options(sshd), "host_key": sshd.env["SSH_FINGERPRINT"]}
    with TcpProxy("127.0.0.1", sshd.port) as proxy:
        with open_storage(url(sshd, tmp_path / "store", proxy.port), options=settings) as storage:
            proxy.cut("reset", after=4 << 20)
            for number in range(8):
                storage.put(f"a/{number}", [content], if_absent=bool(number % 2))
            assert [info.name for info in storage.list()] == [f"a/{number}" for number in range(8)]
            assert all(storage.get(f"a/{number}") == content for number in range(8))
            storage.flush()
        assert proxy.connections > 8
