"""Four writers and a prune loop on one repository, on storages that people use."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from model.soak import Soak
from servers import start


@pytest.mark.slow
def test_local(tmp_path: Path) -> None:
    soak = Soak(f"local:{tmp_path / 'repository'}", {}, tmp_path / "work")
    soak.run(10)
    print(soak)
    assert soak.backups > 10
    assert soak.prunes > 2


@pytest.mark.slow
@pytest.mark.swift
def test_swift(tmp_path: Path) -> None:
    env = start("swift")
    options = {
        "os_auth_url": env["SWIFT_AUTH_URL"],
        "os_username": env["SWIFT_USER"],
        "os_password": env["SWIFT_KEY"],
        "os_identity_api_version": "1",
        "listing_lag": 0.0,  # one server for each kind of thing: listings miss nothing
    }
    soak = Soak(f"swift:soak-{uuid.uuid4().hex[:8]}", options, tmp_path / "work")
    soak.run(15)
    print(soak)
    assert soak.backups > 3
    assert soak.prunes > 1
