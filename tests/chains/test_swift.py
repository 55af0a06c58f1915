"""Levels in a real Swift lie as the original's agent puts them there."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import start
from swiftclient import client as swiftclient

from freezer_sdk import Freezer
from freezer_sdk.storages.swift import SwiftStorage

pytestmark = [pytest.mark.swift, pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")]

WRITTEN = Path(__file__).parents[3] / "shared" / "interop" / "swift-tar" / "objects" / "freezer_c1"
SEGMENT = 65_536


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    return start("swift")


@pytest.fixture
def raw(env: dict[str, str]) -> Iterator[Any]:
    """The account, by the client library alone."""
    url, token = swiftclient.get_auth(env["SWIFT_AUTH_URL"], env["SWIFT_USER"], env["SWIFT_KEY"], auth_version="1")
    connection = swiftclient.Connection(preauthurl=url, preauthtoken=token)
    yield connection
    connection.close()


def store(env: dict[str, str], container: str) -> SwiftStorage:
    login = {"os_auth_url": env["SWIFT_AUTH_URL"], "os_username": env["SWIFT_USER"], "os_password": env["SWIFT_KEY"]}
    return SwiftStorage(container=container, listing_lag=0.0, **login)


def opened(storage: SwiftStorage) -> Freezer:
    options = {"max_level": 2, "segment_size": SEGMENT}
    return Freezer(storage, create=True, engine="tar", encryption=False, engine_options=options)


def test_levels_are_large_objects_of_segments_in_the_same_container(
    env: dict[str, str], raw: Any, tmp_path: Path
) -> None:
    container = f"levels-{uuid.uuid4().hex[:12]}"
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(os.urandom(200_000))
    with store(env, container) as storage, opened(storage) as freezer:
        first = freezer.backup(source, name="sw", host="node1")
        (source / "b").write_bytes(b"b")
        second = freezer.backup(source, name="sw", host="node1")
        assert [first.level, second.level] == [0, 1]
        chain = f"tar/node1_sw/{int(first.time.timestamp())}"
        level = f"{chain}/0_{int(first.time.timestamp())}"
        names = [each["name"] for each in raw.get_container(container, full_listing=True)[1]]
        ours = [name for name in names if not name.startswith("freezer-sdk/")]
        assert [name for name in ours if level in name] == [
            f"data/{level}/data",
            f"data/{level}/engine_metadata",
            *(f"data/{level}/segments/{number:08}" for number in range(4)),
            f"metadata/{level}/metadata",
        ]
        headers, content = raw.get_object(container, f"data/{level}/data")
        assert headers["x-object-manifest"] == f"{container}/data/{level}/segments"
        segments = [raw.get_object(container, f"data/{level}/segments/{number:08}")[1] for number in range(4)]
        assert [len(each) for each in segments[:3]] == [SEGMENT] * 3
        assert content == b"".join(segments)
        assert freezer.verify(read_data=True).ok
        for backup, expected in ((first, {"a"}), (second, {"a", "b"})):
            freezer.restore(backup.id, tmp_path / backup.id)
            assert {path.name for path in (tmp_path / backup.id).iterdir()} == expected
        freezer.forget([second.id])
        assert not [name for name in (item.name for item in storage.list("data/")) if "/1_" in name]


@pytest.mark.skipif(not WRITTEN.exists(), reason="needs a store written by the real agent (../shared/interop)")
def test_a_chain_of_the_original_is_continued(env: dict[str, str], raw: Any, tmp_path: Path) -> None:
    container = "freezer_c1"  # the manifests name it
    raw.put_container(container)
    for path in WRITTEN.rglob("*.obj"):
        name = path.relative_to(WRITTEN).as_posix().removesuffix(".obj")
        headers = {}
        if name.endswith("/data"):
            headers["x-object-manifest"] = f"{container}/{name.removesuffix('data')}segments"
        raw.put_object(container, name, path.read_bytes(), headers=headers)
    source = tmp_path / "source"
    source.mkdir()
    (source / "new").write_bytes(b"new")
    try:
        with (
            store(env, container) as storage,
            Freezer(storage, engine="tar", engine_options={"max_level": 2}) as freezer,
        ):
            assert [backup.level for backup in freezer.backups()] == [0, 1]
            assert freezer.verify(read_data=True).ok
            backup = freezer.backup(source, name="sw", host="node1")
            assert backup.level == 2
            freezer.restore(backup.id, tmp_path / "out")
            assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    finally:
        for each in raw.get_container(container, full_listing=True)[1]:
            raw.delete_object(container, each["name"])
