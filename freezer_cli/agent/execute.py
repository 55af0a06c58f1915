"""The action ``exec``: programs without a shell."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from freezer_sdk.errors import CommandFailed, ConfigurationError

LOG = logging.getLogger("freezer")
_KILLED_BY_SIGNAL = 128
_GRACE = 5.0  # seconds between asking a program to end and ending it


def execute(command: str, *, timeout: float | None, quiet: bool, output: int | None = None) -> int:
    """Runs a program, or several with ``|`` between them, and gives the exit code of the last.

    Quotes and backslashes group words as in a shell; nothing else has a meaning.

    Args:
        command: the words.
        timeout: seconds until everything that runs is ended.
        quiet: the output goes nowhere.
        output: descriptor that it goes to; by default this program's own standard output.

    Raises:
        ConfigurationError: there is nothing to run.
        CommandFailed: a program cannot be started, or time was up.
    """
    programs = split(command)
    running: list[subprocess.Popen[bytes]] = []
    try:
        _start(programs, running, subprocess.DEVNULL if quiet else output, quiet)
        return _wait(running, programs, timeout)
    finally:
        _end(running)


def split(command: str) -> list[list[str]]:
    """The argument lists of the programs.

    Raises:
        ConfigurationError: a quote is not closed, or a program is missing.
    """
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        words = list(lexer)
    except ValueError as error:
        raise ConfigurationError(f"--command cannot be split into words: {str(error).lower()}") from None
    programs: list[list[str]] = [[]]
    for word in words:
        if word == "|":
            programs.append([])
        else:
            programs[-1].append(word)
    if not all(programs):
        raise ConfigurationError("--command names no program", hint="for example: --command 'service mysql stop'")
    return programs


def _start(
    programs: Sequence[Sequence[str]], running: list[subprocess.Popen[bytes]], output: int | None, quiet: bool
) -> None:
    source: int | IO[bytes] = subprocess.DEVNULL
    for number, arguments in enumerate(programs):
        last = number == len(programs) - 1
        try:
            process = subprocess.Popen(
                arguments,
                stdin=source,
                stdout=output if last else subprocess.PIPE,
                stderr=subprocess.DEVNULL if quiet else None,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise CommandFailed(f"{arguments[0]} cannot be started: {reason}") from error
        running.append(process)
        if not isinstance(source, int):
            source.close()  # or the program before never hears that nobody reads
        if process.stdout is not None:
            source = process.stdout


def _wait(running: Sequence[subprocess.Popen[bytes]], programs: Sequence[Sequence[str]], timeout: float | None) -> int:
    end = None if timeout is None else time.monotonic() + timeout
    for process, arguments in zip(running, programs, strict=True):
        try:
            code = process.wait(None if end is None else max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"{arguments[0]} did not end within {timeout:g} seconds, and was ended") from None
        if process is not running[-1] and code not in (0, -signal.SIGPIPE):
            LOG.warning("%s ended with exit status %d", arguments[0], code)
    return code if code >= 0 else _KILLED_BY_SIGNAL - code


def _end(running: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends what still runs, with what it started."""
    left = [process for process in running if process.poll() is None]
    for process in left:
        _signal(process, signal.SIGTERM)
    for process in left:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
            continue
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
