"""One stream for several readers: all of them get all of it, in bounded memory, and none waits for ever for another."""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from freezer_sdk.errors import Cancelled, CommandFailed
from freezer_sdk.modes.base import StreamReader
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.process import ProcessReader
from freezer_sdk.streams.tee import Tee

CONTENT = bytes(range(251)) * 40_000  # 10 MB


class Source:
    """A stream of bytes that knows how far it was read, and in which thread it was opened and left."""

    def __init__(self, content: bytes, *, failure: Exception | None = None, piece: int = 1 << 20) -> None:
        self.content, self.failure, self.piece = content, failure, piece
        self.read = 0
        self.opened: list[str] = []
        self.left: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[StreamReader]:
        self.opened.append(threading.current_thread().name)
        try:
            yield self
        finally:
            self.left.append(threading.current_thread().name)

    def readinto(self, buffer: memoryview) -> int:
        size = min(len(buffer), self.piece, len(self.content) - self.read)
        buffer[:size] = self.content[self.read : self.read + size]
        self.read += size
        if not size and self.failure is not None:
            raise self.failure
        return size


def drain(reader: StreamReader, *, size: int = 300_001, pace: Callable[[], object] = lambda: None) -> bytes:
    buffer, parts = memoryview(bytearray(size)), []
    while count := reader.readinto(buffer):
        parts.append(bytes(buffer[:count]))
        pace()
    return b"".join(parts)


def side_by_side(*works: Callable[[], object]) -> list[object]:
    """What each gives or raises, from threads; a deadlock fails the test."""
    found: list[object] = [None] * len(works)

    def run(number: int) -> None:
        try:
            found[number] = works[number]()
        except BaseException as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    return found


def reading(tee: Tee, number: int, **how: object) -> Callable[[], bytes]:
    def work() -> bytes:
        with tee.open(number) as reader:
            return drain(reader, **how)  # type: ignore[arg-type]

    return work


@pytest.fixture(autouse=True)
def no_threads_stay() -> Iterator[None]:
    yield
    assert [each.name for each in threading.enumerate() if each.name.startswith("freezer")] == []


@pytest.mark.parametrize("piece", [1 << 20, 777])
@pytest.mark.parametrize("readers", [1, 2, 5])
def test_every_reader_gets_every_byte_and_the_source_is_read_once(readers: int, piece: int) -> None:
    content = CONTENT if piece > 1000 else CONTENT[:200_000]
    source = Source(content, piece=piece)
    tee = Tee(source, readers, budget=1 << 20)
    found = side_by_side(*(reading(tee, number, size=100_000 * (number + 1)) for number in range(readers)))
    assert found == [content] * readers
    assert source.read == len(content)
    tee.close()
    assert len(source.opened) == len(source.left) == 1
    assert source.opened == source.left, "the thread that opened it left it"


def test_an_empty_stream() -> None:
    tee = Tee(Source(b""), 2, budget=1 << 20)
    assert side_by_side(reading(tee, 0), reading(tee, 1)) == [b"", b""]


@pytest.mark.parametrize("piece", [1 << 20, 100])
def test_memory_is_bounded_by_the_budget_however_far_one_lags(piece: int) -> None:
    source = Source(CONTENT[:2_000_000], piece=piece)
    tee = Tee(source, 2, budget=1 << 20)
    tracemalloc.start()
    try:
        with tee.open(0) as quick, tee.open(1) as slow:
            ahead = threading.Thread(target=drain, args=(quick,), daemon=True)
            ahead.start()
            while source.read < 700_000:  # the quick one goes as far as it can
                time.sleep(0.01)
            time.sleep(0.3)
            assert source.read <= (1 << 20) + (256 << 10)
            if piece > 1000:
                assert tracemalloc.get_traced_memory()[1] < 3 << 20
            assert drain(slow) == source.content
            ahead.join(120)
    finally:
        tracemalloc.stop()
    tee.close()


def test_the_failure_at_the_end_reaches_every_reader_after_all_of_the_data() -> None:
    tee = Tee(Source(CONTENT, failure=CommandFailed("dump exited with status 3", hint="why")), 2, budget=1 << 20)
    seen = []

    def work(number: int) -> None:
        with tee.open(number) as reader:
            buffer = memoryview(bytearray(1 << 20))
            total = 0
            try:
                while count := reader.readinto(buffer):
                    total += count
            except CommandFailed as error:
                seen.append((total, error))
                raise

    found = side_by_side(lambda: work(0), lambda: work(1))
    assert [str(error) for error in found] == ["dump exited with status 3"] * 2
    assert found[0] is not found[1], "each may be given a hint of its own"
    assert all(error.hint == "why" for error in found)
    assert len(seen) == 2
    assert all(total > len(CONTENT) - (1 << 20) for total, _ in seen)


def test_a_source_that_cannot_be_opened_fails_for_all() -> None:
    @contextmanager
    def broken() -> Iterator[StreamReader]:
        raise CommandFailed("no such program")
        yield

    tee = Tee(broken, 2, budget=1 << 20)
    assert [str(error) for error in side_by_side(reading(tee, 0), reading(tee, 1))] == ["no such program"] * 2


