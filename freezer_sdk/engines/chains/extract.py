"""One file of a backup as a stream."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import IO, Final

from freezer_sdk.engines.chains.content import Content
from freezer_sdk.engines.chains.reading import DOUBT, Opened
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Entry
from freezer_sdk.storages.base import Reader

_ZEROS: Final = bytes(1 << 20)
_IN_MEMORY: Final = 64 << 20


@contextmanager
def reading(opened: Opened, entry: Entry) -> Iterator[Reader]:
    """The content of a regular file, holes as zeros.

    Where a later level may replace what an earlier one gave, nothing can be given before all was read: the file is put
    together first, in memory or, when large, in a temporary file without a name.

    Raises:
        IntegrityError, StorageError: also from ``read``.
    """
    if entry.incomplete:
        raise _lost()
    pieces = _layers(opened.content, entry) if opened.layered else _in_order(opened.content, entry)
    try:
        yield _Pieces(_sure(pieces, doubted=opened.doubts(entry)))
    finally:
        pieces.close()


class _Pieces:
    def __init__(self, pieces: Iterator[memoryview]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """See :class:`~freezer_sdk.storages.base.Reader`."""
        if size < 0:
            rest = b"".join((self._rest, *(bytes(piece) for piece in self._pieces)))
            self._rest = memoryview(b"")
            return rest
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = piece
        taken, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return taken


def _sure(pieces: Iterator[memoryview], *, doubted: bool) -> Iterator[memoryview]:
    yield from pieces
    if doubted:
        raise IntegrityError(DOUBT)


def _in_order(content: Content, entry: Entry) -> Generator[memoryview, None, None]:
    position, whole = 0, not entry.size
    for piece in content.pieces(entry.path.__eq__) if entry.size else ():
        if piece.offset < position or piece.offset + len(piece.data) > entry.size:
            raise IntegrityError(f"the parts of {entry.path!r} do not fit each other")
        yield from _hole(piece.offset - position)
        if piece.data:
            yield memoryview(piece.data)
        position, whole = piece.offset + len(piece.data), piece.last
        if whole:
            break
    if not whole:
        raise _lost()
    yield from _hole(entry.size - position)


def _layers(content: Content, entry: Entry) -> Generator[memoryview, None, None]:
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        whole = not entry.size
        for piece in content.pieces(entry.path.__eq__) if entry.size else ():
            if piece.offset < 0 or piece.offset + len(piece.data) > entry.size:
                raise IntegrityError(f"the parts of {entry.path!r} do not fit each other")
            file.seek(piece.offset)
            file.write(piece.data)
            whole = piece.last
        if not whole:
            raise _lost()
        position = 0
        file.seek(0)
        while data := _read(file):
            position += len(data)
            yield memoryview(data)
        yield from _hole(entry.size - position)


def _read(file: IO[bytes]) -> bytes:
    return file.read(1 << 20)


def _hole(length: int) -> Iterator[memoryview]:
    while length > 0:
        yield memoryview(_ZEROS)[:length]
        length -= len(_ZEROS)


def _lost() -> IntegrityError:
    return IntegrityError("its content is in a part of the backup that cannot be read")
