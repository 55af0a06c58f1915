"""Restore drills: what passes, what does not, and what stays of them."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from freezer_sdk import (
    AccessDenied,
    BackupNotFound,
    Cancelled,
    CancelToken,
    ConfigurationError,
    Event,
    Freezer,
    KeyRole,
    StorageUnavailable,
)
from freezer_sdk.crypto.sealed import MAGIC
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage, fail

ENGINES = ["dedup", "tar", "rsync"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("alpha\n" * 100)
    (root / "empty").touch()
    (root / "sub" / "large").write_bytes(os.urandom(300_000))
    (root / "sub" / "secret").write_bytes(b"secret")
    (root / "sub" / "secret").chmod(0o400)
    (root / "link").symlink_to("a.txt")
    os.link(root / "a.txt", root / "sub" / "deep" / "same")
    os.mkfifo(root / "pipe")
    with open(root / "sparse", "wb") as file:
        file.truncate(1 << 20)
    return root


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture(params=ENGINES)
def freezer(request: pytest.FixtureRequest) -> Iterator[Freezer]:
    with Freezer(MemoryStorage(), engine=request.param, create=True, password="correct horse") as opened:
        yield opened


@pytest.fixture
def dedup() -> Iterator[Freezer]:
    with Freezer(MemoryStorage(), create=True, encryption=False) as opened:
        yield opened


def test_a_good_backup_passes_and_a_record_of_it_stays(freezer: Freezer, source: Path, scratch: Path) -> None:
    backup = freezer.backup(source, name="etc", host="node1")
    assert freezer.drills.log().drills == ()
    drill = freezer.drills.run(backup.id, scratch=scratch)
    assert (drill.passed, drill.error, drill.verifier) == (True, None, "files")
    assert (drill.backup, drill.host, drill.name, drill.sample) == (backup.id, "node1", "etc", 1)
    assert drill.files >= 6
    assert drill.compared_bytes >= 300_000 + (1 << 20)
    assert drill.facts["incomplete"] == 0
    assert list(scratch.iterdir()) == []
    log = freezer.drills.log()
    assert log.drills == (drill,)
    assert log.problems == ()
    assert (drill.signer is not None) == (freezer.info().engine == "dedup")


def test_increments_and_samples(freezer: Freezer, source: Path, scratch: Path) -> None:
    freezer.backup(source, name="etc")
    time.sleep(1.1)  # the original's levels are named by the second
    (source / "new").write_text("new\n")
    (source / "a.txt").write_text("changed\n")
    freezer.backup(source, name="etc")
    assert freezer.drills.run(name="etc", scratch=scratch).passed
    one = freezer.drills.run(name="etc", scratch=scratch, sample=1e-9)
    assert (one.passed, one.files, one.sample) == (True, 1, 1e-9 if one.signer is None else one.sample)
    half = freezer.drills.run(name="etc", scratch=scratch, sample=0.5)
    assert half.passed
    assert 1 <= half.files <= 8
    assert [each.id for each in freezer.drills.log().drills[1:]] == [one.id, half.id]
    assert list(scratch.iterdir()) == []


def test_a_backup_that_does_not_come_back_does_not_pass(tmp_path: Path, source: Path, scratch: Path) -> None:
    place = tmp_path / "repository"
    with Freezer(f"local:{place}", create=True, encryption=False) as freezer:
        freezer.backup(source, name="etc")
        for pack in (place / "packs").rglob("*"):
            if pack.is_file():
                pack.chmod(0o600)
                pack.write_bytes(bytes(pack.stat().st_size))
        drill = freezer.drills.run(scratch=scratch)
        assert not drill.passed
        assert drill.error
        assert freezer.drills.log().drills == (drill,)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "a.txt").unlink(), "it is not there"),
        (lambda root: (root / "sub" / "secret").chmod(0o444), "permissions are 0444, not 0400"),
        (lambda root: os.utime(root / "a.txt", (1, 1)), "it has another time"),
        (lambda root: (root / "sub" / "secret").write_bytes(b"Secret"), "content is another one"),
        (lambda root: (root / "sub" / "secret").write_bytes(b"secrets"), "it has 7 bytes, not 6"),
        (lambda root: (root / "sparse").write_bytes(bytes(1 << 19) + b"x" + bytes((1 << 19) - 1)), "another one"),
        (lambda root: ((root / "link").unlink(), (root / "link").symlink_to("/etc")), "it leads somewhere else"),
        (lambda root: ((root / "pipe").unlink(), (root / "pipe").touch()), "it is no fifo"),
    ],
)
@pytest.mark.parametrize("engine", ["dedup", "tar"])
def test_what_came_back_otherwise_than_it_was_is_seen(engine, source, scratch, monkeypatch, change, message) -> None:
    """A restore that goes wrong without a word: the verifier must not believe it."""
    with Freezer(MemoryStorage(), engine=engine, create=True, encryption=False) as freezer:
        backup = freezer.backup(source, name="etc")
        restore = freezer.restore

        def badly(selector, target, **options):
            result = restore(selector, target, **options)
            inside = Path(target, *source.parts[1:])
            times = {path: path.lstat().st_mtime_ns for path in inside.rglob("*")}
            change(inside)
            if "time" not in message:
                for path, stamp in times.items():
                    if os.path.lexists(path):
                        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)
            return result

        monkeypatch.setattr(freezer, "restore", badly)
        drill = freezer.drills.run(backup.id, scratch=scratch)
        assert not drill.passed
        assert message in str(drill.error)
        assert drill.error_code == "restore"


def test_a_partial_backup_passes_as_far_as_it_goes(dedup: Freezer, source: Path, scratch: Path) -> None:
    """What was not whole when it was backed up says nothing against the repository; the backup says it itself."""
    half = {"command": "db.sql", "command_arguments": ["sh", "-c", "echo half; exit 3"]}
    backup = dedup.backup(source, name="etc", mode_options=half)
    assert backup.status == "partial"
    drill = dedup.drills.run(name="etc", scratch=scratch)
    assert (drill.passed, drill.error) == (True, None)


def test_streams_are_drilled_as_files(dedup: Freezer, scratch: Path) -> None:
    dedup.backup(name="db", mode_options={"command": "db.sql", "command_arguments": ["sh", "-c", "seq 100000"]})
    drill = dedup.drills.run(name="db", scratch=scratch)
    assert (drill.passed, drill.files) == (True, 1)
    assert drill.compared_bytes == 588_895


def test_a_drill_needs_room(dedup: Freezer, source: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dedup.backup(source, name="etc")
    usage = shutil.disk_usage(scratch)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
        with pytest.raises(ConfigurationError, match="1,048,576 are free"):
            dedup.drills.run(scratch=scratch)
    with pytest.raises(ConfigurationError, match="no place for a drill"):
        dedup.drills.run(scratch=scratch / "nowhere")
    assert dedup.drills.log().drills == ()


def test_choices_that_make_no_sense(dedup: Freezer, source: Path) -> None:
    dedup.backup(source, name="etc")
    with pytest.raises(BackupNotFound):
        dedup.drills.run(name="other")
    for wrong in (
        {"sample": 0},
        {"sample": 1.5},
        {"verifier": "oracle"},
        {"verifier": "application"},
        {"queries": ["SELECT 1"]},
        {"queries": "SELECT 1"},
    ):
        with pytest.raises(ConfigurationError):
            dedup.drills.run(**wrong)


def test_a_cancelled_drill_leaves_nothing(dedup: Freezer, source: Path, scratch: Path) -> None:
    dedup.backup(source, name="etc")
    token = CancelToken()

    def stop(event: Event) -> None:
        if event.operation == "restore":
            token.cancel()

    with pytest.raises(Cancelled):
        dedup.drills.run(scratch=scratch, events=stop, cancel=token)
    assert list(scratch.iterdir()) == []
    assert dedup.drills.log().drills == ()


def test_what_a_killed_drill_left_goes_with_the_next(tmp_path: Path, source: Path, scratch: Path) -> None:
    place = f"local:{tmp_path / 'repository'}"
    with Freezer(place, create=True, encryption=False) as freezer:
        freezer.backup(source, name="etc")
    child = f"""
