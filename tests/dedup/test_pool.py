"""The bounded pool: it blocks, reports the first error, and ends."""

from __future__ import annotations

import threading
import time

import pytest

from freezer_sdk.errors import Cancelled
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.pool import WorkerPool


def test_all_jobs_run() -> None:
    done: list[int] = []
    pool = WorkerPool("t", threads=3, budget=5)
    for number in range(200):
        pool.submit(done.append, number)
    pool.drain()
    pool.close()
    assert sorted(done) == list(range(200))


def test_budget_bounds_what_is_unfinished() -> None:
    gate, running = threading.Event(), []
    pool = WorkerPool("t", threads=4, budget=3)

    def job(number: int) -> None:
        running.append(number)
        gate.wait(120)

    feeder = threading.Thread(target=lambda: [pool.submit(job, n) for n in range(6)])
    feeder.start()
    time.sleep(0.2)
    assert len(running) == 3
    assert feeder.is_alive()
    gate.set()
    feeder.join(120)
    pool.drain()
    pool.close()
    assert sorted(running) == list(range(6))


def test_a_job_heavier_than_the_budget_runs_alone() -> None:
    done: list[int] = []
    pool = WorkerPool("t", threads=2, budget=3)
    for number in range(4):
        pool.submit(done.append, number, weight=100)
    pool.drain()
    pool.close()
    assert len(done) == 4


def feed(pool: WorkerPool, done: list[int]) -> None:
    for number in range(10_000):
        pool.submit(done.append, number)
    pool.drain()


def test_first_error_comes_back_and_later_jobs_do_not_run() -> None:
    pool = WorkerPool("t", threads=1, budget=100)

    def fail() -> None:
        raise ValueError("first")

    done: list[int] = []
    pool.submit(fail)
    with pytest.raises(ValueError, match="first"):
        feed(pool, done)
    pool.close()


def test_waiting_can_be_cancelled() -> None:
    cancel, gate = CancelToken(), threading.Event()
    pool = WorkerPool("t", threads=1, budget=1, cancel=cancel)
    pool.submit(gate.wait, 20)
    threading.Timer(0.1, cancel.cancel).start()
    with pytest.raises(Cancelled):
        pool.submit(gate.wait, 20)
    gate.set()
    pool.close()


def test_no_threads_until_there_is_work() -> None:
    before = threading.active_count()
    pool = WorkerPool("t", threads=4, budget=4)
    assert threading.active_count() == before
    pool.close()
