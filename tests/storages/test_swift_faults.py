"""What the storage swift does when the network, the cluster or the login fails."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trees
from servers import start, stop
from tcp_proxy import TcpProxy

from freezer_sdk import AccessDenied, Freezer, ObjectNotFound, StorageUnavailable, open_storage
from freezer_sdk.errors import CapabilityMissing, StorageFull, StorageThrottled, Transient
from freezer_sdk.storages.swift import SwiftStorage

CONTENT = os.urandom(3 << 20)


def login(env, *, port=None, **options):
    """Options of version 1; the storage URL is given, since the cluster names its own port."""
    host = f"http://127.0.0.1:{port or env['SWIFT_PORT']}"
    account = "AUTH_" + env["SWIFT_USER"].partition(":")[0]
    values = {"os_auth_url": f"{host}/auth/v1.0", "os_storage_url": f"{host}/v1/{account}"}
    values |= {"os_username": env["SWIFT_USER"], "os_password": env["SWIFT_KEY"], "os_identity_api_version": "1"}
    return {"timeout": 3.0, "connect_timeout": 3.0, "listing_lag": 1.0, **values, **options}


@pytest.fixture(scope="module")
def env():
    return start("swift")


@pytest.fixture
def container():
    return f"faults-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def proxy(env):
    with TcpProxy("127.0.0.1", int(env["SWIFT_PORT"])) as proxy:
        yield proxy


@pytest.fixture
def storage(env, proxy, container):
    with SwiftStorage(container=container, **login(env, port=proxy.port)) as storage:
        storage.put("there", [CONTENT])
        yield storage
        proxy.heal()


@pytest.mark.swift
class TestNetwork:
    @pytest.mark.parametrize("how", ["reset", "close", "stall"])
    def test_a_download_that_ends_early_is_no_download(self, storage, proxy, how):
        proxy.cut(how, after=1 << 20, direction="down", times=1)
        with pytest.raises(StorageUnavailable) as told:
            storage.get("there")
        assert isinstance(told.value, Transient)
        assert storage.get("there") == CONTENT

    @pytest.mark.parametrize("how", ["reset", "close", "stall"])
    def test_an_upload_that_ends_early_stores_nothing(self, storage, proxy, how):
        proxy.cut(how, after=1 << 20, direction="up", times=1)
        with pytest.raises(StorageUnavailable):
            storage.put("new", [CONTENT])
        with pytest.raises(ObjectNotFound):
            storage.stat("new")
        storage.put("new", [CONTENT])
        assert storage.get("new") == CONTENT

    @pytest.mark.parametrize("how", ["reset", "close", "stall"])
    @pytest.mark.parametrize("after", [10, 400, 900])
    def test_a_listing_is_never_cut_short(self, storage, proxy, how, after):
        names = [f"many/{number:03}" for number in range(20)]
        for name in names:
            storage.put(name, [b"x"])
        proxy.cut(how, after=after, direction="down", times=1)
        proxy.drop()
        try:
            found = [info.name for info in storage.list("many/")]
        except StorageUnavailable:
            found = [info.name for info in storage.list("many/")]
        assert found == names

    def test_a_server_that_says_nothing_is_given_up(self, storage, proxy):
        proxy.cut("stall")
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            storage.stat("there")
        assert time.monotonic() - started < 300  # no hang; the limit is generous on purpose

    def test_nobody_there(self, storage, proxy):
        proxy.refuse()
        proxy.drop()
        with pytest.raises(StorageUnavailable):
            storage.get("there")

    def test_calls_are_repeated_where_the_storage_was_opened_by_its_url(self, env, proxy, container):
        with open_storage(f"swift:{container}", options=login(env, port=proxy.port)) as storage:
            storage.put("a", [CONTENT])
            proxy.cut("reset", after=1 << 20, direction="down", times=2)
            assert storage.get("a") == CONTENT


class _Busy(BaseHTTPRequestHandler):
    """A stub, for answers that the real cluster cannot be brought to give: it logs in all, and refuses the rest."""

    answer: tuple[int, dict[str, str]]

    def do_GET(self):
        if self.path.startswith("/auth"):
            host = f"http://{self.headers['Host']}/v1/AUTH_test"
            self._answer(200, {"X-Storage-Url": host, "X-Auth-Token": "token", "X-Storage-Token": "token"})
        else:
            self._answer(*self.answer)

    def _answer(self, status, headers):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


@pytest.mark.parametrize(
    ("status", "headers", "error", "wait"),
    [
        (498, {"Retry-After": "7"}, StorageThrottled, 7),
        (429, {"Retry-After": "2"}, StorageThrottled, 2),
        (503, {"Retry-After": "3"}, StorageUnavailable, 3),
        (500, {}, StorageUnavailable, None),
        (507, {}, StorageFull, None),
        (403, {}, AccessDenied, None),
    ],
)
def test_what_a_cluster_answers(status, headers, error, wait):
    handler = type("Busy", (_Busy,), {"answer": (status, headers)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            stub = {"SWIFT_PORT": str(server.server_port), "SWIFT_USER": "test:tester", "SWIFT_KEY": "testing"}
            with SwiftStorage(container="some", **login(stub)) as storage, pytest.raises(error) as told:
                storage.get("a")
        finally:
            server.shutdown()
            thread.join()
    assert getattr(told.value, "retry_after", None) == wait
    assert isinstance(told.value, Transient) == (error in (StorageThrottled, StorageUnavailable))


@pytest.mark.swift
def test_a_conditional_put_is_refused(storage):
    assert not storage.capabilities.conditional_put
    with pytest.raises(CapabilityMissing):
        storage.put("there", [b"x"], if_absent=True)


@pytest.mark.swift
def test_a_wrong_key_is_refused_and_no_secret_is_shown(env, container, caplog):
    caplog.set_level(logging.DEBUG)
    canary = "canary-5b1e9d"
    with (
        pytest.raises(AccessDenied) as told,
        SwiftStorage(container=container, **login(env, os_password=canary)) as bad,
    ):
        bad.put("a", [b"x"])
    with SwiftStorage(container=container, **login(env)) as good:
        good.put("a", [b"x"])
        assert env["SWIFT_KEY"] not in repr(good) + good.location
    shown = caplog.text + str(told.value) + str(told.value.hint) + repr(told.value)
    assert canary not in shown
    assert f'"{env["SWIFT_KEY"]}"' not in caplog.text
    assert f"X-Auth-Key: {env['SWIFT_KEY']}" not in caplog.text


@pytest.mark.swift
def test_segments_are_neither_seen_nor_left(env, container):
    with SwiftStorage(container=container, segment_size=100_000, **login(env)) as storage:
        storage.put("large", [CONTENT])
        with storage.upload("given-up") as upload:
            upload.write(CONTENT)  # and no commit
        assert [info.name for info in storage.list()] == ["large"]
        assert storage.get("large", offset=99_990, length=20) == CONTENT[99_990:100_010]
        storage.put("large", [b"small"])
        storage.delete("large")
    with SwiftStorage(container=f"{container}_segments", **login(env)) as segments:
        deadline = time.monotonic() + 120
        while list(segments.list()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert list(segments.list()) == []


def large(folder, megabytes):
    folder.mkdir(exist_ok=True)
    for number in range(megabytes):
        (folder / f"large-{number}").write_bytes(os.urandom(1 << 20))


@pytest.mark.swift
def test_cluster_stopped_and_started_again_in_mid_backup(tmp_path):
    """The run goes on where it was; the earlier backup and the new one are whole."""
    env = start("swift", instance="restarted")
    try:
        trees.make_every_kind(tmp_path / "source")
        with TcpProxy("127.0.0.1", int(env["SWIFT_PORT"])) as proxy:
            options = {**login(env, port=proxy.port), "retry_time": 120}
            place = f"swift:restarted-{uuid.uuid4().hex}"
            with Freezer(place, create=True, encryption=False, storage_options=options) as freezer:
                freezer.backup(tmp_path / "source", name="first")
                large(tmp_path / "source", 24)

                def away():
                    goal, deadline = proxy.up + (8 << 20), time.monotonic() + 30
                    while proxy.up < goal and time.monotonic() < deadline:
                        time.sleep(0.01)
                    stop("swift", instance="restarted")
                    start("swift", instance="restarted")

                killer = threading.Thread(target=away)
                killer.start()
                backup = freezer.backup(tmp_path / "source", name="second")
                killer.join()
                assert backup.status == "complete"
                assert len(freezer.backups()) == 2
                assert freezer.verify(read_data=True).ok
                freezer.restore(backup.id, tmp_path / "out")
        trees.compare(tmp_path / "source", tmp_path / "out")
    finally:
        stop("swift", instance="restarted")


@pytest.mark.swift
def test_accounts_and_containers_out_of_reach_are_not_taken_for_missing(tmp_path):
    """Swift's proxy answers 404 for them; only what lies behind it is away."""
    env = start("swift", instance="restarted")
    try:
        with SwiftStorage(container="kept", storage_policy=env["SWIFT_POLICY"], **login(env)) as storage:
            storage.put("a/one", [b"1"])
            end_servers(env, "SWIFT_CONTAINER_PID", "SWIFT_MEMCACHED_PID")
            with pytest.raises(StorageUnavailable):
                storage.delete("a/one")
            end_servers(env, "SWIFT_ACCOUNT_PID")
            with pytest.raises(StorageUnavailable):
                list(storage.list())
            with SwiftStorage(container="new", **login(env)) as other, pytest.raises(StorageUnavailable):
                other.put("two", [b"2"])
            env = start("swift", instance="restarted")
            assert [found.name for found in storage.list()] == ["a/one"]
            storage.delete("a/one")
            storage.delete("a/one")
            assert list(storage.list()) == []
        with SwiftStorage(container="new", **login(env)) as other:
            assert list(other.list()) == []
    finally:
        stop("swift", instance="restarted")


def end_servers(env, *names):
    for name in names:
        os.kill(int(env[name]), signal.SIGKILL)


@pytest.mark.swift
def test_cluster_that_does_not_come_back(env, proxy, tmp_path):
    """The run fails clearly and in time; what was there is whole."""
    large(tmp_path / "source", 2)
    options = {**login(env, port=proxy.port), "retry_time": 1}
    place = f"swift:gone-{uuid.uuid4().hex}"
    with Freezer(place, create=True, encryption=False, storage_options=options) as freezer:
        first = freezer.backup(tmp_path / "source")
        large(tmp_path / "source", 24)
        proxy.cut("reset", after=8 << 20, direction="up")
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            freezer.backup(tmp_path / "source")
        assert time.monotonic() - started < 300
        proxy.heal()
        assert [backup.id for backup in freezer.backups()] == [first.id]
        assert freezer.verify(read_data=True).ok
