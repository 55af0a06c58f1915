"""What the storage swift makes of answers: of refusals, of content that was changed on its way, of odd listings."""

from __future__ import annotations

import json
import logging
import os
import ssl
import subprocess
import threading
import time
import urllib.request
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from http_proxy import Answer, Drop, HttpProxy
from servers import start
from tcp_proxy import TcpProxy
from urllib3.exceptions import InsecureRequestWarning

from freezer_sdk.errors import (
    AccessDenied,
    ChecksumMismatch,
    ObjectNotFound,
    StorageError,
    StorageFull,
    StorageThrottled,
    StorageUnavailable,
    Transient,
)
from freezer_sdk.storages.swift import SwiftStorage

pytestmark = pytest.mark.swift

CONTENT = os.urandom(700_000)


@pytest.fixture(scope="module")
def env():
    return start("swift")


@pytest.fixture(scope="module")
def container():
    return f"answers-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def proxy(env):
    with HttpProxy("127.0.0.1", int(env["SWIFT_PORT"])) as proxy:
        yield proxy


def login(env, port=None):
    """Options; what the cluster says of its own address is not used."""
    host = f"http://127.0.0.1:{port or env['SWIFT_PORT']}"
    values = {"os_auth_url": f"{host}/auth/v1.0", "os_storage_url": f"{host}/v1/AUTH_test", "listing_lag": 0.0}
    return {**values, "os_username": env["SWIFT_USER"], "os_password": env["SWIFT_KEY"], "timeout": 10.0}


@pytest.fixture
def name():
    return f"object-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def storage(env, proxy, container, name):
    with SwiftStorage(container=container, **login(env, proxy.port)) as storage:
        storage.put(name, [CONTENT])
        yield storage


def on(method, answer, *, times=None, part=""):
    """A rule: this answer to requests of a method, so many times."""
    left = [times]

    def rule(request):
        if request.method != method or part not in request.path or left[0] == 0:
            return None
        if left[0] is not None:
            left[0] -= 1
        return answer

    return rule


