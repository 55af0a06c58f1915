"""Storages that fail for a while: what is repeated, what is not, and that nobody gets a wrong byte."""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import datetime, timedelta

import pytest
from joining_storage import JoiningStorage

from freezer_sdk.activity import WatchedStorage
from freezer_sdk.errors import (
    AccessDenied,
    Cancelled,
    CapabilityMissing,
    ConfigurationError,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    StorageThrottled,
    StorageUnavailable,
)
from freezer_sdk.reliable import ReliableStorage
from freezer_sdk.storages.base import Capabilities
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.ratelimit import Limits
from freezer_sdk.streams.retry import RetryPolicy
from freezer_sdk.testing import Fault, FaultyStorage, StorageSuite, fail

CUT = StorageUnavailable("the cable is cut")
QUICK = RetryPolicy(attempts=4, first_wait=0)


class Far(JoiningStorage):
    """Memory that says it is behind a network."""

    @property
    def capabilities(self):
        return Capabilities(conditional_put=True, persistent=False, segmented_uploads=True)


class Remembering(Far):
    """After a barrier that failed it knows what is not durable yet."""

    @property
    def capabilities(self):
        return Capabilities(conditional_put=True, persistent=False, repeatable_barrier=True)


def reliable(inner, *faults, policy=QUICK, **settings):
    return ReliableStorage(FaultyStorage(inner, *faults), policy=policy, **settings)


def calls(storage, method):
    return sum(call.method == method for call in storage.inner.calls)


@pytest.fixture
def inner():
    return Far()


class TestNotNoticed(StorageSuite):
    """Around a storage that never fails, it must not be noticed, nor that it is watched."""

    many = 200

    def make_storage(self):
        return WatchedStorage(ReliableStorage(Far()))

    def test_location_is_a_url_of_its_own(self):
        with pytest.raises(ConfigurationError):
            ReliableStorage.parse_url(self.storage.location)


class Flaky(FaultyStorage):
    """Every second call is cut, before it is done or after; every fifth time, twice in a row."""

    def __init__(self):
        once = {"put", "get", "open", "read", "stat", "list", "delete", "join", "now"}
        faults = [
            Fault(fail(CUT), at=at, methods={method}, when=when)
            for method in once
            for at in range(1, 400, 2)
            for when in (("before",) if method in ("get", "read") or at % 5 else ("after",))
        ]
        super().__init__(Far(), *faults)


class TestSuiteOverFaults(StorageSuite):
    """The whole contract holds while calls fail all the time."""

    many = 50
    large = 1 << 20

    def make_storage(self):
        return ReliableStorage(Flaky(), policy=RetryPolicy(attempts=20, first_wait=0))

    def test_location_is_a_url_of_its_own(self):
        pass

    def test_if_absent_has_one_winner(self):
        pass  # eight contents, and whose answer was lost: tested below, one by one


class TestOneCall:
    @pytest.mark.parametrize("when", ["before", "after"])
    @pytest.mark.parametrize(
        ("method", "use", "expected"),
        [
            ("put", lambda storage: storage.put("y", [b"12"]).size, 2),
            ("put", lambda storage: storage.put("y", [b"12"], if_absent=True).size, 2),
            ("get", lambda storage: storage.get("x", offset=2), b"ntent"),
            ("stat", lambda storage: storage.stat("x").size, 7),
            ("list", lambda storage: [info.name for info in storage.list()], ["x"]),
            ("open", lambda storage: read_all(storage, "x"), b"content"),
            ("read", lambda storage: read_all(storage, "x"), b"content"),
            ("delete", lambda storage: storage.delete("x"), None),
            ("delete", lambda storage: storage.delete_many(iter(["x", "z"])), None),
            ("join", lambda storage: storage.join("y", segments="parts").size, 0),
            ("now", lambda storage: storage.now().utcoffset(), timedelta(0)),
        ],
    )
    def test_is_repeated(self, inner, method, use, expected, when):
        inner.put("x", [b"content"])
        storage = reliable(inner, Fault(fail(CUT), methods={method}, when=when, times=3))
        assert use(storage) == expected
        assert calls(storage, method) + (calls(storage, "get") if method == "read" else 0) > 1

    @pytest.mark.parametrize("method", ["put", "get", "stat", "list", "delete", "now"])
    def test_fails_in_the_end_with_its_own_error(self, inner, method):
        storage = reliable(inner, Fault(fail(CUT), methods={method}, times=None))
        with pytest.raises(StorageUnavailable) as caught:
            USES[method](storage)
        assert caught.value is CUT
        assert calls(storage, method) == QUICK.attempts

    @pytest.mark.parametrize("method", ["put", "get", "stat", "list", "delete", "now", "open"])
    def test_is_not_repeated_when_it_failed_for_good(self, inner, method):
        inner.put("x", [b""])
        storage = reliable(inner, Fault(fail(AccessDenied("no")), methods={method}, times=None))
        with pytest.raises(AccessDenied):
            USES[method](storage)
        assert calls(storage, method) == 1

    def test_of_a_storage_of_this_machine_is_not_repeated_by_default(self):
        storage = ReliableStorage(FaultyStorage(MemoryStorage(), Fault(fail(CUT), methods={"put"})))
        with pytest.raises(StorageUnavailable):
            storage.put("x", [b""])

    def test_other_exceptions_pass(self, inner):
        storage = reliable(inner, Fault(fail(KeyError("defect")), methods={"get"}))
        with pytest.raises(KeyError):
            storage.get("x")


