"""Private servers: started on data that were restored, asked, and ended; nobody else knows of them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from freezer_sdk.errors import CommandFailed
from freezer_sdk.streams.command import find_program

_TAIL = 2000
_POLL = 0.1
_ASK_AGAIN = 20.0


@contextmanager
def private_folder(*, owner: tuple[int, int] | None = None) -> Iterator[Path]:
    """A new folder for sockets and settings, which is removed at the end; its path is short, as sockets need it.

    Args:
        owner: user and group that may enter it, in place of this process's own.
    """
    folder = Path(tempfile.mkdtemp(prefix="freezer-"))
    try:
        if owner is not None and os.geteuid() == 0:
            os.chown(folder, *owner)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def private_server(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    ready: Callable[[], bool],
    patience: float,
    owner: tuple[int, int] | None = None,
    package: str | None = None,
    environment: Mapping[str, str] | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[None]:
    """Runs a server until the context is left; it ends with this process, however that ends.

    Args:
        arguments: the program, which must stay in the foreground, and its arguments; no shell is involved.
        ready: asked again and again until it is true; what it raises ends the server.
        patience: seconds that it may take to get ready, and again to stop.
        owner: user and group that it runs as, when this process is root's.
        package: Debian's package of it, for the message when it is missing.
        environment: replaces the process's own.
        stop: the signal that asks it to write everything and end.

    Raises:
        CommandFailed: it is missing, did not get ready, or did not end well; with what it said last.
    """
    command = [os.fsdecode(argument) for argument in arguments]
    program = find_program(command[0])
    if program is None:
        hint = f"apt-get install {package}" if package else "check that it is installed and in the PATH"
        raise CommandFailed(f"the program {command[0]!r} is missing", hint=hint)
    setpriv = find_program("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    user, group = (None, None) if owner is None or os.geteuid() else owner
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*prefix, program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=environment,
            start_new_session=True,
            user=user,
            group=group,
            extra_groups=None if user is None else [],
        )
        try:
            _await(process, command[0], ready, patience, lambda: _tail(log.fileno()))
            yield
            if not _stop(process, stop, patience):
                raise CommandFailed(f"{command[0]} did not end within {patience:g} seconds")
            if process.returncode:
                raise CommandFailed(f"{command[0]} ended with status {process.returncode}{_tail(log.fileno())}")
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _stop(process: subprocess.Popen[bytes], sign: signal.Signals, patience: float) -> bool:
    """Asks it to end, now and then once more: one that has just got ready may miss a signal."""
    end = time.monotonic() + patience
    while (rest := end - time.monotonic()) > 0:
        process.send_signal(sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(min(rest, _ASK_AGAIN))
            return True
    return False


def _await(
    process: subprocess.Popen[bytes], name: str, ready: Callable[[], bool], patience: float, said: Callable[[], str]
) -> None:
    end = time.monotonic() + patience
    while not ready():
        if process.poll() is not None:
            raise CommandFailed(f"{name} ended with status {process.returncode} instead of getting ready{said()}")
        if time.monotonic() > end:
            raise CommandFailed(f"{name} was not ready within {patience:g} seconds{said()}")
        time.sleep(_POLL)


def _tail(log: int) -> str:
    size = os.fstat(log).st_size
    text = os.pread(log, _TAIL, max(0, size - _TAIL)).decode("utf-8", "replace").strip()
    return f": {text}" if text else ""
