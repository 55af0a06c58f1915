"""Flags of the options that the chosen engine, mode and storage declare."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from freezer_cli.environment import from_environment
from freezer_cli.settings import parse_assignments
from freezer_sdk.errors import ConfigurationError, PluginNotFound
from freezer_sdk.options import Option, add_arguments, values_from
from freezer_sdk.plugins import STORAGE, PluginRegistry

MASK = "********"


class PluginFlags:
    """The options of one plug-in as flags of a command.

    Args:
        parser: gets a group of them.
        options: what the plug-in declares.
        title: of the group.
        prefix: may be put before each flag, and must be where the command itself has one of that name.
    """

    def __init__(self, parser: argparse.ArgumentParser, options: Sequence[Option], *, title: str, prefix: str) -> None:
        self._added: list[tuple[Option, str]] = []
        group = parser.add_argument_group(title)
        for option in options:
            for each in ("", prefix):
                with suppress(argparse.ArgumentError):
                    add_arguments(group, [option], prefix=each)
                    self._added.append((option, each))
            if self._added[-2:] == [(option, ""), (option, prefix)]:
                group._group_actions[-1].help = argparse.SUPPRESS  # once is enough

    def values(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """What the user gave, by option name.

        Raises:
            ConfigurationError: the file of a secret cannot be read.
        """
        values: dict[str, Any] = {}
        for option, prefix in self._added:
            values |= values_from(parsed_args, [option], prefix=prefix)
        return values


def storage_option_values(url: str, assignments: Sequence[str]) -> dict[str, Any]:
    """Options of ``--storage-option`` for the storage of a URL; see :func:`assigned`.

    Raises:
        ConfigurationError: not of the form NAME=VALUE, a secret in clear, or its file cannot be read.
    """
    return assigned(_declared(url), assignments, flag="--storage-option") if assignments else {}


def environment_values(url: str, environ: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Options of the storage of a URL that the environment gives, as the plug-in declares.

    Args:
        given: options that have a value already.
    """
    return from_environment(_declared(url), environ, given)


def assigned(options: Sequence[Option], assignments: Sequence[str], *, flag: str) -> dict[str, Any]:
    """Values by option name; a secret may only come from the file that ``NAME-file`` names.

    Raises:
        ConfigurationError: not of the form NAME=VALUE, a secret in clear, or its file cannot be read.
    """
    given = parse_assignments(assignments)
    for option in options:
        if not option.secret:
            continue
        if option.name in given:
            raise ConfigurationError(
                f"option {option.name!r} is a secret, and command lines are public",
                hint=f"use {flag} {option.name.replace('_', '-')}-file=FILE or a profile",
            )
        file = given.pop(f"{option.name}_file", None)
        if file is not None:
            given[option.name] = _first_line(str(file), option)
    return given


def has_secrets(url: str | None, options: Mapping[str, Any]) -> bool:
    """Whether a profile's storage URL or options hold a secret in clear."""
    if url is None:
        return False
    named = bool(options) and any(option.secret and option.name in options for option in _declared(url))
    return named or without_password(url) != url


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    return f"{scheme}{separator}{name}{colon}{MASK}{at}{place}" if colon else url


def _declared(url: str) -> Sequence[Option]:
    try:
        return PluginRegistry().options(STORAGE, url.partition(":")[0])
    except PluginNotFound:  # whoever opens the storage says so
        return ()


def _first_line(path: str, option: Option) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.readline().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"the file for option {option.name!r} cannot be read: {path}") from None
