"""Several storages on one command line, in one profile, or by several profiles."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli.program import Cli

PLUGIN = """
import threading
import time

from freezer_sdk.errors import StorageUnavailable
from freezer_sdk.options import Option
from freezer_sdk.storages.local import LocalStorage


class TroubledStorage(LocalStorage):
    name = "troubled"
    summary = "a folder that fails, waits or hangs from some put on"
    options = (*LocalStorage.options, Option(name="good", type="int", help="puts"), Option(name="trouble", help="kind"))

    @classmethod
    def parse_url(cls, url):
        kind, good, path = url.split(":", 1)[1].split(",", 2)
        return {"trouble": kind, "good": int(good), "path": path}

    def __init__(self, *, good, trouble, **options):
        super().__init__(**options)
        self._left, self._trouble, self._lock = good, trouble, threading.Lock()

    @property
    def location(self):
        return "troubled:" + super().location.partition(":")[2]

    def put(self, name, buffers, *, if_absent=False):
        with self._lock:
            self._left -= 1
            trouble = self._trouble if self._left < 0 else ""
        if trouble == "dies":
            raise StorageUnavailable("the cable is cut")
        if trouble == "hangs":
            time.sleep(600)
        if trouble == "slow":
            time.sleep(0.5)
        return super().put(name, buffers, if_absent=if_absent)
"""

CONFIG = """\
[profiles.one]
storage = "local:{0}/one"
password-file = "{0}/password-one"

[profiles.two]
storage = "local:{0}/two"
password-file = "{0}/password-two"

[profiles.both]
group = ["one", "two"]
stall-timeout = "1m"

[profiles.both.backup]
paths = ["{0}/tree"]
name = "tree"