class TestRefusals:
    @pytest.mark.parametrize("status", [413, 429, 498])
    def test_asked_to_slow_down(self, storage, proxy, name, status):
        proxy.rules.append(on("PUT", Answer(status, {"Retry-After": "7"}, b"Slow down")))
        with pytest.raises(StorageThrottled) as told:
            storage.put(name, [b"x"])
        assert isinstance(told.value, Transient)
        assert told.value.retry_after == 7
        proxy.heal()
        storage.put(name, [b"x"])

    def test_asked_to_come_back_at_a_time(self, storage, proxy, name):
        later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
        proxy.rules.append(on("GET", Answer(429, {"Retry-After": later})))
        with pytest.raises(StorageThrottled) as told:
            storage.get(name)
        assert 60 < (told.value.retry_after or 0) <= 90

    @pytest.mark.parametrize("retry_after", [None, "12"])
    def test_a_cluster_in_trouble(self, storage, proxy, name, retry_after):
        headers = {"Retry-After": retry_after} if retry_after else {}
        proxy.rules.append(on("GET", Answer(503, headers, b"<html>try later</html>")))
        with pytest.raises(StorageUnavailable) as told:
            storage.get(name)
        assert told.value.retry_after == (float(retry_after) if retry_after else None)
        with pytest.raises(StorageUnavailable):
            list(storage.list())

    @pytest.mark.parametrize(
        ("answer", "kind", "passes"),
        [
            (Answer(500), StorageUnavailable, True),
            (Answer(408), StorageUnavailable, True),
            (Answer(409), StorageUnavailable, True),
            (Answer(507), StorageFull, False),
            (Answer(413, {}, b"Upload exceeds quota."), StorageFull, False),
            (Answer(413, {}, b"Your request is too large."), StorageError, False),
            (Answer(403), AccessDenied, False),
            (Answer(497, {}, b"Your account has been blacklisted"), AccessDenied, False),
            (Answer(400), StorageError, False),
        ],
    )
    def test_kinds(self, storage, proxy, name, answer, kind, passes):
        proxy.rules.append(on("PUT", answer))
        with pytest.raises(kind) as told:
            storage.put(name, [b"x"])
        assert isinstance(told.value, Transient) == passes
        assert str(answer.status) in told.value.message
        proxy.heal()
        assert storage.get(name) == CONTENT

    def test_the_quota_of_a_container(self, env):
        container = f"quota-{uuid.uuid4().hex[:12]}"
        with SwiftStorage(container=container, **login(env)) as storage:
            storage.put("a", [b"x"])
            post(storage, env, container, {"X-Container-Meta-Quota-Bytes": "1000"})
            with pytest.raises(StorageFull) as told:
                storage.put("b", [bytes(2000)])
            assert "quota" in (told.value.hint or "")

    @pytest.mark.parametrize("answer", [Answer(204), Answer(403), Answer(405), Answer(200, {}, b"<html>")])
    def test_clusters_that_cannot_delete_many_at_once(self, storage, proxy, answer):
        names = [f"one-by-one/{number}" for number in range(3)]
        for each in names:
            storage.put(each, [b"x"])
        proxy.rules.append(on("POST", answer))
        storage.delete_many([*names, "never-was"])
        assert list(storage.list("one-by-one/")) == []

    def test_deleting_many_ends_early_when_the_cluster_is_in_trouble(self, storage, proxy):
        proxy.rules.append(on("POST", Answer(503)))
        proxy.requests.clear()
        with pytest.raises(StorageUnavailable):
            storage.delete_many([f"many/{number}" for number in range(2500)])
        assert len(proxy.seen("POST")) == 1
        assert proxy.seen("DELETE") == []

    def test_the_token_is_renewed_once(self, storage, proxy, name):
        proxy.rules.append(on("GET", Answer(401), times=1, part="/v1/AUTH"))
        proxy.requests.clear()
        assert storage.get(name) == CONTENT
        assert [request.path.partition("/A")[0] for request in proxy.seen("GET")] == ["/v1", "/auth/v1.0", "/v1"]
        proxy.rules.append(on("GET", Answer(401), part="/v1/AUTH"))
        proxy.requests.clear()
        with pytest.raises(AccessDenied):
            storage.get(name)
        assert len([request for request in proxy.seen("GET") if "AUTH" in request.path]) == 2

    def test_a_redirect_does_not_get_the_token(self, storage, proxy, name):
        with HttpProxy("127.0.0.1", 9) as elsewhere:
            proxy.rules.append(on("GET", Answer(302, {"Location": f"http://127.0.0.1:{elsewhere.port}/"})))
            with pytest.raises(StorageError, match="redirect"):
                storage.get(name)
            assert elsewhere.requests == []

    def test_storage_policies(self, env, container):
        made = f"policy-{uuid.uuid4().hex[:12]}"
        with SwiftStorage(container=made, storage_policy=env["SWIFT_POLICY"], **login(env)) as storage:
            storage.put("a", [b"x"])
            assert post(storage, env, made, {}, method="HEAD")["x-storage-policy"] == env["SWIFT_POLICY"]
        with (
            SwiftStorage(container=made + "-not", storage_policy="nonesuch", **login(env)) as storage,
            pytest.raises(StorageError) as told,
        ):
            storage.put("a", [b"x"])
        assert "storage_policy" in (told.value.hint or "")
        with SwiftStorage(container=made, storage_policy="gold", **login(env)) as storage:
            storage.put("b", [b"x"])  # an existing one keeps its own


