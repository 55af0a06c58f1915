"""Who is told about a running operation: a terminal, a log, or a wrapper that reads JSON."""

from __future__ import annotations

import argparse
import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

from freezer_cli.documents import event_document
from freezer_cli.reporting import console_stream, log_to_file
from freezer_cli.text import counted, human_duration, human_size, is_terminal, printable
from freezer_sdk.model import Event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LOG = logging.getLogger("freezer")
DETAILS = logging.getLogger("freezer.details")
_LOG_INTERVAL = 60.0  # seconds between two lines of a log
_JSON_INTERVAL = 0.5  # seconds between two progress objects
_MOST_PROBLEMS = 100


class Listener(Protocol):
    """Gets events, from any thread."""

    def __call__(self, event: Event) -> None:
        """Takes an event."""

    def close(self) -> None:
        """Gives the terminal back; may be called again."""


def progress_line(event: Event, seconds: float) -> str:
    """Files, bytes and speed; and the time left, when it is known how much there is."""
    speed = event.bytes / max(seconds, 0.001)
    line = f"{counted(event.files, 'file')}, {human_size(event.bytes)}"
    if event.total_bytes:
        line += f" of {human_size(event.total_bytes)}"
    line += f", {human_size(speed)}/s"
    if event.total_bytes and speed:
        line += f", {human_duration(max(event.total_bytes - event.bytes, 0) / speed)} left"
    return line


class ProblemLog:
    """Prints problems as they come, a bounded number of them."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, event: Event) -> None:
        """Prints the problem of an event; with -v also the files that an engine tells of."""
        if event.problem is None:
            if event.kind in ("file", "storage"):
                DETAILS.info("%s", event.path or event.message)
            return
        self._count += 1
        level = logging.ERROR if event.problem.fatal else logging.WARNING
        if self._count <= _MOST_PROBLEMS:
            place = f"{event.target}: " if event.target not in (None, event.problem.path) else ""
            LOG.log(level, "%s%s: %s", place, event.problem.path, event.problem.message)
        elif self._count == _MOST_PROBLEMS + 1:
            LOG.log(level, "there are more problems; the result has all of them (-f json)")


class JSONEvents:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._next: dict[str | None, float] = {}  # by target
        self._gone = False

    def __call__(self, event: Event) -> None:
        """Writes the event."""
        with self._lock:
            now = time.monotonic()
            if event.kind == "progress":
                if now < self._next.get(event.target, 0.0):
                    return
                self._next[event.target] = now + _JSON_INTERVAL
            self._write(event_document(event))

    def write(self, document: dict[str, Any]) -> None:
        """Writes an object of our own."""
        with self._lock:
            self._write(document)

    def _write(self, document: dict[str, Any]) -> None:
        if self._gone:
            return
        try:
            self._stream.write(json.dumps(document) + "\n")
            self._stream.flush()
        except OSError:  # a wrapper that went away must not end the backup
            self._gone = True

    def close(self) -> None:
        """Nothing is held."""


class LogProgress:
    """A line a minute, for each of several targets."""

    def __init__(self, *, only_file: bool) -> None:
        self._only_file = only_file
        self._start = time.monotonic()
        self._next: dict[str | None, float] = {}
        self._problems = ProblemLog()

    def __call__(self, event: Event) -> None:
        """Writes a line when it is time."""
        self._problems(event)
        now = time.monotonic()
        if event.kind != "progress" or now < self._next.get(event.target, self._start + _LOG_INTERVAL):
            return
        self._next[event.target] = now + _LOG_INTERVAL
        place = f" to {event.target}" if event.target is not None else ""
        line = f"{event.operation}{place}: {progress_line(event, now - self._start)}"
        if self._only_file:
            log_to_file(logging.INFO, line)
        else:
            LOG.info("%s", line)

    def close(self) -> None:
        """Nothing is held."""


class TerminalProgress:
    """A moving line on the terminal, for each of several targets."""

    def __init__(self, stream: TextIO, operation: str) -> None:
        from rich.console import Console
        from rich.file_proxy import FileProxy

        console = Console(file=stream)
        self._problems = ProblemLog()
        self._log = LogProgress(only_file=True)
        self._start = time.monotonic()
        self._progress = _columns(console)
        self._lock = threading.Lock()
        self._tasks: dict[str | None, TaskID] = {None: self._progress.add_task(operation, total=None, line="")}
        self._restore = console_stream(cast("TextIO", FileProxy(console, stream)))
        self._progress.start()

    def __call__(self, event: Event) -> None:
        """Moves the line."""
        self._problems(event)
        if event.kind == "progress":
            line = progress_line(event, time.monotonic() - self._start)
            self._progress.update(self._task(event), completed=event.bytes, total=event.total_bytes or None, line=line)
            self._log(event)
        elif event.target is not None and event.kind == "finish":
            self._progress.update(self._task(event), completed=event.bytes, total=event.bytes, line="done")
        elif event.target is not None and event.problem is not None and event.problem.kind == "target":
            self._progress.update(self._task(event), line="failed")

    def _task(self, event: Event) -> TaskID:
        with self._lock:
            if event.target not in self._tasks:
                self._progress.update(self._tasks[None], visible=False)  # the lines of the targets say it all
                self._tasks[event.target] = self._progress.add_task(printable(str(event.target)), total=None, line="")
            return self._tasks[event.target]

    def close(self) -> None:
        """Removes the line."""
        self._progress.stop()
        self._restore()


class Quiet:
    """Problems only; the log level decides which of them."""

    def __init__(self) -> None:
        self._problems = ProblemLog()

    def __call__(self, event: Event) -> None:
        """Prints a problem."""
        self._problems(event)

    def close(self) -> None:
        """Nothing is held."""


def _columns(console: Any) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),  # a place may have brackets in its name
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[line]}", markup=False),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )


@contextmanager
def listening(
    parsed_args: argparse.Namespace, options: argparse.Namespace, operation: str, stdout: TextIO, stderr: TextIO
) -> Iterator[Listener]:
    """The listener that fits: JSON when asked for, a terminal when there is one, else the log."""
    listener: Listener
    if getattr(parsed_args, "json_events", False):
        listener = JSONEvents(stdout)
    elif options.quiet:
        listener = Quiet()
    elif is_terminal(stderr):
        listener = TerminalProgress(stderr, printable(operation))
    else:
        listener = LogProgress(only_file=False)
    try:
        yield listener
    finally:
        listener.close()
