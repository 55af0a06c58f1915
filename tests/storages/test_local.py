"""What LocalStorage promises beyond the contract: durability, privacy, honest errors."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import textwrap
import time
import tracemalloc
from datetime import timedelta

import pytest

from freezer_sdk.errors import (
    AccessDenied,
    CapabilityMissing,
    ConfigurationError,
    InvalidName,
    ObjectExists,
    ObjectNotFound,
    ReadOnlyStorage,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from freezer_sdk.options import validate
from freezer_sdk.storages.local import LocalStorage

ROOT = os.geteuid() == 0


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture
def storage(path):
    with LocalStorage(path=path) as storage:
        yield storage


def names(storage, prefix=""):
    return [info.name for info in storage.list(prefix)]


def leftovers(path):
    return os.listdir(os.path.join(path, ".freezer-tmp"))


def failing(error_number):
    def call(*args, **kwargs):
        raise OSError(error_number, os.strerror(error_number))

    return call


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("local:/srv/backups", "/srv/backups"),
            ("local:/srv/with blank/100%/#1?", "/srv/with blank/100%/#1?"),
            ("local:///srv//backups/", "/srv/backups"),
            ("local:/srv/./x", "/srv/x"),
            ("local:/a:b", "/a:b"),
            ("file:///srv/backups", "/srv/backups"),
            ("file://localhost/srv/backups", "/srv/backups"),
            ("file:/srv/backups", "/srv/backups"),
            ("file:///srv/with%20blank/%C3%A4/100%25%23%3F", "/srv/with blank/ä/100%#?"),
        ],
    )
    def test_url(self, url, expected):
        assert LocalStorage.parse_url(url) == {"path": expected}
        assert LocalStorage(path=expected).location == f"local:{expected}"

    @pytest.mark.parametrize(
        "url",
        ["local:", "local", "/srv", "file:", "file:relative", "file://server/x", "file:///x?y", "file:///x#y",
         "file:///nul%00", "local:~/backups", "sftp://h/x"],
    )  # fmt: skip
    def test_not_a_url_of_this_storage(self, url):
        with pytest.raises(ConfigurationError):
            LocalStorage.parse_url(url)

    def test_relative_paths_stay_where_they_were(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        storage = LocalStorage(**LocalStorage.parse_url("local:here"))
        monkeypatch.chdir("/")
        storage.put("x", [b"x"])
        assert storage.location == f"local:{tmp_path}/here"
        assert (tmp_path / "here" / "x").read_bytes() == b"x"

    def test_location_opens_the_same_place(self, storage):
        storage.put("a/b", [b"x"])
        again = LocalStorage(**LocalStorage.parse_url(storage.location))
        assert names(again) == ["a/b"]

    def test_options(self, path):
        values = validate(LocalStorage.options, {"path": path, "sync": "no"}, owner="storage 'local'")
        assert values == {"path": path, "sync": False}


class TestFolder:
    def test_reading_makes_nothing(self, storage, path):
        assert names(storage) == []
        storage.delete("x/y")
        storage.flush()
        with pytest.raises(ObjectNotFound):
            storage.get("x")
        assert not os.path.exists(path)

    def test_everything_is_private(self, tmp_path):
        old = os.umask(0)
        try:
            storage = LocalStorage(path=str(tmp_path / "new" / "store"))
            storage.put("packs/ab/x", [b"x"])
        finally:
            os.umask(old)
        modes = {str(found.relative_to(tmp_path)): stat.S_IMODE(found.stat().st_mode) for found in tmp_path.rglob("*")}
        assert {mode for name, mode in modes.items() if name != "new/store/packs/ab/x"} == {0o700}
        assert modes["new/store/packs/ab/x"] == 0o600

    def test_what_is_no_object_is_not_listed(self, storage, path):
        storage.put("a/b", [b"x"])
        os.mkdir(os.path.join(path, "lost+found"))
        open(os.path.join(path, "lost+found", "#123"), "w").close()
        open(os.fsencode(path) + b"/a/not-utf8-\xff", "w").close()
        os.mkdir(os.path.join(path, "empty"))
        os.mkfifo(os.path.join(path, "a", "fifo"))
        os.symlink("b", os.path.join(path, "a", "link"))
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.join(path, "sock"))
        open(os.path.join(path, ".freezer-tmp", "leftover"), "w").close()
        assert names(storage) == ["a/b"]
        assert names(storage, ".freezer") == names(storage, ".freezer-tmp/") == names(storage, "lost+found/") == []
        assert [info.name for info in storage.list(delimiter="/")] == ["a/"]
        for name in ("a/fifo", "a/link", "sock", "empty", "a"):
            with pytest.raises(ObjectNotFound):
                storage.get(name)
            with pytest.raises(ObjectNotFound):
                storage.stat(name)

    @pytest.mark.parametrize("name", [".freezer-tmp/x", ".freezer-tmp", "lost+found/x", "x" * 256, "a/" + "é" * 128])
    def test_names_that_a_folder_cannot_hold(self, storage, name):
        with pytest.raises(InvalidName):
            storage.put(name, [b"x"])
        with pytest.raises(InvalidName):
            storage.get(name)

    def test_a_file_in_place_of_the_folder(self, tmp_path):
        (tmp_path / "file").write_text("x")
        storage = LocalStorage(path=str(tmp_path / "file"))
        for call in (lambda: storage.put("x", [b"x"]), lambda: storage.get("x"), lambda: list(storage.list())):
            with pytest.raises(StorageError, match="not a folder"):
                call()

    def test_ten_thousand_objects_are_listed_quickly(self, storage, path):
        storage.put("n/0", [b""])
        for number in range(1, 10_001):
            os.close(os.open(f"{path}/n/{number}", os.O_CREAT | os.O_WRONLY))
        started = time.process_time()
        found = names(storage)
        assert time.process_time() - started < 2
        assert len(found) == 10_001
        assert found == sorted(found)


class TestLeftovers:
    def test_only_old_ones_are_removed(self, storage, path):
        storage.put("x", [b"x"])
        now = storage.now().timestamp()
        for name, age in (("young", 3600), ("old", 25 * 3600), ("future", -3600)):
            leftover = os.path.join(path, ".freezer-tmp", name)
            with open(leftover, "w") as file:
                file.write("half")
            os.utime(leftover, (now - age, now - age))
        assert names(LocalStorage(path=path)) == ["x"]
        assert len(leftovers(path)) == 3
        LocalStorage(path=path).put("y", [b"y"])
        assert sorted(leftovers(path)) == ["future", "young"]

    def test_nothing_is_left_after_success_and_failure(self, storage, path, monkeypatch):
        storage.put("x", [b"x"], if_absent=True)
        storage.put("x", [b"y"])
        with pytest.raises(ObjectExists):
            storage.put("x", [b"z"], if_absent=True)
        with storage.upload("u"):
            pass
        storage.now()
        monkeypatch.setattr(os, "writev", failing(errno.ENOSPC))
        with pytest.raises(StorageFull):
            storage.put("y", [b"y"])
        assert leftovers(path) == []

    def test_an_upload_whose_file_was_removed_fails(self, storage, path):
        with storage.upload("x") as upload:
            upload.write(b"x")
            (name,) = leftovers(path)
            os.unlink(os.path.join(path, ".freezer-tmp", name))
            with pytest.raises(StorageError, match="removed"):
                upload.commit()
        assert names(storage) == []


class TestErrors:
    @pytest.mark.parametrize(
        ("number", "expected"),
        [
            (errno.ENOSPC, StorageFull),
            (errno.EDQUOT, StorageFull),
            (errno.EROFS, ReadOnlyStorage),
            (errno.EACCES, AccessDenied),
            (errno.EPERM, AccessDenied),
            (errno.ESTALE, StorageUnavailable),
            (errno.EIO, StorageError),
            (errno.EMFILE, StorageError),
        ],
    )
    @pytest.mark.parametrize("call", ["open", "writev", "fsync", "rename"])
    def test_put(self, storage, path, monkeypatch, call, number, expected):
        storage.put("before", [b"x"])
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(number))
            with pytest.raises(expected) as caught:
                storage.put("x", [b"x"])
        assert type(caught.value) is expected
        assert "'x'" in caught.value.message
        assert names(storage) == ["before"]
        assert leftovers(path) == []

    def test_a_failed_sync_is_not_tried_again(self, storage, path, monkeypatch):
        synced = []

        def fsync(fd):
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))
            raise OSError(errno.EIO, "Input/output error")

        storage.put("before", [b"x"])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(StorageError):
                storage.put("x", [b"x"])
            with storage.upload("y") as upload:
                upload.write(b"y")
                for _ in range(2):
                    with pytest.raises(StorageError):
                        upload.commit()
        assert len(synced) == len(set(synced)) == 2
        assert names(storage) == ["before"]

    def test_a_failed_barrier_stays_failed(self, path, monkeypatch):
        storage = LocalStorage(path=path, sync=False)
        storage.put("x", [b"x"])
        with monkeypatch.context() as patch:
            patch.setattr("freezer_sdk.storages.local.syncfs", failing(errno.EIO))
            with pytest.raises(StorageError, match="may be lost"):
                storage.flush()
        with pytest.raises(StorageError, match="may be lost"):
            storage.flush()

    def test_a_disk_unmounted_meanwhile(self, storage, path):
        storage.put("x", [b"x"])
        os.rename(path, path + "-away")
        calls = [
            lambda: storage.put("y", [b"y"]),
            lambda: storage.get("x"),
            lambda: storage.delete("x"),
            lambda: list(storage.list()),
        ]
        for call in calls:
            with pytest.raises(StorageUnavailable, match="vanished"):
                call()
        os.mkdir(path)
        for call in calls:
            with pytest.raises(StorageUnavailable, match="another folder"):
                call()
        assert os.listdir(path) == []

    @pytest.mark.root
    @pytest.mark.skipif(not ROOT, reason="needs root")
    def test_a_real_full_and_read_only_disk(self, tmp_path):
        script = textwrap.dedent(
            f"""
            import os, subprocess, sys
            from freezer_sdk.errors import ReadOnlyStorage, StorageFull
            from freezer_sdk.storages.local import LocalStorage
            disk = {str(tmp_path)!r}
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
            storage = LocalStorage(path=disk + "/store")
            storage.put("small", [b"x" * 1000])
            try:
                storage.put("large", [b"x" * 10000] * 500)
            except StorageFull as error:
                print(error)
            storage.put("small-too", [b"x" * 1000])
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
            for call in (lambda: storage.put("x", [b"x"]), lambda: storage.delete("small"), storage.now):
                try:
                    call()
                except ReadOnlyStorage as error:
                    print(error)
            print([info.name for info in storage.list()], storage.get("small") == b"x" * 1000)
            """
        )
        command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 and "unshare" in done.stderr:
            pytest.skip("no mount namespaces here")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert "No space left" in lines[0]
        assert all("Read-only" in line for line in lines[1:4])
        assert lines[4] == "['small', 'small-too'] True"

    def test_a_folder_of_somebody_else(self, tmp_path):
        (tmp_path / "store").mkdir()
        LocalStorage(path=str(tmp_path / "store")).put("a/x", [b"x"])
        script = textwrap.dedent(
            f"""
            import os
            from freezer_sdk.errors import AccessDenied
            from freezer_sdk.storages.local import LocalStorage
            if os.geteuid() == 0:
                os.setuid(65534)
            storage = LocalStorage(path={str(tmp_path / "store")!r})
            for call in (lambda: storage.put("a/y", [b"y"]), lambda: storage.get("a/x"),
                         lambda: storage.delete("a/x"), lambda: list(storage.list()), storage.now):
                try:
                    call()
                except AccessDenied:
                    print("denied")
            """
        )
        os.chmod(tmp_path / "store", 0)
        try:
            done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        finally:
            os.chmod(tmp_path / "store", 0o700)
        assert done.stdout.split() == ["denied"] * 5


class TestConditionalPut:
    def test_without_hard_links(self, storage, monkeypatch):
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
        storage.put("x", [b"first"], if_absent=True)
        with pytest.raises(ObjectExists):
            storage.put("x", [b"second"], if_absent=True)
        assert storage.get("x") == b"first"

    def test_without_anything_it_is_refused(self, storage, monkeypatch):
        monkeypatch.setattr(os, "link", failing(errno.EOPNOTSUPP))
        monkeypatch.setattr("freezer_sdk.storages._posix.rename_noreplace", failing(errno.EINVAL))
        with pytest.raises(CapabilityMissing):
            storage.put("x", [b"first"], if_absent=True)
        assert names(storage) == []

    def test_a_link_whose_answer_was_lost_is_no_conflict(self, storage, path, monkeypatch):
        link = os.link

        def repeated(*args, **kwargs):
            link(*args, **kwargs)
            link(*args, **kwargs)

        monkeypatch.setattr(os, "link", repeated)
        storage.put("x", [b"first"], if_absent=True)
        assert storage.get("x") == b"first"
        assert leftovers(path) == []

    def test_processes_race(self, path):
        script = textwrap.dedent(
            f"""
            import sys
            from freezer_sdk.errors import ObjectExists
            from freezer_sdk.storages.local import LocalStorage
            storage = LocalStorage(path={path!r}, sync=False)
            print("ready", flush=True)
            sys.stdin.readline()
            won = []
            for number in range(100):
                try:
                    storage.put(f"race/{{number}}/x", [sys.argv[1].encode()], if_absent=True)
                except ObjectExists:
                    continue
                won.append(number)
            print(*won)
            """
        )
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(number)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for number in range(3)
        ]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            worker.stdin.write("go\n")
            worker.stdin.flush()
        outputs = [worker.communicate(timeout=300)[0] for worker in workers]
        won = [[int(number) for number in output.split()] for output in outputs]
        assert sorted(number for numbers in won for number in numbers) == list(range(100))
        storage = LocalStorage(path=path)
        for worker, numbers in enumerate(won):
            assert all(storage.get(f"race/{number}/x") == b"%d" % worker for number in numbers)


class TestSpeed:
    def test_put_copies_nothing(self, storage):
        buffers = [os.urandom(280_000) for _ in range(60)]
        storage.put("warm", [b"x"])
        tracemalloc.start()
        storage.put("pack", buffers)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000
        assert storage.get("pack") == b"".join(buffers)

    def test_short_writes_are_continued(self, storage, monkeypatch):
        writev = os.writev
        monkeypatch.setattr(os, "writev", lambda fd, views: writev(fd, [views[0][: max(1, len(views[0]) // 2)]]))
        pieces = [b"a" * 7, b"", b"b", bytearray(b"c" * 100)]
        assert storage.put("x", pieces).size == 108
        assert storage.get("x") == b"".join(pieces)

    def test_sync_is_what_the_option_says(self, tmp_path, monkeypatch):
        counts = {}
        for sync in (True, False):
            calls = []
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", lambda fd, calls=calls: calls.append(fd))
                storage = LocalStorage(path=str(tmp_path / str(sync)), sync=sync)
                storage.put("first/x", [b"x"])
                calls.clear()
                storage.put("packs/ab/x", [b"x"])
                counts[sync] = len(calls)
        assert counts == {True: 4, False: 0}  # the file, ab, packs, the root


def test_times_are_those_of_the_file_system(storage, path):
    storage.put("x", [b"x"])
    os.utime(os.path.join(path, "x"), ns=(0, 1_500_000_000_123_456_789))
    assert storage.stat("x").modified.isoformat() == "2017-07-14T02:40:00.123456+00:00"
    assert abs(storage.now().timestamp() - time.time()) < 60
    assert storage.capabilities.clock_resolution >= timedelta(milliseconds=10)


def test_objects_without_a_folder_can_be_deleted(tmp_path):
    with LocalStorage(path=str(tmp_path / "store")) as storage:
        storage.put("top", [b"x"])
        storage.put("folder/inside", [b"x"])
        storage.delete("top")
        storage.delete_many(["folder/inside", "absent"])
        storage.flush()
        assert list(storage.list()) == []
