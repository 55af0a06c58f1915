"""When calls are repeated: a table of decisions, and runs with a clock of the test's own."""

from __future__ import annotations

import pytest

from freezer_sdk.errors import AccessDenied, Cancelled, ConfigurationError, StorageThrottled, StorageUnavailable
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.retry import RetryPolicy

POLICY = RetryPolicy(attempts=5, first_wait=1, longest_wait=10, total=60)


@pytest.mark.parametrize(
    ("failures", "elapsed", "retry_after", "chance", "expected"),
    [
        (1, 0, None, 1.0, 1),  # the bound doubles
        (2, 0, None, 1.0, 2),
        (3, 0, None, 1.0, 4),
        (4, 0, None, 1.0, 8),
        (4, 0, None, 0.5, 4),  # and the wait is anything below it
        (4, 0, None, 0.0, 0),
        (5, 0, None, 1.0, None),  # that was the last attempt
        (6, 0, None, 1.0, None),
        (4, 55, None, 1.0, 5),  # the last attempt starts when the time is over, not later
        (4, 60, None, 1.0, None),
        (1, 61, None, 0.0, None),
        (1, 0, 20, 0.0, 20),  # what the server asks for is more than our bound, and it gets it
        (1, 0, 20, 1.0, 21),  # not everybody at the same moment
        (4, 0, 20, 1.0, 21),
        (1, 50, 20, 0.0, 10),  # though not beyond the time
        (1, 0, 3600, 0.0, 60),
        (1, 60, 20, 0.0, None),
        (1, 0, 0, 0.5, 0.5),
        (1, 0, -5, 0.5, 0.5),  # a date in the past
    ],
)
def test_waits(failures, elapsed, retry_after, chance, expected):
    assert POLICY.wait(failures, elapsed, retry_after=retry_after, chance=chance) == expected


def test_waits_are_bounded_however_often_it_failed():
    policy = RetryPolicy(attempts=10**9, first_wait=1, longest_wait=10, total=60)
    assert policy.wait(10**8, 0, chance=1.0) == 10


def test_no_attempt_at_all_is_refused():
    with pytest.raises(ConfigurationError):
        RetryPolicy(attempts=0)


class Server:
    """Fails as planned, on a clock that only its calls and the waits move."""

    def __init__(self, *outcomes, takes=0.0):
        self.outcomes = list(outcomes)
        self.takes = takes
        self.now = 1000.0
        self.waits = []
        self.told = []

    def call(self):
        self.now += self.takes
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sleep(self, seconds):
        self.waits.append(seconds)
        self.now += seconds

    def run(self, policy=POLICY, **changed):
        return policy.run(
            self.call,
            repeating=lambda error, wait, attempt: self.told.append((str(error), wait, attempt)),
            clock=lambda: self.now,
            sleep=self.sleep,
            chance=lambda: 1.0,
            **changed,
        )


def unavailable(text="gone"):
    return StorageUnavailable(text)


def throttled(seconds):
    error = StorageThrottled("slow down")
    error.retry_after = seconds
    return error


def test_a_success_is_not_repeated():
    server = Server("answer")
    assert server.run() == "answer"
    assert server.told == []


def test_it_is_repeated_until_it_succeeds():
    server = Server(unavailable("a"), unavailable("b"), "answer")
    assert server.run() == "answer"
    assert server.told == [("a", 1, 2), ("b", 2, 3)]
    assert server.waits == [1, 2]


def test_an_error_for_good_comes_out_at_once():
    server = Server(unavailable(), AccessDenied("no"), "never")
    with pytest.raises(AccessDenied):
        server.run()
    assert server.outcomes == ["never"]


def test_the_last_error_comes_out_as_it_was():
    errors = [unavailable(str(number)) for number in range(5)]
    server = Server(*errors)
    with pytest.raises(StorageUnavailable) as caught:
        server.run()
    assert caught.value is errors[-1]
    assert len(server.waits) == 4


def test_it_gives_up_when_the_time_is_over():
    server = Server(*(unavailable() for _ in range(99)), takes=7)
    with pytest.raises(StorageUnavailable):
        server.run(RetryPolicy(attempts=99, first_wait=1, longest_wait=10, total=60))
    assert server.now <= 1000 + 7 + 60 + 7  # the first attempt, the time, the last attempt


def test_a_slow_first_attempt_has_a_second_one():
    server = Server(unavailable(), "answer", takes=3600)
    assert server.run() == "answer"


def test_retry_after_is_waited_for():
    server = Server(throttled(42), "answer")
    assert server.run() == "answer"
    assert server.waits == [43]


def test_a_failure_that_happened_before_counts():
    server = Server(*(unavailable(str(number)) for number in range(1, 5)))
    with pytest.raises(StorageUnavailable, match="4"):
        server.run(failed=unavailable("0"))
    assert [text for text, _, _ in server.told] == ["0", "1", "2", "3"]
    server = Server("never")
    with pytest.raises(AccessDenied):
        server.run(failed=AccessDenied("no"))


def test_waiting_ends_when_cancelled():
    token = CancelToken()
    policy = RetryPolicy(attempts=2, first_wait=3600, longest_wait=3600, total=3600)
    server = Server(unavailable(), "never")
    with pytest.raises(Cancelled):
        policy.run(server.call, cancel=token, repeating=lambda *_: token.cancel(), chance=lambda: 1.0)
    assert server.outcomes == ["never"]


def test_what_was_called_is_not_kept_alive_while_waiting():
    import gc
    import weakref

    class Data:
        pass

    def failing():
        data = Data()
        alive.append(weakref.ref(data))
        raise unavailable()

    alive, seen = [], []

    def sleep(seconds):
        gc.collect()
        seen.append([reference() is None for reference in alive])

    with pytest.raises(StorageUnavailable):
        RetryPolicy(attempts=2, first_wait=0).run(failing, sleep=sleep)
    assert seen == [[True]]
