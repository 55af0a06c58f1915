"""Messages about errors, on standard error or as an event, and the log."""

from __future__ import annotations

import argparse
import json
import logging
import traceback
from collections.abc import Callable
from typing import TextIO

from freezer_cli.documents import plain
from freezer_cli.text import printable
from freezer_sdk.errors import ConfigurationError, FreezerError

LOG = logging.getLogger("freezer")
_FAILED = 1


class _ConsoleFormatter(logging.Formatter):
    """Warnings say so; file names in messages cannot disturb a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        return prefix + printable(record.getMessage())


class _FileFormatter(logging.Formatter):
    """A file name in a message cannot make lines that look like those of others."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name that logging calls
        record.message = printable(record.message)
        return super().formatMessage(record)


def set_up_logging(options: argparse.Namespace, stderr: TextIO) -> None:
    """Sends log messages to standard error, and to ``--log-file``.

    Raises:
        ConfigurationError: the log file cannot be written.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, (_Console, _LogFile)):
            root.removeHandler(handler)
            handler.close()
    console = _Console(stderr)
    console.setFormatter(_ConsoleFormatter())
    console.setLevel(_console_level(options))
    if not (options.debug or options.verbose):
        console.addFilter(_is_for_everybody)
    root.addHandler(console)
    if options.log_file:
        try:
            file = _LogFile(options.log_file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ConfigurationError(f"cannot write the log file {options.log_file}: {error.strerror}") from None
        file.setFormatter(_FileFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        file.setLevel(logging.DEBUG if options.debug else logging.INFO)
        root.addHandler(file)
    root.setLevel(min(handler.level for handler in root.handlers))
    for noisy in ("stevedore", "cliff"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


class _Console(logging.StreamHandler[TextIO]):
    """Our handler for standard error."""


class _LogFile(logging.FileHandler):
    """Our handler for the log file."""


def _is_for_everybody(record: logging.LogRecord) -> bool:
    """Details, and what the library says to itself, are for those who ask with -v."""
    own = record.name.partition(".")[0] in ("freezer", "freezer_cli") and record.name != "freezer.details"
    return own or record.levelno >= logging.WARNING


def _console_level(options: argparse.Namespace) -> int:
    if options.debug or options.verbose >= 2:
        return logging.DEBUG
    return logging.ERROR if options.quiet else logging.INFO


def report_error(error: Exception, options: argparse.Namespace, stderr: TextIO, *, events: TextIO | None = None) -> int:
    """Tells the user what went wrong, and gives the exit code.

    Args:
        error: what was raised.
        options: the global options.
        stderr: where people read.
        events: where a wrapper reads one JSON object a line, if one does.
    """
    if options.debug:
        for part in traceback.format_exception(error):
            print("\n".join(map(printable, part.rstrip("\n").split("\n"))), file=stderr)
    message, hint, name, code = _explain(error)
    print(f"error: {printable(message)}", file=stderr)
    if hint:
        print(f"hint: {printable(hint)}", file=stderr)
    log_to_file(logging.ERROR, message)
    if events is not None:
        document = {"event": "error", "code": name, "message": plain(message), "hint": plain(hint), "exit_code": code}
        print(json.dumps(document), file=events, flush=True)
    return code


def _explain(error: Exception) -> tuple[str, str | None, str, int]:
    """Message, hint, code name and exit code of an error."""
    if isinstance(error, FreezerError):
        return error.message, error.hint, error.code, error.exit_code
    if isinstance(error, OSError):  # the output cannot be written; all else is wrapped where it happens
        return f"{error.strerror or error}", None, "system", _FAILED
    defect = "this is a defect of freezer: --debug shows where"
    return f"unexpected {type(error).__name__}: {error}", defect, "unexpected", _FAILED


def log_to_file(level: int, message: str) -> None:
    """Writes to ``--log-file`` what people were told in another way."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _LogFile) and level >= handler.level:
            handler.handle(LOG.makeRecord(LOG.name, level, "", 0, message, (), None))


def console_stream(stream: TextIO) -> Callable[[], None]:
    """Sends messages for people through another stream; the result puts the first one back."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, _Console)]
    previous = [(handler, handler.stream) for handler in handlers]
    for handler in handlers:
        handler.setStream(stream)

    def restore() -> None:
        for handler, first in previous:
            handler.setStream(first)

    return restore
