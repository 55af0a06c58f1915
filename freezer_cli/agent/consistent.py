"""Consistent data: what ``--snapshot``, the ``--lvm-...`` options and the modes of databases ask the library for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from freezer_cli.agent.ini import read_login
from freezer_cli.agent.settings import Settings
from freezer_sdk.errors import ConfigurationError

_ASKING = ("snapshot", "lvm_auto_snap", "lvm_srcvol", "lvm_volgroup", "lvm_dirmount", "lvm_snapname")
_NAMING = ("lvm_srcvol", "lvm_volgroup", "lvm_dirmount", "lvm_snapname")
_MONGO = ("uri", "host", "port", "user", "password", "auth_database", "tls", "tls_ca", "tls_certificate_key", "member")
_MOUNTS = Path("/proc/self/mounts")
_ESCAPED = re.compile(r"\\([0-7]{3})")

DATABASES = ("mysql", "mongo")
"""Modes of databases, which read their files from a snapshot."""


def wants_snapshot(settings: Settings) -> bool:
    """Whether the backup is to be made of a snapshot; an option that describes one asks for one."""
    return any(key in settings.given for key in _ASKING)


def snapshot_request(settings: Settings) -> dict[str, Any]:
    """Arguments of ``Freezer.backup``: LVM where its options are used, else whatever can make a snapshot."""
    if not wants_snapshot(settings):
        return {}
    values = settings.values
    options: dict[str, Any] = {"size": values["lvm_snapsize"], "permission": values["lvm_snap_perm"]}
    named = any(key in settings.given for key in _NAMING)
    if named:
        point = values["lvm_dirmount"]
        options |= {
            "source_volume": values["lvm_srcvol"],
            "volume_group": values["lvm_volgroup"],
            "snapshot_name": values["lvm_snapname"],
            "mount_point": os.path.abspath(os.path.expanduser(point)) if point else None,
        }
    given = {name: value for name, value in options.items() if value is not None}
    return {"snapshot": "lvm" if named else "auto", "snapshot_options": given}


def live_path(settings: Settings) -> str | None:
    """What is backed up, by the name that it has without a snapshot.

    The original's examples name a place below ``--lvm-dirmount``, where the snapshot is going to be mounted.

    Raises:
        ConfigurationError: its volume is not mounted.
    """
    path, point, volume = (settings.path, *(settings.values[key] for key in ("lvm_dirmount", "lvm_srcvol")))
    if path is None or not point or not volume:
        return path
    inside = os.path.relpath(path, os.path.abspath(os.path.expanduser(point)))
    if inside.split(os.sep)[0] == os.pardir:
        return path
    return os.path.normpath(os.path.join(_mounted_on(volume), inside))


def mode_options(settings: Settings, path: str | None) -> dict[str, Any]:
    """Options of the mode.

    Args:
        path: of the data, see :func:`live_path`.

    Raises:
        ConfigurationError: the path is no data directory, or a file with the login of a database makes no sense.
    """
    if settings.mode == "mysql":
        if path is not None and os.path.isdir(os.path.join(path, "mysql", "mysql")):
            raise ConfigurationError(f"{path} is not the data directory of MySQL", hint=f"name {path}/mysql")
        wanted = {"strategy": "snapshot", "defaults_file": settings.values["mysql_conf"], "data_directory": path}
    elif settings.mode == "mongo":
        file = settings.values["mongo_conf"]
        login = read_login(file, _MONGO) if file else {}
        wanted = {"strategy": "snapshot", "data_path": path, **login}
    else:
        tar = settings.engine == "tar"
        wanted = {"follow": settings.follow, "sync": settings.sync, "one_file_system": tar}
    return {name: value for name, value in wanted.items() if value is not None}


def check_consistent(settings: Settings) -> None:
    """Refuses what cannot give consistent data.

    Raises:
        ConfigurationError: a database without a snapshot, or a checksum of what goes on changing.
    """
    if settings.mode in DATABASES and not wants_snapshot(settings):
        raise ConfigurationError(
            f"--mode {settings.mode} backs up a snapshot of the volume with the database, and none is asked for",
            hint=f"add --snapshot; without a snapshot `freezer backup create --mode {settings.mode}` dumps databases",
        )
    if settings.consistency_check and wants_snapshot(settings):
        raise ConfigurationError(
            "--consistency-check reads files before there is a snapshot, and they may be others then",
            hint="leave it out: what is restored is checked anyway",
        )


def _mounted_on(volume: str) -> str:
    """Where a volume is mounted.

    Raises:
        ConfigurationError: it is not, or there is no such volume.
    """
    try:
        device = os.stat(volume).st_rdev
        lines = os.fsdecode(_MOUNTS.read_bytes()).split("\n")
    except OSError as error:
        raise ConfigurationError(f"--lvm-srcvol {volume}: {error.strerror}") from None
    for line in lines:
        source, _, rest = line.partition(" ")
        if source.startswith("/dev/") and os.path.exists(source) and os.stat(source).st_rdev == device:
            return _ESCAPED.sub(lambda found: chr(int(found[1], 8)), rest.partition(" ")[0])
    raise ConfigurationError(
        f"--lvm-srcvol {volume} is not mounted, so nothing of it can be named below --lvm-dirmount",
        hint="mount it, or give --path-to-backup as the path that its data have without a snapshot",
    )
