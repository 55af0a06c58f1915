"""Backups in a bucket, from the command line and from Python."""

from __future__ import annotations

import os
import threading
import time
import uuid
from urllib.parse import urlsplit

import pytest
import trees
from cli.program import PASSWORD, Cli
from servers import start, stop
from tcp_proxy import TcpProxy

from freezer_sdk import Freezer, StorageError

pytestmark = pytest.mark.s3

SERVERS = ["seaweedfs", pytest.param("swift", marks=pytest.mark.swift)]


def url(env, bucket="backups"):
    return f"s3://{bucket}/{uuid.uuid4().hex}?endpoint={env['S3_ENDPOINT']}"


def settings(env):
    return {"access_key": env["S3_ACCESS"], "secret_key": env["S3_SECRET"], "create_bucket": True}


@pytest.mark.parametrize("service", SERVERS)
def test_from_python(service, tmp_path):
    env = start(service)
    trees.make_every_kind(tmp_path / "source")
    with Freezer(url(env), create=True, password=PASSWORD, storage_options=settings(env)) as freezer:
        assert freezer.backup(tmp_path / "source").status == "complete"
        backup = freezer.backup(tmp_path / "source")
        assert freezer.verify(read_data=True).problems == ()
        freezer.restore(backup.id, tmp_path / "target")
    trees.compare(tmp_path / "source", tmp_path / "target")


def test_from_the_command_line(tmp_path):
    """By URL, with the credentials where every S3 program looks for them; and by profile."""
    env = start("seaweedfs")
    trees.make_every_kind(tmp_path / "source")
    (tmp_path / "home/.aws").mkdir(parents=True)
    (tmp_path / "home/.aws/credentials").write_text(
        f"[default]\naws_access_key_id = {env['S3_ACCESS']}\naws_secret_access_key = {env['S3_SECRET']}\n"
    )
    cli = Cli(tmp_path / "home", {"FREEZER_PASSWORD": PASSWORD})
    place = f"{url(env)}&create_bucket=yes"
    cli("repository", "init", "--storage", place)
    made = cli("backup", "create", tmp_path / "source", "--storage", place, "-f", "json").json
    assert made["status"] == "complete"
    (tmp_path / "freezer.toml").write_text(f'[profiles.there]\nstorage = "{place}"\n')
    profile = ("--config", tmp_path / "freezer.toml", "--profile", "there")
    cli("backup", "verify", "--read-data", *profile)
    cli("backup", "restore", "latest", tmp_path / "target", *profile)
    trees.compare(tmp_path / "source", tmp_path / "target")


def large(folder, megabytes):
    folder.mkdir(exist_ok=True)
    for number in range(megabytes):
        (folder / f"file-{number}").write_bytes(os.urandom(1 << 20))


def wait_for_traffic(proxy, size):
    """Until so many more bytes were sent, or long enough."""
    goal, deadline = proxy.up + size, time.monotonic() + 30
    while proxy.up < goal and time.monotonic() < deadline:
        time.sleep(0.01)


def test_server_killed_and_restarted_in_mid_backup(tmp_path):
    """The run goes on where it was; the earlier backup and the new one are whole."""
    instance = f"killed-{os.getpid()}"
    try:
        env = start("seaweedfs", instance=instance)
        large(tmp_path / "source", 4)
        with TcpProxy("127.0.0.1", urlsplit(env["S3_ENDPOINT"]).port) as proxy:
            place = url({"S3_ENDPOINT": f"http://127.0.0.1:{proxy.port}"})
            with Freezer(place, create=True, password=PASSWORD, storage_options=settings(env)) as freezer:
                freezer.backup(tmp_path / "source")
                large(tmp_path / "source", 40)

                def away():
                    wait_for_traffic(proxy, 8 << 20)
                    stop("seaweedfs", instance=instance)
                    start("seaweedfs", instance=instance)

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
        stop("seaweedfs", instance=instance)


def test_server_that_does_not_come_back(tmp_path):
    """The run fails clearly and in time; what was there is whole."""
    env = start("seaweedfs")
    large(tmp_path / "source", 4)
    with TcpProxy("127.0.0.1", urlsplit(env["S3_ENDPOINT"]).port) as proxy:
        place = url({"S3_ENDPOINT": f"http://127.0.0.1:{proxy.port}"})
        patience = {**settings(env), "retry_time": 1.0}
        with Freezer(place, create=True, password=PASSWORD, storage_options=patience) as freezer:
            first = freezer.backup(tmp_path / "source")
            large(tmp_path / "source", 30)
            proxy.cut("reset", after=8 << 20, direction="up")
            started = time.monotonic()
            with pytest.raises(StorageError):
                freezer.backup(tmp_path / "source")
            assert time.monotonic() - started < 300
            proxy.heal()
            assert [backup.id for backup in freezer.backups()] == [first.id]
            assert freezer.verify(read_data=True).problems == ()
