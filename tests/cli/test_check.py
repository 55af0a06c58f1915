"""``freezer repository check`` and ``repair`` as a user and as a script see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli.program import Cli, Result


@pytest.fixture
def filled(cli: Cli, tmp_path: Path, tree: Path) -> Cli:
    """As the fixture for all, in this process: two backups named etc."""
    cli.env["FREEZER_STORAGE"] = f"local:{tmp_path / 'repository'}"
    cli.inside("repository", "init", "--no-encryption")
    cli.inside("backup", "create", tree, "--name", "etc")
    (tree / "a.txt").write_text("alpha and more\n")
    cli.inside("backup", "create", tree, "--name", "etc")
    return cli


@pytest.fixture
def packs(filled: Cli) -> list[Path]:
    """Packs of file contents, largest first."""
    base = Path(filled.env["FREEZER_STORAGE"].removeprefix("local:"))
    return sorted(base.glob("packs/*/*"), key=lambda path: -path.stat().st_size)


def flip(path: Path, offset: int = 140) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def test_a_check_of_a_whole_repository(filled: Cli) -> None:
    result = filled.inside("repository", "check")
    assert "no damage" in result.out
    document = filled.inside("repository", "check", "--read-data", "-f", "json").json
    assert document["ok"] is True
    assert (document["backups"], document["findings"], document["packs_left"]) == (2, [], 0)
    assert document["packs"] == document["packs_read"] > 0
    assert document["leases"] == {"open": 0, "dead": 0, "closed": 2}
    assert filled.inside("repository", "check", "--max-age", "30d", "-f", "json").json["packs_read"] == 0
    assert filled.inside("repository", "check", "--max-age", "30d", "--max-duration", "2h", "-f", "json").json["ok"]
    assert "every pack was read whole since" in filled.inside("repository", "check", "--read-data-subset", "1/2").out


def test_damage_is_named_with_the_files_that_need_it(filled: Cli, packs: list[Path], tree: Path) -> None:
    flip(packs[0])
    assert "no damage" in filled.inside("repository", "check").out
    result = filled.inside("repository", "check", "--read-data", code=13)
    assert packs[0].name in result.err
    assert str(tree / "sub" / "b.conf") in result.out
    assert "freezer repository repair" in result.out
    document = filled.inside("repository", "check", "-f", "json", code=13).json
    (finding,) = document["findings"]
    assert finding["path"].endswith(packs[0].name)
    assert (finding["kind"], finding["fatal"]) == ("damaged", True)
    paths = {path["path"] for each in finding["affected"] for path in each["paths"]}
    assert str(tree / "sub" / "b.conf") in paths


def test_events_of_a_check(filled: Cli, packs: list[Path]) -> None:
    flip(packs[0])
    events = filled.inside("repository", "check", "--read-data", "--json-events", code=13).events
    assert [event["event"] for event in events][-1] == "result"
    assert events[-1]["exit_code"] == 13
    assert any(event["event"] == "problem" for event in events)


@pytest.mark.parametrize("part", ["x", "0%", "3/2"])
def test_a_part_that_makes_no_sense(filled: Cli, part: str) -> None:
    assert "part" in filled.inside("repository", "check", "--read-data-subset", part, code=2).err


def test_a_repair_tells_first_and_does_nothing_without_yes(filled: Cli, packs: list[Path], tree: Path) -> None:
    flip(packs[0])
    before = {path: path.read_bytes() for path in packs[0].parents[2].rglob("*") if path.is_file()}
    plan = filled.inside("repository", "repair", "--read-data", code=13)
    assert "record" in plan.out
    assert "nothing was done yet: --yes does it" in plan.out
    assert {path: path.read_bytes() for path in packs[0].parents[2].rglob("*") if path.is_file()} == before
    document = filled.inside("repository", "repair", "--read-data", "-f", "json", code=13).json
    assert document["done"] is False
    assert {step["action"] for step in document["steps"]} == {"mark", "record"}
    done = filled.inside("repository", "repair", "--read-data", "--yes", "-f", "json", code=13).json
    assert (done["done"], done["steps"], done["lost"]) == (True, document["steps"], document["lost"])
    assert "nothing to do" in filled.inside("repository", "repair", "--read-data", "--yes").out
    assert "no damage" in filled.inside("repository", "check", "--read-data").out
    listed = filled.inside("backup", "list", "-f", "json").json
    assert {backup["status"] for backup in listed} == {"partial"}
    problems = filled.inside("backup", "show", listed[-1]["id"], "-f", "json").json["problems"]
    assert str(tree / "sub" / "b.conf") in {problem["path"] for problem in problems if problem["kind"] == "lost"}


@pytest.mark.parametrize(("answer", "done"), [("yes", True), ("no", False), ("", False)])
def test_a_person_is_asked(filled: Cli, packs: list[Path], answer: str, done: bool) -> None:
    for index in packs[0].parents[2].glob("index/*"):
        index.unlink()
    result = asked(filled, answer)
    assert "do this?" in result.out
    assert ("repaired: " in result.out) is done
    assert bool(list(packs[0].parents[2].glob("index/*"))) is done


def asked(cli: Cli, answer: str) -> Result:
    """Runs a repair with a terminal, and gives one answer."""
    return cli.in_terminal("repository", "repair", answers=[answer])


def test_what_is_lost_comes_from_another_repository(filled: Cli, packs: list[Path], tmp_path: Path) -> None:
    other = f"local:{tmp_path / 'other'}"
    here = filled.env["FREEZER_STORAGE"]
    filled.inside("repository", "init", "--storage", other, "--no-encryption", "--like", here)
    filled.inside("backup", "copy", "--storage", other, "--from", here)
    for pack in packs:
        flip(pack)
    empty = f"local:{tmp_path / 'empty'}"
    filled.inside("repository", "init", "--storage", empty, "--no-encryption")
    repair = ("repository", "repair", "--read-data", "--from", empty, "--from", other)
    document = filled.inside(*repair, "--yes", "-f", "json").json
    assert document["lost"] == []
    assert any(step["action"] == "fetch" and step["blobs"] for step in document["steps"])
    assert filled.inside("backup", "verify").code == 0
    assert filled.inside("repository", "check", "--read-data").code == 0


def test_a_backup_whose_record_is_damaged(filled: Cli, packs: list[Path]) -> None:
    commit = sorted((packs[0].parents[2] / "backups").iterdir())[0]
    flip(commit)
    result = filled.inside("repository", "repair", "--yes", code=13)
    assert "--forget-broken" in result.out
    assert json.loads(filled.inside("repository", "repair", "-f", "json", code=13).out)["broken"] == [commit.name[-32:]]
    assert "forget" in filled.inside("repository", "repair", "--yes", "--forget-broken").out
    assert "no damage" in filled.inside("repository", "check").out
