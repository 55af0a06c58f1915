"""Levels survive a power cut at any moment: acknowledged ones are whole, and the next run succeeds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from power_cut import Recorder, power_cuts

from freezer_sdk import Freezer
from freezer_sdk.errors import IntegrityError, RepositoryNotFound

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("tar") is None, reason="needs GNU tar")]

LEVELS = {"strategy": "incremental"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(5):
        (folder / f"file{number}").write_bytes(b"%d" % number * 3000)
    return folder


def recorded_run(base: Path, source: Path, *, sync: bool) -> Recorder:
    """Two levels of a changing folder; their ids are marked when the library has acknowledged them."""
    url = f"local:{base}/store"
    base.mkdir()
    with (
        Recorder(base) as recorder,
        Freezer(
            url, engine="tar", create=True, encryption=False, storage_options={"sync": sync}, engine_options=LEVELS
        ) as freezer,
    ):
        recorder.mark("created")
        recorder.mark(freezer.backup(source, name="tree").id)
        (source / "file3").write_bytes(b"changed" * 1000)
        recorder.mark(freezer.backup(source, name="tree").id)
    recorder.check_complete()
    return recorder


@pytest.mark.parametrize("sync", [True, False])
def test_what_was_acknowledged_is_whole(sync: bool, source: Path, tmp_path: Path) -> None:
    recorder = recorded_run(tmp_path / "disk", source, sync=sync)
    looked_at = 0
    for number, crash in enumerate(power_cuts(recorder, seeds=() if sync else (1,))):
        after, out = tmp_path / "after", tmp_path / "out"
        after.mkdir()
        crash.write_to(after)
        shutil.rmtree(after / "store/freezer-sdk/locks", ignore_errors=True)  # this process lives on, as none would
        where = f"cut after {crash.after} events, {crash.outcome} survived"
        try:
            freezer = Freezer(f"local:{after}/store", engine="tar", engine_options=LEVELS)
        except (RepositoryNotFound, IntegrityError):
            assert "created" not in crash.marks, where
        else:
            with freezer:
                acknowledged = set(crash.marks) - {"created"}
                assert {backup.id for backup in freezer.backups()} >= acknowledged, where
                result = freezer.verify(list(acknowledged), read_data=True) if acknowledged else None
                assert result is None or result.ok, where
                if number % 10 == 0 and "created" in crash.marks:
                    assert freezer.backup(source, name="tree").status == "complete", where
                    freezer.restore("latest", out)
                    assert (out / "file3").read_bytes() == (source / "file3").read_bytes(), where
                    shutil.rmtree(out)
                looked_at += len(acknowledged)
        shutil.rmtree(after)
    assert looked_at > 20
