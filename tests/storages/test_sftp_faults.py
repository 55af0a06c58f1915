"""The storage ``sftp`` when connections drop, stall or are cut short, clients and servers die, disks are full."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ssh_server import Sshd, descriptors
from tcp_proxy import TcpProxy

from freezer_sdk.errors import (
    AccessDenied,
    ObjectNotFound,
    ReadOnlyStorage,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from freezer_sdk.reliable import ReliableStorage
from freezer_sdk.storages.base import TRAFFIC_BLOCK
from freezer_sdk.storages.sftp import SftpStorage

pytestmark = pytest.mark.sshd

BLOCK = 1 << 20
HANGS = 60  # seconds after which a call that should have failed hangs, on the slowest machine
CONTENT = hashlib.shake_128(b"content").digest(6 * BLOCK)


@pytest.fixture(scope="module")
def sshd():
    return Sshd.start()


@pytest.fixture
def own(request):
    """A server of the test's own."""
    server = Sshd.start(f"faults-{os.getpid()}")
    yield server
    server.remove()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def proxy(sshd):
    with TcpProxy("127.0.0.1", sshd.port) as proxy:
        yield proxy


@pytest.fixture
def far(sshd, proxy, path):
    """A storage behind the proxy, with one connection and a short time limit."""
    options = sshd.options(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"])
    with SftpStorage(**{**options, "connections": 1, "timeout": 3.0, "connect_timeout": 5.0}) as storage:
        yield storage


@pytest.fixture
def near(sshd, path):
    """The same storage, undisturbed."""
    with sshd.storage(path) as storage:
        yield storage


def patient(storage):
    """The same storage, for what is not under test: a slow machine may keep a connection waiting for too long."""
    return ReliableStorage(storage)


def names(storage, prefix=""):
    return [info.name for info in storage.list(prefix)]


class TestSilence:
    def test_of_a_server_that_says_no_more(self, sshd, path):
        """From the greeting to the first answers: an error in time, and no harm to later calls."""

        def suffer(after):
            with TcpProxy("127.0.0.1", sshd.port) as proxy:
                options = sshd.options(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"])
                with SftpStorage(**{**options, "timeout": 3.0, "connect_timeout": 3.0}) as storage:
                    proxy.cut("stall", after=after)
                    started = time.monotonic()
                    with pytest.raises(StorageUnavailable):
                        storage.put(f"{after}/x", [CONTENT])
                    spent = time.monotonic() - started
                    proxy.heal()
                    patient(storage).put(f"{after}/x", [b"content"])
                    assert patient(storage).get(f"{after}/x") == b"content"
                    return spent

        points = [0, 20, 500, 1500, 2500, 3500, 4500, 5500, 7000, 100_000]
        with ThreadPoolExecutor(len(points)) as pool:
            assert max(pool.map(suffer, points)) < HANGS

    def test_while_much_is_sent(self, far, proxy, near):
        patient(far).put("y", [b""])
        proxy.cut("stall", after=BLOCK, direction="up")
        started = time.monotonic()
        with pytest.raises(StorageUnavailable):
            far.put("x", [CONTENT] * 4)
        assert time.monotonic() - started < HANGS
        proxy.heal()
        assert names(near) == ["y"]
        patient(far).put("x", [CONTENT])
        assert near.get("x") == CONTENT

    def test_while_much_is_read(self, far, proxy, near):
        near.put("x", [CONTENT])
        patient(far).stat("x")
        proxy.cut("stall", after=BLOCK, direction="down")
        with pytest.raises(StorageUnavailable):
            far.get("x")
        proxy.heal()
        assert patient(far).get("x") == CONTENT

    def test_does_not_keep_others_waiting(self, sshd, proxy, path):
        """While one connection is silent, another thread gets another one."""
        options = sshd.options(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"], timeout=60.0)
        with SftpStorage(**options) as storage, ThreadPoolExecutor(1) as pool:
            storage.put("x", [b"x"])
            proxy.cut("stall", times=1)  # the only connection so far
            slow = pool.submit(storage.put, "y", [b"y"])
            time.sleep(0.2)
            assert storage.get("x") == b"x"
            assert not slow.done()
            proxy.drop()
            with pytest.raises(StorageUnavailable):
                slow.result()

    def test_a_server_that_is_not_there(self, sshd, path):
        with sshd.storage(path, port=1) as storage, pytest.raises(StorageUnavailable, match="refused"):
            storage.put("x", [b""])

    def test_something_else_than_ssh(self, sshd, path):
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(TcpProxy("127.0.0.1", 1))  # ends every connection at once
            storage = stack.enter_context(sshd.storage(path, port=other.port))
            with pytest.raises(StorageUnavailable):
                storage.put("x", [b""])


class TestCuts:
    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_a_put_is_whole_or_absent(self, far, near, proxy, how):
        far.put("old", [CONTENT])
        for number, after in enumerate([0, 1000, 70_000, 3 * BLOCK, 6 * BLOCK - 1000, 6 * BLOCK + 3000]):
            name = f"{number}/x"
            far.stat("old")
            proxy.cut(how, after=after, times=1)
            with contextlib.suppress(StorageUnavailable):
                far.put(name, [CONTENT])
            with contextlib.suppress(ObjectNotFound):
                assert near.get(name) == CONTENT
            proxy.heal()
            far.put(name, [CONTENT])
            assert near.get(name) == CONTENT
        assert near.get("old") == CONTENT

    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_a_get_is_right_or_an_error(self, far, near, proxy, how):
        near.put("x", [CONTENT])
        for after in (0, 500, 70_000, 3 * BLOCK, 6 * BLOCK - 1000):
            far.stat("x")
            proxy.cut(how, after=after, times=1, direction="down")
            with contextlib.suppress(StorageUnavailable):  # what was cut before it was used is only replaced
                assert (far.get("x"), after) == (CONTENT, 0)
            with far.open("x") as reader:
                assert reader.read(10) == CONTENT[:10]
                proxy.drop(how)
                with pytest.raises(StorageUnavailable):
                    reader.read()
            assert far.get("x") == CONTENT

    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_a_listing_is_whole_or_an_error(self, far, near, proxy, path, how):
        for folder in range(3):
            (path / str(folder)).mkdir(parents=True)
            for number in range(400):
                (path / str(folder) / f"{number:03}").touch()
        wanted = names(near)
        assert len(wanted) == 1200
        failed = 0
        for after in range(0, 300_000, 30_000):
            far.stat("0/000")
            proxy.cut(how, after=after, times=1, direction="down")
            try:
                assert names(far) == wanted
            except StorageUnavailable:
                failed += 1
            proxy.heal()
        assert failed >= 3

    def test_an_upload_that_is_cut_stores_nothing(self, far, near, proxy, path):
        with far.upload("x") as upload:
            upload.write(CONTENT)
            proxy.drop()
            with pytest.raises(StorageUnavailable):
                upload.commit()
        assert names(near) == []
        far.put("y", [b""])  # by the way, it removes what stayed behind
        far.stat("y")
        assert os.listdir(path / ".freezer-tmp") == []

    def test_every_connection_is_made_anew(self, sshd, proxy, path):
        options = sshd.options(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"])
        with SftpStorage(**options) as storage, ThreadPoolExecutor(4) as pool:
            for round_ in range(3):
                list(pool.map(lambda number, r=round_: storage.put(f"{r}/{number}", [b"x"]), range(20)))
                proxy.drop()
                time.sleep(0.1)
            assert len(names(storage)) == 60

    def test_nothing_is_left_of_them(self, sshd, path):
        threads, opened = set(threading.enumerate()), descriptors()
        with TcpProxy("127.0.0.1", sshd.port) as proxy:
            options = sshd.options(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"], timeout=1.0)
            with SftpStorage(**options, connect_timeout=1.0) as storage:
                for how in ("reset", "close", "stall"):
                    patient(storage).put("x", [b"x"])
                    proxy.drop(how)
                    with contextlib.suppress(StorageUnavailable):
                        storage.get("x")
                proxy.cut("stall")
                with pytest.raises(StorageUnavailable):
                    storage.get("x")
                proxy.heal()
                patient(storage).stat("x")
                with contextlib.suppress(StorageUnavailable), storage.upload("y"), storage.open("x"):
                    storage.stat("x")
        assert set(threading.enumerate()) == threads
        assert descriptors() == opened


class TestConnections:
    def test_not_more_than_asked_for(self, sshd, proxy, path):
        options = sshd.options(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"], connections=3)
        with SftpStorage(**options) as storage, ThreadPoolExecutor(8) as pool:
            assert storage.max_parallel == 3
            list(pool.map(lambda number: storage.put(str(number), [CONTENT[:BLOCK]]), range(24)))
            assert proxy.connections == 3

    def test_a_server_that_wants_fewer(self, sshd, proxy, path):
        options = sshd.options(path, port=proxy.port, host_key=sshd.env["SSH_FINGERPRINT"], connections=4)
        with SftpStorage(**options) as storage, ThreadPoolExecutor(8) as pool:
            storage.put("x", [b"x"])
            proxy.refuse()
            list(pool.map(lambda number: storage.put(str(number), [CONTENT[:BLOCK]]), range(24)))
            assert proxy.connections == 1

    def test_nobody_waits_for_ever(self, sshd, path):
        """One connection, and others who want it all the time."""
        stop = threading.Event()
        with sshd.storage(path, connections=1) as storage, ThreadPoolExecutor(3) as pool:
            storage.put("x", [b"x"])

            def read():
                while not stop.is_set():
                    storage.get("x")

            readers = [pool.submit(read) for _ in range(3)]
            started = time.monotonic()
            for number in range(20):
                storage.put(str(number), [b""])
            spent = time.monotonic() - started
            stop.set()
            for reader in readers:
                reader.result()
            assert spent < HANGS

    def test_closing_ends_what_waits(self, far, proxy):
        far.put("x", [b"x"])
        proxy.drop("stall")
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(far.get, "x") for _ in range(2)]
            time.sleep(0.2)
            far.close()
            for call in calls:
                with pytest.raises(StorageError):
                    call.result()
        with pytest.raises(StorageError, match="closed"):
            far.get("x")

    def test_all_content_is_counted(self, sshd, path):
        class Count:
            out = came = most = 0

            def sent(self, size):
                self.out, self.most = self.out + size, max(self.most, size)

            def received(self, size):
                self.came, self.most = self.came + size, max(self.most, size)

        with sshd.storage(path) as storage:
            storage.traffic = count = Count()
            assert storage.capabilities.paced
            storage.put("x", [CONTENT, b"end"])
            with storage.upload("y") as upload:
                upload.write(b"abc")
                upload.write(CONTENT)
                upload.commit()
            assert count.out == 2 * len(CONTENT) + 6
            storage.get("x", offset=5, length=BLOCK)
            with storage.open("y") as reader:
                assert len(reader.read()) == len(CONTENT) + 3
            assert count.came == BLOCK + len(CONTENT) + 3
            assert count.most <= TRAFFIC_BLOCK


class TestDeath:
    def test_of_the_client_leaves_nothing_visible(self, sshd, path, near):
        code = """
            import sys
            from freezer_sdk.storages.sftp import SftpStorage
            storage = SftpStorage(**eval(sys.argv[1]))
            with storage.upload("half") as upload:
                upload.write(bytes(3 << 20))
                print("ready", flush=True)
                while True:
                    upload.write(bytes(1 << 20))
        """
        command = [sys.executable, "-c", textwrap.dedent(code), repr(sshd.options(path))]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            client.stdout.readline()
            client.send_signal(signal.SIGKILL)
        assert len(os.listdir(path / ".freezer-tmp")) == 1
        assert names(near) == []
        near.put("half", [b"whole"])
        assert near.get("half") == b"whole"

    def test_of_the_server(self, own, path):
        with own.storage(path) as storage:
            storage.put("x", [CONTENT])
            own.stop()
            with pytest.raises(StorageUnavailable):
                storage.get("x")
            with pytest.raises(StorageUnavailable):
                storage.put("y", [CONTENT])
            own.restart()
            assert storage.get("x") == CONTENT
            assert names(storage) == ["x"]
            storage.flush()


class TestBarrier:
    def test_what_was_lost_with_the_connection_is_noticed(self, far, proxy, path):
        far.put("a/kept", [b"x"])
        far.put("a/lost", [b"x"])
        far.put("a/deleted", [b"x"])
        far.delete("a/deleted")
        proxy.drop()
        (path / "a/lost").unlink()  # as if the power of the server had failed
        for _ in range(2):
            with pytest.raises(StorageError, match="a/lost") as caught:
                far.flush()
            assert not isinstance(caught.value, StorageUnavailable)

    def test_what_is_still_there_is_fine(self, far, proxy):
        far.put("a/kept", [b"x"])
        proxy.drop()
        far.flush()
        far.put("b", [b"x"])
        far.flush()

    def test_one_that_fails_can_be_repeated(self, far, proxy, path):
        far.put("a/x", [b"x"])
        proxy.refuse()
        proxy.drop()
        for _ in range(2):
            with pytest.raises(StorageUnavailable):
                far.flush()
        proxy.heal()
        (path / "a/x").write_bytes(b"")
        with pytest.raises(StorageError, match="a/x"):
            far.flush()

    def test_synced_before_it_has_its_name_and_the_folders_after(self, own, path, tmp_path):
        """As the server's system calls tell."""
        with own.storage(path) as storage:
            storage.put("warm", [b""])
        log = tmp_path / "calls"
        pid = (own.folder / "sshd.pid").read_text().strip()
        calls = "trace=fsync,rename,link,unlink"
        tracer = subprocess.Popen(["strace", "-f", "-y", "-q", "-e", calls, "-o", str(log), "-p", pid], stderr=-3)
        try:
            while not (os.path.exists(log) and _traced(pid)):
                time.sleep(0.02)
            with own.storage(path) as storage:
                storage.put("folder/one", [CONTENT])
                storage.put("folder/two", [b"x"], if_absent=True)
                storage.flush()
        finally:
            tracer.terminate()
            tracer.wait()
        seen = [line.partition(" ")[2].strip() for line in log.read_text().splitlines()]
        steps = [line for line in seen if line.startswith(("fsync", "rename", "link"))]
        kinds = [line.partition("(")[0] for line in steps]
        assert kinds[:4] == ["fsync", "rename", "fsync", "link"]
        synced = [line.partition("<")[2].partition(">")[0] for line in steps[4:]]
        assert set(synced) == {str(path / "folder"), str(path), str(tmp_path)}
        assert f"{path}/.freezer-tmp/" in steps[0]


def _traced(pid):
    with open(f"/proc/{pid}/status") as status:
        return "TracerPid:\t0\n" not in status.read()


class TestRefusals:
    def test_a_server_that_takes_no_writes(self, sshd, path, near):
        near.put("x", [b"content"])
        with sshd.storage(path, port=int(sshd.env["SSH_PORT_READONLY"])) as storage:
            assert storage.get("x") == b"content"
            assert names(storage) == ["x"]
            assert not storage.capabilities.conditional_put
            for call in (lambda: storage.put("y", [b""]), lambda: storage.delete("x"), storage.now):
                with pytest.raises(ReadOnlyStorage):
                    call()
        assert names(near) == ["x"]

    def test_a_folder_of_somebody_else(self, sshd):
        with SftpStorage(**sshd.account("/not-mine")) as storage:
            assert names(storage) == []
            with pytest.raises(AccessDenied):
                storage.put("x", [b""])

    @pytest.mark.root
    def test_a_full_disk(self, sshd, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4M", "none", disk], check=False).returncode:
            pytest.skip("file systems cannot be mounted here")
        try:
            with sshd.storage(disk / "store") as storage:
                storage.put("fits", [CONTENT[:BLOCK]])
                with pytest.raises(StorageFull):
                    storage.put("x", [CONTENT])
                with storage.upload("y") as upload, pytest.raises(StorageFull):
                    upload.write(CONTENT * 2)
                storage.stat("fits")
                assert os.listdir(disk / "store/.freezer-tmp") == []
                assert names(storage) == ["fits"]
                subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
                with pytest.raises(ReadOnlyStorage):
                    storage.put("z", [b""])
                assert storage.get("fits") == CONTENT[:BLOCK]
        finally:
            subprocess.run(["umount", disk], check=True)
