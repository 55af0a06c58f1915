"""What one run is to do: the command line over INI files over defaults, as a frozen object."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from freezer_cli.agent.dates import Instant, parse_instant
from freezer_cli.agent.declaration import BY_KEY, OPTIONS
from freezer_cli.agent.ini import IniFile, read_default, read_directory, read_ini
from freezer_sdk.errors import ConfigurationError

_SYSTEM_LOGS = "/var/log/freezer-agent"
_LOG_NAME = "freezer-agent.log"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One storage, as the options name it.

    Attributes:
        name: of its section; empty for the only one.
        values: of the options of storages, by key; shown nowhere, because passwords are among them.
    """

    name: str
    storage: str
    container: str
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """For messages."""
        return f"{self.name} ({self.storage} {self.container})" if self.name else f"{self.storage} {self.container}"


@dataclass(frozen=True, kw_only=True)
class Levels:
    """Which level a backup gets; ``None``: no such rule."""

    strategy: str
    max_level: int | None = None
    always_level: int | None = None
    restart_always_level: float | None = None


@dataclass(frozen=True, kw_only=True)
class Removal:
    """Which backups are removed: those older than a time, or made before a moment."""

    older_than: timedelta | None = None
    before: Instant | None = None


@dataclass(frozen=True, kw_only=True)
class Logging:
    """Messages and the log.

    Attributes:
        file: ``None``: no file.
        facility: of syslog; ``None``: not there.
    """

    file: str | None
    debug: bool
    quiet: bool
    date_format: str | None
    facility: str | None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One run.

    Attributes:
        path: what is backed up, absolute.
        template: of the backup's name, as the original's agents put it into names of directories.
        host_given, name_given: the user named them.
        places: where to; several only from an INI file.
        target: where a restore puts things, absolute.
        at: what a restore brings back was made until then.
        timeout: seconds; ``None``: none.
        given: keys that have a value, from the command line or a file.
        values: of all options, by key; shown nowhere, because passwords are among them.
    """

    action: str
    path: str | None
    backup_name: str
    template: str
    name_given: bool
    hostname: str
    host_given: bool
    mode: str
    engine: str
    places: tuple[Place, ...]
    levels: Levels
    compression: str
    cipher: str
    exclude: str | None
    follow: str
    sync: bool
    password_file: str | None
    segment_size: int
    block_size: int
    target: str | None
    at: Instant | None
    overwrite: bool
    removal: Removal | None
    consistency_check: bool
    consistency_checksum: str | None
    upload_limit: int | None
    download_limit: int | None
    dry_run: bool
    metadata_out: str | None
    max_priority: bool
    command: str | None
    timeout: int | None
    logging: Logging
    given: frozenset[str]
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)


def load_settings(command_line: Mapping[str, Any]) -> Settings:
    """Everything that one run needs to know.

    Args:
        command_line: as :func:`freezer_cli.agent.parsing.parse` gives it.

    Raises:
        ConfigurationError: a file cannot be read, a value does not fit, or values contradict each other.
    """
    file = _files(command_line)
    given = {**file.values, **command_line}
    return _settings(given, _places(command_line, file, given))


def _files(command_line: Mapping[str, Any]) -> IniFile:
    """What the INI files say together; ``--config`` wins."""
    found = [read_default(path) for path in _usual_files()] if "config_file" not in command_line else []
    for key, read in (("config_file", read_default), ("config_dir", read_directory), ("config", read_ini)):
        if command_line.get(key):
            found.append(read(command_line[key]))
    storages = found[-1].storages if found else {}
    return IniFile(values={key: value for each in found for key, value in each.values.items()}, storages=storages)


def _usual_files() -> Iterator[str]:
    """Where the original's configuration library looks when ``--config-file`` is not given."""
    home = os.path.expanduser("~")
    for name in ("freezer.conf", "freezer-agent.conf"):
        places = (os.path.join(folder, name) for folder in (f"{home}/.freezer", home, "/etc/freezer", "/etc"))
        first = next((place for place in places if os.path.isfile(place)), None)
        if first is not None:
            yield first


def _places(command_line: Mapping[str, Any], file: IniFile, given: Mapping[str, Any]) -> tuple[Place, ...]:
    """The storages of the file, unless the command line names one."""
    if not file.storages or "storage" in command_line or "container" in command_line:
        return (_place("", given),)
    over = {key: value for key, value in command_line.items() if BY_KEY[key].place}
    places = []
    for name, section in file.storages.items():
        for key in ("storage", "container"):
            if not section.get(key):
                raise ConfigurationError(f"[storage:{name}] does not say its {key}")
        places.append(_place(name, {**given, **section, **over}))
    return tuple(places)


