"""``backup forget``, ``hold``, ``release``, ``holds`` and ``undelete``."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from cli.program import Cli

from freezer_sdk import Freezer

NOW = ("--floor", "0d")  # what tests make is younger than the usual floor


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with three backups named etc, and one named home."""
    base = tmp_path_factory.mktemp("template")
    source = base / "tree"
    source.mkdir()
    with Freezer(f"local:{base / 'repository'}", create=True, encryption=False) as freezer:
        for name, tag in (("etc", "first"), ("etc", "second"), ("etc", "third"), ("home", "")):
            (source / "a.txt").write_text(f"{tag}\n")
            freezer.backup(source, name=name, tags=[tag], mode_options={"sync": False})
    return base / "repository"


@pytest.fixture
def three(cli: Cli, template: Path, tmp_path: Path) -> Cli:
    shutil.copytree(template, tmp_path / "repository")
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    return cli


def listed(cli: Cli, **wanted: str) -> list[str]:
    rows = cli.inside("backup", "list", "-f", "json").json
    return [row["id"] for row in rows if all(row[key] == value for key, value in wanted.items())]


def groups(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {group["key"]["name"]: group for group in document["groups"]}


def test_a_dry_run_explains_every_decision(three: Cli) -> None:
    made = listed(three, name="etc")
    rules = ("--keep-last", "2", "--keep-yearly", "1", *NOW)
    result = three.inside("backup", "forget", *rules, "--dry-run")
    lines = result.out.splitlines()
    assert lines[0].startswith("etc of ")
    assert lines[0].endswith(": 2 kept, 1 to forget")
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["keep", made[2][:8]],
        ["keep", made[1][:8]],
        ["forget", made[0][:8]],
    ]
    assert "last 1; yearly 20" in lines[1]
    assert lines[3].endswith(f" is {made[2][:8]}")
    assert lines[-1] == "would forget 1 backup, keep 3"
    document = three.inside("backup", "forget", *rules, "--dry-run", "-f", "json").json
    assert (document["applied"], document["kept"], document["forgotten"]) == (False, 3, 1)
    etc = groups(document)["etc"]
    assert (etc["kept"], etc["forgotten"], etc["refused"], etc["writer"]) == (2, 1, False, None)
    assert etc["share"] == 0.3333
    dropped = etc["backups"][-1]
    assert (dropped["id"], dropped["keep"], dropped["status"]) == (made[0], False, "complete")
    assert [reason["rule"] for reason in dropped["reasons"]] == ["last", "yearly"]
    assert [reason["taken_by"] for reason in dropped["reasons"]] == [None, made[2]]
    assert listed(three, name="etc") == made


def test_forgetting_and_bringing_back(three: Cli, tmp_path: Path) -> None:
    made = listed(three, name="etc")
    result = three.inside("backup", "forget", "--keep-last", "2", *NOW)
    assert f"  forget  {made[0][:8]}" in result.out
    assert made[1][:8] not in result.out, "what is kept is no news"
    assert result.out.endswith("forgot 1 backup, kept 3\n")
    assert three.inside("backup", "forget", "--keep-last", "2", *NOW, "--quiet").out == ""
    assert listed(three, name="etc") == made[1:]
    assert made[0][:8] in three.inside("backup", "undelete").out
    (row,) = three.inside("backup", "undelete", "-f", "json").json
    assert (row["id"], row["reason"], row["name"]) == (made[0], "policy: last", "etc")
    result = three.inside("backup", "undelete", made[0][:8])
    back = listed(three, name="etc")[0]
    assert back != made[0]
    assert result.out == f"backup {made[0][:8]} is back as {back[:8]}\n"
    (row,) = three.inside("backup", "undelete", made[0], "-f", "json").json
    assert (row["was"], row["id"]) == (made[0], back)
    three.inside("backup", "restore", back, tmp_path / "out")
    assert (tmp_path / "out" / "a.txt").read_text() == "first\n"
    three.inside("backup", "undelete", "ffffffff", code=1)
    three.inside("backup", "undelete", made[1], code=1)


def test_the_guard(three: Cli) -> None:
    made = listed(three)
    refused = three.inside("backup", "forget", "--keep-last", "1", *NOW, code=14)
    assert "2 of 3" in refused.err
    assert listed(three) == made
    dry = three.inside("backup", "forget", "--keep-last", "1", *NOW, "--dry-run")
    assert "REFUSED" in dry.out
    three.inside("backup", "forget", "--keep-last", "1", *NOW, "--name", "home")
    three.inside("backup", "forget", "--keep-last", "1", *NOW, "--max-share", "70%")
    assert listed(three) == made[2:]


def test_force(three: Cli) -> None:
    made = listed(three)
    three.inside("backup", "forget", "--keep-last", "1", *NOW, "--force")
    assert listed(three) == made[2:]


def test_the_floor_and_other_rules(three: Cli) -> None:
    made = listed(three)
    for rules in (
        ("--keep-last", "1"),
        ("--older-than", "1h", *NOW),
        ("--before", "2020-01-01", *NOW),
        ("--keep-tag", "first", "--keep-tag", "second", "--keep-last", "1", *NOW),
        ("--keep-within", "1d", *NOW),
        ("--keep-last", "3", "--group-by", "host,name", *NOW),
        ("--keep-last", "1", "--group-by", "host,tags", "--name", "etc", *NOW),
    ):
        assert three.inside("backup", "forget", *rules, "--dry-run", "-f", "json").json["forgotten"] == 0, rules
    assert listed(three) == made


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "keeps nothing"),
        (("--keep-daily", "0"), "keeps nothing"),
        (("--keep-daily", "-1"), "negative"),
        (("--older-than", "30"), "30d"),
        (("--older-than", "soon"), "not a duration"),
        (("--keep-within", "9999999999w"), "too long"),
        (("--keep-last", "1", "--max-share", "many"), "percentage"),
        (("--keep-last", "1", "--max-share", "101"), "max_share"),
        (("--keep-last", "1", "--group-by", "colour"), "colour"),
        (("--keep-last", "x"), "invalid int"),
    ],
)
def test_what_makes_no_sense(three: Cli, arguments: tuple[str, ...], message: str) -> None:
    assert message in three.inside("backup", "forget", *arguments, code=2).err


