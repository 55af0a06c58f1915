"""The content of images of Glance on its way, hashed: read from where a connection broke, sent once."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from freezer_sdk.errors import SourceChanged, SourceUnreadable, StorageError, StorageUnavailable
from freezer_sdk.modes._glance import ACTIVE, Content, Image, ImageService
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.retry import RetryPolicy

T = TypeVar("T")

_HASH = "sha512"
"""What Glance hashes images by, unless it is told otherwise."""


class ImageReader:
    """Reads an image; a context manager. When the connection breaks, it goes on where it was.

    What was read is compared with the hash that Glance keeps of the image.

    Raises:
        SourceUnreadable: on entering: Glance does not give the image.
    """

    def __init__(self, image: Image, *, service: ImageService, policy: RetryPolicy) -> None:
        self._image = image
        self._service = service
        self._policy = policy
        self._position = 0
        self._digest = image.digest
        self._hash = hashlib.new(self._digest[0]) if self._digest else None
        self._left = CancelToken()
        self._answer: Any = None
        self._reading = threading.Lock()

    def __enter__(self) -> Self:
        self._repeated(self._open)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.cancel()
        answer = self._answer
        if answer is not None:
            with suppress(ValueError, RuntimeError, OSError):  # it has come to its end already
                answer.raw.shutdown()  # whoever waits for the server in another thread waits no longer
        with self._reading:
            self._close()

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as far as the image goes; 0 at the end.

        Raises:
            SourceUnreadable: Glance does not give the rest.
            SourceChanged: what it gave is not what the image was.
            Cancelled: another thread left the context.
        """
        with self._reading:
            filled = 0
            while filled < len(buffer):
                rest = buffer[filled:]
                count = self._repeated(partial(self._some, rest))
                if not count:
                    self._finish()
                    break
                filled += count
                self._position += count
                if self._hash is not None:
                    self._hash.update(rest[:count])
            return filled

    def _repeated(self, call: Callable[[], T]) -> T:
        try:
            return self._policy.run(call, cancel=self._left)
        except StorageError as error:
            raise SourceUnreadable(error.message, hint=error.hint) from error

    def _open(self) -> Any:
        if self._answer is None:
            self._answer = self._service.open(self._image, self._position)
        return self._answer

    def _some(self, buffer: memoryview) -> int:
        """What comes next; 0 only at the end of the image."""
        from freezer_sdk.streams.http import FAILURES, why

        reason = "the answer was cut short"
        try:
            count: int = self._open().raw.readinto(buffer)
        except FAILURES as error:
            count, reason = 0, why(error)
        if not count and self._position < self._image.size:
            self._close()
            raise StorageUnavailable(f"cannot read {self._image.title}: {reason}")
        return count

    def _close(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    def _finish(self) -> None:
        if self._position != self._image.size:
            raise SourceChanged(
                f"{self._image.title}: {self._position} bytes were read, and Glance says that it has {self._image.size}"
            )
        if self._hash is not None and self._digest is not None and self._hash.hexdigest() != self._digest[1]:
            raise SourceChanged(
                f"{self._image.title}: what was read does not have the {self._digest[0]} hash that Glance keeps of it",
                hint="the store of Glance, or what lies between, has damaged it",
            )


class Verified:
    """Content that is hashed on its way, to be compared with what Glance says that it got.

    Args:
        content: read to its end.
        digest: what the content should be, where that is known.
        told: called with the number of bytes that were read.
    """

    def __init__(self, content: Content, digest: tuple[str, str] | None, told: Callable[[int], object]) -> None:
        self._content = content
        self._digest = digest
        self._told = told
        self._hashes = {name: hashlib.new(name) for name in {_HASH, *([digest[0]] if digest else [])}}
        self._size = 0

    def read(self, size: int = -1) -> bytes:
        """See :meth:`Content.read`."""
        data = self._content.read(size)
        for each in self._hashes.values():
            each.update(data)
        self._size += len(data)
        self._told(len(data))
        return data

    def problem(self, image: Image) -> str | None:
        """What is wrong with an image that was made of it."""
        if self._digest is not None and self._hashes[self._digest[0]].hexdigest() != self._digest[1]:
            return "what the backup holds is not what Glance once had"
        if image.properties.get("status") != ACTIVE or image.size != self._size:
            return (
                f"Glance says that it is {image.properties.get('status')}, and has {image.size} of {self._size} bytes"
            )
        known = image.digest
        if known is not None and known[0] in self._hashes and self._hashes[known[0]].hexdigest() != known[1]:
            return f"its {known[0]} hash is not that of what was sent"
        return None
