"""``repository init --like`` and ``backup copy``: two repositories on one command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.program import PASSWORD, Cli

OTHER = "another password"


@pytest.fixture
def target(tmp_path: Path, filled: Cli) -> str:
    """A second repository beside the one of ``filled``, unencrypted."""
    url = f"local:{tmp_path / 'second'}"
    filled("repository", "init", "--storage", url, "--no-encryption", "--like", source_of(filled))
    return url


def source_of(cli: Cli) -> str:
    return cli.env["FREEZER_STORAGE"]


def ids(cli: Cli, url: str) -> list[str]:
    return [backup["id"] for backup in cli("backup", "list", "-f", "json", "--storage", url).json]


def test_copy_all_then_nothing(filled: Cli, target: str, tree: Path, tmp_path: Path) -> None:
    made = ids(filled, source_of(filled))
    first = filled("backup", "copy", "--storage", target, "--from", source_of(filled))
    lines = first.out.splitlines()
    assert lines[0].startswith(f"copied backup {made[0][:8]}: etc of ")
    assert lines[1].startswith("  read ")
    assert len(lines) == 4
    assert ids(filled, target) == made
    again = filled("backup", "copy", "--storage", target, "--from", source_of(filled))
    assert again.out == "2 backups of these were here already\n"
    filled("backup", "restore", made[1], tmp_path / "out", "--storage", target)
    assert (tmp_path / "out" / "a.txt").read_text() == "alpha and more\n"


def test_like_makes_later_backups_find_what_was_copied(filled: Cli, target: str, tree: Path) -> None:
    filled("backup", "copy", "--storage", target, "--from", source_of(filled))
    stats = filled("backup", "create", tree, "--name", "etc", "-f", "json", "--storage", target).json
    assert stats["read_bytes"] == stats["added_bytes"] == 0


def test_choosing(filled: Cli, target: str) -> None:
    made = ids(filled, source_of(filled))
    common = ("--storage", target, "--from", source_of(filled), "-f", "json")
    chosen = filled("backup", "copy", *common, "--dry-run", "--tag", "first").json
    assert [(each["id"], each["outcome"]) for each in chosen["backups"]] == [(made[0], "missing")]
    assert ids(filled, target) == []
    assert filled("backup", "copy", *common, "--name", "nothing").json["backups"] == []
    result = filled("backup", "copy", *common, "latest").json
    assert [each["id"] for each in result["backups"]] == [made[1]]
    assert result["copied"] == 1
    assert result["added_bytes"] > 0
    filled("backup", "copy", *common, "ffffffff", code=1)


def test_what_was_deleted_here_stays_deleted(filled: Cli, target: str) -> None:
    made = ids(filled, source_of(filled))
    common = ("--storage", target, "--from", source_of(filled))
    filled("backup", "copy", *common)
    filled("backup", "delete", made[0], "--storage", target)
    result = filled("backup", "copy", *common)
    assert f"left out backup {made[0][:8]}" in result.out
    assert "1 backup of these was here already" in result.out
    filled("backup", "copy", *common, made[0], code=14)
    filled("backup", "copy", *common, made[0], made[1], code=3)
    assert ids(filled, target) == made[1:]


def test_what_is_damaged_fails_and_the_rest_is_copied(filled: Cli, target: str, tree: Path) -> None:
    made = ids(filled, source_of(filled))
    path = Path(source_of(filled).removeprefix("local:"))
    known = set(path.glob("packs/*/*"))
    (tree / "later").write_bytes(b"later" * 1000)
    bad = filled("backup", "create", tree, "--name", "etc", "-f", "json").json["id"]
    for pack in set(path.glob("packs/*/*")) - known:
        pack.unlink()
    result = filled("backup", "copy", "--storage", target, "--from", source_of(filled), code=3)
    assert f"not copied backup {bad[:8]}" in result.out
    assert f"backup {bad[:8]}: " in result.err
    assert ids(filled, target) == made
    alone = filled("backup", "copy", bad, "--storage", target, "--from", source_of(filled), "-f", "json", code=13)
    assert alone.json["backups"][0]["error"]["code"] == "integrity"


def test_events(filled: Cli, target: str) -> None:
    events = filled("backup", "copy", "--storage", target, "--from", source_of(filled), "--json-events").events
    assert [event["event"] for event in events if event["event"] != "progress"] == [*["start", "finish"] * 2, "result"]
    assert {event.get("operation", "copy") for event in events} == {"copy"}
    assert events[-1]["copied"] == 2
    assert events[-1]["exit_code"] == 0


def test_each_repository_has_its_own_password(cli: Cli, tree: Path, tmp_path: Path) -> None:
    one, two = f"local:{tmp_path / 'one'}", f"local:{tmp_path / 'two'}"
    files = {}
    for name, password in (("one", PASSWORD), ("two", OTHER)):
        files[name] = tmp_path / f"{name}.password"
        files[name].write_text(password)
        files[name].chmod(0o600)
    ours = ("--storage", two, "--password-file", files["two"])
    cli("repository", "init", "--storage", one, "--password-file", files["one"])
    cli("backup", "create", tree, "--storage", one, "--password-file", files["one"])
    cli("repository", "init", *ours, "--like", one, "--from-password-file", files["one"])
    config = tmp_path / "config.toml"
    config.write_text(f'[profiles.first]\nstorage = "{one}"\npassword-file = "{files["one"]}"\n')
    config.chmod(0o600)
    ways: list[tuple[str, list[str], dict[str, str]]] = [
        (one, ["--from-password-file", str(files["one"])], {}),
        (one, ["--from-password-command", f"cat {files['one']}"], {}),
        (one, [], {"FREEZER_FROM_PASSWORD": PASSWORD}),
        (one, [], {"FREEZER_FROM_PASSWORD_FILE": str(files["one"])}),
        ("first", ["--config", str(config)], {}),
    ]
    for source, more, environment in ways:
        done = cli("backup", "copy", *ours, "--from", source, *more, "--dry-run", "-f", "json", env=environment)
        assert done.json["missing"] == 1
        assert PASSWORD not in done.out + done.err
    assert cli("backup", "copy", *ours, "--from", one, env={"FREEZER_FROM_PASSWORD": OTHER}, code=12).out == ""
    assert cli("backup", "copy", *ours, "--from", one, env={"FREEZER_FROM_PASSWORD": PASSWORD}).out.startswith("copied")


def test_both_passwords_are_asked_for(cli: Cli, tree: Path, tmp_path: Path) -> None:
    one, two = f"local:{tmp_path / 'one'}", f"local:{tmp_path / 'two'}"
    cli("repository", "init", "--storage", one, env={"FREEZER_PASSWORD": PASSWORD})
    made = cli.in_terminal("repository", "init", "--storage", two, "--like", one, answers=[PASSWORD, OTHER, OTHER])
    assert made.code == 0, made.out
    assert made.out.index("Source repository password: ") < made.out.index("Repository password: ", 30)
    copied = cli.in_terminal("backup", "copy", "--storage", two, "--from", one, answers=[PASSWORD, OTHER])
    assert copied.code == 0, copied.out


def test_the_first_repositorys_settings_are_not_those_of_the_second(filled: Cli, target: str) -> None:
    """Neither FREEZER_STORAGE nor FREEZER_PASSWORD is about the source."""
    environment = {"FREEZER_STORAGE": target, "FREEZER_PROFILE": ""}
    filled("backup", "copy", "--from", source_of(filled), env=environment)
    refused = filled("backup", "copy", "--from", target, env={"FREEZER_STORAGE": target}, code=2)
    assert "itself" in refused.err


def test_usage_errors(filled: Cli, target: str, tmp_path: Path) -> None:
    assert "--from" in filled("backup", "copy", "--storage", target, code=2).err
    assert "no profile" in filled("backup", "copy", "--storage", target, "--from", "nowhere", code=2).err
    missing = f"local:{tmp_path / 'missing'}"
    filled("backup", "copy", "--storage", target, "--from", missing, code=10)
    filled("backup", "copy", "--storage", missing, "--from", source_of(filled), code=10)
    config = tmp_path / "several.toml"
    config.write_text(f'[profiles.both]\nstorage = ["{missing}", "{target}"]\n')
    several = filled(
        "backup", "copy", "--storage", target, "--from", "both", env={"FREEZER_CONFIG": str(config)}, code=2
    )
    assert "profile 'both' has 2 storages" in several.err
    filled(
        "backup", "copy", "--storage", target, "--from", missing, "--from-keyring", "--from-password-file", "x", code=2
    )


def test_an_unencrypted_repository_is_not_made_like_an_encrypted_one(cli: Cli, tmp_path: Path) -> None:
    one, two = f"local:{tmp_path / 'one'}", f"local:{tmp_path / 'two'}"
    cli("repository", "init", "--storage", one, env={"FREEZER_PASSWORD": PASSWORD})
    refused = cli(
        "repository", "init", "--storage", two, "--no-encryption", "--like", one,
        env={"FREEZER_FROM_PASSWORD": PASSWORD}, code=14,
    )  # fmt: skip
    assert "publish" in refused.err
    assert not (tmp_path / "two" / "config").exists()
