"""One stream for several readers: read once, kept no longer than the slowest reader needs it, in bounded memory."""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from freezer_sdk.errors import Cancelled
from freezer_sdk.modes.base import StreamReader
from freezer_sdk.streams.cancel import CancelToken

_CHUNK = 256 << 10
_WAIT = 0.2  # seconds between looks at the cancel token
_FAREWELL = 0.5  # seconds that a source gets to notice that nobody reads it any more


class Tee:
    """Reads a source once, in a thread of its own, and gives every reader all of it.

    What is read waits in memory until the slowest reader has taken it, ``budget`` bytes at most; while they are all
    taken, the source waits. A reader that keeps the others waiting is dropped: by how long they may wait for it
    altogether, less the time that it waited for them.

    Args:
        open_source: gives the source; called when the first reader begins.
        readers: how many there are.
        budget: bytes.
        patience: seconds that the others wait for one reader; ``None``: for ever.
        dropped: told the number of a reader that was dropped, from another thread; must not call the tee.
        clock: for tests.
    """

    def __init__(
        self,
        open_source: Callable[[], AbstractContextManager[StreamReader]],
        readers: int,
        *,
        budget: int,
        patience: float | None = None,
        dropped: Callable[[int], object] = lambda number: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_source = open_source
        self._budget, self._patience, self._dropped, self._clock = budget, patience, dropped, clock
        self._size = max(1, min(_CHUNK, budget // 4))
        self._changed = threading.Condition()
        self._chunks: deque[memoryview] = deque()
        self._first = 0  # number of the first chunk that is kept
        self._held = 0  # bytes
        self._full = False
        self._since = clock()
        self._readers = {number: _Place() for number in range(readers)}
        self._ended = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._source: AbstractContextManager[StreamReader] | None = None

    # -- readers -------------------------------------------------------------------------------------------

    @contextmanager
    def open(self, number: int, *, cancel: CancelToken | None = None) -> Iterator[StreamReader]:
        """The stream for one reader; leaving the context lets the others go on without it.

        Args:
            number: from 0; each may be opened once.
            cancel: looked at while waiting.

        Raises:
            Cancelled: from ``readinto``: somebody asked to stop, or this reader was dropped.
            Exception: from ``readinto``, at the end: what the source raised.
        """
        with self._changed:
            if self._thread is None and not self._ended:
                self._thread = threading.Thread(target=self._pump, name="freezer-tee", daemon=True)
                self._thread.start()
        try:
            yield _Branch(self, number, cancel or CancelToken())
        finally:
            self.leave(number)

    def leave(self, number: int) -> None:
        """This reader wants no more, or will never begin. May be called again."""
        with self._changed:
            self._account()
            self._readers.pop(number, None)
            self._trim()

    def close(self) -> None:
        """Ends what is still open; a source that waits for ever is left to its thread."""
        with self._changed:
            self._ended = self._ended or self._thread is None
            self._readers.clear()
            self._trim()
        thread = self._thread
        if thread is not None:
            thread.join(_FAREWELL)
            if thread.is_alive():  # leaving a source ends the program that it waits for
                self._leave_source()
                thread.join(_FAREWELL)

    def take(self, number: int, cancel: CancelToken) -> memoryview | None:
        """The rest of the chunk that a reader stands in, waiting for it if need be; ``None`` at the end.

        Raises:
            Cancelled: somebody asked to stop, or this reader was dropped.
            Exception: what the source raised.
        """
        with self._changed:
            while True:
                cancel.check()
                place = self._readers.get(number)
                if place is None:
                    raise Cancelled("this reader kept the others waiting and was dropped")
                if place.chunk < self._first + len(self._chunks):
                    return self._chunks[place.chunk - self._first][place.offset :]
                if self._ended:
                    if self._failure is None:
                        return None
                    raise _again(self._failure)
                self._account()
                place.starving = True
                self._changed.notify_all()
                self._changed.wait(_WAIT)
                self._account()
                place.starving = False

    def advance(self, number: int, size: int) -> None:
        """A reader has taken so many bytes of its chunk."""
        with self._changed:
            place = self._readers.get(number)
            if place is None:
                return
            place.offset += size
            if place.offset >= len(self._chunks[place.chunk - self._first]):
                self._account()
                place.chunk, place.offset = place.chunk + 1, 0
                self._trim()

    # -- the source ----------------------------------------------------------------------------------------

    def _pump(self) -> None:
        failure: BaseException | None = None
        try:
            source = self._open_source()
            reader = source.__enter__()
            self._source = source
            while self._give(self._read(reader)):
                pass
        except BaseException as error:  # every reader gets it at its end
            failure = error
        try:
            self._leave_source(failure)
        except BaseException as error:
            failure = failure or error
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def _read(self, reader: StreamReader) -> memoryview:
        buffer = memoryview(bytearray(self._size))
        size = reader.readinto(buffer)
        return buffer if size == len(buffer) else memoryview(bytes(buffer[:size]))  # small ones take little memory

    def _give(self, chunk: memoryview) -> bool:
        """Keeps a chunk when there is room for it; whether there may be more, and somebody who wants it."""
        with self._changed:
            while self._readers and self._chunks and self._held + self._size > self._budget:
                self._account()
                self._full = True
                self._changed.wait(_WAIT)
                self._account()
                self._full = False
                self._drop_the_slow()
            if chunk and self._readers:
                self._chunks.append(chunk)
                self._held += len(chunk)
                self._changed.notify_all()
            return bool(chunk and self._readers)

    def _leave_source(self, failure: BaseException | None = None) -> None:
        with self._changed:
            source, self._source = self._source, None
        if source is not None:
            source.__exit__(type(failure) if failure is not None else None, failure, None)

    # -- with the lock held --------------------------------------------------------------------------------

    def _trim(self) -> None:
        """Forgets what all readers have taken."""
        needed = min((place.chunk for place in self._readers.values()), default=self._first + len(self._chunks))
        while self._chunks and self._first < needed:
            self._held -= len(self._chunks.popleft())
            self._first += 1
        self._changed.notify_all()

    def _account(self) -> None:
        """Who waited for whom since the last time."""
        now = self._clock()
        passed, self._since = now - self._since, now
        starving = [place for place in self._readers.values() if place.starving]
        if not (self._full and starving):
            return
        for place in self._readers.values():
            if place.starving:
                place.blame = max(0.0, place.blame - passed)
            elif place.chunk == self._first:
                place.blame += passed

    def _drop_the_slow(self) -> None:
        if self._patience is None:
            return
        for number in [number for number, place in self._readers.items() if place.blame > self._patience]:
            del self._readers[number]
            self._dropped(number)
        self._trim()


class _Place:
    """Where a reader stands.

    Attributes:
        chunk: number of the chunk that it reads; offset: in it.
        starving: it has taken all that there is, and waits.
        blame: seconds that others waited for it, more than it for them.
    """

    __slots__ = ("blame", "chunk", "offset", "starving")

    def __init__(self) -> None:
        self.chunk = self.offset = 0
        self.starving = False
        self.blame = 0.0


class _Branch:
    """The stream as one reader sees it."""

    def __init__(self, tee: Tee, number: int, cancel: CancelToken) -> None:
        self._tee, self._number, self._cancel = tee, number, cancel

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as far as it can; 0 at the end.

        Raises:
            Cancelled: somebody asked to stop, or this reader was dropped.
            Exception: at the end: what the source raised.
        """
        filled = 0
        while filled < len(buffer):
            rest = self._tee.take(self._number, self._cancel)
            if rest is None:
                break
            size = min(len(rest), len(buffer) - filled)
            buffer[filled : filled + size] = rest[:size]
            filled += size
            self._tee.advance(self._number, size)
        return filled


def _again(error: BaseException) -> BaseException:
    """The same error for another thread, which may give it a hint and a traceback of its own."""
    try:
        other = copy.copy(error)
    except Exception:  # its class wants other arguments
        return error
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    return other.with_traceback(error.__traceback__)
