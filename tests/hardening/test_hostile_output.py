"""What a writer calls his backups, hosts, tags and files reaches other people's terminals, logs and scripts."""

from __future__ import annotations

import csv
import io
import json
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from cli import program
from cli.program import Cli
from hardening.forge import LINK, Entry, Forge

from freezer_sdk.engines.dedup import control, deletion
from freezer_sdk.engines.dedup.config import encode_config, successor
from freezer_sdk.engines.dedup.holds import write_hold
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
        backup = made.backup(
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
        keys, config = made.keys, made.keys.config
        roster = (replace(config.roster[0], label=NASTY[:60]),)
        signed = encode_config(successor(config, config.changed, roster=roster), keys.slot_id, keys.secret.signing)
        for place in ("config/00000002", "copies/config/00000002"):
            storage.put(place, [signed.raw])
        write_hold(storage, keys, backup, reason=NASTY, until=None)
        deletion.write_mark(storage, keys, [bytes(32)])
        deletion.write_tombstone(storage, keys, 32 * "f", reason=NASTY)
        lease = {"lease": 32 * "a", "number": 0, "backup": NASTY, "purpose": NASTY, "host": NASTY, "holder": NASTY}
        name = f"leases/{32 * 'a'}/00000000"
        document = {**lease, "created": "2026-11-23T05:32:16+00:00"}
        storage.put(name, [control.seal(keys, "lease", name, document, secrecy="index")])
        storage.put("marks/" + 32 * "b" + ESCAPE, [b"junk"])
        storage.put(f"unknown{ESCAPE}", [b"junk"])
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    return cli


COMMANDS = {
    ("backup", "list"): 0,
    ("backup", "show", "latest"): 0,
    ("backup", "ls", "latest"): 0,
    ("backup", "ls", "latest", "-l"): 0,
    ("backup", "find", "*"): 0,
    ("backup", "restore", "latest", "out", "--dry-run"): 2,  # there is no such mode
    ("backup", "verify"): 13,
    ("backup", "holds"): 0,
    ("backup", "forget", "--keep-last", "1", "--dry-run"): 0,
    ("backup", "delete", "latest"): 14,
    ("repository", "show"): 0,
    ("repository", "leases"): 0,
    ("repository", "check"): 13,
    ("repository", "repair"): 0,
    ("repository", "prune", "--dry-run"): 0,
    ("repository", "key", "list"): 0,
}
BAD = (b"\x1b[31m", b"\x1b]0;", b"\x07", "\x9b".encode(), "\u202e".encode(), "\u200b".encode())


def arguments(evil: Cli, command: tuple[str, ...]) -> list[str]:
    """``latest`` of a host that no command line can name is chosen by id."""
    (row,) = evil.inside("backup", "list", "-f", "json").json
    return [row["id"] if word == "latest" else word for word in command]


def assert_harmless(shown: bytes) -> None:
    assert shown
    assert not [bad for bad in BAD if bad in shown], shown


@pytest.mark.parametrize(("command", "code"), COMMANDS.items(), ids=[" ".join(each) for each in COMMANDS])
def test_nothing_reaches_a_terminal_as_it_is(
    evil: Cli, command: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = arguments(evil, command)
    monkeypatch.setattr(program._Captured, "isatty", lambda stream: True)
    result = evil.inside(*words, code=None)
    assert_harmless(result.raw + result.err.encode())
    assert result.code == code, result.err
    assert "\\x1b" in result.out + result.err or command[1] in ("show", "prune", "repair")


def test_a_real_terminal(evil: Cli) -> None:
    assert_harmless(evil.in_terminal(*arguments(evil, ("backup", "ls", "latest", "-l"))).raw)


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
