"""Reading from producers that may say nothing for hours: a database that thinks, a person who types."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Self

_WAIT = 0.5  # seconds between looks at cancellation and the lease


class PatientReader:
    """Reads on a thread of its own, so that silence holds up neither cancellation nor the lease. A context manager.

    The thread ends when the read that it waits for returns: who leaves early ends the producer afterwards.

    Args:
        readinto: of the producer.
        tick: called while waiting; raises Cancelled, keeps the lease.
    """

    def __init__(self, readinto: Callable[[memoryview], int | None], tick: Callable[[], None]) -> None:
        self._readinto, self._tick = readinto, tick
        self._asked: SimpleQueue[memoryview | None] = SimpleQueue()
        self._answered = threading.Event()
        self._count = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._work, name="freezer-stream", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._asked.put(None)

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as the producer does; after a failure the buffer belongs to nobody.

        Raises:
            whatever the producer or ``tick`` raise.
        """
        self._answered.clear()
        self._asked.put(buffer)
        while not self._answered.wait(_WAIT):
            self._tick()
        if self._failure is not None:
            raise self._failure
        return self._count

    def _work(self) -> None:
        while (buffer := self._asked.get()) is not None:
            try:
                self._count = self._readinto(buffer) or 0
            except BaseException as error:
                self._failure = error
            del buffer  # it may be memory that its owner wants to shrink
            self._answered.set()
