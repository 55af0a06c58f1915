"""Programs are ended with all that they started."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from freezer_sdk.errors import CommandFailed
from freezer_sdk.hookrun import run_hook
from freezer_sdk.streams.command import run_command
from freezer_sdk.streams.feeding import feed_program
from freezer_sdk.streams.process import ProcessReader

STUBBORN = """
import os, signal, sys, time
if os.fork():
    time.sleep(1000)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(1000)
"""
"""Ends when it is asked to; what it started does not."""


def run(arguments: list[str], child: Path) -> None:
    run_command(arguments, timeout=1)


def hook(arguments: list[str], child: Path) -> None:
    run_hook("pre", arguments, environment={}, timeout=1, cancel=None)


def read(arguments: list[str], child: Path) -> None:
    with ProcessReader(arguments, name="stream"):
        wait_for(child.exists)
        raise CommandFailed("its output is not wanted")


def feed(arguments: list[str], child: Path) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            wait_for(child.exists)
            raise CommandFailed("there is nothing to feed it with")

    feed_program(arguments, Broken(), name="stream")


@pytest.mark.parametrize("way", [run, hook, read, feed])
def test_what_does_not_hear_is_ended_too(way: Callable[[list[str], Path], None], tmp_path: Path) -> None:
    child = tmp_path / "child"
    while not child.exists():  # where the time was too short for it to start
        with pytest.raises(CommandFailed):
            way([sys.executable, "-c", STUBBORN, str(child)], child)
    wait_for(lambda: not alive(int(child.read_text())))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)
