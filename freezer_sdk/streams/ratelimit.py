"""Bandwidth limits: token buckets that any number of threads and connections share."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_size
from freezer_sdk.streams.cancel import CancelToken

_BURST = 0.1  # seconds of the rate that may pass at once after a pause
_SLICE = 0.5  # seconds between looks at the cancel token


class RateLimit:
    """Lets bytes pass at a rate; callers are served in the order in which they came.

    Args:
        rate: bytes a second; ``None`` or 0: no limit.
        clock: for tests.

    Raises:
        ConfigurationError: not a rate.
    """

    def __init__(self, rate: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()
        self._rate = _checked(rate)
        self._tokens = 0.0  # below zero: more has passed than was due yet
        self._filled = clock()

    @property
    def rate(self) -> float | None:
        """Bytes a second, or ``None``; a change holds at once, also for those who are waiting."""
        return self._rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        rate = _checked(rate)
        with self._changed:
            self._fill()
            if self._rate is None or rate is None:
                self._tokens = 0.0
            self._rate = rate
            self._changed.notify_all()

    def wake(self) -> None:
        """Makes those who wait look at their cancel token now."""
        with self._changed:
            self._changed.notify_all()

    def take(self, size: int, *, cancel: CancelToken | None = None) -> None:
        """Waits until ``size`` bytes may pass.

        More than a short burst passes as one, and those who come later pay for it: blocks should be small.

        Args:
            cancel: looked at twice a second, and at :meth:`wake`.

        Raises:
            Cancelled: somebody asked to stop; nothing was taken.
        """
        if self._rate is None or size <= 0:
            return
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
            try:
                while (wait := self._due(ticket, size)) is not None:
                    if cancel is not None:
                        cancel.check()
                    self._changed.wait(wait)
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _due(self, ticket: object, size: int) -> float | None:
        """Seconds until it is worth looking again, or ``None``: the bytes pass now, and are paid for."""
        if self._rate is None:
            return None
        if self._queue[0] is not ticket:
            return _SLICE
        self._fill()
        missing = min(float(size), self._rate * _BURST) - self._tokens
        if missing > 0:
            return min(missing / self._rate, _SLICE)
        self._tokens -= size
        return None

    def _fill(self) -> None:
        now = self._clock()
        if self._rate is not None:
            self._tokens = min(self._rate * _BURST, self._tokens + (now - self._filled) * self._rate)
        self._filled = now


class Limits:
    """Bandwidth limits of one storage, or of several together: give the same object to each.

    Both may be changed at any time; a change holds at once.

    Args:
        upload, download: bytes a second, or a text such as ``"500K"``; ``None`` or 0: no limit.

    Raises:
        ConfigurationError: not a size.
    """

    def __init__(self, *, upload: float | str | None = None, download: float | str | None = None) -> None:
        self.sending = RateLimit(_bytes(upload))
        self.receiving = RateLimit(_bytes(download))

    def __repr__(self) -> str:
        return f"Limits(upload={self.upload!r}, download={self.download!r})"

    @property
    def upload(self) -> float | None:
        """Bytes a second that go out, or ``None``; texts such as ``"5M"`` may be assigned."""
        return self.sending.rate

    @upload.setter
    def upload(self, rate: float | str | None) -> None:
        self.sending.rate = _bytes(rate)

    @property
    def download(self) -> float | None:
        """Bytes a second that come in, or ``None``; texts such as ``"5M"`` may be assigned."""
        return self.receiving.rate

    @download.setter
    def download(self, rate: float | str | None) -> None:
        self.receiving.rate = _bytes(rate)


def _bytes(rate: float | str | None) -> float | None:
    return parse_size(rate) if isinstance(rate, str) else rate


def _checked(rate: float | None) -> float | None:
    if rate is not None and not 0 <= rate < float("inf"):
        raise ConfigurationError(f"{rate!r} is no rate in bytes a second")
    return rate or None