class TestContent:
    def test_changed_on_its_way_here(self, storage, proxy, name):
        proxy.changes.append(lambda request, answer: replace(answer, body=flipped(answer.body)))
        with pytest.raises(ChecksumMismatch):
            storage.get(name)
        with storage.open(name) as reader:
            assert len(reader.read(100_000)) == 100_000
            with pytest.raises(ChecksumMismatch):
                reader.read()
        proxy.heal()
        assert storage.get(name) == CONTENT

    def test_shorter_than_it_says(self, storage, proxy, name):
        proxy.changes.append(lambda request, answer: replace(answer, body=answer.body[:-1], length=len(answer.body)))
        for call in (storage.get, lambda name: storage.get(name, offset=10), lambda name: storage.get(name, length=99)):
            with pytest.raises(StorageUnavailable, match="short"):
                call(name)
        with pytest.raises(StorageUnavailable), storage.open(name) as reader:
            reader.read()

    def test_shorter_and_nothing_says_so(self, storage, proxy, name):
        proxy.changes.append(lambda request, answer: replace(answer, body=answer.body[:-1]))
        with pytest.raises(ChecksumMismatch):
            storage.get(name)
        for offset, length in ((10, None), (10, 20), (-20, None)):
            with pytest.raises(StorageUnavailable, match="range"):
                storage.get(name, offset=offset, length=length)

    def test_another_range_than_was_asked_for(self, storage, proxy, name):
        headers = {"content-range": "bytes 0-9/700000"}
        proxy.rules.append(on("GET", Answer(206, headers, CONTENT[:10])))
        with pytest.raises(StorageUnavailable, match="range"):
            storage.get(name, offset=5, length=10)

    def test_a_server_without_ranges(self, storage, proxy, name):
        proxy.sent.append(
            lambda request: replace(
                request, headers={key: value for key, value in request.headers.items() if key != "range"}
            )
        )
        assert storage.get(name, offset=5, length=10) == CONTENT[5:15]
        assert storage.get(name, offset=-5) == CONTENT[-5:]
        assert storage.get(name, offset=-5, length=2) == CONTENT[-5:-3]
        assert storage.get(name, offset=800_000) == b""
        assert storage.get(name, offset=-800_000) == CONTENT

    def test_changed_on_its_way_there(self, storage, proxy, name):
        proxy.sent.append(lambda request: replace(request, body=flipped(request.body)))
        with pytest.raises(ChecksumMismatch):
            storage.put(name, [b"another content"])
        proxy.heal()
        assert storage.get(name) == CONTENT

    def test_expiry_is_neither_set_nor_cleared(self, storage, proxy, name, env, container):
        expiry = str(int(datetime.now(UTC).timestamp()) + 3600)
        post(storage, env, f"{container}/{name}", {"X-Delete-At": expiry})
        assert storage.get(name) == CONTENT
        storage.stat(name)
        assert name in [info.name for info in storage.list()]
        assert post(storage, env, f"{container}/{name}", {}, method="HEAD")["x-delete-at"] == expiry
        storage.put("unlimited", [b"x"])
        assert not [key for request in proxy.requests for key in request.headers if "delete" in key]


class TestListings:
    @pytest.fixture
    def names(self, storage):
        names = [f"many/{number}" for number in range(9)]
        for name in names:
            storage.put(name, [b"x"])
        return names

    def test_pages_that_a_proxy_cuts_short(self, storage, proxy, names):
        """Only an empty page is the end."""
        proxy.changes.append(lambda request, answer: shortened(answer, 2))
        assert [info.name for info in storage.list("many/")] == names
        assert [info.name for info in storage.list("many", delimiter="/")] == ["many/"]

    @pytest.mark.parametrize("body", [b"", b"[", b'[{"name": "many/0"', b"<html>", b"{}", b'[{"nom": 1}]', b"[1]"])
    def test_pages_that_make_no_sense(self, storage, proxy, names, body):
        proxy.rules.append(on("GET", Answer(200, {"content-type": "application/json"}, body)))
        with pytest.raises(StorageError):
            list(storage.list("many/"))
        proxy.heal()
        assert [info.name for info in storage.list("many/")] == names

    def test_a_page_that_comes_again_and_again(self, storage, proxy, names):
        page = json.dumps([{"name": "many/0", "bytes": 1, "hash": "0" * 32, "last_modified": "2026-01-01T00:00:00.0"}])
        proxy.rules.append(on("GET", Answer(200, {"content-type": "application/json"}, page.encode())))
        with pytest.raises(StorageUnavailable):
            list(storage.list("many/"))

    def test_a_container_that_vanishes(self, storage, proxy, names):
        proxy.changes.append(lambda request, answer: shortened(answer, 2))
        listing = storage.list("many/")
        assert next(listing).name == names[0]
        proxy.rules.append(on("GET", Answer(404)))
        with pytest.raises(StorageUnavailable):
            list(listing)


