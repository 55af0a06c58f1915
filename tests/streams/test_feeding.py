"""Programs are fed a stream: all of it, with their exit status looked at, and ended when the stream fails."""

from __future__ import annotations

import io
import os
import sys
import time
from pathlib import Path

import pytest

from freezer_sdk.errors import CommandFailed
from freezer_sdk.streams.feeding import feed_program

PYTHON = sys.executable


class Broken(io.RawIOBase):
    """Gives some bytes, and then fails."""

    def __init__(self) -> None:
        self._given = False

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._given:
            raise RuntimeError("the storage is gone")
        self._given = True
        buffer[:4] = b"data"
        return 4


def test_everything_arrives_in_its_folder(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    told: list[int] = []
    size = feed_program(
        [PYTHON, "-c", "import sys; open('out', 'wb').write(sys.stdin.buffer.read())"],
        io.BytesIO(data),
        name="x",
        folder=str(tmp_path),
        progress=told.append,
    )
    assert (tmp_path / "out").read_bytes() == data
    assert size == sum(told) == len(data)


def test_a_failure_is_told_with_what_the_program_said_but_no_secret() -> None:
    code = "import sys; sys.stdin.read(); sys.stderr.write('x' * 100000 + ' no such table for s3cret'); sys.exit(4)"
    with pytest.raises(CommandFailed, match=r"shop.sql: .* exited with status 4: x+ no such table for \*\*\*$"):
        feed_program([PYTHON, "-c", code], io.BytesIO(b"data"), name="shop.sql", secrets=["s3cret"])


@pytest.mark.parametrize("status", [0, 3])
def test_a_program_that_stops_reading_has_failed(status: int) -> None:
    code = f"import os, sys; os.close(0); sys.exit({status})"
    with pytest.raises(CommandFailed, match="status 3" if status else "stopped reading"):
        feed_program([PYTHON, "-c", code], io.BytesIO(bytes(50_000_000)), name="x")


def test_the_program_is_ended_when_the_stream_fails(tmp_path: Path) -> None:
    code = f"import os, sys, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"

    class Later(Broken):
        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                time.sleep(0.01)
            return super().readinto(buffer)

    with pytest.raises(RuntimeError, match="gone"):
        feed_program([PYTHON, "-c", code], Later(), name="x")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="missing") as caught:
        feed_program(["freezer-no-such-program"], io.BytesIO(), name="x", package="postgresql-client")
    assert caught.value.hint == "apt-get install postgresql-client"
