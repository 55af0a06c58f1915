"""What a command runs with: command line over environment over profile over default.

Nothing else reads the environment.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from freezer_cli import passwords
from freezer_cli.config_file import ConfigFile, Profile, load_config, snake_keys
from freezer_cli.passwords import Asker, PasswordSource
from freezer_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from freezer_sdk import Limits

DEFAULT_ENGINE = "dedup"
DEFAULT_MODE = "fs"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A value, and who gave it; ``given_by`` is ``default`` when nobody did."""

    value: Any
    given_by: str


@dataclass
class Settings:
    """The global options of one run, resolved against environment and configuration.

    Args:
        options: the parsed global options.
        environ: the environment, with ``FREEZER_PASSWORD`` still in it.
    """

    options: argparse.Namespace
    environ: Mapping[str, str] = field(repr=False)

    @cached_property
    def config(self) -> ConfigFile:
        """The configuration file in force.

        Raises:
            ConfigurationError: unreadable or wrong.
        """
        return load_config(self.options.config or self.environ.get("FREEZER_CONFIG") or None)

    @cached_property
    def profile(self) -> Profile:
        """The profile in force; an empty one when there is none.

        Raises:
            ConfigurationError: the one that was asked for does not exist.
        """
        return self.config.profile(self.options.profile or self.environ.get("FREEZER_PROFILE") or None)

    @property
    def storage(self) -> Setting:
        """The storage URL; its value is ``None`` when nobody gave one."""
        return self._pick(self.options.storage, "--storage", "FREEZER_STORAGE", self.profile.storage, None)

    def require_storage(self) -> str:
        """The storage URL.

        Raises:
            ConfigurationError: nobody gave one.
        """
        if self.storage.value is None:
            raise ConfigurationError(
                "no storage is given", hint="use --storage URL, FREEZER_STORAGE or a profile (`freezer config sample`)"
            )
        return str(self.storage.value)

    @property
    def engine(self) -> Setting:
        """The engine's name."""
        return self._pick(getattr(self.options, "engine", None), "--engine", None, self.profile.engine, DEFAULT_ENGINE)

    @property
    def upload_limit(self) -> Setting:
        """Bytes a second to send at most; a text when the profile says so."""
        return self._pick(self.options.upload_limit, "--upload-limit", None, self.profile.upload_limit, None)

    @property
    def download_limit(self) -> Setting:
        """Bytes a second to receive at most; a text when the profile says so."""
        return self._pick(self.options.download_limit, "--download-limit", None, self.profile.download_limit, None)

    @cached_property
    def limits(self) -> Limits:
        """The bandwidth of this run, which all its storages share.

        Raises:
            ConfigurationError: a profile's limit is no size.
        """
        from freezer_sdk import Limits

        try:
            return Limits(upload=self.upload_limit.value, download=self.download_limit.value)
        except ConfigurationError as error:
            raise ConfigurationError(f"profile {self.profile.name}: {error}", hint=error.hint) from None

    @property
    def profile_storage_options(self) -> Mapping[str, Any]:
        """Options of the profile's storage; another storage has nothing to do with them."""
        return self.profile.storage_options if self.storage.given_by.startswith("profile ") else {}

    @property
    def profile_engine_options(self) -> Mapping[str, Any]:
        """Options of the profile's engine; another engine has nothing to do with them."""
        same = self.engine.value == (self.profile.engine or DEFAULT_ENGINE)
        return self.profile.engine_options if same else {}

    @cached_property
    def password_source(self) -> PasswordSource | None:
        """The configured source of the password, or ``None``: ask on the terminal."""
        profile, title = self.profile, f"profile {self.profile.name}"
        given: list[tuple[str, str, Any, Callable[[Any], str]]] = [
            ("file", "--password-file", self.options.password_file, passwords.from_file),
            ("command", "--password-command", self.options.password_command, passwords.from_command),
            ("keyring", "--keyring", self.options.keyring, self._from_keyring),
            ("environment", "FREEZER_PASSWORD", self.environ.get("FREEZER_PASSWORD"), passwords.from_text),
            ("file", "FREEZER_PASSWORD_FILE", self.environ.get("FREEZER_PASSWORD_FILE"), passwords.from_file),
            (
                "command",
                "FREEZER_PASSWORD_COMMAND",
                self.environ.get("FREEZER_PASSWORD_COMMAND"),
                passwords.from_command,
            ),
            ("file", title, profile.password_file, passwords.from_file),
            ("command", title, profile.password_command, passwords.from_command),
            ("keyring", title, profile.keyring, self._from_keyring),
        ]
        for kind, given_by, value, read in given:
            if value:
                return PasswordSource(kind=kind, given_by=given_by, read=partial(read, value))
        return None

    def password(self, *, twice: bool = False) -> Asker:
        """What asks for the password when it is needed."""
        return Asker(self.password_source, twice=twice)

    def _from_keyring(self, _enabled: bool) -> str:
        return passwords.from_keyring(self.require_storage())

    def _pick(self, option: Any, flag: str, variable: str | None, configured: Any, default: Any) -> Setting:
        if option is not None:
            return Setting(value=option, given_by=flag)
        if variable is not None and self.environ.get(variable):
            return Setting(value=self.environ[variable], given_by=variable)
        if configured is not None:
            return Setting(value=configured, given_by=f"profile {self.profile.name}")
        return Setting(value=default, given_by="default")


def parse_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """``["pack-size=1M"]`` -> ``{"pack_size": "1M"}``; a name that comes again makes a list.

    Raises:
        ConfigurationError: a text without ``=``.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigurationError(f"{name!r} is not of the form NAME=VALUE")
        (key,) = snake_keys({name: None})
        if key in values:
            earlier = values[key]
            values[key] = [*(earlier if isinstance(earlier, list) else [earlier]), value]
        else:
            values[key] = value
    return values
