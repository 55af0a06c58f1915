"""Large objects and streams: multipart uploads, which become visible by their last request."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from freezer_sdk.errors import ChecksumMismatch, FreezerError, StorageError, StorageUnavailable
from freezer_sdk.model import Buffer
from freezer_sdk.storages._s3_body import parts_of
from freezer_sdk.storages._s3_bucket import CONTENT_TYPE, Bucket, Facts, moment_of
from freezer_sdk.storages.base import ObjectInfo

LEAST_PART = 5 << 20
LARGEST_PART = 5 << 30
MOST_PARTS = 10_000
LARGEST_OBJECT = 5 << 40

_GROWTH = 1250  # parts of at least 1/1250 of what was sent: 5 TiB in parts that begin at 5 MiB are fewer than 10,000
_STEP = 1 << 20


class Multipart:
    """One multipart upload, begun."""

    def __init__(self, bucket: Bucket, key: str, what: str) -> None:
        self._bucket = bucket
        self._what = what
        self._key = key
        self._parts: list[dict[str, Any]] = []
        self._size = 0
        self._done = False
        answer = bucket.store(
            "create_multipart_upload", what, Key=key, ContentType=CONTENT_TYPE, **bucket.options.parameters()
        )
        self._upload = self._given(answer, "UploadId")

    @property
    def size(self) -> int:
        """Bytes that were added."""
        return self._size

    def add(self, views: Sequence[memoryview]) -> None:
        """Sends the next part."""
        number = len(self._parts) + 1
        body = self._bucket.body(views)
        answer = self._bucket.store(
            "upload_part", self._what, body, Key=self._key, UploadId=self._upload, PartNumber=number
        )
        self._parts.append({"PartNumber": number, "ETag": self._given(answer, "ETag")})
        self._size += body.size

    def complete(self) -> Facts:
        """Makes the object visible."""
        answer = self._bucket.request(
            "complete_multipart_upload",
            self._what,
            Key=self._key,
            UploadId=self._upload,
            MultipartUpload={"Parts": self._parts},
        )
        self._given(answer, "ETag")
        self._done = True
        try:  # its time is that of the first request on some servers, of the last one on others
            facts = self._bucket.head(self._key, self._what)
        except StorageError:  # it is stored, whether or not one may look
            return Facts(size=self._size, modified=moment_of(answer))
        if facts.size != self._size:
            raise ChecksumMismatch(f"{self._what}: it has {facts.size} bytes instead of {self._size}")
        return facts

    def abort(self) -> None:
        """Gives the parts up, as well as that can be done."""
        if not self._done:
            self._done = True
            with contextlib.suppress(FreezerError):
                self._bucket.request("abort_multipart_upload", self._what, Key=self._key, UploadId=self._upload)

    def _given(self, answer: dict[str, Any], name: str) -> str:
        if not answer.get(name):
            raise StorageUnavailable(f"{self._what}: the answer is not whole")
        return str(answer[name])


@contextlib.contextmanager
def multipart(bucket: Bucket, key: str, what: str) -> Iterator[Multipart]:
    """A multipart upload that is aborted unless it was completed."""
    made = Multipart(bucket, key, what)
    try:
        yield made
    finally:
        made.abort()


def put_large(bucket: Bucket, key: str, views: Sequence[memoryview], what: str, *, part: int) -> Facts:
    """Stores an object in parts of ``part`` bytes, or larger ones where there would be too many."""
    total = sum(len(view) for view in views)
    with multipart(bucket, key, what) as upload:
        for piece in parts_of(views, max(part, -(-total // MOST_PARTS))):
            upload.add(piece)
        return upload.complete()


def part_after(sent: int, least: int) -> int:
    """How large the part after so many bytes is: no stream runs out of parts before it is as long as it may be."""
    grown = -(-(sent // _GROWTH) // _STEP) * _STEP
    return min(LARGEST_PART, max(least, grown))


class StreamUpload:
    """A stream of unknown length on its way into the storage.

    Args:
        part: bytes of the first parts; they grow with the stream, so that there are never too many.
        finish: from what the bucket says to what the caller is told.
    """

    def __init__(
        self, bucket: Bucket, key: str, what: str, *, part: int, finish: Callable[[Facts], ObjectInfo]
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._what = what
        self._part = part
        self._finish = finish
        self._buffer = bytearray()
        self._upload: Multipart | None = None
        self._ended = False

    def write(self, data: Buffer) -> None:
        """Adds bytes; sends a part as soon as one is full."""
        self._check()
        view = memoryview(data).cast("B")
        try:
            while view:
                room = self._room()
                self._buffer += view[:room]
                view = view[room:]
                if len(self._buffer) >= self._wanted():
                    self._send()
        except BaseException:
            self.end()
            raise

    def commit(self) -> ObjectInfo:
        """Makes the object visible, whole."""
        self._check()
        try:
            if self._upload is None:
                return self._finish(self._bucket.put(self._key, [memoryview(self._buffer)], self._what))
            if self._buffer:
                self._send()
            return self._finish(self._upload.complete())
        finally:
            self.end()

    def end(self) -> None:
        """Gives up what was not committed."""
        self._ended = True
        self._buffer = bytearray()
        if self._upload is not None:
            self._upload.abort()

    def _wanted(self) -> int:
        return part_after(0 if self._upload is None else self._upload.size, self._part)

    def _room(self) -> int:
        return max(1, self._wanted() - len(self._buffer))

    def _send(self) -> None:
        if self._upload is None:
            self._upload = Multipart(self._bucket, self._key, self._what)
        self._upload.add([memoryview(self._buffer)])
        self._buffer = bytearray()

    def _check(self) -> None:
        if self._ended:
            raise StorageError(f"{self._what}: the upload has ended")
