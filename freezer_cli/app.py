"""The application: options before the verb, finding the command, exit codes and messages."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TextIO

from cliff import _argparse
from cliff.app import App
from cliff.help import HelpExit

from freezer_cli.base import USAGE_ERROR, FreezerCommand, HelpFormatter
from freezer_cli.commands import NAMESPACE, LazyCommandManager
from freezer_cli.global_options import add_global_options, chosen, merge_global_options
from freezer_cli.help_action import HelpAction
from freezer_cli.reporting import report_error, set_up_logging
from freezer_cli.settings import Settings
from freezer_sdk.errors import ConfigurationError

DESCRIPTION = """\
Back up, verify and restore files, streams and applications.

`freezer COMMAND --help` explains a command and gives an example of it."""


def program_version() -> str:
    """The installed version."""
    try:
        return version("freezer-sdk")
    except PackageNotFoundError:
        return "unknown"


class FreezerApp(App):
    """The ``freezer`` program.

    Args:
        environ: where settings come from, beside the command line and the configuration file.
    """

    NAME = "freezer"
    LOG = logging.getLogger("freezer")

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(
            description=DESCRIPTION, version=program_version(), command_manager=LazyCommandManager(NAMESPACE)
        )
        self._environ = environ
        self.commands: LazyCommandManager = self.command_manager  # type: ignore[assignment]
        self.settings: Settings
        self._events: TextIO | None = None

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: object = None
    ) -> argparse.ArgumentParser:
        """The options that may stand before the verb."""
        parser = _argparse.ArgumentParser(
            prog=self.NAME,
            usage="freezer [OPTION ...] COMMAND ...",
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=HelpFormatter,
        )
        parser.add_argument("--version", action="version", version=f"{self.NAME} {version}")
        parser.add_argument("-h", "--help", action=HelpAction, nargs=0, default=self, help="show this help and exit")
        add_global_options(parser, after_verb=False)
        parser.add_argument("words", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
        return parser

    def run(self, argv: list[str]) -> int:
        """Runs one command line and gives the exit code; writes messages about what went wrong."""
        self.options = self.parser.parse_args(argv)
        try:
            return self.run_subcommand(self.options.words)
        except HelpExit:
            return 0
        except (BrokenPipeError, KeyboardInterrupt):
            raise
        except Exception as error:
            return report_error(error, self.options, self.stderr, events=self._events)

    def run_subcommand(self, argv: list[str]) -> int:
        """Finds, parses and runs a command.

        Raises:
            FreezerError: what the command raises.
            SystemExit: wrong arguments, or help was asked for.
        """
        try:
            factory, name, arguments = self.commands.find_command(argv)
        except ValueError:
            return self._unknown(argv)
        command = factory(self, self.options, cmd_name=name)
        early = argparse.Namespace(**chosen(arguments, "--engine", "--profile", "--config"))
        self.settings = Settings(merge_global_options(self.options, early), self._environ)
        if isinstance(command, FreezerCommand):
            command.arguments = arguments
            arguments = command.prepare(arguments)
        parser = command.get_parser(f"{self.NAME} {name}")
        try:
            # `create PATH --name N PATH` is no mistake; intermixed parsing loses what follows --
            parsed = parser.parse_args(arguments) if "--" in arguments else parser.parse_intermixed_args(arguments)
        except SystemExit as end:
            if end.code != USAGE_ERROR or not isinstance(command, FreezerCommand):
                raise
            advice = command.advice(parser._option_string_actions)
            if advice:
                print(f"hint: {advice}", file=self.stderr)
            raise SystemExit(command.wrong_arguments()) from None
        words = self.options.words
        self.options = merge_global_options(self.options, parsed)
        self.options.words = words
        self.settings = Settings(self.options, self._environ)
        set_up_logging(self.options, self.stderr)
        self._events = self.stdout if getattr(parsed, "json_events", False) else None
        return command.run(parsed)

    def _unknown(self, argv: list[str]) -> int:
        words = [word for word in argv if not word.startswith("-")]
        wants_help = any(word in ("-h", "--help") for word in argv)
        known = self.commands.below(words)
        if known:
            listing = "\n".join(f"  {self.NAME} {name}" for name in known)
            print(f"commands:\n{listing}", file=self.stdout if wants_help else self.stderr)
            return 0 if wants_help else USAGE_ERROR
        close = self.get_fuzzy_matches(words[0]) if words else []
        hint = f"did you mean {', '.join(close)}?" if close else None
        raise ConfigurationError(
            f"there is no command {' '.join(words)!r}", hint=hint or "`freezer --help` lists the commands"
        )
