"""The storage ``sftp`` against a real OpenSSH server: the contract, and what lies on the server."""

from __future__ import annotations

import os
import stat
import time
import uuid
from datetime import UTC, datetime

import pytest
from ssh_server import Sshd
from tcp_proxy import TcpProxy

from freezer_sdk.errors import (
    CapabilityMissing,
    ChecksumMismatch,
    ConfigurationError,
    InvalidName,
    ObjectNotFound,
    StorageUnavailable,
)
from freezer_sdk.plugins import STORAGE, PluginRegistry
from freezer_sdk.storages.sftp import SftpStorage
from freezer_sdk.testing.storage_suite import StorageSuite

pytestmark = pytest.mark.sshd

BLOCK = 1 << 20


@pytest.fixture(scope="module")
def sshd():
    return Sshd.start()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def lasting(tmp_path_factory):
    """A place that is still there when a suite cleans up, which it does after ``tmp_path`` has gone."""
    return tmp_path_factory.mktemp("sftp") / "store"


@pytest.fixture
def storage(sshd, path):
    with sshd.storage(path) as storage:
        yield storage


def names(storage, prefix=""):
    return [info.name for info in storage.list(prefix)]


class TestSftp(StorageSuite):
    many = 10_001

    @pytest.fixture(autouse=True)
    def _server(self, sshd, lasting):
        self.options = sshd.options(lasting)

    def make_storage(self):
        return SftpStorage(**self.options)


@pytest.fixture(scope="module")
def account_path(sshd):
    """A path as the restricted account sees it."""
    sshd.account("/")
    name = f"suite-{uuid.uuid4().hex}"
    yield f"/data/{name}"
    folder = sshd.account_folder(name, remove=False)
    assert os.listdir(folder) == [".freezer-tmp"]
    assert len(os.listdir(folder / ".freezer-tmp")) <= 2  # of the clients that were killed
    sshd.account_folder(name)


class TestRestrictedAccount(StorageSuite):
    """A user that may do nothing but SFTP, and sees nothing but its own root."""

    many = 300

    @pytest.fixture(autouse=True)
    def _server(self, sshd, account_path):
        password = sshd.env["SSH_ACCOUNT_PASSWORD"]
        self.options = sshd.account(account_path, password=password, identity_file=None, connections=2)

    def make_storage(self):
        return SftpStorage(**self.options)


class TestServerWithoutExtensions(StorageSuite):
    """Nothing but SFTP version 3: no hard links, no atomic replacing, no fsync; and one connection for everybody."""

    many = 300

    @pytest.fixture(autouse=True)
    def _server(self, sshd, lasting):
        self.options = sshd.options(lasting, port=int(sshd.env["SSH_PORT_PLAIN"]), connections=1)

    def make_storage(self):
        return SftpStorage(**self.options)

    def test_put_replaces(self):
        self.put("again", b"first")
        with pytest.raises(CapabilityMissing):
            self.put("again", b"second")
        self.put("again", b"first")
        assert self.storage.get(self.key("again")) == b"first"
        self.check_listed(["again"])

    def test_upload_replaces(self):
        self.put("again", b"first")
        with self.storage.upload(self.key("again")) as upload:
            upload.write(b"second")
            with pytest.raises(CapabilityMissing):
                upload.commit()
        assert self.storage.get(self.key("again")) == b"first"

    def test_readers_see_all_or_nothing(self):
        """Nothing is ever replaced here."""

    def test_what_it_declares(self):
        assert not self.capabilities.conditional_put

    def test_any_call_may_be_the_first_on_a_connection(self):
        """Also one with many requests: the answers go to who asked."""
        name = self.key("a/b/c")
        for first in (
            lambda s: s.delete(name),
            lambda s: s.delete_many([name, name]),
            lambda s: list(s.list()),
            SftpStorage.now,
        ):
            self.put("a/b/c")
            with self.make_storage() as fresh:
                first(fresh)
        self.check_listed(["a/b/c"])


