"""What goes out to Swift and comes in, block by block; the checks on what came."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from freezer_sdk.errors import ChecksumMismatch, StorageUnavailable
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import TRAFFIC_BLOCK, Traffic

_MD5 = re.compile(r"[0-9a-f]{32}")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/")


def as_bytes(buffers: Sequence[Buffer]) -> list[memoryview]:
    """Views of the bytes; empty ones left out."""
    views = (memoryview(buffer) for buffer in buffers)
    return [view.cast("B") for view in views if view.nbytes]


def split(views: Sequence[memoryview], size: int) -> Iterator[list[memoryview]]:
    """The same bytes in pieces of ``size``, the last one shorter."""
    piece: list[memoryview] = []
    room = size
    for view in views:
        rest = view
        while len(rest) >= room:
            piece.append(rest[:room])
            yield piece
            rest, piece, room = rest[room:], [], size
        if rest:
            piece.append(rest)
            room -= len(rest)
    if piece:
        yield piece


def md5(views: Sequence[memoryview]) -> str:
    """The hex digest that Swift calls ETag."""
    digest = hashlib.md5(usedforsecurity=False)
    for view in views:
        digest.update(view)
    return digest.hexdigest()


def checksum(headers: Mapping[str, str]) -> str | None:
    """The MD5 of an object's content; ``None`` for one of segments, whose ETag is something else."""
    etag = headers.get("etag", "").strip('"').lower()
    joined = is_slo(headers) or "x-object-manifest" in headers
    return etag if _MD5.fullmatch(etag) and not joined else None


def is_slo(headers: Mapping[str, str]) -> bool:
    """Whether it is a static large object: a list of segments."""
    return headers.get("x-static-large-object", "").lower() == "true"


class Outgoing:
    """Content as the file that swiftclient reads from."""

    def __init__(self, views: Sequence[memoryview], traffic: Traffic) -> None:
        self.size = sum(map(len, views))
        self._views = list(reversed(views))
        self._traffic = traffic

    def read(self, size: int = -1) -> Buffer:
        """The next block; a view of the content where a buffer has that much."""
        wanted = TRAFFIC_BLOCK if size < 0 else min(size, TRAFFIC_BLOCK)
        pieces: list[memoryview] = []
        while wanted and self._views:
            view = self._views.pop()
            if len(view) > wanted:
                self._views.append(view[wanted:])
                view = view[:wanted]
            pieces.append(view)
            wanted -= len(view)
        block: Buffer = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if len(block):
            self._traffic.sent(len(block))
        return block


class Incoming:
    """The body of an answer; tells at its end when it was cut short or changed.

    Args:
        headers: of the answer, names in lower case.
        body: swiftclient's reader.
        what: begins the message of an error.
        guard: makes errors of the libraries ours.
        whole: the answer is all of the object, so that its ETag says what it must be.

    Attributes:
        whole: as given.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        body: Any,
        *,
        what: str,
        guard: Callable[[str], Any],
        traffic: Traffic,
        whole: bool,
    ) -> None:
        self.whole = whole
        self._body = body
        self._what = what
        self._guard = guard
        self._traffic = traffic
        length = headers.get("content-length", "")
        self._left = int(length) if length.isdigit() else None
        self._expected = checksum(headers) if whole else None
        self._digest = hashlib.md5(usedforsecurity=False)
        self._ended = False

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end.

        Raises:
            StorageUnavailable: the connection broke, or the body was cut short.
            ChecksumMismatch: the content is not what was stored.
        """
        if size >= 0:
            return self._block(min(size, TRAFFIC_BLOCK))
        pieces = []
        while piece := self._block(TRAFFIC_BLOCK):
            pieces.append(piece)
        return b"".join(pieces)

    def read_exactly(self, size: int | None) -> bytes:
        """The first ``size`` bytes, or all where there are fewer.

        Raises:
            StorageUnavailable, ChecksumMismatch: see :meth:`read`.
        """
        if size is None:
            return self.read()
        pieces = []
        while size and (piece := self._block(min(size, TRAFFIC_BLOCK))):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def _block(self, size: int) -> bytes:
        if self._ended or not size:
            return b""
        with self._guard(self._what):
            block = bytes(self._body.read(size))
        if block:
            self._traffic.received(len(block))
            if self._expected is not None:
                self._digest.update(block)
            if self._left is not None:
                self._left -= len(block)
        if not block or self._left == 0:
            self._end()
        return block

    def _end(self) -> None:
        self._ended = True
        if self._left:
            raise StorageUnavailable(f"{self._what}: the answer was cut short")
        if self._expected is not None and self._digest.hexdigest() != self._expected:
            raise ChecksumMismatch(f"{self._what}: the content does not have the checksum that was stored with it")


def range_header(offset: int, length: int | None) -> str | None:
    """The Range of a request; ``None``: all of the object."""
    if offset < 0:
        return f"bytes={offset}"
    if length is not None:
        return f"bytes={offset}-{offset + length - 1}"
    return f"bytes={offset}-" if offset else None


def check_range(headers: Mapping[str, str], offset: int, what: str) -> None:
    """Makes sure that the answer is the range that was asked for.

    Raises:
        StorageUnavailable: it is another one.
    """
    match = _RANGE.match(headers.get("content-range", ""))
    length = headers.get("content-length")
    good = match is not None and str(int(match[2]) - int(match[1]) + 1) == length
    if match is None or not good or (offset >= 0 and int(match[1]) != offset):
        raise StorageUnavailable(f"{what}: the server answered with another range")
