"""The TOML configuration file with its profiles. ``docs/reference/configuration.md`` describes every key."""

from __future__ import annotations

import difflib
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freezer_cli.hook_options import HOOK_KEYS
from freezer_sdk.errors import ConfigurationError

FILE_NAME = "config.toml"
DEFAULT_PROFILE = "default"

SAMPLE = """\
# Freezer configuration. Keys are spelled like the options of the command line, without the dashes in front.
# Order of precedence: command line, environment, profile, built-in default.

profile = "default"                             # used when neither --profile nor FREEZER_PROFILE names one

[profiles.default]
storage = "local:/srv/backups"
password-file = "/etc/freezer/password"         # first line; readable by its owner only
# password-command = "pass show freezer"        # run without a shell; a list of arguments works as well
# keyring = true                                # ask the desktop's keyring (needs freezer-sdk[keyring])
# engine = "dedup"
# upload-limit = "5M"                           # bytes a second, all storages together; download-limit as well

# stall-timeout = "5m"                          # with several storages: when one of them is left out of a run

# [profiles.default.storage-options]            # `freezer plugin show local` lists them
# upload-limit = "1M"                           # of this storage alone
# retry-time = "15m"                            # how long a call that fails for a while is repeated
# [profiles.default.engine-options]             # `freezer plugin show dedup` lists them
# pack-size = "32M"
# [profiles.default.snapshot-options]           # `freezer plugin show lvm` lists them
# size = "20%ORIGIN"

[profiles.default.backup]                       # defaults of `freezer backup create`
paths = ["/etc", "/home"]
name = "system"
tag = ["daily"]
exclude = ["*.tmp", "/home/*/.cache"]           # any option of the mode may stand here too
# mode = "fs"
# snapshot = "auto"                             # read from volume snapshots; `freezer snapshot probe PATH` tries
# nice = 10
# ionice = "idle"
# pre-command = "systemctl stop wiki"           # no shell; a list of arguments works as well
# post-command = "systemctl start wiki"         # runs in any case; on-failure-command and hook-timeout as well

[profiles.default.retention]                    # rules of `freezer backup forget`
keep-daily = 7
keep-weekly = 5
keep-monthly = 12
# keep-within = "14d"
# keep-tag = ["release"]

# [profiles.default.status]                     # limits of `freezer status`
# max-age = "26h"
# drill-max-age = "30d"
# expect = ["system"]                           # names that must have backups

# [profiles.offsite]
# storage = "local:/mnt/usb/backups"

# [profiles.both]                               # backs up to the storages of other profiles at once
# group = ["default", "offsite"]
"""

_TOP: Mapping[str, type] = {"profile": str, "profiles": dict}
_PROFILE: Mapping[str, type | tuple[type, ...]] = {
    "storage": (str, list),
    "group": list,
    "stall-timeout": (str, int),
    "password-file": str,
    "password-command": (str, list),
    "keyring": bool,
    "engine": str,
    "upload-limit": (str, int),
    "download-limit": (str, int),
    "storage-options": dict,
    "engine-options": dict,
    "snapshot-options": dict,
    "backup": dict,
    "restore": dict,
    "retention": dict,
    "status": dict,
}
_BACKUP: Mapping[str, type | tuple[type, ...]] = {
    "paths": (str, list),
    "name": str,
    "host": str,
    "tag": (str, list),
    "exclude": (str, list),
    "mode": str,
    "snapshot": str,
    "nice": int,
    "ionice": str,
    **HOOK_KEYS,
}
_STATUS: Mapping[str, type | tuple[type, ...]] = {"max-age": str, "drill-max-age": str, "expect": (str, list)}
_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_RETENTION: Mapping[str, type | tuple[type, ...]] = {
    **{f"keep-{name}": int for name in ("last", *_PERIODS)},
    **{f"keep-{name}": str for name in ("within", *(f"within-{name}" for name in _PERIODS))},
    "keep-tag": (str, list),
    "older-than": str,
    "group-by": (str, list),
    "floor": str,
    "max-share": (str, int),
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One ``[profiles.NAME]`` table.

    Attributes:
        storages: URLs; one, unless it backs up to several at once.
        group: names of profiles whose storages are meant, in place of storages of its own.
        backup: defaults of ``backup create`` that every mode has, by key of the file.
        snapshot_options: of the snapshot provider that ``backup`` names, in snake_case.
        mode_options: the rest of the ``backup`` table, names in snake_case.
        restore: defaults of ``backup restore``, by key of the file.
        retention: rules of ``backup forget``, by key of the file.
        status: limits of ``status``, by key of the file.
    """

    name: str
    storages: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    stall_timeout: str | int | None = None
    password_file: str | None = None
    password_command: str | tuple[str, ...] | None = None
    keyring: bool = False
    engine: str | None = None
    upload_limit: str | int | None = None
    download_limit: str | int | None = None
    storage_options: Mapping[str, Any] = field(default_factory=dict)
    engine_options: Mapping[str, Any] = field(default_factory=dict)
    snapshot_options: Mapping[str, Any] = field(default_factory=dict)
    backup: Mapping[str, Any] = field(default_factory=dict)
    mode_options: Mapping[str, Any] = field(default_factory=dict)
    restore: Mapping[str, Any] = field(default_factory=dict)
    retention: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ConfigFile:
    """A configuration file that was read, or the absence of one (``path`` is ``None``)."""

    path: Path | None = None
    default_profile: str | None = None
    profiles: Mapping[str, Profile] = field(default_factory=dict)

    def profile(self, name: str | None) -> Profile:
        """The profile of that name; without a name: the file's default, or an empty one.

        Raises:
            ConfigurationError: there is no such profile.
        """
        wanted = name or self.default_profile
        if wanted is None:
            return self.profiles.get(DEFAULT_PROFILE, Profile(name=""))
        if wanted in self.profiles:
            return self.profiles[wanted]
        if self.path is None:
            raise ConfigurationError(
                f"there is no profile {wanted!r}: no configuration file was found",
                hint="`freezer config sample` prints one to start with",
            )
        known = ", ".join(sorted(self.profiles)) or "none"
        raise ConfigurationError(f"{self.path}: there is no profile {wanted!r}", hint=f"profiles in it: {known}")

    @property
    def exposed(self) -> bool:
        """Others than the owner may read it."""
        if self.path is None or os.name != "posix":
            return False
        try:
            return bool(stat.S_IMODE(self.path.stat().st_mode) & 0o077)
        except OSError:
            return False


def default_paths() -> list[Path]:
    """Where a configuration file is looked for, in this order."""
    from platformdirs import PlatformDirs

    directories = PlatformDirs("freezer", appauthor=False)
    return [directories.user_config_path / FILE_NAME, directories.site_config_path / FILE_NAME]


def load_config(path: str | None) -> ConfigFile:
    """Reads the configuration.

    Args:
        path: a file that must exist; ``None``: the first of :func:`default_paths` that exists, or none.

    Raises:
        ConfigurationError: unreadable, not TOML (with line and column), unknown or wrong keys (all of them).
    """
    if path is not None:
        return parse_config(Path(path).expanduser())
    for candidate in default_paths():
        if candidate.is_file():
            return parse_config(candidate)
    return ConfigFile()


def parse_config(path: Path) -> ConfigFile:
    """Reads one file; see :func:`load_config`."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: the file is not UTF-8 text") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: its values are nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: {error}", hint="`freezer config sample` prints a valid file") from None
    wrong: list[str] = []
    _check(document, _TOP, "", wrong)
    tables = document.get("profiles", {})
    profiles = {name: _profile(name, table, wrong) for name, table in tables.items()} if _is_table(tables) else {}
    if wrong:
        raise ConfigurationError(f"{path}: {'; '.join(wrong)}", hint="`freezer config sample` prints a valid file")
    return ConfigFile(path=path, default_profile=document.get("profile"), profiles=profiles)


