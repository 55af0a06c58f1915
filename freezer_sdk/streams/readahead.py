"""Reading ahead of whoever uses the bytes, in another thread, with bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from typing import Final

from freezer_sdk.storages.base import Reader

_BLOCK: Final = 256 << 10
_BLOCKS: Final = 16
_WAIT: Final = 0.2  # seconds between looks at whether somebody still waits


@contextmanager
def read_ahead(reader: Reader, *, tick: Callable[[], None] = lambda: None) -> Iterator[Reader]:
    """Reads in a thread of its own while the context lasts: decoding and its use overlap.

    An error of the reader is raised where the bytes before it end. About 4 MiB are held at most.

    Args:
        tick: called before each read in the calling thread; what it raises ends the reading.
    """
    ahead = _ReadAhead(reader, tick)
    thread = threading.Thread(target=ahead.pump, name="freezer-readahead", daemon=True)
    thread.start()
    try:
        yield ahead
    finally:
        ahead.stop()
        thread.join()


class _ReadAhead:
    def __init__(self, reader: Reader, tick: Callable[[], None]) -> None:
        self._reader, self._tick = reader, tick
        self._queue: Queue[bytes | BaseException] = Queue(_BLOCKS)
        self._stopping = threading.Event()
        self._rest = memoryview(b"")
        self._end: bytes | BaseException | None = None

    def pump(self) -> None:
        """In the thread: everything to its end, or until nobody wants it any more."""
        while not self._stopping.is_set():
            block, end = self._block()
            if block and not self._put(block):
                return
            if end is not None:
                self._put(end)
                return

    def _block(self) -> tuple[bytes, bytes | BaseException | None]:
        """Bytes, half a block at least where there are, and what comes after them if they are the last ones.

        What the reader gives is not cut: most of it is handed on without being copied.
        """
        parts: list[bytes] = []
        size = 0
        while size < _BLOCK // 2 and not self._stopping.is_set():
            try:
                data = self._reader.read(_BLOCK)
            except BaseException as error:
                return b"".join(parts), error
            if not data:
                return b"".join(parts), data
            parts.append(data)
            size += len(data)
        return (parts[0] if len(parts) == 1 else b"".join(parts)), None

    def _put(self, item: bytes | BaseException) -> bool:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=_WAIT)
            except Full:
                continue
            return True
        return False

    def stop(self) -> None:
        """Ends the thread after what it is at."""
        self._stopping.set()
        with suppress(Empty):  # it may wait for room
            self._queue.get_nowait()

    def read(self, size: int = -1) -> bytes:
        """See :class:`~freezer_sdk.storages.base.Reader`."""
        if size < 0:
            return b"".join(iter(lambda: self.read(_BLOCK), b""))
        if not self._rest and size:
            self._rest = memoryview(self._next())
        if len(self._rest) <= size and isinstance(self._rest.obj, bytes) and len(self._rest) == len(self._rest.obj):
            whole, self._rest = self._rest.obj, memoryview(b"")
            return whole
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def _next(self) -> bytes:
        self._tick()
        while self._end is None:
            try:
                item = self._queue.get(timeout=_WAIT)
            except Empty:
                self._tick()
                continue
            if item and not isinstance(item, BaseException):
                return item
            self._end = item
        if isinstance(self._end, BaseException):
            raise self._end
        return b""
