"""Which volume snapshots a backup reads from: the command line over the profile."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from freezer_cli.config_file import Profile
from freezer_cli.global_options import chosen
from freezer_sdk.errors import PluginError
from freezer_sdk.options import Option, add_arguments, values_from
from freezer_sdk.plugins import SNAPSHOT, PluginRegistry

AUTO, NONE = "auto", "none"
_PREFIX = "snapshot-"


class SnapshotFlags:
    """``--snapshot``, and a flag for each option of the provider that it names; with ``auto`` those of all.

    Args:
        parser: gets them.
        arguments: the command line, for the name.
        configured: gives the profile's; the parser depends on it.
    """

    def __init__(self, parser: argparse.ArgumentParser, arguments: Any, configured: Callable[[], str]) -> None:
        parser.add_argument(
            "--snapshot",
            metavar="PROVIDER",
            help="read from volume snapshots of this provider; auto: of the first that can; none: not at all",
        )
        name = chosen(arguments, "--snapshot").get("snapshot") or configured()
        self._options = declared_options(name) if name and name != NONE else ()
        if self._options:
            title = (
                "snapshots: options of all providers" if name == AUTO else f"options of the snapshot provider {name}"
            )
            add_arguments(parser, self._options, prefix=_PREFIX, title=title)

    def request(self, profile: Profile, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Arguments of the library's ``backup``.

        Raises:
            ConfigurationError: the file of a secret cannot be read.
        """
        configured = profile.backup.get("snapshot")
        provider = parsed_args.snapshot or configured
        if provider in (None, NONE):
            return {}
        options = dict(profile.snapshot_options) if provider == configured else {}
        options |= values_from(parsed_args, self._options, prefix=_PREFIX)
        return {"snapshot": provider, "snapshot_options": options}


def declared_options(provider: str | None) -> tuple[Option, ...]:
    """What a provider declares; without a name, or with ``auto``, what all of them do.

    Raises:
        PluginNotFound, PluginError: about a provider that is named.
    """
    registry = PluginRegistry()
    if provider not in (None, AUTO):
        return registry.load(SNAPSHOT, str(provider)).options
    found: dict[str, Option] = {}
    for name in registry.names(SNAPSHOT):
        try:
            options = registry.load(SNAPSHOT, name).options
        except PluginError:  # `freezer plugin list` says so
            continue
        for option in options:
            found.setdefault(option.name, option)
    return tuple(found.values())


def profile_options(profile: Profile, provider: str | None) -> Mapping[str, Any]:
    """The profile's options, as far as this provider declares them."""
    known = {option.name for option in declared_options(provider)}
    return {name: value for name, value in profile.snapshot_options.items() if name in known}
