"""``freezer drill`` and ``freezer status``."""

from __future__ import annotations

from pathlib import Path

from cli.program import PASSWORD, Cli


def spoil(repository: Path) -> None:
    for path in (repository / "packs").rglob("*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(bytes(path.stat().st_size))


def test_a_drill_and_status_before_and_after(filled: Cli, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    limits = ["--max-age", "26h", "--drill-max-age", "30d"]
    before = filled("status", *limits, "-f", "json", code=15).json
    assert [(row["name"], row["state"], row["drilled"]) for row in before] == [("etc", "undrilled", None)]
    told = filled("drill", "run", "--name", "etc", "--scratch", scratch)
    assert "3 files (" in told.out
    assert " restored in " in told.out
    assert list(scratch.iterdir()) == []
    after = filled("status", *limits, "-f", "json").json
    assert [(row["name"], row["state"], row["drill_passed"]) for row in after] == [("etc", "ok", True)]
    (listed,) = filled("drill", "list", "-f", "json").json
    assert listed["passed"]
    assert listed["backup"] == after[0]["backup"]
    assert listed["signer"]
    assert listed["id"][:8] not in filled("drill", "list").out
    assert filled("drill", "list", "--name", "other", "-f", "json").json == []
    assert filled("repository", "check", "--read-data", "-f", "json").json["findings"] == []


def test_a_drill_that_does_not_pass(filled: Cli, tmp_path: Path) -> None:
    assert filled("drill", "run", "-f", "json").json["passed"]
    spoil(tmp_path / "repository")
    failed = filled("drill", "run", "--json-events", code=13).events
    assert failed[-1]["event"] == "result"
    assert failed[-1]["exit_code"] == 13
    assert not failed[-1]["passed"]
    assert "DID NOT PASS" in filled("drill", "run", "--no-record", code=13).out
    row = filled("status", "--drill-max-age", "30d", "-f", "json", code=15).json[0]
    assert (row["state"], row["drill_passed"], bool(row["drilled"])) == ("undrilled", False, True)
    assert [each["passed"] for each in filled("drill", "list", "-f", "json").json] == [True, False]


def test_samples_and_choices(filled: Cli) -> None:
    drill = filled.inside("drill", "run", "--sample", "1%", "--tag", "first", "-f", "json").json
    assert drill["passed"]
    assert drill["sample"] == 0.01
    assert "is no share" in filled.inside("drill", "run", "--sample", "much", code=2).err
    assert "cannot check" in filled.inside("drill", "run", "--verifier", "application", code=2).err
    assert "files" in filled.inside("drill", "run", "--verifier", "oracle", code=2).err
    assert filled.inside("drill", "run", "ffffffff", code=1).err
    assert "NAME=VALUE" in filled.inside("drill", "run", "--mode-option", "paths", code=2).err


def test_status_of_names(filled: Cli) -> None:
    assert filled.inside("status", "-f", "value", "-c", "state", "-c", "name").out == "ok etc\n"
    late = filled.inside("status", "--max-age", "1ms", "--expect", "db", "-f", "json", code=15).json
    assert [(row["name"], row["state"], row["age_seconds"] is None) for row in late] == [
        ("db", "overdue", True),
        ("etc", "overdue", False),
    ]
    assert filled.inside("status", "--name", "etc", "--max-age", "1d", "-f", "json").json[0]["name"] == "etc"
    assert "is not a duration" in filled.inside("status", "--max-age", "yesterday", code=2).err


MONITORS = [
    (["--max-age", "26h"], 0, "FREEZER OK - 1 of 1 names are fine | names=1 partial=0 undrilled=0 overdue=0 oldest="),
    (["--max-age", "26h", "--drill-max-age", "30d"], 1, "FREEZER WARNING - etc of "),
    (["--max-age", "26h", "--expect", "db"], 2, "FREEZER CRITICAL - db has no backup; 1 of 2 names are fine |"),
    (["--storage", "local:/no/such/place"], 3, "FREEZER UNKNOWN - "),
    (["--max-age", "26h", "--host", "elsewhere"], 2, "FREEZER CRITICAL - there is no backup at all | names=0 "),
    (["--host", "elsewhere"], 3, "FREEZER UNKNOWN - there is no backup at all | names=0 "),
    (["--max-age", "yesterday"], 3, "FREEZER UNKNOWN - wrong arguments"),
    (["--no-such-option"], 3, "FREEZER UNKNOWN - wrong arguments"),
]


def test_monitors(filled: Cli) -> None:
    for words, code, line in MONITORS:
        told = filled.inside("status", *words, "--nagios", code=code)
        assert told.out.startswith(line)
        assert told.out.count("\n") == 1


def test_a_repository_without_backups(filled: Cli) -> None:
    none = filled.inside("status", "--max-age", "1d", "--host", "elsewhere", code=15)
    assert "there is no backup at all" in none.err
    assert filled.inside("status", "--host", "elsewhere", "-f", "json").json == []


def test_limits_in_a_profile(filled: Cli, tmp_path: Path) -> None:
    config = tmp_path / "freezer.toml"
    config.write_text('[profiles.default.status]\nmax-age = "1ms"\nexpect = "db"\n')
    filled.env["FREEZER_CONFIG"] = str(config)
    assert len(filled.inside("status", "-f", "json", code=15).json) == 2
    assert filled.inside("status", "--max-age", "1d", "--name", "etc", "--expect", "etc", "-f", "json").json
    config.write_text('[profiles.default.status]\nmax-age = "soon"\n')
    assert "status.max-age" in filled.inside("config", "check", code=2).out
    assert "status.max-age" in filled.inside("status", code=2).err


def test_several_storages(filled: Cli, tree: Path, tmp_path: Path) -> None:
    other, gone = f"local:{tmp_path / 'other'}", f"local:{tmp_path / 'gone'}"
    here = filled.env["FREEZER_STORAGE"]
    filled("repository", "init", "--no-encryption", "--storage", other)
    filled("backup", "create", tree, "--name", "home", "--storage", other)
    both = ["--storage", here, "--storage", other]
    rows = filled("status", *both, "--max-age", "1d", "-f", "json").json
    assert {(row["location"], row["name"]) for row in rows} == {(here, "etc"), (other, "home")}
    assert other in filled("status", *both).out
    found = filled("status", *both, "--storage", gone, "-f", "json", code=3)
    assert len(found.json) == 2
    assert "left out" in found.err
    line = filled("status", *both, "--storage", gone, "--nagios", code=3).out
    assert line.startswith("FREEZER UNKNOWN - a storage cannot be asked; 2 of 2 names are fine")


def test_who_may_not_sign(cli: Cli, tree: Path, tmp_path: Path) -> None:
    cli.env |= {"FREEZER_STORAGE": f"local:{tmp_path / 'repository'}", "FREEZER_PASSWORD": PASSWORD}
    cli("repository", "init")
    cli("backup", "create", tree, "--name", "etc")
    cli("repository", "key", "add", "--role", "reader", env={"FREEZER_NEW_PASSWORD": "a reader"})
    cli.env["FREEZER_PASSWORD"] = "a reader"
    assert "role" in cli("drill", "run", code=1).err
    assert cli("drill", "run", "--no-record", "-f", "json").json["passed"]
    assert cli("drill", "list", "-f", "json").json == []
