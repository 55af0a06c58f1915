"""Strategy ``physical``: the stream of mariadb-backup, which copies the files of a running server."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import Any

from freezer_sdk.errors import PluginUnavailable, SourceError
from freezer_sdk.modes.base import Protected, Stream
from freezer_sdk.modes.mysql.datadir import data_directory, described, owner_of
from freezer_sdk.modes.mysql.optionfile import private_option_file
from freezer_sdk.modes.mysql.quiesce import method_for, position, wait_for_long_queries
from freezer_sdk.modes.mysql.server import Server, connected
from freezer_sdk.modes.mysql.settings import Settings, Strategy
from freezer_sdk.streams.command import find_program
from freezer_sdk.streams.process import ProcessReader

_log = logging.getLogger(__name__)

STREAM = "mariadb-backup.xb"
_PROGRAMS = ("mariadb-backup", "mariabackup")
_POSITION = re.compile(r"binlog position: filename '([^']*)', position '(\d+)'(?:, GTID of the last change '([^']*)')?")
_LOCKED, _UNLOCKED = "Starting BACKUP STAGE BLOCK_COMMIT", "All tables unlocked"
_TAIL = 4096
_LOG_COPY_INTERVAL = 100  # milliseconds; commits are held up for up to one at the end


def backup_program() -> str:
    """The path of mariadb-backup.

    Raises:
        PluginUnavailable: it is not installed.
    """
    program = next(filter(None, map(find_program, _PROGRAMS)), None)
    if program is None:
        raise PluginUnavailable(f"the program {_PROGRAMS[0]} is missing", hint="apt-get install mariadb-backup")
    return program


@contextmanager
def from_physical(settings: Settings) -> Iterator[Protected]:
    """Hands over the stream, which runs when it is read.

    Raises:
        SourceError, ConfigurationError, PluginUnavailable.
    """
    login = settings.login
    with private_option_file(login.client_group()) as descriptor, TemporaryDirectory(prefix="freezer-") as scratch:
        with connected(login) as server:
            facts = _looked_at(server, settings)
        watch = _Watch(settings.limits.held)
        command = [backup_program(), f"--defaults-file=/dev/fd/{descriptor}", "--backup", "--stream=mbstream"]
        command += [f"--datadir={facts['data_directory']}", f"--target-dir={scratch}", f"--tmpdir={scratch}"]
        command.append(f"--log-copy-interval={_LOG_COPY_INTERVAL}")

        @contextmanager
        def opened() -> Iterator[ProcessReader]:
            process = ProcessReader(command, name=STREAM, descriptors=(descriptor,), said=watch.hear)
            with process as reader, watch.guarding(reader):
                yield reader

        yield Protected(
            sources=[Stream(name=STREAM, open=opened)],
            facts={"mysql": facts},
            confirm=lambda: {"mysql": {**facts, **watch.confirmed()}},
        )


def _looked_at(server: Server, settings: Settings) -> dict[str, Any]:
    """What is recorded about the server, once it is clear that its files can be copied.

    Raises:
        SourceError: they cannot.
    """
    if not server.mariadb:
        raise SourceError(
            f"mariadb-backup cannot copy the files of MySQL ({server.full_version})",
            hint="use the strategy snapshot or dump",
        )
    directory = data_directory(server, settings.data_directory)
    facts: dict[str, Any] = {"strategy": str(Strategy.PHYSICAL), **described(server)}
    facts |= {"data_directory": os.fspath(directory), "owner": owner_of(directory), "stream": STREAM}
    position(server)  # what is refused is refused at once
    wait_for_long_queries(server, settings.limits, method_for(server))
    return facts


class _Watch:
    """Listens to mariadb-backup: when it holds up commits, and where the binary log stood then.

    Args:
        longest: seconds for which commits may be held up; then the program is ended.
    """

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._tail = ""
        self._locked: float | None = None
        self._held: float | None = None
        self._position: dict[str, Any] = {}
        self._timer: threading.Timer | None = None
        self._reader: ProcessReader | None = None
        self._late = False

    @contextmanager
    def guarding(self, reader: ProcessReader) -> Iterator[None]:
        """Ends the program when it takes too long."""
        self._reader = reader
        try:
            yield
        finally:
            self._stop()

    def hear(self, said: bytes) -> None:
        """Takes what the program says."""
        self._tail = (self._tail + said.decode("utf-8", "replace"))[-_TAIL:]
        if self._locked is None and _LOCKED in self._tail:
            self._locked = time.monotonic()
            self._timer = threading.Timer(self._longest, self._end)
            self._timer.daemon = True
            self._timer.start()
        if self._locked is not None and self._held is None and _UNLOCKED in self._tail:
            self._held = time.monotonic() - self._locked
            self._stop()
            _log.info("mysql: commits were held up for %.3f s (mariadb-backup)", self._held)
        match = _POSITION.search(self._tail)
        if match:
            self._position = {"binlog": {"file": match[1], "position": int(match[2])}}
            if match[3]:
                self._position["gtid"] = match[3]

    def _end(self) -> None:
        self._late = True
        if self._reader is not None:
            self._reader.__exit__(None, None, None)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def confirmed(self) -> dict[str, Any]:
        """What was heard, for the record.

        Raises:
            SourceError: the program was ended because it held up commits for too long, or did not come to its end.
        """
        if self._late:
            raise SourceError(f"mariadb-backup held up commits for longer than {self._longest:g} s and was ended")
        if self._reader is None:  # nobody wanted it
            return {}
        if self._reader.status != 0:
            raise SourceError(f"mariadb-backup did not come to its end: {_last_line(self._tail)}")
        lock = {} if self._held is None else {"lock": {"method": "backup-stage", "held": round(self._held, 3)}}
        return {**lock, **self._position}


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
