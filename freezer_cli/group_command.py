"""What commands share that work with several storages at once."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

from freezer_cli.plugin_options import without_password
from freezer_cli.repository_command import RepositoryCommand, connection_of
from freezer_cli.settings import Settings
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import parse_duration, parse_size

if TYPE_CHECKING:
    from freezer_sdk import Event, FreezerGroup, Limits

LOG = logging.getLogger("freezer")
_STALL_TIMEOUT = 300.0
_QUEUE_SIZE = 4 << 20


class GroupCommand(RepositoryCommand):
    """Base of commands that work with one storage, or with several at once.

    Attributes:
        asked_in_vain: some storage could not be asked.
    """

    asked_in_vain = False

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        """Adds how long to wait for one of several storages."""
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--stall-timeout",
            metavar="DURATION",
            type=_duration,
            help="with several storages: leave one out that moves nothing for so long (default: 5m; 0: never)",
        )
        return parser

    @property
    def several(self) -> bool:
        """Whether there are several storages."""
        return len(self.settings.places) > 1

    def open_group(self, parsed_args: argparse.Namespace) -> FreezerGroup:
        """Opens all storages until the command has ended.

        Raises:
            FreezerError: none can be opened.
        """
        from freezer_sdk import FreezerGroup, Target

        if self.settings.options.storage_option:
            raise ConfigurationError(
                "--storage-option does not say which of several storages it is for",
                hint="give each storage a profile, and use --profile for each of them",
            )
        options = self._engine_options(parsed_args)
        targets, limits = [], _Limits(self.settings)
        for place in self.settings.places:
            connection = connection_of(place, options)
            prompt = f"{without_password(connection['storage'])} password: "
            connection |= {"password": place.password(prompt=prompt), "limits": limits.of(place)}
            targets.append(Target(**connection))
        group = FreezerGroup(
            targets,
            stall_timeout=self._stall_timeout(parsed_args),
            queue_size=parse_size(options.get("queue_size", _QUEUE_SIZE)),
        )
        self.resources.enter_context(group)
        for location, freezer in group.freezers.items():
            for problem in freezer.problems:
                LOG.warning("%s: %s: %s", location, problem.path, problem.message)
        return group

    def _stall_timeout(self, parsed_args: argparse.Namespace) -> float:
        profile = self.settings.profile
        if parsed_args.stall_timeout is not None:
            return float(parsed_args.stall_timeout)
        if profile.stall_timeout is None:
            return _STALL_TIMEOUT
        try:
            return parse_duration(profile.stall_timeout)
        except ConfigurationError as error:
            raise ConfigurationError(f"profile {profile.name}: stall-timeout: {error}") from None

    def tell_lost(self, group: FreezerGroup) -> None:
        """Warns of storages that could not be opened."""
        for location, error in group.failures.items():
            self._lost(location, error.message)

    def listen(self, event: Event) -> None:
        """For operations without progress: warns of storages that cannot be asked."""
        if event.problem is not None:
            self._lost(event.problem.path, event.problem.message)

    def _lost(self, location: str, message: str) -> None:
        self.asked_in_vain = True
        LOG.warning("%s: left out: %s", location, message)


class _Limits:
    """Bandwidth: what is set for the run holds for all storages together, else each profile has its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        flags = (settings.options.upload_limit, settings.options.download_limit)
        group = (settings.profile.upload_limit, settings.profile.download_limit) if settings.profile.group else ()
        self._shared = any(each is not None for each in (*flags, *group))
        self._by_profile: dict[str, Limits] = {}

    def of(self, place: Settings) -> Limits:
        """Those of one storage; storages of one profile have them together."""
        if self._shared:
            return self._settings.limits
        return self._by_profile.setdefault(place.profile.name, place.limits)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
