"""Command line over environment over profile over default, and a configuration file that is checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cli.program import Cli

CONFIG = """\
profile = "one"

[profiles.one]
storage = "local:/profile/one"
password-file = "/profile/password"

[profiles.one.storage-options]
sync = false

[profiles.two]
storage = "local:/profile/two"
password-command = ["printf", "x"]
engine = "dedup"
"""


@pytest.fixture
def config(cli: Cli) -> Path:
    path = cli.home / ".config" / "freezer" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG)
    return path


def shown(cli: Cli, *arguments: str, **options: Any) -> dict[str, tuple[Any, str]]:
    rows = cli.inside("config", "show", "-f", "json", *arguments, **options).json
    return {row["setting"]: (row["value"], row["given_by"]) for row in rows}


def test_nothing_is_given(cli: Cli) -> None:
    settings = shown(cli)
    assert settings["storage"] == (None, "default")
    assert settings["password"] == ("prompt", "default")
    assert settings["engine"] == ("dedup", "default")


def test_the_default_profile(cli: Cli, config: Path) -> None:
    settings = shown(cli)
    assert settings["config"] == (str(config), "file")
    assert settings["profile"] == ("one", "file")
    assert settings["storage"] == ("local:/profile/one", "profile one")
    assert settings["password"] == ("file", "profile one")
    assert settings["storage-options.sync"] == (False, "profile one")


def test_a_named_profile(cli: Cli, config: Path) -> None:
    assert shown(cli, "--profile", "two")["password"] == ("command", "profile two")
    assert shown(cli, env={"FREEZER_PROFILE": "two"})["storage"] == ("local:/profile/two", "profile two")
    assert shown(cli, "--profile", "one", env={"FREEZER_PROFILE": "two"})["profile"][0] == "one"


def test_precedence_of_the_storage(cli: Cli, config: Path) -> None:
    environment = {"FREEZER_STORAGE": "local:/environment"}
    assert shown(cli, env=environment)["storage"] == ("local:/environment", "FREEZER_STORAGE")
    assert shown(cli, "--storage", "local:/line", env=environment)["storage"] == ("local:/line", "--storage")


def test_precedence_of_the_password(cli: Cli, config: Path) -> None:
    environment = {"FREEZER_PASSWORD": "x"}
    assert shown(cli, env=environment)["password"] == ("environment", "FREEZER_PASSWORD")
    assert shown(cli, "--password-file", "f", env=environment)["password"] == ("file", "--password-file")
    assert shown(cli, "--keyring", env=environment)["password"] == ("keyring", "--keyring")
    assert shown(cli, env={"FREEZER_PASSWORD_COMMAND": "c"})["password"] == ("command", "FREEZER_PASSWORD_COMMAND")
    assert shown(cli, env={"FREEZER_PASSWORD_FILE": "f"})["password"] == ("file", "FREEZER_PASSWORD_FILE")


def test_global_options_work_before_and_after_the_verb(cli: Cli, config: Path) -> None:
    for arguments in (("--profile", "two", "config", "show"), ("config", "show", "--profile", "two")):
        rows = cli(*arguments, "-f", "json").json
        assert {"setting": "profile", "value": "two", "given_by": "file"} in rows
    rows = cli("--storage", "local:/before", "config", "show", "--storage", "local:/after", "-f", "json").json
    assert {"setting": "storage", "value": "local:/after", "given_by": "--storage"} in rows
    rows = cli("--password-file", "f", "config", "show", "--password-command", "c", "-f", "json").json
    assert {"setting": "password", "value": "command", "given_by": "--password-command"} in rows


def test_bandwidth_limits(cli: Cli, config: Path) -> None:
    assert shown(cli)["upload-limit"] == (None, "default")
    config.write_text(CONFIG + '\nupload-limit = "500K"\ndownload-limit = 7\n')
    profile = ("--profile", "two")
    assert shown(cli, *profile)["upload-limit"] == ("500K", "profile two")
    assert shown(cli, *profile, "--upload-limit", "0")["upload-limit"] == (0, "--upload-limit")
    rows = cli("--download-limit", "2M", *profile, "config", "show", "-f", "json").json
    assert {"setting": "download-limit", "value": 2 << 20, "given_by": "--download-limit"} in rows
    assert "'fast' is not a size" in cli("backup", "list", "--upload-limit", "fast", code=2).err


def test_bandwidth_limits_that_are_none(cli: Cli, config: Path, tmp_path: Path) -> None:
    config.write_text(f'[profiles.default]\nstorage = "local:{tmp_path}"\nupload-limit = "fast"\n')
    for verb in (("backup", "list"), ("config", "check")):
        result = cli(*verb, code=2)
        assert "profile default" in result.out + result.err
        assert "'fast' is not a size" in result.out + result.err
    config.write_text(f'[profiles.default]\nstorage = "local:{tmp_path}"\nupload-limit = true\n')
    assert "must be a text or a whole number" in cli("backup", "list", code=2).err


def test_options_that_every_storage_has(cli: Cli, config: Path, tmp_path: Path) -> None:
    config.write_text(
        f'[profiles.default]\nstorage = "local:{tmp_path}/store"\n'
        '[profiles.default.storage-options]\nretry-time = "15m"\nupload-limit = "1M"\n'
    )
    assert all(row["severity"] == "info" for row in cli("config", "check", "-f", "json").json)
    assert cli("repository", "init", "--no-encryption", "--storage-option", "retry-attempts=3").code == 0
    error = cli("backup", "list", "--storage-option", "upload-limit=fast", "--storage-option", "sink=1", code=2).err
    assert "'fast' is not a size" in error
    assert "unknown option 'sink'" in error
    names = [option["name"] for option in cli("plugin", "show", "local", "-f", "json").json["options"]]
    assert {"path", "upload_limit", "download_limit", "retry_attempts", "retry_time"} <= set(names)


def test_where_the_file_is(cli: Cli, config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text('[profiles.default]\nstorage = "local:/other"\n')
    assert shown(cli, "--config", str(other))["storage"] == ("local:/other", "profile default")
    assert shown(cli, env={"FREEZER_CONFIG": str(other)})["storage"][0] == "local:/other"
    assert cli("config", "show", "--config", str(tmp_path / "missing"), code=2).err.startswith("error: cannot read")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[profiles.one]\nstorag = 'local:/x'\n", "unknown key profiles.one.storag (did you mean storage?)"),
        ("[profile.one]\n", "profile must be a text"),
        ("[profiles.one]\nkeyring = 'yes'\n", "profiles.one.keyring must be true or false"),
        ("[profiles.one.backup]\nnice = 'very'\n", "profiles.one.backup.nice must be a whole number"),
        ("[profiles.one.backup]\ntag = [1]\n", "profiles.one.backup.tag must be a list of texts"),
        ("[profiles.one\n", "at line 1, column 14"),
        ("x = 1\ny = 2\n", "unknown key x; unknown key y"),
    ],
)
def test_a_wrong_file_is_refused_and_the_place_named(cli: Cli, config: Path, text: str, message: str) -> None:
    config.write_text(text)
    for verb in (("config", "show"), ("config", "check"), ("backup", "list")):
        error = cli.inside(*verb, code=2).err
        assert message in error
        assert str(config) in error


def test_unknown_profile(cli: Cli, config: Path) -> None:
    error = cli("backup", "list", "--profile", "three", code=2).err
    assert "no profile 'three'" in error
    assert "profiles in it: one, two" in error


def test_check_looks_at_the_options_of_plug_ins(cli: Cli, config: Path) -> None:
    assert all(row["severity"] == "info" for row in cli("config", "check", "-f", "json").json)
    config.write_text(
        "[profiles.a]\nstorage = 'local:/x'\n[profiles.a.storage-options]\nsink = true\n"
        "[profiles.b.engine-options]\npack-size = 'large'\n[profiles.c.backup]\none-file-sistem = true\n"
        "[profiles.d]\nengine = 'nope'\n"
    )
    result = cli("config", "check", "-f", "json", code=2)
    messages = " ".join(row["message"] for row in result.json if row["severity"] == "error")
    for word in (
        "unknown option 'sink'",
        "'large' is not a size",
        "unknown option 'one_file_sistem'",
        "no engine 'nope'",
    ):
        assert word in messages


def test_the_sample_is_valid(cli: Cli, tmp_path: Path) -> None:
    sample = tmp_path / "sample.toml"
    sample.write_bytes(cli("config", "sample").raw)
    assert all(row["severity"] == "info" for row in cli("config", "check", "--config", str(sample), "-f", "json").json)
    uncommented = [line.removeprefix("# ") for line in sample.read_text().splitlines()[2:]]
    sample.write_text("\n".join(line for line in uncommented if not line.startswith(("mode", "password-file"))))
    assert cli("config", "check", "--config", str(sample)).code == 0, "what is commented out is valid, too"


def test_passwords_in_urls_are_not_shown(cli: Cli) -> None:
    result = cli("config", "show", "--storage", "sftp://me:canary@host/x")
    assert "canary" not in result.out + result.err
    assert "sftp://me:********@host/x" in result.out


def test_a_file_with_secrets_that_others_can_read(cli: Cli, config: Path) -> None:
    config.write_text("[profiles.default]\nstorage = 'sftp://me:canary@host/x'\n")
    os.chmod(config, 0o644)
    findings = cli("config", "check", "-f", "json").json
    assert any(row["severity"] == "warning" and "chmod 600" in row["message"] for row in findings)
    os.chmod(config, 0o600)
    findings = cli("config", "check", "-f", "json").json
    assert not any(row["severity"] == "warning" for row in findings)
