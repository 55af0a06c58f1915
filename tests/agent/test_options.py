"""Every option of the original: how it may be spelled, what it takes in an INI file, its default and what it means."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from agent.program import Agent

from freezer_cli.agent.declaration import OPTIONS
from freezer_cli.agent.parsing import parse
from freezer_cli.agent.places import storage_of
from freezer_cli.agent.settings import Settings, load_settings
from freezer_cli.agent.support import check_support, warn_of_the_past
from freezer_sdk.errors import ConfigurationError


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


HERE = os.path.abspath("/")
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
    text("ssh_key", read=storage("ssh", "identity_file", **SSH), value="/root/.ssh/id_rsa"),
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


def settings_of(line: str = "", ini: str = "", folder: Path | None = None) -> Settings:
    given = parse(line.split(), program="freezer-agent", version="0")
    if ini:
        assert folder is not None
        file = folder / "job.ini"
        file.write_text(f"[default]\n{ini}\n")
        file.chmod(0o600)
        given["config"] = str(file)
    return load_settings(given)


def test_every_option_is_tested() -> None:
    assert {row.key for row in ROWS} | set(TOLD_OF) | FILES == {option.key for option in OPTIONS}


@pytest.mark.parametrize(
    ("row", "line"), [(row, line) for row in ROWS for line in row.lines], ids=lambda x: str(x)[:40]
)
def test_command_line(row: Row, line: str) -> None:
    assert row.read(settings_of(line)) == row.value


@pytest.mark.parametrize(("row", "ini"), [(row, ini) for row in ROWS for ini in row.ini], ids=lambda x: str(x)[:40])
def test_ini(row: Row, ini: str, tmp_path: Path) -> None:
    assert row.read(settings_of(ini=ini, folder=tmp_path)) == row.value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_default(row: Row) -> None:
    assert row.read(settings_of()) == row.default


@pytest.mark.parametrize(("key", "line"), [(key, line) for key, lines in TOLD_OF.items() for line in lines])
def test_the_past_is_accepted_with_one_warning(key: str, line: str, warnings_of: Callable[[], list[str]]) -> None:
    settings = settings_of(line)
    check_support(settings)
    warn_of_the_past(settings)
    (told,) = warnings_of()
    assert told.startswith(f"--{key.replace('_', '-')} ")
    assert "use " in told or "`" in told or "--" in told[2:]


REFUSED: Mapping[str, str] = {
    "--mode mysql --path-to-backup /x": "mysql",
    "--mode mongo --path-to-backup /x": "mongo",
    "--mode nova --nova-inst-id 3ad7": "nova",
    "--mode cinder --cinder-vol-id 3ad7": "cinder",
    "--mode cindernative --cindernative-vol-id 3ad7": "cindernative",
    "--mode glance --glance-image-id 3ad7": "glance",
    "--mode nothing": "nothing",
    "--mode sqlserver --path-to-backup /x": "BACKUP DATABASE",
    "--nova-inst-id 3ad7": "--nova-inst-id",
    "--action restore --cindernative-vol-id 3ad7": "--cindernative-vol-id",
    "--action restore --nova-inst-id 3ad7": "instances",
    "--engine nova": "nova",
    "--engine osbrick": "osbrick",
    "--engine glance": "glance",
    "--snapshot --path-to-backup /x": "--snapshot",
    "-s --path-to-backup /x": "--snapshot",
    "--lvm-srcvol /dev/vg/lv": "--lvm-srcvol",
    "--lvm-volgroup vg": "--lvm-volgroup",
    "--lvm-dirmount /mnt": "--lvm-dirmount",
    "--lvm-auto-snap /mnt": "--lvm-auto-snap",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_not_there_is_a_usage_error(agent: Agent, line: str) -> None:
    result = agent(*line.split(), code=2)
    assert REFUSED[line] in result.err
    assert "hint:" in result.err


@pytest.mark.parametrize(
    "line", ["--lvm-snapsize 5G --lvm-snap-perm rw", "--action restore --snapshot", "--snapshot no"]
)
def test_no_snapshot_is_asked_for(line: str) -> None:
    check_support(settings_of(line))


WRONG = {
    "--action nothing": "nothing",
    "--max-level two": "two",
    "--max-level -2": "-2",
    "--remove-older-than soon": "soon",
    "--remove-older-than -1": "-1",
    "--upload-limit fast": "fast",
    "--compression zip": "zip",
    "--no-such-option": "--no-such-option",
    "--re 1": "ambiguous",
    "--restore-from-date yesterday": "yesterday",
    "--remove-older-than 3 --remove-before-date 2016-07-11T00:00:00": "only one of",
    "--config /nonexistent.ini": "/nonexistent.ini",
    "left over": "left",
}


@pytest.mark.parametrize("line", WRONG)
def test_wrong_arguments(agent: Agent, line: str) -> None:
    assert WRONG[line] in agent(*line.split(), code=2).err


def test_no_incremental_takes_a_value_as_some_agents_had_it() -> None:
    assert settings_of("--no-incremental True --max-level 3").levels.strategy == "full"
    assert settings_of("--no-incremental --max-level 3").levels.strategy == "full"
    assert settings_of("--no-incremental False --max-level 3").levels.strategy == "incremental"
    assert settings_of("--noincremental").levels.strategy == "full"


def test_level_options_mean_nothing_without_increments(warnings_of: Callable[[], list[str]]) -> None:
    warn_of_the_past(settings_of("--no-incremental --max-level 3"))
    assert "level options" in warnings_of()[0]


def test_variables_in_the_name() -> None:
    name = "{mode}-{backup_media}-{storage}-{container}-{project_id}-{resource_id}"
    settings = settings_of(f"-N {name} --storage local -C box --project-id p1 --hostname node1")
    assert settings.backup_name == "fs-fs-local-box-p1-node1"
    assert settings_of("-N {unknown}").backup_name == "{unknown}"
    assert settings_of("-N a{b").backup_name == "a{b"


def test_the_home_directory_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    settings = settings_of("-F ~/data --restore-abs-path ~/out --storage local -C ~/store --log-file ~/x.log")
    assert (settings.path, settings.target, settings.logging.file) == ("/home/u/data", "/home/u/out", "/home/u/x.log")
    assert storage_of(settings.places[0], 1, {})[0] == "local:/home/u/store"
    place = settings_of("--storage ssh --ssh-host h --ssh-key ~/.ssh/id_rsa").places[0]
    assert storage_of(place, 1, {})[1]["identity_file"] == "/home/u/.ssh/id_rsa"


def test_a_date_without_an_offset_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        instant = settings_of("--restore-from-date 2026-11-23T04:17:16").at
        assert instant is not None
        assert instant.moment.isoformat() == "2026-11-23T04:17:16-05:00"
        assert "local time" in str(instant)
        aware = settings_of("--restore-from-date 2026-11-23T04:17:16+03:00").at
        assert aware is not None
        assert aware.moment.isoformat() == "2026-11-23T04:17:16+03:00"
        assert "local time" not in str(aware)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_keys_of_s3_come_from_the_environment() -> None:
    place = settings_of("--storage s3 -C bucket/some/prefix").places[0]
    environ = {"ACCESS_KEY": "id", "SECRET_KEY": "word", "ENDPOINT": "http://127.0.0.1:9000"}
    url, options = storage_of(place, 1 << 20, environ)
    assert url == "s3://bucket/some/prefix"
    assert options == {
        "access_key": "id",
        "secret_key": "word",
        "endpoint": "http://127.0.0.1:9000",
        "part_size": 5 << 20,
        "create_bucket": True,
    }


def test_the_login_of_swift_comes_from_the_environment_or_osrc_never_from_both() -> None:
    environ = {"OS_AUTH_URL": "http://127.0.0.1:5000/v3", "OS_USERNAME": "u", "OS_PASSWORD": "p"}
    assert storage_of(settings_of("").places[0], 1, environ) == (
        "swift:freezer_backups",
        {"os_auth_url": "http://127.0.0.1:5000/v3", "os_username": "u", "os_password": "p"},
    )
    place = load_settings({"osrc": "open.rc"}).places[0]
    assert storage_of(place, 1, environ)[1] == {"osrc": "open.rc"}


def test_the_password_of_a_proxy_stays_out_of_its_url() -> None:
    place = settings_of("--proxy http://me:word@proxy:3128").places[0]
    options = storage_of(place, 1, {})[1]
    assert options == {"proxy": "http://me@proxy:3128", "proxy_password": "word"}


def test_paths_on_servers() -> None:
    line = "--storage ssh --ssh-host ::1 -C"
    assert storage_of(settings_of(f"{line} /remote/path").places[0], 1, {})[0] == "ssh://[::1]/remote/path"
    assert storage_of(settings_of(f"{line} below/home").places[0], 1, {})[0] == "ssh://[::1]/~/below/home"
    with pytest.raises(ConfigurationError, match="--ssh-host"):
        storage_of(settings_of("--storage ssh").places[0], 1, {})


def test_a_password_wins_over_a_key() -> None:
    line = "--storage ssh --ssh-host h --ssh-key /k --ssh-password word"
    assert "identity_file" not in storage_of(settings_of(line).places[0], 1, {})[1]


def test_help_and_version(agent: Agent) -> None:
    shown = agent("--help").out
    for option in OPTIONS:
        assert f"--{option.name}" in shown
    for program in ("freezer-agent", "freezerc"):
        assert agent("--version", program=program).out.startswith(f"{program} ")
        assert agent("-h", program=program).out.startswith(f"usage: {program}")
