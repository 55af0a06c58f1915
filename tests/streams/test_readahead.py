"""Reading ahead: all bytes in order, errors where they belong, and an end whenever somebody wants it."""

from __future__ import annotations

import io
import random
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.errors import Cancelled, IntegrityError
from freezer_sdk.streams import readahead
from freezer_sdk.streams.readahead import read_ahead


class Bits:
    """Gives bytes in pieces of odd sizes, for ever or until an error."""

    def __init__(self, *, most: int | None = None, step: int = 1000) -> None:
        self._most, self._step = most, step
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        if self._most is not None and self.given >= self._most:
            raise IntegrityError("no more")
        self.given += (count := min(size, self._step))
        return bytes(count)


def threads() -> int:
    return sum(thread.name == "freezer-readahead" for thread in threading.enumerate())


@given(st.binary(max_size=5000), st.lists(st.integers(1, 3000), min_size=1, max_size=5))
def test_every_byte_once(data: bytes, sizes: list[int]) -> None:
    found, turn = [], 0
    with read_ahead(io.BytesIO(data)) as reader:
        while piece := reader.read(sizes[turn % len(sizes)]):
            assert len(piece) <= sizes[turn % len(sizes)]
            found.append(piece)
            turn += 1
        assert reader.read(10) == b""
    assert b"".join(found) == data


def test_all_at_once() -> None:
    data = random.Random(1).randbytes(3 << 20)
    with read_ahead(io.BytesIO(data)) as reader:
        assert reader.read(5) == data[:5]
        assert reader.read() == data[5:]


def test_an_error_comes_after_the_bytes_before_it() -> None:
    source = Bits(most=700_000)
    with read_ahead(source) as reader:
        size = 0
        while size < 700_000:
            size += len(reader.read(4096))
        assert size == source.given
        for _again in range(2):
            with pytest.raises(IntegrityError):
                reader.read(1)


@pytest.mark.parametrize("read", [0, 1, 300_000, 5_000_000])
def test_leaving_early_ends_the_thread(read: int) -> None:
    for _turn in range(20):
        with read_ahead(Bits(step=7000)) as reader:
            for _piece in range(0, read, 100_000):
                reader.read(100_000)
        assert not threads()


def test_a_stop_between_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread has handed on a block, and is told to stop before it reads the next one."""
    put = readahead._ReadAhead._put

    def put_and_stop(self: readahead._ReadAhead, item: bytes | BaseException) -> bool:
        done = put(self, item)
        self.stop()
        return done

    monkeypatch.setattr(readahead._ReadAhead, "_put", put_and_stop)
    with read_ahead(Bits(step=readahead._BLOCK)):
        while threads():
            time.sleep(0.01)


def test_little_is_read_ahead() -> None:
    source = Bits(step=1 << 20)
    with read_ahead(source) as reader:
        reader.read(1)
    assert source.given < 8 << 20


def test_cancelling() -> None:
    def tick() -> None:
        raise Cancelled("enough")

    with pytest.raises(Cancelled), read_ahead(Bits(), tick=tick) as reader:
        reader.read(1)
    assert not threads()