[profiles.list]
storage = ["local:{0}/a", "local:{0}/b"]
"""


@pytest.fixture
def here(cli: Cli, tmp_path: Path) -> Path:
    """Unencrypted repositories a and b in this folder, and a plug-in for storages in trouble."""
    for name in ("a", "b"):
        cli.inside("repository", "init", "--no-encryption", "--storage", f"local:{tmp_path}/{name}")
    site = tmp_path / "site"
    meta = site / "troubled-1.dist-info"
    meta.mkdir(parents=True)
    (site / "troubled.py").write_text(PLUGIN)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: troubled\nVersion: 1\n")
    (meta / "entry_points.txt").write_text("[freezer_sdk.storages]\ntroubled = troubled:TroubledStorage\n")
    cli.env["PYTHONPATH"] = str(site)
    return tmp_path


@pytest.fixture
def config(cli: Cli, tmp_path: Path) -> Path:
    path = cli.home / ".config" / "freezer" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG.format(tmp_path))
    return path


def storages(*urls: object) -> list[str]:
    return [word for url in urls for word in ("--storage", str(url))]


def both(here: Path) -> list[str]:
    return storages(f"local:{here}/a", f"local:{here}/b")


def large(tree: Path) -> Path:
    import random

    content = random.Random(1)
    for number in range(24):
        (tree / f"large{number}").write_bytes(content.randbytes(256 << 10))
    return tree


def test_one_run_into_two_storages(cli: Cli, here: Path, tree: Path) -> None:
    result = cli("backup", "create", tree, "--name", "etc", *both(here))
    backup = cli("backup", "list", "--storage", f"local:{here}/a", "-f", "json").json[0]
    lines = result.out.splitlines()
    assert lines[0].startswith(f"backup {backup['id'][:8]}: etc of ")
    assert lines[0].endswith(", complete")
    assert [line.split(": ")[0].strip() for line in lines[1:]] == [f"local:{here}/a", f"local:{here}/b"]
    assert all("complete, 2 files of " in line for line in lines[1:])
    other = cli("backup", "list", "--storage", f"local:{here}/b", "-f", "json").json[0]
    assert (other["id"], other["time"]) == (backup["id"], backup["time"])


def test_machine_formats_have_a_row_for_each_storage(cli: Cli, here: Path, tree: Path) -> None:
    targets = [*both(here), "--storage", f"local:{here}/nothing"]
    rows = cli.inside("backup", "create", tree, *targets, "-f", "json", code=3).json
    assert [row["location"] for row in rows] == [f"local:{here}/{name}" for name in ("a", "b", "nothing")]
    assert [row["status"] for row in rows] == ["complete", "complete", "failed"]
    assert [row["error_code"] for row in rows] == [None, None, "no_repository"]
    assert len({row["id"] for row in rows}) == 1
    assert rows[0]["files"] == rows[1]["files"] == 2
    assert rows[2]["files"] is None
    lines = cli.inside("backup", "create", tree, *targets, "-f", "csv", code=3).out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith('"location","id",')
    values = cli.inside("backup", "create", tree, *targets, "-f", "value", "-c", "location", "-c", "status", code=3)
    assert values.out.splitlines()[-1] == f"local:{here}/nothing failed"
    assert "Location" in cli.inside("backup", "create", tree, *targets, "-f", "table", code=3).out
    assert "several" in cli.inside("backup", "create", tree, *targets, "-f", "shell", code=2).err


def test_one_dies_at_half_and_a_copy_mends_it(cli: Cli, here: Path, tree: Path) -> None:
    result = cli(
        "backup", "create", large(tree), "--name", "tree", "--pack-size", "1M",
        *storages(f"troubled:dies,4,{here}/a", f"local:{here}/b"), code=3,
    )  # fmt: skip
    assert "partial" in result.out.splitlines()[0]
    assert f"troubled:{here}/a: failed: the cable is cut" in result.out
    assert f"error: troubled:{here}/a: the cable is cut" in result.err
    assert f"local:{here}/b: complete" in result.out
    assert cli("backup", "list", "--storage", f"local:{here}/a", "-f", "json").json == []
    cli("backup", "verify", "--read-data", "--storage", f"local:{here}/b")
    cli("backup", "copy", "--storage", f"local:{here}/a", "--from", f"local:{here}/b")
    cli("backup", "verify", "--read-data", "--storage", f"local:{here}/a")
    (row,) = cli("backup", "list", *both(here), "-f", "json").json
    assert row["locations"] == [f"local:{here}/a", f"local:{here}/b"]


def test_all_die(cli: Cli, here: Path, tree: Path) -> None:
    troubled = storages(f"troubled:dies,3,{here}/a", f"troubled:dies,3,{here}/b")
    result = cli("backup", "create", tree, *troubled, code=1)
    assert "the cable is cut" in result.err
    assert result.out == ""
    result = cli("backup", "create", tree, *storages(f"local:{here}/x", f"local:{here}/y"), code=10)
    assert f"local:{here}/x" in result.err
    assert f"local:{here}/y" in result.err


def test_one_that_hangs_is_left_out(cli: Cli, here: Path, tree: Path) -> None:
    start = time.monotonic()
    hanging = storages(f"troubled:hangs,2,{here}/a", f"local:{here}/b")
    result = cli("backup", "create", tree, *hanging, "--stall-timeout", "5s", code=3)
    assert "nothing has moved for 5 seconds" in result.out
    assert "freezer backup copy" in result.out
    assert time.monotonic() - start < 300


def test_events_name_their_target(cli: Cli, here: Path, tree: Path) -> None:
    events = cli("backup", "create", tree, *both(here), "--json-events").events
    places = {f"local:{here}/a", f"local:{here}/b"}
    assert {event.get("target") for event in events if event["event"] == "progress"} == places
    assert {event["target"] for event in events if event["event"] == "finish" and "target" in event} == places
    result = events[-1]
    assert (result["event"], result["exit_code"], result["status"]) == ("result", 0, "complete")
    assert {target["location"] for target in result["targets"]} == places


def test_a_line_for_each_on_the_terminal(cli: Cli, here: Path, tree: Path) -> None:
    slow = storages(f"troubled:slow,2,{here}/a", f"local:{here}/b")
    screen = cli.in_terminal("backup", "create", large(tree), *slow, "--pack-size", "1M").out
    before, _, _ = screen.partition("complete")
    assert f"troubled:{here}/a" in before
    assert f"local:{here}/b" in before
    assert "done" in before


def test_passwords_are_asked_for_one_after_the_other(cli: Cli, tmp_path: Path, tree: Path) -> None:
    for name in ("one", "two"):
        cli.inside("repository", "init", "--storage", f"local:{tmp_path}/{name}", env={"FREEZER_PASSWORD": name})
    urls = storages(f"local:{tmp_path}/one", f"local:{tmp_path}/two")
    result = cli.in_terminal("backup", "create", tree, *urls, answers=["one", "two"])
    assert result.code == 0, result.out
    assert f"local:{tmp_path}/one password: " in result.out
    assert f"local:{tmp_path}/two password: " in result.out
    wrong = cli.in_terminal("backup", "create", tree, *urls, answers=["one", "nonsense"])
    assert wrong.code == 3
    assert "password" in wrong.out


def test_profiles_with_passwords_of_their_own(cli: Cli, config: Path, tmp_path: Path, tree: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"password-{name}").write_text(f"{name}\n")
        (tmp_path / f"password-{name}").chmod(0o600)
        cli.inside("repository", "init", "--profile", name)
    rows = cli.inside("backup", "create", tree, "--profile", "one", "--profile", "two", "-f", "json").json
    assert [row["location"] for row in rows] == [f"local:{tmp_path}/{name}" for name in ("one", "two")]
    rows = cli.inside("backup", "create", "--profile", "both", "-f", "json").json
    assert [(row["name"], row["status"]) for row in rows] == [("tree", "complete")] * 2
    listed = cli.inside("backup", "list", "--profile", "both", "-f", "json").json
    assert [len(row["locations"]) for row in listed] == [2, 2]
    assert "--profile" not in cli.inside("backup", "create", "--profile", "both").err


def test_a_profile_with_several_storages(cli: Cli, here: Path, config: Path, tree: Path) -> None:
    cli.inside("backup", "create", tree, "--profile", "list")
    assert len(cli.inside("backup", "list", "--profile", "list", "-f", "json").json) == 1
    one = ("backup", "list", "--profile", "list", "--storage", f"local:{here}/b", "-f", "json")
    assert "locations" not in cli.inside(*one).json[0], "a storage on the command line replaces those of the profile"
    other = cli.inside("backup", "list", "--profile", "list", "-f", "json", env={"FREEZER_STORAGE": f"local:{here}/b"})
    assert "locations" not in other.json[0]


def test_restore_list_and_show_take_what_is_there(cli: Cli, here: Path, tree: Path) -> None:
    cli.inside("backup", "create", tree, "--name", "tree", "--storage", f"local:{here}/a")
    (tree / "a.txt").write_text("second\n")
    cli.inside("backup", "create", tree, "--name", "tree", "--storage", f"local:{here}/b")
    first, second = cli.inside("backup", "list", *both(here), "-f", "json").json
    assert (first["locations"], second["locations"]) == ([f"local:{here}/a"], [f"local:{here}/b"])
    assert "Locations" in cli.inside("backup", "list", *both(here)).out
    assert cli.inside("backup", "show", first["id"], *both(here), "-f", "json").json["locations"] == [f"local:{here}/a"]
    cli.inside("backup", "restore", "latest", here / "out", *both(here))
    assert (here / "out" / "a.txt").read_text() == "second\n"
    cli.inside("backup", "restore", f"{first['id'][:8]}:{tree}/sub", here / "part", *both(here))
    assert (here / "part" / "sub" / "b.conf").exists()
    assert "no backup" in cli.inside("backup", "restore", "0000", here / "none", *both(here), code=1).err


def test_a_storage_that_is_gone_makes_a_list_partial(cli: Cli, here: Path, tree: Path) -> None:
    cli.inside("backup", "create", tree, *both(here))
    urls = storages(f"local:{here}/nothing", f"local:{here}/b")
    result = cli.inside("backup", "list", *urls, "-f", "json", code=3)
    assert len(result.json) == 1
    assert f"warning: local:{here}/nothing: left out: there is no repository" in result.err
    assert cli.inside("backup", "restore", "latest", here / "out", *urls).code == 0


@pytest.mark.parametrize(
    "command",
    [
        ("repository", "show"),
        ("repository", "stats"),
        ("repository", "init", "--no-encryption"),
        ("backup", "verify"),
        ("backup", "ls"),
        ("backup", "cat", "latest", "/x"),
        ("backup", "delete", "1234"),
    ],
)
def test_commands_for_one_storage_say_so(cli: Cli, here: Path, command: tuple[str, ...]) -> None:
    assert "2 storages are given, and this needs one" in cli.inside(*command, *both(here), code=2).err


def test_what_makes_no_sense_is_refused(cli: Cli, here: Path, config: Path, tree: Path) -> None:
    def error(*arguments: str) -> str:
        return cli.inside("backup", "create", tree, *arguments, code=2).err

    a = f"local:{here}/a"
    assert "given twice" in error(*storages(a, a))
    assert "which of several" in error(*both(here), "--storage-option", "sync=no")
    assert "several profiles" in error("--profile", "one", "--profile", "two", "--storage", a)
    assert "is not a duration" in error(*both(here), "--stall-timeout", "soon")
    config.write_text("[profiles.x]\nstorage='local:/x'\ngroup=['y']\n")
    assert "profiles.x has both storage and group" in error("--profile", "x")
    config.write_text("[profiles.x]\ngroup=['y']\n[profiles.y]\n[profiles.z]\ngroup=['w']\n")
    assert "'y' names no storage" in error("--profile", "x")
    assert "no profile 'w'" in error("--profile", "z")
    messages = [row["message"] for row in cli.inside("config", "check", "-f", "json", code=2).json]
    assert any("'y' of its group names no storage" in message for message in messages)
    assert any("no profile 'w' for its group" in message for message in messages)


def test_config_show_has_all_storages(cli: Cli, config: Path, tmp_path: Path) -> None:
    rows = cli.inside("config", "show", "--profile", "both", "-f", "json").json
    shown = [(row["value"], row["given_by"]) for row in rows if row["setting"] == "storage"]
    assert shown == [(f"local:{tmp_path}/one", "profile one"), (f"local:{tmp_path}/two", "profile two")]
    passwords = [(row["value"], row["given_by"]) for row in rows if row["setting"] == "password"]
    assert passwords == [("file", "profile one"), ("file", "profile two")]
    assert all(row["severity"] == "info" for row in cli.inside("config", "check", "-f", "json").json)


def test_options_after_the_verb_replace_those_before_it(cli: Cli, here: Path, tree: Path) -> None:
    result = cli.inside(*storages("local:/before"), "backup", "create", tree, *both(here), "-f", "json")
    assert [row["location"] for row in result.json] == [f"local:{here}/a", f"local:{here}/b"]


def test_an_interrupt_ends_all(cli: Cli, here: Path, tree: Path) -> None:
    slow = storages(f"troubled:slow,2,{here}/a", f"troubled:slow,2,{here}/b")
    with cli.popen(
        "backup", "create", large(tree), *slow, "--pack-size", "1M", "--json-events",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        while b'"progress"' not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 130, err
    for name in ("a", "b"):
        assert cli.inside("backup", "list", "--storage", f"local:{here}/{name}", "-f", "json").json == []


def test_a_program_runs_once(cli: Cli, here: Path) -> None:
    script = f"echo run >> {here}/runs; echo content"
    cli("backup", "create", "--name", "dump", *both(here), "--command", "dump", "--", "sh", "-c", script)
    assert (here / "runs").read_text() == "run\n"
    for name in ("a", "b"):
        assert cli("backup", "cat", "latest", "/dump", "--storage", f"local:{here}/{name}").out == "content\n"
