"""What brings a backup back: the mode that made it, unless the command line names another."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from freezer_cli.environment import mode_options
from freezer_cli.global_options import chosen
from freezer_cli.plugin_options import PluginFlags
from freezer_cli.settings import DEFAULT_MODE, Settings
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.plugins import MODE, PluginRegistry


class RestoreMode:
    """``--mode``, and a flag for each option of the mode that it, or the profile, names.

    Args:
        parser: gets them.
        arguments: the command line, for the name.
        configured: gives the profile's mode; the parser depends on it.
    """

    def __init__(
        self, parser: argparse.ArgumentParser, arguments: Sequence[str], configured: Callable[[], str]
    ) -> None:
        parser.add_argument(
            "--mode",
            metavar="MODE",
            help="what brings it back (default: the mode that made it); fs: as plain files, whatever made it",
        )
        self._name = chosen(arguments, "--mode").get("mode") or configured()
        self._flags: PluginFlags | None = None
        if self._name != DEFAULT_MODE:
            options = PluginRegistry().load(MODE, self._name).options
            self._flags = PluginFlags(parser, options, title=f"options of the mode {self._name}", prefix="mode-")

    def request(self, settings: Settings, parsed_args: argparse.Namespace, made_by: str) -> dict[str, Any]:
        """Arguments of the library's ``restore``.

        Args:
            made_by: the mode of the backup.

        Raises:
            ConfigurationError: options of another mode than the backup's are given, or the file of a secret cannot be
                read.
        """
        mode, profile = parsed_args.mode or made_by, settings.profile
        given = {} if self._flags is None else self._flags.values(parsed_args)
        if given and mode != self._name:
            raise ConfigurationError(
                f"there are options of the mode {self._name}, and the backup was made by {mode}",
                hint=f"`--mode {mode}` has options of its own",
            )
        same = mode == profile.backup.get("mode") and mode != DEFAULT_MODE
        options = mode_options(mode, {**(profile.mode_options if same else {}), **given}, settings.environ)
        return {"mode": parsed_args.mode, "mode_options": options or None}
