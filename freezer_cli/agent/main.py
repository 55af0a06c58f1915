"""The programs ``freezer-agent`` and ``freezerc``."""

from __future__ import annotations

import argparse
import logging
import logging.handlers
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from freezer_cli.agent.outcome import Outcome
from freezer_cli.agent.run import DETAILS, Run, started
from freezer_cli.agent.settings import Logging, Settings
from freezer_cli.main import run_program
from freezer_sdk.errors import ConfigurationError

_HIGHEST = -20  # nice value
_REALTIME = 1  # class of ionice(1)
_SYSLOG = "/dev/log"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line of ``freezer-agent``.

    Args:
        argv: arguments without the program's name; ``None``: those of the process.

    Returns:
        The exit code; ``docs/reference/exit-codes.md`` lists them. The action ``exec`` gives that of its program.
    """
    return run_program(argv, partial(_run, program="freezer-agent"))


def freezerc(argv: Sequence[str] | None = None) -> int:
    """The same under the name that it had first."""
    return run_program(argv, partial(_run, program="freezerc"))


def _run(arguments: list[str], environ: Mapping[str, str], *, program: str) -> int:
    from freezer_cli import signals
    from freezer_cli.agent.parsing import parse
    from freezer_cli.app import program_version
    from freezer_cli.reporting import report_error, set_up_logging

    signals.install()
    command_line = parse(arguments, program=program, version=program_version())
    early = argparse.Namespace(
        debug=bool(command_line.get("debug")), quiet=bool(command_line.get("quiet")), verbose=0, log_file=None
    )
    try:
        set_up_logging(early, sys.stderr)
        return _act(command_line, environ)
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as error:
        return report_error(error, early, sys.stderr)


def _act(command_line: Mapping[str, object], environ: Mapping[str, str]) -> int:
    from freezer_cli.agent.outcome import write_document
    from freezer_cli.agent.settings import load_settings
    from freezer_cli.agent.support import check_support, warn_of_secrets, warn_of_the_past

    settings = load_settings(command_line)
    _set_up_logging(settings.logging)
    warn_of_secrets(command_line)
    warn_of_the_past(settings)
    check_support(settings)
    if settings.max_priority:
        _raise_priority()
    DETAILS.info("action %s begins", settings.action)
    outcome = _outcome(settings, environ)
    DETAILS.info("action %s has ended", settings.action)
    if settings.metadata_out and outcome.document is not None:
        write_document(outcome.document, settings.metadata_out)
    if settings.metadata_out != "-" and not settings.logging.quiet:
        for line in outcome.lines:
            print(line)
    return outcome.exit_code


def _outcome(settings: Settings, environ: Mapping[str, str]) -> Outcome:
    if settings.action == "exec":
        return _execute(settings)
    from freezer_cli.agent.admin import administrate
    from freezer_cli.agent.backup import back_up
    from freezer_cli.agent.info import inform
    from freezer_cli.agent.restore import restore

    actions: Mapping[str, Callable[[Run], Outcome]] = {
        "backup": back_up,
        "restore": restore,
        "info": inform,
        "admin": administrate,
    }
    with started(settings, environ) as run:
        return actions[settings.action](run)


def _execute(settings: Settings) -> Outcome:
    from freezer_cli.agent.execute import execute, split

    if not settings.command:
        raise ConfigurationError("--command is missing: what is to be run?")
    if settings.dry_run:
        split(settings.command)
        return Outcome(lines=[f"would run: {settings.command}"])
    output = sys.__stderr__.fileno() if settings.metadata_out == "-" and sys.__stderr__ else None
    code = execute(settings.command, timeout=settings.timeout, quiet=settings.logging.quiet, output=output)
    return Outcome(document={"action": "exec", "exit_code": code}, exit_code=code)


def _raise_priority() -> None:
    from freezer_cli.priority import IOPriority, apply_priority

    apply_priority(_HIGHEST, IOPriority(_REALTIME, None))


def _set_up_logging(wanted: Logging) -> None:
    """The console, the log file and syslog.

    Raises:
        ConfigurationError: a log cannot be written.
    """
    from freezer_cli.reporting import set_up_logging

    file = wanted.file
    if file is not None:
        try:
            os.makedirs(os.path.dirname(file), exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"cannot make the directory of the log file {file}: {error.strerror}") from None
    options = argparse.Namespace(debug=wanted.debug, quiet=wanted.quiet, verbose=0, log_file=file)
    set_up_logging(options, sys.stderr)
    root = logging.getLogger()
    if wanted.date_format:
        for handler in root.handlers:
            if isinstance(handler, logging.FileHandler) and handler.formatter is not None:
                handler.formatter.datefmt = wanted.date_format
    if wanted.facility is not None:
        root.addHandler(_syslog(wanted.facility))


def _syslog(facility: str) -> logging.Handler:
    name = facility.lower().removeprefix("log_")
    if name not in logging.handlers.SysLogHandler.facility_names:
        raise ConfigurationError(f"--syslog-log-facility: there is no facility {facility!r}")
    try:
        handler = logging.handlers.SysLogHandler(_SYSLOG, logging.handlers.SysLogHandler.facility_names[name])
    except OSError as error:
        raise ConfigurationError(f"--use-syslog: {_SYSLOG} cannot be reached: {error.strerror}") from None
    handler.setFormatter(logging.Formatter("freezer-agent[%(process)d]: %(levelname)s %(message)s"))
    handler.setLevel(logging.INFO)
    return handler


if __name__ == "__main__":
    sys.exit(main())
