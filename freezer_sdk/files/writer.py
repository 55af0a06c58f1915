"""Files on their way into a target: under a temporary name, or in place, and holes stay holes."""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

from freezer_sdk.files.extras import Extents, extents
from freezer_sdk.model import Buffer
from freezer_sdk.modes.base import Extras


def data_ranges(extras: Extras, size: int) -> Extents | None:
    """Data ranges of a sparse file, checked; ``None``: the file has no holes.

    Raises:
        ValueError: they do not lie within the file.
    """
    found = extents(extras)
    if found and sum(found[-1]) > size:
        raise ValueError("extents reach beyond the end of the file")
    return found


def write_all(fd: int, data: Buffer) -> None:
    """Writes everything at the file's position.

    Raises:
        OSError.
    """
    written = os.write(fd, data)
    if written != len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.write(fd, view[written:])


def write_at(fd: int, data: Buffer, offset: int) -> None:
    """Writes everything at an offset.

    Raises:
        OSError.
    """
    written = os.pwrite(fd, data, offset)
    if written != len(data):
        view = memoryview(data)
        while written < len(view):
            written += os.pwrite(fd, view[written:], offset + written)


def write_sparse(fd: int, data: Buffer, offset: int, ranges: Extents) -> None:
    """Writes what lies in data ranges, and leaves the holes between them.

    Raises:
        OSError.
    """
    view = memoryview(data)
    end = offset + len(view)
    for start, length in ranges[max(0, bisect_right(ranges, (offset, 0)) - 1) :]:
        if start >= end:
            return
        low, high = max(start, offset), min(start + length, end)
        if low < high:
            write_at(fd, view[low - offset : high - offset], low)


class FileWriter:
    """A file that is being restored piece by piece; a context manager that gives up what was not committed.

    Args:
        fd: open for writing, of the right size; closed by the writer.
        ranges: data ranges of a sparse file.
        finish: sets attributes and makes the file visible.
        discard: takes back what can be taken back.
        reopen: opens the file again for writing.
        wrap: turns an OSError into the error to raise.
    """

    def __init__(
        self,
        fd: int,
        *,
        ranges: Extents | None,
        finish: Callable[[int], None],
        discard: Callable[[], None],
        reopen: Callable[[], int],
        wrap: Callable[[OSError | ValueError], Exception],
    ) -> None:
        self._fd = fd
        self._parked: tuple[int, int] | None = None
        self._reopen = reopen
        self._ranges = ranges
        self._finish = finish
        self._discard = discard
        self._wrap = wrap

    def resize(self, size: int, *, allocate: bool) -> None:
        """Gives the file its size: as a hole, or with blocks of its own.

        Raises:
            RestoreError.
        """
        try:
            os.ftruncate(self._fd, size)
            if allocate and size:
                os.posix_fallocate(self._fd, 0, size)
        except OSError as error:
            raise self._wrap(error) from error

    def park(self) -> None:
        """Closes the file until it is needed again; while nobody else uses the writer.

        Raises:
            RestoreError.
        """
        if self._fd < 0:
            return
        try:
            st = os.fstat(self._fd)
        except OSError as error:
            raise self._wrap(error) from error
        self._parked = (st.st_dev, st.st_ino)
        self._close()

    def _resume(self) -> None:
        fd = self._reopen()
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) != self._parked:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "it was replaced by somebody else meanwhile")
        self._fd, self._parked = fd, None

    def write_at(self, offset: int, data: Buffer) -> None:
        """Writes a piece; from any thread.

        Raises:
            RestoreError.
        """
        try:
            if self._parked is not None:
                self._resume()
            if self._ranges is None:
                write_at(self._fd, data, offset)
            else:
                write_sparse(self._fd, data, offset, self._ranges)
        except OSError as error:
            raise self._wrap(error) from error

    def commit(self) -> None:
        """Sets attributes and gives the file its name.

        Raises:
            RestoreError.
        """
        try:
            if self._parked is not None:
                self._resume()
            try:
                self._finish(self._fd)
            finally:
                self._close()
        except (OSError, ValueError) as error:
            self._discard()
            raise self._wrap(error) from error
        except BaseException:
            self._discard()
            raise

    def abort(self) -> None:
        """Gives the file up; harmless after ``commit``."""
        if self._fd >= 0:
            self._close()
            self._discard()
        elif self._parked is not None:
            self._parked = None
            self._discard()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        with suppress(OSError):
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()