class TestSegments:
    def test_the_answer_to_the_commit_is_lost(self, env, proxy, container, name):
        """The object is there: that is found out, and its segments stay."""
        lost = []

        def lose(request, answer):
            if "multipart-manifest=put" in request.path:
                lost.append(request)
                raise Drop
            return answer

        with SwiftStorage(container=container, segment_size=300_000, **login(env, proxy.port)) as storage:
            proxy.changes.append(lose)
            assert storage.put(name, [CONTENT]).size == len(CONTENT)
            assert lost
            proxy.heal()
            assert storage.get(name) == CONTENT

    def test_the_commit_is_lost(self, env, proxy, container, name):
        """Whether it will come to be is not known: that is an error, and no segment is removed."""

        def lose(request):
            if "multipart-manifest=put" in request.path:
                raise Drop

        with SwiftStorage(container=container, segment_size=300_000, **login(env, proxy.port)) as storage:
            proxy.rules.append(lose)
            with pytest.raises(StorageUnavailable):
                storage.put(name, [CONTENT])
            proxy.heal()
            with pytest.raises(ObjectNotFound):
                storage.get(name)
            storage.put(name, [CONTENT])
            assert storage.get(name) == CONTENT

    def test_a_segment_is_refused(self, env, proxy, container, name):
        """Nothing is stored, and nothing left."""
        with SwiftStorage(container=container, segment_size=300_000, **login(env, proxy.port)) as storage:
            proxy.rules.append(on("PUT", Answer(507), part="00000003"))
            with pytest.raises(StorageFull):
                storage.put(name, [CONTENT])
            with storage.upload(name) as upload:
                with pytest.raises(StorageFull):
                    upload.write(CONTENT * 2)
                for call in (lambda: upload.write(b"more"), upload.commit):
                    with pytest.raises(StorageError, match="ended"):
                        call()
            with pytest.raises(ObjectNotFound):
                storage.stat(name)
        with SwiftStorage(container=f"{container}_segments", **login(env)) as segments:
            assert list(segments.list(f"{name}/")) == []


