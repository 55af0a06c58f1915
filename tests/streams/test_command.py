"""Programs that are run to their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freezer_sdk.errors import CommandFailed
from freezer_sdk.streams.command import find_program, run_command


def test_the_output_is_given_and_the_input_is_read() -> None:
    assert run_command(["cat"], timeout=60, stdin=b"some\xff\ninput") == os.fsdecode(b"some\xff\ninput")
    assert run_command(["cat"], timeout=60) == ""


def test_arguments_are_not_read_by_a_shell() -> None:
    assert run_command(["echo", "$HOME; *", b"\xff"], timeout=60) == "$HOME; * " + os.fsdecode(b"\xff") + "\n"


def test_the_environment_is_the_one_given() -> None:
    assert run_command(["env"], timeout=60, environment={"ONLY": "this"}) == "ONLY=this\n"


def test_a_failure_says_what_the_program_said_last() -> None:
    with pytest.raises(CommandFailed, match=r"sh exited with status 3: no such thing$"):
        run_command(["sh", "-c", "echo no such thing >&2; exit 3"], timeout=60)
    assert run_command(["sh", "-c", "echo half; exit 5"], timeout=60, accepted=(0, 5)) == "half\n"


def test_a_program_that_was_killed_has_failed() -> None:
    with pytest.raises(CommandFailed, match="was ended by SIGKILL"):
        run_command(["sh", "-c", "kill -9 $$"], timeout=60)


def test_no_message_shows_a_password() -> None:
    script = "echo canary-1 canary-2 >&2; exit 1"
    with pytest.raises(CommandFailed) as caught:
        run_command(["sh", "-c", script, "sh", "--password=canary-1"], timeout=60, secrets=["canary-2"])
    assert "canary" not in str(caught.value)
    assert "***" in str(caught.value)


def test_a_missing_program_is_named_with_its_package() -> None:
    with pytest.raises(CommandFailed, match="no-such-program") as caught:
        run_command(["no-such-program"], timeout=60, package="some-package")
    assert caught.value.hint == "apt-get install some-package"


def test_programs_of_administrators_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert find_program("ldconfig") in ("/usr/sbin/ldconfig", "/sbin/ldconfig")


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    script = 'sleep 1000 & echo $! >"$1"; wait'
    with pytest.raises(CommandFailed, match="took longer than 1 seconds"):
        run_command(["sh", "-c", script, "sh", tmp_path / "child"], timeout=1)
    _wait_until_gone(int((tmp_path / "child").read_text()))


def test_an_interrupted_call_leaves_nothing_running(tmp_path: Path) -> None:
    script = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from freezer_sdk.streams.command import run_command\n"
        "run_command(['sh', '-c', sys.argv[2], 'sh', sys.argv[1]], timeout=999)"
    )
    shell = 'echo $$ >"$1".new; mv "$1".new "$1"; sleep 1000'
    child = tmp_path / "child"
    process = subprocess.Popen([sys.executable, "-c", script, str(child), shell], stderr=subprocess.PIPE)
    while not child.exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate()[1]
    _wait_until_gone(int(child.read_text()))


def _wait_until_gone(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").exists():
        if Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"Z":
            return  # nobody here waits for it
        time.sleep(0.05)
