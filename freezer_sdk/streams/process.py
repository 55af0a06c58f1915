"""Child processes and open descriptors as streams. A child process is a stream and an exit status."""

from __future__ import annotations

import io
import os
import re
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

from freezer_sdk.errors import CommandFailed, SourceUnreadable
from freezer_sdk.streams.session import end_session

try:
    import fcntl
except ImportError:  # not a POSIX system
    _SET_PIPE_SIZE = None
else:
    _SET_PIPE_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)

_PIPE = 1 << 20
_TAIL = 2000
_POLL = 0.2
_SECRET_OPTION = re.compile(
    r"(?i)^-{0,2}[\w.-]*(?:pass|pwd|secret|token|credential|api-?key|access-?key)[\w.-]*(?:[=:](.*))?$"
)
_URL_PASSWORD = re.compile(r"://[^/@:\s]*:([^/@\s]+)@")


class ProcessReader:
    """Reads what a program writes; a context manager that ends the program when it is left early, from any thread.

    The program runs in a session of its own, so that it and what it starts can be ended together. What it writes to
    its standard error is kept, as far as the last lines go, for the message of a failure.

    Args:
        arguments: the program and its arguments; no shell is involved.
        name: of the stream, for messages.
        environment: replaces the process's own.
        secrets: texts that no message may show; passwords in ``arguments`` are recognised.
        descriptors: open ones that the program inherits, under their numbers.
        accepted: values of its exit status that are no failure.
        said: takes what it writes to its standard error, piece by piece, while the output is read.
        check: called now and then while the program keeps the reader waiting; may raise.

    Attributes:
        status: exit status of the program, once the output was read to its end.

    Raises:
        CommandFailed: on entering: the program cannot be started.
    """

    def __init__(
        self,
        arguments: Sequence[str | bytes],
        *,
        name: str,
        environment: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        descriptors: Collection[int] = (),
        accepted: Collection[int] = (0,),
        said: Callable[[bytes], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        self.status: int | None = None
        self._descriptors = descriptors
        self._accepted = accepted
        self._listener = said
        self._check = check
        self._arguments = [os.fsdecode(argument) for argument in arguments]
        self._name = name
        self._environment = environment
        self._secrets = [*secrets, *secrets_in(self._arguments)]
        self._errors = b""
        self._done = False
        self._left = False
        self._reading = threading.Lock()

    def __enter__(self) -> Self:
        try:
            self._process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=self._environment,
                start_new_session=True,
                pass_fds=tuple(self._descriptors),
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            message = f"{self._name}: cannot run {self._arguments[0]!r}: {reason}"
            raise CommandFailed(message, hint="check that the program is installed and in the PATH") from error
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._output, self._stderr = self._process.stdout, self._process.stderr
        if _SET_PIPE_SIZE is not None:
            with suppress(OSError):  # users may have a limit
                fcntl.fcntl(self._output.fileno(), _SET_PIPE_SIZE, _PIPE)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._output, selectors.EVENT_READ)
        self._selector.register(self._stderr, selectors.EVENT_READ)
        return self

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as far as the output goes; 0 at the end.

        Raises:
            CommandFailed: at the end: the program exited with an error; or another thread left the context.
        """
        with self._reading:
            return self._fill(buffer)

    def _fill(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer) and not self._done:
            if self._check is not None:
                self._check()
            if self._left:
                raise CommandFailed(f"{self._name}: {self._arguments[0]} was ended: its output is not wanted any more")
            ready = [key.fileobj for key, _ in self._selector.select(_POLL)]
            if self._stderr in ready:
                self._read_errors()
            if self._output in ready:
                count = os.readv(self._output.fileno(), [buffer[filled:]])
                filled += count
                if not count:
                    self._finish()
        return filled

    def _read_errors(self) -> bool:
        """Reads what the program says and keeps the end of it; whether it may say more."""
        said = os.read(self._stderr.fileno(), 65536)
        self._errors = (self._errors + said)[-2 * _TAIL :]
        if said and self._listener is not None:
            self._listener(said)
        if not said:
            self._selector.unregister(self._stderr)
        return bool(said)

    def _finish(self) -> None:
        self._done = True
        self._selector.unregister(self._output)
        while True:
            ready = self._selector.get_map() and self._selector.select(_POLL)
            if ready and self._read_errors():
                continue
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(None if not self._selector.get_map() else 0)
                break
        while self._selector.get_map() and self._selector.select(0) and self._read_errors():
            pass
        self.status = status = self._process.returncode
        if status not in self._accepted:
            ending = f"was ended by {_signal_name(-status)}" if status < 0 else f"exited with status {status}"
            raise CommandFailed(f"{self._name}: {self._arguments[0]} {ending}{self._said()}")

    def _said(self) -> str:
        text = self._errors.decode("utf-8", "replace").strip()
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return f": {text[-_TAIL:]}" if text else ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left = True
        alone = self._reading.acquire(blocking=False)
        if alone:  # what it still writes fails
            self._close()
        if self._process.returncode is None:
            end_session(self._process)
        if not alone:  # somebody waits for what it writes, and sees the end now
            with self._reading:
                self._close()

    def _close(self) -> None:
        self._selector.close()
        self._output.close()
        self._stderr.close()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def secrets_in(arguments: Sequence[str]) -> list[str]:
    """Values of a command line that look like passwords, longest first."""
    found = set()
    for number, argument in enumerate(arguments):
        found.update(_URL_PASSWORD.findall(argument))
        option = _SECRET_OPTION.match(argument)
        if option is None:
            continue
        following = arguments[number + 1 : number + 2] if argument.startswith("-") else []
        found.update([option[1]] if option[1] is not None else following)
    return sorted((secret for secret in found if secret), key=len, reverse=True)


class DescriptorReader:
    """Reads an open descriptor, such as standard input."""

    def __init__(self, fd: int) -> None:
        self._file = io.FileIO(fd, "rb", closefd=False)

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as far as it can; 0 at the end.

        Raises:
            SourceUnreadable: reading failed.
        """
        filled = 0
        try:
            while filled < len(buffer):
                count = self._file.readinto(buffer[filled:])
                if not count:
                    break
                filled += count
        except OSError as error:
            raise SourceUnreadable(f"cannot read the input: {error.strerror}") from error
        return filled


@contextmanager
def open_descriptor(fd: int) -> Iterator[DescriptorReader]:
    """A reader on a descriptor, which stays open.

    Raises:
        SourceUnreadable: it is not open for reading.
    """
    try:
        reader = DescriptorReader(fd)
    except OSError as error:
        raise SourceUnreadable(f"cannot read the input: {error.strerror}") from error
    yield reader
