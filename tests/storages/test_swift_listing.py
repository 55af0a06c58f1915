"""Listings of Swift containers: longer than a page, and with whatever other programs store."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest
from servers import start

from freezer_sdk.storages.swift import SwiftStorage

pytestmark = pytest.mark.swift

FILL = Path(__file__).parent.parent / "services" / "swift" / "fill.py"


@pytest.fixture(scope="module")
def env():
    return start("swift")


@pytest.fixture
def container():
    return f"listing-{uuid.uuid4().hex[:12]}"


def make(env, container, **options):
    login = {"os_auth_url": env["SWIFT_AUTH_URL"], "os_username": env["SWIFT_USER"], "os_password": env["SWIFT_KEY"]}
    return SwiftStorage(container=container, listing_lag=0, **login, **options)


def test_more_than_a_page(env, container):
    """Swift gives 10,000 names at most."""
    with make(env, container) as storage:
        storage.put("first", [b"x"])
        subprocess.run(
            [env["SWIFT_PYTHON"], FILL, env["SWIFT_ETC"], env["SWIFT_DISK"], "AUTH_test", container, "10001"],
            check=True,
            timeout=120,
        )
        names = [f"many/{number:05}" for number in range(10_001)]
        assert [info.name for info in storage.list()] == ["first", *names]
        assert [info.name for info in storage.list("many/0")] == names[:10_000]
        assert [info.name for info in storage.list(delimiter="/")] == ["first", "many/"]
    with make(env, container, prefix="many") as storage:
        assert sum(info.size for info in storage.list()) == 7 * 10_001


def test_what_cannot_be_named_is_not_listed(env, container):
    """Markers of folders, as other programs make them, and the prefix's own."""
    import swiftclient

    with make(env, container, prefix="mine") as storage, make(env, container) as whole:
        storage.put("a/b", [b"x"])
        client = swiftclient.Connection(env["SWIFT_AUTH_URL"], env["SWIFT_USER"], env["SWIFT_KEY"], auth_version="1")
        for marker in ("mine/", "mine/a/", "mine/empty/", "mine//b", "mine-too"):
            client.put_object(container, marker, b"", content_type="application/directory")
        client.close()
        assert [info.name for info in storage.list()] == ["a/b"]
        assert [info.name for info in storage.list(delimiter="/")] == ["a/", "empty/"]
        assert [info.name for info in whole.list()] == ["mine-too", "mine/a/b"]
        assert [info.name for info in whole.list("mine")] == ["mine-too", "mine/a/b"]


def test_no_container_is_an_empty_one(env, container):
    with make(env, container) as storage:
        assert list(storage.list()) == []
        storage.delete("a")
        storage.delete_many(["a", "b"])
        storage.now()