def test_it_is_installed_under_both_names():
    registry = PluginRegistry()
    assert registry.require(STORAGE, "sftp") is registry.require(STORAGE, "ssh") is SftpStorage


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("sftp://host/srv/backups", {"host": "host", "path": "/srv/backups"}),
            ("ssh://u@host:2222/a b", {"host": "host", "user": "u", "port": 2222, "path": "/a b"}),
            ("sftp://u:p%40ss@host/x", {"host": "host", "user": "u", "password": "p@ss", "path": "/x"}),
            ("sftp://u%40corp@[::1]:22/x", {"host": "::1", "user": "u@corp", "port": 22, "path": "/x"}),
            ("sftp://host/~/below/home", {"host": "host", "path": "below/home"}),
            ("sftp://host/./below/home", {"host": "host", "path": "below/home"}),
            ("sftp://host/~", {"host": "host", "path": "."}),
            ("sftp://host/%7E/a%2Fb%3F", {"host": "host", "path": "a/b?"}),
        ],
    )
    def test_parsed(self, url, expected):
        assert SftpStorage.parse_url(url) == expected

    @pytest.mark.parametrize(
        "url",
        [
            "sftp://host",
            "sftp:///srv",
            "sftp:/srv",
            "sftp://u:canary@host:port/x",
            "sftp://u:canary@host/x?y",
            "sftp://u:canary@host/x#y",
            "sftp://u:canary@host/~other/x",
            "http://u:canary@host/x",
        ],
    )
    def test_refused_without_showing_a_password(self, url):
        with pytest.raises(ConfigurationError) as caught:
            SftpStorage.parse_url(url)
        assert "canary" not in f"{caught.value} {caught.value.hint}"

    @pytest.mark.parametrize(
        "options",
        [
            {"host": "host", "path": "/srv/a b/ü?#"},
            {"host": "::1", "path": "/x", "port": 2222, "user": "u@corp:x"},
            {"host": "host", "path": "relative/x"},
            {"host": "host", "path": "."},
            {"host": "host", "path": "/"},
        ],
    )
    def test_location_names_the_same_place(self, options):
        assert SftpStorage.parse_url(SftpStorage(**options).location) == options

    def test_location_has_no_password(self):
        options = SftpStorage.parse_url("sftp://u:canary@host/x")
        assert SftpStorage(**options).location == "sftp://u@host/x"
        assert "canary" not in repr(SftpStorage(**options))

    @pytest.mark.parametrize(
        "options",
        [
            {"path": "~other/x"},
            {"path": "nul\0"},
            {"host_key": "MD5:aa:bb"},
            {"host_key": "SHA256:short"},
            {"user": "with blank"},
            {"user": "line\nProxyCommand touch"},
            {"connections": 0},
            {"timeout": 0.0},
            {"proxy": "nonsense"},
            {"proxy_jump": "user:password@host"},
            {"proxy_jump": "a,,b"},
        ],
    )
    def test_options_that_make_no_sense(self, options):
        with pytest.raises(ConfigurationError):
            SftpStorage(**{"host": "host", "path": "/x", **options})


