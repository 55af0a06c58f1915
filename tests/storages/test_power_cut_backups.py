"""Whole backups survive a power cut at any moment: acknowledged ones verify, and the next run succeeds."""

from __future__ import annotations

import shutil

import pytest
from power_cut import Recorder, power_cuts

from freezer_sdk import Freezer
from freezer_sdk.errors import RepositoryNotFound

pytestmark = pytest.mark.slow

PASSWORD = "correct horse"


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(20):
        (folder / f"file{number}").write_bytes(b"%d" % number * 3000)
    return folder


def recorded_run(base, source, **options):
    """Two backups of a changing folder; their ids are marked when the library has acknowledged them."""
    url = f"local:{base}/store"
    with (
        Recorder(base) as recorder,
        Freezer(url, password=PASSWORD, create=True, storage_options=options) as freezer,
    ):
        recorder.mark("created")
        recorder.mark(freezer.backup(source, name="tree").id)
        (source / "file3").write_bytes(b"changed" * 1000)
        recorder.mark(freezer.backup(source, name="tree").id)
    recorder.check_complete()
    return recorder


def test_acknowledged_backups_verify(tmp_path, source):
    (tmp_path / "disk").mkdir()
    recorder = recorded_run(tmp_path / "disk", source)
    opened = 0
    for number, crash in enumerate(power_cuts(recorder, seeds=())):
        after = tmp_path / "after"
        after.mkdir()
        crash.write_to(after)
        where = f"cut after {crash.after} events, {crash.outcome} survived"
        try:
            freezer = Freezer(f"local:{after}/store", password=PASSWORD)
        except RepositoryNotFound:
            assert "created" not in crash.marks, where
        else:
            with freezer:
                assert {backup.id for backup in freezer.backups()} >= set(crash.marks) - {"created"}, where
                assert freezer.verify(read_data=True).ok, where
                if number % 10 == 0:
                    assert freezer.backup(source, name="tree").status == "complete", where
            opened += 1
        shutil.rmtree(after)
    assert opened > 50


def test_without_syncs_of_each_object_the_barriers_keep_every_visible_backup_whole(tmp_path, source):
    (tmp_path / "disk").mkdir()
    recorder = recorded_run(tmp_path / "disk", source, sync=False)
    looked_at = 0
    for crash in power_cuts(recorder, seeds=range(2)):
        if "created" not in crash.marks:
            continue
        after = tmp_path / "after"
        after.mkdir()
        crash.write_to(after)
        where = f"cut after {crash.after} events, {crash.outcome} survived"
        with Freezer(f"local:{after}/store", password=PASSWORD) as freezer:
            backups = freezer.backups()
            assert {backup.id for backup in backups} >= set(crash.marks) - {"created"}, where
            for backup in backups:
                if backup.status != "damaged":  # the commit itself was not acknowledged yet
                    assert freezer.restore(backup.id, tmp_path / "out").status == "complete", where
                    shutil.rmtree(tmp_path / "out")
                    looked_at += 1
        shutil.rmtree(after)
    assert looked_at > 50
