"""Dynamic large objects in a real Swift: as the original writes them, and what becomes of them when something fails."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import pytest
from servers import start
from swiftclient import client as swiftclient

from freezer_sdk import Freezer, open_storage
from freezer_sdk.errors import ObjectNotFound, StorageError, StorageUnavailable
from freezer_sdk.storages.swift import SwiftStorage
from freezer_sdk.testing import Fault, FaultyStorage, fail

pytestmark = pytest.mark.swift

LEVEL = "data/tar/node1_sw/1795407940/0_1795407940"
WRITTEN = Path(__file__).parents[3] / "shared/interop/swift-tar/objects/freezer_c1" / LEVEL
CONTENT = bytes(range(256)) * 1000
CUT = StorageUnavailable("the cable is cut")


@pytest.fixture(scope="module")
def env():
    return start("swift")


@pytest.fixture
def container():
    return f"joined-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def storage(env, container):
    login = {"os_auth_url": env["SWIFT_AUTH_URL"], "os_username": env["SWIFT_USER"], "os_password": env["SWIFT_KEY"]}
    with SwiftStorage(container=container, listing_lag=0.0, **login) as storage:
        yield storage


@pytest.fixture
def raw(env):
    """The account, by the client library alone."""
    url, token = swiftclient.get_auth(env["SWIFT_AUTH_URL"], env["SWIFT_USER"], env["SWIFT_KEY"], auth_version="1")
    connection = swiftclient.Connection(preauthurl=url, preauthtoken=token)
    yield connection
    connection.close()


def names(storage):
    return [info.name for info in storage.list()]


def store(storage, level=LEVEL, size=65_536, content=CONTENT):
    with storage.upload_segmented(f"{level}/data", segments=f"{level}/segments", size=size) as upload:
        upload.write(content)
        return upload.commit()


def test_objects_and_headers_are_those_of_the_original(storage, raw, container):
    if not WRITTEN.exists():
        pytest.skip("needs ../shared/interop")
    theirs = {path.name.removesuffix(".headers.json"): json.loads(path.read_text()) for path in WRITTEN.glob("data.h*")}
    segments = sorted(path.name.removesuffix(".obj") for path in (WRITTEN / "segments").glob("*.obj"))
    content = b"".join((WRITTEN / "segments" / f"{name}.obj").read_bytes() for name in segments)
    store(storage, content=content)
    assert names(storage) == [f"{LEVEL}/data", *(f"{LEVEL}/segments/{name}" for name in segments)]
    for name in segments:
        headers, body = raw.get_object(container, f"{LEVEL}/segments/{name}")
        assert body == (WRITTEN / "segments" / f"{name}.obj").read_bytes()
        assert headers["content-type"] == "application/octet-stream"
    headers, body = raw.get_object(container, f"{LEVEL}/data", query_string="multipart-manifest=get")
    assert body == b""
    assert headers["x-object-manifest"] == theirs["data"]["x-object-manifest"].replace("freezer_c1", container)
    assert raw.get_object(container, f"{LEVEL}/data")[1] == content


def test_what_the_original_wrote_is_read(storage, raw, container):
    raw.put_container(container)
    for number in range(12):
        raw.put_object(container, f"{LEVEL}/segments/{number:08}", CONTENT[:1000] + b"%d" % number)
    raw.put_object(container, f"{LEVEL}/data", b"", headers={"x-object-manifest": f"{container}/{LEVEL}/segments"})
    expected = b"".join(CONTENT[:1000] + b"%d" % number for number in range(12))
    assert storage.get(f"{LEVEL}/data") == expected
    assert storage.stat(f"{LEVEL}/data").size == len(expected)
    assert storage.get(f"{LEVEL}/data", offset=-3) == expected[-3:]


@pytest.mark.parametrize("name", ["a b", "ä%20{x}", "quote'\"", "line\nend?#&+"])
def test_names_are_quoted_where_swift_asks_for_it(storage, name):
    assert store(storage, f"data/tar/{name}").size == len(CONTENT)
    assert storage.get(f"data/tar/{name}/data") == CONTENT


def test_a_prefix_is_part_of_both_names(env, container, storage):
    login = {"os_auth_url": env["SWIFT_AUTH_URL"], "os_username": env["SWIFT_USER"], "os_password": env["SWIFT_KEY"]}
    with SwiftStorage(container=container, prefix="deep er", listing_lag=0.0, **login) as below:
        store(below, "x")
        assert below.get("x/data") == CONTENT
    assert names(storage)[0] == "deep er/x/data"


def test_a_listing_says_nothing_wrong_of_the_content(storage):
    store(storage)
    assert next(storage.list(f"{LEVEL}/data")).checksum is None
    assert storage.stat(f"{LEVEL}/data").checksum is None


@pytest.mark.parametrize(("method", "at"), [("put", 1), ("put", 3), ("join", 1), ("list", 2)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_an_upload_that_fails_leaves_nothing(storage, method, at, when):
    faulty = FaultyStorage(storage, Fault(fail(CUT), methods={method}, at=at, when=when))
    with pytest.raises(StorageUnavailable, match="cable"):
        store(faulty)
    assert names(storage) == []
    with pytest.raises(ObjectNotFound):
        storage.stat(f"{LEVEL}/data")


def test_segments_stay_when_what_joins_them_cannot_be_taken_back(storage):
    """Else there would be an object that reads short."""
    faulty = FaultyStorage(
        storage, Fault(fail(CUT), methods={"join"}, when="after"), Fault(fail(CUT), methods={"delete"}, times=None)
    )
    with pytest.raises(StorageUnavailable):
        store(faulty)
    assert storage.get(f"{LEVEL}/data") == CONTENT


def test_a_segment_of_somebody_else_is_noticed(storage):
    with storage.upload_segmented(f"{LEVEL}/data", segments=f"{LEVEL}/segments", size=50_000) as upload:
        upload.write(CONTENT)
        storage.put(f"{LEVEL}/segments/99999999", [b"late"])
        with pytest.raises(StorageError, match="somebody else"):
            upload.commit()
    assert names(storage) == [f"{LEVEL}/segments/99999999"]


def test_segments_are_sent_again(env, container):
    """Each is a put: whoever opens a storage repeats it."""
    options = {"os_auth_url": env["SWIFT_AUTH_URL"], "os_username": env["SWIFT_USER"], "os_password": env["SWIFT_KEY"]}
    with open_storage(f"swift:{container}", options={**options, "listing_lag": 0.0}) as storage:
        inner = storage.inner
        faulty = FaultyStorage(
            inner, Fault(fail(CUT), methods={"put"}, at=2), Fault(fail(CUT), methods={"join"}, when="after")
        )
        storage._storage = faulty
        store(storage)
        assert storage.get(f"{LEVEL}/data") == CONTENT
        calls = [call for call in faulty.calls if call.method == "put"]
        assert len(calls) == len(CONTENT) // 65_536 + 2


@pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")
@pytest.mark.parametrize("password", [None, "correct horse"])
def test_backups_in_levels(storage, raw, container, tmp_path, password):
    """The engine writes the original's objects, restores them, and leaves none when it forgets."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "first").write_bytes(os.urandom(200_000))
    options = {"strategy": "incremental", "segment_size": 65_536}
    with Freezer(
        storage, create=True, engine="tar", password=password, encryption=password is not None, engine_options=options
    ) as freezer:
        full = freezer.backup(tree, name="sw", host="node1")
        (tree / "second").write_bytes(os.urandom(100_000))
        increment = freezer.backup(tree, name="sw", host="node1")
        found = [name for name in names(storage) if "/segments/" in name]
        assert {name.rpartition("/")[2] for name in found} >= {f"{number:08}" for number in range(4)}
        headers = raw.head_object(container, found[0].rpartition("/segments/")[0] + "/data")
        assert headers["x-object-manifest"] == f"{container}/{found[0].rpartition('/')[0]}"
        assert freezer.verify(read_data=True).ok
        freezer.restore(increment.id, tmp_path / "out")
        assert (tmp_path / "out" / "second").read_bytes() == (tree / "second").read_bytes()
        freezer.forget([increment.id])
        assert {name.split("/")[-3] for name in names(storage) if "/segments/" in name} == {
            f"0_{int(full.time.timestamp())}"
        }
        freezer.forget([full.id])
        assert names(storage) == ["freezer-sdk/store"]
