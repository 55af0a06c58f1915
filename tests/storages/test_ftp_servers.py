"""The FTP storages and what servers differ in: limits, rights, clocks, TLS, listings."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from ftp_server import own_server, storage
from servers import start
from tcp_proxy import TcpProxy

from freezer_sdk import open_storage
from freezer_sdk.errors import (
    AccessDenied,
    CapabilityMissing,
    ConfigurationError,
    ObjectNotFound,
    StorageError,
    StorageThrottled,
    StorageUnavailable,
)
from freezer_sdk.storages.ftp import FtpsStorage, FtpStorage

pytestmark = pytest.mark.ftp


@pytest.fixture(scope="module")
def vsftpd():
    return start("vsftpd")


@pytest.fixture(scope="module")
def pyftpdlib():
    return start("pyftpdlib")


@pytest.fixture(scope="module")
def odd():
    """vsftpd that takes few clients, tells times in its own zone, and wants TLS from the first byte."""
    values = {"VSFTPD_OPTIONS": "implicit_ssl=YES max_clients=2 use_localtime=YES", "TZ": "America/St_Johns"}
    with own_server("vsftpd", "odd", **values) as env:
        yield env


@pytest.fixture(scope="module")
def strict():
    """pyftpdlib that renames over no file, and has no room for large ones."""
    with own_server("pyftpdlib", "strict", PYFTPDLIB_OPTIONS="no-replace full") as env:
        yield env


@pytest.fixture
def folder():
    return uuid.uuid4().hex


def names(opened):
    return [info.name for info in opened.list()]


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "values"),
        [
            ("ftp://host", {"host": "host", "path": "/"}),
            ("ftp://host/a/b", {"host": "host", "path": "/a/b"}),
            ("ftp://me@host:2121/a%20b%3F", {"host": "host", "user": "me", "port": 2121, "path": "/a b?"}),
            ("ftp://m%40e:p%3As%2F@host/", {"host": "host", "user": "m@e", "password": "p:s/", "path": "/"}),
            ("ftp://[::1]:2121/a", {"host": "::1", "port": 2121, "path": "/a"}),
        ],
    )
    def test_understood(self, url, values):
        assert FtpStorage.parse_url(url) == values
        location = FtpStorage(**values).location
        assert "p:s" not in location
        assert "p%3As" not in location
        values.pop("password", None)
        assert FtpStorage.parse_url(location) == values

    @pytest.mark.parametrize(
        "url", ["ftp:/x", "ftp://", "ftp:///x", "ftps://h/x", "ftp://h/x?y", "ftp://h:x/", "ftp://h/%ff"]
    )
    def test_refused(self, url):
        with pytest.raises(ConfigurationError):
            FtpStorage.parse_url(url)

    def test_a_password_in_a_bad_url_is_not_repeated(self):
        with pytest.raises(ConfigurationError) as caught:
            FtpStorage.parse_url("ftp://me:canary@host/x?y")
        assert "canary" not in f"{caught.value} {caught.value.hint}"

    @pytest.mark.parametrize("path", ["relative", "/a/../b", "/a\r\nDELE b", "/a\0"])
    def test_bad_folders(self, path):
        with pytest.raises(ConfigurationError):
            FtpStorage(host="h", path=path)

    def test_both_are_found_by_name(self, vsftpd, folder):
        where = f"{vsftpd['FTP_USER']}:{vsftpd['FTP_PASSWORD']}@localhost:{vsftpd['FTPS_PORT']}/data/{folder}"
        with open_storage(f"ftps://{where}", options={"ca_file": vsftpd["FTP_CA"]}) as opened:
            opened.put("x", [b"x"])
            assert vsftpd["FTP_PASSWORD"] not in opened.location
        assert (Path(vsftpd["FTP_FOLDER"]) / folder / "x").read_bytes() == b"x"


class TestTls:
    def test_a_host_name_that_is_not_in_the_certificate(self, vsftpd, folder):
        with TcpProxy("127.0.0.1", int(vsftpd["FTPS_PORT"]), listen_host="127.0.0.3") as proxy:
            values = {"host": "127.0.0.3", "port": proxy.port}
            with storage(vsftpd, folder, tls=True, **values) as far, pytest.raises(AccessDenied, match="certificate"):
                far.put("x", [b"x"])

    def test_insecure_is_loud(self, vsftpd, folder, caplog):
        with storage(vsftpd, folder, tls=True, ca_file=None, insecure=True) as far:
            far.put("x", [b"x"])
            assert far.get("x") == b"x"
        assert [record.levelname for record in caplog.records if "not checked" in record.message] == ["WARNING"]

    def test_a_server_without_tls_gets_no_password(self, vsftpd, folder):
        port = int(vsftpd["FTP_PORT"])
        with storage(vsftpd, folder, tls=True, port=port) as far, pytest.raises(StorageError, match="TLS"):
            far.put("x", [b"x"])

    @pytest.mark.parametrize("server", ["vsftpd", "pyftpdlib"])
    def test_a_server_that_insists_on_tls(self, server, folder, request):
        env = request.getfixturevalue(server)
        with storage(env, folder, port=int(env["FTPS_PORT"])) as far, pytest.raises(AccessDenied) as caught:
            far.put("x", [b"x"])
        assert "ftps://" in caught.value.hint

    def test_from_the_first_byte(self, odd, folder):
        with storage(odd, folder, tls=True, implicit=True) as far:
            far.put("x", [b"x" * 100_000])
            assert far.get("x") == b"x" * 100_000
            assert names(far) == ["x"]
        assert FtpsStorage(host="h", implicit=True).location == "ftps://h/"

    def test_no_such_authorities(self, tmp_path):
        (tmp_path / "ca.pem").write_text("nothing")
        for file in ("ca.pem", "absent.pem"):
            with pytest.raises(ConfigurationError):
                FtpsStorage(host="h", ca_file=str(tmp_path / file))

    def test_every_data_connection_resumes(self, vsftpd, folder):
        """The server refuses others (require_ssl_reuse); also after many, and from several threads."""
        with storage(vsftpd, folder, tls=True) as far, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: far.put(f"{number}", [b"x"]), range(40)))
            assert set(pool.map(far.get, map(str, range(40)))) == {b"x"}


class TestLimits:
    def test_fewer_connections_must_do(self, odd, folder):
        with storage(odd, folder, connections=6) as far, ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda number: far.put(f"{number}", [b"x" * 10_000]), range(30)))
            assert len(names(far)) == 30

    def test_none_at_all(self, odd, folder):
        with contextlib.ExitStack() as stack:
            taken, deadline = 0, time.monotonic() + 60
            while taken < 2 and time.monotonic() < deadline:  # sessions of the test before may still be ending
                client = stack.enter_context(socket.create_connection(("127.0.0.1", int(odd["FTP_PORT"])), 5))
                taken += client.recv(100).startswith(b"220")
            with storage(odd, folder) as far, pytest.raises(StorageThrottled):
                far.put("x", [b"x"])

    def test_more_threads_than_connections(self, vsftpd, folder):
        with storage(vsftpd, folder, connections=1) as far, ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda number: far.put(f"{number}", [b"x"]), range(20)))
            assert len(names(far)) == 20

    def test_a_thread_does_not_wait_for_itself(self, vsftpd, folder):
        with storage(vsftpd, folder, connections=1) as far, far.upload("x") as upload:
            upload.write(b"x")
            far.put("y", [b"y"])
            with far.open("y") as reader:
                assert names(far) == ["y"]
                assert reader.read() == b"y"
            upload.commit()
            assert names(far) == ["x", "y"]

    def test_waiting_for_a_connection_ends(self, vsftpd, folder):
        with storage(vsftpd, folder, connections=1, timeout=1.0) as far, far.upload("x"), ThreadPoolExecutor(1) as pool:
            started = time.monotonic()
            with pytest.raises(StorageThrottled):
                pool.submit(far.get, "y").result()
            assert time.monotonic() - started < 60

    def test_a_full_disk(self, strict, folder):
        """This server does not say what is wrong."""
        with storage(strict, folder) as far:
            with pytest.raises(StorageError):
                far.put("large", [bytes(3 << 20)])
            assert names(far) == []
            far.put("small", [b"x"])
        assert [path.name for path in (Path(strict["FTP_FOLDER"]) / folder / ".freezer-tmp").iterdir()] == []


class TestRights:
    def test_a_reader(self, pyftpdlib, folder):
        with storage(pyftpdlib, folder) as writer:
            writer.put("a/b", [b"x"])
        for user, password in (("reader", pyftpdlib["FTP_PASSWORD"]), ("anonymous", None)):
            with storage(pyftpdlib, folder, user=user, password=password) as reader:
                assert reader.get("a/b") == b"x"
                assert names(reader) == ["a/b"]
                for call in (lambda: reader.put("c", [b"x"]), lambda: reader.delete("a/b"), reader.now):
                    with pytest.raises(AccessDenied):
                        call()
                reader.delete("absent")

    def test_who_may_not_rename(self, pyftpdlib, folder):
        with storage(pyftpdlib, folder, user="adder") as adder:
            with pytest.raises(AccessDenied):
                adder.put("x", [b"x"])
            assert names(adder) == []

    @pytest.mark.root
    def test_what_the_servers_system_denies(self, vsftpd, folder):
        """vsftpd says the same as of what is not there."""
        place = Path(vsftpd["FTP_FOLDER"]) / folder
        with storage(vsftpd, folder) as far:
            far.put("closed/x", [b"x"])
            far.put("y", [b"y"])
            os.chmod(place / "y", 0)
            with pytest.raises(AccessDenied):
                far.get("y")
            assert far.stat("y").size == 1
            with pytest.raises(ObjectNotFound):
                far.get("z")
            os.chmod(place / "closed", 0)
            for call in (far.get, far.stat, far.delete, lambda name: far.put(name, [b""])):
                with pytest.raises(AccessDenied):
                    call("closed/x")
            with pytest.raises(AccessDenied):
                names(far)
            with pytest.raises(AccessDenied):
                list(far.list(delimiter="/"))
            os.chmod(place / "closed", 0o755)
            os.chown(place / "closed", 0, 0)
            with pytest.raises(AccessDenied):
                far.delete("closed/x")
            with pytest.raises(AccessDenied):
                far.delete_many(["y", "closed/x", "absent"])
            assert names(far) == ["closed/x"]

    def test_the_folder_may_be_missing(self, vsftpd, folder):
        with storage(vsftpd, f"{folder}/deeper") as far:
            assert names(far) == []
            with pytest.raises(ObjectNotFound):
                far.get("x")
            far.delete("x")
            far.put("x", [b"x"])
            assert names(far) == ["x"]

    def test_the_folder_may_be_a_file(self, vsftpd, folder):
        (Path(vsftpd["FTP_FOLDER"]) / folder).write_bytes(b"")
        with storage(vsftpd, folder) as far:
            assert names(far) == []
            with pytest.raises(StorageError, match="no folder"):
                far.put("x", [b"x"])

    def test_links_are_no_objects(self, vsftpd, folder):
        place = Path(vsftpd["FTP_FOLDER"]) / folder
        with storage(vsftpd, folder) as far:
            far.put("real/x", [b"x"])
            (place / "file").symlink_to("real/x")
            (place / "folder").symlink_to("real")
            os.mkfifo(place / "pipe")
            assert names(far) == ["real/x"]


class TestReplacing:
    def test_where_the_server_does_not(self, strict, folder):
        with storage(strict, folder) as far:
            far.put("x", [b"old"])
            with pytest.raises(CapabilityMissing) as caught:
                far.put("x", [b"new"])
            assert "delete" in caught.value.hint
            assert far.get("x") == b"old"
            assert names(far) == ["x"]

    def test_a_repeated_put_is_none(self, strict, folder):
        """Its answer may have been lost; what is there is what should be."""
        with storage(strict, folder) as far:
            first = far.put("x", [b"o", b"ld"])
            assert far.put("x", [b"old"]) == first


class TestTimes:
    def test_in_the_zone_of_the_server(self, odd, folder):
        """Wrong by hours for both, so that differences are right."""
        with storage(odd, folder) as far:
            before, stored, after = far.now(), far.put("x", [b"x"]).modified, far.now()
            assert before <= stored <= after
            assert far.stat("x").modified == stored
            assert next(iter(far.list())).modified == stored

    @pytest.mark.parametrize("age", [0, 200, 1000, 5000])
    def test_exact_whatever_the_age(self, vsftpd, pyftpdlib, folder, age):
        """LIST shows minutes, and no more than the day after half a year."""
        moment = int(time.time()) - age * 86400 - 1234
        for env in (vsftpd, pyftpdlib):
            with storage(env, folder) as far:
                far.put("x", [b"x"])
                os.utime(Path(env["FTP_FOLDER"]) / folder / "x", (moment, moment))
                assert far.stat("x").modified.timestamp() == moment
                assert next(iter(far.list())).modified.timestamp() == moment


class TestHousekeeping:
    def test_unfinished_files(self, vsftpd, folder):
        """They are not listed, cannot be named, and go when they are old."""
        with storage(vsftpd, folder) as far:
            far.put("x", [b"x"])
            hidden = Path(vsftpd["FTP_FOLDER"]) / folder / ".freezer-tmp"
            for name, age in (("old", 25 * 3600), ("young", 23 * 3600)):
                (hidden / name).write_bytes(b"")
                os.chown(hidden / name, *os.stat(hidden)[4:6])
                os.utime(hidden / name, (time.time() - age,) * 2)
            assert names(far) == ["x"]
            assert [info.name for info in far.list(delimiter="/")] == ["x"]
        with storage(vsftpd, folder) as far:
            far.put("y", [b"y"])
            assert [path.name for path in hidden.iterdir()] == ["young"]

    def test_what_a_broken_connection_left(self, vsftpd, folder):
        with TcpProxy("127.0.0.1", int(vsftpd["FTP_PORT"])) as proxy, storage(vsftpd, folder, port=proxy.port) as far:
            far.put("x", [b"x"])
            with far.upload("y") as upload:
                upload.write(b"y" * (1 << 20))
                proxy.drop()
            far.put("z", [b"z"])
            hidden = Path(vsftpd["FTP_FOLDER"]) / folder / ".freezer-tmp"
            assert list(hidden.iterdir()) == []


class TestWays:
    @pytest.mark.parametrize("tls", [False, True])
    def test_ipv6(self, pyftpdlib, folder, tls):
        try:
            socket.create_connection(("::1", int(pyftpdlib["FTP_PORT"])), 1).close()
        except OSError:
            pytest.skip("there is no IPv6")
        others = {"host": "::1", **({"insecure": True} if tls else {})}  # the certificate names IPv4 only
        with storage(pyftpdlib, folder, tls=tls, **others) as far:
            far.put("x", [b"x"])
            assert far.get("x") == b"x"
            assert names(far) == ["x"]
            assert "[::1]" in far.location

    @pytest.mark.parametrize("tls", [False, True])
    def test_a_proxy_carries_everything(self, vsftpd, folder, tls):
        with TunnelProxy() as tunnel:
            with storage(vsftpd, folder, tls=tls, proxy=f"http://127.0.0.1:{tunnel.port}", connections=1) as far:
                far.put("x", [b"x"])
                assert far.get("x") == b"x"
            assert tunnel.targets[0] == ("127.0.0.1", int(vsftpd["FTPS_PORT" if tls else "FTP_PORT"]))
            assert len(tunnel.targets) == 4  # commands, a try before the folder was made, up, down

    def test_a_proxy_that_is_not_there(self, vsftpd, folder):
        with storage(vsftpd, folder, proxy="socks5://127.0.0.1:1") as far, pytest.raises(StorageUnavailable):
            far.put("x", [b"x"])


class TunnelProxy(socketserver.ThreadingTCPServer):
    """A proxy for HTTP that knows CONNECT."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Tunnel)
        self.port = self.server_address[1]
        self.targets = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Tunnel(socketserver.StreamRequestHandler):
    def handle(self):
        host, port = self.rfile.readline().split()[1].decode().rsplit(":", 1)
        while self.rfile.readline().strip():
            pass
        self.server.targets.append((host, int(port)))
        with socket.create_connection((host, int(port))) as there:
            self.wfile.write(b"HTTP/1.1 200 go\r\n\r\n")
            back = threading.Thread(target=pump, args=(there, self.connection))
            back.start()
            pump(self.connection, there)
            back.join()


def pump(source, target):
    with contextlib.suppress(OSError):
        while piece := source.recv(65536):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
