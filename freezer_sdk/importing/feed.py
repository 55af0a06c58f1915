"""Contents that come in one order, for who asks for them in another."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from freezer_sdk.engines.base import Piece, WholeBackup
from freezer_sdk.errors import IntegrityError

_SMALL: Final = 1 << 20  # a file up to this size is kept in memory, as far as the budget goes
_BUDGET: Final = 64 << 20
_BLOCK: Final = 1 << 20


class Feed:
    """Files of a backup that is read once, from one end to the other. A context manager.

    What comes before it is asked for waits in memory, and beyond a bound in a private folder, a file at a time when the
    orders agree. No content is given unless it is whole.

    Args:
        sizes: of all files that may be asked for, by the key under which their content is known.
        key: of a path; names of one file have one key.
        expected: whether the file of a key will probably be asked for.
        folder: where the private folder is made; by default where temporary files go.

    Attributes:
        digests: SHA-256 of what was given, by key.
    """

    def __init__(
        self,
        source: WholeBackup,
        sizes: Mapping[bytes, int],
        *,
        key: Callable[[bytes], bytes],
        expected: Callable[[bytes], bool],
        folder: str | None = None,
    ) -> None:
        self._source, self._sizes, self._key, self._expected = source, sizes, key, expected
        self._place = tempfile.TemporaryDirectory(prefix="freezer-import-", dir=folder)
        self._pieces: Generator[Piece, None, None] | None = None
        self._waiting: dict[bytes, _Spool] = {}
        self._building: dict[bytes, _Spool] = {}
        self._everything = False
        self._last: _Spool | None = None
        self._in_memory = self._made = 0
        self.digests: dict[bytes, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._waiting.clear()
        self._place.cleanup()

    def open(self, path: bytes, *, is_key: bool = False) -> int:
        """A descriptor on the content of a file; of further names of one that was given, on nothing.

        Raises:
            OSError: the content is lost.
            StorageError, WrongPassword, Cancelled.
        """
        key = path if is_key else self._key(path)
        if key in self.digests:
            return os.open(os.devnull, os.O_RDONLY)
        if key not in self._waiting:
            self._read_until(key)
        spool = self._waiting.pop(key, None)
        if spool is None:
            raise OSError(errno.EIO, "its content is in a part of the backup that cannot be read")
        self._in_memory -= spool.in_memory
        fd, self.digests[key] = spool.finish(self._sizes[key])
        return fd

    def digest_expected(self) -> None:
        """Reads the contents that are expected to be asked for, and keeps nothing but the digests.

        Raises:
            StorageError, WrongPassword, Cancelled.
        """
        self._start(everything=False)
        assert self._pieces is not None
        with suppress(IntegrityError):  # told by the source
            for piece in self._pieces:
                key = self._take(piece)
                if key is not None:
                    os.close(self.open(key, is_key=True))

    def _read_until(self, key: bytes) -> None:
        if self._pieces is None or not (self._everything or self._expected(key)):
            self._start(everything=self._pieces is not None or not self._expected(key))
        assert self._pieces is not None
        try:
            for piece in self._pieces:
                if self._take(piece) == key:
                    return
        except IntegrityError:  # told by the source; what did not come is lost
            return

    def _start(self, *, everything: bool) -> None:
        """Reads from the start: at first what is expected, and all the rest when that was wrong."""
        self._stop()
        self._everything = everything
        chosen: dict[bytes, bytes] = {}  # of the names of a file the first one

        def wanted(path: bytes) -> bool:
            key = self._key(path)
            if not self._sizes.get(key) or key in self.digests or key in self._waiting:
                return False
            return (everything or self._expected(key)) and chosen.setdefault(key, path) == path

        self._pieces = (piece for piece in self._source.pieces(wanted))

    def _stop(self) -> None:
        if self._pieces is not None:
            self._pieces.close()
        if self._last is not None:
            self._last.close()
        self._in_memory -= sum(spool.in_memory for spool in self._building.values())
        self._building.clear()

    def _take(self, piece: Piece) -> bytes | None:
        """The key of a file that is whole now."""
        key = self._key(piece.path)
        spool = self._building.get(key)
        if spool is None:
            size = self._sizes[key]
            self._made += 1
            small = size <= _SMALL and self._in_memory + size <= _BUDGET
            spool = self._building[key] = _Spool(None if small else Path(self._place.name, str(self._made)), size)
            self._in_memory += spool.in_memory
        if self._last is not None and self._last is not spool:
            self._last.close()  # parts of very many files may come in turn
        self._last = spool
        spool.write(piece)
        if not piece.last:
            return None
        self._waiting[key] = self._building.pop(key)
        self._waiting[key].close()
        return key


class _Spool:
    """The content of one file.

    Args:
        path: ``None``: in memory.
    """

    def __init__(self, path: Path | None, size: int) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        self._data = bytearray(size if path is None else 0)
        self._size = size

    @property
    def in_memory(self) -> int:
        """Bytes."""
        return len(self._data)

    def write(self, piece: Piece) -> None:
        """Takes a part.

        Raises:
            IntegrityError: it lies outside the file.
        """
        end = piece.offset + len(piece.data)
        if piece.offset < 0 or end > self._size:
            raise IntegrityError(f"the backup holds more content for {os.fsdecode(piece.path)!r} than its size")
        if self._path is None:
            self._data[piece.offset : end] = piece.data
            return
        if self._file is None:
            self._file = open(self._path, "r+b" if self._path.exists() else "xb")  # noqa: SIM115
        self._file.seek(piece.offset)
        self._file.write(piece.data)

    def close(self) -> None:
        """Keeps no descriptor while it waits; what is written next opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self, size: int) -> tuple[int, bytes]:
        """A descriptor on the content, and its SHA-256."""
        digest = hashlib.sha256()
        if self._path is None:
            digest.update(self._data)
            return _filled(self._data), digest.digest()
        os.truncate(self._path, size)
        fd = os.open(self._path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._path.unlink()
        while data := os.read(fd, _BLOCK):
            digest.update(data)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd, digest.digest()


def _filled(data: bytearray) -> int:
    """A descriptor on a file without a name, in memory where that can be."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("freezer-import")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
