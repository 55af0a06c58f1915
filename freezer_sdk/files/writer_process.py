"""A process that writes small files beside the one that restores: one interpreter alone keeps one processor busy.

It only makes a restore faster. What it cannot do in the plainest way it leaves to the process that asked, which finds
and reports errors; so does everything that was on its way to it when it ended.
"""

from __future__ import annotations

import marshal
import mmap
import os
import selectors
import signal
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.files import writer
from freezer_sdk.files.attributes import AttributeWriter
from freezer_sdk.files.entries import EntryWriter
from freezer_sdk.files.folders import Workspace, open_folder
from freezer_sdk.files.report import Reporter
from freezer_sdk.model import Buffer, Problem, RestoreOptions
from freezer_sdk.modes.base import STAT

SmallFile = tuple[bytes, bytes, int, bytes, tuple[int, ...]]
"""Name, packed row of :data:`~freezer_sdk.modes.base.STAT`, start in the segment, hashes and lengths of its blobs."""

LARGEST_SEGMENT = 32 << 20
"""Bytes of content that can be handed over at once."""

_COUNT = struct.Struct("<I")
_START_TIME = 10.0  # seconds that a process may take to get ready
_COMMAND = "import sys; sys.path[:] = sys.argv[1:]; from freezer_sdk.files.writer_process import main; main()"


class WriterProcess:
    """The other process, as a thread sees that gives it work.

    Args:
        target: descriptor of the target.
        key: of the content's hashes.
        users, groups: names of owners as recorded, by number.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, target: int, options: RestoreOptions, *, key: bytes, users: Mapping[int, str], groups: Mapping[int, str]
    ) -> None:
        self._memory = os.memfd_create("freezer-segment")
        try:
            os.ftruncate(self._memory, LARGEST_SEGMENT)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _COMMAND, *(path or os.getcwd() for path in sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(target, self._memory),
                bufsize=0,
            )
        except BaseException:
            os.close(self._memory)
            raise
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._ready: bool | None = None
        self._send((target, self._memory, options.owner, options.numeric_owner, key, dict(users), dict(groups)))

    @staticmethod
    def possible() -> bool:
        """Whether this interpreter can start another one of its kind."""
        return hasattr(os, "memfd_create") and os.path.basename(sys.executable or "").startswith(("python", "pypy"))

    def write(self, files: Iterable[tuple[bytes, Sequence[SmallFile]]], segment: Buffer) -> Sequence[int] | None:
        """Has files written whose content lies in a segment; by one thread.

        Args:
            files: by directory; all directories were made by this restore.

        Returns:
            The numbers of those that were not written, counted over all directories; ``None``: perhaps none was.
        """
        if self._ready is None:
            self._ready = _readable(self._from, _START_TIME) and self._answer() == []
        if not self._ready or len(segment) > LARGEST_SEGMENT:
            return None
        try:
            writer.write_at(self._memory, segment, 0)
        except OSError:  # no memory left
            return None
        self._send(list(files))
        return self._answer()

    def stop(self) -> None:
        """Ends it soon; a ``write`` that waits for it comes back."""
        with suppress(OSError):
            self._process.terminate()
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def close(self) -> None:
        """Releases what is left, after :meth:`stop` and when nobody writes any more."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        os.close(self._memory)
        self._process.wait()

    def _send(self, message: Any) -> None:
        data = marshal.dumps(message)
        with suppress(OSError):  # it has ended, and will not answer either
            writer.write_all(self._to, _COUNT.pack(len(data)) + data)

    def _answer(self) -> Sequence[int] | None:
        try:
            (count,) = _COUNT.unpack(_read(self._from, _COUNT.size))
            return list(struct.unpack(f"<{count}I", _read(self._from, 4 * count)))
        except (OSError, EOFError):
            self._ready = False
            return None


def _readable(descriptor: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:  # select() knows no descriptors above 1023
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(seconds))


def is_content(key: bytes, blobs: bytes, lengths: Sequence[int], data: Buffer) -> bool:
    """Whether data are what the keyed hashes of their parts say.

    Args:
        blobs: the hashes, 32 bytes each.
        lengths: of the parts.
    """
    if len(lengths) == 1:
        return blob_id(key, data) == blobs
    view = memoryview(data)
    at = 0
    found = []
    for length in lengths:
        found.append(blob_id(key, view[at : at + length]))
        at += length
    return b"".join(found) == blobs


def _read(fd: int, size: int) -> bytearray:
    data = bytearray(size)
    view = memoryview(data)
    done = 0
    while done < size:
        count = os.readv(fd, [view[done:]])
        if not count:
            raise EOFError
        done += count
    return data


class _Complaint(Exception):
    """Something to report: the other process does."""


def _complain(problem: Problem) -> None:
    raise _Complaint


class _Everything(set[bytes]):
    """All directories hold nothing but what this restore made."""

    def __contains__(self, path: object) -> bool:
        return True


def _serve() -> None:
    target, memory, owner, numeric, key, users, groups = _message()
    options = RestoreOptions(owner=owner, numeric_owner=numeric)
    workspace = Workspace("the target", fresh=_Everything())
    workspace.root = open_folder(target, fresh=True)
    report = Reporter(_complain)
    os.umask(0)  # so that a file can be made with the mode that it is to have
    attributes = AttributeWriter(options, report, users, groups)
    entries = EntryWriter(workspace, options, attributes, report, exact_modes=True)
    os.write(1, _COUNT.pack(0))
    with mmap.mmap(memory, LARGEST_SEGMENT, access=mmap.ACCESS_READ) as segment:
        while True:
            failed = _write(entries, _message(), memoryview(segment), key)
            os.write(1, struct.pack(f"<{len(failed) + 1}I", len(failed), *failed))


def _message() -> Any:
    (size,) = _COUNT.unpack(_read(0, _COUNT.size))
    return marshal.loads(_read(0, size))  # noqa: S302  # it comes from the process that started this one


def _write(entries: EntryWriter, batch: Any, segment: memoryview, key: bytes) -> list[int]:
    failed = []
    number = 0
    for directory, files in batch:
        for name, row, start, blobs, lengths in files:
            data = segment[start : start + sum(lengths)]
            try:
                if not is_content(key, blobs, lengths, data):
                    failed.append(number)
                else:
                    entries.write_new(directory, name, STAT.unpack(row), data)
            except Exception:  # whatever it is, the other process meets it too, and tells
                failed.append(number)
            number += 1
    return failed


def main() -> None:
    """Writes what comes in on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both; the other process ends this one
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))  # a half-written file is taken back
    with suppress(EOFError, BrokenPipeError):
        _serve()
