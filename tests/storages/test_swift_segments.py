"""Large objects and streams in Swift: segments, what joins them, and that none is left."""

from __future__ import annotations

import os
import uuid

import pytest
from servers import start

from freezer_sdk.errors import ConfigurationError, ObjectNotFound
from freezer_sdk.storages import _swift_segments
from freezer_sdk.storages.swift import SwiftStorage

pytestmark = pytest.mark.swift

CONTENT = os.urandom(1_000_003)
PIECE = 100_000


@pytest.fixture(scope="module")
def env():
    return start("swift")


@pytest.fixture
def make(env):
    """Storages of one container, and of its segments; the suffix is the container's."""
    container = f"segments-{uuid.uuid4().hex[:12]}"
    made = []

    def make(suffix="", **options):
        login = {"os_auth_url": env["SWIFT_AUTH_URL"], "os_username": env["SWIFT_USER"]}
        login |= {"os_password": env["SWIFT_KEY"], "listing_lag": 0.0}
        made.append(SwiftStorage(container=container + suffix, **login, **options))
        return made[-1]

    yield make
    for storage in made:
        storage.close()


def names(storage, prefix=""):
    return [info.name for info in storage.list(prefix)]


def test_put_of_a_large_object(make):
    storage, segments = make(segment_size=PIECE, prefix="some where"), make("_segments")
    info = storage.put("großes Ding", [CONTENT[:333_333], b"", CONTENT[333_333:]])
    assert (info.size, info.checksum) == (len(CONTENT), None)
    assert storage.get("großes Ding") == CONTENT
    for offset, length in ((0, 10), (99_990, 20), (99_990, 200_020), (-5, None), (-200_000, 7), (1_000_002, 5)):
        expected = CONTENT[offset:] if length is None else CONTENT[offset:][:length]
        assert storage.get("großes Ding", offset=offset, length=length) == expected
    assert storage.get("großes Ding", offset=2_000_000, length=5) == b""
    with storage.open("großes Ding") as reader:
        assert b"".join(iter(lambda: reader.read(70_000), b"")) == CONTENT
    (listed,) = storage.list()
    stat = storage.stat("großes Ding")
    assert (listed.name, listed.size, listed.checksum) == (stat.name, stat.size, stat.checksum)
    assert (stat.size, stat.checksum) == (len(CONTENT), None)
    assert [info.size for info in segments.list()] == [*[PIECE] * 10, 3]
    assert all(name.startswith("some where/großes Ding/") for name in names(segments))
    storage.delete("großes Ding")
    assert names(segments) == names(storage) == []


def test_the_limit_itself_is_one_piece(make):
    storage, segments = make(segment_size=PIECE), make("_segments")
    assert storage.put("a", [CONTENT[:PIECE]]).checksum is not None
    with storage.upload("b") as upload:
        upload.write(CONTENT[: PIECE - 1])
        assert upload.commit().checksum is not None
    assert names(segments) == []
    with storage.upload("c") as upload:
        upload.write(CONTENT[:PIECE])
        upload.commit()
    assert [storage.stat(name).size for name in "abc"] == [PIECE, PIECE - 1, PIECE]


def test_segments_of_what_is_replaced_are_removed(make):
    storage, segments = make(segment_size=PIECE), make("_segments")
    storage.put("x", [CONTENT])
    first = names(segments)
    storage.put("x", [CONTENT[:250_000]])
    second = names(segments)
    assert len(second) == 3
    assert not set(first) & set(second)
    assert storage.get("x") == CONTENT[:250_000]
    with storage.upload("x") as upload:
        upload.write(CONTENT[:150_000])
        upload.commit()
    assert len(names(segments)) == 2
    storage.put("x", [b"small"])
    assert names(segments) == []
    storage.put("x", [CONTENT])
    storage.put("y", [b"small"])
    storage.delete_many(["x", "y", "z"])
    assert names(segments) == names(storage) == []


def test_another_client_removes_them_too(make):
    make(segment_size=PIECE).put("x", [CONTENT])
    other, segments = make(), make("_segments")
    assert len(names(segments)) == 11
    other.delete("x")
    assert names(segments) == []


def test_uploads_without_commit_leave_nothing(make):
    storage, segments = make(segment_size=PIECE), make("_segments")
    storage.put("x", [b"old"])
    with storage.upload("x") as upload:
        upload.write(CONTENT)
        assert len(names(segments)) == 10
    with pytest.raises(ZeroDivisionError), storage.upload("new"):
        raise ZeroDivisionError
    assert names(segments) == []
    assert storage.get("x") == b"old"
    with pytest.raises(ObjectNotFound):
        storage.stat("new")


def test_more_segments_than_a_manifest_takes(make, monkeypatch):
    """Manifests of manifests, two levels deep; they go with the object."""
    monkeypatch.setattr(_swift_segments, "JOINED", 3)
    storage, segments = make(segment_size=PIECE), make("_segments")
    with storage.upload("deep") as upload:
        for start in range(0, len(CONTENT), 70_000):
            upload.write(CONTENT[start : start + 70_000])
        assert upload.commit().size == len(CONTENT)
    assert storage.get("deep") == CONTENT
    assert storage.get("deep", offset=299_990, length=20) == CONTENT[299_990:300_010]
    assert storage.stat("deep").size == len(CONTENT)
    assert len(names(segments)) == 11 + 4 + 2
    storage.delete("deep")
    assert names(segments) == []


def test_names_that_leave_no_room_for_more(make):
    storage, segments = make(segment_size=PIECE), make("_segments")
    name = "n" * 1024
    storage.put(name, [CONTENT])
    assert storage.get(name) == CONTENT
    storage.delete(name)
    assert names(segments) == []


@pytest.mark.parametrize("size", [0, (5 << 30) + 1])
def test_sizes_that_cannot_be(make, size):
    with pytest.raises(ConfigurationError, match="segment_size"):
        make(segment_size=size)
