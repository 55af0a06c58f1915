"""Every option of the original: how it may be spelled, what it takes in an INI file, its default and what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from agent.option_table import FILES, ROWS, TOLD_OF, Row
from agent.program import Agent

from freezer_cli.agent.consistent import mode_options, snapshot_request
from freezer_cli.agent.declaration import OPTIONS
from freezer_cli.agent.parsing import parse
from freezer_cli.agent.places import Opener, storage_of
from freezer_cli.agent.settings import Settings, load_settings
from freezer_cli.agent.support import check_support, warn_of_the_past
from freezer_sdk.errors import ConfigurationError


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
    "--mode mysql --path-to-backup /x": "add --snapshot",
    "--mode mongo --path-to-backup /x": "add --snapshot",
    "--mode mysql --snapshot no": "add --snapshot",
    "--consistency-check --snapshot --path-to-backup /x": "--consistency-check",
    "--lvm-srcvol /dev/null --lvm-dirmount /mnt --path-to-backup /mnt/x": "is not mounted",
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
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_is_not_there_is_a_usage_error(agent: Agent, line: str) -> None:
    result = agent(*line.split(), code=2)
    assert REFUSED[line] in result.err
    assert "hint:" in result.err


@pytest.mark.parametrize(
    ("line", "provider"),
    [
        ("--lvm-snapsize 5G --lvm-snap-perm rw", None),
        ("--snapshot no", None),
        ("--snapshot", "auto"),
        ("-s", "auto"),
        ("--lvm-auto-snap /mnt", "auto"),
        ("--lvm-srcvol /dev/vg/lv", "lvm"),
        ("--lvm-volgroup vg", "lvm"),
        ("--lvm-dirmount /mnt", "lvm"),
        ("--lvm-snapname night --snapshot", "lvm"),
    ],
)
def test_who_makes_a_snapshot(line: str, provider: str | None) -> None:
    settings = settings_of(line)
    check_support(settings)
    assert snapshot_request(settings).get("snapshot") == provider


def test_options_of_lvm() -> None:
    line = "--lvm-srcvol /dev/vg/lv --lvm-volgroup vg --lvm-dirmount /mnt/x/ --lvm-snapname night --lvm-snap-perm rw"
    assert snapshot_request(settings_of(f"{line} --lvm-snapsize 80%FREE"))["snapshot_options"] == {
        "source_volume": "/dev/vg/lv",
        "volume_group": "vg",
        "mount_point": "/mnt/x",
        "snapshot_name": "night",
        "permission": "rw",
        "size": "80%FREE",
    }
    assert snapshot_request(settings_of("-s"))["snapshot_options"] == {"size": "1G", "permission": "ro"}


def test_what_holds_a_data_directory_is_none(tmp_path: Path) -> None:
    (tmp_path / "mysql/mysql").mkdir(parents=True)
    settings = settings_of("--mode mysql -s --mysql-conf my.cnf")
    with pytest.raises(ConfigurationError, match="is not the data directory"):
        mode_options(settings, str(tmp_path))
    assert mode_options(settings, f"{tmp_path}/mysql") == {
        "strategy": "snapshot",
        "defaults_file": "my.cnf",
        "data_directory": f"{tmp_path}/mysql",
    }


def test_the_login_of_mongo(tmp_path: Path, warnings_of: Callable[[], list[str]]) -> None:
    file = tmp_path / "mongo.conf"
    file.write_text("[default]\nhost = db1\nauth-database = admin\nuser = backup\npassword = 50%secret%\n")
    file.chmod(0o644)
    found = mode_options(settings_of(f"--mode mongo -s --mongo-conf {file}"), "/data")
    assert found == {
        "strategy": "snapshot",
        "data_path": "/data",
        "host": "db1",
        "auth_database": "admin",
        "user": "backup",
        "password": "50%secret%",
    }
    assert any("chmod 600" in line for line in warnings_of())
    file.write_text("[default]\nuser = backup\npasword = canary-secret\n")
    with pytest.raises(ConfigurationError, match="there is no pasword") as raised:
        mode_options(settings_of(f"--mode mongo -s --mongo-conf {file}"), None)
    assert "canary" not in str(raised.value)


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


def test_what_the_engine_and_the_limits_are_told(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("word\nmore\n")
    password.chmod(0o600)
    line = "--always-level 2 --restart-always-level 7 --compression xz -M 65536 --exclude *.o --upload-limit 10K"
    settings = settings_of(f"{line} --encrypt-pass-file {password} --storage local")
    target = Opener(settings, {}).target(settings.places[0])
    assert target.engine == "tar"
    assert target.password == "word"
    assert target.limits is not None
    assert (target.limits.upload, target.limits.download) == (10240, None)
    assert target.engine_options == {
        "strategy": "incremental",
        "always_level": 2,
        "restart_always_level": 7.0,
        "cipher": "auto",
        "compression": "xz",
        "segment_size": 65536,
        "tar_exclude": "*.o",
    }
    settings = settings_of("--engine rsyncv2 --rsync-block-size 8192 --exclude *.o")
    target = Opener(settings, {}).target(settings.places[0])
    assert target.engine == "rsync"
    assert target.engine_options == {
        "strategy": "full",
        "cipher": "auto",
        "compression": "gzip",
        "segment_size": 32 << 20,
        "block_size": 8192,
    }
