"""Content into and out of open files, many requests at a time and a bounded amount in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from freezer_sdk.model import Buffer
from freezer_sdk.storages._sftp_session import Pending, Session
from freezer_sdk.storages.base import Traffic

WINDOW = 4 << 20
"""Bytes that may be on their way at once, on each connection and in each direction."""

_FIRST = 512 << 10


class Writer:
    """Writes an open file from its start.

    The status of every write is looked at: some at the next writes, the rest by :meth:`drain`. What they raise,
    :meth:`write` and :meth:`drain` raise.

    Attributes:
        size: bytes given so far.
    """

    def __init__(self, session: Session, handle: bytes, traffic: Traffic) -> None:
        self.size = 0
        self._session = session
        self._handle = handle
        self._traffic = traffic
        self._sent = 0
        self._rest = bytearray()
        self._statuses: deque[tuple[Pending[None], int]] = deque()
        self._unanswered = 0

    def write(self, buffers: Iterable[Buffer]) -> None:
        """Appends buffers; small ones are joined.

        Raises:
            ServerStatus, ConnectionLost.
        """
        block = self._session.block
        for buffer in buffers:
            view = memoryview(buffer).cast("B") if memoryview(buffer).nbytes else memoryview(b"")
            self.size += len(view)
            if self._rest:
                room = block - len(self._rest)
                self._rest += view[:room]
                view = view[room:]
                if len(self._rest) == block:
                    self._send_rest()
            while len(view) >= block:
                self._send(view[:block])
                view = view[block:]
            self._rest += view

    def drain(self) -> None:
        """Returns when the server has acknowledged every byte.

        Raises:
            ServerStatus, ConnectionLost.
        """
        self.finish()
        while self._statuses:
            self._take_status()

    def finish(self) -> None:
        """Sends what was kept back to be joined."""
        if self._rest:
            self._send_rest()

    def _send_rest(self) -> None:
        rest, self._rest = self._rest, bytearray()
        self._send(rest)

    def _send(self, data: bytearray | memoryview) -> None:
        while self._unanswered + len(data) > WINDOW:
            self._take_status()
        self._traffic.sent(len(data))
        self._statuses.append((self._session.write(self._handle, self._sent, data), len(data)))
        self._sent += len(data)
        self._unanswered += len(data)

    def _take_status(self) -> None:
        pending, size = self._statuses.popleft()
        self._unanswered -= size
        pending.result()


class Download:
    """A range of an open file, asked for ahead of need.

    Args:
        start, end: of the range, ``end`` not beyond the end of the file.
        all_at_once: the range is wanted as a whole; else little is asked for until more is taken.
    """

    def __init__(
        self, session: Session, handle: bytes, start: int, end: int, traffic: Traffic, *, all_at_once: bool
    ) -> None:
        self._session = session
        self._handle = handle
        self._traffic = traffic
        self._next = start
        self._end = end
        self._window = WINDOW if all_at_once else min(_FIRST, WINDOW)
        self._asked: deque[tuple[int, int, Pending[bytes]]] = deque()
        self._unanswered = 0
        self._ask()

    def piece(self) -> bytes:
        """The next bytes in order; ``b""`` at the end of the range.

        Raises:
            EOFError: the file ends before it.
            ServerStatus, ConnectionLost.
        """
        self._ask()
        if not self._asked:
            return b""
        offset, size, pending = self._asked.popleft()
        data = pending.result()
        self._unanswered -= size
        if not data:
            raise EOFError(f"it ends at {offset}, before its size")
        if len(data) > size:
            raise self._session.lost("the server sent more than was asked for")
        if len(data) < size:  # a server may answer with less at any time
            self._repeat(offset + len(data), size - len(data))
        self._window = min(WINDOW, 2 * self._window)
        self._traffic.received(len(data))
        return data

    def _ask(self) -> None:
        while self._next < self._end and self._unanswered < self._window:
            size = min(self._session.block, self._end - self._next)
            self._asked.append((self._next, size, self._session.read(self._handle, self._next, size)))
            self._next += size
            self._unanswered += size

    def _repeat(self, offset: int, size: int) -> None:
        self._asked.appendleft((offset, size, self._session.read(self._handle, offset, size)))
        self._unanswered += size
