"""``freezer complete`` and ``freezer help``: cliff's commands, with examples and without its slow searches."""

from __future__ import annotations

import argparse

from cliff import complete
from cliff import help as cliff_help

from freezer_cli.base import FreezerCommand
from freezer_sdk.errors import ConfigurationError


class Complete(FreezerCommand, complete.CompleteCommand):
    """Print a script that completes commands and options on the TAB key."""

    examples = ("freezer complete > /etc/bash_completion.d/freezer", "source <(freezer complete --shell bash)")


class Help(FreezerCommand, cliff_help.HelpCommand):
    """Explain a command, or list all of them."""

    examples = ("freezer help backup create",)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Prints the help of a command."""
        if not parsed_args.cmd:
            self.app.parser.parse_args(["--help"])
        if parsed_args.cmd and not self.app.commands.below(parsed_args.cmd):
            raise ConfigurationError(f"there is no command {' '.join(parsed_args.cmd)!r}")
        return super().take_action(parsed_args)
