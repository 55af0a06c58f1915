"""A child process is a stream and an exit status."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from freezer_sdk.errors import CommandFailed, SourceUnreadable
from freezer_sdk.streams.process import ProcessReader, open_descriptor

PYTHON = sys.executable


def read_all(reader, size: int = 4096) -> bytes:
    buffer = memoryview(bytearray(size))
    read = b""
    while count := reader.readinto(buffer):
        read += buffer[:count]
    return read


def run(*arguments: str, **options: object) -> bytes:
    with ProcessReader(arguments, name="dump", **options) as reader:
        return read_all(reader)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_is_read_to_the_end() -> None:
    assert run("sh", "-c", "printf abc; sleep 0.1; printf def") == b"abcdef"
    assert run("true") == b""


def test_a_large_output_comes_in_full_buffers() -> None:
    with ProcessReader(["head", "-c", "3000000", "/dev/zero"], name="dump") as reader:
        buffer = memoryview(bytearray(1 << 20))
        counts = [reader.readinto(buffer) for _ in range(4)]
    assert counts == [1 << 20, 1 << 20, 3_000_000 - (2 << 20), 0]


def test_a_failing_program_fails_the_stream_and_says_why() -> None:
    with pytest.raises(CommandFailed, match=r"dump: sh exited with status 3: no such table"):
        run("sh", "-c", "echo data; echo no such table >&2; exit 3")


def test_a_killed_program_fails_the_stream() -> None:
    with pytest.raises(CommandFailed, match="was ended by SIGKILL"):
        run("sh", "-c", "echo data; kill -9 $$")


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(CommandFailed, match="cannot run 'no-such-program'") as caught:
        run("no-such-program")
    assert caught.value.hint


def test_only_the_end_of_many_messages_is_kept() -> None:
    code = "import sys; sys.stderr.write('first\\n' + 'x' * 1_000_000 + '\\nlast'); sys.exit(1)"
    with pytest.raises(CommandFailed) as caught:
        run(PYTHON, "-c", code)
    assert caught.value.message.endswith("last")
    assert len(caught.value.message) < 3000


def test_much_on_standard_error_does_not_block_the_output() -> None:
    code = "import sys; sys.stderr.write('x' * 1_000_000); sys.stdout.write('done')"
    assert run(PYTHON, "-c", code) == b"done"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--password=hunter2-secret"],
        ["--password", "hunter2-secret"],
        ["PGPASSWORD=hunter2-secret"],
        ["postgres://user:hunter2-secret@host/db"],
        ["--api-token:hunter2-secret"],
    ],
)
def test_passwords_on_the_command_line_are_not_repeated(arguments: list[str]) -> None:
    with pytest.raises(CommandFailed) as caught:
        run("sh", "-c", 'echo "cannot use $*" >&2; exit 1', "sh", *arguments)
    assert "hunter2" not in caught.value.message
    assert "cannot use" in caught.value.message


def test_given_secrets_are_not_repeated() -> None:
    with pytest.raises(CommandFailed, match=r"denied: \*\*\*"):
        run(
            "sh",
            "-c",
            "echo denied: $TOP >&2; exit 1",
            environment={"TOP": "canary", "PATH": "/bin"},
            secrets=["canary"],
        )


def test_leaving_early_ends_the_program_and_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 1000 & echo $! $$ > {pids}; echo ready; wait"
    with ProcessReader(["sh", "-c", script], name="dump") as reader:
        assert reader.readinto(memoryview(bytearray(6))) == 6
        numbers = [int(number) for number in pids.read_text().split()]
        assert all(map(alive, numbers))
    deadline = time.monotonic() + 120
    while any(map(alive, numbers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, numbers))


def test_a_grandchild_that_keeps_standard_error_open_does_not_hang_the_end() -> None:
    started = time.monotonic()
    grandchild = int(run("sh", "-c", "sleep 600 >/dev/null & echo $!"))
    assert time.monotonic() - started < 300
    os.kill(grandchild, signal.SIGKILL)


def test_a_descriptor_is_read_to_its_end_and_stays_open() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"piped")
    os.close(write_end)
    with open_descriptor(read_end) as reader:
        assert read_all(reader, 3) == b"piped"
    os.close(read_end)


def test_a_closed_descriptor_is_refused() -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    os.close(read_end)
    with pytest.raises(SourceUnreadable), open_descriptor(read_end):
        pass


def test_messages_and_the_exit_status_can_be_judged_by_the_reader() -> None:
    said = bytearray()
    script = "echo one >&2; echo output; echo two >&2; exit 3"
    with ProcessReader(["sh", "-c", script], name="dump", accepted=(0, 3), said=said.extend) as reader:
        assert read_all(reader) == b"output\n"
        assert reader.status == 3
    assert said == b"one\ntwo\n"
    with pytest.raises(CommandFailed, match="status 4"):
        run("sh", "-c", "exit 4", accepted=(0, 3))


def test_a_program_that_keeps_the_reader_waiting_is_ended_when_asked() -> None:
    class Enough(Exception):
        pass

    def check() -> None:
        raise Enough

    with pytest.raises(Enough), ProcessReader(["sleep", "1000"], name="dump", check=check) as reader:
        reader.readinto(memoryview(bytearray(1)))
    assert not alive(reader._process.pid)


def test_a_program_inherits_descriptors_that_it_is_given() -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"inherited")
    os.close(write_end)
    try:
        assert run("cat", f"/dev/fd/{read_end}", descriptors=(read_end,)) == b"inherited"
    finally:
        os.close(read_end)