import os, sys
from freezer_sdk import Freezer
with Freezer({place!r}) as freezer:
    def die(event):
        if event.operation == "restore" and event.kind == "finish":
            os.kill(os.getpid(), 9)
    freezer.drills.run(scratch={str(scratch)!r}, events=die)
"""
    done = subprocess.run([sys.executable, "-c", child], check=False, capture_output=True)
    assert done.returncode == -9
    assert len(list(scratch.rglob("a.txt"))) == 1
    (scratch / "freezer-drill-of-somebody").mkdir()
    with Freezer(place) as freezer:
        assert freezer.drills.run(scratch=scratch).passed
    assert [path.name for path in scratch.iterdir()] == ["freezer-drill-of-somebody"]


def test_who_may_not_sign_learns_it_before_anything_is_restored(source: Path, scratch: Path) -> None:
    storage = MemoryStorage()
    with Freezer(storage, create=True, password="correct horse") as owner:
        owner.keys.add("a reader", roles=[KeyRole.READER])
        owner.backup(source, name="etc")
    with Freezer(storage, password="a reader") as reader:
        with pytest.raises(AccessDenied):
            reader.drills.run(scratch=scratch)
        drill = reader.drills.run(scratch=scratch, record=False)
        assert (drill.passed, drill.signer) == (True, None)
        assert reader.drills.log().drills == ()


def test_check_prune_repair_and_copies_leave_records_alone(dedup: Freezer, source: Path, scratch: Path) -> None:
    backup = dedup.backup(source, name="etc")
    drill = dedup.drills.run(scratch=scratch)
    result = dedup.maintenance.check(read_data=True)
    assert result.ok
    assert not result.findings
    assert not dedup.maintenance.repair().steps
    with Freezer(MemoryStorage(), create=True, encryption=False) as other:
        other.copy(dedup, backup.id)
        assert other.drills.log().drills == (), "a drill says something about one repository"
    dedup.forget(backup.id)
    dedup.maintenance.prune()
    assert dedup.drills.log().drills == (drill,)


def test_records_of_stores_with_a_password_cannot_be_made_up(source: Path, scratch: Path) -> None:
    storage = MemoryStorage()
    with Freezer(storage, engine="tar", create=True, password="correct horse") as freezer:
        freezer.backup(source, name="etc")
        made = freezer.drills.run(scratch=scratch)
        (record,) = storage.list("freezer-sdk/drills/")
        assert b"etc" not in storage.get(record.name)
        with Freezer(MemoryStorage(), engine="tar", create=True, encryption=False) as plain:
            plain.backup(source, name="etc")
            plain.drills.run(scratch=scratch)
            (forged,) = plain._place.storage.list("freezer-sdk/drills/")
            storage.put(forged.name, [plain._place.storage.get(forged.name)])
        moved = record.name[:-32] + secrets.token_hex(16)
        storage.put(moved, [storage.get(record.name)])
        log = freezer.drills.log()
        assert log.drills == (made,)
        assert sorted(problem.path for problem in log.problems) == sorted([forged.name, moved])
        assert freezer.verify(read_data=True).ok


def test_a_record_that_somebody_without_the_password_leaves_hides_no_other(source: Path, scratch: Path) -> None:
    storage = MemoryStorage()
    with Freezer(MemoryStorage(), engine="tar", create=True, password="another") as other:
        other.backup(source, name="etc")
        other.drills.run(scratch=scratch)
        (info,) = other._place.storage.list("freezer-sdk/drills/")
        forged = bytearray(other._place.storage.get(info.name))
    later = info.name[:-1] + ("0" if info.name[-1] != "0" else "1")
    storage.put(info.name, [bytes(forged)])
    forged[len(MAGIC)] ^= 0x40  # a version that nobody knows
    storage.put(later, [bytes(forged)])
    with Freezer(storage, engine="tar", create=True, password="correct horse") as freezer:
        freezer.backup(source, name="etc")
        made = freezer.drills.run(scratch=scratch)
        log = freezer.drills.log()
        assert log.drills == (made,)
        assert {(each.path, each.kind) for each in log.problems} == {(info.name, "locked"), (later, "damaged")}


def test_a_storage_that_fails_fails_the_drill_and_a_record_that_cannot_be_stored_is_an_error(
    source: Path, scratch: Path
) -> None:
    storage = MemoryStorage()
    with Freezer(storage, create=True, encryption=False) as freezer:
        freezer.backup(source, name="etc")
    denied = Fault(fail(AccessDenied("no")), methods={"put"}, prefix="records/", times=None)
    with Freezer(FaultyStorage(storage, denied)) as freezer, pytest.raises(AccessDenied):
        freezer.drills.run(scratch=scratch)
    gone = Fault(fail(StorageUnavailable("gone")), methods={"get", "open"}, prefix="packs/", times=None)
    with Freezer(FaultyStorage(storage, gone)) as freezer:
        drill = freezer.drills.run(scratch=scratch)
        assert (drill.passed, drill.verifier) == (False, None)
        assert "gone" in str(drill.error)
        assert freezer.drills.log().drills == (drill,)
    assert list(scratch.iterdir()) == []
