"""SHA-256 of a stream, computed in another thread: the library lets go of the interpreter while it computes."""

from __future__ import annotations

import hashlib
import threading
from queue import Queue
from types import TracebackType
from typing import Final, Self

_QUEUED: Final = 16  # blocks
_AT_ONCE: Final = 1 << 20  # what is shorter is not worth a thread


class StreamHash:
    """The hash of everything that it is given; a context manager that ends its thread.

    The first MiB is hashed at once, the rest while the caller goes on. A few blocks are held.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._queue: Queue[bytes | None] = Queue(_QUEUED)
        self._thread: threading.Thread | None = None
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def update(self, data: bytes) -> None:
        """Takes the next bytes, which must stay as they are."""
        self.size += len(data)
        if self.size <= _AT_ONCE:
            self._hash.update(data)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="freezer-hash", daemon=True)
            self._thread.start()
        self._queue.put(data)

    def hexdigest(self) -> str:
        """The hash of all that was taken so far."""
        self._end()
        return self._hash.hexdigest()

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._hash.update(data)

    def _end(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()
