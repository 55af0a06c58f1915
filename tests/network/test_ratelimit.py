"""Token buckets, on a clock of the test's own: nothing here measures time."""

from __future__ import annotations

import threading
from unittest import mock

import pytest

from freezer_sdk.errors import Cancelled, ConfigurationError
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.ratelimit import Limits, RateLimit


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Taker(threading.Thread):
    """Takes from a limit on a thread of its own, and says when it was let pass."""

    def __init__(self, limit, size, cancel=None, order=None):
        super().__init__()
        self.limit, self.size, self.token, self.order = limit, size, cancel, order
        self.passed = threading.Event()
        self.error = None
        self.start()

    def run(self):
        try:
            self.limit.take(self.size, cancel=self.token)
            if self.order is not None:
                self.order.append(self.size)
        except Exception as error:
            self.error = error
        self.passed.set()

    def wait(self):
        assert self.passed.wait(120)
        self.join()


def waiting(limit, count):
    """Waits until so many callers stand in the queue."""
    for _ in range(10_000):
        if len(limit._queue) == count:
            return
        threading.Event().wait(0.001)
    pytest.fail(f"{len(limit._queue)} callers wait instead of {count}")


@pytest.fixture
def clock():
    return Clock()


def taken_at(limit, clock, sizes):
    """The times at which a lone caller passes with these sizes; its waits move the clock, and nothing else does."""

    def wait(seconds):
        clock.now += max(seconds, 1e-6)

    times = []
    with mock.patch.object(limit._changed, "wait", wait):
        for size in sizes:
            limit.take(size)
            times.append(clock.now)
    return times


def test_no_limit_waits_for_nothing():
    for limit in (RateLimit(), RateLimit(0), RateLimit(None)):
        for _ in range(1000):
            limit.take(1 << 40)
        assert limit.rate is None


def test_the_rate_holds_over_many_blocks(clock):
    limit = RateLimit(1000, clock=clock)
    times = taken_at(limit, clock, [100] * 20)
    assert times[-1] == pytest.approx(2.0, abs=1e-3)
    assert times[9] == pytest.approx(1.0, abs=1e-3)


def test_a_block_above_the_burst_is_paid_for_afterwards(clock):
    limit = RateLimit(1000, clock=clock)
    times = taken_at(limit, clock, [5000, 10])
    assert times[0] == pytest.approx(0.1, abs=1e-3)
    assert times[1] == pytest.approx(5.01, abs=1e-3)


def test_a_pause_saves_up_no_more_than_a_short_burst(clock):
    limit = RateLimit(1000, clock=clock)
    clock.now = 3600.0
    times = taken_at(limit, clock, [100] * 5)
    assert times[0] == 3600.0
    assert times[-1] == pytest.approx(3600.4, abs=1e-3)


def test_callers_pass_in_the_order_in_which_they_came(clock):
    limit = RateLimit(1000, clock=clock)
    order = []
    takers = []
    for size in (90, 10, 80, 20):
        takers.append(Taker(limit, size, order=order))
        waiting(limit, len(takers))
    while not all(taker.passed.is_set() for taker in takers):
        clock.now += 0.01
        limit.wake()
    for taker in takers:
        taker.wait()
    assert order == [90, 10, 80, 20]


@pytest.mark.parametrize("rate", [None, 10**12])
def test_those_who_wait_notice_a_change_at_once(clock, rate):
    limit = RateLimit(1, clock=clock)
    takers = [Taker(limit, 10_000) for _ in range(5)]
    waiting(limit, 5)
    limit.rate = rate
    clock.now += 0.1
    limit.wake()
    for taker in takers:
        taker.wait()
        assert taker.error is None


def test_a_lower_rate_holds_at_once(clock):
    limit = RateLimit(10_000, clock=clock)
    taken_at(limit, clock, [1000])
    limit.rate = 100
    began = clock.now
    times = taken_at(limit, clock, [10, 100, 100])
    assert times[-1] - began == pytest.approx(1.2, abs=1e-3)


def test_debts_are_forgotten_with_the_limit(clock):
    limit = RateLimit(1000, clock=clock)
    taken_at(limit, clock, [1_000_000])
    limit.rate = None
    limit.rate = 1000
    began = clock.now
    assert taken_at(limit, clock, [100])[0] - began == pytest.approx(0.1, abs=1e-3)


def test_a_waiting_caller_can_be_cancelled_and_takes_nothing(clock):
    limit = RateLimit(1000, clock=clock)
    token = CancelToken()
    first = Taker(limit, 50, token)
    waiting(limit, 1)
    second = Taker(limit, 60)
    waiting(limit, 2)
    token.cancel()
    limit.wake()
    first.wait()
    assert isinstance(first.error, Cancelled)
    clock.now += 0.06
    limit.wake()
    second.wait()
    assert second.error is None


def test_rates_that_cannot_be():
    for rate in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError):
            RateLimit(rate)
        limit = RateLimit(5)
        with pytest.raises(ConfigurationError):
            limit.rate = rate
        assert limit.rate == 5
    with pytest.raises(ConfigurationError):
        Limits(upload="fast")


def test_limits_take_texts_and_numbers():
    limits = Limits(upload="500K", download=7)
    assert (limits.upload, limits.download) == (512_000, 7)
    assert repr(limits) == "Limits(upload=512000, download=7)"
    limits.upload, limits.download = "0", None
    assert (limits.upload, limits.download) == (None, None)
    limits.download = "1M"
    assert limits.receiving.rate == 1 << 20