class TestCertificates:
    @pytest.fixture
    def authority(self, tmp_path):
        """A certificate that signed itself, and its key."""
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        command = ["openssl", "req", *kind, *names, "-keyout", key, "-out", cert]
        subprocess.run(command, check=True, capture_output=True)
        return cert, key

    @pytest.fixture
    def secure(self, env, authority):
        """The cluster behind TLS."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority)
        with HttpProxy("127.0.0.1", int(env["SWIFT_PORT"]), tls=context) as proxy:
            yield proxy

    def options(self, env, proxy, **others):
        values = login(env, proxy.port)
        urls = {name: str(values[name]).replace("http:", "https:") for name in ("os_auth_url", "os_storage_url")}
        return {**values, **urls, **others}

    def test_one_that_nobody_trusts(self, env, container, secure):
        """Nothing is said to the server, and it is no failure that passes."""
        with SwiftStorage(container=container, **self.options(env, secure)) as storage:
            with pytest.raises(StorageError, match="not trusted") as told:
                storage.put("a", [CONTENT])
            assert not isinstance(told.value, Transient)
            assert "os_cacert" in told.value.hint
        assert secure.requests == []

    def test_of_an_authority_that_is_named(self, env, container, secure, authority):
        options = self.options(env, secure, os_cacert=str(authority[0]))
        with SwiftStorage(container=container, **options) as storage:
            storage.put("a", [CONTENT])
            assert storage.get("a") == CONTENT

    def test_another_host_than_the_one_that_was_asked_for(self, env, container, secure, authority):
        options = self.options(env, secure, os_cacert=str(authority[0]))
        options["os_auth_url"] = options["os_auth_url"].replace("127.0.0.1", "localhost")
        with SwiftStorage(container=container, **options) as storage, pytest.raises(StorageError, match="not trusted"):
            storage.stat("a")
        assert secure.requests == []

    def test_insecure_is_loud(self, env, container, secure):
        options = self.options(env, secure, os_insecure=True)
        with SwiftStorage(container=container, **options) as storage:
            with pytest.warns(InsecureRequestWarning):
                storage.put("a", [CONTENT])
            with pytest.warns(InsecureRequestWarning):
                assert storage.get("a") == CONTENT


class TestProxies:
    def test_through_a_proxy(self, env, container):
        """Log-in and objects, in the proxy's name; its password is shown nowhere."""
        with HttpProxy("127.0.0.1", 9) as proxy:
            options = {"proxy": f"http://user@127.0.0.1:{proxy.port}", "proxy_password": "canary-77ab"}
            with SwiftStorage(container=container, **login(env), **options) as storage:
                storage.put("by-proxy", [CONTENT])
                assert storage.get("by-proxy") == CONTENT
                assert "canary" not in repr(storage) + storage.location
            assert all(request.path.startswith("http://127.0.0.1:") for request in proxy.requests)
            assert {request.method for request in proxy.requests} >= {"GET", "PUT", "HEAD"}
            assert all(request.headers.get("proxy-authorization") for request in proxy.requests)

    def test_a_proxy_that_is_not_there(self, env, container, caplog):
        caplog.set_level(logging.DEBUG)
        options = {"proxy": "http://user@127.0.0.1:9", "proxy_password": "canary-77ab"}
        with (
            SwiftStorage(container=container, **login(env), **options) as storage,
            pytest.raises(StorageUnavailable) as told,
        ):
            storage.stat("a")
        assert "canary" not in caplog.text + str(told.value) + repr(told.value)

    def test_a_socks_proxy_that_says_nothing(self, env, container):
        with TcpProxy("127.0.0.1", int(env["SWIFT_PORT"])) as proxy:
            proxy.cut("stall")
            options = {**login(env), "proxy": f"socks5h://127.0.0.1:{proxy.port}", "connect_timeout": 0.5}
            with SwiftStorage(container=container, **options) as storage, pytest.raises(StorageUnavailable):
                storage.stat("a")


class TestRelease:
    def test_close_gives_everything_back(self, env, container):
        with TcpProxy("127.0.0.1", int(env["SWIFT_PORT"])) as proxy:
            before = set(threading.enumerate())
            storage = SwiftStorage(container=container, **login(env, proxy.port))
            storage.put("a", [CONTENT])
            for _ in range(5):
                with storage.open("a") as reader:
                    reader.read(10)  # and no more
            list(storage.list())
            assert proxy.open_connections <= 4
            storage.close()
            assert set(threading.enumerate()) == before
            deadline = time.monotonic() + 120
            while proxy.open_connections and time.monotonic() < deadline:
                time.sleep(0.02)
            assert proxy.open_connections == 0
            with pytest.raises(StorageError, match="closed"):
                storage.stat("a")


def flipped(body):
    return bytes([body[0] ^ 1]) + body[1:] if body else body


def shortened(answer, count):
    try:
        return replace(answer, body=json.dumps(json.loads(answer.body)[:count]).encode())
    except ValueError:
        return answer


def post(storage, env, path, headers, *, method="POST"):
    token = storage._client._cloud.token()
    url = f"http://127.0.0.1:{env['SWIFT_PORT']}/v1/AUTH_test/{path}"
    request = urllib.request.Request(url, method=method, headers={"X-Auth-Token": token, **headers})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return {name.lower(): value for name, value in answer.headers.items()}
