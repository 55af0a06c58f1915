"""How one hook is run: in a session of its own, with its output kept for the log."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Final

from freezer_sdk.errors import CommandFailed
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.process import secrets_in
from freezer_sdk.streams.session import end_session

_log = logging.getLogger("freezer_sdk.hooks")

_POLL: Final = 0.1
_MOST: Final = 16 << 20  # bytes of output that lie on the disk at most, as far as they can be cut
_LOGGED: Final = 64 << 10  # bytes of output that go into the log
_TOLD: Final = 1000  # characters of output that go into a message


def run_hook(
    hook: str,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,
    cancel: CancelToken | None,
) -> None:
    """Runs a program to its end, and logs what it wrote.

    Args:
        hook: ``pre``, ``post`` or ``on-failure``.
        command: the program and its arguments.
        timeout: seconds after which it is ended.
        cancel: ends it.

    Raises:
        CommandFailed: it cannot be run, failed, or took too long.
        Cancelled.
    """
    title = f"{hook}-command {command[0]!r}"
    _log.info("%s runs", title)
    with tempfile.TemporaryFile() as output:
        try:
            status = _wait(_start(title, command, environment, output), title, output, timeout, cancel)
        finally:
            said = _said(output, secrets_in(command))
            for line in said.splitlines():
                _log.info("%s: %s", hook, line)
    if status != 0:
        ending = f"was ended by signal {-status}" if status < 0 else f"exited with status {status}"
        words = said.strip()
        raise CommandFailed(f"{title} {ending}" + (f": {words[-_TOLD:]}" if words else ""))


def _start(
    title: str, command: Sequence[str], environment: Mapping[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Starts a program in a session of its own: Ctrl-C is for us, and it ends with all that it started.

    Its output is a file: a service that it leaves running keeps no pipe that would break when we end.
    """
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.fcntl(output.fileno(), fcntl.F_SETFL, os.O_APPEND | fcntl.fcntl(output.fileno(), fcntl.F_GETFL))
    try:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandFailed(
            f"{title} cannot be run: {reason}",
            hint="no shell is involved: give a program and its arguments, or sh -c '...'",
        ) from error


def _wait(
    process: subprocess.Popen[bytes], title: str, output: IO[bytes], timeout: float, check: CancelToken | None
) -> int:
    """The exit status of a program; ends it when it takes too long, or when nobody wants it any more."""
    deadline = time.monotonic() + timeout
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return process.wait(_POLL)
            if check is not None:
                check.check()
            if time.monotonic() > deadline:
                raise CommandFailed(f"{title} did not end within {timeout:g} seconds")
            if os.fstat(output.fileno()).st_size > _MOST:
                output.truncate(0)
    except BaseException:
        end_session(process)
        raise


def _said(output: IO[bytes], secrets: Sequence[str]) -> str:
    """The end of what a program wrote, without passwords of its command line."""
    size = os.fstat(output.fileno()).st_size
    output.seek(max(0, size - _LOGGED))
    text = output.read(_LOGGED).decode("utf-8", "replace")
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
