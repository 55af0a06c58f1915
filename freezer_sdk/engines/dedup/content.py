"""A stored file as a stream."""

from __future__ import annotations

from collections.abc import Iterator

from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.page import content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.tree import Node, get_extra, split_extents
from freezer_sdk.errors import IntegrityError
from freezer_sdk.modes.base import FLAG_INCOMPLETE, Extra

_ZEROS = bytes(1 << 20)


class ContentReader:
    """Reads a file from start to end, holes as zeros; a blob at a time in memory."""

    def __init__(self, blobs: BlobReader, node: Node) -> None:
        self._pieces = _pieces(blobs, node)
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end; all of the rest for -1.

        Raises:
            IntegrityError, StorageError.
        """
        if size < 0:
            rest = b"".join((self._rest, *self._pieces))
            self._rest = memoryview(b"")
            return rest
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)


def _pieces(blobs: BlobReader, node: Node) -> Iterator[bytes | memoryview]:
    size = node.attributes.size
    found = get_extra(node.extras, Extra.EXTENTS)
    data = (blobs.get(Kind.DATA, blob) for blob in content_ids(node.content, blobs.meta))
    if found is None:
        total = 0
        for blob in data:
            total += len(blob)
            if total > size:
                raise IntegrityError(f"a file has more content than its {size} bytes")
            yield blob
        if total != size and not node.attributes.flags & FLAG_INCOMPLETE:
            raise IntegrityError(f"a file has {total} bytes of content, not {size}")
        return
    position = 0
    rest = memoryview(b"")
    extents = split_extents(found)
    if extents and sum(extents[-1]) > size:
        raise IntegrityError("a file's extents reach beyond its end")
    for offset, length in extents:
        yield from _hole(offset - position)
        position = offset + length
        left = length
        while left:
            if not rest:
                rest = memoryview(next(data, b""))
                if not rest:
                    raise IntegrityError("a file has less content than its extents")
            yield rest[:left]
            taken = min(left, len(rest))
            rest = rest[taken:]
            left -= taken
    yield from _hole(size - position)


def _hole(length: int) -> Iterator[bytes]:
    while length > 0:
        yield _ZEROS[:length]
        length -= len(_ZEROS)
