"""Volume snapshots as the library uses them; the provider here stands for real ones, which have tests of their own."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import copying_snapshots
import pytest

import freezer_sdk
from freezer_sdk import Cancelled, CancelToken, ConfigurationError, Freezer, PluginError, SnapshotError
from freezer_sdk.errors import PluginUnavailable


@pytest.fixture(autouse=True)
def _providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copying_snapshots.install(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A volume."""
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    (folder / "volume").touch()
    (folder / "below" / "file").write_text("one")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def options(store: Path) -> dict[str, Any]:
    return {"store": store}


def test_streams_have_no_snapshot(tmp_path: Path, options: dict[str, Any]) -> None:
    command = {"command": "dump", "command_arguments": ["true"]}
    with (
        Freezer(f"local:{tmp_path / 'repository'}", create=True, encryption=False) as freezer,
        pytest.raises(ConfigurationError, match="only streams") as caught,
    ):
        freezer.backup(mode_options=command, name="n", snapshot="auto", snapshot_options=options)
    assert caught.value.hint


# -- by itself ---------------------------------------------------------------------------------------------


def test_a_path_is_readable_as_it_was(data: Path, store: Path, options: dict[str, Any]) -> None:
    with freezer_sdk.snapshot(data / "below", options=options) as path:
        (data / "below" / "file").write_text("two")
        assert (path / "file").read_text() == "one"
        assert os.listdir(store)
    assert not os.listdir(store)


def test_several_paths_are_of_one_group(data: Path, store: Path, options: dict[str, Any]) -> None:
    (data / "other").mkdir()
    with freezer_sdk.snapshot([data / "below", str(data / "other")], "copying", options=options) as paths:
        assert list(paths) == [data / "below", data / "other"]
        assert len(os.listdir(store)) == 1


def test_a_snapshot_that_went_bad_is_told_on_leaving(data: Path, store: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SnapshotError, match="full"), freezer_sdk.snapshot(data, options=options) as path:
        (path.parent / "full").touch()
    assert not os.listdir(store)


def test_everything_is_removed_when_the_program_fails(data: Path, store: Path, options: dict[str, Any]) -> None:
    with pytest.raises(KeyError), freezer_sdk.snapshot(data, options=options):
        raise KeyError
    assert not os.listdir(store)


