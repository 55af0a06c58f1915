"""Small files for a child process that hold names: in memory where the system can, else private and temporary."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from types import TracebackType
from typing import Self


class ScratchFile:
    """A file that another program reads or writes by its path; gone when the context is left.

    Args:
        content: what it holds at first.

    Attributes:
        path: for the program.
        descriptors: that the program must inherit.
    """

    def __init__(self, content: bytes = b"") -> None:
        self._content = content
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        self._fd = _in_memory()
        self.path = b"/dev/fd/%d" % self._fd
        self.descriptors: tuple[int, ...] = (self._fd,)
        if self._fd < 0:
            self._directory = tempfile.TemporaryDirectory(prefix="freezer-")
            self.path = os.fsencode(os.path.join(self._directory.name, "file"))
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            self.descriptors = ()
        self.replace(self._content)
        return self

    def replace(self, content: bytes) -> None:
        """Gives it another content."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def read(self) -> bytes:
        """All that it holds now."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        with open(self._fd, "rb", closefd=False) as file:
            return file.read()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if self._directory is not None:
            self._directory.cleanup()


def _in_memory() -> int:
    """A descriptor on memory that children can open by its number; -1 where there is no such thing."""
    if not hasattr(os, "memfd_create"):
        return -1
    with suppress(OSError):
        fd = os.memfd_create("freezer")
        if os.path.exists(f"/dev/fd/{fd}"):
            return fd
        os.close(fd)
    return -1
