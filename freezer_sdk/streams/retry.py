"""When a failed call is repeated, how long to wait before, and when to give up: one policy for all storages."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from freezer_sdk.errors import ConfigurationError, Transient
from freezer_sdk.streams.cancel import CancelToken

T = TypeVar("T")

_SLICE = 0.2  # seconds between looks at the cancel token


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Repeats what failed with a :class:`~freezer_sdk.errors.Transient` error.

    Waits grow exponentially and are drawn at random below their bound ("full jitter"), so that clients which a server
    dropped together do not come back together.

    Attributes:
        attempts: calls at most, the first one included; 1: nothing is repeated.
        first_wait: bound of the first wait in seconds; each later one is twice as long.
        longest_wait: bound of all waits in seconds; a server that asks for more time gets it.
        total: seconds from the first failure to the start of the last attempt.
    """

    attempts: int = 20
    first_wait: float = 0.5
    longest_wait: float = 30.0
    total: float = 300.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"{self.attempts} attempts are too few: the first call counts")

    def wait(self, failures: int, elapsed: float, *, retry_after: float | None = None, chance: float) -> float | None:
        """Seconds to wait before the next attempt, or ``None``: give up.

        Args:
            failures: how many attempts have failed, 1 at least.
            elapsed: seconds since the first failure.
            retry_after: seconds that the other side asked for; never cut short, except by ``total``.
            chance: a random number from 0 to 1.
        """
        left = self.total - elapsed
        if failures >= self.attempts or left <= 0:
            return None
        bound = min(self.longest_wait, self.first_wait * 2.0 ** min(failures - 1, 60))
        if retry_after is None:
            return min(chance * bound, left)
        return min(max(0.0, retry_after) + chance * min(bound, self.first_wait), left)

    def run(
        self,
        call: Callable[[], T],
        *,
        cancel: CancelToken | None = None,
        failed: Exception | None = None,
        repeating: Callable[[Exception, float, int], object] = lambda error, wait, attempt: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
    ) -> T:
        """Calls until it succeeds, fails for good, or the policy gives up; then the last error comes out as it was.

        Args:
            call: what may be repeated.
            cancel: ends the waiting.
            failed: the error of a first attempt that was made already.
            repeating: told of each repetition before the wait: the error, the seconds, the number of the next attempt.
            clock, sleep, chance: for tests.

        Raises:
            Cancelled: somebody asked to stop.
            Exception: what ``call`` raised.
        """
        pause = sleep or (lambda seconds: _sleep(seconds, cancel or CancelToken()))
        failures, first_failure = 0, 0.0
        while True:
            if failed is None:
                try:
                    return call()
                except Exception as error:
                    failed = error
            now = clock()
            failures, first_failure = failures + 1, first_failure if failures else now
            wait = None
            if isinstance(failed, Transient):
                wait = self.wait(failures, now - first_failure, retry_after=failed.retry_after, chance=chance())
            if wait is None:
                try:
                    raise failed
                finally:
                    failed = None
            repeating(failed, wait, failures + 1)
            failed = None  # its traceback would keep the data of the call alive
            pause(wait)


def _sleep(seconds: float, cancel: CancelToken) -> None:
    end = time.monotonic() + seconds
    while True:
        cancel.check()
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, _SLICE))
