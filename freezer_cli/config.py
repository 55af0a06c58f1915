"""``freezer config``: what is in force, whether the file is right, and a file to start with."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from freezer_cli.base import Column, FreezerCommand, ListCommand
from freezer_cli.config_file import SAMPLE, ConfigFile, Profile, default_paths
from freezer_cli.documents import Document
from freezer_cli.plugin_options import MASK, has_secrets, without_password
from freezer_cli.settings import DEFAULT_MODE, Setting, Settings, parse_assignments
from freezer_cli.snapshot_options import AUTO, NONE, declared_options
from freezer_sdk.errors import ConfigurationError, PluginError

_SETTINGS = (Column("setting", "Setting"), Column("value", "Value"), Column("given_by", "Given by"))
_FINDINGS = (Column("severity", "Severity"), Column("message", "Message"))


class ShowConfig(ListCommand):
    """Show the settings in force, and who gave them. Secrets are not shown."""

    examples = ("freezer config show", "freezer config show --profile offsite -f json")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Resolves everything."""
        settings = self.settings
        profile, config = settings.profile, settings.config
        places = settings.places
        rows = [
            _row("config", str(config.path) if config.path else None, "file" if config.path else "default"),
            _row("profile", profile.name or None, "file" if profile.name else "default"),
            *_each("storage", [_shown(place.storage) for place in places]),
            *_each("password", [_password(place) for place in places]),
            _row("engine", settings.engine.value, settings.engine.given_by),
            *_each("upload-limit", _set([settings.upload_limit, *(place.upload_limit for place in places)])),
            *_each("download-limit", _set([settings.download_limit, *(place.download_limit for place in places)])),
        ]
        for each in {place.profile.name: place.profile for place in places}.values():
            for name in each.storage_options:
                rows.append(_row(f"storage-options.{name}", _masked(each, name), f"profile {each.name}"))
        title = f"profile {profile.name}"
        for name, value in parse_assignments(settings.options.storage_option).items():
            rows.append(_row(f"storage-options.{name}", value, "--storage-option"))
        tables = {
            "engine-options": profile.engine_options,
            "snapshot-options": _hidden(_snapshot_secrets(), profile.snapshot_options),
            "backup": profile.backup,
            "restore": profile.restore,
            "retention": profile.retention,
            "status": profile.status,
        }
        for table, values in tables.items():
            rows += [_row(f"{table}.{name}", value, title) for name, value in values.items()]
        hidden = _hidden(_mode_secrets(profile), profile.mode_options)
        rows += [_row(f"backup.{name}", value, title) for name, value in hidden.items()]
        return _SETTINGS, rows


class CheckConfig(ListCommand):
    """Check the configuration file: every key of every profile, also against the options of the plug-ins.

    Exits with 2 when something is wrong. Nothing is connected to."""

    examples = ("freezer config check", "freezer config check --config ./freezer.toml")

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[Sequence[Any], Iterable[Any]]:
        """Checks."""
        config = self.settings.config
        if config.path is None:
            where = " or ".join(str(path) for path in default_paths())
            return _FINDINGS, [_finding("info", f"there is no configuration file ({where})")]
        findings = [_finding("info", f"{config.path}: {len(config.profiles)} profiles")]
        if config.default_profile is not None and config.default_profile not in config.profiles:
            findings.append(_finding("error", f"profile {config.default_profile!r} does not exist"))
        for profile in config.profiles.values():
            findings += [_finding("error", message) for message in _wrong_options(profile)]
            findings += [_finding("error", message) for message in _wrong_group(profile, config)]
            findings += [_finding("error", message) for message in _wrong_retention(profile)]
            findings += [_finding("error", message) for message in _wrong_hooks(profile)]
            findings += [_finding("error", message) for message in _wrong_limits(profile)]
            if config.exposed and _any_secret(profile):
                findings.append(
                    _finding("warning", f"profile {profile.name} holds secrets and others can read the file: chmod 600")
                )
        if any(finding["severity"] == "error" for finding in findings):
            self.exit_code = ConfigurationError.exit_code
        return _FINDINGS, findings


class SampleConfig(FreezerCommand):
    """Print a configuration file to start with."""

    examples = ("freezer config sample > ~/.config/freezer/config.toml",)

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        """Prints."""
        self.app.stdout.write(SAMPLE)
        return 0


def _row(setting: str, value: Any, given_by: str) -> Document:
    return {"setting": setting, "value": value, "given_by": given_by}


def _each(setting: str, values: Iterable[Setting]) -> list[Document]:
    """A row for each value that somebody gave; the same is said once."""
    return [_row(setting, value, given_by) for value, given_by in dict.fromkeys((v.value, v.given_by) for v in values)]


def _shown(storage: Setting) -> Setting:
    return replace(storage, value=without_password(storage.value)) if storage.value else storage


