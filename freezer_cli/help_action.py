"""``freezer --help``: the options before the verb, and every command with what it is for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import autopage.argparse
from cliff.help import HelpExit

if TYPE_CHECKING:
    from freezer_cli.app import FreezerApp


class HelpAction(argparse.Action):
    """Prints the overview; unlike cliff's it does not search all distributions for the owners of commands."""

    default: FreezerApp

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Prints and ends the program."""
        app = self.default
        with autopage.argparse.help_pager(app.stdout) as out:
            parser.print_help(out)
            out.write("\ncommands:\n")
            names = sorted(name for name, _ in app.commands)
            width = max(len(name) for name in names)
            for name in names:
                out.write(f"  {name:<{width}}  {_first_line(app, name)}\n")
            out.write("\nexample:\n  freezer backup create /etc --name etc --storage local:/srv/backups\n")
        raise HelpExit()


def _first_line(app: FreezerApp, name: str) -> str:
    try:
        factory = app.commands.commands[name].load()
    except Exception as error:  # a broken third-party command must not hide the others
        return f"(cannot be loaded: {error})"
    return (factory.__doc__ or "").strip().partition("\n")[0].rstrip(".")
