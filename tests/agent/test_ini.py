"""INI files: sections, several storages, and who wins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from agent.program import Agent

from freezer_cli.agent.ini import read_ini
from freezer_cli.agent.parsing import parse
from freezer_cli.agent.places import storage_of
from freezer_cli.agent.settings import Settings, load_settings
from freezer_sdk.errors import ConfigurationError


def load(folder: Path, content: str, line: str = "") -> Settings:
    file = folder / "job.ini"
    file.write_text(content)
    file.chmod(0o600)
    given = parse(["--config", str(file), *line.split()], program="freezer-agent", version="0")
    return load_settings(given)


PARALLEL = """
[default]
action = backup
mode = fs
path_to_backup = /foo/
backup_name = mytest6
always_level = 2
max_segment_size = 67108864
container = /tmp/backup/
storage = local
ssh_port = 2222

[storage:first]
storage=local
container = /tmp/backup1/

[storage:second]
storage=ssh
container = /tmp/backup2/
ssh-host = node
ssh-username = me
ssh_key = /key

[storage:swift]
storage=swift
container = test
osrc = openrc.osrc
"""


def test_several_storages(tmp_path: Path) -> None:
    settings = load(tmp_path, PARALLEL)
    assert settings.path == "/foo"
    assert settings.levels.always_level == 2
    assert [(place.name, place.storage, place.container) for place in settings.places] == [
        ("first", "local", "/tmp/backup1/"),
        ("second", "ssh", "/tmp/backup2/"),
        ("swift", "swift", "test"),
    ]
    assert storage_of(settings.places[0], 1, {}) == ("local:/tmp/backup1", {})
    assert storage_of(settings.places[1], 1, {}) == (
        "ssh://node/tmp/backup2/",
        {"port": 2222, "user": "me", "identity_file": "/key"},
    )
    assert storage_of(settings.places[2], 1, {}) == ("swift:test", {"osrc": "openrc.osrc"})


def test_the_command_line_wins(tmp_path: Path) -> None:
    ini = "[default]\naction = backup\nbackup_name = a\nnosync = True\nquiet = True\nproxy = http://p\nmax_level = 3\n"
    settings = load(tmp_path, ini, "--action restore -N b --sync --noquiet --max-level 5")
    assert (settings.action, settings.backup_name, settings.sync) == ("restore", "b", True)
    assert not settings.logging.quiet
    assert settings.levels.max_level == 5
    assert load(tmp_path, ini, "--proxy=").places[0].values["proxy"] is None


def test_a_storage_on_the_command_line_replaces_those_of_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, PARALLEL, "--storage local --container /other")
    assert [(place.storage, place.container) for place in settings.places] == [("local", "/other")]


def test_a_login_on_the_command_line_is_for_all_storages(tmp_path: Path) -> None:
    assert all(place.values["ssh_username"] == "you" for place in load(tmp_path, PARALLEL, "--ssh-username you").places)


def test_all_sections_count(tmp_path: Path) -> None:
    ini = "[job]\nbackup-name = a\n[DEFAULT]\nstorage = local\n[more]\nBackup_Name = b\n"
    settings = load(tmp_path, ini)
    assert (settings.backup_name, settings.places[0].storage) == ("b", "local")


def test_false_and_none_switch_off(tmp_path: Path) -> None:
    ini = "[default]\nmax_level = False\nencrypt_pass_file = None\nsync = False\nremove_older_than = false\nexclude =\n"
    settings = load(tmp_path, ini)
    assert settings.levels.strategy == "full"
    assert (settings.password_file, settings.sync, settings.removal, settings.exclude) == (None, False, None, None)


def test_percent_signs(tmp_path: Path) -> None:
    ini = "[default]\nroot = /x\npath_to_backup = %(root)s/y\nlvm_snapsize = 80%%FREE\nssh_password = 50%secret%%\n"
    settings = load(tmp_path, ini)
    assert settings.path == "/x/y"
    assert settings.values["lvm_snapsize"] == "80%FREE"
    assert settings.values["ssh_password"] == "50%secret%%"
    assert load(tmp_path, "[default]\nlvm_snapsize = 80%FREE\n").values["lvm_snapsize"] == "80%FREE"


def test_unknown_options_are_told(tmp_path: Path, warnings_of: Callable[[], list[str]]) -> None:
    load(tmp_path, "[default]\nbackup_nam = a\nstorage = local\n")
    (told,) = warnings_of()
    assert "backup_nam" in told


def test_oslo_files_give_what_is_still_open(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "1.conf").write_text("[DEFAULT]\ncontainer = one\nhostname = h1\nbackup_name = n1\n")
    (folder / "2.conf").write_text("[DEFAULT]\nhostname = h2\n")
    (folder / "ignored.txt").write_text("not an INI file")
    file = tmp_path / "agent.conf"
    file.write_text("[DEFAULT]\nbackup_name = n2\nproject_id = p\n[scheduler]\nquiet = True\nhostname = h3\n")
    settings = load(tmp_path, "[default]\nstorage = local\n", f"--config-dir {folder} --config-file {file}")
    assert (settings.places[0].container, settings.hostname, settings.backup_name) == ("one", "h2", "n1")
    assert settings.values["project_id"] == "p"
    assert not settings.logging.quiet


def test_files_in_the_usual_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "freezer-agent.conf").write_text("[DEFAULT]\nstorage = local\nhostname = h1\n")
    (tmp_path / ".freezer").mkdir()
    (tmp_path / ".freezer" / "freezer.conf").write_text("[DEFAULT]\nstorage = ftp\ncontainer = /box\n")
    (tmp_path / "freezer.conf").write_text("[DEFAULT]\ncontainer = /never\nunknown = x\n")
    settings = load_settings({})
    assert (settings.places[0].storage, settings.places[0].container, settings.hostname) == ("local", "/box", "h1")
    empty = tmp_path / "empty.conf"
    empty.touch()
    assert load_settings({"config_file": str(empty)}).places[0].storage == "swift"


def test_a_file_with_secrets_is_not_for_everybody(tmp_path: Path, warnings_of: Callable[[], list[str]]) -> None:
    file = tmp_path / "job.ini"
    file.write_text("[default]\nssh_password = word\n")
    file.chmod(0o644)
    read_ini(str(file))
    (told,) = warnings_of()
    assert "chmod 600" in told
    assert "word" not in told
    file.chmod(0o600)
    read_ini(str(file))
    assert len(warnings_of()) == 1


BROKEN = {
    "storage = local\n": "section",
    "[default]\nstorage = local\nstorage = ssh\n": "twice",
    "[default]\n[default]\n": "two sections",
    "[default]\nhunter2\n": "line 2",
    "[default]\nssh_port = hunter2\n": "ssh_port",
    "[default]\nstorage = nowhere\n": "nowhere",
    "[default]\nsync = perhaps\n": "sync",
    "[storage:a]\ncontainer = /x\n": "does not say its storage",
    "[storage:a]\nstorage = local\n": "does not say its container",
}


@pytest.mark.parametrize("content", BROKEN)
def test_broken_files(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, content)
    assert BROKEN[content] in str(caught.value)
    if "ssh_port" not in content:
        assert "hunter2" not in str(caught.value)


def test_files_that_cannot_be_read(agent: Agent, tmp_path: Path) -> None:
    binary = tmp_path / "binary.ini"
    binary.write_bytes(b"[default]\nstorage = \xff\n")
    for option, path in (("--config", binary), ("--config", tmp_path), ("--config-dir", binary)):
        assert str(path) in agent(option, path, code=2).err
