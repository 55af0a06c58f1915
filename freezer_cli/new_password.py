"""Where a new password comes from: never from the command line, and not from where the current one comes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

from freezer_cli import passwords
from freezer_cli.passwords import Asker, PasswordSource
from freezer_cli.settings import Settings


def add_new_password(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say where it is."""
    group = parser.add_argument_group(
        "the new password", description="Asked for twice on a terminal; else from FREEZER_NEW_PASSWORD or one of these."
    )
    source = group.add_mutually_exclusive_group()
    source.add_argument("--new-password-file", metavar="FILE", help="it is the first line of this file")
    source.add_argument("--new-password-command", metavar="COMMAND", help="it is the first line that this prints")


def new_password(settings: Settings, parsed_args: argparse.Namespace) -> Asker:
    """What gives the new password when it is needed."""
    environ = settings.environ
    given: list[tuple[str, str, Any, Callable[[Any], str]]] = [
        ("file", "--new-password-file", parsed_args.new_password_file, passwords.from_file),
        ("command", "--new-password-command", parsed_args.new_password_command, passwords.from_command),
        ("environment", "FREEZER_NEW_PASSWORD", environ.get("FREEZER_NEW_PASSWORD"), passwords.from_text),
        ("file", "FREEZER_NEW_PASSWORD_FILE", environ.get("FREEZER_NEW_PASSWORD_FILE"), passwords.from_file),
        (
            "command",
            "FREEZER_NEW_PASSWORD_COMMAND",
            environ.get("FREEZER_NEW_PASSWORD_COMMAND"),
            passwords.from_command,
        ),
    ]
    for kind, given_by, value, read in given:
        if value:
            source = PasswordSource(kind=kind, given_by=given_by, read=partial(read, value))
            return Asker(source, twice=True, prompt="New password: ")
    return Asker(None, twice=True, prompt="New password: ")
