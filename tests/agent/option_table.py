"""Every option of the original as a table: spellings, INI lines, what it is for, its value and its default."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from freezer_cli.agent.places import storage_of
from freezer_cli.agent.settings import Settings


@dataclass(frozen=True)
class Row:
    """One option.

    Attributes:
        lines: spellings on the command line; all mean the same.
        ini: lines of an INI file that mean the same, too.
        read: finds in the settings what it is for.
        value: what that is then.
        default: what it is when nobody says anything.
    """

    key: str
    lines: tuple[str, ...]
    ini: tuple[str, ...]
    read: Callable[[Settings], Any]
    value: Any
    default: Any


def place_value(key: str) -> Callable[[Settings], Any]:
    return lambda settings: settings.places[0].values[key]


def storage(kind: str, option: str, **values: str) -> Callable[[Settings], Any]:
    """What a storage of the library is given."""

    def read(settings: Settings) -> Any:
        place = settings.places[0]
        filled = {**place.values, **{key: value for key, value in values.items() if not place.values[key]}}
        chosen = type(place)(name="", storage=kind, container="box/sub", values=filled)
        url, options = storage_of(chosen, settings.segment_size, {})
        return {"url": url, **options}.get(option)

    return read


def value_of(key: str) -> Callable[[Settings], Any]:
    return lambda settings: settings.values[key]


def text(key: str, *, read: Callable[[Settings], Any] | None = None, default: Any = None, value: str = "some") -> Row:
    """An option that takes a text, with no other spelling."""
    name = key.replace("_", "-")
    lines = (f"--{name} {value}", f"--{name}={value}", f"--{key} {value}")
    return Row(key, lines, (f"{key} = {value}", f"{name} = {value}"), read or value_of(key), value, default)


def switch(key: str, read: Callable[[Settings], Any], *, default: bool = False) -> Row:
    """An option that is on or off."""
    name = key.replace("_", "-")
    if default:
        lines: tuple[str, ...] = (f"--no{name}", f"--no-{name}", f"--{name} --no{name}")
        ini: tuple[str, ...] = (f"{key} = False", f"{key} = no", f"no{key} = True", f"no_{key} = true")
    else:
        lines = (f"--{name}", f"--no{name} --{name}", f"--{key}")
        ini = (f"{key} = True", f"{name} = true", f"{key} = 1", f"{key} = yes", f"no{key} = False")
    return Row(key, lines, ini, read, not default, default)


def wish(key: str, *more: str) -> Row:
    name = key.replace("_", "-")
    lines = (*more, f"--{name}", f"--{name} yes", f"--{name} whatever")
    return Row(key, lines, (f"{key} = True", f"{name} = whatever"), value_of(key), True, False)


SSH = {"ssh_host": "host"}
FTP = {"ftp_host": "host"}
ROWS = [
    Row("action", ("--action admin",), ("action = admin",), lambda s: s.action, "admin", "backup"),
    Row(
        "path_to_backup",
        ("-F /data", "-F/data", "--path-to-backup /data", "--file-to-backup /data", "--path-to-backup=/data/"),
        ("path_to_backup = /data", "path-to-backup = /data/", "file_to_backup = /data", "src_file = /data"),
        lambda s: s.path,
        "/data",
        None,
    ),
    Row(
        "backup_name",
        ("-N web", "--backup-name web", "--backup_name web"),
        ("backup_name = web",),
        lambda s: s.backup_name,
        "web",
        f"freezer_fs_{os.uname().nodename}",
    ),
    Row(
        "hostname",
        ("--hostname node1", "--restore-from-host node1"),
        ("hostname = node1", "restore_from_host = node1"),
        lambda s: s.hostname,
        "node1",
        os.uname().nodename,
    ),
    Row("mode", ("-m mysql", "--mode mysql"), ("mode = mysql",), lambda s: s.mode, "mysql", "fs"),
    text("command", read=lambda s: s.command),
    Row("timeout", ("--timeout 7",), ("timeout = 7",), lambda s: s.timeout, 7, None),
    switch("dry_run", lambda s: s.dry_run),
    text("metadata_out", read=lambda s: s.metadata_out, value="-"),
    text("backup_id"),
    switch("incremental", lambda s: s.levels.strategy == "incremental"),
    Row(
        "max_level",
        ("--max-level 3", "--incremental --max-level 3"),
        ("max_level = 3", "max-level = 3", "max_backup_level = 3"),
        lambda s: (s.levels.strategy, s.levels.max_level),
        ("incremental", 3),
        ("full", None),
    ),
    Row(
        "always_level",
        ("--always-level 2", "--always-level 2 --max-level 5"),
        ("always_level = 2", "always_backup_level = 2"),
        lambda s: (s.levels.strategy, s.levels.always_level, s.levels.max_level),
        ("incremental", 2, None),
        ("full", None, None),
    ),
    Row(
        "restart_always_level",
        ("--restart-always-level 1.5",),
        ("restart_always_level = 1.5", "restart_always_backup = 1.5"),
        lambda s: s.levels.restart_always_level,
        1.5,
        None,
    ),
    Row(
        "remove_older_than",
        ("-R 30", "--remove-older-than 30", "--remove-older-then 30.0"),
        ("remove_older_than = 30", "remove_older_then = 30"),
        lambda s: s.removal and s.removal.older_than,
        timedelta(days=30),
        None,
    ),
    *(
        Row(
            key,
            (f"--{key.replace('_', '-')} 2016-07-11T00:00:00+02:00",),
            (f"{key} = 2016-07-11T00:00:00+02:00",),
            lambda s: s.removal and s.removal.before.moment.isoformat(),
            "2016-07-11T00:00:00+02:00",
            None,
        )
        for key in ("remove_before_date", "remove_from_date")
    ),
    Row(
        "restore_abs_path",
        ("--restore-abs-path /out", "--restore-abs-pat /out", "--restore-abs-path=/out/"),
        ("restore_abs_path = /out",),
        lambda s: s.target,
        "/out",
        None,
    ),
    Row(
        "restore_from_date",
        ("--restore-from-date 2014-05-23T23:23:23Z",),
        ("restore_from_date = 2014-05-23T23:23:23+00:00",),
        lambda s: s.at and s.at.moment.isoformat(),
        "2014-05-23T23:23:23+00:00",
        None,
    ),
    switch("overwrite", lambda s: s.overwrite),
    switch("consistency_check", lambda s: s.consistency_check),
    text("consistency_checksum", read=lambda s: s.consistency_checksum),
    Row(
        "engine",
        ("-e rsyncv2", "--engine rsyncv2"),
        ("engine = rsyncv2", "engine_name = rsyncv2"),
        lambda s: s.engine,
        "rsyncv2",
        "tar",
    ),
    text("compression", read=lambda s: s.compression, value="xz", default="gzip"),
    text("cipher", read=lambda s: s.cipher, value="openssl", default="auto"),
    text("encrypt_pass_file", read=lambda s: s.password_file),
    text("exclude", read=lambda s: s.exclude, value="*.log"),
    text("dereference_symlink", read=lambda s: s.follow, value="soft", default="none"),
    Row(
        "max_segment_size",
        ("-M 67108864", "--max-segment-size 67108864", "--max-seg-size 67108864"),
        ("max_segment_size = 67108864", "max_seg_size = 67108864"),
        lambda s: s.segment_size,
        64 << 20,
        32 << 20,
    ),
    Row(
        "rsync_block_size",
        ("--rsync-block-size 8192",),
        ("rsync_block_size = 8192",),
        lambda s: s.block_size,
        8192,
        4096,
    ),
    switch("sync", lambda s: s.sync, default=True),
    text("storage", read=lambda s: s.places[0].storage, value="local", default="swift"),
    Row(
        "container",
        ("-C box", "--container box"),
        ("container = box",),
        lambda s: s.places[0].container,
        "box",
        "freezer_backups",
    ),
    text("osrc", read=storage("swift", "osrc")),
    text("proxy", read=storage("swift", "proxy"), value="http://proxy:3128"),
    switch("insecure", lambda s: bool(storage("swift", "os_insecure")(s) and storage("s3", "insecure")(s))),
    Row(
        "upload_limit",
        ("--upload-limit 10K", "--upload-limit 10240"),
        ("upload_limit = 10K", "upload-limit = 10240"),
        lambda s: s.upload_limit,
        10240,
        None,
    ),
    Row(
        "download_limit",
        ("--download-limit 120M", "--download-limit 125829120"),
        ("download_limit = 120M",),
        lambda s: s.download_limit,
        120 << 20,
        None,
    ),
    Row(
        "os_identity_api_version",
        ("--os-identity-api-version 1", "--os-auth-ver 1"),
        ("os_identity_api_version = 1", "os_auth_ver = 1"),
        storage("swift", "os_identity_api_version"),
        "1",
        None,
    ),
    text("os_trust_id", read=storage("swift", "os_trust_id")),
    Row(
        "ssh_host",
        ("--ssh-host 8.8.8.8",),
        ("ssh_host = 8.8.8.8",),
        storage("ssh", "url", ssh_host="unknown"),
        "ssh://8.8.8.8/~/box/sub",
        "ssh://unknown/~/box/sub",
    ),
    Row("ssh_port", ("--ssh-port 2222",), ("ssh_port = 2222",), storage("ssh", "port", **SSH), 2222, None),
    text("ssh_username", read=storage("ssh", "user", **SSH)),
    text("ssh_key", read=storage("ssh", "identity_file", **SSH), value="/keys/id_rsa"),
    text("ssh_password", read=storage("ssh", "password", **SSH)),
    Row(
        "ftp_host",
        ("--ftp-host ftp.example.org",),
        ("ftp_host = ftp.example.org",),
        storage("ftp", "url", ftp_host="unknown"),
        "ftp://ftp.example.org/box/sub",
        "ftp://unknown/box/sub",
    ),
    Row("ftp_port", ("--ftp-port 2121",), ("ftp_port = 2121",), storage("ftp", "port", **FTP), 2121, None),
    text("ftp_username", read=storage("ftps", "user", **FTP)),
    text("ftp_password", read=storage("ftps", "password", **FTP)),
    text("access_key", read=storage("s3", "access_key")),
    text("secret_key", read=storage("s3", "secret_key")),
    text("endpoint", read=storage("s3", "endpoint")),
    wish("max_priority"),
    Row("quiet", ("-q", "--quiet"), ("quiet = True",), lambda s: s.logging.quiet, True, False),
    Row("debug", ("-d", "--debug"), ("debug = True",), lambda s: s.logging.debug, True, False),
    Row(
        "log_file",
        ("--log-file /var/log/x.log", "--logfile /var/log/x.log", "--log-dir /var/log --log-file x.log"),
        ("log_file = /var/log/x.log",),
        lambda s: s.logging.file == "/var/log/x.log",
        True,
        False,
    ),
    Row(
        "log_dir",
        ("--log-dir /logs", "--logdir /logs"),
        ("log_dir = /logs",),
        lambda s: s.logging.file == "/logs/freezer-agent.log",
        True,
        False,
    ),
    text("log_date_format", read=lambda s: s.logging.date_format, value="%s"),
    Row("use_syslog", ("--use-syslog",), ("use_syslog = True",), lambda s: s.logging.facility, "user", None),
    Row(
        "syslog_log_facility",
        ("--use-syslog --syslog-log-facility daemon",),
        ("syslog_log_facility = daemon",),
        value_of("syslog_log_facility"),
        "daemon",
        "user",
    ),
    wish("snapshot", "-s"),
    wish("lvm_auto_snap"),
    text("lvm_srcvol"),
    text("lvm_volgroup"),
    text("lvm_dirmount"),
    text("lvm_snapname"),
    Row(
        "lvm_snap_perm",
        ("--lvm-snap-perm rw", "--lvm-snapperm rw"),
        ("lvm_snap_perm = rw", "lvm_snapperm = rw"),
        value_of("lvm_snap_perm"),
        "rw",
        "ro",
    ),
    text("lvm_snapsize", value="80%FREE", default="1G"),
    text("mysql_conf"),
    text("mongo_conf"),
    text("sql_server_conf"),
    *(text(key) for key in ("nova_inst_id", "nova_inst_name", "nova_restore_network")),
    Row(
        "cinder_vol_id",
        ("--cinder-vol-id 3ad7", "--cinder-inst-id 3ad7"),
        ("cinder_vol_id = 3ad7",),
        value_of("cinder_vol_id"),
        "3ad7",
        None,
    ),
    *(text(key) for key in ("cinder_vol_name", "cinderbrick_vol_id", "cindernative_vol_id", "cindernative_backup_id")),
    *(text(key) for key in ("cindernative_backup_az", "cindernative_backup_container")),
    switch("cindernative_freezer_only", value_of("cindernative_freezer_only"), default=True),
    Row(
        "fullbackup_rotation",
        ("--fullbackup-rotation 3",),
        ("fullbackup_rotation = 3",),
        value_of("fullbackup_rotation"),
        3,
        1,
    ),
    *(text(key) for key in ("glance_image_id", "glance_image_name", "glance_image_name_filter", "project_id")),
    text("temp_resource_prefix", default="freezer_"),
]
TOLD_OF = {  # no value of the run, but a warning
    "list_containers": ("-L", "--list-containers"),
    "list_objects": ("-l", "--list-objects"),
    "ftp_keyfile": ("--ftp-keyfile k",),
    "ftp_certfile": ("--ftp-certfile c",),
    "volume": ("--volume C:",),
    "log_config_append": ("--log-config-append f", "--log-config f"),
    "use_journal": ("--use-journal",),
    "use_json": ("--use-json",),
    "verbose": ("-v", "--verbose"),
}
FILES = {"config", "config_file", "config_dir"}
