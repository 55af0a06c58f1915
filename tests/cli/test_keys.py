"""Administration of keys on the command line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cli.program import PASSWORD, Cli

from freezer_sdk import Freezer
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.local import LocalStorage

CANARY = "canary-7f3a"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encrypted repository with one backup; its password costs no time."""
    folder = tmp_path_factory.mktemp("template")
    (folder / "source").mkdir()
    (folder / "source" / "file").write_bytes(b"content")
    with LocalStorage(path=str(folder / "repository")) as storage:
        create_repository(storage, password=PASSWORD, kdf=Argon2Params(memory=8, time=1, lanes=1))
        with Freezer(storage, password=PASSWORD) as freezer:
            freezer.backup(folder / "source", name="etc", host="h")
    return folder / "repository"


@pytest.fixture
def locked(cli: Cli, tmp_path: Path, template: Path) -> Cli:
    """A copy of it, and its owner's password in the environment."""
    shutil.copytree(template, tmp_path / "repository")
    cli.env.update(FREEZER_STORAGE=f"local:{tmp_path / 'repository'}", FREEZER_PASSWORD=PASSWORD)
    return cli


def secret(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "secret"
    path.write_text(text + "\n")
    path.chmod(0o600)
    return path


def test_a_client_from_the_cradle_to_the_grave(locked: Cli, tmp_path: Path, tree: Path) -> None:
    file = secret(tmp_path, CANARY)
    add = ("repository", "key", "add", "--role", "writer", "--label", "web1", "--host", "web1")
    added = locked.inside(*add, "--new-password-file", file)
    assert "(web1): writer, only for web1" in added.out
    client = {"FREEZER_PASSWORD": CANARY}
    locked.inside("backup", "create", tree, "--name", "www", "--host", "web1", env=client)
    assert "only of web1" in locked.inside("backup", "create", tree, "--host", "h", env=client, code=1).err
    for command in (("backup", "list"), ("backup", "restore", "latest", tmp_path / "out"), ("backup", "verify")):
        refused = locked.inside(*command, env=client, code=1).err
        assert "needs the role reader" in refused
        assert "reader or an owner" in refused
    names = {row["host"] for row in locked.inside("backup", "list", "-f", "json").json}
    assert names == {"h", "web1"}
    listed = locked.inside("repository", "key", "list", "-f", "json", env=client).json
    assert [(key["label"], key["roles"], key["own"]) for key in listed] == [
        ("", ["maintainer", "reader", "writer"], False),
        ("web1", ["writer"], True),
    ]
    table = locked.inside("repository", "key", "list").out
    assert "owner" in table
    assert CANARY not in table + added.out + added.err
    assert "epoch 2" in locked.inside("repository", "key", "remove", "web1").out
    assert locked.inside("backup", "list", env=client, code=12)
    assert len(locked.inside("repository", "key", "list", "-f", "json").json) == 1
    assert len(locked.inside("repository", "key", "list", "--all", "-f", "json").json) == 2


def test_a_new_password_comes_from_everywhere_but_the_command_line(locked: Cli, tmp_path: Path) -> None:
    file = secret(tmp_path, "second")
    passwd = ("repository", "key", "passwd")
    locked.inside(*passwd, "--new-password-command", f"cat {file}")
    locked.env["FREEZER_PASSWORD"] = "second"
    locked.inside(*passwd, env={"FREEZER_NEW_PASSWORD": "third"})
    locked.env["FREEZER_PASSWORD"] = "third"
    locked.inside(*passwd, env={"FREEZER_NEW_PASSWORD_FILE": str(file)})
    locked.env["FREEZER_PASSWORD"] = "second"
    assert "changed" in locked.inside(*passwd, env={"FREEZER_NEW_PASSWORD_COMMAND": "echo fourth"}).out
    locked.env["FREEZER_PASSWORD"] = "fourth"
    assert "a new password is needed" in locked(*passwd, code=2).err
    assert "unrecognized" in locked.inside(*passwd, "--new-password", "x", code=2).err
    assert locked.inside("backup", "list", "-f", "json").json


def test_a_new_password_is_asked_for_twice(locked: Cli) -> None:
    done = locked.in_terminal("repository", "key", "passwd", answers=[CANARY, CANARY])
    assert done.code == 0, done.out
    assert CANARY not in done.out
    locked.inside("backup", "list", code=12)
    locked.env["FREEZER_PASSWORD"] = CANARY
    differ = locked.in_terminal("repository", "key", "passwd", answers=["one", "two"])
    assert differ.code == 2
    assert "differ" in differ.out
    locked.inside("backup", "list")


def test_the_last_owner_stays(locked: Cli) -> None:
    own = locked.inside("repository", "key", "list", "-f", "json").json[0]["id"]
    assert "last owner" in locked.inside("repository", "key", "remove", own[:8], code=14).err
    assert "no key" in locked.inside("repository", "key", "remove", "nobody", code=2).err


def test_rotation(locked: Cli) -> None:
    assert "epoch 2" in locked.inside("repository", "key", "rotate").out
    rotated = locked.inside("repository", "key", "rotate", "--rewrite", "now", "-f", "json").json
    assert (rotated["epoch"], rotated["removed"]) == (3, [])
    assert rotated["rewritten_bytes"] >= 0
    assert locked.inside("backup", "verify", "--read-data")


def test_a_recovery_key(locked: Cli) -> None:
    printed = locked.inside("repository", "key", "recovery")
    key = " ".join(line.strip() for line in printed.out.splitlines() if line.startswith("    "))
    assert len(key) == 4 * 14 + 3
    assert locked.inside("backup", "list", "-f", "json", env={"FREEZER_PASSWORD": key.lower()}).json
    wrong = ("1" if key[20] != "1" else "2").join((key[:20], key[21:]))
    assert "typing error in line 2" in locked.inside("backup", "list", env={"FREEZER_PASSWORD": wrong}, code=12).err
    made = locked.inside("repository", "key", "recovery", "--label", "safe", "-f", "json").json
    assert made["label"] == "safe"
    assert made["recovery_key"] not in locked.inside("repository", "key", "list", "-f", "json").out


def test_the_recovery_sheet(locked: Cli) -> None:
    sheet = locked.inside("repository", "export-recovery")
    facts = locked.inside("repository", "show", "-f", "json").json
    for text in (facts["id"], facts["location"], "freezer backup restore", "freezer_recover.py restore"):
        assert text in sheet.out
    assert "RECOVERY KEY" not in sheet.out
    assert PASSWORD not in sheet.out
    document = locked.inside("repository", "export-recovery", "-f", "json", "--with-recovery-key").json
    assert document["repository_id"] == facts["id"]
    assert [key["label"] for key in document["keys"]] == ["", "recovery key"]
    assert locked.inside("backup", "list", env={"FREEZER_PASSWORD": document["recovery_key"]})
    assert "RECOVERY KEY" in locked.inside("repository", "export-recovery", "--with-recovery-key").out


@pytest.mark.slow
def test_the_examples(locked: Cli, tmp_path: Path) -> None:
    """Of all commands about keys, as they are printed, but for the names of files and keys."""
    for number, name in enumerate(("old", "new", "web1.password")):
        (locked.home / name).write_text(f"{PASSWORD if name == 'old' else number}\n")
        (locked.home / name).chmod(0o600)
    (tmp_path / "lp").write_text("#!/bin/sh\ncat\n")
    (tmp_path / "lp").chmod(0o755)
    lines = []
    for command in ("key list", "key add", "key rotate", "key recovery", "export-recovery", "key remove", "key passwd"):
        text = locked.inside("repository", *command.split(), "--help").out
        lines += [line.strip() for line in text.rpartition("example")[2].splitlines()[1:] if line.strip()]
    assert len(lines) > 12
    for number, line in enumerate(lines):
        ids = {key["id"] for key in locked.inside("repository", "key", "list", "-f", "json").json if not key["own"]}
        locked.env["FREEZER_NEW_PASSWORD"] = f"new {number}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line.replace('3f2a9c1e', min(ids, default='')[:8])}"],
            env=locked.environment({"PATH": f"{tmp_path}:{locked.environment()['PATH']}"}),
            cwd=locked.home,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        if line == "freezer repository key passwd":
            (locked.home / "old").write_text(f"new {number}\n")
        if "key passwd" in line:
            locked.env["FREEZER_PASSWORD"] = (locked.home / ("new" if "file" in line else "old")).read_text().strip()
