"""A tree of every kind of entry to each kind of server and back, from the command line, by URL and by profile."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trees
from cli.program import PASSWORD, Cli
from servers import start


class Place(NamedTuple):
    """A storage as a user writes it down: its URL, options, and what the environment says."""

    url: str
    options: dict[str, str]
    env: dict[str, str]


def sftp(folder: Path) -> Place:
    env = start("sshd")
    options = {"identity-file": f"{env['SSH_KEYS']}/ed25519", "host-key": env["SSH_FINGERPRINT"]}
    return Place(f"sftp://{env['SSH_USER']}@127.0.0.1:{env['SSH_PORT']}{folder}/over%20there", options, {})


def swift(_folder: Path) -> Place:
    env = start("swift")
    login = {"ST_AUTH": env["SWIFT_AUTH_URL"], "ST_USER": env["SWIFT_USER"], "ST_KEY": env["SWIFT_KEY"]}
    return Place(f"swift:every-{uuid.uuid4().hex}/a/b", {"timeout": "60s"}, {**login, "ST_AUTH_VERSION": "1"})


def keystone(_folder: Path) -> Place:
    start("keystone")
    env = start("swift", instance="keystone", SWIFT_AUTH="keystone")
    login = {name: value for name, value in env.items() if name.startswith("OS_") and "CREDENTIAL" not in name}
    return Place(f"swift:every-{uuid.uuid4().hex}", {"timeout": "60s"}, login)


def s3(service: str) -> Callable[[Path], Place]:
    def place(_folder: Path) -> Place:
        env = start(service)
        keys = {"AWS_ACCESS_KEY_ID": env["S3_ACCESS"], "AWS_SECRET_ACCESS_KEY": env["S3_SECRET"]}
        options = {"endpoint": env["S3_ENDPOINT"], "region": env["S3_REGION"], "create-bucket": "yes"}
        return Place(f"s3://every-{uuid.uuid4().hex}/a/b", options, keys)

    return place


def ftp(scheme: str) -> Callable[[Path], Place]:
    def place(_folder: Path) -> Place:
        env = start("vsftpd")
        port = env["FTPS_PORT" if scheme == "ftps" else "FTP_PORT"]
        where = f"{env['FTP_USER']}:{env['FTP_PASSWORD']}@127.0.0.1:{port}{env['FTP_PATH']}/{uuid.uuid4().hex}"
        return Place(f"{scheme}://{where}", {"ca-file": env["FTP_CA"]} if scheme == "ftps" else {}, {})

    return place


EVERY = [
    pytest.param(lambda folder: Place(f"local:{folder}/over there", {}, {}), id="local"),
    pytest.param(sftp, id="sftp", marks=pytest.mark.sshd),
    pytest.param(swift, id="swift", marks=pytest.mark.swift),
    pytest.param(keystone, id="swift with keystone", marks=pytest.mark.keystone),
    pytest.param(s3("seaweedfs"), id="s3 seaweedfs", marks=pytest.mark.s3),
    pytest.param(s3("swift"), id="s3 swift", marks=[pytest.mark.s3, pytest.mark.swift]),
    pytest.param(ftp("ftp"), id="ftp", marks=pytest.mark.ftp),
    pytest.param(ftp("ftps"), id="ftps", marks=pytest.mark.ftp),
]


@pytest.mark.parametrize("where", EVERY)
def test_there_and_back(where: Callable[[Path], Place], tmp_path: Path) -> None:
    place = where(tmp_path)
    trees.make_every_kind(tmp_path / "source")
    (tmp_path / "home").mkdir()
    cli = Cli(tmp_path / "home", {"FREEZER_PASSWORD": PASSWORD, **place.env})
    by_url = ["--storage", place.url]
    for name, value in place.options.items():
        by_url += ["--storage-option", f"{name}={value}"]
    cli("repository", "init", *by_url)
    made = cli("backup", "create", tmp_path / "source", *by_url, "-f", "json").json
    assert made["status"] == "complete"
    cli("backup", "restore", made["id"], tmp_path / "by-url", *by_url)

    lines = [f'{name} = "{value}"' for name, value in place.options.items()]
    table = "\n".join(["[profiles.there]", f'storage = "{place.url}"', "[profiles.there.storage-options]", *lines, ""])
    config = tmp_path / "freezer.toml"
    config.write_text(table)
    config.chmod(0o600)
    by_profile = ("--config", config, "--profile", "there")
    cli("backup", "verify", "--read-data", *by_profile)
    cli("backup", "restore", "latest", tmp_path / "by-profile", *by_profile)
    for restored in ("by-url", "by-profile"):
        trees.compare(tmp_path / "source", tmp_path / restored)


@pytest.mark.parametrize("where", EVERY)
def test_levels_there_and_back(where: Callable[[Path], Place], tmp_path: Path) -> None:
    place, source = where(tmp_path), tmp_path / "source"
    trees.make_every_kind(source)
    for unknown_to_tar in ("socket", "fifo-too"):  # sockets, and hard links of what is no file
        (source / "special" / unknown_to_tar).unlink(missing_ok=True)
    (tmp_path / "home").mkdir()
    cli = Cli(tmp_path / "home", {"FREEZER_PASSWORD": PASSWORD, **place.env})
    store = ["--storage", place.url, "--engine", "tar"]
    lag = {"listing-lag": "0.5"} if place.url.startswith("swift:") else {}  # of a Swift of one node
    for name, value in {**place.options, **lag}.items():
        store += ["--storage-option", f"{name}={value}"]
    cli("repository", "init", *store)
    create = ["backup", "create", source, *store, "--max-level", "6", "--segment-size", "100K", "-f", "json"]
    levels = [cli(*create).json]
    (source / "files" / "small").write_bytes(b"changed\n")
    (source / "files" / "empty").unlink()
    levels.append(cli(*create).json)
    assert [backup["level"] for backup in levels] == [0, 1]
    assert [backup["status"] for backup in levels] == ["complete", "complete"]
    cli("backup", "verify", "--read-data", *store)
    cli("backup", "restore", levels[1]["id"], tmp_path / "newest", *store)
    trees.compare(source, tmp_path / "newest")
    cli("backup", "restore", levels[0]["id"], tmp_path / "oldest", *store)
    assert (tmp_path / "oldest" / "files" / "small").read_bytes() == b"hello\n"
