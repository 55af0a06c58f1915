"""The other way to restore: GNU tar extracts the streams of all levels, as the original does it."""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import LevelStream, Restored
from freezer_sdk.engines.tar.program import ENVIRONMENT, GnuTar
from freezer_sdk.errors import CommandFailed, ConfigurationError, IntegrityError, RestoreConflict, RestoreError
from freezer_sdk.model import Problem, RestoreOptions
from freezer_sdk.modes.base import ProblemHandler
from freezer_sdk.streams.session import end_session

_PIECE: Final = 1 << 20
_TAIL: Final = 2000
_MADE_BY_MKFS: Final = {"lost+found"}
_HINT: Final = "leave the engine's option reader at auto for anything but a whole backup into an empty folder"


class GnuExtraction:
    """Restores whole backups into empty folders.

    GNU tar writes where the archive says, below the target: it drops leading ``/``, refuses ``..`` and makes links that
    lead outside only at its end. A file is whole or not only as far as GNU tar says so. Unlike the original, it does
    not write into existing files: levels that break up hard links would change both names.

    Args:
        options: what the user asked for.

    Raises:
        ConfigurationError: that is more than GNU tar can do.
        PluginUnavailable: there is no GNU tar.
    """

    def __init__(self, options: RestoreOptions) -> None:
        unusual = [
            name
            for name in ("paths", "include", "exclude", "delete", "inplace", "dry_run", "overwrite")
            if getattr(options, name)
        ]
        if unusual:
            names = ", ".join(name.replace("_", "-") for name in unusual)
            raise ConfigurationError(f"the reader gnu of the engine tar knows no {names}", hint=_HINT)
        self._program = GnuTar.find()
        owner = (os.geteuid() == 0 if hasattr(os, "geteuid") else False) if options.owner is None else options.owner
        self._arguments = [
            self._program.path,
            "--extract",
            "--incremental",
            "--ignore-zeros",
            "--preserve-permissions",
            "--same-owner" if owner else "--no-same-owner",
            "--warning=none",
            "--quoting-style=escape",
            "--file=-",
        ]
        if options.numeric_owner:
            self._arguments.append("--numeric-owner")
        if self._program.stores_attributes:
            self._arguments += ["--xattrs", "--xattrs-include=*", "--acls"]

    def run(self, levels: Sequence[LevelStream], target: str, context: Context, *, problem: ProblemHandler) -> Restored:
        """Extracts one level after the other; what a level lacks does not keep the next one from its turn.

        Raises:
            RestoreConflict: the target is not empty.
            RestoreError: it cannot be used.
            WrongPassword, StorageError, Cancelled.
        """
        _prepare(target)
        for level in levels:
            try:
                with level.open() as reader, self._started(target) as child:
                    while data := reader.read(_PIECE):
                        context.cancel.check()
                        child.write(data)
                    child.finish()
            except (IntegrityError, CommandFailed) as error:
                problem(Problem(path=level.id.data, kind=error.code, message=error.message))
        return _counted(target)

    @contextmanager
    def _started(self, target: str) -> Iterator[_Child]:
        with tempfile.TemporaryFile() as said:
            try:
                # it runs in the target: to a folder given with --directory it cannot exchange two directories
                process = subprocess.Popen(
                    self._arguments,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    cwd=target,
                    env=ENVIRONMENT,
                    start_new_session=True,
                )
            except OSError as error:
                raise CommandFailed(f"cannot run {self._program.path}: {error.strerror}") from error
            child = _Child(process, said.fileno())
            try:
                yield child
            finally:
                child.close()


class _Child:
    """GNU tar at work."""

    def __init__(self, process: subprocess.Popen[bytes], said: int) -> None:
        self._process = process
        self._said = said
        assert process.stdin is not None
        self._input = process.stdin

    def write(self, data: bytes) -> None:
        """Hands data over; once it does not want more, it is told to end by ``finish``."""
        with suppress(BrokenPipeError):
            self._input.write(data)

    def finish(self) -> None:
        """Waits for it.

        Raises:
            CommandFailed: it complained.
        """
        with suppress(BrokenPipeError):
            self._input.close()
        status = self._process.wait()
        if status:
            said = os.pread(self._said, _TAIL, max(0, os.fstat(self._said).st_size - _TAIL))
            text = said.decode("utf-8", "replace").strip()
            raise CommandFailed(f"GNU tar exited with status {status}: {text}")

    def close(self) -> None:
        """Ends it where it has not ended."""
        with suppress(OSError):
            self._input.close()
        if self._process.poll() is None:
            end_session(self._process)


def _prepare(target: str) -> None:
    try:
        os.makedirs(target, exist_ok=True)
        found = set(os.listdir(target))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RestoreError(f"cannot use the target {target!r}: {reason}") from error
    if found - _MADE_BY_MKFS:
        raise RestoreConflict(f"the target {target!r} is not empty", hint=_HINT)


def _counted(target: str) -> Restored:
    files = directories = others = size = 0
    for directory, subdirectories, names in os.walk(os.fsencode(target)):
        directories += 1
        for name in [*subdirectories, *names]:
            st = os.lstat(os.path.join(directory, name))
            if stat.S_ISREG(st.st_mode):
                files += 1
                size += st.st_size
            elif not stat.S_ISDIR(st.st_mode):
                others += 1
    return Restored(files=files, directories=directories, others=others, bytes=size)
