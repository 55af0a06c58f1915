"""The contract, as Freezer SDK tests it for everybody, and what is special here; all with a real server."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from freezer_mode_redis.mode import RedisMode
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from freezer_sdk import Freezer
from freezer_sdk.errors import ConfigurationError, RestoreConflict, SourceError
from freezer_sdk.testing import ModeSuite

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
CANARY = "canary-8pQz-password"


@contextmanager
def server(folder, *settings):
    """A server of Redis whose data lie in a folder; gives a client, and the path of the server's socket."""
    path = f"{folder}/redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", path, "--dir", str(folder), "--save", "", *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    client = Redis(unix_socket_path=path, decode_responses=True)
    try:
        while not answers(client):
            assert process.poll() is None, "the server has ended"
            time.sleep(0.02)
        yield client, path
    finally:
        client.close()
        process.kill()
        process.wait()


def answers(client):
    try:
        return client.ping()
    except AuthenticationError:
        return True
    except RedisError:
        return False


@pytest.fixture
def running(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with server(folder) as (client, path):
        client.mset({f"key {number}": "value " * number for number in range(1000)})
        yield client, path


@pytest.fixture
def repository(tmp_path):
    with Freezer.create(f"local:{tmp_path}/repository", encryption=False) as freezer:
        yield freezer


def content(client):
    return {key: client.get(key) for key in client.scan_iter(count=1000)}


class TestContract(ModeSuite):
    mode = RedisMode

    @pytest.fixture(autouse=True)
    def _server(self, running):
        self.client, path = running
        self.options = {"socket": path}

    def change(self):
        self.client.set("key 1", os.urandom(8).hex())
        self.client.delete("key 2")

    def content(self):
        return content(self.client)

    def restored(self, target):
        with server(target) as (client, _):
            return content(client)

    def check_resumed(self):
        assert self.client.ping()
        assert not self.client.info("persistence")["rdb_bgsave_in_progress"]


def test_there_and_back(running, repository, tmp_path):
    client, path = running
    before = content(client)
    backup = repository.backup((), mode="redis", mode_options={"socket": path})
    assert (backup.name, backup.facts["redis"]["keys"]) == ("redis", {"db0": 1000})
    client.flushall()
    repository.restore("latest", tmp_path / "restored")
    with server(tmp_path / "restored") as (restored, _):
        assert content(restored) == before


def test_the_dump_is_younger_than_the_call(running, repository):
    client, path = running
    client.bgsave()  # one that is under way does not count
    client.set("last", "minute")
    backup = repository.backup((), mode="redis", mode_options={"socket": path})
    assert backup.facts["redis"]["keys"] == {"db0": 1001}


def test_a_later_dump_does_not_disturb(running):
    client, path = running
    with RedisMode(socket=path).protect() as protected:
        (dump,) = protected.sources
        client.flushall()
        client.save()
        buffer = memoryview(bytearray(dump.size + 1))
        with dump.open() as reader:
            assert reader.readinto(buffer) == dump.size
    assert buffer[:5] == b"REDIS"


def test_an_append_only_file_is_not_passed_over(running, repository, tmp_path):
    _, path = running
    repository.backup((), mode="redis", mode_options={"socket": path})
    (tmp_path / "old" / "appendonlydir").mkdir(parents=True)
    with pytest.raises(RestoreConflict, match="in place of the dump"):
        repository.restore("latest", tmp_path / "old")
    with pytest.raises(ConfigurationError, match="running server"):
        repository.restore("latest", "server:")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_dump_belongs_to_the_servers_user(running, repository, tmp_path):
    _, path = running
    repository.backup((), mode="redis", mode_options={"socket": path})
    folder = tmp_path / "of-nobody"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    repository.restore("latest", folder)
    assert (folder / "dump.rdb").stat().st_uid == 65534


def test_a_server_that_cannot_save(running, repository):
    client, path = running
    folder = Path(client.config_get("dir")["dir"])
    (folder / "dump.rdb").mkdir()  # nothing can be renamed to this
    with pytest.raises(SourceError, match="could not write its dump"):
        repository.backup((), mode="redis", mode_options={"socket": path})
    assert not repository.backups()


def test_a_password_is_needed_and_never_told(tmp_path, repository):
    folder = tmp_path / "locked"
    folder.mkdir()
    with server(folder, "--requirepass", CANARY) as (_, path):
        options = {"socket": path, "password": f"{CANARY}-wrong"}
        with pytest.raises(SourceError, match="Redis at") as caught:
            repository.backup((), mode="redis", mode_options=options)
        assert CANARY not in f"{caught.value} {caught.value.hint}"
        backup = repository.backup((), mode="redis", mode_options={**options, "password": CANARY})
        assert backup.status == "complete"


def test_nobody_answers(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(SourceError, match="Redis at"), RedisMode(port=unused.getsockname()[1]).protect():
            pass


def test_the_least_rights(running, repository):
    client, path = running
    client.execute_command(*["ACL", "SETUSER", "backup", "on", ">backup-password", "+info", "+bgsave", "+config|get"])
    options = {"socket": path, "username": "backup", "password": "backup-password"}
    assert repository.backup((), mode="redis", mode_options=options).status == "complete"
    client.execute_command(*["ACL", "SETUSER", "backup", "-config|get"])
    with pytest.raises(SourceError, match="config"):
        repository.backup((), mode="redis", mode_options=options)
    dump = os.path.join(client.config_get("dir")["dir"], "dump.rdb")
    assert repository.backup((), mode="redis", mode_options={**options, "file": dump}).status == "complete"
