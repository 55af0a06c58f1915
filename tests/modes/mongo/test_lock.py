"""``fsync_lock``: tested against a stub of the two commands in front of a real server; see ``stub_fsync_lock``."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from mongo_server import Mongo
from stub_fsync_lock import FsyncLockStub

from freezer_sdk.errors import ConfigurationError, SnapshotError
from freezer_sdk.modes.base import SnapshotGroup
from freezer_sdk.modes.mongo.mode import MongoMode

pytestmark = pytest.mark.mongo

LOCKING = """
import json, sys, time
from test_lock import MongoMode, maker

def locked():
    print("locked", flush=True)
    time.sleep(600)

with MongoMode(**json.loads(sys.argv[1])).protect(snapshots=maker(locked)):
    pass
"""


class Group(SnapshotGroup):
    """Shows the folders themselves: what is in them is no matter here."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.views = {path: path for path in paths}
        self.facts = {"provider": "none"}

    def check(self) -> None:
        pass


def maker(during: Callable[[], object]) -> Any:
    """A SnapshotMaker that does something instead of a snapshot."""

    @contextlib.contextmanager
    def made(paths: Sequence[Path]) -> Iterator[SnapshotGroup]:
        during()
        yield Group(paths)

    return made


@pytest.fixture
def stub(server: Mongo) -> Iterator[FsyncLockStub]:
    with FsyncLockStub(server.port) as made:
        yield made


def login(server: Mongo, stub: FsyncLockStub, **options: Any) -> dict[str, Any]:
    return {**server.login(fsync_lock=True, **options), "port": stub.port}


def test_writers_are_held_up_while_the_snapshot_is_made_and_no_longer(server: Mongo, stub: FsyncLockStub) -> None:
    mode = MongoMode(**login(server, stub))
    with mode.protect(snapshots=maker(lambda: stub.calls.append("snapshot"))) as protected:
        assert stub.calls == ["lock", "snapshot", "unlock"]
        assert protected.facts["mongo"]["lock_seconds"] >= 0
    assert stub.locks == 0


def test_no_lock_unless_it_is_asked_for(server: Mongo, stub: FsyncLockStub) -> None:
    with MongoMode(**{**server.login(), "port": stub.port}).protect(snapshots=maker(lambda: None)) as protected:
        assert "lock_seconds" not in protected.facts["mongo"]
    assert stub.calls == []


@pytest.mark.parametrize("error", [SnapshotError("no room"), KeyboardInterrupt()])
def test_a_snapshot_that_cannot_be_made_unlocks(server: Mongo, stub: FsyncLockStub, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)), MongoMode(**login(server, stub)).protect(snapshots=maker(fail)):
        pass
    assert stub.calls == ["lock", "unlock"]


def test_a_snapshot_that_takes_too_long_unlocks_and_is_not_used(server: Mongo, stub: FsyncLockStub) -> None:
    def wait() -> None:
        assert stub.unlocked.wait(120)

    mode = MongoMode(**login(server, stub, lock_timeout=1.0))
    with pytest.raises(SnapshotError, match="longer than writers may be held up"), mode.protect(snapshots=maker(wait)):
        pass
    assert stub.locks == 0


def test_a_killed_run_unlocks(server: Mongo, stub: FsyncLockStub, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(LOCKING)
    options = {**login(server, stub), "data_path": str(server.data)}
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    command = [sys.executable, str(program), json.dumps(options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": paths}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        assert stub.locks == 1
        os.kill(process.pid, signal.SIGKILL)
        assert stub.unlocked.wait(120)
    assert stub.calls == ["lock", "unlock"]


def test_a_server_that_cannot_lock_says_so(server: Mongo) -> None:
    mode = MongoMode(**server.login(fsync_lock=True))
    with pytest.raises(Exception, match="fsync with lock"), mode.protect(snapshots=maker(lambda: None)):
        pass


def test_a_dump_has_no_use_for_a_lock(server: Mongo) -> None:
    with pytest.raises(ConfigurationError, match="fsync_lock"):
        MongoMode(**server.login(fsync_lock=True, strategy="dump"))
