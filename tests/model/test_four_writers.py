"""Four writers and a prune loop on one repository, on storages that people use."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model.soak import Soak
from servers import start

pytestmark = pytest.mark.slow


def local(folder: Path) -> tuple[str, dict[str, Any]]:
    return f"local:{folder / 'repository'}", {}


def swift(_folder: Path) -> tuple[str, dict[str, Any]]:
    env = start("swift")
    return f"swift:soak-{uuid.uuid4().hex[:8]}", {
        "os_auth_url": env["SWIFT_AUTH_URL"],
        "os_username": env["SWIFT_USER"],
        "os_password": env["SWIFT_KEY"],
        "os_identity_api_version": "1",
        "listing_lag": 0.0,  # one server for each kind of thing: listings miss nothing
    }


def sftp(folder: Path) -> tuple[str, dict[str, Any]]:
    env = start("sshd")
    where = f"sftp://{env['SSH_USER']}@127.0.0.1:{env['SSH_PORT']}{folder}/repository"
    return where, {"identity_file": f"{env['SSH_KEYS']}/ed25519", "host_key": env["SSH_FINGERPRINT"]}


def s3(_folder: Path) -> tuple[str, dict[str, Any]]:
    env = start("seaweedfs")
    return f"s3://soak-{uuid.uuid4().hex[:8]}", {
        "endpoint": env["S3_ENDPOINT"],
        "region": env["S3_REGION"],
        "access_key": env["S3_ACCESS"],
        "secret_key": env["S3_SECRET"],
        "create_bucket": True,
    }


def ftp(_folder: Path) -> tuple[str, dict[str, Any]]:
    env = start("vsftpd")
    login = f"{env['FTP_USER']}:{env['FTP_PASSWORD']}@127.0.0.1:{env['FTP_PORT']}"
    return f"ftp://{login}{env['FTP_PATH']}/soak-{uuid.uuid4().hex[:8]}", {}


@pytest.mark.parametrize(
    ("place", "seconds"),
    [
        pytest.param(local, 60, id="local"),
        pytest.param(swift, 60, id="swift", marks=pytest.mark.swift),
        pytest.param(sftp, 20, id="sftp", marks=pytest.mark.sshd),
        pytest.param(s3, 20, id="s3", marks=pytest.mark.s3),
        pytest.param(ftp, 20, id="ftp", marks=pytest.mark.ftp),
    ],
)
def test_everything_is_restored_and_space_comes_back(
    place: Callable[[Path], tuple[str, dict[str, Any]]], seconds: float, tmp_path: Path
) -> None:
    storage, options = place(tmp_path)
    soak = Soak(storage, options, tmp_path / "work")
    soak.run(seconds)
    print(soak)
    assert soak.backups > 3
    assert soak.prunes > 1
