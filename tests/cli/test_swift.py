"""Backups in Swift from the command line: the login comes from the environment, as for every OpenStack command."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from servers import start

from freezer_sdk.storages.swift import SwiftStorage


@pytest.fixture
def url() -> str:
    return f"swift:cli-{uuid.uuid4().hex[:12]}/backups"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    base = tmp_path / "tree"
    (base / "folder").mkdir(parents=True)
    (base / "folder" / "file").write_bytes(b"content" * 10_000)
    return base


def goes_there_and_back(cli, url: str, tree: Path, out: Path, *options: str) -> None:
    options = (*options, "--storage-option", "listing-lag=1")
    cli("repository", "init", "--storage", url, "--no-encryption", *options)
    cli("backup", "create", tree, "--name", "t", "--storage", url, *options)
    cli("backup", "verify", "--read-data", "--storage", url, *options)
    cli("backup", "restore", "latest", out, "--storage", url, *options)
    assert (out / "folder" / "file").read_bytes() == b"content" * 10_000


@pytest.mark.swift
def test_login_of_version_1_by_the_environment(cli, url, tree, tmp_path):
    env = start("swift")
    cli.env |= {"ST_AUTH": env["SWIFT_AUTH_URL"], "ST_USER": env["SWIFT_USER"], "ST_KEY": env["SWIFT_KEY"]}
    cli.env["ST_AUTH_VERSION"] = "1"
    goes_there_and_back(cli, url, tree, tmp_path / "out")


@pytest.mark.keystone
def test_keystone_by_the_environment_and_by_flags(cli, url, tree, tmp_path):
    start("keystone")
    env = start("swift", instance="keystone", SWIFT_AUTH="keystone")
    credential = tmp_path / "credential"
    credential.write_text(env["OS_APPLICATION_CREDENTIAL_SECRET"] + "\n")
    login = {name: value for name, value in env.items() if name.startswith("OS_") and "CREDENTIAL" not in name}
    cli.env |= login
    goes_there_and_back(cli, url, tree, tmp_path / "out")
    for name in login:
        del cli.env[name]
    flags = ("--os-auth-url", env["OS_AUTH_URL"], "--os-region-name", env["OS_REGION_NAME"])
    flags += ("--os-application-credential-id", env["OS_APPLICATION_CREDENTIAL_ID"])
    flags += ("--os-application-credential-secret-file", str(credential))
    listed = cli(*flags, "backup", "list", "--storage", url, "-f", "json")
    assert [backup["name"] for backup in listed.json] == ["t"]


@pytest.mark.keystone
def test_a_cloud_of_clouds_yaml(cli, url, tree, tmp_path):
    start("keystone")
    env = start("swift", instance="keystone", SWIFT_AUTH="keystone")
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(f"""
clouds:
  mine:
    region_name: {env["OS_REGION_NAME"]}
    auth:
      auth_url: {env["OS_AUTH_URL"]}
      username: {env["OS_USERNAME"]}
      password: "{env["OS_PASSWORD"]}"
      project_name: {env["OS_PROJECT_NAME"]}
      user_domain_name: Default
      project_domain_name: Default
""")
    cli.env["OS_CLIENT_CONFIG_FILE"] = str(clouds)
    cli.env["PYTHONWARNINGS"] = "error,ignore:Support for InfluxDB"  # openstacksdk warns of itself
    goes_there_and_back(cli, url, tree, tmp_path / "out", "--os-cloud", "mine")


@pytest.mark.keystone
def test_a_wrong_password_is_told_and_shown_nowhere(cli, url, tmp_path):
    start("keystone")
    env = start("swift", instance="keystone", SWIFT_AUTH="keystone")
    cli.env |= {name: value for name, value in env.items() if name.startswith("OS_") and "CREDENTIAL" not in name}
    cli.env["OS_PASSWORD"] = "canary-7f3a"
    told = cli("--debug", "backup", "list", "--storage", url, code=None)
    assert told.code == 1
    assert "canary-7f3a" not in told.out + told.err
    assert "refuse" in told.err or "denied" in told.err or "401" in told.err


@pytest.mark.parametrize("elsewhere", ['os-auth-url = "http://127.0.0.1:9/v3"', 'osrc = "FILE"', 'os-cloud = "other"'])
def test_secrets_of_the_environment_go_nowhere_else(cli, tmp_path, elsewhere):
    """A profile that says where to log in takes nothing from an environment that is about another cloud."""
    cli.env |= {"OS_AUTH_URL": "http://127.0.0.1:9/v3", "OS_USERNAME": "me", "OS_PASSWORD": "p", "OS_PROJECT_NAME": "x"}
    cli.env["OS_CLIENT_CONFIG_FILE"] = str(tmp_path / "clouds.yaml")
    (tmp_path / "clouds.yaml").write_text("clouds: {other: {auth: {auth_url: 'http://127.0.0.1:9/v3'}}}")
    (tmp_path / "osrc").write_text("export OS_AUTH_URL=http://127.0.0.1:9/v3")
    elsewhere = elsewhere.replace("FILE", str(tmp_path / "osrc"))
    config = tmp_path / "freezer.toml"
    config.write_text(f'[profiles.p]\nstorage = "swift:c"\n[profiles.p.storage-options]\n{elsewhere}\n')
    told = cli("--config", config, "--profile", "p", "backup", "list", code=2)
    assert "nothing says how to log in" in told.err


def test_every_login_option_has_its_flag(cli):
    import argparse

    from freezer_cli.global_options import add_global_options

    parser = argparse.ArgumentParser()
    add_global_options(parser, after_verb=False)
    flags = {flag for action in parser._actions for flag in action.option_strings}
    declared = [option for option in SwiftStorage.options if option.name.startswith("os_")]
    wanted = {option.flag + ("-file" if option.secret else "") for option in declared if option.type != "bool"}
    assert wanted <= flags
