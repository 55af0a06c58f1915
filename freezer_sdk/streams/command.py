"""Programs that are run for what they do or say, to their end. For what they stream, see :mod:`.process`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from freezer_sdk.errors import CommandFailed
from freezer_sdk.streams.process import secrets_in
from freezer_sdk.streams.session import end_session

_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"  # administrators' programs, which users' PATHs and cron's lack
_TAIL = 2000


def find_program(name: str) -> str | None:
    """The path of a program, also when only administrators have its folder in their PATH."""
    return shutil.which(name) or shutil.which(name, path=_SYSTEM_FOLDERS)


def run_command(
    arguments: Sequence[str | bytes | os.PathLike[str]],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    package: str | None = None,
    secrets: Sequence[str] = (),
    descriptors: Collection[int] = (),
    accepted: Collection[int] = (0,),
) -> str:
    """Runs a program to its end and gives what it wrote to its standard output, decoded as file names are.

    It runs in a session of its own: keys pressed at a terminal do not reach it, and it is ended with all that it
    started when it takes too long, or when this call is interrupted.

    Args:
        arguments: the program and its arguments; no shell is involved.
        timeout: seconds after which it is ended.
        environment: replaces the process's own.
        stdin: what it reads; nothing otherwise.
        package: Debian's package of it, for the message when it is missing.
        secrets: texts that no message may show; passwords in ``arguments`` are recognised.
        descriptors: open ones that it inherits, under their numbers.
        accepted: values of its exit status that are no failure.

    Raises:
        CommandFailed: it cannot be started, took too long, or failed; the message ends with what it said last.
    """
    command = [os.fsdecode(argument) for argument in arguments]
    program = find_program(command[0])
    if program is None:
        hint = f"apt-get install {package}" if package else "check that it is installed and in the PATH"
        raise CommandFailed(f"the program {command[0]!r} is missing", hint=hint)
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            pass_fds=tuple(descriptors),
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CommandFailed(f"cannot run {command[0]!r}: {reason}") from error
    try:
        output, said = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired as error:
        _end(process)
        raise CommandFailed(f"{command[0]} took longer than {timeout:g} seconds and was ended") from error
    except BaseException:
        _end(process)
        raise
    if process.returncode not in accepted:
        ending = _ending(process.returncode)
        raise CommandFailed(f"{command[0]} {ending}{_tail(said, [*secrets, *secrets_in(command)])}")
    return os.fsdecode(output)


def _end(process: subprocess.Popen[bytes]) -> None:
    end_session(process)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()


def _ending(status: int) -> str:
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _tail(said: bytes, secrets: Sequence[str]) -> str:
    text = said.decode("utf-8", "replace").strip()
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return f": {text[-_TAIL:]}" if text else ""
