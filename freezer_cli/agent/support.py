"""What this version refuses, and what it accepts for the sake of old command lines."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from freezer_cli.agent.consistent import DATABASES, check_consistent
from freezer_cli.agent.declaration import OPTIONS
from freezer_cli.agent.settings import Settings
from freezer_sdk.errors import ConfigurationError

LOG = logging.getLogger("freezer")

_RESOURCES = {
    "nova_inst_id": "instances",
    "nova_inst_name": "instances",
    "cinder_vol_id": "volumes",
    "cinder_vol_name": "volumes",
    "cinderbrick_vol_id": "volumes",
    "cindernative_vol_id": "volumes",
    "cindernative_backup_id": "volumes",
    "glance_image_id": "images",
    "glance_image_name": "images",
    "glance_image_name_filter": "images",
}
_MODES = {
    "sqlserver": "have SQL Server write a backup of its own (BACKUP DATABASE ... TO DISK), and back up that directory "
    "with --mode fs",
    "nova": "until it is, keep an agent of the original for instances",
    "cinder": "until it is, keep an agent of the original for volumes",
    "cindernative": "until it is, keep an agent of the original for volumes",
    "glance": "until it is, keep an agent of the original for images",
}
_STOPPED = "sqlserver"
_ENGINES = {"nova": "instances", "osbrick": "volumes", "glance": "images"}
_REPLACED = {
    "remove_from_date": "use --remove-before-date",
    "lvm_auto_snap": "use --snapshot",
}


def check_support(settings: Settings) -> None:
    """Refuses what would not be done as the user expects; nothing is ignored in silence.

    Raises:
        ConfigurationError: this version has not what is asked for.
    """
    if settings.action == "exec":
        return
    _check_mode(settings)
    if settings.engine in _ENGINES:
        raise ConfigurationError(
            f"the engine {settings.engine}, for {_ENGINES[settings.engine]} of OpenStack, is not in this version",
            hint="tar and rsyncv2 are",
        )
    resource = next((key for key in _RESOURCES if key in settings.given), None)
    if resource is not None:
        raise ConfigurationError(
            f"--{resource.replace('_', '-')}: {_RESOURCES[resource]} of OpenStack are not in this version",
            hint="until they are, keep an agent of the original for them",
        )
    if settings.action == "backup":
        check_consistent(settings)


def _check_mode(settings: Settings) -> None:
    """Files and databases so far. Files of any database's backup can be restored, listed and removed as files."""
    mode = settings.mode
    if mode in ("fs", *DATABASES) or (mode == _STOPPED and settings.action != "backup"):
        return
    if mode not in _MODES:
        raise ConfigurationError(f"there is no mode {mode!r}", hint="fs backs up files and directories")
    what = "is not supported" if mode == _STOPPED else "is not in this version"
    raise ConfigurationError(f"the mode {mode} {what}", hint=_MODES[mode])


def warn_of_the_past(settings: Settings) -> None:
    """One warning for each option that has no effect, or a better successor."""
    for option in OPTIONS:
        if option.key not in settings.given:
            continue
        if option.instead:
            LOG.warning("--%s has no effect any more: %s", option.name, option.instead)
        elif option.key in _REPLACED:
            LOG.warning("--%s is an earlier name: %s", option.name, _REPLACED[option.key])
    for key, mode in (("mysql_conf", "mysql"), ("mongo_conf", "mongo"), ("sql_server_conf", _STOPPED)):
        if key in settings.given and settings.mode != mode:
            LOG.warning("--%s has no effect with --mode %s", key.replace("_", "-"), settings.mode)
    if settings.values["os_identity_api_version"] in ("2", "2.0"):
        LOG.warning("--os-identity-api-version: Keystone has no version 2 any more; 3 is taken")
    if settings.action == "backup" and settings.engine == "rsync":
        LOG.warning("the engine rsync now writes what rsyncv2 does; what it wrote before can be restored")
    if settings.levels.strategy == "full" and settings.given & {"max_level", "always_level", "restart_always_level"}:
        LOG.warning("increments are switched off, so level options have no effect")


def warn_of_secrets(command_line: Mapping[str, object]) -> None:
    """Passwords on the command line are for everybody to read."""
    for option in OPTIONS:
        if option.secret and command_line.get(option.key):
            LOG.warning("--%s: others can read command lines; an INI file can hold it (chmod 600)", option.name)
