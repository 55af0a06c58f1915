"""Problems of single entries, told once a kind where they would repeat."""

from __future__ import annotations

import os
import threading

from freezer_sdk.model import Problem
from freezer_sdk.modes.base import ProblemHandler

NOT_IN_SNAPSHOT = (
    "not-in-snapshot",
    "its content lies on another volume, and is not in the snapshot; name it as well, or leave it out on purpose",
)
"""Kind and message of the problem of a directory that a snapshot has without its content."""

OUT_OF_SNAPSHOT = ("out-of-snapshot", "followed out of the snapshot: what it leads to is stored as it is now")
"""Kind and message of the problem of a link that is followed to where no snapshot was made."""


class Reporter:
    """Passes problems on; a warning is passed on once for each kind, and counted after that."""

    def __init__(self, problem: ProblemHandler) -> None:
        self._problem = problem
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], tuple[int, str]] = {}

    def fatal(self, path: bytes, kind: str, message: str) -> None:
        """An item that is not whole."""
        self._problem(Problem(path=os.fsdecode(path), kind=kind, message=message))

    def note(self, path: bytes, kind: str, message: str) -> None:
        """A warning that belongs to this entry alone."""
        self._problem(Problem(path=os.fsdecode(path), kind=kind, message=message, fatal=False))

    def warn(self, path: bytes, kind: str, message: str, *, key: str = "") -> None:
        """A warning that many entries may share; ``key`` tells sub-kinds apart."""
        with self._lock:
            count, first = self._seen.get((kind, key), (0, message))
            self._seen[kind, key] = count + 1, first
        if not count:
            self.note(path, kind, message)

    def close(self) -> None:
        """Tells how often each warning was held back."""
        with self._lock:
            seen, self._seen = self._seen, {}
        for (kind, _), (count, message) in seen.items():
            if count > 1:
                self.note(b"", kind, f"{message} (and {count - 1} more)")
