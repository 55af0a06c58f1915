"""Passwords come from everywhere but the command line, and go nowhere."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli.program import PASSWORD, Cli, Result

CANARY = "canary-5e1f"


@pytest.fixture
def locked(cli: Cli, tmp_path: Path, tree: Path) -> Cli:
    """An encrypted repository with one backup."""
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    cli("repository", "init", env={"FREEZER_PASSWORD": PASSWORD})
    cli("backup", "create", str(tree), "--name", "etc", env={"FREEZER_PASSWORD": PASSWORD})
    return cli


def file_of(tmp_path: Path, content: str, mode: int = 0o600) -> Path:
    path = tmp_path / "password"
    path.write_text(content)
    path.chmod(mode)
    return path


def opens(result: Result) -> bool:
    return [row["name"] for row in result.json] == ["etc"]


def test_every_source(locked: Cli, tmp_path: Path) -> None:
    listing = ("backup", "list", "-f", "json")
    path = file_of(tmp_path, PASSWORD + "\nsecond line\n")
    command = f"cat '{path}'"
    config = tmp_path / "c.toml"
    config.write_text(f'[profiles.default]\npassword-command = ["cat", "{path}"]\n')
    assert opens(locked(*listing, "--password-file", str(path)))
    assert opens(locked(*listing, env={"FREEZER_PASSWORD_FILE": str(path)}))
    assert opens(locked(*listing, "--password-command", command))
    assert opens(locked(*listing, env={"FREEZER_PASSWORD_COMMAND": command}))
    assert opens(locked(*listing, "--config", str(config)))
    assert opens(locked(*listing, "--password-file", str(path), env={"FREEZER_PASSWORD": "wrong"}))


def test_a_password_file_that_others_can_read(locked: Cli, tmp_path: Path) -> None:
    path = file_of(tmp_path, PASSWORD, 0o644)
    result = locked("backup", "list", "--password-file", str(path))
    assert "warning: the password file" in result.err
    assert "chmod 600" in result.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--password-file", "missing"), "cannot read the password file missing"),
        (("--password-file", "/dev/null"), "empty password"),
        (("--password-command", "false"), "the password command (false) failed with exit status 1"),
        (("--password-command", "no-such-program x"), "the password command (no-such-program) cannot be run"),
        (("--password-command", "echo 'x"), "cannot be split"),
        (("--password-command", "true"), "empty password"),
        (("--password-command", "  "), "is empty"),
    ],
)
def test_sources_that_fail(locked: Cli, arguments: tuple[str, ...], message: str) -> None:
    assert message in locked("backup", "list", *arguments, code=2).err


def test_a_password_command_is_no_shell(locked: Cli, tmp_path: Path) -> None:
    locked("backup", "list", "--password-command", f"echo $HOME; touch {tmp_path / 'made'}", code=12)
    assert not (tmp_path / "made").exists()


def test_there_is_no_password_option(locked: Cli) -> None:
    assert "unrecognized" in locked("backup", "list", "--password", PASSWORD, code=2).err


def test_the_prompt(locked: Cli, tmp_path: Path) -> None:
    result = locked.in_terminal("backup", "list", "-f", "value", "-c", "name", answers=[PASSWORD])
    assert result.code == 0
    assert result.out.split("\r\n")[1:] == ["etc", ""]
    assert PASSWORD not in result.out
    assert locked.in_terminal("backup", "list", answers=["wrong"]).code == 12


def test_init_asks_twice(cli: Cli, tmp_path: Path) -> None:
    storage = f"local:{tmp_path / 'new'}"
    differ = cli.in_terminal("repository", "init", "--storage", storage, answers=["one", "two"])
    assert differ.code == 2
    assert "the two passwords differ" in differ.out
    assert not (tmp_path / "new").exists()
    assert cli.in_terminal("repository", "init", "--storage", storage, answers=["same", "same"]).code == 0
    assert cli("repository", "show", "--storage", storage, env={"FREEZER_PASSWORD": "same"}, code=0)


def test_an_unencrypted_repository_asks_for_nothing_and_refuses_a_password(repo: Cli) -> None:
    terminal = repo.in_terminal("backup", "list")
    assert terminal.code == 0
    assert "assword" not in terminal.out
    refused = repo("backup", "list", env={"FREEZER_PASSWORD": PASSWORD}, code=2)
    assert "not encrypted" in refused.err


def test_an_unencrypted_repository_says_so_loudly(cli: Cli, tmp_path: Path) -> None:
    result = cli("repository", "init", "--no-encryption", "--storage", f"local:{tmp_path / 'new'}")
    assert "NOT ENCRYPTED" in result.err
    assert "NOT encrypted" in result.out


def test_the_keyring_is_an_extra(locked: Cli, tmp_path: Path) -> None:
    backend = tmp_path / "site" / "test_keyring.py"
    backend.parent.mkdir()
    backend.write_text(
        "from keyring.backend import KeyringBackend\n\n\nclass Keyring(KeyringBackend):\n    priority = 1\n\n"
        "    def get_password(self, service, username):\n"
        f"        known = ('freezer', {locked.env['FREEZER_STORAGE']!r})\n"
        f"        return {PASSWORD!r} if (service, username) == known else None\n\n"
        "    def set_password(self, service, username, password): ...\n"
    )
    pytest.importorskip("keyring")
    environment = {"PYTHONPATH": str(backend.parent), "PYTHON_KEYRING_BACKEND": "test_keyring.Keyring"}
    environment["PYTHONWARNINGS"] = "default"
    assert opens(locked("backup", "list", "-f", "json", "--keyring", env=environment))
    other = locked("backup", "list", "--keyring", "--storage", "local:/other", env=environment, code=None)
    assert other.code in (2, 10)


def test_canaries(cli: Cli, tmp_path: Path, tree: Path) -> None:
    """The password is in no output, log or message of any command, right or wrong, quiet or not."""
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    log = tmp_path / "log"
    for password in (CANARY, CANARY + "-wrong"):
        for arguments in (
            ("repository", "init"),
            ("repository", "show", "-f", "json"),
            ("backup", "create", str(tree), "--name", "etc", "--json-events"),
            ("backup", "list", "-f", "json"),
            ("backup", "show", "latest"),
            ("backup", "verify"),
            ("config", "show"),
        ):
            more = ("--debug", "-vv")[: 1 + (password == CANARY)]
            result = cli(*arguments, *more, "--log-file", str(log), env={"FREEZER_PASSWORD": password}, code=None)
            assert CANARY not in result.out + result.err
    assert CANARY not in log.read_text()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "repository").rglob("*") if path.is_file())
    assert CANARY.encode() not in stored


def test_programs_that_are_started_do_not_get_the_password(locked: Cli) -> None:
    environment = {"FREEZER_PASSWORD": PASSWORD}
    locked("backup", "create", "--command", "env.txt", "--name", "env", "--", "env", env=environment)
    content = locked("backup", "cat", "latest", "env.txt", "--name", "env", env=environment).out
    assert "PATH=" in content
    assert PASSWORD not in content


def test_the_process_list_does_not_show_it(locked: Cli, tmp_path: Path) -> None:
    path = file_of(tmp_path, PASSWORD)
    process = locked.popen(
        *("backup", "create", "--command", "slow", "--name", "slow", "--password-command", f"cat {path}"),
        *("--", "sleep", "30"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(20):
            time.sleep(0.1)
            seen = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
            assert PASSWORD not in seen
    finally:
        process.send_signal(signal.SIGTERM)  # a second one would kill it
        process.wait(120)
    assert process.returncode == 130


def test_leading_and_inner_blanks_belong_to_the_password(cli: Cli, tmp_path: Path) -> None:
    storage = ("--storage", f"local:{tmp_path / 'new'}")
    cli("repository", "init", *storage, env={"FREEZER_PASSWORD": "  two words "})
    path = file_of(tmp_path, "  two words \r\n")
    cli("repository", "show", *storage, "--password-file", str(path))
    assert os.access(path, os.R_OK)
