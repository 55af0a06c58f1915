"""Programs that say nothing for long: the run can be cancelled, and its lease stays fresh."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from freezer_sdk import Cancelled, CancelToken, Freezer, Status
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.storages.memory import MemoryStorage

PASSWORD = "correct horse"
GRACE = 2  # seconds


@pytest.fixture
def freezer(storage: MemoryStorage) -> Freezer:
    create_repository(storage, password=PASSWORD, grace=GRACE, short_grace=True)
    return Freezer(storage, password=PASSWORD)


def test_the_lease_is_kept(freezer: Freezer) -> None:
    arguments = ["sh", "-c", f"printf before; sleep {2 * GRACE}; printf after"]
    backup = freezer.backup(mode_options={"command": "dump", "command_arguments": arguments})
    assert backup.status is Status.COMPLETE
    with freezer.open(backup.id, "dump") as reader:
        assert reader.read() == b"beforeafter"


def test_the_run_can_be_cancelled(freezer: Freezer, tmp_path: Path) -> None:
    started = tmp_path / "pid"
    arguments = ["sh", "-c", f"echo $$ > {started}; exec sleep 600"]
    cancel = CancelToken()
    threading.Thread(target=_cancel_when, args=(started, cancel)).start()
    with pytest.raises(Cancelled):
        freezer.backup(mode_options={"command": "dump", "command_arguments": arguments}, cancel=cancel)
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)
    assert freezer.backups() == []


def test_nothing_is_left_running(freezer: Freezer) -> None:
    before = set(threading.enumerate())
    for arguments in (["true"], ["head", "-c", "9000000", "/dev/zero"]):
        freezer.backup(mode_options={"command": "dump", "command_arguments": arguments})
    end = time.monotonic() + 20
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < end, left
        time.sleep(0.01)


def _cancel_when(path: Path, cancel: CancelToken) -> None:
    while not (path.exists() and path.read_text().strip()):
        time.sleep(0.05)
    cancel.cancel()
