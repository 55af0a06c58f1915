"""Which engine a command works with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli.program import Cli

from freezer_sdk import Freezer
from freezer_sdk.errors import ConfigurationError, RepositoryNotFound


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("content\n")
    return f"local:{tmp_path / 'store'}"


def test_levels_are_made_and_listed(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    program.inside("repository", "init", "--engine", "tar", "--no-encryption")
    for _ in range(3):
        program.inside("backup", "create", tmp_path / "tree", "--engine", "tar", "--max-level", "1", "--name", "n")
    rows = program.inside("backup", "list", "-f", "json").json
    assert [(row["engine"], row["level"]) for row in rows] == [("tar", 0), ("tar", 1), ("tar", 0)]
    assert [row["chain"] for row in rows] == [rows[0]["id"], rows[0]["id"], rows[2]["id"]]
    table = program.inside("backup", "list").out.splitlines()
    assert [word.strip() for word in table[1].strip("|").split("|")][5:8] == ["Engine", "Level", "Chain"]
    assert program.inside("backup", "show", rows[1]["id"][:8], "-f", "json").json["parent"] == rows[0]["id"]


def test_the_engine_of_a_store_need_not_be_named(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    program.inside("repository", "init", "--engine", "tar", "--no-encryption")
    assert program.inside("backup", "create", tmp_path / "tree", "--name", "n", "-f", "json").json["engine"] == "tar"
    program.inside("backup", "restore", "latest", tmp_path / "out", "--name", "n")
    assert (tmp_path / "out" / "file").read_text() == "content\n"
    with Freezer(url) as freezer:
        assert freezer.info().engine == "tar"
    with Freezer(url, create=True) as freezer:
        assert freezer.info().engine == "tar"
    missing = program.inside("backup", "list", "--engine", "dedup", code=10)
    assert "--engine tar" in missing.err


def test_a_profile_names_the_engine_and_its_options(url: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f'[profiles.old]\nstorage = "{url}"\nengine = "tar"\n[profiles.old.engine-options]\nmax-level = 5\n'
    )
    program = Cli(tmp_path, {"FREEZER_CONFIG": str(file), "FREEZER_PROFILE": "old"})
    program.inside("repository", "init", "--no-encryption")
    levels = [program.inside("backup", "create", tmp_path / "tree", "-f", "json").json["level"] for _ in range(2)]
    assert levels == [0, 1]


def test_two_engines_in_one_store_must_be_told_apart(url: str, tmp_path: Path) -> None:
    for engine in ("tar", "rsync"):
        with Freezer(url, engine=engine, create=True, encryption=False) as freezer:
            freezer.backup(tmp_path / "tree", name="n")
    with pytest.raises(ConfigurationError) as caught:
        Freezer(url)
    assert caught.value.hint == "choose one of them: --engine rsync or --engine tar"
    with Freezer(url, engine="rsync") as freezer:
        assert [backup.engine for backup in freezer.backups()] == ["rsync"]


def test_an_empty_storage_stays_what_it_was(url: str) -> None:
    with pytest.raises(RepositoryNotFound):
        Freezer(url)
    with Freezer(url, create=True, encryption=False) as freezer:
        assert freezer.info().engine == "dedup"


def test_options_of_the_engine_that_is_found(url: str, tmp_path: Path) -> None:
    with Freezer(url, engine="tar", create=True, encryption=False) as freezer:
        freezer.backup(tmp_path / "tree", name="n")
    asked: list[str] = []

    def options(engine: str) -> dict[str, object]:
        asked.append(engine)
        return {"max_level": 3} if engine == "tar" else {}

    with Freezer(url, engine_options=options) as freezer:
        assert freezer.backup(tmp_path / "tree", name="n").level == 1
    assert asked == ["dedup", "tar"]


def test_an_option_of_another_engine_is_told(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    wrong = program("backup", "create", tmp_path / "tree", "--max-level", "3", code=2)
    assert "hint: --max-level: for --engine rsync or tar" in wrong.err
    assert "hint:" not in program("backup", "create", tmp_path / "tree", "--nonsense", code=2).err
    assert "hint:" not in program("backup", "create", "--nonsense", "--", "program", "--max-level", code=2).err
    wrong = program("backup", "create", "--mode", "mysql", "--strategy", "copy", code=2)
    assert "hint:" not in wrong.err  # the option of that name is known; what it says is wrong


def test_options_of_modes_and_snapshot_providers_are_told(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    wrong = program("backup", "create", tmp_path / "tree", "--defaults-file=my.cnf", "--snapshot-size", "5G", code=2)
    assert "hint: --defaults-file: for --mode mysql; --snapshot-size: for --snapshot lvm" in wrong.err
    wrong = program("backup", "restore", "latest", tmp_path / "out", "--start-check", "--mode-password-file=p", code=2)
    assert "--start-check: for --mode mongo or mysql or postgres" in wrong.err
    assert "--mode-password-file: for --mode " in wrong.err


def test_an_engine_option_serves_the_engine_that_is_found(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    program.inside("repository", "init", "--engine", "tar", "--no-encryption")
    program.inside("backup", "create", tmp_path / "tree", "--name", "n")
    program.inside("backup", "restore", "latest", tmp_path / "out", "--engine-option", "reader=gnu")
    assert (tmp_path / "out" / "file").read_text() == "content\n"
    wrong = program.inside("backup", "restore", "latest", tmp_path / "out", "--engine-option", "nope=gnu", code=2)
    assert "tar" in wrong.err
    assert "nope" in wrong.err


def test_an_engine_option_that_nobody_has(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    wrong = program.inside("backup", "list", "--engine-option", "reader=gnu", code=2)
    assert "reader" in wrong.err
    program.inside("repository", "init", "--no-encryption")
    wrong = program.inside("backup", "list", "--engine-option", "reader=gnu", code=2)
    assert "dedup" in wrong.err
    assert "reader" in wrong.err


def as_the_original(store: Path, *, name: str = "n") -> None:
    """Takes away what the original does not write, and gives the series another name."""
    shutil.rmtree(store / "freezer-sdk")
    for first in ("metadata", "data"):
        (series,) = (store / first / "tar").iterdir()
        host, _, _ = series.name.partition("_")
        (place := series.parent / f"{host}_{name}").parent.mkdir(parents=True, exist_ok=True)
        series.rename(place)


def test_figures_of_the_original_are_unknown(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    program.inside("repository", "init", "--engine", "tar", "--no-encryption")
    program.inside("backup", "create", tmp_path / "tree", "--name", "n", "--host", "h")
    assert program.inside("backup", "list", "-f", "json").json[0]["files"] == 1
    as_the_original(tmp_path / "store")
    (row,) = program.inside("backup", "list", "-f", "json").json
    assert (row["files"], row["bytes"], row["added_bytes"]) == (None, None, None)
    assert "0 B" not in program.inside("backup", "list").out
    assert "0 B" not in program.inside("backup", "show", "latest", "--name", "n", "--host", "h").out


def test_names_that_lead_into_folders(url: str, tmp_path: Path) -> None:
    """The original's modes for instances and images put an id behind the name."""
    program = Cli(tmp_path, {"FREEZER_STORAGE": url})
    program.inside("repository", "init", "--engine", "tar", "--no-encryption")
    program.inside("backup", "create", tmp_path / "tree", "--name", "n", "--host", "h")
    as_the_original(tmp_path / "store", name="name/7d1c")
    (row,) = program.inside("backup", "list", "--name", "name/7d1c", "-f", "json").json
    program.inside("backup", "restore", "latest", tmp_path / "out", "--name", "name/7d1c", "--host", "h")
    assert (tmp_path / "out" / "file").read_text() == "content\n"
    program.inside("backup", "verify", row["id"], "--read-data")


def test_a_series_with_another_password_is_locked(url: str, tmp_path: Path) -> None:
    program = Cli(tmp_path, {"FREEZER_STORAGE": url, "FREEZER_PASSWORD": "mine"})
    options = {"cipher": "sealed"}
    for name in ("mine", "yours"):
        with Freezer(url, engine="tar", password=name, create=True, engine_options=options) as freezer:
            freezer.backup(tmp_path / "tree", name=name)
        (tmp_path / "store" / "freezer-sdk" / "store").unlink(missing_ok=True)  # as a store of the original
    rows = {row["name"]: row for row in program.inside("backup", "list", "-f", "json").json}
    assert {name: row["status"] for name, row in rows.items()} == {"mine": "complete", "yours": "locked"}
    shown = program.inside("backup", "show", rows["yours"]["id"], "-f", "json").json
    assert [(each["kind"], each["fatal"]) for each in shown["problems"]] == [("locked", False)]
    assert "password" in shown["problems"][0]["message"]
    program.inside("backup", "restore", rows["yours"]["id"], tmp_path / "out", code=12)
    assert not (tmp_path / "out").exists()
    program.inside("backup", "restore", "latest", tmp_path / "out", "--name", "mine")
