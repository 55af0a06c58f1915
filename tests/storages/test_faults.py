from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest
from joining_storage import JoiningStorage

from freezer_sdk.errors import ConfigurationError, ObjectNotFound, StorageUnavailable
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import METHODS, Fault, FaultyStorage, StorageSuite, damage, delay, fail, nothing

CUT = StorageUnavailable("the cable is cut")


class TestWithoutFaults(StorageSuite):
    """A wrapper that does nothing must not be noticed."""

    many = 200

    def make_storage(self):
        return FaultyStorage(MemoryStorage())

    def test_location_is_a_url_of_its_own(self):
        with pytest.raises(ConfigurationError):
            FaultyStorage.parse_url(self.storage.location)


def use_everything(storage):
    storage.put("put", [b"content"])
    with storage.upload("uploaded") as upload:
        upload.write(b"content")
        upload.commit()
    storage.get("put")
    with storage.open("put") as reader:
        reader.read()
    storage.stat("put")
    list(storage.list("p"))
    storage.delete("put")
    storage.join("joined", segments="parts")
    storage.flush()
    storage.now()


def test_every_call_is_recorded():
    storage = FaultyStorage(JoiningStorage())
    use_everything(storage)
    assert [call.method for call in storage.calls] == list(METHODS)
    assert [call.number for call in storage.calls] == list(range(1, len(METHODS) + 1))
    assert {call.method: call.name for call in storage.calls} == {
        "put": "put", "upload": "uploaded", "write": "uploaded", "commit": "uploaded", "get": "put", "open": "put",
        "read": "put", "stat": "put", "list": "p", "delete": "put", "join": "joined", "flush": "",
        "now": "",
    }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("when", ["before", "after", "during"])
def test_every_call_can_fail(method, when):
    inner = JoiningStorage()
    storage = FaultyStorage(inner, Fault(fail(CUT), methods={method}, when=when))
    with pytest.raises(StorageUnavailable, match="cable"):
        use_everything(storage)
    assert storage.calls[-1].method == method
    done = {info.name for info in inner.list()}
    took_place = when == "after"
    match method:
        case "put":
            assert ("put" in done) == took_place
        case "commit":
            assert ("uploaded" in done) == took_place
        case "delete":
            assert ("put" in done) != took_place
        case "join":
            assert ("joined" in done) == took_place


def test_faults_count_their_own_calls():
    seen = []
    storage = FaultyStorage(
        MemoryStorage(),
        Fault(seen.append, at=2, times=2, methods={"put"}, prefix="packs/"),
        Fault(fail(CUT), at=3, methods={"get"}),
    )
    for number in range(5):
        storage.put(f"index/{number}", [b""])
        storage.put(f"packs/{number}", [b""])
    assert [call.name for call in seen] == ["packs/1", "packs/2"]
    for _ in range(2):
        storage.get("packs/0")
    with pytest.raises(StorageUnavailable):
        storage.get("packs/0")
    storage.get("packs/0")


def test_a_torn_put_stores_nothing():
    storage = FaultyStorage(MemoryStorage(), Fault(lambda call: None, when="during", methods={"put", "write"}))
    with pytest.raises(StorageUnavailable, match="torn"):
        storage.put("x", [b"x" * 100])
    assert list(storage.list()) == []


def test_a_call_can_be_acknowledged_and_never_done():
    storage = FaultyStorage(MemoryStorage(), Fault(lambda call: None, when="instead", methods={"put"}, at=2))
    storage.put("first", [b"x"])
    assert storage.put("second", [b"12", b"34"]).size == 4
    with pytest.raises(ObjectNotFound):
        storage.get("second")


def test_a_listing_can_be_cut_short_without_a_word():
    inner = MemoryStorage()
    for number in range(10):
        inner.put(f"{number % 2}/{number}", [b""])
    short = Fault(nothing, at=2, methods={"list"}, prefix="1/", when="short", keep=2)
    storage = FaultyStorage(inner, short)
    assert [len(list(storage.list(prefix))) for prefix in ("", "0/", "1/", "1/", "1/")] == [10, 5, 5, 2, 5]
    for methods in ((), {"list", "get"}):
        with pytest.raises(ConfigurationError):
            Fault(nothing, when="short", methods=methods)


def test_traffic_is_that_of_the_storage_that_does_the_work():
    inner = MemoryStorage()
    storage = FaultyStorage(inner)
    storage.traffic = told = object()
    assert inner.traffic is storage.traffic is told


def test_delay():
    storage = FaultyStorage(MemoryStorage(), Fault(delay(0.05), methods={"flush"}))
    started = time.monotonic()
    storage.flush()
    assert time.monotonic() - started >= 0.05


def test_damage():
    storage = MemoryStorage()
    storage.put("x", [b"\x00\x00\x00"])
    damage(storage, "x", offset=1)
    damage(storage, "x", offset=-1, mask=0x80)
    assert storage.get("x") == b"\x00\x01\x80"


def test_faults_that_cannot_be():
    with pytest.raises(ConfigurationError):
        Fault(fail(CUT), methods={"puts"})
    with pytest.raises(ConfigurationError):
        Fault(fail(CUT), when="instead", methods={"get"})
    with pytest.raises(ConfigurationError):
        Fault(fail(CUT), when="instead")


SCRIPT = """
import sys
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.testing import Fault, FaultyStorage, kill

path, when, at = sys.argv[1:]
storage = FaultyStorage(LocalStorage(path=path), Fault(kill, at=int(at), when=when))
for number in range(3):
    content = b"%d" % number * 100_000
    storage.put(f"put/{number}", [content], if_absent=True)
    print(f"put/{number}", flush=True)
    with storage.upload(f"upload/{number}") as upload:
        upload.write(content)
        upload.commit()
    print(f"upload/{number}", flush=True)
storage.flush()
"""


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_process_killed_at_any_call_leaves_whole_objects_only(tmp_path, when):
    for at in range(1, 15):
        path = tmp_path / str(at)
        command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), when, str(at)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        acknowledged = done.stdout.split()
        storage = LocalStorage(path=str(path))
        found = {info.name: storage.get(info.name) for info in storage.list()}
        assert set(acknowledged) <= set(found)
        assert len(found) <= len(acknowledged) + 1
        for name, content in found.items():
            assert content == name[-1].encode() * 100_000
        if done.returncode == 0:
            assert at == 14  # 3 times put, upload, write, commit, and a flush
            return
        assert done.returncode == -signal.SIGKILL, done.stderr
    pytest.fail("the process never ended by itself")
