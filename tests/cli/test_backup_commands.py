"""``freezer backup``: the exact forms that scripts use, on real data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from cli.program import Cli


def ids(cli: Cli, *arguments: str) -> list[str]:
    return [row["id"] for row in cli("backup", "list", "-f", "json", *arguments).json]


def test_there_and_back(repo: Cli, tree: Path, tmp_path: Path) -> None:
    made = repo("backup", "create", tree, "--name", "etc")
    assert "3 new" not in made.out
    assert "2 new, 0 changed, 0 unmodified" in made.out
    repo("backup", "restore", "latest", tmp_path / "out", "--name", "etc")
    assert subprocess.run(["diff", "-r", "--no-dereference", tree, tmp_path / "out"], check=False).returncode == 0
    assert os.readlink(tmp_path / "out" / "link") == "a.txt"


def test_the_name_defaults_to_that_of_the_first_path(repo: Cli, tree: Path) -> None:
    assert repo("backup", "create", tree, tree / "sub", "-f", "value", "-c", "name").out == "tree\n"


def test_quiet_says_nothing(repo: Cli, tree: Path, tmp_path: Path) -> None:
    for arguments in (("create", tree), ("verify",), ("restore", "latest", tmp_path / "out"), ("delete", "latest")):
        result = repo("backup", *arguments, "--quiet")
        assert (result.out, result.err) == ("", "")
    assert repo("backup", "list", "--quiet", "-f", "json").json == []


def test_a_dry_run_writes_nothing(repo: Cli, tree: Path, tmp_path: Path) -> None:
    before = sorted((tmp_path / "repository").rglob("*"))
    assert "would store" in repo("backup", "create", tree, "--dry-run").out
    assert sorted((tmp_path / "repository").rglob("*")) == before
    assert ids(repo) == []


def test_list_filters(filled: Cli, tree: Path) -> None:
    filled("backup", "create", tree / "sub", "--host", "other", "--tag", "second", "--tag", "x")
    first, second, third = ids(filled)
    assert ids(filled, "--name", "etc") == [first, second]
    assert ids(filled, "--host", "other") == [third]
    assert ids(filled, "--tag", "second") == [second, third]
    assert ids(filled, "--tag", "second", "--tag", "x") == [third]
    assert ids(filled, "--path", str(tree)) == [first, second]
    time = filled("backup", "show", second, "-f", "value", "-c", "time").out.strip()
    assert ids(filled, "--before", time) == [first]
    assert ids(filled, "--after", time) == [second, third]
    assert ids(filled, "--before", "2001-01-01 00:00") == []


def test_dates_are_local(filled: Cli) -> None:
    """An hour from now in UTC is in the past for nobody; the same digits without an offset depend on the zone."""
    soon = subprocess.run(["date", "-u", "-d", "+1 hour", "+%F %T"], capture_output=True, text=True, check=True)
    digits = soon.stdout.strip()
    count = len(ids(filled))
    assert len(filled("backup", "list", "--before", digits, "-f", "json", env={"TZ": "UTC"}).json) == count
    ahead = filled("backup", "list", "--before", digits, "-f", "json", env={"TZ": "AAA-5"}).json
    assert ahead == [], "five hours ahead of UTC that moment is four hours ago"
    absolute = filled("backup", "list", "--before", f"{digits}+00:00", "-f", "json", env={"TZ": "AAA-5"}).json
    assert len(absolute) == count


def test_choosing(filled: Cli, tree: Path) -> None:
    first, second = ids(filled)
    show = ("backup", "show", "-f", "value", "-c", "id")
    assert filled(*show, "latest").out.strip() == second
    assert filled(*show, first[:12]).out.strip() == first
    assert filled(*show, "latest", "--tag", "first").out.strip() == first
    time = filled("backup", "show", first, "-f", "value", "-c", "time").out.strip()
    assert filled(*show, "latest", "--at", time).out.strip() == first
    assert filled(*show, "latest", "--host", "elsewhere", code=1).err.startswith("error: there is no such backup")
    filled("backup", "create", tree / "sub", "--name", "other")
    ambiguous = filled(*show, "latest", code=2).err
    assert "etc" in ambiguous
    assert "other" in ambiguous
    assert filled(*show, "ffffffffffffffffffff", code=1)


def test_ls(filled: Cli, tree: Path) -> None:
    lines = filled("backup", "ls", "latest").out.splitlines()
    assert lines == [str(tree), f"{tree}/a.txt", f"{tree}/new.txt", f"{tree}/sub", f"{tree}/sub/b.conf"]
    assert filled("backup", "ls", "latest", "sub").out.splitlines() == [f"{tree}/sub", f"{tree}/sub/b.conf"]
    assert filled("backup", "ls", f"latest:{tree}/sub").out.splitlines() == [f"{tree}/sub", f"{tree}/sub/b.conf"]
    long = filled("backup", "ls", "-l", "latest", str(tree / "a.txt")).out
    assert long.startswith("-rw-")
    assert long.endswith(f"{tree}/a.txt\n")
    assert " 15 " in long
    assert filled("backup", "ls", "-0", "latest", "sub").raw == f"{tree}/sub\0{tree}/sub/b.conf\0".encode()


def test_find_passes_damaged_backups_over_and_says_so(filled: Cli, tmp_path: Path) -> None:
    first = min((tmp_path / "repository" / "backups").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    found = filled("backup", "find", "*.conf")
    assert len(found.out.splitlines()) == 1
    assert "warning: damaged backups were passed over" in found.err
    assert filled("backup", "find", "*.conf", "--backup", first.name[-32:], code=13).out == ""


def test_find(filled: Cli, tree: Path) -> None:
    assert len(filled("backup", "find", "*.conf").out.splitlines()) == 2
    found = filled("backup", "find", "NEW*", "-i", "-f", "json").json
    assert [row["path"] for row in found] == [f"{tree}/new.txt"]
    assert found[0]["backup"] == ids(filled)[1]
    assert filled("backup", "find", "*.conf", "--tag", "nope").out == ""
    assert len(filled("backup", "find", "*.conf", "--backup", "latest", "-f", "json").json) == 1


def test_diff(filled: Cli, tree: Path) -> None:
    first, second = ids(filled)
    lines = filled("backup", "diff", first, second).out.splitlines()
    assert lines == [f"M {tree}/a.txt", f"- {tree}/link", f"+ {tree}/new.txt"]
    assert {row["kind"] for row in filled("backup", "diff", first, second, "-f", "json").json} == {
        "content",
        "removed",
        "added",
    }
    assert filled("backup", "diff", second, second).out == ""


def test_cat(filled: Cli, tree: Path) -> None:
    assert filled("backup", "cat", "latest", "a.txt").raw == b"alpha and more\n"
    assert filled("backup", "cat", f"latest:{tree}/a.txt").raw == b"alpha and more\n"
    assert filled("backup", "cat", "latest", "--tag", "first", str(tree / "a.txt")).raw == b"alpha\n"
    assert filled("backup", "cat", "latest", "missing", code=None).code == 1


def test_cat_of_a_large_file_is_exact(repo: Cli, tmp_path: Path) -> None:
    content = os.urandom(5_000_000)
    (tmp_path / "large").write_bytes(content)
    repo("backup", "create", tmp_path / "large")
    assert repo("backup", "cat", "latest", str(tmp_path / "large")).raw == content


def test_delete(filled: Cli) -> None:
    first, second = ids(filled)
    gone = filled("backup", "delete", first, "-f", "json").json
    assert [row["id"] for row in gone] == [first]
    assert ids(filled) == [second]
    assert filled("backup", "delete", second, "00000000", code=1).err
    assert ids(filled) == [second], "all must be found before the first is forgotten"


def test_restore_of_chosen_paths(filled: Cli, tree: Path, tmp_path: Path) -> None:
    filled("backup", "restore", "latest", tmp_path / "one", "--path", "sub")
    assert [path.name for path in (tmp_path / "one").rglob("*")] == ["sub", "b.conf"]
    filled("backup", "restore", "latest", tmp_path / "two", "--path", str(tree / "a.txt"), "--layout", "full")
    assert (tmp_path / f"two{tree}" / "a.txt").read_text() == "alpha and more\n"
    filled("backup", "restore", "latest", tmp_path / "three", "--exclude", "*.conf")
    assert not list((tmp_path / "three").rglob("*.conf"))


def test_several_roots_are_restored_under_their_full_names(repo: Cli, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "x").write_text("x")
    repo("backup", "create", tree, "--name", "both", tmp_path / "second")
    repo("backup", "restore", "latest", tmp_path / "out")
    assert (tmp_path / f"out{tree}" / "a.txt").read_text() == "alpha\n"
    assert (tmp_path / f"out{tmp_path}" / "second" / "x").read_text() == "x"


def test_overwrite_and_delete(filled: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.txt").write_text("mine")
    (out / "extra").write_text("extra")
    assert "not empty" in filled("backup", "restore", "latest", out, code=1).err
    filled("backup", "restore", "latest", out, "--overwrite", "never")
    assert (out / "a.txt").read_text() == "mine"
    plan = filled("backup", "restore", "latest", out, "--overwrite", "always", "--delete", "--dry-run").out
    assert "delete" in plan
    assert (out / "extra").exists()
    filled("backup", "restore", "latest", out, "--overwrite", "if-changed", "--delete")
    assert (out / "a.txt").read_text() == "alpha and more\n"
    assert not (out / "extra").exists()


def test_excludes_and_options_of_the_mode(repo: Cli, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "patterns").write_text("link\n")
    repo("backup", "create", "--exclude", "*.conf", tree, "--exclude-from", tmp_path / "patterns", "--no-sync")
    assert repo("backup", "ls", "latest").out.splitlines() == [str(tree), f"{tree}/a.txt", f"{tree}/sub"]


def test_standard_input(repo: Cli) -> None:
    repo("backup", "create", "--stdin", "dump.sql", "--name", "db", stdin=b"select 1;\n")
    assert repo("backup", "cat", "latest", "dump.sql").raw == b"select 1;\n"


def test_a_command(repo: Cli) -> None:
    repo("backup", "create", "--command", "out", "--name", "c", "--", "sh", "-c", "echo $0 --name", "--exclude")
    assert repo("backup", "cat", "latest", "out").raw == b"--exclude --name\n"
    repo("backup", "create", "--command=out", "--", "printf", "%s", "--")
    assert repo("backup", "cat", "latest", "out", "--name", "out").raw == b"--"


def test_a_command_without_a_program(repo: Cli) -> None:
    assert "a command needs both" in repo("backup", "create", "--command", "out", code=2).err
    assert "nothing to back up" in repo("backup", "create", "--name", "x", code=2).err


def test_a_failing_command_is_no_backup(repo: Cli, tree: Path) -> None:
    failed = repo("backup", "create", "--command", "dump", "--", "sh", "-c", "echo x; exit 7", code=1)
    assert "status 7" in failed.err
    assert ids(repo) == []
    partial = repo("backup", "create", tree, "--command", "dump", "--", "sh", "-c", "echo x; exit 7", code=3)
    assert "partial" in partial.out
    assert "status 7" in partial.err
    shown = repo("backup", "show", "latest", "-f", "json").json
    assert shown["status"] == "partial"
    assert any(problem["fatal"] and "status 7" in problem["message"] for problem in shown["problems"])


def test_paths_after_two_dashes(repo: Cli, tmp_path: Path) -> None:
    (tmp_path / "home" / "-odd").write_text("x")
    repo("backup", "create", "--name", "odd", "--", "-odd")
    assert repo("backup", "cat", "latest", str(tmp_path / "home" / "-odd")).raw == b"x"


def test_priorities(repo: Cli) -> None:
    script = "nice; ionice -p $$"
    repo("backup", "create", "--command", "p", "--nice", "7", "--ionice", "idle", "--", "sh", "-c", script)
    assert repo("backup", "cat", "latest", "p").out == f"{min(19, os.nice(0) + 7)}\nidle\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a user to change to")
def test_a_priority_that_is_refused_is_a_warning(repo: Cli, tree: Path) -> None:
    result = repo("backup", "create", tree, "--nice", "1", "--ionice", "idle", env={"PATH": "/nonexistent"})
    assert "warning: the I/O priority cannot be set" in result.err


def test_a_profile_makes_the_nightly_job(repo: Cli, tree: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(
        f'[profiles.default]\nstorage = "{repo.env.pop("FREEZER_STORAGE")}"\n'
        '[profiles.default.engine-options]\npack-size = "1M"\n'
        f'[profiles.default.backup]\npaths = ["{tree}"]\nname = "nightly"\ntag = ["a", "b"]\nexclude = "*.conf"\n'
        'nice = 3\nionice = "best-effort:7"\nsync = false\n'
    )
    repo.env["FREEZER_CONFIG"] = str(config)
    made = repo("backup", "create", "-f", "json").json
    assert (made["name"], made["tags"], made["excludes"]) == ("nightly", ["a", "b"], ["*.conf"])
    assert f"{tree}/sub/b.conf" not in repo("backup", "ls", "latest").out
    other = repo("backup", "create", tree / "sub", "--name", "n", "--tag", "c", "--exclude", "x", "-f", "json").json
    assert (other["name"], other["tags"], other["excludes"]) == ("n", ["c"], ["x"])


def test_engine_options_are_flags(repo: Cli, tree: Path) -> None:
    for flag in (
        ("--pack-size", "1M"),
        ("--queue-size", "1M"),
        ("--compression", "xz"),
        ("--engine-option", "threads=1"),
    ):
        repo("backup", "create", tree, *flag)
    assert "pack_size" in repo("backup", "create", tree, "--pack-size", "1K", code=2).err


def test_two_writers_of_the_same_option_are_refused(cli: Cli) -> None:
    assert "unknown option 'x'" in cli("backup", "list", "--storage", "memory:", "--engine-option", "x=1", code=2).err


def test_repository_commands(filled: Cli) -> None:
    shown = filled("repository", "show", "-f", "json").json
    assert len(shown["id"]) == 32
    assert shown["encrypted"] is False
    assert shown["location"] == filled.env["FREEZER_STORAGE"]
    stats = filled("repository", "stats", "-f", "json").json
    assert stats["backups"] == 2
    assert stats["stored_bytes"] > 0
    assert "| Backups" in filled("repository", "stats").out
