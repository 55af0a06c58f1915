"""The keys of machine formats are those of the reference page, and a program can rely on them."""

from __future__ import annotations

import csv
import io
import re
from datetime import datetime
from pathlib import Path

import pytest
from cli.program import Cli

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "machine-formats.md"
COLUMNS = ["ID", "Time", "Host", "Name", "Mode", "Engine", "Status", "Files", "Bytes", "Added"]
KEYS = ["id", "time", "host", "name", "mode", "engine", "status", "files", "bytes", "added_bytes"]


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:][_titles().index(title)]


def _titles() -> list[str]:
    return re.findall(r"^## (.*)$", PAGE.read_text(), flags=re.MULTILINE)


def documented(title: str) -> list[str]:
    rows = [line.split("|")[1] for line in section(title).splitlines() if line.startswith("| `")]
    return [key for row in rows for key in re.findall(r"`([a-z_0-9]+)`", row)]


def result_keys(command: str) -> list[str]:
    rows = [line for line in section("Results").splitlines() if line.startswith("| `")]
    row = next(line for line in rows if f"`{command}`" in line.split("|")[1])
    cell = re.sub(r"\(.*?\)", "", row.split("|")[2])
    return re.findall(r"`([a-z_0-9]+)`", cell)


def test_table_columns(filled: Cli) -> None:
    header = filled.inside("backup", "list").out.splitlines()[1]
    assert [word.strip() for word in header.strip("|").split("|")] == COLUMNS


def test_csv_and_value_have_the_columns_of_the_table(filled: Cli) -> None:
    rows = list(csv.reader(io.StringIO(filled.inside("backup", "list", "-f", "csv").out)))
    assert rows[0] == KEYS
    assert len(rows) == 3
    assert len(rows[1][0]) == 32
    assert filled.inside("backup", "list", "-f", "value", "-c", "name", "-c", "files").out == "etc 2\netc 3\n"


def test_json_has_the_documented_keys(filled: Cli, tmp_path: Path) -> None:
    backup = documented("Backups")
    assert backup[: len(KEYS)] == KEYS
    row = filled.inside("backup", "list", "-f", "json").json[0]
    assert list(row) == list(filled.inside("backup", "show", "latest", "-f", "json").json)
    assert sorted(row) == sorted(backup)
    entry = filled.inside("backup", "ls", "latest", "-f", "json").json[0]
    assert sorted(entry) == sorted(documented("Entries"))
    found = filled.inside("backup", "find", "*", "-f", "json").json[0]
    assert sorted(found) == sorted([*documented("Entries"), "backup", "time"])
    for command, arguments in {
        "backup restore": ("backup", "restore", "latest", tmp_path / "out"),
        "backup verify": ("backup", "verify"),
        "repository init": ("repository", "show"),
        "repository stats": ("repository", "stats"),
        "plugin list": ("plugin", "list"),
        "config show": ("config", "show"),
        "config check": ("config", "check"),
    }.items():
        document = filled.inside(*arguments, "-f", "json").json
        document = document[0] if isinstance(document, list) else document
        assert sorted(document) == sorted(set(result_keys(command)) - {"show", "options"}), command


def test_times_have_an_offset(filled: Cli) -> None:
    row = filled.inside("backup", "list", "-f", "json").json[0]
    assert datetime.fromisoformat(row["time"]).utcoffset() is not None
    entry = filled.inside("backup", "ls", "latest", "-f", "json").json[-1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+00:00", entry["mtime"])


def test_numbers_are_plain_in_machine_formats_and_human_in_tables(filled: Cli) -> None:
    assert isinstance(filled.inside("backup", "list", "-f", "json").json[0]["bytes"], int)
    assert re.search(r"\|\s+506 B \|", filled.inside("backup", "list").out)


@pytest.mark.parametrize("name", ["Added", "added", "added_bytes", "ADDED_BYTES"])
def test_columns_by_title_or_key(filled: Cli, name: str) -> None:
    assert list(filled.inside("backup", "list", "-f", "json", "-c", name).json[0]) == ["added_bytes"]


def test_unknown_columns_are_an_error(filled: Cli) -> None:
    assert "there is no column nope" in filled.inside("backup", "list", "-c", "nope", code=2).err
    assert "there is no column nope" in filled.inside("backup", "list", "--sort-column", "nope", code=2).err


def test_sorting_is_by_value(filled: Cli) -> None:
    arguments = ("backup", "list", "-f", "value", "-c", "bytes", "--sort-column", "Bytes")
    up = [int(line) for line in filled.inside(*arguments).out.splitlines()]
    down = [int(line) for line in filled.inside(*arguments, "--sort-descending").out.splitlines()]
    assert up == sorted(up)
    assert down == up[::-1]


def test_yaml(filled: Cli) -> None:
    import yaml

    rows = yaml.safe_load(filled.inside("backup", "list", "-f", "yaml").out)
    assert rows == filled.inside("backup", "list", "-f", "json").json


def test_every_command_has_every_format(filled: Cli, tmp_path: Path) -> None:
    commands = [
        ("backup", "list"),
        ("backup", "show", "latest"),
        ("backup", "ls", "latest"),
        ("backup", "find", "*"),
        ("backup", "diff", "latest", "latest"),
        ("backup", "verify"),
        ("repository", "show"),
        ("repository", "stats"),
        ("plugin", "list"),
        ("plugin", "show", "local"),
        ("config", "show"),
    ]
    for command in commands:
        for form in ("json", "yaml", "csv", "value", "table"):
            result = filled.inside(*command, "-f", form)
            assert not result.err
    for form in ("json", "yaml", "csv", "value", "table"):
        assert filled.inside("backup", "restore", "latest", tmp_path / form, "-f", form).out


def test_names_of_any_bytes(repo: Cli, tmp_path: Path) -> None:
    odd = os_bytes(tmp_path) + b"/odd"
    names = [b"bad\xff", b"esc\x1b[31m", b"new\nline", "fünf".encode()]
    (tmp_path / "odd").mkdir()
    for name in names:
        with open(odd + b"/" + name, "wb") as file:
            file.write(b"x")
    repo("backup", "create", odd)
    listed = repo("backup", "ls", "latest", "-0").raw.split(b"\0")
    assert sorted(listed[1:-1]) == sorted(odd + b"/" + name for name in names), "exact on a pipe"
    rows = {row["path"]: row["path_base64"] for row in repo("backup", "ls", "latest", "-f", "json").json}
    assert rows[f"{tmp_path}/odd/bad\ufffd"] is not None
    assert rows[f"{tmp_path}/odd/fünf"] is None
    assert rows[f"{tmp_path}/odd/new\nline"] is None
    for form in ("text", "value", "table", "csv"):
        shown = repo.in_terminal("backup", "ls", "latest", "-f", form).raw
        assert b"\x1b[31m" not in shown, form
    shown = repo.in_terminal("backup", "ls", "latest").out
    assert {"bad\\xff", "esc\\x1b[31m", "new\\nline", "fünf"} <= {
        line.rpartition("/")[2] for line in shown.split("\r\n")
    }
    assert repo("backup", "cat", "latest", odd + b"/bad\xff").raw == b"x"


def os_bytes(path: Path) -> bytes:
    return str(path).encode()


def test_an_ascii_terminal_gets_escapes_instead_of_an_error(repo: Cli, tmp_path: Path) -> None:
    (tmp_path / "fünf").write_text("x")
    environment = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    repo("backup", "create", tmp_path / "fünf", env=environment)
    assert "\\xfc" in repo("backup", "list", env=environment).out
