"""``freezer plugin``: what is there, what is broken and why, and whether it keeps its contract."""

from __future__ import annotations

from pathlib import Path

from cli.program import Cli


def test_list_names_what_is_there_and_what_is_broken(plugins: Cli) -> None:
    rows = {(row["kind"], row["name"]): row for row in plugins("plugin", "list", "-f", "json").json}
    assert rows["storage", "local"]["available"] is True
    assert rows["storage", "file"]["alias_of"] == "local"
    assert {("engine", "dedup"), ("mode", "fs"), ("compressor", "zstd"), ("storage", "memory")} <= rows.keys()
    raising = rows["storage", "raising"]
    assert (raising["distribution"], raising["version"]) == ("strange-plugins", "1.5")
    assert rows["storage", "old"]["available"] is False
    assert "api_version 0" in rows["storage", "old"]["reason"]
    assert "strange_plugins_gone" in rows["storage", "gone"]["reason"]


def test_list_of_one_kind_as_a_table(cli: Cli) -> None:
    lines = cli("plugin", "list", "--kind", "compressor").out.splitlines()
    assert [word.strip() for word in lines[1].strip("|").split("|")] == [
        "Kind",
        "Name",
        "Distribution",
        "Version",
        "Available",
        "Why not",
        "Summary",
    ]
    assert any("| zstd" in line for line in lines)
    assert not any("| local" in line for line in lines)


def test_show_explains_the_options(cli: Cli) -> None:
    shown = cli("plugin", "show", "dedup", "-f", "json").json
    assert shown["kind"] == "engine"
    pack_size = next(option for option in shown["options"] if option["name"] == "pack_size")
    assert pack_size["flag"] == "--pack-size"
    assert pack_size["type"] == "size"
    assert "pack_size (size; default" in cli("plugin", "show", "dedup").out


def test_show_of_something_unknown(cli: Cli) -> None:
    assert "there is no plug-in 'nope'" in cli("plugin", "show", "nope", code=2).err


def test_the_suite_passes_on_a_good_storage_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    place = tmp_path / "place"
    rows = cli("plugin", "test", "local", "--option", f"path={place}", "-f", "json").json
    assert len(rows) > 20
    assert {row["outcome"] for row in rows} == {"passed"}
    assert not [path for path in place.rglob("*") if path.is_file()]


def test_the_suite_fails_on_a_bad_storage(plugins: Cli) -> None:
    rows = plugins("plugin", "test", "forgetful", "-f", "json", code=1).json
    failed = [row for row in rows if row["outcome"] == "failed"]
    assert failed
    assert all(row["message"] for row in failed)
    assert any(row["outcome"] == "passed" for row in rows)


def test_the_suite_of_a_compressor(cli: Cli) -> None:
    lines = cli("plugin", "test", "zlib").out.splitlines()
    assert [word.strip() for word in lines[1].strip("|").split("|")] == ["Test", "Outcome", "Message"]
    assert all("| passed" in line for line in lines[3:-1])


def test_wrong_options_and_kinds_without_a_suite(cli: Cli) -> None:
    assert "unknown option 'speed'" in cli("plugin", "test", "local", "--option", "speed=9", code=2).err
    assert "NAME=VALUE" in cli("plugin", "test", "local", "--option", "path", code=2).err
    assert "no conformance suite for a mode" in cli("plugin", "test", "fs", code=2).err


def test_a_secret_option_comes_from_a_file_only(plugins: Cli, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("canary\nrest\n")
    clear = plugins("backup", "list", "--storage", "raising:key", "--storage-option", "key=canary", code=2)
    assert "is a secret, and command lines are public" in clear.err
    assert "canary" not in clear.err
    filed = plugins("backup", "list", "--storage", "raising:key", "--storage-option", f"key-file={key}", code=2)
    assert "the key has 6 letters" in filed.err
    tested = plugins("plugin", "test", "raising", "--option", f"key-file={key}", "--option", "error=key", code=2)
    assert "the key has 6 letters" in tested.err


def test_options_of_a_mode_whose_names_are_taken(plugins: Cli, tmp_path: Path) -> None:
    storage = ("--storage", f"local:{tmp_path / 'r'}")
    plugins("repository", "init", "--no-encryption", *storage)
    create = ("backup", "create", "--mode", "greedy", *storage)
    assert "--mode-name" in plugins(*create, "--help").out
    assert (
        "name=inner depth=3" in plugins(*create, "--name", "outer", "--mode-name", "inner", "--depth", "3", code=2).err
    )
    assert "--depth" not in plugins("backup", "create", "--help").out


def test_a_broken_command_does_not_hide_the_others(plugins: Cli) -> None:
    text = plugins("--help").out
    assert "strange broken" in text
    assert "cannot be loaded" in text
    assert "backup create" in text
    assert "strange_plugins_gone" in plugins("strange", "broken", code=1).err
