"""Long operations: events for wrappers, progress for people, and signals that stop them."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli.program import Cli

from freezer_cli.progress import LogProgress
from freezer_sdk.model import Event


def test_events_of_a_backup(repo: Cli, tree: Path) -> None:
    events = repo("backup", "create", tree, "--json-events", "--name", "etc").events
    assert events[0]["event"] == "start"
    assert {event["event"] for event in events} <= {
        "start",
        "progress",
        "problem",
        "file",
        "storage",
        "finish",
        "result",
    }
    last = events[-1]
    assert last["event"] == "result"
    assert last["exit_code"] == 0
    assert last["id"] == repo("backup", "list", "-f", "json").json[0]["id"]
    assert last["files"] == 2


def test_events_of_a_partial_backup(repo: Cli, tree: Path) -> None:
    result = repo("backup", "create", tree, "--json-events", "--command", "c", "--", "false", code=3)
    problems = [event["problem"] for event in result.events if event["event"] == "problem"]
    assert problems
    assert problems[0]["fatal"] is True
    assert result.events[-1]["exit_code"] == 3
    assert result.events[-1]["status"] == "partial"


def test_events_of_restore_and_verify(filled: Cli, tmp_path: Path) -> None:
    restored = filled("backup", "restore", "latest", tmp_path / "out", "--json-events").events[-1]
    assert (restored["event"], restored["files"], restored["exit_code"]) == ("result", 3, 0)
    verified = filled("backup", "verify", "--json-events").events[-1]
    assert (verified["event"], verified["ok"], verified["exit_code"]) == ("result", True, 0)


def test_the_last_event_of_a_failure(repo: Cli) -> None:
    result = repo("backup", "create", "/no/such/path", "--json-events", code=None)
    last = result.events[-1]
    assert last["event"] == "error"
    assert last["exit_code"] == result.code != 0
    assert last["code"]
    assert last["message"] in result.err


def test_progress_on_a_terminal(repo: Cli, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(300):
        (tmp_path / "data" / f"f{number}").write_bytes(os.urandom(100_000))
    result = repo.in_terminal("backup", "create", tmp_path / "data", "--name", "h", "--no-sync")
    assert result.code == 0
    assert "300 new" in result.out
    assert "\x1b[?25l" in result.out, "a moving line"
    assert result.out.rindex("\x1b[?25h") > result.out.rindex("\x1b[?25l"), "the cursor is shown again"
    quiet = repo.in_terminal("backup", "create", tmp_path / "data", "--name", "h", "--quiet")
    assert quiet.out == ""
    piped = repo("backup", "create", tmp_path / "data", "--name", "h")
    assert "\x1b" not in piped.out + piped.err
    assert piped.err == ""


def test_problems_are_told_while_it_runs_and_kept_in_the_log(repo: Cli, tree: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    arguments = ("backup", "create", tree, "--command", "c", "--log-file", log)
    result = repo(*arguments, "--", "sh", "-c", "exit 5", code=3)
    assert "error: /c: " in result.err
    assert "status 5" in log.read_text()
    quiet = repo(*arguments, "--quiet", "--", "sh", "-c", "exit 5", code=3)
    assert "status 5" in quiet.err
    assert quiet.out == ""


def test_a_line_a_minute_in_logs(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = iter([0.0, 10.0, 61.0, 100.0, 122.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    caplog.set_level("INFO", "freezer")
    progress = LogProgress(only_file=False)
    for mebibytes in (1, 61, 100, 122):
        progress(Event(kind="progress", operation="backup", files=7, bytes=mebibytes << 20, total_bytes=1 << 30))
    assert [record.getMessage() for record in caplog.records] == [
        "backup: 7 files, 61.0 MiB of 1.0 GiB, 1.0 MiB/s, 16 min 03 s left",
        "backup: 7 files, 122.0 MiB of 1.0 GiB, 1.0 MiB/s, 15 min 02 s left",
    ]


def test_a_wrapper_that_goes_away_does_not_end_the_backup(repo: Cli, tree: Path) -> None:
    process = repo.popen("backup", "create", tree, "--json-events", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.wait(120)
    process.stderr.close()
    assert [row["status"] for row in repo("backup", "list", "-f", "json").json] == ["complete"]


def test_a_log_file_that_cannot_be_written(repo: Cli) -> None:
    assert "cannot write the log file" in repo("backup", "list", "--log-file", "/no/such/log", code=2).err


def started(repo: Cli, script: str) -> subprocess.Popen[bytes]:
    """A backup of a program that has started, and goes on for a minute."""
    flag = repo.home / "started"
    process = repo.popen(
        *("backup", "create", "--command", "slow", "--name", "slow"),
        *("--", "sh", "-c", f"touch {flag}; {script}"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while not flag.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_cleanly(repo: Cli, number: signal.Signals) -> None:
    process = started(repo, "while head -c 100000 /dev/zero; do sleep 0.1; done")
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"stopping" in err
    assert b"Traceback" not in err
    assert repo("backup", "list", "-f", "json").json == []
    repo("backup", "create", "--command", "quick", "--name", "slow", "--", "true")
    assert len(repo("backup", "list", "-f", "json").json) == 1


def test_the_second_signal_forces_it(repo: Cli) -> None:
    process = started(repo, "exec sleep 1000")
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert repo("backup", "list", "-f", "json").json == []


def test_a_signal_at_a_prompt(cli: Cli, tmp_path: Path) -> None:
    storage = f"local:{tmp_path / 'new'}"
    process = subprocess.Popen(
        ["script", "-qec", f"freezer repository init --storage {storage}", "/dev/null"],
        env=cli.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen = b""
    while b"password:" not in seen:
        more = process.stdout.read1(1000)
        assert more, f"it ended before it asked: {seen.decode()}"
        seen += more
    process.stdin.write(b"\x03")
    process.stdin.flush()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"Traceback" not in out


def test_nohup_is_respected(repo: Cli) -> None:
    flag = repo.home / "started"
    process = subprocess.Popen(
        ["nohup", "freezer", "backup", "create", "--command", "slow", "--", "sh", "-c", f"touch {flag}; sleep 2"],
        env=repo.environment(),
        cwd=repo.home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    while not flag.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0
