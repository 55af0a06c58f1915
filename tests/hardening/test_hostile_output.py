"""What a writer calls his backups, hosts, tags and files reaches other people's terminals, logs and scripts."""

from __future__ import annotations

import csv
import io
import json
import stat
import subprocess
from pathlib import Path

import pytest
import yaml
from cli.program import Cli
from hardening.forge import LINK, Entry, Forge

from freezer_sdk.modes.base import Extra
from freezer_sdk.storages.local import LocalStorage

ESCAPE = "\x1b[31m\x1b]0;owned\x07\x9b2J"
NASTY = f'x{ESCAPE}"$(touch owned)`touch owned`\\" ; touch owned\n\r\u202egnp.exe\u200b\udcff=1+1'
ROUNDS = {"host": NASTY, "name": NASTY, "username": NASTY, "program": NASTY, "mode": NASTY, "engine": NASTY}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    home = tmp_path / "home"
    home.mkdir()
    return Cli(home)


@pytest.fixture
def evil(cli: Cli, tmp_path: Path) -> Cli:
    """The program, with a repository of one backup that is nasty all over."""
    with LocalStorage(path=str(tmp_path / "repository")) as storage:
        made = Forge(storage)
        name = NASTY.replace("/", "").encode("utf-8", "surrogateescape")
        facts = [(Extra.LINK_TARGET, name)]
        made.backup(
            Entry(name, content=made.file(b"x"), size=1, mtime=-(1 << 62)),
            Entry(name + b"-link", LINK, facts=facts),
            Entry(name + b"-zero", stat.S_IFCHR),
            tags=[NASTY, "b"],
            facts={NASTY: [NASTY, {"a": NASTY}]},
            users={"0": NASTY},
            problems=[{"path": "G1szMW0=", "message": "G1szMW0=", "kind": NASTY, "fatal": False}],
            paths=["L3NydhtbMzFt"],
            excludes=["G1szMW0="],
            stats={"files": (1 << 53) - 1, "bytes": (1 << 53) - 1, "duration": 1e15},
            **ROUNDS,
        )
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    return cli


COMMANDS = [
    ("backup", "list"),
    ("backup", "show", "latest", "--host", NASTY),
    ("backup", "ls", "latest", "--host", NASTY),
    ("backup", "ls", "latest", "--host", NASTY, "-l"),
    ("backup", "find", "*"),
    ("backup", "restore", "latest", "out", "--host", NASTY, "--dry-run"),
    ("backup", "verify"),
]


def arguments(evil: Cli, command: tuple[str, ...]) -> list[str]:
    """``latest`` of a host that no command line can name is chosen by id."""
    (row,) = evil.inside("backup", "list", "-f", "json").json
    words = [word for word in command if word not in ("--host", NASTY)]
    return [row["id"] if word == "latest" else word for word in words]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[1:2]))
def test_nothing_reaches_a_terminal_as_it_is(evil: Cli, command: tuple[str, ...]) -> None:
    shown = evil.in_terminal(*arguments(evil, command)).raw.replace(b"\r\n", b"\n")
    harmless = {b"\x1b[2K", b"\x1b[1A", b"\x1b[?25l", b"\x1b[?25h"}  # those of the progress line
    for each in harmless:
        shown = shown.replace(each, b"")
    for bad in (b"\x1b[31m", b"\x1b]0;", b"\x07", "\x9b".encode(), "\u202e".encode(), "\u200b".encode(), b"\r"):
        assert bad not in shown.replace(b"\r", b"") or bad == b"\r", (bad, shown)


@pytest.mark.parametrize("form", ["json", "yaml", "csv", "value", "table", "shell"])
def test_every_format_takes_it(evil: Cli, form: str) -> None:
    words = arguments(evil, ("backup", "show", "latest"))
    raw = evil.inside(*words, "-f", form).out
    host = NASTY.replace("\udcff", "\ufffd")
    if form == "json":
        assert json.loads(raw)["host"] == host
    elif form == "yaml":
        assert yaml.safe_load(raw)["host"] == host
    elif form == "csv":
        (row,) = csv.DictReader(io.StringIO(raw, newline=""))
        assert row["host"] == host
    elif form == "table":
        assert "\x1b" not in raw


def test_a_shell_runs_nothing_of_it(evil: Cli, tmp_path: Path) -> None:
    """``eval "$(freezer ... -f shell)"`` is what people do with this format."""
    words = arguments(evil, ("backup", "show", "latest"))
    script = evil.inside(*words, "-f", "shell", "-c", "host", "-c", "name", "-c", "tags", "-c", "facts").raw
    for shell in ("sh", "bash"):
        done = subprocess.run(
            [shell], input=script + b'printf %s "$host"\n', cwd=tmp_path, capture_output=True, check=True
        )
        assert not (tmp_path / "owned").exists()
        assert done.stdout.decode() == NASTY.replace("\udcff", "\ufffd")
        assert not done.stderr


def test_a_log_has_one_line_for_each_message(cli: Cli, tmp_path: Path) -> None:
    """A file name with a line feed must not look like a line of the log."""
    (tmp_path / "source").mkdir()
    forged = "x\n2026-11-23 00:00:00,000 ERROR freezer: all backups are gone\x1b[2J"
    (tmp_path / "source" / forged).symlink_to("nowhere")
    (tmp_path / "source" / "ok").write_text("x")
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    cli.inside("repository", "init", "--no-encryption")
    log = tmp_path / "log"
    cli("--log-file", log, "backup", "create", tmp_path / "source", tmp_path / forged, code=3)
    text = log.read_text()
    assert "all backups are gone" in text
    assert "\x1b" not in text
    assert not any(line.startswith("2026-11-23 00:00:00,000") for line in text.splitlines())


def test_a_traceback_is_shown_without_escapes(cli: Cli) -> None:
    result = cli.inside("--debug", "--storage", f"local:/nowhere{ESCAPE}", "backup", "list", code=None)
    assert result.code
    assert "Traceback" in result.err
    assert "\x1b" not in result.err


def test_brackets_in_a_place_are_no_markup(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "[bold]a[" / "b]"
    place.mkdir(parents=True)
    (tmp_path / "tree").mkdir()
    other = tmp_path / "other"
    for each in (place, other):
        cli("repository", "init", "--no-encryption", "--storage", f"local:{each}/r")
    shown = cli.in_terminal(
        "backup", "create", str(tmp_path / "tree"), "--storage", f"local:{place}/r", "--storage", f"local:{other}/r"
    )
    assert shown.code == 0, shown.raw
