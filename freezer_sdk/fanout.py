"""The same work for several repositories at once: none of them stops the others."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from freezer_sdk.boundary import describe_failure
from freezer_sdk.errors import Cancelled, FreezerError, StorageUnavailable, TargetsFailed
from freezer_sdk.streams.cancel import CancelToken

T = TypeVar("T")

_TICK = 0.25  # seconds between looks at what does not tell by itself
_FAREWELL = 5.0  # seconds in which what was dropped may end by itself
_LONGEST_FAREWELL = 30.0  # the same after a cancellation, as long as something moves


class Job(Generic[T]):
    """Work for one repository, in a thread of its own.

    Args:
        location: of the repository, for messages.
        work: is given a token that ends it.
        stalled_for: seconds since anything moved while it waits for its storage; 0 while it does not.
        late: called with the value, or ``None`` for an error, when the job ends after nobody waits for it any more.

    Attributes:
        value, error: one of them, once the job is over.
        dropped: it was told to end because it kept the others waiting, or did not move.
        running: its thread has not ended.
        abandoned: its thread was left alone while it was running.
        token: ends it; made for the run.
    """

    def __init__(
        self,
        location: str,
        work: Callable[[CancelToken], T],
        *,
        stalled_for: Callable[[], float] | None = None,
        late: Callable[[T | None], object] = lambda value: None,
    ) -> None:
        self.location = location
        self.stalled_for = stalled_for if stalled_for is not None else _Wall()
        self.value: T | None = None
        self.error: FreezerError | None = None
        self.dropped = self.running = self.abandoned = False
        self.token = CancelToken()
        self._work, self._late = work, late

    def run(self) -> tuple[T | None, FreezerError | None]:
        """Does the work; an exception comes back as a FreezerError."""
        try:
            return self._work(self.token), None
        except FreezerError as error:
            return None, error
        except Exception as raised:
            return None, _unexpected(raised)

    def finish_late(self, value: T | None) -> None:
        """Nobody waits any more."""
        self._late(value)


class FanOut(Generic[T]):
    """Runs jobs side by side until each is over: done, failed, or dropped.

    Args:
        jobs: each has a thread; one that is dropped and does not end leaves a daemon thread behind.
        cancel: ends all.
        stall_timeout: seconds without any movement after which a job is dropped; ``None``: never.
        advice: what the user can do about a job that was dropped.
    """

    def __init__(
        self,
        jobs: Sequence[Job[T]],
        *,
        cancel: CancelToken | None = None,
        stall_timeout: float | None = None,
        advice: str | None = None,
    ) -> None:
        self._jobs = jobs
        self._stall_timeout, self._advice = stall_timeout, advice
        self._farewell = _FAREWELL if stall_timeout is None else min(_FAREWELL, stall_timeout)
        self._cancel = CancelToken(cancel)
        for job in jobs:
            job.token = CancelToken(self._cancel)
        self._changed = threading.Condition()

    def run(self) -> None:
        """Returns when all jobs are over; their ``value`` and ``error`` change no more then.

        What interrupts it (KeyboardInterrupt) comes out after all jobs were told to end.
        """
        try:
            for job in self._jobs:
                job.running = True
                threading.Thread(target=self._thread, args=(job,), name="freezer-target", daemon=True).start()
            self._watch()
        except BaseException:
            self._cancel.cancel()
            raise
        finally:
            self._part()

    def drop(self, job: Job[T], error: FreezerError) -> None:
        """Takes a job out of the run, from any thread."""
        with self._changed:
            if job.running and not job.dropped:
                job.dropped, job.error = True, error
                job.token.cancel()
                self._changed.notify_all()

    def _thread(self, job: Job[T]) -> None:
        value: T | None
        error: FreezerError | None
        try:
            value, error = job.run()
        except BaseException as raised:  # must not vanish with its thread
            value, error = None, _unexpected(raised)
        with self._changed:
            job.running = False
            late = job.abandoned
            if not late and (error is None or not job.dropped):  # what was done is done
                job.value, job.error = value, error
            self._changed.notify_all()
        if late:
            job.finish_late(value)

    def _watch(self) -> None:
        tick = _TICK if self._stall_timeout is None else min(_TICK, max(self._stall_timeout / 4, 0.01))
        while True:
            with self._changed:
                going = [job for job in self._jobs if job.running and not job.dropped]
                if not going or self._cancel.cancelled:
                    return
                self._changed.wait(tick)
            for job in going:
                if self._stall_timeout is not None and job.stalled_for() >= self._stall_timeout:
                    message = f"nothing has moved for {self._stall_timeout:g} seconds"
                    self.drop(job, StorageUnavailable(message, hint=self._advice))

    def _part(self) -> None:
        """Waits a little for what was told to end; what does not is left alone."""
        start = time.monotonic()
        with self._changed:
            try:
                while going := [job for job in self._jobs if job.running]:
                    waited = time.monotonic() - start
                    still = all(job.dropped or job.stalled_for() >= self._farewell for job in going)
                    if waited >= (self._farewell if still else _LONGEST_FAREWELL):
                        break
                    self._changed.wait(min(_TICK, self._farewell))
            finally:
                for job in self._jobs:
                    if job.running:
                        job.abandoned = True
                        job.error = job.error or Cancelled("cancelled")


class _Wall:
    """All of the time counts, for work that no storage tells of."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._start


def _unexpected(raised: BaseException) -> FreezerError:
    error = FreezerError(f"unexpected {describe_failure(raised)}")
    error.__cause__ = raised
    return error


def joined(errors: Mapping[str, FreezerError]) -> FreezerError:
    """One error for those of all targets: of their class when they share one, with all that they say."""
    first = next(iter(errors.values()))
    if len({(type(error), error.message) for error in errors.values()}) == 1:
        return first
    message = "; ".join(f"{location}: {error.message}" for location, error in errors.items())
    if len({type(error) for error in errors.values()}) > 1:
        return TargetsFailed(message)
    whole = copy.copy(first)
    whole.message, whole.args = message, (message,)
    return whole