class TestOnTheServer:
    def test_files_are_private(self, storage, path):
        storage.put("a/b", [b"x"])
        for entry in (path, path / "a", path / "a/b", path / ".freezer-tmp"):
            assert stat.S_IMODE(entry.stat().st_mode) & 0o077 == 0

    def test_relative_to_the_login(self, sshd):
        name = f"home-{uuid.uuid4().hex}"
        with SftpStorage(**sshd.account(f"data/{name}")) as storage:
            storage.put("x", [b"here"])
            assert storage.get("x") == b"here"
            assert storage.location.endswith(f"/~/data/{name}")
        sshd.account_folder(name)

    def test_the_root_may_be_a_link(self, sshd, tmp_path, path):
        (tmp_path / "disk").mkdir()
        path.symlink_to("disk")
        with sshd.storage(path) as storage:
            storage.put("a/b", [b"x"])
            assert names(storage) == ["a/b"]
            storage.flush()
        assert (tmp_path / "disk/a/b").read_bytes() == b"x"

    def test_links_below_the_root_are_no_objects(self, storage, path, tmp_path):
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/file").write_bytes(b"secret")
        storage.put("there", [b"x"])
        (path / "link").symlink_to(tmp_path / "outside/file")
        (path / "folder").symlink_to(tmp_path / "outside")
        (path / "loop").symlink_to("loop")
        assert names(storage) == ["there"]
        assert names(storage, "folder/") == []
        assert [info.name for info in storage.list(delimiter="/")] == ["there"]
        for name in ("link", "loop", "folder"):
            with pytest.raises(ObjectNotFound):
                storage.get(name)
            with pytest.raises(ObjectNotFound):
                storage.stat(name)
        with pytest.raises(InvalidName):
            storage.put("folder/new", [b"x"])
        assert os.listdir(tmp_path / "outside") == ["file"]

    def test_other_things_are_no_objects(self, storage, path):
        storage.put("there", [b"x"])
        (path / "empty/deep").mkdir(parents=True)
        os.mkfifo(path / "fifo")
        (path / os.fsdecode(b"latin-\xe4")).write_bytes(b"x")
        assert names(storage) == ["there"]
        assert [info.name for info in storage.list(delimiter="/")] == ["there"]
        for name in ("fifo", "empty"):  # whoever opens the first one waits for ever
            with pytest.raises(ObjectNotFound):
                storage.get(name)
            with pytest.raises(ObjectNotFound), storage.open(name):
                pass
        assert storage.get("there") == b"x"
        os.close(os.open(path / "fifo", os.O_RDWR | os.O_NONBLOCK))  # lets the server's processes go that do wait

    def test_reserved_names(self, storage):
        for name in (".freezer-tmp", ".freezer-tmp/x", "lost+found/x"):
            for call in (storage.get, storage.stat, storage.delete, lambda name: storage.put(name, [b""])):
                with pytest.raises(InvalidName):
                    call(name)
        assert names(storage, ".freezer-tmp/") == []

    def test_a_part_that_is_too_long(self, storage):
        storage.put("fits/" + "x" * 255, [b"x"])
        for call in (storage.get, storage.stat, lambda name: storage.put(name, [b""])):
            with pytest.raises(InvalidName):
                call("x" * 256)
        assert len(names(storage)) == 1

    def test_unfinished_files_are_reaped_when_they_are_old(self, sshd, path):
        (path / ".freezer-tmp").mkdir(parents=True)
        old, young = path / ".freezer-tmp/old", path / ".freezer-tmp/young"
        for file, age in ((old, 25 * 3600), (young, 23 * 3600)):
            file.write_bytes(b"unfinished")
            os.utime(file, (time.time() - age,) * 2)
        with sshd.storage(path) as storage:
            storage.put("x", [b""])
            assert names(storage) == ["x"]
        assert os.listdir(path / ".freezer-tmp") == ["young"]

    def test_nothing_unfinished_stays(self, storage, path):
        storage.put("a", [b"x" * 3 * BLOCK])
        storage.put("b", [b"x"], if_absent=True)
        storage.now()
        with storage.upload("c") as upload:
            upload.write(b"x" * 3 * BLOCK)
        storage.stat("a")  # the last requests were done before this one
        assert os.listdir(path / ".freezer-tmp") == []

    def test_times_are_those_of_the_server(self, storage, path):
        before = datetime.now(UTC).replace(microsecond=0)
        info = storage.put("x", [b"x"])
        assert before <= info.modified <= datetime.now(UTC)
        os.utime(path / "x", (1_000_000_000,) * 2)
        assert storage.stat("x").modified == datetime.fromtimestamp(1_000_000_000, UTC)

    def test_a_file_that_shrinks_while_it_is_read(self, storage, path):
        storage.put("x", [os.urandom(8 * BLOCK)])
        with storage.open("x") as reader:
            reader.read(10)
            os.truncate(path / "x", 6 * BLOCK)
            with pytest.raises(ChecksumMismatch):
                reader.read()

    def test_ranges_fetch_no_more_than_asked(self, sshd, path):
        with (
            TcpProxy("127.0.0.1", sshd.port) as proxy,
            sshd.storage(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"], connections=1) as storage,
        ):
            storage.put("x", [os.urandom(16 * BLOCK)])
            before = proxy.down
            assert len(storage.get("x", offset=5 * BLOCK, length=1000)) == 1000
            assert len(storage.get("x", offset=-1000)) == 1000
            with storage.open("x") as reader:
                assert len(reader.read(1000)) == 1000
            storage.stat("x")
            assert proxy.down - before < 2 * BLOCK

    def test_hard_links_can_be_renounced(self, sshd, path):
        with sshd.storage(path, hard_links=False) as storage:
            assert not storage.capabilities.conditional_put
            with pytest.raises(CapabilityMissing):
                storage.put("x", [b""], if_absent=True)

    def test_a_root_that_vanishes_is_no_empty_one(self, storage, path, tmp_path):
        storage.put("a/b", [b"x"])
        path.rename(tmp_path / "elsewhere")
        for call in (
            lambda: names(storage),
            lambda: names(storage, "a/"),
            lambda: storage.get("a/b"),
            lambda: storage.stat("a/b"),
            lambda: storage.put("c", [b""]),
        ):
            with pytest.raises(StorageUnavailable, match="vanished"):
                call()
        assert not path.exists()
