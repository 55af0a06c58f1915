"""The FTP storages when connections drop, stall or are cut short, logins fail, clients and servers die."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import trees
from servers import start, stop
from ssh_server import descriptors
from tcp_proxy import TcpProxy

from freezer_sdk import Freezer
from freezer_sdk.errors import (
    AccessDenied,
    ConfigurationError,
    InvalidName,
    ObjectNotFound,
    StorageUnavailable,
)
from freezer_sdk.reliable import ReliableStorage
from freezer_sdk.storages.ftp import FtpsStorage, FtpStorage

pytestmark = pytest.mark.ftp

CONTENT = hashlib.shake_128(b"content").digest(6 << 20)
PASSIVE = 8
HANGS = 60  # seconds after which a call that should have failed hangs, on the slowest machine


@pytest.fixture(scope="module")
def env():
    return start("vsftpd")


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request):
    return request.param


def options(env, folder, *, tls=False, **others):
    values = {"host": "127.0.0.1", "port": int(env["FTPS_PORT" if tls else "FTP_PORT"]), "user": env["FTP_USER"]}
    values |= {"password": env["FTP_PASSWORD"], "path": f"{env['FTP_PATH']}/{folder}", "timeout": 20.0}
    values |= {"ca_file": env["FTP_CA"]} if tls else {}
    return values | others


def storage(env, folder, *, tls=False, **others):
    return (FtpsStorage if tls else FtpStorage)(**options(env, folder, tls=tls, **others))


def patient(opened):
    """The same storage, for what is not under test: a slow machine may keep a connection waiting for too long."""
    return ReliableStorage(opened)


@pytest.fixture
def folder(request):
    return f"{os.getpid()}-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"


def names(opened):
    return [info.name for info in opened.list()]


def put_often(opened):
    for _ in range(50):
        opened.put("x", [CONTENT[:1000]])


class TestLogin:
    def test_a_certificate_of_somebody_else(self, env, folder):
        """Refused with a hint, before user and password are sent."""
        user = f"nobody-{folder}"
        with storage(env, folder, tls=True, ca_file=None, user=user) as far, pytest.raises(AccessDenied) as caught:
            far.put("x", [b""])
        assert "ca_file" in str(caught.value.hint)
        with open(env["FTPS_LOG"]) as log:
            assert user not in log.read()
        with storage(env, folder, tls=True, user=user) as far, pytest.raises(AccessDenied):
            far.put("x", [b""])
        with open(env["FTPS_LOG"]) as log:
            assert user in log.read()

    def test_a_wrong_password(self, env, folder, tls):
        with storage(env, folder, tls=tls, password="canary-wrong") as far, pytest.raises(AccessDenied) as caught:
            far.put("x", [b""])
        error = caught.value
        while error is not None:
            assert "canary" not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__

    def test_the_password_is_nowhere(self, env, folder, tls, caplog, capfd):
        caplog.set_level(logging.DEBUG)
        with storage(env, folder, tls=tls) as far:
            far.put("x", [b"x"])
            shown = [repr(far), far.location, repr(vars(far)), repr(vars(far._pool))]
        shown += [caplog.text, *capfd.readouterr()]
        assert [text for text in shown if env["FTP_PASSWORD"] in text] == []

    @pytest.mark.parametrize("name", ["a\rb", "a\nDELE b", "a\r\nb/c"])
    def test_names_with_line_ends(self, env, folder, name):
        with storage(env, folder) as far:
            for call in (far.stat, far.get, far.delete, lambda bad: far.put(bad, [b""])):
                with pytest.raises(InvalidName):
                    call(name)

    def test_options_with_line_ends(self, env, folder):
        for name in ("user", "password", "path", "host"):
            with pytest.raises(ConfigurationError):
                storage(env, folder, **{name: "/a\r\nDELE b"})


class TestControlConnection:
    def test_silence_ends_in_time(self, env, folder, tls):
        with TcpProxy("127.0.0.1", int(env["FTPS_PORT" if tls else "FTP_PORT"])) as proxy:
            others = {"port": proxy.port, "timeout": 1.0, "connect_timeout": 1.0, "connections": 1}
            with storage(env, folder, tls=tls, **others) as far:
                for after in (0, 30, 400):
                    patient(far).put("old", [b"old"])
                    proxy.cut("stall", after=after)
                    started = time.monotonic()
                    with pytest.raises(StorageUnavailable):
                        put_often(far)
                    assert time.monotonic() - started < HANGS
                    proxy.drop()
                    proxy.heal()
                    patient(far).put("x", [b"content"])
                    assert patient(far).get("x") == b"content"

    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_whole_or_an_error(self, env, folder, tls, how):
        with (
            TcpProxy("127.0.0.1", int(env["FTPS_PORT" if tls else "FTP_PORT"])) as proxy,
            storage(env, folder, tls=tls, port=proxy.port, connections=1) as far,
            storage(env, folder, tls=tls) as near,
        ):
            near.put("old", [CONTENT])
            for number, after in enumerate((0, 40, 90, 150, 250)):
                patient(far).stat("old")
                proxy.cut(how, after=after, times=1)
                with contextlib.suppress(StorageUnavailable):
                    far.put(str(number), [CONTENT])
                with contextlib.suppress(ObjectNotFound):
                    assert near.get(str(number)) == CONTENT
                with contextlib.suppress(StorageUnavailable):
                    assert far.get("old") == CONTENT
                proxy.heal()
                patient(far).put(str(number), [CONTENT])
                assert near.get(str(number)) == CONTENT
            assert names(patient(far)) == ["0", "1", "2", "3", "4", "old"]


class TestDataConnections:
    @pytest.fixture(scope="class")
    @staticmethod
    def own():
        """A server whose ports for data are known."""
        instance = f"faults-{os.getpid()}"
        yield start("vsftpd", instance=instance, VSFTPD_PASSIVE=str(PASSIVE))
        stop("vsftpd", instance=instance)

    @pytest.fixture
    def proxies(self, own, tls):
        with contextlib.ExitStack() as stack:
            control = TcpProxy("127.0.0.1", int(own["FTPS_PORT" if tls else "FTP_PORT"]), listen_host="127.0.0.2")
            stack.enter_context(control)
            ports = range(int(own["FTP_PASSIVE_FIRST"]), int(own["FTP_PASSIVE_LAST"]) + 1)
            made = [TcpProxy("127.0.0.1", port, listen_host="127.0.0.2", listen_port=port) for port in ports]
            yield control, [stack.enter_context(proxy) for proxy in made]

    @pytest.mark.parametrize("how", ["reset", "close", "stall"])
    def test_never_a_wrong_byte(self, own, folder, tls, how, proxies):
        control, data = proxies
        others = {"host": "127.0.0.2", "port": control.port, "timeout": 1.0, "connections": 1}
        with storage(own, folder, tls=tls) as near:
            near.put("old", [CONTENT])
        with storage(own, folder, tls=tls, **others) as far:
            failed = []
            for direction, call in (("up", lambda: far.put("new", [CONTENT])), ("down", lambda: far.get("old"))):
                for proxy in data:
                    proxy.cut(how, after=1 << 20, direction=direction)
                started = time.monotonic()
                try:
                    done = call()
                except StorageUnavailable:
                    failed.append(direction)
                else:
                    assert done == (CONTENT if direction == "down" else patient(far).stat("new"))
                assert time.monotonic() - started < HANGS
                for proxy in data:
                    proxy.drop()
                    proxy.heal()
                assert names(patient(far)) == (["old"] if "up" in failed else ["new", "old"])
            assert failed, "no connection went through the proxies"
            assert patient(far).get("old") == CONTENT
            patient(far).put("new", [CONTENT])
            assert patient(far).get("new") == CONTENT

    def test_an_end_that_only_looks_like_one(self, own, folder, tls, proxies):
        """The server has sent all and says so, but the rest was lost on the way."""
        control, data = proxies
        with storage(own, folder, tls=tls, host="127.0.0.2", port=control.port, connections=1) as far:
            patient(far).put("small", [CONTENT[:100_000]])
            for proxy in data:
                proxy.cut("close", after=50_000, direction="down")
            with pytest.raises(StorageUnavailable):
                far.get("small")
            with pytest.raises(StorageUnavailable), far.open("small") as reader:
                reader.read()

    def test_a_listing_that_is_cut(self, own, folder, tls, proxies):
        control, data = proxies
        with storage(own, folder, tls=tls, host="127.0.0.2", port=control.port, connections=1) as far:
            wanted = [f"{number:03}" for number in range(60)]
            with storage(own, folder, tls=tls) as near:
                for name in wanted:
                    near.put(name, [b""])
            for proxy in data:
                proxy.cut("close", after=1000, direction="down")
            with contextlib.suppress(StorageUnavailable):
                assert names(far) == wanted


class TestDeath:
    def test_of_the_client_leaves_nothing_visible(self, env, folder, tls):
        code = """
            import sys
            from freezer_sdk.storages import ftp
            with getattr(ftp, sys.argv[1])(**eval(sys.argv[2])).upload("half") as upload:
                upload.write(bytes(3 << 20))
                print("ready", flush=True)
                while True:
                    upload.write(bytes(1 << 20))
        """
        kind = "FtpsStorage" if tls else "FtpStorage"
        command = [sys.executable, "-c", textwrap.dedent(code), kind, repr(options(env, folder, tls=tls))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            client.stdout.readline()
            client.send_signal(signal.SIGKILL)
        with storage(env, folder, tls=tls) as near:
            assert names(near) == []
            near.put("half", [b"whole"])
            assert near.get("half") == b"whole"

    def test_nothing_is_left_after_closing(self, env, folder, tls):
        threads, opened = set(threading.enumerate()), descriptors()
        with (
            TcpProxy("127.0.0.1", int(env["FTPS_PORT" if tls else "FTP_PORT"])) as proxy,
            storage(env, folder, tls=tls, port=proxy.port, timeout=1.0) as far,
        ):
            for how in ("reset", "close", "stall"):
                patient(far).put("x", [b"x"])
                proxy.drop(how)
                with contextlib.suppress(StorageUnavailable):
                    far.get("x")
            patient(far).stat("x")
            with contextlib.suppress(StorageUnavailable), far.upload("y"), far.open("x"):
                far.stat("x")
        assert set(threading.enumerate()) == threads
        assert descriptors() == opened


def freezer(env, folder, *, tls, retry_time=60.0, **others):
    values = options(env, folder, tls=tls, timeout=10.0, retry_time=retry_time)
    port, user, path = values.pop("port"), values.pop("user"), values.pop("path")
    url = f"{'ftps' if tls else 'ftp'}://{user}@{values.pop('host')}:{port}{path}"
    return Freezer(url, password="canary", storage_options=values, **others)


def test_backups(env, folder, tls, tmp_path):
    trees.make_every_kind(tmp_path / "source")
    with freezer(env, folder, tls=tls, create=True) as opened:
        backup = opened.backup(tmp_path / "source")
        assert opened.verify(read_data=True).problems == ()
        opened.restore(backup.id, tmp_path / "target")
    trees.compare(tmp_path / "source", tmp_path / "target")


def test_server_killed_and_restarted_in_mid_backup(folder, tmp_path):
    """The run goes on where it was; the earlier backup and the new one are whole."""
    instance = f"killed-{os.getpid()}"
    env = start("vsftpd", instance=instance)
    large(tmp_path / "source", 1)
    try:
        with freezer(env, folder, tls=True, create=True) as opened:
            first = opened.backup(tmp_path / "source")
            large(tmp_path / "source", 30)
            opened.limits.upload = "15M"  # so that it is in the middle for two seconds

            def away():
                time.sleep(0.7)
                stop("vsftpd", instance=instance)
                time.sleep(0.5)
                opened.limits.upload = None
                start("vsftpd", instance=instance)

            killer = threading.Thread(target=away)
            killer.start()
            second = opened.backup(tmp_path / "source")
            killer.join()
            assert [backup.id for backup in opened.backups()] == [first.id, second.id]
            assert opened.verify(read_data=True).problems == ()
            opened.restore(second.id, tmp_path / "target")
        trees.compare(tmp_path / "source", tmp_path / "target")
    finally:
        stop("vsftpd", instance=instance)


def test_server_that_does_not_come_back(folder, tmp_path):
    """The run fails clearly and in time."""
    instance = f"killed-{os.getpid()}"
    env = start("vsftpd", instance=instance)
    large(tmp_path / "source", 1)
    try:
        with freezer(env, folder, tls=False, create=True, retry_time=1.0) as opened:
            first = opened.backup(tmp_path / "source")
            large(tmp_path / "source", 30)
            opened.limits.upload = "15M"
            killer = threading.Timer(0.7, stop, ("vsftpd",), {"instance": instance})
            killer.start()
            started = time.monotonic()
            with pytest.raises(StorageUnavailable):
                opened.backup(tmp_path / "source")
            assert time.monotonic() - started < HANGS
            killer.join()
        env = start("vsftpd", instance=instance)
        with freezer(env, folder, tls=False) as opened:
            assert [backup.id for backup in opened.backups()] == [first.id]
            assert opened.verify(read_data=True).problems == ()
    finally:
        stop("vsftpd", instance=instance)


def large(folder, megabytes):
    folder.mkdir(exist_ok=True)
    for number in range(megabytes):
        (folder / str(number)).write_bytes(os.urandom(1 << 20))
