"""File systems that stay frozen for a moment, by a watchdog of their own."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from freezer_sdk.errors import SnapshotError

_WATCHDOG = Path(__file__).with_name("_watchdog.py")
_PATIENCE = 60.0


class Frozen:
    """Keeps file systems frozen as long as its context lasts; leaving it tells whether they were, all the time.

    Args:
        folders: one on each file system.
        record: a file that the watchdog keeps as long as something may be frozen, on another file system.
        limit: seconds until the watchdog thaws by itself.

    Raises:
        SnapshotError: they cannot be frozen, or did not stay so; nothing is frozen any more.
    """

    def __init__(self, folders: Sequence[Path], *, record: Path, limit: float) -> None:
        self._folders, self._record, self._limit = folders, record, limit

    def __enter__(self) -> Self:
        # the file, not the module: the rest of the package would be read meanwhile, for nothing
        command: list[str | os.PathLike[str]] = [sys.executable, "-I", "-S", _WATCHDOG]
        command += [self._record, str(self._limit), *self._folders]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0, cwd="/",
                env={}, start_new_session=True,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise SnapshotError(f"cannot start the process that thaws: {error}") from error
        try:
            self._until = time.monotonic() + self._limit
            said = self._answer(self._limit)
            if said != "frozen":
                raise SnapshotError(f"cannot freeze: {said or 'it takes too long'}")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(OSError):  # it has ended by itself; its last words are still to be read
                os.write(self._stdin, b"thaw\n")
            said = self._answer(_PATIENCE)
        finally:
            self._end()
        if said != "thawed" and error is None:
            raise SnapshotError(f"the copy is not of one moment: {said or 'the process that thaws was killed'}")

    @property
    def left(self) -> float:
        """Seconds until the watchdog thaws."""
        return max(0.0, self._until - time.monotonic())

    @property
    def _stdin(self) -> int:
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    def _answer(self, seconds: float) -> str:
        """One line of the watchdog; empty when it says nothing in time, or is gone."""
        assert self._process.stdout is not None
        said, until = b"", time.monotonic() + seconds
        while not said.endswith(b"\n") and (left := until - time.monotonic()) > 0:
            if select.select([self._process.stdout], [], [], left)[0]:
                part = os.read(self._process.stdout.fileno(), 4096)
                if not part:
                    return self._failure()
                said += part
        lines = said.decode("utf-8", "replace").splitlines()
        return lines[-1] if lines else ""

    def _failure(self) -> str:
        assert self._process.stderr is not None
        return os.read(self._process.stderr.fileno(), 4096).decode("utf-8", "replace").strip().rpartition("\n")[2]

    def _end(self) -> None:
        """Waits until the watchdog is gone; it is never killed, since it alone thaws."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(self._limit + _PATIENCE)
        except subprocess.TimeoutExpired as error:
            message = f"process {self._process.pid} still tries to thaw {', '.join(map(str, self._folders))}"
            raise SnapshotError(message, hint="fsfreeze --unfreeze FOLDER thaws by hand") from error
        from freezer_sdk.snapshots._watchdog import thaw_recorded

        try:
            thaw_recorded(self._record)  # nothing, unless the watchdog was killed
        except (OSError, ValueError) as error:
            raise SnapshotError(f"cannot thaw: {error}", hint="fsfreeze --unfreeze FOLDER thaws by hand") from error
