"""The storage ``s3`` beyond the contract: credentials, addresses, parts, locks; busy servers, broken connections."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from s3_server import HttpProxy, error_answer, options, raw_client
from servers import start
from tcp_proxy import TcpProxy
from urllib3.exceptions import InsecureRequestWarning

from freezer_sdk.errors import (
    AccessDenied,
    CapabilityMissing,
    ChecksumMismatch,
    ConfigurationError,
    FreezerError,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    StorageThrottled,
    StorageUnavailable,
)
from freezer_sdk.storages.base import TRAFFIC_BLOCK
from freezer_sdk.storages.s3 import S3Storage

pytestmark = pytest.mark.s3

BLOCK = 1 << 20
CONTENT = hashlib.shake_128(b"content").digest(6 * BLOCK)
BUCKET = "faults"
SERVERS = ["seaweedfs", pytest.param("swift", marks=pytest.mark.swift)]


@pytest.fixture(scope="module")
def env():
    """SeaweedFS, with the bucket."""
    env = start("seaweedfs")
    with S3Storage(**options(env, BUCKET, "")) as storage:
        storage.put("there", [b""])
    return env


@pytest.fixture
def prefix():
    return f"p-{uuid.uuid4().hex}"


@pytest.fixture
def near(env, prefix):
    """The place that each test has for itself, undisturbed."""
    with S3Storage(**options(env, BUCKET, prefix)) as storage:
        yield storage


@pytest.fixture
def proxy(env):
    with TcpProxy("127.0.0.1", urlsplit(env["S3_ENDPOINT"]).port) as proxy:
        yield proxy


@pytest.fixture
def far(env, prefix, proxy):
    """The same place behind a proxy, with short time limits."""
    endpoint = f"http://127.0.0.1:{proxy.port}"
    limits = {"timeout": 2.0, "connect_timeout": 2.0}
    with S3Storage(**options(env, BUCKET, prefix, endpoint=endpoint, **limits)) as storage:
        yield storage


@pytest.fixture
def busy(env):
    with HttpProxy(env["S3_ENDPOINT"]) as proxy:
        yield proxy


def names(storage, prefix=""):
    return [info.name for info in storage.list(prefix)]


def all_texts(error):
    texts = []
    while error is not None:
        texts += [str(error), repr(error), str(getattr(error, "hint", ""))]
        error = error.__cause__ or error.__context__
    return texts


class TestAccess:
    @pytest.mark.parametrize("service", SERVERS)
    def test_secrets_are_nowhere(self, service, prefix, caplog, capfd):
        """Not even in what botocore and urllib3 log at their debug level."""
        env = start(service)
        caplog.set_level(logging.DEBUG)
        for name in ("botocore", "urllib3"):
            logging.getLogger(name).setLevel(logging.NOTSET)
        shown = []
        for canaries in (
            {"secret_key": "canary-secret"},
            {"secret_key": "canary-secret", "session_token": "canary-token"},
            {"secret_key": "canary-secret", "proxy": "http://user@127.0.0.1:1", "proxy_password": "canary-proxy"},
        ):
            storage = S3Storage(**options(env, BUCKET, prefix, **canaries))
            expected = StorageUnavailable if "proxy" in canaries else AccessDenied
            with storage:
                for call in (lambda s=storage: s.get("x"), lambda s=storage: s.put("x", [b""]), storage.now):
                    with pytest.raises(expected) as caught:
                        call()
                    shown += all_texts(caught.value)
                with pytest.raises(expected) as caught:
                    list(storage.list())
                shown += all_texts(caught.value)
                shown += [repr(storage), storage.location, repr(vars(storage)), repr(vars(storage._connection))]
        shown += [caplog.text, *capfd.readouterr()]
        assert "x-amz-date" in caplog.text.lower()
        assert [text for text in shown if "canary" in text] == []

    def test_an_unknown_key_and_a_wrong_secret_are_told_apart(self, env, prefix):
        with S3Storage(**options(env, BUCKET, prefix, secret_key="wrong")) as storage:
            with pytest.raises(AccessDenied, match="SignatureDoesNotMatch") as caught:
                storage.get("x")
            assert "secret key" in caught.value.hint
        storage = S3Storage(**options(env, BUCKET, prefix, access_key="nobody"))
        with storage, pytest.raises(AccessDenied, match="InvalidAccessKeyId"):
            storage.get("x")

    def test_credentials_that_may_only_read(self, env, near, prefix):
        near.put("a/x", [b"content"])
        reader = {"access_key": env["S3_READER_ACCESS"], "secret_key": env["S3_READER_SECRET"]}
        with S3Storage(**options(env, BUCKET, prefix, **reader)) as storage:
            assert names(storage) == ["a/x"]
            assert storage.get("a/x") == b"content"
            assert storage.stat("a/x").size == 7
            assert not storage.capabilities.conditional_put
            for call in (lambda: storage.put("y", [b""]), lambda: storage.delete("a/x")):
                with pytest.raises(AccessDenied):
                    call()
            with pytest.raises(AccessDenied):
                storage.delete_many(["a/x"])
            with storage.upload("y") as upload, pytest.raises(AccessDenied):
                upload.write(bytes(20 << 20))
        assert names(near) == ["a/x"]

    @pytest.mark.parametrize("service", SERVERS)
    def test_a_bucket_that_is_missing(self, service):
        bucket = f"missing-{uuid.uuid4().hex[:12]}"
        with S3Storage(**options(start(service), bucket, "", create_bucket=False)) as storage:
            calls = (lambda: storage.put("x", [b""]), lambda: storage.get("x"), lambda: list(storage.list()))
            for call in calls:
                with pytest.raises(ConfigurationError, match="NoSuchBucket") as caught:
                    call()
                assert "create_bucket" in caught.value.hint
        with S3Storage(**options(start(service), bucket, "")) as storage:
            assert names(storage) == []
            storage.put("x", [b"content"])
            assert names(storage) == ["x"]

    def test_a_certificate_that_nobody_trusts(self, env, prefix):
        https = options(env, BUCKET, prefix, endpoint=env["S3_HTTPS"])
        with S3Storage(**https) as storage, pytest.raises(ConfigurationError, match="certificate") as caught:
            storage.put("x", [CONTENT])
        assert "ca_file" in caught.value.hint
        with S3Storage(**https, ca_file=env["S3_CA"]) as storage:
            storage.put("x", [CONTENT])
            assert storage.get("x") == CONTENT
        with S3Storage(**https, insecure=True) as storage, pytest.warns(InsecureRequestWarning):
            assert storage.get("x") == CONTENT

    def test_the_class_that_objects_are_stored_in(self, env, prefix):
        with S3Storage(**options(env, BUCKET, prefix, storage_class="STANDARD_IA")) as storage:
            storage.put("x", [b"content"])
            with storage.upload("y") as upload:
                upload.write(bytes(17 << 20))
                upload.commit()
        with raw_client(env) as client:
            for name in "xy":
                found = client.head_object(Bucket=BUCKET, Key=f"{prefix}/{name}")
                assert found.get("StorageClass") == "STANDARD_IA"

    def test_the_bucket_in_the_path_or_in_the_name_of_the_host(self, env, near, prefix, busy):
        """Through an HTTP proxy, which alone knows where such hosts are."""
        host = env["S3_DOMAIN"]
        for addressing, expected in (("virtual", f"{BUCKET}.{host}"), ("path", host)):
            busy.seen.clear()
            place = {"endpoint": f"http://{host}", "addressing": addressing, "proxy": busy.url}
            with S3Storage(**options(env, BUCKET, prefix, **place)) as storage:
                storage.put(addressing, [CONTENT[:BLOCK]])
                assert storage.get(addressing) == CONTENT[:BLOCK]
                assert addressing in names(storage)
            assert {seen[2] for seen in busy.seen} == {expected}
        assert names(near) == ["path", "virtual"]


class TestParts:
    @pytest.mark.parametrize("service", SERVERS)
    def test_an_object_above_the_limit_of_one_put(self, service, prefix):
        env = start(service)
        pieces = [CONTENT] * 22  # 132 MiB
        with S3Storage(**options(env, BUCKET, prefix, part_size=5 << 20)) as storage:
            info = storage.put("x", pieces)
            assert info.size == storage.stat("x").size == 22 * len(CONTENT)
            digest = hashlib.sha256()
            with storage.open("x") as reader:
                while data := reader.read(BLOCK):
                    digest.update(data)
            assert digest.digest() == hashlib.sha256(b"".join(pieces)).digest()
            assert storage.get("x", offset=64 * BLOCK - 5, length=10) == (CONTENT * 22)[64 * BLOCK - 5 :][:10]
            storage.delete("x")

    @pytest.mark.parametrize("service", SERVERS)
    def test_a_stream_without_commit_leaves_no_parts_behind(self, service, prefix):
        env = start(service)
        with S3Storage(**options(env, BUCKET, prefix, part_size=5 << 20)) as storage, raw_client(env) as client:

            def uploads():
                answer = client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix)
                return [found["Key"] for found in answer.get("Uploads", ())]

            with storage.upload("x") as upload:
                upload.write(CONTENT)
                assert uploads() == [f"{prefix}/x"]
            assert uploads() == []
            with pytest.raises(TypeError), storage.upload("x") as upload:
                [upload.write(data) for data in (CONTENT, "text")]
            assert uploads() == []
            assert names(storage) == []
            with storage.upload("x") as upload:
                upload.write(CONTENT)
                assert upload.commit().size == len(CONTENT)
            assert uploads() == []
            assert storage.get("x") == CONTENT

    def test_all_content_is_counted_once(self, near):
        class Count:
            out = came = most = 0

            def sent(self, size):
                self.out, self.most = self.out + size, max(self.most, size)

            def received(self, size):
                self.came, self.most = self.came + size, max(self.most, size)

        near.traffic = count = Count()
        near.put("x", [CONTENT, b"end"])
        with near.upload("y") as upload:
            upload.write(CONTENT * 4)
            upload.commit()
        assert count.out == 5 * len(CONTENT) + 3
        near.get("x", offset=5, length=BLOCK)
        assert count.came == BLOCK
        assert count.most <= TRAFFIC_BLOCK


class TestPromises:
    @pytest.mark.parametrize("service", SERVERS)
    def test_conditional_puts_are_declared_where_one_client_wins(self, service, prefix):
        """SeaweedFS decides; of Swift's s3api several of them succeed at once, so there they are refused."""
        with S3Storage(**options(start(service), BUCKET, prefix)) as storage:
            if service == "swift":
                assert not storage.capabilities.conditional_put
                with pytest.raises(CapabilityMissing):
                    storage.put("x", [b""], if_absent=True)
                assert names(storage) == []
                return
            assert storage.capabilities.conditional_put

            def attempt(number):
                try:
                    storage.put("x", [b"%d" % number], if_absent=True)
                except ObjectExists:
                    return False
                return True

            with ThreadPoolExecutor(8) as pool:
                won = list(pool.map(attempt, range(24)))
            assert won.count(True) == 1
            assert storage.get("x") == b"%d" % won.index(True)
            assert names(storage) == ["x"]

    def test_object_lock(self, env, prefix):
        """A version that is protected stays, whatever its owner's credentials try."""
        bucket = f"lock-{uuid.uuid4().hex[:12]}"
        with S3Storage(**options(env, bucket, prefix, object_lock_days=1)) as storage, raw_client(env) as client:
            before = storage.now()
            storage.put("x", [b"content"])
            assert storage.capabilities.object_lock
            with storage.upload("y") as upload:
                upload.write(bytes(17 << 20))
                upload.commit()
            storage.delete("x")
            with pytest.raises(ObjectNotFound):
                storage.get("x")
            versions = client.list_object_versions(Bucket=bucket)["Versions"]
            assert sorted(version["Key"] for version in versions) == [f"{prefix}/x", f"{prefix}/y"]
            for version in versions:
                found = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
                until = client.get_object_retention(**found)["Retention"]
                assert until["Mode"] == "COMPLIANCE"
                assert until["RetainUntilDate"] > before + timedelta(hours=23)
                with pytest.raises(client.exceptions.ClientError, match="AccessDenied"):
                    client.delete_object(**found)

    @pytest.mark.parametrize("service", SERVERS)
    def test_nothing_is_stored_unprotected_that_shall_be_protected(self, service, prefix):
        with S3Storage(**options(start(service), BUCKET, prefix)) as plain:
            plain.put("there", [b""])
            assert not plain.capabilities.object_lock
            with S3Storage(**options(start(service), BUCKET, prefix, object_lock_days=1)) as storage:
                with pytest.raises(ConfigurationError, match="object lock"):
                    storage.put("x", [b""])
                with pytest.raises(ConfigurationError, match="object lock"), storage.upload("x"):
                    pytest.fail("there is no such upload")
            assert names(plain) == ["there"]

    def test_names_that_the_server_would_change_or_hide_are_refused(self, env, near, prefix):
        """SeaweedFS takes them all, and lists other ones, or none; that is also found out at the first call."""
        for name in ("a\\b", ".uploads/a", "a/.uploads/b", ".uploads", "a.versions/b", "a/b.versions/c", "n" * 256):
            with S3Storage(**options(env, BUCKET, prefix)) as storage:
                for call in (lambda s=storage, n=name: s.put(n, [b""]), lambda s=storage, n=name: s.get(n)):
                    with pytest.raises(InvalidName):
                        call()
        kept = ["a.uploads/b", "a.versions", "b.versionsx/c", "n" * 255]
        for name in kept:
            near.put(name, [b""])
        assert names(near) == kept

    @pytest.mark.swift
    def test_names_that_other_servers_keep(self, prefix):
        kept = [".uploads/a", "a.versions/b", "a\\b", "n" * 256]
        with S3Storage(**options(start("swift"), BUCKET, prefix)) as storage:
            for name in kept:
                storage.put(name, [b""])
            assert names(storage) == kept
            storage.delete_many(kept)
            assert names(storage) == []


