"""What commands share that open a repository."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from freezer_cli.advice import ENGINES, Choice, advice_on
from freezer_cli.base import FreezerCommand
from freezer_cli.plugin_options import PluginFlags, environment_values, has_secrets, storage_option_values
from freezer_cli.settings import DEFAULT_ENGINE, Settings, parse_assignments
from freezer_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from freezer_sdk import Freezer

LOG = logging.getLogger("freezer")


class RepositoryCommand(FreezerCommand):
    """Base of commands that open a repository.

    Attributes:
        engine_flags: every option of the engine is a flag of its own, not only ``--engine-option``.
    """

    engine_flags = False
    _engine: PluginFlags | None = None

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds the choice of the engine and its options."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--engine", metavar="NAME", help=self.engine_help())
        parser.add_argument(
            "--engine-option",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            help="option of the engine (repeatable); `freezer plugin show ENGINE` lists them",
        )
        if self.engine_flags:
            from freezer_sdk.plugins import ENGINE, PluginRegistry

            name = self.early_setting(lambda: self.settings.engine.value, DEFAULT_ENGINE)
            options = PluginRegistry().load(ENGINE, name).options
            self._engine = PluginFlags(parser, options, title=f"options of the engine {name}", prefix="engine-")
        return parser

    def engine_help(self) -> str:
        """What the option --engine is for."""
        return f"how backups are stored (default: as those that are there; in an empty storage {DEFAULT_ENGINE})"

    def choices(self) -> Sequence[Choice]:
        """How plug-ins may be chosen whose options are flags of this command."""
        return (ENGINES,) if self.engine_flags else ()

    def advice(self, known: Collection[str]) -> str | None:
        """Names the plug-ins that have an option which the chosen ones have not."""
        return advice_on(self.arguments, known, self.choices())

    @staticmethod
    def early_setting(read: Callable[[], Any], default: str) -> str:
        """A setting that the parser depends on; what is wrong with the configuration is told later."""
        try:
            return str(read() or default)
        except ConfigurationError:
            return default

    def open(self, parsed_args: argparse.Namespace) -> Freezer:
        """Opens the repository until the command has ended.

        Raises:
            FreezerError: it cannot be opened.
        """
        return self.open_as(self.connection(parsed_args))

    def open_as(self, connection: Mapping[str, Any]) -> Freezer:
        """Opens a repository until the command has ended.

        Args:
            connection: as :meth:`connection` gives it.

        Raises:
            FreezerError: it cannot be opened.
        """
        from freezer_sdk import Freezer

        freezer = self.resources.enter_context(Freezer(**connection))
        for problem in freezer.problems:
            LOG.warning("%s: %s", problem.path, problem.message)
        return freezer

    def connection(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        """Arguments for :class:`Freezer`.

        Raises:
            ConfigurationError: no storage or several, or wrong options.
        """
        return connection_of(self.settings, self._engine_options(parsed_args))

    def _engine_options(self, parsed_args: argparse.Namespace) -> dict[str, Any]:
        named = parse_assignments(parsed_args.engine_option)
        flags = self._engine.values(parsed_args) if self._engine is not None else {}
        return {**named, **flags}


def connection_of(settings: Settings, engine_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Arguments for :class:`Freezer`.

    Args:
        engine_options: those of the command line.

    Raises:
        ConfigurationError: no storage or several, or wrong options.
    """
    settings = settings.place
    url = settings.require_storage()
    configured = settings.storage.given_by.startswith("profile ")
    if configured and settings.config.exposed and has_secrets(url, settings.profile_storage_options):
        LOG.warning("%s holds secrets and others can read it: chmod 600", settings.config.path)
    given = {
        **settings.profile_storage_options,
        **storage_option_values(url, settings.options.storage_option),
    }
    return {
        "storage": url,
        "password": settings.password(),
        "engine": None if settings.engine.given_by == "default" else settings.engine.value,
        "limits": settings.limits,
        "storage_options": {**environment_values(url, settings.environ, given), **given},
        "engine_options": partial(_engine_options, settings, engine_options or {}),
    }


def _engine_options(settings: Settings, given: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """Options for the engine that was chosen, or whose repository was found."""
    return {**_place_of_cache(engine), **settings.engine_options_of(engine), **given}


def _place_of_cache(engine: str) -> dict[str, str]:
    """The folder of the local cache, for engines that have one: the library itself does not look for places."""
    from platformdirs import user_cache_path

    from freezer_sdk.plugins import ENGINE, PluginRegistry

    options = {option.name for option in PluginRegistry().load(ENGINE, engine).options}
    return {"cache": str(user_cache_path("freezer-sdk", appauthor=False))} if "cache" in options else {}


def add_selection(parser: argparse._ActionsContainer, *, dates: bool = True) -> None:
    """Adds the options that choose backups."""
    from freezer_cli.dates import HELP, parse_date

    parser.add_argument("--name", metavar="NAME", help="only backups of this name")
    parser.add_argument("--host", metavar="HOST", help="only backups of this host")
    parser.add_argument("--tag", metavar="TAG", action="append", default=[], help="only with this tag (repeatable)")
    if dates:
        parser.add_argument("--before", metavar="DATE", type=parse_date, help=f"only backups before: {HELP}")
        parser.add_argument("--after", metavar="DATE", type=parse_date, help="only backups at this time or later")
