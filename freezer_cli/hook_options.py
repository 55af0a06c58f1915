"""Programs before and after a backup or a restore: the command line over the profile."""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_duration

if TYPE_CHECKING:
    from freezer_sdk import Hooks

HOOK_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "pre-command": (str, list),
    "post-command": (str, list),
    "on-failure-command": (str, list),
    "hook-timeout": (str, int),
}
"""What the tables of a profile may say."""

_DEFAULT_TIMEOUT = 3600.0
_FIELDS = {"pre-command": "pre", "post-command": "post", "on-failure-command": "on_failure"}


def add_hook_options(parser: argparse.ArgumentParser) -> None:
    """Adds the programs and the time that each may take."""
    group = parser.add_argument_group("hooks: programs with their arguments in one text, which no shell sees")
    group.add_argument("--pre-command", metavar="COMMAND", help="runs first; when it fails, nothing else is done")
    group.add_argument("--post-command", metavar="COMMAND", help="runs last, whatever became of the rest")
    group.add_argument(
        "--on-failure-command", metavar="COMMAND", help="runs before that when something failed or was interrupted"
    )
    group.add_argument("--hook-timeout", metavar="TIME", help="how long each of them may take (default: 1h)")


def hooks_of(parsed_args: argparse.Namespace, configured: Mapping[str, Any]) -> Hooks | None:
    """The programs; ``None``: there are none.

    Args:
        configured: a table of the profile, for what the command line does not give.

    Raises:
        ConfigurationError: a text cannot be taken apart, or the time is none.
    """
    from freezer_sdk import Hooks

    given = {key: getattr(parsed_args, key.replace("-", "_"), None) for key in HOOK_KEYS}
    chosen: dict[str, Any] = {key: configured.get(key) if value is None else value for key, value in given.items()}
    commands = {field: split_arguments(chosen[key], key) for key, field in _FIELDS.items() if chosen[key]}
    if not commands:
        return None
    timeout = chosen["hook-timeout"]
    return Hooks(
        **commands,
        timeout=_DEFAULT_TIMEOUT if timeout is None else parse_duration(timeout),
        environment=dict(os.environ),  # without our passwords, which were taken out at the start
    )


def split_arguments(command: str | list[str], what: str) -> tuple[str, ...]:
    """A program and its arguments, from one text or from a list.

    Raises:
        ConfigurationError: the quotes do not fit together.
    """
    if not isinstance(command, str):
        return tuple(command)
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigurationError(f"{what}: {command!r}: {error}") from None