class Bulk(Far):
    """Deletes many at once, and fails once for each number of calls."""

    def __init__(self, *broken):
        super().__init__()
        self.broken = set(broken)
        self.batches = []

    def delete_many(self, names):
        names = list(names)
        self.batches.append(len(names))
        for name in names[: len(names) // 2]:
            self.delete(name)
        if len(self.batches) in self.broken:
            raise StorageUnavailable("half of them")
        super().delete_many(names)


class TestManyDeletions:
    def test_are_repeated_in_batches(self):
        inner = Bulk(2)
        for number in range(2500):
            inner.put(f"{number:04}", [b""])
        ReliableStorage(inner, policy=QUICK).delete_many(f"{number:04}" for number in range(2400))
        assert inner.batches == [1000, 1000, 1000, 400]
        assert [info.name for info in inner.list()] == [f"{number:04}" for number in range(2400, 2500)]

    def test_go_on_after_a_batch_that_failed_for_good(self):
        inner = Bulk(*range(1, 5))
        for number in range(1500):
            inner.put(f"{number:04}", [b""])
        with pytest.raises(StorageUnavailable):
            ReliableStorage(inner, policy=QUICK).delete_many([f"{number:04}" for number in range(1500)])
        assert inner.batches == [1000] * 4 + [500]
        assert len(list(inner.list())) == 500

    @pytest.mark.parametrize("methods", [["delete"], ["delete", "delete_many"]])
    def test_end_when_cancelled(self, inner, methods, monkeypatch):
        """Each further one could take as long as the storage's time limit."""
        asked = []

        def dead(self, names):
            asked.append(names)
            raise CUT

        for method in methods:
            monkeypatch.setattr(Far, method, dead, raising=False)
        storage, token = ReliableStorage(inner, policy=QUICK), CancelToken()
        token.cancel()
        with storage.watching(token), pytest.raises(Cancelled):
            storage.delete_many(f"{number:04}" for number in range(2400))
        assert len(asked) == 1


def read_all(storage, name, size=-1):
    with storage.open(name) as reader:
        return b"".join(iter(lambda: reader.read(size), b""))


USES = {
    "put": lambda storage: storage.put("x", [b""]),
    "get": lambda storage: storage.get("x"),
    "stat": lambda storage: storage.stat("x"),
    "list": lambda storage: list(storage.list()),
    "delete": lambda storage: storage.delete("x"),
    "now": lambda storage: storage.now(),
    "open": lambda storage: storage.open("x").__enter__(),
}


class TestFirstContact:
    def test_is_given_up_sooner(self, inner):
        storage = reliable(inner, Fault(fail(CUT), times=None), policy=RetryPolicy(attempts=9, first_wait=0),
                           first_contact=RetryPolicy(attempts=2, first_wait=0))  # fmt: skip
        with pytest.raises(StorageUnavailable):
            storage.stat("x")
        assert calls(storage, "stat") == 2

    @pytest.mark.parametrize("answer", [None, AccessDenied("no"), ObjectNotFound("none"), StorageThrottled("busy")])
    def test_is_over_with_any_answer(self, inner, answer):
        inner.put("x", [b""])
        faults = [Fault(fail(CUT), methods={"stat"}, times=None)]
        if answer is not None:
            faults.append(Fault(fail(answer), methods={"get"}))
        storage = reliable(inner, *faults, policy=RetryPolicy(attempts=9, first_wait=0),
                           first_contact=RetryPolicy(attempts=2, first_wait=0))  # fmt: skip
        with contextlib.suppress(AccessDenied, ObjectNotFound):
            storage.get("x")
        with pytest.raises(StorageUnavailable):
            storage.stat("x")
        assert calls(storage, "stat") == 9


class TestLostAnswers:
    def test_a_conditional_put_finds_its_own_object(self, inner):
        storage = reliable(inner, Fault(fail(CUT), methods={"put"}, when="after"))
        info = storage.put("x", [b"mine", bytearray(b" and whole")], if_absent=True)
        assert (info.name, info.size) == ("x", 14)
        assert inner.get("x") == b"mine and whole"

    @pytest.mark.parametrize("theirs", [b"else", b"longer than mine", b""])
    def test_but_not_somebody_elses(self, inner, theirs):
        storage = reliable(inner, Fault(lambda call: inner.put("x", [theirs]), methods={"put"}),
                           Fault(fail(CUT), methods={"put"}))  # fmt: skip
        with pytest.raises(ObjectExists):
            storage.put("x", [b"mine"], if_absent=True)
        assert inner.get("x") == theirs

    def test_nothing_is_compared_when_the_first_answer_came(self, inner):
        inner.put("x", [b"mine"])
        storage = reliable(inner)
        with pytest.raises(ObjectExists):
            storage.put("x", [b"mine"], if_absent=True)
        assert calls(storage, "get") == 0

    def test_comparing_survives_failures_too(self, inner):
        content = bytes(range(256)) * (9 << 12)  # several pieces
        storage = reliable(inner, Fault(fail(CUT), methods={"put"}, when="after"),
                           Fault(fail(CUT), at=2, methods={"get"}), Fault(fail(CUT), methods={"stat"}))  # fmt: skip
        assert storage.put("x", [content], if_absent=True).size == len(content)

    def test_a_refused_condition_is_refused(self):
        class Simple(Far):
            @property
            def capabilities(self):
                return Capabilities(conditional_put=False)

            def put(self, name, buffers, *, if_absent=False):
                if if_absent:
                    raise CapabilityMissing("no conditions here")
                return super().put(name, buffers)

        with pytest.raises(CapabilityMissing):
            ReliableStorage(Simple()).put("x", [b""], if_absent=True)


class Pages(Far):
    """Listings come in pages of three; each page can fail."""

    def __init__(self, *broken):
        super().__init__()
        self.broken = list(broken)
        self.listings = 0

    def list(self, prefix="", *, delimiter=None):
        self.listings += 1
        return self._pages(super().list(prefix, delimiter=delimiter))

    def _pages(self, listing):
        for number, info in enumerate(listing):
            if self.broken and number == self.broken[0]:
                del self.broken[0]
                raise StorageUnavailable("the page did not come")
            yield info


class TestListings:
    names = tuple(f"{folder}/{number}" for folder in "abc" for number in range(4))

    @pytest.mark.parametrize(
        "broken", [(0,), (5,), (11,), (0, 0, 0), (3, 1, 2, 7, 7, 6, 11), (1,) * 3, tuple(range(12))]
    )
    def test_go_on_after_the_last_name(self, broken):
        inner = Pages(*broken)
        for name in self.names:
            inner.put(name, [b""])
        storage = ReliableStorage(inner, policy=QUICK)
        assert [info.name for info in storage.list()] == list(self.names)
        assert inner.broken == []

    def test_with_a_delimiter(self):
        inner = Pages(1, 2)
        for name in (*self.names, "b"):
            inner.put(name, [b""])
        storage = ReliableStorage(inner, policy=QUICK)
        assert [info.name for info in storage.list(delimiter="/")] == ["a/", "b", "b/", "c/"]

    def test_progress_begins_the_attempts_anew(self):
        inner = Pages(*(number for number in range(12) for _ in range(3)))
        for name in self.names:
            inner.put(name, [b""])
        assert len(list(ReliableStorage(inner, policy=QUICK).list())) == 12

    def test_without_progress_the_error_comes_out(self):
        inner = Pages(*[5] * 99)
        for name in self.names:
            inner.put(name, [b""])
        listing = ReliableStorage(inner, policy=QUICK).list()
        found = []
        with pytest.raises(StorageUnavailable):
            found.extend(info.name for info in listing)
        assert inner.listings == QUICK.attempts

    def test_names_that_vanish_and_appear_meanwhile(self):
        inner = Pages(5)
        for name in self.names:
            inner.put(name, [b""])
        listing = ReliableStorage(inner, policy=QUICK).list()
        found = [next(listing).name for _ in range(5)]  # the next one breaks
        inner.delete(found[-1])
        inner.delete("c/0")
        inner.put("a/00", [b""])
        inner.put("b/9", [b""])
        found += [info.name for info in listing]
        assert found == [f"a/{number}" for number in range(4)] + [f"b/{number}" for number in (0, 1, 2, 3, 9)] + [
            f"c/{number}" for number in (1, 2, 3)
        ]

    def test_what_comes_in_no_order_is_not_guessed_at(self):
        class Jumbled(Pages):
            def list(self, prefix="", *, delimiter=None):
                return self._pages(reversed(list(MemoryStorage.list(self, prefix))))

        inner = Jumbled(6)
        for name in self.names:
            inner.put(name, [b""])
        with pytest.raises(StorageUnavailable):
            list(ReliableStorage(inner, policy=QUICK).list())


class Breaking(Far):
    """Streams that break, or end, after so many bytes."""

    def __init__(self, after, how="break"):
        super().__init__()
        self.after = after
        self.how = how
        self.streams = 0

    @contextlib.contextmanager
    def open(self, name):
        self.streams += 1
        with super().open(name) as reader:
            yield Leaky(reader, self.after, self.how)


class Leaky:
    def __init__(self, reader, after, how):
        self.reader, self.left, self.how = reader, after, how

    def read(self, size=-1):
        data = self.reader.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(data)
        if not data and size:
            if self.how == "break":
                raise StorageUnavailable("connection reset")
            return b""
        return data


class TestStreams:
    content = bytes(range(251)) * 50_000  # some ranges

    @pytest.mark.parametrize("size", [-1, 77_777, 5_000_000])
    @pytest.mark.parametrize("after", [0, 1, 1_000_000, 251 * 50_000 - 1])
    @pytest.mark.parametrize("how", ["break", "end"])
    def test_go_on_where_they_broke(self, size, after, how):
        inner = Breaking(after, how)
        inner.put("x", [self.content])
        assert read_all(ReliableStorage(inner, policy=QUICK), "x", size) == self.content
        assert inner.streams == 1

    def test_whole_ones_cost_nothing_more(self):
        inner = FaultyStorage(Far())
        inner.put("x", [self.content])
        assert read_all(ReliableStorage(inner, policy=QUICK), "x", 1_000_000) == self.content
        assert [call.method for call in inner.calls if call.method != "read"] == ["put", "stat", "open"]

    def test_ranges_that_fail_are_repeated(self):
        inner = Breaking(1000)
        inner.put("x", [self.content])
        storage = reliable(inner, Fault(fail(CUT), at=2, methods={"get"}), Fault(fail(CUT), at=3, methods={"stat"}))
        assert read_all(storage, "x", 100_000) == self.content

    @pytest.mark.parametrize("replace_at", [2, 10, 50])
    def test_two_versions_are_never_mixed(self, replace_at):
        inner = Breaking(300_000)
        inner.put("x", [self.content])
        storage = ReliableStorage(inner, policy=QUICK)
        found = b""

        def read():
            nonlocal found
            with storage.open("x") as reader:
                for number in range(1000):
                    if number == replace_at:
                        inner.put("x", [self.content[::-1]])
                    found += reader.read(100_000)

        with pytest.raises(StorageError, match="replaced"):
            read()
        assert self.content.startswith(found)

    def test_an_object_that_vanished_is_no_end_of_a_stream(self):
        inner = Breaking(1000)
        inner.put("x", [self.content])
        storage = ReliableStorage(inner, policy=QUICK)

        def read():
            with storage.open("x") as reader:
                assert reader.read(1000) == self.content[:1000]
                inner.delete("x")
                reader.read(1000)

        with pytest.raises(ObjectNotFound):
            read()

    def test_the_callers_own_error_comes_out(self, inner):
        inner.put("x", [b"content"])
        with pytest.raises(ZeroDivisionError), ReliableStorage(inner).open("x"):
            raise ZeroDivisionError


class TestUploads:
    @pytest.mark.parametrize("method", ["upload", "write", "commit"])
    @pytest.mark.parametrize("when", ["before", "during", "after"])
    def test_are_never_replayed(self, inner, method, when):
        storage = reliable(inner, Fault(fail(CUT), methods={method}, when=when))

        def upload():
            with storage.upload("x") as stream:
                stream.write(b"1")
                stream.commit()

        with pytest.raises(StorageUnavailable):
            upload()
        assert calls(storage, method) == 1


class TestBarriers:
    @pytest.mark.parametrize("error", [CUT, StorageError("the disk lost something"), OSError(5, "input/output error")])
    def test_one_that_failed_is_never_taken_back(self, inner, error):
        storage = reliable(inner, Fault(fail(error), methods={"flush"}))
        with pytest.raises(type(error)):
            storage.flush()
        assert calls(storage, "flush") == 1
        storage.put("x", [b""])
        for _ in range(2):
            with pytest.raises(StorageError, match="may be lost"):
                storage.flush()
        assert calls(storage, "flush") == 1

    def test_one_that_remembers_is_repeated(self):
        storage = reliable(Remembering(), Fault(fail(CUT), methods={"flush"}, times=2))
        storage.flush()
        assert calls(storage, "flush") == 3

    def test_one_that_remembers_can_lose_too(self):
        storage = reliable(Remembering(), Fault(fail(StorageError("the disk lost something")), methods={"flush"}))
        for _ in range(2):
            with pytest.raises(StorageError, match="lost"):
                storage.flush()
        assert calls(storage, "flush") == 1

    def test_others_pass(self, inner):
        storage = reliable(inner)
        storage.flush()
        storage.flush()
        assert calls(storage, "flush") == 2


class TestWaiting:
    endless = RetryPolicy(attempts=99, first_wait=3600, longest_wait=3600, total=1e6)

    def failing(self, inner, tokens):
        """A call that waits for an hour, on a thread of its own."""
        storage = reliable(inner, Fault(fail(CUT), methods={"get"}, times=None), policy=self.endless)
        outcome = []

        def work():
            with contextlib.ExitStack() as stack:
                for token in tokens:
                    stack.enter_context(storage.watching(token))
                try:
                    storage.get("x")
                except Exception as error:
                    outcome.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while not calls(storage, "get"):
            thread.join(0.01)
        return storage, thread, outcome

    def test_ends_with_the_storage(self, inner):
        storage, thread, outcome = self.failing(inner, [])
        storage.close()
        thread.join(120)
        assert not thread.is_alive()
        assert [type(error) for error in outcome] == [StorageError]

    def test_ends_when_everybody_is_cancelled(self, inner):
        tokens = [CancelToken(), CancelToken()]
        _storage, thread, outcome = self.failing(inner, tokens)
        tokens[0].cancel()
        thread.join(0.5)
        assert thread.is_alive()
        tokens[1].cancel()
        thread.join(120)
        assert [type(error) for error in outcome] == [Cancelled]

    def test_a_token_counts_only_while_it_is_watched(self, inner):
        token = CancelToken()
        inner.put("x", [b"content"])
        storage = reliable(inner, Fault(fail(CUT), methods={"get"}))
        with storage.watching(token):
            pass
        token.cancel()
        assert storage.get("x") == b"content"


class Counter:
    def __init__(self):
        self.out, self.back = [], []

    def sent(self, size):
        self.out.append(size)

    def received(self, size):
        self.back.append(size)


class PacedMemory(Far):
    """Tells its traffic, in blocks of ten bytes."""

    @property
    def capabilities(self):
        return Capabilities(conditional_put=True, paced=True)

    def put(self, name, buffers, *, if_absent=False):
        content = b"".join(buffers)
        for start in range(0, len(content), 10):
            self.traffic.sent(len(content[start : start + 10]))
        return super().put(name, buffers, if_absent=if_absent)

    def get(self, name, *, offset=0, length=None):
        content = super().get(name, offset=offset, length=length)
        for start in range(0, len(content), 10):
            self.traffic.received(len(content[start : start + 10]))
        return content


class TestBandwidth:
    """That limits are asked; what they do is tested with them."""

    @pytest.fixture
    def limits(self, monkeypatch):
        limits = Limits()
        limits.counter = Counter()
        monkeypatch.setattr(limits.sending, "take", lambda size, *, cancel: limits.counter.sent(size))
        monkeypatch.setattr(limits.receiving, "take", lambda size, *, cancel: limits.counter.received(size))
        return limits

    def test_a_storage_that_tells_its_traffic_waits_block_by_block(self, limits):
        storage = ReliableStorage(PacedMemory(), limits=[limits])
        storage.put("x", [b"x" * 25])
        storage.get("x")
        assert (limits.counter.out, limits.counter.back) == ([10, 10, 5], [10, 10, 5])

    def test_another_one_waits_call_by_call(self, inner, limits):
        limits.upload = limits.download = 1 << 40
        storage = ReliableStorage(inner, limits=[limits])
        storage.put("x", [b"x" * 25, memoryview(b"12345678").cast("Q")])
        with storage.upload("y") as upload:
            upload.write(memoryview(b"12345678").cast("Q"))
            upload.commit()
        assert limits.counter.out == [33, 8]
        storage.get("x", length=10)
        assert read_all(storage, "x", 20) == b"x" * 25 + b"12345678"
        assert limits.counter.back == [10, 20, 13]

    def test_each_attempt_is_traffic(self, inner, limits):
        limits.upload = 1 << 40
        storage = reliable(inner, Fault(fail(CUT), methods={"put"}, times=2), limits=[limits])
        storage.put("x", [b"x" * 25])
        assert limits.counter.out == [25, 25, 25]

    def test_a_listener_hears_of_it_too(self):
        storage = ReliableStorage(PacedMemory(), limits=[Limits()])
        storage.traffic = counter = Counter()
        storage.put("x", [b"x" * 25])
        storage.get("x", offset=20)
        assert (counter.out, counter.back) == ([10, 10, 5], [5])
        assert storage.traffic is counter

    def test_several_limits_hold_at_once(self, limits):
        own = Limits()
        storage = ReliableStorage(PacedMemory(), limits=[own, limits])
        other = ReliableStorage(PacedMemory(), limits=[limits])
        storage.put("x", [b"x" * 5])
        other.put("x", [b"x" * 7])
        assert limits.counter.out == [5, 7]

    def test_a_waiting_transfer_ends_with_the_storage(self):
        limits = Limits(upload=1)
        storage = ReliableStorage(PacedMemory(), limits=[limits])
        outcome = []

        def work():
            try:
                storage.put("x", [b"x" * 25])
            except Cancelled as error:
                outcome.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        while not limits.sending._queue:
            thread.join(0.01)
        storage.close()
        thread.join(120)
        assert len(outcome) == 1
        assert list(storage.inner.list()) == []


class TestMessages:
    def test_a_log_line_for_each_repetition(self, inner, caplog):
        storage = reliable(inner, Fault(fail(CUT), methods={"put"}, times=2))
        with caplog.at_level(logging.DEBUG, logger="freezer_sdk"):
            storage.put("packs/x", [b""])
        location = inner.location
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("WARNING", f"{location}: storing 'packs/x' failed (StorageUnavailable: the cable is cut); "
             f"trying again in 0.0 s (attempt {attempt} of 4)")
            for attempt in (2, 3)
        ]  # fmt: skip

    def test_no_secret_is_in_it(self, inner, caplog):
        error = StorageUnavailable("server said: hello bob:hunter2, go away")
        storage = reliable(inner, Fault(fail(error), methods={"put"}),
                           Fault(fail(error), methods={"flush"}), secrets=["hunter2"])  # fmt: skip
        storage.put("x", [b""])
        with pytest.raises(StorageUnavailable):
            storage.flush()
        with pytest.raises(StorageError) as caught:
            storage.flush()
        assert "hunter2" not in caplog.text + str(caught.value) + repr(storage)
        assert "***" in caplog.text

    def test_it_speaks_for_the_storage_that_does_the_work(self, inner):
        storage = ReliableStorage(inner)
        assert (storage.name, storage.options, storage.summary) == ("memory", Far.options, Far.summary)
        assert storage.location == inner.location
        assert storage.capabilities == inner.capabilities
        assert storage.max_parallel == inner.max_parallel
        assert storage.inner is inner
        assert isinstance(storage.now(), datetime)


class TestCapabilities:
    """Some storages ask their server."""

    class Asking(Far):
        def __init__(self, *errors):
            super().__init__()
            self.errors = list(errors)
            self.asked = 0

        @property
        def capabilities(self):
            self.asked += 1
            if self.errors:
                raise self.errors.pop(0)
            return Capabilities(conditional_put=True)

    def test_are_not_asked_for_before_they_are_needed(self):
        inner = self.Asking(CUT)
        storage = ReliableStorage(inner, limits=[Limits()], policy=QUICK)
        storage.put("x", [b"content"])
        assert storage.get("x") == b"content"
        assert inner.asked == 0
        assert storage.capabilities.conditional_put
        assert inner.asked == 2

    def test_a_server_that_does_not_answer_is_far_away(self, monkeypatch):
        monkeypatch.setattr("random.random", lambda: 0.0)
        inner = self.Asking(*[CUT] * 3)
        assert ReliableStorage(inner).capabilities.conditional_put
