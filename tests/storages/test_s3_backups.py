"""Backups in a bucket, from the command line and from Python."""

from __future__ import annotations

import uuid

import pytest
import trees
from cli.program import PASSWORD, Cli
from servers import start

from freezer_sdk import Freezer

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