def _profile(name: str, table: Any, wrong: list[str]) -> Profile:
    where = f"profiles.{name}"
    if not _is_table(table):
        wrong.append(f"{where} is not a table")
        return Profile(name=name)
    _check(table, _PROFILE, where, wrong)
    if table.get("group") and table.get("storage"):
        wrong.append(f"{where} has both storage and group")
    backup = table.get("backup", {})
    backup = backup if _is_table(backup) else {}
    _check({key: value for key, value in backup.items() if key in _BACKUP}, _BACKUP, f"{where}.backup", wrong)
    others: dict[str, Mapping[str, Any]] = {}
    for part, known in (("restore", HOOK_KEYS), ("retention", _RETENTION), ("status", _STATUS)):
        found = table.get(part, {})
        others[part] = found if _is_table(found) else {}
        _check(others[part], known, f"{where}.{part}", wrong)
    command = table.get("password-command")
    return Profile(
        name=name,
        storages=_texts(table.get("storage")),
        group=_texts(table.get("group")),
        stall_timeout=table.get("stall-timeout"),
        password_file=table.get("password-file"),
        password_command=tuple(str(part) for part in command) if isinstance(command, list) else command,
        keyring=table.get("keyring") is True,
        engine=table.get("engine"),
        upload_limit=table.get("upload-limit"),
        download_limit=table.get("download-limit"),
        storage_options=snake_keys(table.get("storage-options", {})),
        engine_options=snake_keys(table.get("engine-options", {})),
        snapshot_options=snake_keys(table.get("snapshot-options", {})),
        backup={key: value for key, value in backup.items() if key in _BACKUP},
        mode_options=snake_keys({key: value for key, value in backup.items() if key not in _BACKUP}),
        **others,
    )


def _texts(value: Any) -> tuple[str, ...]:
    """A key that takes one text or a list of them; what is wrong with it was noted."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()


def snake_keys(table: Any) -> dict[str, Any]:
    """``pack-size`` -> ``pack_size`` in the keys of a table."""
    return {key.replace("-", "_"): value for key, value in table.items()} if _is_table(table) else {}


def _check(
    table: Mapping[str, Any], known: Mapping[str, type | tuple[type, ...]], where: str, wrong: list[str]
) -> None:
    for key, value in table.items():
        title = f"{where}.{key}" if where else key
        if key not in known:
            wrong.append(f"unknown key {title}{did_you_mean(key, known)}")
        elif not isinstance(value, known[key]) or (isinstance(value, bool) and known[key] is not bool):
            wrong.append(f"{title} must be {_describe(known[key])}")
        elif isinstance(value, list) and not all(isinstance(item, str) for item in value):
            wrong.append(f"{title} must be a list of texts")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``" (did you mean X?)"``, or nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _describe(types: type | tuple[type, ...]) -> str:
    names = {str: "a text", list: "a list of texts", dict: "a table", bool: "true or false", int: "a whole number"}
    return " or ".join(names[each] for each in (types if isinstance(types, tuple) else (types,)))


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)
