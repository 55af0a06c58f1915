"""A few connections to an FTP server, shared by threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from freezer_sdk.errors import StorageError, StorageThrottled
from freezer_sdk.storages._ftp import Connection

_SHRUNK = 300.0  # seconds for which fewer connections are enough, after the server took no more
_LOOK = 1.0  # seconds between looks at what the others do


class Pool:
    """Lends connections; makes them when needed, up to a limit.

    A thread that holds a connection (a stream that it reads or writes) is lent a further one beyond the limit: else it
    could wait for itself.

    Args:
        make: gives a new connection.
        limit: how many there may be.
        timeout: seconds to wait for one while none of those in use moves anything.
    """

    def __init__(self, make: Callable[[], Connection], *, limit: int, timeout: float) -> None:
        self._make = make
        self._limit = limit
        self._timeout = timeout
        self._lock = threading.Condition()
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._count = 0
        self._holders: Counter[int] = Counter()
        self._shrunk = (limit, 0.0)
        self._closed = False

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lends a connection.

        Raises:
            StorageThrottled: all are in use, and none of them moves.
            StorageUnavailable, AccessDenied, StorageError: none can be made.
        """
        holder = threading.get_ident()
        lent = self._take(holder)
        with self._lock:
            self._busy.add(lent)
            self._holders[holder] += 1
        try:
            yield lent
        finally:
            self._give_back(lent, holder)

    def close(self) -> None:
        """Ends idle connections now, and those in use when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            self._count -= len(idle)
        for connection in idle:
            connection.leave()

    def _take(self, holder: int) -> Connection:
        while True:
            found = self._reserve(holder)
            if found is not None:
                if found.alive():
                    return found
                found.close()
                self._free_place()
                continue
            try:
                return self._make()
            except StorageThrottled:
                if not self._free_place(shrink=True) or self._holders[holder]:
                    raise
            except BaseException:
                self._free_place()
                raise

    def _reserve(self, holder: int) -> Connection | None:
        """An idle connection, or a place for a new one."""
        started = time.monotonic()
        with self._lock:
            while True:
                if self._closed:
                    raise StorageError("the storage is closed")
                if self._idle:
                    return self._idle.pop()
                limit, until = self._shrunk
                limit = limit if time.monotonic() < until else self._limit
                if self._count < limit or self._holders[holder]:
                    self._count += 1
                    return None
                moved = max((connection.moved for connection in self._busy), default=started)
                if time.monotonic() - max(started, moved) > self._timeout:
                    raise StorageThrottled(f"all {limit} connections are in use, and none moves anything")
                self._lock.wait(_LOOK)

    def _give_back(self, connection: Connection, holder: int) -> None:
        with self._lock:
            self._busy.discard(connection)
            self._holders[holder] -= 1
            if not self._holders[holder]:
                del self._holders[holder]
            limit, until = self._shrunk
            surplus = self._count > (limit if time.monotonic() < until else self._limit)
            if connection.clean and not self._closed and not surplus:
                self._idle.append(connection)
                self._lock.notify()
                return
        connection.leave()
        self._free_place()

    def _free_place(self, *, shrink: bool = False) -> bool:
        """Gives up the place of a connection; whether there are others."""
        with self._lock:
            self._count -= 1
            if shrink and self._count:
                self._shrunk = (self._count, time.monotonic() + _SHRUNK)
            self._lock.notify()
            return self._count > 0
