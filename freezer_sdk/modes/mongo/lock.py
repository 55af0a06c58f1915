"""Holding up a server's writers while a snapshot is made.

The lock outlives the connection that asked for it, so a process of its own, :mod:`.unlocker`, takes it away when it
lasts too long, or when nobody is left who would.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from freezer_sdk.errors import SnapshotError, SourceError
from freezer_sdk.modes.mongo.login import Login

_PATIENCE = 60.0


class LockTime:
    """How long the lock was held.

    Attributes:
        seconds: from before it was asked for until it was gone.
    """

    seconds: float = 0.0


@contextmanager
def write_lock(client: Any, login: Login, *, limit: float) -> Iterator[LockTime]:
    """Keeps the server from writing to its files.

    Args:
        client: a ``pymongo.MongoClient``.
        login: how the watching process reaches the same server.
        limit: seconds; held longer, what was done meanwhile is of no use.

    Raises:
        SnapshotError: the lock did not last until the block was done.
        SourceError: the watching process does not start.
        pymongo.errors.PyMongoError: the server refuses.
    """
    held = LockTime()
    with _watched(login, limit) as watcher:
        began = time.monotonic()
        client.admin.command("fsync", lock=True)
        try:
            yield held
        finally:
            in_time = _unlock(client, watcher)
            held.seconds = time.monotonic() - began
    if not in_time or held.seconds > limit:
        raise SnapshotError(
            f"the snapshot took longer than writers may be held up ({limit:g} seconds)", hint="raise lock_timeout"
        )


def _unlock(client: Any, watcher: subprocess.Popen[bytes]) -> bool:
    """Takes the lock away; whether it was still there."""
    from pymongo.errors import OperationFailure

    in_time = watcher.poll() is None
    try:
        client.admin.command("fsyncUnlock")
    except OperationFailure:  # it is gone
        in_time = False
    return in_time


@contextmanager
def _watched(login: Login, limit: float) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", "-m", "freezer_sdk.modes.mongo.unlocker", str(limit)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(login.to_json().encode() + b"\n")
        if process.stdout.readline() != b"ready\n":
            raise SourceError("the process that watches over the lock of MongoDB does not start")
        yield process
        with suppress(BrokenPipeError):
            process.stdin.write(b"done\n")
    finally:
        process.stdin.close()
        process.stdout.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
