"""Hooks: what runs when, what the programs learn, and what their failures mean."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from freezer_sdk import (
    Cancelled,
    CancelToken,
    CommandFailed,
    ConfigurationError,
    Event,
    Freezer,
    FreezerGroup,
    Hooks,
    RestoreError,
)


@pytest.fixture
def freezer(tmp_path: Path):
    with Freezer(f"local:{tmp_path / 'repository'}", create=True, encryption=False) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    root.mkdir()
    (root / "a.txt").write_text("alpha\n")
    return root


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes"


def noting(notes: Path, *, status: int = 0, say: str = "") -> Sequence[str]:
    """A program that writes down what it was told."""
    script = (
        f'echo "$FREEZER_HOOK $FREEZER_OPERATION $FREEZER_STATUS" >> {notes}; env > {notes}.$FREEZER_HOOK; '
        f"echo '{say}'; exit {status}"
    )
    return ["sh", "-c", script]


def every(notes: Path, **options: object) -> Hooks:
    command = noting(notes)
    return Hooks(**{"pre": command, "post": command, "on_failure": command, **options})


def told(notes: Path, hook: str) -> dict[str, str]:
    lines = Path(f"{notes}.{hook}").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line.startswith("FREEZER_"))


def test_before_and_after_a_backup_and_what_they_learn(freezer: Freezer, source: Path, notes: Path) -> None:
    backup = freezer.backup(source, name="etc", host="node1", hooks=every(notes))
    assert notes.read_text() == "pre backup running\npost backup complete\n"
    assert told(notes, "pre") == {
        "FREEZER_HOOK": "pre",
        "FREEZER_OPERATION": "backup",
        "FREEZER_STATUS": "running",
        "FREEZER_NAME": "etc",
        "FREEZER_HOST": "node1",
        "FREEZER_MODE": "fs",
        "FREEZER_LOCATION": freezer.location,
    }
    assert told(notes, "post")["FREEZER_BACKUP_ID"] == backup.id


def test_a_restore_has_hooks_too(freezer: Freezer, source: Path, notes: Path, tmp_path: Path) -> None:
    backup = freezer.backup(source, name="etc")
    freezer.restore(backup.id, tmp_path / "out", hooks=every(notes))
    assert notes.read_text() == "pre restore running\npost restore complete\n"
    known = told(notes, "post")
    assert (known["FREEZER_TARGET"], known["FREEZER_BACKUP_ID"]) == (str(tmp_path / "out"), backup.id)
    with pytest.raises(RestoreError):
        freezer.restore(backup.id, tmp_path / "out", paths=["/nowhere"], hooks=every(notes))
    assert notes.read_text().splitlines()[2:] == [
        "pre restore running",
        "on-failure restore failed",
        "post restore failed",
    ]


def test_a_failing_pre_command_stops_the_run_and_the_post_command_cleans_up(
    freezer: Freezer, source: Path, notes: Path
) -> None:
    hooks = every(notes, pre=noting(notes, status=3, say="cannot stop the service"))
    with pytest.raises(CommandFailed, match=r"pre-command 'sh' exited with status 3: cannot stop the service"):
        freezer.backup(source, hooks=hooks)
    assert not freezer.backups()
    assert notes.read_text() == "pre backup running\non-failure backup failed\npost backup failed\n"
    assert "cannot stop the service" in told(notes, "on-failure")["FREEZER_ERROR"]


def test_a_failing_post_command_is_told_and_the_backup_stays(freezer: Freezer, source: Path, notes: Path) -> None:
    with pytest.raises(CommandFailed, match="post-command") as caught:
        freezer.backup(source, hooks=Hooks(post=noting(notes, status=1)))
    (backup,) = freezer.backups()
    assert backup.short_id in str(caught.value.hint)


def test_the_first_error_counts_and_later_ones_are_logged(
    freezer: Freezer, source: Path, notes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = noting(notes, status=4)
    with pytest.raises(ConfigurationError):
        freezer.backup([], mode_options={"command": "x", "command_arguments": ["true"], "stdin": "x"}, name="x")
    with pytest.raises(CommandFailed, match="pre-command"), caplog.at_level(logging.ERROR):
        freezer.backup(source, hooks=Hooks(pre=["false"], on_failure=broken, post=broken))
    assert [record.getMessage() for record in caplog.records] == [
        "on-failure-command 'sh' exited with status 4",
        "post-command 'sh' exited with status 4",
    ]


def test_a_cancelled_run_is_cleaned_up_after(freezer: Freezer, source: Path, notes: Path) -> None:
    token = CancelToken()

    def stop(event: Event) -> None:
        if event.kind == "start":
            token.cancel()

    (source / "b.txt").write_text("beta\n")
    with pytest.raises(Cancelled):
        freezer.backup(source, hooks=every(notes), events=stop, cancel=token)
    assert "post backup cancelled" in notes.read_text()
    assert "on-failure backup cancelled" in notes.read_text()


def test_a_pre_command_is_ended_when_the_run_is_cancelled(freezer: Freezer, source: Path, tmp_path: Path) -> None:
    token, started = CancelToken(), tmp_path / "started"
    program = ["sh", "-c", f"echo $$ > {started}.new; mv {started}.new {started}; exec sleep 1000"]

    def stop() -> None:
        while not started.exists():
            time.sleep(0.01)
        token.cancel()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Cancelled):
        freezer.backup(source, hooks=Hooks(pre=program), cancel=token)
    thread.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_one_that_takes_too_long_is_ended(freezer: Freezer, source: Path) -> None:
    with pytest.raises(CommandFailed, match=r"pre-command 'sleep' did not end within 0\.2 seconds"):
        freezer.backup(source, hooks=Hooks(pre=["sleep", "1000"], timeout=0.2))
    assert not freezer.backups()


def test_what_a_hook_starts_may_stay_and_write(freezer: Freezer, source: Path, tmp_path: Path) -> None:
    """A service that a post-command starts holds its output open, and neither keeps us nor breaks."""
    pid = tmp_path / "pid"
    started = f"(while :; do echo alive; sleep 0.05; done) & echo $! > {pid}"
    freezer.backup(source, hooks=Hooks(post=["sh", "-c", started]))
    service = int(pid.read_text())
    os.kill(service, 0)
    os.kill(service, 9)


def test_output_is_logged_without_passwords(freezer: Freezer, source: Path, caplog: pytest.LogCaptureFixture) -> None:
    hooks = Hooks(pre=["sh", "-c", 'echo "login with $1"; echo done >&2', "sh", "--password=hunter2"])
    with caplog.at_level(logging.INFO):
        freezer.backup(source, hooks=hooks)
    lines = [record.getMessage() for record in caplog.records if record.name == "freezer_sdk.hooks"]
    assert lines == ["pre-command 'sh' runs", "pre: login with --password=***", "pre: done"]


def test_a_flood_of_output_costs_neither_memory_nor_the_log(
    freezer: Freezer, source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        freezer.backup(source, hooks=Hooks(pre=["sh", "-c", "yes freezer | head -c 3000000; echo the end"]))
    lines = [record.getMessage() for record in caplog.records if record.name == "freezer_sdk.hooks"]
    assert lines[-1] == "pre: the end"
    assert sum(map(len, lines)) < 200_000


def test_a_dry_run_runs_none(freezer: Freezer, source: Path, notes: Path, tmp_path: Path) -> None:
    backup = freezer.backup(source)
    freezer.backup(source, hooks=every(notes), dry_run=True)
    freezer.restore(backup.id, tmp_path / "out", hooks=every(notes), dry_run=True)
    assert not notes.exists()


def test_the_environment_can_be_chosen(freezer: Freezer, source: Path, notes: Path) -> None:
    hooks = every(notes, environment={"PATH": os.environ["PATH"], "FREEZER_TEST": "chosen"})
    freezer.backup(source, hooks=hooks)
    assert told(notes, "pre")["FREEZER_TEST"] == "chosen"
    assert "HOME=" not in Path(f"{notes}.pre").read_text()
    assert "chosen" not in repr(hooks)


def test_several_repositories_have_one_run_of_hooks(source: Path, notes: Path, tmp_path: Path) -> None:
    places = [Freezer(f"local:{tmp_path / each}", create=True, encryption=False) for each in "ab"]
    with places[0], places[1], FreezerGroup(places) as group:
        result = group.backup(source, name="etc", hooks=every(notes))
        assert notes.read_text() == "pre backup running\npost backup complete\n"
        assert told(notes, "post")["FREEZER_BACKUP_ID"] == result.id
        assert told(notes, "post")["FREEZER_LOCATION"] == " ".join(group.locations)
        group.restore(result.id, tmp_path / "out", hooks=Hooks(post=noting(notes)))
    assert notes.read_text().endswith("post restore complete\n")


@pytest.mark.parametrize("wrong", [{"pre": "service stop"}, {"pre": ["sleep", 5]}, {"post": [""]}, {"timeout": 0}])
def test_hooks_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        Hooks(**wrong)


def test_a_program_that_is_not_there(freezer: Freezer, source: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot be run: No such file") as caught:
        freezer.backup(source, hooks=Hooks(pre=["/no/such/program"]))
    assert "no shell" in str(caught.value.hint)
