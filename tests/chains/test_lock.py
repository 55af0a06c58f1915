"""The lock of a series: one run at a time, whatever the storage can do."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from freezer_sdk.engines.chains.layout import locks_of
from freezer_sdk.engines.chains.liveness import ProcessMark
from freezer_sdk.engines.chains.lock import SeriesLock
from freezer_sdk.errors import LeaseLost, RepositoryLocked, StorageUnavailable
from freezer_sdk.storages.base import StorageWrapper
from freezer_sdk.storages.local import LocalStorage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing.faults import Fault, FaultyStorage, fail

PREFIX = locks_of("tar", "h_n")


class LaterStorage(StorageWrapper):
    """A storage whose clock has gone on."""

    name = "later"
    api_version = 1
    summary = "the same, later"

    def __init__(self, storage: MemoryStorage, by: timedelta) -> None:
        super().__init__(storage)
        self._by = by

    def now(self) -> datetime:
        return super().now() + self._by


def locks(storage: MemoryStorage) -> list[str]:
    return [item.name for item in storage.list(PREFIX)]


def test_a_second_run_is_refused_with_the_name_of_the_first() -> None:
    storage = MemoryStorage()
    with SeriesLock(storage, "tar", "h_n"):
        with pytest.raises(RepositoryLocked, match="another run is at work on 'h_n': process") as caught:
            SeriesLock(storage, "tar", "h_n").__enter__()
        assert caught.value.exit_code == 11
        assert len(locks(storage)) == 1
    assert not locks(storage)


def test_other_series_and_other_engines_do_not_wait() -> None:
    storage = MemoryStorage()
    with SeriesLock(storage, "tar", "h_n"), SeriesLock(storage, "tar", "h_n2"), SeriesLock(storage, "rsync", "h_n"):
        assert len(locks(storage)) == 1


def test_both_folders_of_an_engine_have_one_lock() -> None:
    storage = MemoryStorage()
    with SeriesLock(storage, "tar", "h_n"), pytest.raises(RepositoryLocked):
        SeriesLock(storage, "tar-sealed", "h_n").__enter__()


def test_the_lock_of_a_dead_run_is_taken_over_by_the_storages_clock() -> None:
    storage = MemoryStorage()
    SeriesLock(storage, "tar", "h_n").__enter__()  # and never left
    with pytest.raises(RepositoryLocked):
        SeriesLock(LaterStorage(storage, timedelta(minutes=9)), "tar", "h_n").__enter__()
    with SeriesLock(LaterStorage(storage, timedelta(minutes=11)), "tar", "h_n"):
        assert len(locks(storage)) == 1


def test_who_slept_too_long_notices_it() -> None:
    storage = MemoryStorage()
    lock = SeriesLock(storage, "tar", "h_n")
    with lock:
        lock.check()
        storage.delete(locks(storage)[0])
        with pytest.raises(LeaseLost):
            lock.check()


def test_a_lock_that_was_not_refreshed_does_not_count() -> None:
    storage = MemoryStorage()
    lock = SeriesLock(LaterStorage(storage, timedelta(minutes=10)), "tar", "h_n")
    with lock, pytest.raises(LeaseLost):
        lock.check()


def test_a_lock_is_refreshed_while_it_is_held() -> None:
    storage = MemoryStorage()
    with SeriesLock(storage, "tar", "h_n", lifetime=timedelta(milliseconds=50)):
        first = next(iter(storage.list(PREFIX))).modified
        while next(iter(storage.list(PREFIX))).modified == first:
            time.sleep(0.005)


@pytest.mark.parametrize("content", [b"", b"junk", b"[]", b'{"held": 5}'])
def test_a_lock_that_nobody_can_read_is_a_lock(content: bytes) -> None:
    storage = MemoryStorage()
    storage.put(f"{PREFIX}x", [content])
    with pytest.raises(RepositoryLocked):
        SeriesLock(storage, "tar", "h_n").__enter__()
    assert locks(storage) == [f"{PREFIX}x"]


def test_of_many_at_once_never_two_go_on() -> None:
    storage = MemoryStorage()
    inside, most, refused = 0, 0, 0
    counting = threading.Lock()
    start = threading.Barrier(8)

    def run() -> None:
        nonlocal inside, most, refused
        start.wait()
        try:
            with SeriesLock(storage, "tar", "h_n"):
                with counting:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.01)
                with counting:
                    inside -= 1
        except RepositoryLocked:
            with counting:
                refused += 1

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 1
    assert not locks(storage)


@pytest.mark.parametrize("method", ["put", "list", "delete"])
def test_what_fails_leaves_no_lock_behind(method: str) -> None:
    storage = MemoryStorage()
    faulty = FaultyStorage(storage, Fault(fail(StorageUnavailable("gone")), methods={method}))
    if method == "delete":  # giving it back failed: it dies by itself
        with SeriesLock(faulty, "tar", "h_n"):
            pass
        assert len(locks(storage)) == 1
        return
    with pytest.raises(StorageUnavailable):
        SeriesLock(faulty, "tar", "h_n").__enter__()
    assert not locks(storage)


def test_a_lost_answer_leaves_no_lock_behind() -> None:
    storage = MemoryStorage()
    faulty = FaultyStorage(storage, Fault(fail(StorageUnavailable("gone")), when="after", methods={"put"}))
    with pytest.raises(StorageUnavailable):
        SeriesLock(faulty, "tar", "h_n").__enter__()
    assert not locks(storage)


def test_the_lock_of_a_killed_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    script = f"""
        import signal
        from freezer_sdk.engines.chains.lock import SeriesLock
        from freezer_sdk.storages.local import LocalStorage
        SeriesLock(LocalStorage(path={str(tmp_path)!r}), "tar", "h_n").__enter__()
        print("held", flush=True)
        signal.pause()
    """
    storage = LocalStorage(path=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(RepositoryLocked, match=f"process {child.pid} on "):
            SeriesLock(storage, "tar", "h_n").__enter__()
        child.kill()
        child.wait()
        with SeriesLock(storage, "tar", "h_n"):
            assert len(list(storage.list(PREFIX))) == 1


def test_a_process_of_another_machine_may_be_alive() -> None:
    own = ProcessMark.own()
    assert not own.dead
    assert ProcessMark(machine=own.machine, process=own.process, started="1").dead
    assert not ProcessMark(machine="another", process=own.process, started="1").dead
    assert not ProcessMark(machine="", process=own.process, started="").dead
