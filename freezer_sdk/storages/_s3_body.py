"""The content of one S3 request, out of buffers and in pieces that bandwidth limits see; and of one answer."""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from freezer_sdk.errors import StorageUnavailable
from freezer_sdk.model import Buffer
from freezer_sdk.storages._s3_errors import reporting
from freezer_sdk.storages.base import TRAFFIC_BLOCK, Traffic


def views_of(buffers: Sequence[Buffer]) -> list[memoryview]:
    """The buffers as bytes, without the empty ones."""
    return [view for view in (memoryview(buffer).cast("B") for buffer in buffers) if view]


def parts_of(views: Sequence[memoryview], size: int) -> Iterator[list[memoryview]]:
    """The same bytes in groups of ``size`` bytes, the last one shorter; nothing is copied."""
    part: list[memoryview] = []
    room = size
    for view in views:
        start = 0
        while start < len(view):
            piece = view[start : start + room]
            part.append(piece)
            start += len(piece)
            room -= len(piece)
            if not room:
                yield part
                part, room = [], size
    if part:
        yield part


class Body:
    """Content on its way out, as the file that botocore wants. It is read more than once: only sending counts.

    Attributes:
        size: in bytes.
        md5: of all of it.
        sending: set when the request goes out; before, botocore reads only to sign.
    """

    def __init__(self, views: Sequence[memoryview], traffic: Traffic) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        for view in views:
            digest.update(view)
        self.md5 = digest.digest()
        self.sending = False
        self._views = views
        self._starts = [0, *accumulate(len(view) for view in views)]
        self.size = self._starts.pop()
        self._position = 0
        self._traffic = traffic

    @property
    def content_md5(self) -> str:
        """The value of the header Content-MD5."""
        return b64encode(self.md5).decode()

    def read(self, size: int = -1) -> bytes | memoryview:
        """At most ``size`` bytes, and never more than one block of traffic."""
        if self._position >= self.size:
            return b""
        index = bisect_right(self._starts, self._position) - 1
        start = self._position - self._starts[index]
        wanted = TRAFFIC_BLOCK if size < 0 else min(size, TRAFFIC_BLOCK)
        piece = self._views[index][start : start + wanted]
        if self.sending:
            self._traffic.sent(len(piece))
        self._position += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def tell(self) -> int:
        """As of any file."""
        return self._position

    def rewind(self) -> None:
        """Back to the beginning, for another request."""
        self._position, self.sending = 0, False


class Download:
    """The content of an answer; never less than was announced.

    Args:
        answer: of GetObject.
        what: begins the messages.

    Raises:
        StorageUnavailable: nobody says how long it is, so that a cut could not be seen.
    """

    def __init__(self, answer: dict[str, Any], traffic: Traffic, what: str) -> None:
        self._stream = answer["Body"]
        self._traffic = traffic
        self._what = what
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        length = headers.get("content-length")
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if length is None and not chunked:
            self.close()
            raise StorageUnavailable(f"{what}: the answer does not say how long it is")
        self.length = None if length is None else int(length)
        self._left = self.length

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; fewer also before the end, ``b""`` only there.

        Raises:
            StorageUnavailable: the connection broke, or ended too early.
        """
        if size < 0:
            return b"".join(iter(lambda: self.read(TRAFFIC_BLOCK), b""))
        if self._left is not None:
            size = min(size, self._left)
        if not size:
            return b""
        with reporting(self._what):
            data: bytes = self._stream.read(min(size, TRAFFIC_BLOCK))
        if not data and self._left:
            raise StorageUnavailable(f"{self._what}: the answer ended {self._left} bytes too early")
        if self._left is not None:
            self._left -= len(data)
        if data:
            self._traffic.received(len(data))
        return data

    def exactly(self, size: int) -> bytes:
        """The next ``size`` bytes.

        Raises:
            StorageUnavailable: there are fewer.
        """
        pieces = []
        while size:
            piece = self.read(size)
            if not piece:
                raise StorageUnavailable(f"{self._what}: the answer ended {size} bytes too early")
            pieces.append(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        """Ends the connection unless all was read, in which case others use it."""
        self._stream.close()