def _password(settings: Settings) -> Setting:
    source = settings.password_source
    if source is None:
        return Setting(value="prompt", given_by="default")
    return Setting(value=source.kind, given_by=source.given_by)


def _set(limits: Sequence[Setting]) -> Sequence[Setting]:
    """Those that are set; one that says that none is, otherwise."""
    return [limit for limit in limits if limit.value is not None] or limits[:1]


def _finding(severity: str, message: str) -> Document:
    return {"severity": severity, "message": message}


def _masked(profile: Profile, name: str) -> Any:
    value = profile.storage_options[name]
    return MASK if _holds_secrets(profile, {name: value}) else value


def _holds_secrets(profile: Profile, options: Mapping[str, Any]) -> bool:
    return any(has_secrets(url, options) for url in profile.storages)


def _any_secret(profile: Profile) -> bool:
    return (
        _holds_secrets(profile, profile.storage_options)
        or any(name in _mode_secrets(profile) for name in profile.mode_options)
        or any(name in _snapshot_secrets() for name in profile.snapshot_options)
    )


def _hidden(secrets: Collection[str], values: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: MASK if name in secrets else value for name, value in values.items()}


def _mode_secrets(profile: Profile) -> Collection[str]:
    from freezer_sdk.plugins import MODE, PluginRegistry

    try:
        options = PluginRegistry().options(MODE, profile.backup.get("mode", DEFAULT_MODE))
    except PluginError:  # `freezer config check` says so
        return ()
    return {option.name for option in options if option.secret}


def _snapshot_secrets() -> Collection[str]:
    return {option.name for option in declared_options(None) if option.secret}


def _wrong_group(profile: Profile, config: ConfigFile) -> list[str]:
    wrong = []
    for name in profile.group:
        member = config.profiles.get(name)
        if member is None:
            wrong.append(f"profile {profile.name}: there is no profile {name!r} for its group")
        elif not member.storages:
            wrong.append(f"profile {profile.name}: profile {name!r} of its group names no storage")
    return wrong


def _wrong_hooks(profile: Profile) -> list[str]:
    from freezer_cli.hook_options import hooks_of

    wrong = []
    for table, values in (("backup", profile.backup), ("restore", profile.restore)):
        try:
            hooks_of(argparse.Namespace(), values)
        except ConfigurationError as error:
            wrong.append(f"profile {profile.name}: {table}: {error}")
    return wrong


def _wrong_limits(profile: Profile) -> list[str]:
    from freezer_cli.status import limits_of

    try:
        limits_of(argparse.Namespace(), profile.status)
    except ConfigurationError as error:
        return [f"profile {profile.name}: {error}"]
    return []


def _wrong_retention(profile: Profile) -> list[str]:
    from freezer_cli.backup.policy_options import policy_from

    try:
        policy_from(argparse.Namespace(), profile.retention, profile=profile.name)
    except ConfigurationError as error:
        return [str(error)]
    return []


def _wrong_options(profile: Profile) -> list[str]:
    """What the plug-ins would refuse."""
    from freezer_sdk.options import parse_duration, parse_size, validate
    from freezer_sdk.plugins import ENGINE, MODE, SNAPSHOT, STORAGE, PluginRegistry

    chosen: list[tuple[Any, str, Any]] = [
        *((STORAGE, url.partition(":")[0], profile.storage_options) for url in profile.storages),
        (ENGINE, profile.engine or "dedup", profile.engine_options),
        (MODE, profile.backup.get("mode", "fs"), profile.mode_options),
    ]
    provider = profile.backup.get("snapshot")
    if provider not in (None, AUTO, NONE):
        chosen.append((SNAPSHOT, provider, profile.snapshot_options))
    wrong = []
    if provider in (None, AUTO, NONE):
        known = {option.name for option in declared_options(None)}
        unknown = ", ".join(repr(name) for name in profile.snapshot_options if name not in known)
        wrong += [f"profile {profile.name}: no snapshot provider has the option {unknown}"] if unknown else []
    sizes: list[tuple[str, Any, Callable[[Any], Any]]] = [
        ("upload-limit", profile.upload_limit, parse_size),
        ("download-limit", profile.download_limit, parse_size),
        ("stall-timeout", profile.stall_timeout, parse_duration),
    ]
    for key, limit, parse in sizes:
        try:
            parse(limit or 0)
        except ConfigurationError as error:
            wrong.append(f"profile {profile.name}: {key}: {error}")
    for kind, name, values in chosen:
        try:
            options = PluginRegistry().options(kind, name)
            known = {option.name for option in options}
            given = [option for option in options if option.name in values]
            extra = {key: value for key, value in values.items() if key not in known}
            validate(
                given, {**{each.name: values[each.name] for each in given}, **extra}, owner=f"{kind.name} {name!r}"
            )
        except (ConfigurationError, PluginError) as error:
            wrong.append(f"profile {profile.name}: {error}")
    return wrong