def test_what_the_program_raised_wins_over_what_cannot_be_removed(
    data: Path, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    options["fault"] = "stays"
    with caplog.at_level(logging.ERROR), pytest.raises(KeyError), freezer_sdk.snapshot(data, options=options):
        raise KeyError
    assert "cannot be removed" in caplog.text
    assert "freezer snapshot reap --provider copying" in caplog.text


def test_what_cannot_be_removed_is_an_error(data: Path, options: dict[str, Any]) -> None:
    options["fault"] = "stays"
    with pytest.raises(SnapshotError, match="cannot be removed"), freezer_sdk.snapshot(data, options=options):
        pass


def test_auto_says_why_nobody_can(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(SnapshotError) as caught, freezer_sdk.snapshot(tmp_path, options=options):
        pass
    text = str(caught.value)
    for reason in ("picky: never", "copying: ", "lies on no volume", "absent: apt-get install absent"):
        assert reason in text
    assert "costly" not in text, "it is asked only by its name"


def test_auto_asks_in_the_order_of_preference(data: Path, options: dict[str, Any]) -> None:
    said = freezer_sdk.probe_snapshots(data, options=options)
    names = [each.provider for each in said]
    assert names.index("picky") < names.index("copying") < names.index("costly")
    found = {each.provider: each for each in said}
    assert not found["picky"].possible
    assert found["copying"].possible
    assert found["copying"].automatic
    assert not found["costly"].automatic
    assert found["absent"].reason == "apt-get install absent"


def test_a_provider_that_fails_at_it_cannot(data: Path, options: dict[str, Any]) -> None:
    said = freezer_sdk.probe_snapshots(data, options={**options, "fault": "probe", "key": "canary"})
    found = {each.provider: each for each in said}
    assert not found["copying"].possible
    assert found["copying"].reason == "snapshot 'copying' failed: RuntimeError: nobody knows ***"
    assert found["picky"].reason == "never"


def test_one_provider_is_asked_by_its_name(data: Path, options: dict[str, Any]) -> None:
    (said,) = freezer_sdk.probe_snapshots(data, provider="costly", options=options)
    assert (said.provider, said.possible) == ("costly", True)
    with pytest.raises(PluginUnavailable, match="absent"):
        freezer_sdk.probe_snapshots(data, provider="absent")


def test_an_option_that_no_provider_has(data: Path) -> None:
    with pytest.raises(ConfigurationError, match="'sise'"), freezer_sdk.snapshot(data, options={"sise": "5G"}):
        pass


def test_no_path(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="no path"):
        freezer_sdk.snapshot([], options=options)


@pytest.mark.parametrize("fault", ["bug", "no views"])
def test_a_faulty_provider_is_named_and_tells_no_secret(data: Path, options: dict[str, Any], fault: str) -> None:
    options |= {"fault": fault, "key": "canary"}
    refused = pytest.raises(PluginError, match="snapshot 'copying'")
    with refused as caught, freezer_sdk.snapshot(data, options=options):
        pass
    assert "canary" not in str(caught.value)


def test_reap_removes_what_killed_runs_left(data: Path, store: Path, options: dict[str, Any]) -> None:
    dead = store / "freezer-999999999-5-0123456789ab"
    foreign = store / "other-999999999-5-0123456789ab"
    dead.mkdir()
    foreign.mkdir()
    with freezer_sdk.snapshot(data, options=options) as path:
        done = {each.provider: each for each in freezer_sdk.reap_snapshots(options=options)}
        assert path.exists(), "somebody uses it"
    assert done["copying"].removed == (dead.name,)
    assert done["picky"].removed == ()
    assert "absent" not in done
    assert os.listdir(store) == [foreign.name]
    (again,) = freezer_sdk.reap_snapshots("copying", options={**options, "label_prefix": "other"})
    assert again.removed == (foreign.name,)


def test_one_provider_that_cannot_reap_keeps_nobody_from_it(store: Path, options: dict[str, Any]) -> None:
    store.rmdir()
    done = {each.provider: each for each in freezer_sdk.reap_snapshots(options=options)}
    assert isinstance(done["copying"].error, PluginError)
    assert done["picky"].error is None


# -- backups -----------------------------------------------------------------------------------------------


@pytest.fixture
def freezer(tmp_path: Path) -> Freezer:
    with Freezer(f"local:{tmp_path / 'repository'}", create=True, encryption=False) as opened:
        yield opened


def paths_in(freezer: Freezer) -> set[str]:
    return {os.fsdecode(entry.path) for entry in freezer.entries("latest")}


def test_a_backup_records_original_paths_and_the_snapshot(
    freezer: Freezer, data: Path, store: Path, options: dict[str, Any], tmp_path: Path
) -> None:
    backup = freezer.backup(data, snapshot="auto", snapshot_options=options, excludes=[f"{data}/volume"])
    assert paths_in(freezer) == {str(data), f"{data}/below", f"{data}/below/file"}
    assert backup.facts["snapshot"]["provider"] == "copying"
    assert backup.facts["snapshot"]["taken"].startswith("20")
    assert not os.listdir(store)
    freezer.restore(backup.id, tmp_path / "out")
    assert (tmp_path / "out" / "below" / "file").read_text() == "one"


def test_the_snapshot_is_what_is_stored(freezer: Freezer, data: Path, options: dict[str, Any]) -> None:
    def change(event: freezer_sdk.Event) -> None:
        if event.kind != "start":
            (data / "below" / "file").write_text("two")

    freezer.backup(data, snapshot="copying", snapshot_options=options, events=change)
    with freezer.open("latest", "below/file") as file:
        assert file.read() == b"one"


def test_an_invalid_snapshot_never_becomes_a_backup(freezer: Freezer, data: Path, store: Path) -> None:
    def fill(event: freezer_sdk.Event) -> None:
        for folder in store.iterdir():
            (folder / "full").touch()

    with pytest.raises(SnapshotError, match="full"):
        freezer.backup(data, snapshot="auto", snapshot_options={"store": store}, events=fill)
    assert not freezer.backups()
    assert not os.listdir(store)


def test_a_cancelled_run_leaves_no_snapshot(freezer: Freezer, data: Path, store: Path) -> None:
    token = CancelToken()

    def cancel(event: freezer_sdk.Event) -> None:
        if os.listdir(store):
            token.cancel()

    (data / "big").write_bytes(os.urandom(1 << 20))
    with pytest.raises(Cancelled):
        freezer.backup(data, snapshot="auto", snapshot_options={"store": store}, events=cancel, cancel=token)
    assert not freezer.backups()
    assert not os.listdir(store)


def test_a_backup_that_was_made_though_the_snapshot_stays(freezer: Freezer, data: Path, store: Path) -> None:
    with pytest.raises(SnapshotError) as caught:
        freezer.backup(data, snapshot="auto", snapshot_options={"store": store, "fault": "stays"})
    (backup,) = freezer.backups()
    assert backup.short_id in str(caught.value.hint)


def test_options_for_no_snapshot_are_refused(freezer: Freezer, data: Path) -> None:
    with pytest.raises(ConfigurationError, match="no snapshot is asked for"):
        freezer.backup(data, snapshot_options={"store": "/nowhere"})
