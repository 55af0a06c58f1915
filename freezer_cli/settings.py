"""What a command runs with: command line over environment over profile over default.

Nothing else reads the environment.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
        only: the one profile that counts, when these are the settings of one of several storages.
    """

    options: argparse.Namespace
    environ: Mapping[str, str] = field(repr=False)
    only: Profile | None = field(default=None, kw_only=True)

    @cached_property
    def config(self) -> ConfigFile:
        """The configuration file in force.

        Raises:
            ConfigurationError: unreadable or wrong.
        """
        return load_config(self.options.config or self.environ.get("FREEZER_CONFIG") or None)

    @cached_property
    def profiles(self) -> tuple[Profile, ...]:
        """The profiles in force; an empty one when there is none.

        Raises:
            ConfigurationError: one that was asked for does not exist.
        """
        if self.only is not None:
            return (self.only,)
        names = self.options.profile or [self.environ.get("FREEZER_PROFILE") or None]
        return tuple(self.config.profile(name) for name in names)

    @cached_property
    def profile(self) -> Profile:
        """The first profile in force: what is not about one storage comes from it."""
        return self.profiles[0]

    @cached_property
    def places(self) -> tuple[Settings, ...]:
        """For each storage the settings that it has; ``self`` when there is one, or none.

        Raises:
            ConfigurationError: profiles that do not exist or name no storage, or several beside a given storage.
        """
        given = self.options.storage or []
        elsewhere = "--storage" if given else "FREEZER_STORAGE" if self.environ.get("FREEZER_STORAGE") else None
        if elsewhere is not None:
            if len(self.profiles) > 1:
                raise ConfigurationError(f"several profiles are given, and {elsewhere} as well: where to?")
            return tuple(self._with(self.profile, storage=[url]) for url in given) if len(given) > 1 else (self,)
        found = [(profile, url) for profile in self._members() for url in profile.storages]
        if len(found) > 1 or self.profile.group:
            return tuple(self._with(replace(profile, storages=(url,))) for profile, url in found)
        return (self,)

    @property
    def place(self) -> Settings:
        """The settings of the one storage.

        Raises:
            ConfigurationError: there are several.
        """
        if len(self.places) > 1:
            message = f"{len(self.places)} storages are given, and this needs one"
            raise ConfigurationError(message, hint="choose one with --storage or --profile")
        return self.places[0]

    def _members(self) -> list[Profile]:
        """The profiles that name storages."""
        found = []
        for profile in self.profiles:
            members = [self.config.profile(name) for name in profile.group] or [profile]
            if len(self.profiles) > 1 or profile.group:
                empty = [member.name for member in members if not member.storages]
                if empty:
                    raise ConfigurationError(f"profile {empty[0]!r} names no storage")
            found += members
        return found

    def _with(self, profile: Profile, *, storage: list[str] | None = None) -> Settings:
        options = argparse.Namespace(**{**vars(self.options), "storage": storage})
        return Settings(options, self.environ, only=profile)

    @property
    def storage(self) -> Setting:
        """The storage URL, the first of several; its value is ``None`` when nobody gave one."""
        given, configured = self.options.storage or [None], self.profile.storages or (None,)
        return self._pick(given[0], "--storage", "FREEZER_STORAGE", configured[0], None)

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

    def engine_options_of(self, engine: str) -> Mapping[str, Any]:
        """Options of the profile's engine; another engine has nothing to do with them."""
        return self.profile.engine_options if engine == (self.profile.engine or DEFAULT_ENGINE) else {}

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

    def password(self, *, twice: bool = False, prompt: str = "Repository password: ") -> Asker:
        """What asks for the password when it is needed."""
        return Asker(self.password_source, twice=twice, prompt=prompt)

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