def _place(name: str, given: Mapping[str, Any]) -> Place:
    values = {option.key: _value(given, option.key) for option in OPTIONS if option.place}
    values["ssh_port"] = given.get("ssh_port")  # an SSH configuration may know another one
    values["ftp_port"] = given.get("ftp_port")
    return Place(name=name, storage=values["storage"], container=values["container"], values=values)


def _value(given: Mapping[str, Any], key: str) -> Any:
    value = given.get(key)
    return BY_KEY[key].default if value in (None, "") else value


def _settings(given: Mapping[str, Any], places: tuple[Place, ...]) -> Settings:
    values = {option.key: _value(given, option.key) for option in OPTIONS}
    hostname = values["hostname"] or socket.gethostname()
    template = values["backup_name"]
    at = values["restore_from_date"]
    return Settings(
        action=values["action"],
        path=_path(values["path_to_backup"]),
        backup_name=_expanded(template, values, hostname),
        template=template,
        name_given=bool(given.get("backup_name")),
        hostname=hostname,
        host_given=bool(given.get("hostname")),
        mode=values["mode"],
        engine=values["engine"],
        places=places,
        levels=_levels(given, values),
        compression=values["compression"],
        cipher=values["cipher"],
        exclude=values["exclude"],
        follow=values["dereference_symlink"] or "none",
        sync=values["sync"],
        password_file=values["encrypt_pass_file"],
        segment_size=values["max_segment_size"],
        block_size=values["rsync_block_size"],
        target=_path(values["restore_abs_path"]),
        at=parse_instant(at, "restore-from-date") if at else None,
        overwrite=values["overwrite"],
        removal=_removal(values),
        consistency_check=values["consistency_check"],
        consistency_checksum=values["consistency_checksum"],
        upload_limit=values["upload_limit"],
        download_limit=values["download_limit"],
        dry_run=values["dry_run"],
        metadata_out=values["metadata_out"],
        max_priority=values["max_priority"],
        command=values["command"],
        timeout=values["timeout"] or None,
        logging=_logging(values),
        given=frozenset(key for key, value in given.items() if value not in (None, "", False)),
        values=values,
    )


def _path(text: str | None) -> str | None:
    return os.path.abspath(os.path.expanduser(text)) if text else None


def _expanded(template: str, values: Mapping[str, Any], hostname: str) -> str:
    """The name with its variables filled in; one that is no template is taken as it is."""
    known = {
        "mode": values["mode"],
        "backup_media": "fs",
        "storage": values["storage"],
        "container": values["container"],
        "project_id": values["project_id"] or "",
        "resource_id": hostname,
    }
    try:
        return template.format(**known)
    except (KeyError, ValueError, IndexError, AttributeError):
        return template


def _levels(given: Mapping[str, Any], values: Mapping[str, Any]) -> Levels:
    """As the agents since 19 do: full, unless increments are asked for; a level option asks for them, too."""
    rules = (values["max_level"], values["always_level"], values["restart_always_level"])
    wanted = given.get("incremental")
    if wanted is False or not (wanted or any(rules)):
        return Levels(strategy="full")
    return Levels(
        strategy="incremental",
        max_level=None if values["always_level"] else values["max_level"] or None,
        always_level=values["always_level"] or None,
        restart_always_level=values["restart_always_level"] or None,
    )


def _removal(values: Mapping[str, Any]) -> Removal | None:
    names = ("remove_older_than", "remove_before_date", "remove_from_date")
    given = [name for name in names if values[name] is not None]
    if not given:
        return None
    if len(given) > 1:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigurationError(f"only one of {options} can be given")
    value, option = values[given[0]], given[0].replace("_", "-")
    if given[0] == "remove_older_than":
        return Removal(older_than=timedelta(days=value))
    return Removal(before=parse_instant(value, option))


def _logging(values: Mapping[str, Any]) -> Logging:
    file = values["log_file"]
    folder = values["log_dir"]
    if file is not None:
        file = os.path.join(folder or "", file)
    elif folder is not None:
        file = os.path.join(folder, _LOG_NAME)
    return Logging(
        file=_path(file) or _usual_log(),
        debug=values["debug"],
        quiet=values["quiet"],
        date_format=values["log_date_format"],
        facility=values["syslog_log_facility"] if values["use_syslog"] else None,
    )


def _usual_log() -> str:
    """Where the original's agent logs to, where its directory is there; else the user's own."""
    if os.access(_SYSTEM_LOGS, os.W_OK):
        return os.path.join(_SYSTEM_LOGS, _LOG_NAME)
    return os.path.join(os.path.expanduser("~"), ".freezer", "freezer.log")


def until(instant: Instant) -> datetime:
    """The last moment of the second that a date names: names of backups have whole seconds."""
    moment = instant.moment
    return moment if moment.microsecond else moment.replace(microsecond=999_999)
