"""A second repository on one command line: what is copied from, or what a new one is made like."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from freezer_cli.config_file import Profile
from freezer_cli.passwords import Asker
from freezer_cli.repository_command import connection_of
from freezer_cli.settings import Settings
from freezer_sdk.errors import ConfigurationError

_URL = re.compile(r"[a-z][a-z0-9+.-]*:", re.ASCII)
_VARIABLES = ("FREEZER_PASSWORD", "FREEZER_PASSWORD_FILE", "FREEZER_PASSWORD_COMMAND")


@dataclass
class OtherSettings(Settings):
    """Settings of the second repository, resolved as those of the first.

    Args:
        source: a URL, which stands for itself, or the name of a profile.
    """

    source: str = ""

    @cached_property
    def profiles(self) -> tuple[Profile, ...]:
        """The profile that was named; an empty one for a URL."""
        if _URL.match(self.source):
            return (Profile(name=""),)
        profile = self.config.profile(self.source)
        if not (profile.storages or profile.group):
            raise ConfigurationError(f"profile {self.source!r} names no storage")
        return (profile,)

    @property
    def place(self) -> Settings:
        """The settings of its one storage.

        Raises:
            ConfigurationError: the profile names several.
        """
        if len(self.places) > 1:
            message = f"profile {self.source!r} has {len(self.places)} storages, and the source is one"
            raise ConfigurationError(message, hint="give the URL of one of them, or a profile with one storage")
        return self.places[0]

    def password(self, *, twice: bool = False, prompt: str = "Source repository password: ") -> Asker:
        """What asks for the password when it is needed."""
        return Asker(self.password_source, twice=twice, prompt=prompt)


def add_other_repository(
    parser: argparse.ArgumentParser, flag: str, *, title: str, required: bool = False, several: bool = False
) -> None:
    """Adds ``flag`` and the options that go with it.

    Args:
        flag: ``--from``, or another option that names the second repository.
        title: what the repository is for.
        several: the option may be repeated; then :func:`other_connections` gives all.
    """
    group = parser.add_argument_group("the source")
    group.add_argument(
        flag,
        metavar="SOURCE",
        dest="source",
        required=required,
        action="append" if several else "store",
        help=f"{title}: a URL, or a profile{' (repeatable)' if several else ''}",
    )
    group.add_argument(
        "--from-storage-option",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="option of its storage (repeatable; a secret: NAME-file=FILE)",
    )
    password = group.add_mutually_exclusive_group()
    password.add_argument("--from-password-file", metavar="FILE", help="its password is the first line of this file")
    password.add_argument("--from-password-command", metavar="COMMAND", help="its password is the first line it prints")
    password.add_argument("--from-keyring", action="store_true", help="ask the desktop's keyring for its password")


def other_connection(settings: Settings, parsed_args: argparse.Namespace) -> dict[str, Any]:
    """Arguments for the :class:`~freezer_sdk.Freezer` of the second repository.

    Raises:
        ConfigurationError: no such profile, or wrong options.
    """
    source = parsed_args.source
    options = argparse.Namespace(**vars(settings.options))
    options.storage = [source] if _URL.match(source) else None
    options.storage_option = parsed_args.from_storage_option
    options.password_file = parsed_args.from_password_file
    options.password_command = parsed_args.from_password_command
    options.keyring = parsed_args.from_keyring
    options.engine = None
    other = OtherSettings(options, _environment(settings.environ), source)
    return {**connection_of(other), "limits": settings.limits}  # the bandwidth is that of the run


def other_connections(settings: Settings, parsed_args: argparse.Namespace) -> list[dict[str, Any]]:
    """The same for several; a password that is given is that of all of them, but for those of profiles.

    Raises:
        ConfigurationError: no such profile, or wrong options.
    """
    each = [argparse.Namespace(**{**vars(parsed_args), "source": source}) for source in parsed_args.source or ()]
    return [other_connection(settings, one) for one in each]


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What of the environment is about the second repository, under the names of the first."""
    own = {name: environ[name] for name in ("FREEZER_CONFIG",) if name in environ}
    for name in _VARIABLES:
        value = environ.get(name.replace("FREEZER_", "FREEZER_FROM_", 1))
        if value:
            own[name] = value
    return own
