"""Private servers and their folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from freezer_sdk.errors import CommandFailed
from freezer_sdk.streams.command import find_program
from freezer_sdk.streams.private import descriptor_path, unnamed_file
from freezer_sdk.streams.server import private_folder, private_server

# says its number in a file once it is ready, and ends well when it is asked to
SERVER = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(int(sys.argv[2])))
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""
OUTER = """
import sys
from pathlib import Path
from freezer_sdk.streams.server import private_server
with private_server(sys.argv[2:], ready=Path(sys.argv[1]).exists, patience=120):
    print("ready", flush=True)
    sys.stdin.read()
"""


def command(told: Path, status: int = 0) -> list[str]:
    return [sys.executable, "-c", SERVER, str(told), str(status)]


def runs(told: Path) -> bool:
    try:
        stat = Path(f"/proc/{told.read_text()}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_it_runs_as_long_as_it_is_needed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with private_server(command(told), ready=told.exists, patience=120):
        assert runs(told)
    assert not runs(told)


def test_an_error_of_the_block_ends_it_at_once(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with pytest.raises(ZeroDivisionError), private_server(command(told), ready=told.exists, patience=120):
        raise ZeroDivisionError
    assert not runs(told)


def test_it_does_not_outlive_a_killed_process(tmp_path: Path) -> None:
    if find_program("setpriv") is None:
        pytest.skip("there is no setpriv")
    told = tmp_path / "pid"
    arguments = [sys.executable, "-c", OUTER, str(told), *command(told)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == b"ready\n"
        assert runs(told)
        os.kill(outer.pid, signal.SIGKILL)
        outer.wait()
        while runs(told):
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("code", "patience", "message"),
    [
        ("import sys; sys.exit('no room')", 120, "ended with status 1 instead of getting ready: no room"),
        ("import time; time.sleep(600)", 0.1, "not ready within 0.1 seconds"),
    ],
)
def test_one_that_does_not_get_ready(code: str, patience: float, message: str) -> None:
    with (
        pytest.raises(CommandFailed, match=message),
        private_server([sys.executable, "-c", code], ready=lambda: False, patience=patience),
    ):
        pass


def test_one_that_ends_badly(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with (
        pytest.raises(CommandFailed, match="ended with status 3"),
        private_server(command(told, 3), ready=told.exists, patience=120),
    ):
        pass


def test_one_that_misses_a_signal_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("freezer_sdk.streams.server._ASK_AGAIN", 0.1)
    told = tmp_path / "pid"
    deaf = SERVER.replace("lambda *_: sys.exit(", "lambda *_: asked.append(1) or len(asked) > 1 and sys.exit(")
    server = [sys.executable, "-c", f"asked = []{deaf}", str(told), "0"]
    with private_server(server, ready=told.exists, patience=120):
        pass
    assert not runs(told)


def test_one_that_does_not_end(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    deaf = SERVER.replace("sys.exit(int(sys.argv[2]))", "None")
    server = [sys.executable, "-c", deaf.replace("time.sleep(600)", "while True: time.sleep(1)"), str(told)]
    with pytest.raises(CommandFailed, match="did not end"), private_server(server, ready=told.exists, patience=20):
        pass
    assert not runs(told)


def test_one_that_is_not_there() -> None:
    with (
        pytest.raises(CommandFailed, match="'freezer-no-such-program' is missing") as caught,
        private_server(["freezer-no-such-program"], ready=lambda: True, patience=1, package="postgresql"),
    ):
        pass
    assert caught.value.hint == "apt-get install postgresql"


def test_a_private_folder_is_private_and_gone_afterwards() -> None:
    with private_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
    assert not folder.exists()


def test_an_unnamed_file_can_be_read_again_and_again_by_programs_that_inherit_it() -> None:
    content = os.urandom(100_000)
    with unnamed_file(content) as descriptor:
        for _ in range(2):
            done = subprocess.run(
                ["cat", descriptor_path(descriptor)], pass_fds=[descriptor], capture_output=True, check=True
            )
            assert done.stdout == content
        assert os.fstat(descriptor).st_mode & 0o777 == 0o600
