"""Every exit code of docs/reference/exit-codes.md, from the installed program."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.program import PASSWORD, PROGRAM, Cli
from rights import AS_OTHERS, needs_rights

from freezer_sdk import errors


def test_done(cli: Cli) -> None:
    assert cli("--version").out.startswith("freezer ")
    assert cli("--help").out.startswith("usage: freezer")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("backup",),
        ("backup", "list", "--bogus"),
        ("--bogus", "backup", "list"),
        ("backup", "restore", "latest"),
        ("backup", "list", "-f", "xml"),
        ("backup", "list", "--before", "yesterday"),
        ("backup", "list", "--nam", "abbreviated"),
        ("backup", "list"),
        ("backup", "list", "--storage", "no-scheme"),
        ("backup", "list", "--storage", "nope:/x"),
        ("backup", "list", "--storage", "local:/x", "--engine", "nope"),
        ("backup", "list", "--storage", "local:/x", "--storage-option", "sink=1"),
        ("backup", "create", "/x", "--storage", "local:/x", "--mode", "nope"),
        ("backup", "create", "/x", "--storage", "local:/x", "--pack-size", "large"),
        ("backup", "list", "--quiet", "--verbose"),
        ("backup", "list", "--password-file", "x", "--password-command", "y"),
        ("no", "such", "command"),
    ],
)
def test_usage(cli: Cli, arguments: tuple[str, ...]) -> None:
    result = cli.inside(*arguments, code=2)
    assert result.err
    assert not result.out


def tree_of(error: type[errors.FreezerError]) -> Iterator[type[errors.FreezerError]]:
    for below in error.__subclasses__():
        yield below
        yield from tree_of(below)


EACH_CODE = {error.exit_code: error for error in tree_of(errors.FreezerError) if error.__module__ == errors.__name__}
"""Public errors only, whatever else has been imported."""


def test_the_page_has_every_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md").read_text()
    listed = {int(line.split("|")[1]) for line in page.splitlines() if line.startswith("| ") and line[2].isdigit()}
    assert EACH_CODE.keys() <= listed


@pytest.mark.parametrize("error", EACH_CODE.values(), ids=lambda error: error.__name__)
def test_an_error_of_the_library_has_its_code_and_a_hint(plugins: Cli, error: type[errors.FreezerError]) -> None:
    result = plugins("backup", "list", "--storage", f"raising:{error.__name__}", code=error.exit_code)
    assert f"error: this is {error.__name__}\\x1b[31m\nhint: do something\n" in result.err
    assert not result.out


def test_a_defect_is_no_traceback_unless_asked_for(plugins: Cli) -> None:
    result = plugins("backup", "list", "--storage", "raising:defect", code=1)
    assert "this should not happen" in result.err
    assert "raising" in result.err
    debug = plugins("backup", "list", "--storage", "raising:defect", "--debug", code=None)
    assert debug.code == 1
    assert "Traceback" in debug.err


@needs_rights
def test_a_restore_of_what_could_not_be_read_is_partial(repo: Cli, tree: Path, tmp_path: Path) -> None:
    (tree / "sub").chmod(0)
    command = [*AS_OTHERS, PROGRAM, "backup", "create", str(tree), "--name", "etc"]
    done = subprocess.run(command, env=repo.environment(), capture_output=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    result = repo("backup", "restore", "latest", tmp_path / "out", "-f", "json", code=3)
    assert [(each["kind"], each["path"]) for each in result.json["problems"]] == [("incomplete", "sub")]
    assert "Permission denied" in result.err
    repo("backup", "restore", "latest", tmp_path / "some", "--include", "a.txt")


def test_a_restore_with_problems_is_partial(filled: Cli, tmp_path: Path) -> None:
    flip_data(tmp_path / "repository")
    result = filled("backup", "restore", "latest", tmp_path / "out", code=None)
    assert result.code in (3, 13)
    assert not any(path.read_text().startswith("beta") for path in tmp_path.glob("out/sub/*"))


def test_no_repository(cli: Cli, tmp_path: Path, tree: Path) -> None:
    storage = f"local:{tmp_path / 'nothing'}"
    for verb in (("list",), ("create", str(tree)), ("verify",)):
        result = cli("backup", *verb, "--storage", storage, env={"FREEZER_PASSWORD": "x"}, code=10)
        assert "freezer repository init" in result.err
    assert not (tmp_path / "nothing").exists()


def test_wrong_password(cli: Cli, tmp_path: Path, tree: Path) -> None:
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    cli("repository", "init", env={"FREEZER_PASSWORD": PASSWORD})
    before = sorted(path for path in (tmp_path / "repository").rglob("*"))
    cli("backup", "create", str(tree), env={"FREEZER_PASSWORD": "wrong"}, code=12)
    cli("backup", "create", str(tree), code=12)
    assert sorted(path for path in (tmp_path / "repository").rglob("*")) == before, "nothing was written"
    cli("backup", "list", env={"FREEZER_PASSWORD": PASSWORD})


def test_a_second_repository_is_not_made(repo: Cli) -> None:
    assert "error: " in repo("repository", "init", "--no-encryption", code=1).err


def test_damage(filled: Cli, tmp_path: Path) -> None:
    assert "no damage" in filled("backup", "verify", "--read-data").out
    flip_data(tmp_path / "repository")
    result = filled("backup", "verify", "--read-data", code=13)
    assert re.search(r"\d problems?\n", result.out)
    document = filled("backup", "verify", "--read-data", "-f", "json", code=13).json
    assert document["ok"] is False
    assert document["problems"]


def flip_data(repository: Path) -> None:
    """Damages every byte in the middle of every pack of file data."""
    packs = [path for path in (repository / "packs").rglob("*") if path.is_file()]
    assert packs
    for pack in packs:
        data = bytearray(pack.read_bytes())
        for place in range(len(data) // 8, len(data) // 2):
            data[place] ^= 0x55
        pack.chmod(0o600)
        pack.write_bytes(data)


def test_a_closed_pipe_is_silent(filled: Cli) -> None:
    process = filled.popen("backup", "ls", "latest", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors_written = process.stderr.read()
    assert process.wait(60) == 141
    process.stderr.close()
    assert errors_written == b""


def test_a_full_disk_under_the_output_is_told(filled: Cli) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    with open("/dev/full", "wb") as full:
        process = filled.popen("backup", "list", stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert b"No space left" in err