class TestBusyServers:
    def test_say_when_to_come_back(self, env, prefix, busy):
        with S3Storage(**options(env, BUCKET, prefix, endpoint=busy.url)) as storage:
            storage.put("x", [b"content"])
            calls = {
                "put": lambda: storage.put("y", [CONTENT]),
                "get": lambda: storage.get("x"),
                "list": lambda: list(storage.list()),
                "delete": lambda: storage.delete("x"),
                "delete_many": lambda: storage.delete_many(["x"]),
            }
            busy.answer = lambda method, target: error_answer(503, "SlowDown", Retry_After="7")
            for name, call in calls.items():
                asked = len(busy.seen)
                with pytest.raises(StorageThrottled) as caught:
                    call()
                assert (name, caught.value.retry_after, len(busy.seen) - asked) == (name, 7.0, 1)
            busy.answer = lambda method, target: (429, {"Retry-After": "3"}, b"")
            with pytest.raises(StorageThrottled) as caught:
                storage.stat("x")  # an answer without a body
            assert caught.value.retry_after == 3.0
            busy.answer = lambda method, target: error_answer(500, "InternalError")
            with pytest.raises(StorageUnavailable):
                storage.get("x")
            busy.answer = lambda method, target: None
            assert storage.get("x") == b"content"

    def test_a_gateway_without_its_server_knows_nothing(self, env, prefix, busy):
        """What it says must not look like an object that is not there."""
        with S3Storage(**options(env, BUCKET, prefix, endpoint=busy.url)) as storage:
            storage.put("x", [b"content"])
            busy.answer = lambda method, target: (404, {"Content-Type": "text/html"}, b"<html>no backend</html>")
            for call in (lambda: storage.get("x"), lambda: storage.stat("x"), lambda: list(storage.list())):
                with pytest.raises(StorageUnavailable):
                    call()
            with pytest.raises(StorageUnavailable), storage.open("x"):
                pytest.fail("it was opened")

    def test_a_refusal_inside_a_good_answer(self, env, prefix, busy):
        """CompleteMultipartUpload and DeleteObjects begin to answer before they know."""
        with S3Storage(**options(env, BUCKET, prefix, endpoint=busy.url)) as storage:
            storage.put("x", [b"content"])
            inside = error_answer(200, "InternalError")
            busy.answer = lambda method, target: inside if method == "POST" and "uploadId" in target else None
            with storage.upload("y") as upload:
                upload.write(bytes(17 << 20))
                with pytest.raises(StorageUnavailable):
                    upload.commit()
            failed = (
                f"<DeleteResult><Error><Key>{prefix}/x</Key><Code>AccessDenied</Code><Message>no</Message></Error>"
                "</DeleteResult>"
            )
            xml = {"Content-Type": "application/xml"}
            busy.answer = lambda method, target: (200, xml, failed.encode()) if "delete" in target else None
            with pytest.raises(AccessDenied, match="/x"):
                storage.delete_many(["x"])
            busy.answer = lambda method, target: (200, xml, b"<DeleteResult/>") if "delete" in target else None
            with pytest.raises(StorageUnavailable):
                storage.delete_many(["x"])
            busy.answer = lambda method, target: None
            assert names(storage) == ["x"]

    def test_content_that_changed_on_its_way_there(self, env, prefix, busy):
        """Found out by the server, or by its checksum of what it has."""
        with S3Storage(**options(env, BUCKET, prefix, endpoint=busy.url)) as storage:
            storage.put("x", [b"content"])
            other = {"ETag": f'"{hashlib.md5(b"other", usedforsecurity=False).hexdigest()}"'}
            for answer in (error_answer(400, "BadDigest"), (200, other, b"")):
                busy.answer = lambda method, target, answer=answer: answer if method == "PUT" else None
                with pytest.raises(ChecksumMismatch):
                    storage.put("x", [CONTENT])
                with storage.upload("y") as upload, pytest.raises(ChecksumMismatch):
                    upload.write(bytes(17 << 20))  # more than a part
            busy.answer = lambda method, target: None
            assert storage.get("x") == b"content"
            assert names(storage) == ["x"]

    def test_other_bytes_than_those_that_were_asked_for(self, env, prefix, busy):
        """As a cache in between may give; a part of an object is no whole one."""
        with S3Storage(**options(env, BUCKET, prefix, endpoint=busy.url)) as storage:
            storage.put("x", [b"0123456789"])
            shifted = (206, {"Content-Range": "bytes 3-5/10"}, b"345")
            busy.answer = lambda method, target: shifted if method == "GET" else None
            for offset, length in ((2, 3), (3, 4), (-3, None), (3, None)):
                with pytest.raises(StorageUnavailable):
                    storage.get("x", offset=offset, length=length)
            assert storage.get("x", offset=3, length=3) == b"345"


