"""Every command explains itself, and its examples work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from cli.program import Cli

from freezer_sdk import Freezer

COMMANDS = sorted(point.name.replace("_", " ") for point in entry_points(group="freezer.cli"))
REQUIRED = [
    *(f"repository {verb}" for verb in ("init", "show", "stats")),
    *(
        f"backup {verb}"
        for verb in ["copy", "create", "list", "show", "ls", "find", "diff", "cat", "restore", "verify", "delete"]
    ),
    *(f"plugin {verb}" for verb in ("list", "show", "test")),
    *(f"config {verb}" for verb in ("show", "check", "sample")),
    "complete",
]


def test_every_command_of_the_manual_is_there() -> None:
    assert set(REQUIRED) <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_a_description_and_examples(cli: Cli, command: str) -> None:
    text = cli.inside(*command.split(), "--help").out
    usage, description, *rest = text.split("\n\n")
    assert usage.startswith(f"usage: freezer {command}")
    assert len(description.split()) >= 3
    assert rest[-1].startswith(("example:", "examples:"))
    assert f"freezer {command}" in rest[-1]
    assert "--storage URL" in text
    assert cli.inside("help", *command.split()).out == text


def test_overview(cli: Cli) -> None:
    text = cli("--help").out
    for command in REQUIRED:
        assert f"  {command} " in text
    assert cli("help").out == text


def test_the_verbs_of_a_noun(cli: Cli) -> None:
    assert "freezer backup restore" in cli("backup", "--help").out
    assert "freezer backup restore" in cli("backup", code=2).err


def test_a_typo_gets_a_suggestion(cli: Cli) -> None:
    assert "did you mean" in cli("backup", "lst", code=2).err
    assert "did you mean" in cli("plugins", "list", code=2).err


def examples(cli: Cli) -> list[str]:
    lines = []
    for command in COMMANDS:
        text = cli.inside(*command.split(), "--help").out
        lines += [line.strip() for line in text.rpartition("example")[2].splitlines()[1:]]
    return lines


WITH_PASSWORDS = ("freezer repository key", "freezer repository export-recovery")
"""Examples that need an encrypted repository: ``test_keys.py`` runs them."""

WITH_VOLUMES = ("--snapshot", "freezer snapshot")
"""Examples that need volumes with snapshots: ``test_snapshots.py`` runs such ones."""


@pytest.fixture
def example_place(filled: Cli, tmp_path: Path) -> Cli:
    """Where the examples run: the paths that they name are those of a folder of the test."""
    config = filled.home / "freezer.toml"
    config.write_text("[profiles.offsite]\nstorage = 'memory:'\n")
    (filled.home / ".config" / "freezer").mkdir(parents=True)
    (filled.home / ".config" / "freezer" / "config.toml").write_text(config.read_text())
    return filled


@pytest.mark.slow
def test_examples_run_as_they_are_printed(example_place: Cli, tree: Path, tmp_path: Path) -> None:
    """Only the places that they name are others: those of a folder of the test."""
    repo = example_place
    first, second = (row["id"][:8] for row in repo("backup", "list", "-f", "json").json)
    lease = repo("repository", "leases", "-f", "json").json[0]["id"][:8]
    repo("repository", "init", "--storage", f"local:{tmp_path}/second", "--no-encryption")
    (tmp_path / "password").write_text("x\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pg_dump").write_text("#!/bin/sh\necho 'select 1;'\n")
    (tmp_path / "bin" / "pg_dump").chmod(0o755)
    with Freezer(f"local:{tmp_path}/original", engine="tar", create=True, encryption=False) as original:
        original.backup(tree, name="www")
    places = {
        "local:/var/freezer": f"local:{tmp_path}/original",
        " --storage local:/srv/backups": "",
        " local:/srv/backups": f" {repo.env['FREEZER_STORAGE']}",
        "local:/mnt/usb/backups": f"local:{tmp_path}/second",
        "/etc/freezer/password": f"{tmp_path}/password",
        "/etc/bash_completion.d/freezer": "completion",
        "unlock 3f2a9c1e": f"unlock {lease}",
        "3f2a9c1e:/dump.sql": f"{first}:{tree}/a.txt",
        "3f2a9c1e": first,
        "77b0d1f2": second,
        ":/etc": f":{tree}",
        "/etc/ssh": f"{tree}/sub",
        "/etc/hosts": f"{tree}/a.txt",
        "--path ssh": "--path sub",
        "latest:/home": f"latest:{tree}",
        "create /etc ": f"create {tree} ",
        "create /home ": f"create {tree} ",
        "tar -c /opt": f"tar -c {tree}",
        "restore 3f2a9c1e / ": f"restore 3f2a9c1e {tmp_path}/root ",
        f"restore {first} / ": f"restore {first} {tmp_path}/root ",
        "/tmp/conformance": f"{tmp_path}/conformance",
        "/srv/scratch": f"{tmp_path}",
    }
    # they change what the others see
    late = ("config sample", "backup undelete", "backup delete", "backup create", "backup import")
    ordered = sorted(examples(repo), key=lambda line: [word in line for word in late])
    ordered = [line for line in ordered if not line.startswith(WITH_PASSWORDS)]
    ordered = [line for line in ordered if not any(words in line for words in WITH_VOLUMES)]
    for number, example in enumerate(line for line in ordered if line.count("3f2a9c1e 77b0d1f2") == 0):
        line = example
        for name, place in places.items():
            line = line.replace(name, place)
        line = line.replace("/tmp/out", f"{tmp_path}/out{number}")
        if "repository init" in line:
            unencrypted = "" if "password-file" in line else " --no-encryption"
            line = re.sub(r" --storage \S+", "", line)
            line += f" --storage local:{tmp_path}/r{number}{unencrypted}"
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"],
            env=repo.environment({"PATH": f"{tmp_path / 'bin'}:{repo.environment()['PATH']}"}),
            cwd=repo.home,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        assert done.returncode == 0, f"{example}\n{line}\n{done.stdout}\n{done.stderr}"


def test_examples_are_command_lines(cli: Cli) -> None:
    lines = examples(cli)
    assert len(lines) >= len(COMMANDS)
    for line in lines:
        assert (
            "freezer" in shlex.split(line.replace("<(", "( "))[0:4] or "| freezer" in line or "freezer complete" in line
        )


def test_completion_for_bash(cli: Cli, tmp_path: Path) -> None:
    script = tmp_path / "completion"
    script.write_bytes(cli("complete").raw)
    probe = (
        f'_get_comp_words_by_ref() {{ cur=${{COMP_WORDS[COMP_CWORD]}}; words=("${{COMP_WORDS[@]}}"); }}\n'
        f"source {script}\n"
        'COMP_WORDS=(freezer backup res); COMP_CWORD=2; _freezer; echo "${COMPREPLY[@]}"\n'
        'COMP_WORDS=(freezer backup create --one); COMP_CWORD=3; _freezer; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["restore", "--one-file-system"]


def test_start_is_lazy() -> None:
    """What a command does not need is not imported: neither for the version, nor to parse a backup."""
    heavy = ["rich", "cmd2", "prompt_toolkit", "yaml", "asyncio", "keyring", "http", "sqlite3"]
    probe = (
        "import sys\nfrom freezer_cli.main import main\n"
        "main(sys.argv[1:])\n"
        f"print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    for arguments in (
        ["--version"],
        ["backup", "create", "--help"],
        ["backup", "list", "--storage", "local:/nonexistent"],
    ):
        done = subprocess.run([sys.executable, "-c", probe, *arguments], capture_output=True, text=True, check=False)
        assert done.stderr.splitlines()[-1] == "[]", arguments
    probe = "import sys\nfrom freezer_cli.main import main\nmain(['--version'])\nprint('cliff' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