def test_a_failure_on_leaving_the_source_counts_too() -> None:
    @contextmanager
    def failing() -> Iterator[StreamReader]:
        yield Source(b"abc")
        raise CommandFailed("the end was bad")

    tee = Tee(failing, 2, budget=1 << 20)
    assert [str(error) for error in side_by_side(reading(tee, 0), reading(tee, 1))] == ["the end was bad"] * 2


def test_a_reader_that_leaves_or_never_begins_holds_nobody_up() -> None:
    source = Source(CONTENT)
    tee = Tee(source, 3, budget=1 << 20)

    def leaves() -> None:
        with tee.open(1) as reader:
            reader.readinto(memoryview(bytearray(10)))

    tee.leave(2)
    found = side_by_side(reading(tee, 0), leaves)
    assert found == [CONTENT, None]


def test_when_all_have_left_the_source_is_read_no_further() -> None:
    source = Source(CONTENT)
    tee = Tee(source, 2, budget=1 << 20)
    tee.leave(1)
    with tee.open(0) as reader:
        reader.readinto(memoryview(bytearray(10)))
    tee.close()
    assert source.read < len(CONTENT)
    assert len(source.left) == 1


def test_a_reader_that_holds_the_others_up_is_dropped_and_they_get_everything() -> None:
    dropped: list[int] = []
    tee = Tee(Source(CONTENT), 2, budget=1 << 20, patience=0.2, dropped=dropped.append)
    stuck = threading.Event()

    def hangs() -> None:
        with tee.open(1) as reader:
            reader.readinto(memoryview(bytearray(10)))
            stuck.wait(20)
            drain(reader)

    def quick() -> bytes:
        content = reading(tee, 0)()
        stuck.set()
        return content

    found = side_by_side(quick, hangs)
    assert found[0] == CONTENT
    assert isinstance(found[1], Cancelled)
    assert dropped == [1]


def test_readers_that_take_turns_in_being_slow_are_not_dropped() -> None:
    """Each waits for the other again and again, for much longer than the patience in all."""
    dropped: list[int] = []
    source = Source(CONTENT * 2)
    tee = Tee(source, 2, budget=256 << 10, patience=0.6, dropped=dropped.append)
    turns = [0, 0]

    def pace(number: int) -> None:
        turns[number] += 1
        if turns[number] // 8 % 2 == number:
            time.sleep(0.03)

    found = side_by_side(
        *(reading(tee, number, size=256 << 10, pace=lambda number=number: pace(number)) for number in range(2))
    )
    assert found == [source.content] * 2
    assert dropped == []
    assert max(turns) * 0.03 / 2 > 1.0, "each made the other wait for longer than that"


def test_a_slow_source_is_nobodys_fault() -> None:
    class Slow(Source):
        def readinto(self, buffer: memoryview) -> int:
            time.sleep(0.05)
            return super().readinto(buffer[:1000])

    dropped: list[int] = []
    source = Slow(CONTENT[:10_000])
    tee = Tee(source, 2, budget=1 << 20, patience=0.05, dropped=dropped.append)
    assert side_by_side(reading(tee, 0), reading(tee, 1)) == [source.content] * 2
    assert dropped == []


def test_the_last_reader_may_be_as_slow_as_it_likes() -> None:
    dropped: list[int] = []
    source = Source(CONTENT[:3_000_000])
    tee = Tee(source, 2, budget=1 << 20, patience=0.05, dropped=dropped.append)
    tee.leave(0)
    assert reading(tee, 1, pace=lambda: time.sleep(0.05))() == source.content
    assert dropped == []


def test_cancelling_ends_a_reader_that_waits_for_a_silent_source() -> None:
    token = CancelToken()
    tee = Tee(lambda: ProcessReader(["sleep", "1000"], name="dump"), 1, budget=1 << 20)

    def work() -> bytes:
        with tee.open(0, cancel=token) as reader:
            return drain(reader)

    def stop() -> None:
        time.sleep(0.3)
        token.cancel()

    start = time.monotonic()
    found = side_by_side(work, stop)
    assert isinstance(found[0], Cancelled)
    tee.close()
    assert time.monotonic() - start < 300, "the program was ended, and its thread with it"


def test_a_program_is_ended_when_the_context_is_left_by_another_thread() -> None:
    reader = ProcessReader(["sh", "-c", "echo begun; sleep 1000"], name="dump")
    opened: AbstractContextManager[ProcessReader] = reader
    opened.__enter__()
    began = threading.Event()

    def read() -> None:
        began.set()
        drain(reader, size=1000)

    def leave() -> None:
        began.wait(120)
        time.sleep(0.2)
        opened.__exit__(None, None, None)

    start = time.monotonic()
    found = side_by_side(read, leave)
    assert isinstance(found[0], CommandFailed)
    assert found[1] is None
    assert time.monotonic() - start < 300