class TestBrokenConnections:
    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_a_get_is_right_or_an_error(self, far, near, proxy, how):
        near.put("x", [CONTENT])
        for after in (100, 300, 70_000, 3 * BLOCK, 6 * BLOCK - 1000):
            proxy.drop()
            proxy.cut(how, after=after, direction="down")
            with pytest.raises(StorageUnavailable):
                far.get("x")
            with pytest.raises(StorageUnavailable):
                far.get("x", offset=5, length=len(CONTENT) - 10)
            with pytest.raises(StorageUnavailable), far.open("x") as reader:
                list(iter(lambda r=reader: r.read(10_000), b""))
            proxy.heal()
            assert far.get("x") == CONTENT

    @pytest.mark.filterwarnings("ignore:tzname")  # botocore tries to understand what is left of a date
    @pytest.mark.parametrize("service", SERVERS)
    def test_an_answer_that_ends_within_its_headers(self, service, prefix):
        """Python's HTTP takes what it has for all of them: a size or a time may have lost its last digits."""
        env = start(service)
        with TcpProxy("127.0.0.1", urlsplit(env["S3_ENDPOINT"]).port) as proxy, contextlib.ExitStack() as stack:
            near = stack.enter_context(S3Storage(**options(env, BUCKET, prefix)))
            endpoint = f"http://127.0.0.1:{proxy.port}"
            far = stack.enter_context(S3Storage(**options(env, BUCKET, prefix, endpoint=endpoint)))
            near.put("x", [bytes(123456)])
            right, clock = near.stat("x"), near.now()
            outcomes = set()
            for after in range(15, 600, 4):
                for call in (lambda: far.stat("x"), far.now):
                    proxy.drop()
                    proxy.cut("close", after=after, direction="down")
                    try:
                        found = call()
                    except StorageUnavailable:
                        outcomes.add("error")
                    else:
                        outcomes.add("answer")
                        if call == far.now:
                            assert abs(found - clock) < timedelta(seconds=40)
                        else:
                            assert (found.size, found.modified) == (right.size, right.modified)
                    proxy.heal()
            assert outcomes == {"error", "answer"}

    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_a_put_is_whole_or_absent(self, far, near, proxy, how):
        for number, after in enumerate([0, 1000, 70_000, 3 * BLOCK, 6 * BLOCK - 1000]):
            proxy.drop()
            proxy.cut(how, after=after, direction="up")
            with pytest.raises(StorageUnavailable):
                far.put(f"{number}", [CONTENT])
            with contextlib.suppress(ObjectNotFound):
                assert near.get(f"{number}") == CONTENT
            proxy.heal()
            far.put(f"{number}", [CONTENT])
            assert near.get(f"{number}") == CONTENT

    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_a_listing_is_whole_or_an_error(self, far, near, proxy, how):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: near.put(f"{number:03}", [b""]), range(200)))
        wanted = names(near)
        assert len(wanted) == 200
        failed = 0
        for after in range(100, 60_000, 6_000):
            proxy.drop()
            proxy.cut(how, after=after, direction="down")
            try:
                assert names(far) == wanted
            except StorageUnavailable:
                failed += 1
            proxy.heal()
        assert failed >= 5

    def test_silence_ends_in_an_error_in_time(self, far, near, proxy):
        near.put("x", [CONTENT])
        far.stat("x")
        calls = {
            "get": (100_000, "down", lambda: far.get("x")),
            "stat": (0, "any", lambda: far.stat("x")),
            "list": (0, "any", lambda: names(far)),
            "put": (BLOCK, "up", lambda: far.put("y", [CONTENT] * 4)),
        }
        for name, (after, direction, call) in calls.items():
            proxy.drop()
            proxy.cut("stall", after=after, direction=direction)
            started = time.monotonic()
            with pytest.raises(StorageUnavailable):
                call()
            assert (name, time.monotonic() - started < 60) == (name, True)
            proxy.heal()
            assert far.get("x") == CONTENT
        assert names(near) == ["x"]

    def test_a_closed_storage_stays_closed(self, env, prefix):
        """Also for a thread that comes late: it would open connections that nobody closes."""
        storage = S3Storage(**options(env, BUCKET, prefix))
        storage.put("x", [b""])
        storage.close()
        for call in (lambda: storage.get("x"), lambda: storage.put("x", [b""]), lambda: list(storage.list())):
            with pytest.raises(StorageError, match="closed"):
                call()
        storage.close()

    def test_a_server_that_is_not_there(self, env, prefix):
        with S3Storage(**options(env, BUCKET, prefix, endpoint="http://127.0.0.1:1")) as storage:
            for call in (lambda: storage.get("x"), lambda: storage.put("x", [b""]), lambda: storage.capabilities):
                with pytest.raises(StorageUnavailable):
                    call().conditional_put  # noqa: B018

    def test_a_client_that_is_killed_leaves_nothing_visible(self, env, near, prefix):
        code = """
            import sys
            from freezer_sdk.storages.s3 import S3Storage
            storage = S3Storage(**eval(sys.argv[1]))
            with storage.upload("half") as upload:
                upload.write(bytes(11 << 20))
                print("ready", flush=True)
                while True:
                    upload.write(bytes(1 << 20))
        """
        settings = repr(options(env, BUCKET, prefix, part_size=5 << 20))
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), settings], stdout=subprocess.PIPE
        ) as client:
            client.stdout.readline()
            client.send_signal(signal.SIGKILL)
        assert names(near) == []
        with pytest.raises(FreezerError):
            near.get("half")
        near.put("half", [b"whole"])
        assert near.get("half") == b"whole"
