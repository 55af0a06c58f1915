"""A bounded pool of worker threads: submitting blocks while too much is unfinished, the first error comes back."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from freezer_sdk.streams.cancel import CancelToken

_WAIT = 0.5  # seconds between looks at the cancel token


class WorkerPool:
    """Runs jobs on a few threads that start when first needed.

    Args:
        name: prefix of the threads' names.
        threads: how many jobs run at once.
        budget: how much *weight* may be unfinished; a job heavier than all of it runs alone.
        cancel: looked at while waiting.
    """

    def __init__(self, name: str, *, threads: int, budget: int, cancel: CancelToken | None = None) -> None:
        self._name = name
        self._threads = max(1, threads)
        self._budget = max(1, budget)
        self._cancel = cancel or CancelToken()
        self._lock = threading.Condition()
        self._jobs: deque[tuple[Callable[..., Any], tuple[Any, ...], int]] = deque()
        self._weight = 0
        self._idle = 0
        self._workers: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._closed = False

    def submit(self, job: Callable[..., Any], *args: Any, weight: int = 1) -> None:
        """Hands over a job; waits while the budget is spent.

        Raises:
            Cancelled: somebody asked to stop.
            Exception: what an earlier job raised.
        """
        with self._lock:
            while self._weight and self._weight + weight > self._budget and self._error is None:
                self._cancel.check()
                self._lock.wait(_WAIT)
            self._raise()
            self._cancel.check()
            self._weight += weight
            self._jobs.append((job, args, weight))
            if self._idle == 0 and len(self._workers) < self._threads:
                worker = threading.Thread(target=self._work, name=f"{self._name}-{len(self._workers)}", daemon=True)
                self._workers.append(worker)
                worker.start()
            self._lock.notify_all()

    def check(self) -> None:
        """Goes on unless a job failed.

        Raises:
            Exception: what a job raised.
        """
        with self._lock:
            self._raise()

    def drain(self) -> None:
        """Waits until every job is done.

        Raises:
            Cancelled: somebody asked to stop.
            Exception: what a job raised.
        """
        with self._lock:
            while self._weight and self._error is None:
                self._cancel.check()
                self._lock.wait(_WAIT)
            self._raise()

    def close(self) -> None:
        """Drops jobs that have not started, waits for those that have, and ends the threads."""
        with self._lock:
            self._closed = True
            self._weight -= sum(weight for _job, _args, weight in self._jobs)
            self._jobs.clear()
            self._lock.notify_all()
        for worker in self._workers:
            worker.join()
        self._workers.clear()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._jobs and not self._closed:
                    self._idle += 1
                    self._lock.wait()
                    self._idle -= 1
                if not self._jobs:
                    return
                job, args, weight = self._jobs.popleft()
            try:
                if self._error is None:
                    job(*args)
            except BaseException as error:  # handed to whoever submits or drains next
                with self._lock:
                    self._error = self._error or error
            finally:
                del job, args  # a waiting thread must not keep the last job's data alive
                with self._lock:
                    self._weight -= weight
                    self._lock.notify_all()
