"""What ``backup create`` asks the library for: the command line over the profile."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from freezer_cli.config_file import Profile
from freezer_cli.priority import IOPriority, parse_ionice
from freezer_cli.settings import DEFAULT_MODE
from freezer_sdk.errors import ConfigurationError

OWN_OPTIONS = ("paths", "excludes", "command_arguments")
"""Options of modes that are arguments of the command itself."""


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """What follows ``--`` is the program of ``--command``; without that option it is paths."""
    own = list(arguments)
    if "--" not in own:
        return own, []
    place = own.index("--")
    has_command = any(word == "--command" or word.startswith("--command=") for word in own[:place])
    return (own[:place], own[place + 1 :]) if has_command else (own, [])


def backup_request(
    profile: Profile, parsed_args: argparse.Namespace, mode_values: Mapping[str, Any], program: Sequence[str]
) -> dict[str, Any]:
    """Arguments of the library's ``backup``.

    Args:
        profile: gives what the command line does not; a list that is given replaces the profile's.
        parsed_args: of the command.
        mode_values: options of the mode, from the command line.
        program: of ``--command``, with its arguments.
    """
    defaults = profile.backup
    mode = parsed_args.mode or defaults.get("mode") or DEFAULT_MODE
    same_mode = mode == (defaults.get("mode") or DEFAULT_MODE)
    options = {**(profile.mode_options if same_mode else {}), **mode_values}
    if program:
        options["command_arguments"] = tuple(program)
    stream = any(options.get(name) is not None for name in ("stdin", "command"))
    return {
        "paths": parsed_args.paths or ([] if stream or not same_mode else _several(defaults.get("paths"))),
        "name": parsed_args.name or defaults.get("name"),
        "tags": parsed_args.tag if parsed_args.tag is not None else _several(defaults.get("tag")),
        "excludes": parsed_args.exclude if parsed_args.exclude is not None else _several(defaults.get("exclude")),
        "host": parsed_args.host or defaults.get("host"),
        "mode": mode,
        "mode_options": options,
        "parent": parsed_args.parent,
        "force_read": parsed_args.force_read,
        "dry_run": parsed_args.dry_run,
    }


def priority(profile: Profile, parsed_args: argparse.Namespace) -> tuple[int | None, IOPriority | None]:
    """The nice value and the I/O priority.

    Raises:
        ConfigurationError: the profile's I/O priority is none.
    """
    nice = profile.backup.get("nice") if parsed_args.nice is None else parsed_args.nice
    if parsed_args.ionice is not None or "ionice" not in profile.backup:
        return nice, parsed_args.ionice
    try:
        return nice, parse_ionice(profile.backup["ionice"])
    except argparse.ArgumentTypeError as error:
        raise ConfigurationError(f"profile {profile.name}: ionice: {error}") from None


def _several(value: str | list[str] | None) -> list[str]:
    """A key of the file that takes one text or a list."""
    return [value] if isinstance(value, str) else list(value or ())
