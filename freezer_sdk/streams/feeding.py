"""Programs that take a stream on their standard input: what brings dumps and archives back."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

from freezer_sdk.errors import CommandFailed
from freezer_sdk.streams.command import find_program
from freezer_sdk.streams.process import secrets_in
from freezer_sdk.streams.session import end_session

_BUFFER = 1 << 20
_TAIL = 2000


def feed_program(
    arguments: Sequence[str | os.PathLike[str]],
    reader: Any,
    *,
    name: str,
    environment: Mapping[str, str] | None = None,
    package: str | None = None,
    secrets: Sequence[str] = (),
    descriptors: Collection[int] = (),
    folder: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Runs a program to its end, with all that a reader gives as its standard input.

    It runs in a session of its own, and is ended with all that it started when reading fails or is interrupted.

    Args:
        arguments: the program and its arguments; no shell is involved.
        reader: has ``read``, which gives ``b""`` at the end.
        name: of the stream, for messages.
        environment: replaces the process's own.
        package: Debian's package of the program, for the message when it is missing.
        secrets: texts that no message may show; passwords in ``arguments`` are recognised.
        descriptors: open ones that it inherits, under their numbers.
        folder: its working directory.
        progress: told how many bytes were passed on, again and again; may raise.

    Returns:
        How many bytes it took.

    Raises:
        CommandFailed: it cannot be started, did not take everything, or failed; the message ends with its last words.
    """
    command = [os.fsdecode(argument) for argument in arguments]
    program = find_program(command[0])
    if program is None:
        hint = f"apt-get install {package}" if package else "check that it is installed and in the PATH"
        raise CommandFailed(f"{name}: the program {command[0]!r} is missing", hint=hint)
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            cwd=folder,
            start_new_session=True,
            pass_fds=tuple(descriptors),
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandFailed(f"{name}: cannot run {command[0]!r}: {reason}") from error
    assert process.stdin is not None
    assert process.stderr is not None
    said = _Said(process.stderr)
    try:
        size, whole = _pass_on(reader, process.stdin, progress)
        process.wait()
    except BaseException:
        end_session(process)
        raise
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        said.join()
        process.stderr.close()
    if process.returncode or not whole:
        ending = "stopped reading before the end"
        if process.returncode:
            status = process.returncode
            ending = f"exited with status {status}" if status > 0 else f"was ended by signal {-status}"
        raise CommandFailed(f"{name}: {command[0]} {ending}{said.text([*secrets, *secrets_in(command)])}")
    return size


def _pass_on(reader: Any, pipe: IO[bytes], progress: Callable[[int], None] | None) -> tuple[int, bool]:
    """Passes everything on, unless the program stops reading; how many bytes, and whether those were all."""
    size = 0
    while piece := reader.read(_BUFFER):
        rest, count = memoryview(piece), len(piece)
        try:
            while rest:
                rest = rest[os.write(pipe.fileno(), rest) :]
        except BrokenPipeError:
            return size, False
        size += count
        if progress is not None:
            progress(count)
    with suppress(BrokenPipeError):
        pipe.close()
    return size, True


class _Said(threading.Thread):
    """Reads what a program says, so that it never waits, and keeps the end of it."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(name="freezer-said", daemon=True)
        self._pipe = pipe
        self._tail = b""
        self.start()

    def run(self) -> None:
        """Reads until the program and all that it started have closed their end."""
        while piece := os.read(self._pipe.fileno(), 65536):
            self._tail = (self._tail + piece)[-2 * _TAIL :]

    def text(self, secrets: Sequence[str]) -> str:
        """The end of what was said, for a message."""
        said = self._tail.decode("utf-8", "replace").strip()
        for secret in secrets:
            said = said.replace(secret, "***")
        return f": {said[-_TAIL:]}" if said else ""