def test_rules_of_a_profile(three: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
[profiles.default]
storage = "{three.env["FREEZER_STORAGE"]}"
[profiles.default.retention]
keep-last = 2
keep-within = "0h"
keep-tag = ["first"]
older-than = "0s"
floor = "0d"
group-by = ["host", "name", "paths"]
max-share = "40%"
"""
    )
    made = listed(three, name="etc")

    def plan(*arguments: str) -> list[str]:
        found = three.inside("backup", "forget", "--config", config, "--dry-run", "-f", "json", *arguments).json
        return [each["id"] for each in groups(found)["etc"]["backups"] if not each["keep"]]

    assert three.inside("config", "check", "--config", config, "-f", "json").json[-1]["severity"] == "info"
    assert plan() == []
    assert plan("--keep-tag", "other") == [made[0]]
    assert plan("--keep-tag", "other", "--keep-last", "3") == []
    three.inside("backup", "forget", "--config", config, "--keep-last", "1", "--keep-tag", "x", code=14)
    rows = three.inside("config", "show", "--config", config, "-f", "json").json
    assert {"setting": "retention.keep-last", "value": 2, "given_by": "profile default"} in rows
    for wrong, message in (
        ("keep-dayly = 7", "keep-daily"),
        ('keep-within = "30"', "30d"),
        ("keep-last = true", "whole"),
    ):
        config.write_text(f'[profiles.default]\nstorage = "local:/x"\n[profiles.default.retention]\n{wrong}\n')
        found = three.inside("config", "check", "--config", config, code=2)
        assert message in found.out + found.err


def test_holds(three: Cli) -> None:
    made = listed(three, name="etc")
    out = three.inside("backup", "hold", made[0][:8], "--reason", "case 4711").out
    assert out == f"backup {made[0][:8]} is held until it is released\n"
    out = three.inside("backup", "hold", made[1], "--reason", "audit", "--until", "2100-01-31").out
    assert out == f"backup {made[1][:8]} is held until 2100-01-31 23:59:59\n"
    rows = three.inside("backup", "holds", "-f", "json").json
    assert [(row["backup"], row["reason"]) for row in rows] == [(made[0], "case 4711"), (made[1], "audit")]
    assert [row["until"] for row in rows] == [None, "2100-01-31T23:59:59.999999+00:00"]
    assert "case 4711" in three.inside("backup", "holds").out
    refused = three.inside("backup", "delete", made[0], made[2], code=14)
    assert "case 4711" in refused.err
    assert listed(three, name="etc") == made
    found = three.inside("backup", "forget", "--keep-last", "1", *NOW, "--dry-run")
    assert "held: case 4711" in found.out
    released = three.inside("backup", "release", made[0])
    assert released.out == f"backup {made[0][:8]} is not held any more: case 4711\n"
    three.inside("backup", "release", made[0], code=14)
    three.inside("backup", "delete", made[0])
    assert listed(three, name="etc") == made[1:]


def test_what_a_hold_needs(three: Cli) -> None:
    first = listed(three)[0]
    three.inside("backup", "hold", first, code=2)
    three.inside("backup", "hold", first, "--reason", "", code=2)
    three.inside("backup", "hold", first, "--reason", "x", "--until", "2020-01-01", code=2)
    three.inside("backup", "hold", "ffffffff", "--reason", "x", code=1)
    assert three.inside("backup", "holds", "-f", "json").json == []
    assert three.inside("backup", "undelete").out == "nothing was forgotten that could come back\n"


def test_levels_are_kept_with_what_they_need(cli: Cli, tmp_path: Path) -> None:
    """The plan says why, the rest goes at once, and nothing comes back."""
    source = tmp_path / "tree"
    source.mkdir()
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'levels'}"
    options = {"strategy": "incremental", "max_level": 1}
    with Freezer(
        cli.env["FREEZER_STORAGE"], create=True, engine="tar", engine_options=options, encryption=False
    ) as freezer:
        for number in range(4):
            (source / "a.txt").write_text(f"{number}\n")
            last = freezer.backup(source, name="etc", mode_options={"sync": False})
    time.sleep(max(0.0, last.time.timestamp() + 1 - time.time()))  # runs of one second get later ones
    made = listed(cli)
    lines = cli.inside("backup", "forget", "--keep-last", "1", *NOW, "--dry-run").out.splitlines()
    assert lines[2].split()[:2] == ["keep", made[2][:8]]
    assert lines[2].endswith(f"  {made[3][:8]} needs it")
    refused = cli.inside("backup", "delete", made[2], code=14)
    assert "needs level 0" in refused.err
    done = cli.inside("backup", "forget", "--older-than", "0d", *NOW, "-f", "json").json
    assert [each["reasons"][-1]["rule"] for each in done["groups"][0]["backups"]] == [
        "newest", "needed", "older_than", "older_than",
    ]  # fmt: skip
    assert listed(cli) == made[2:]
    cli.inside("backup", "undelete", made[0], code=2)
