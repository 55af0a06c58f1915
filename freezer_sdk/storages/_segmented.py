"""A stream on its way into segments that are objects of their own; made of what every storage has, and ``join``."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final

from freezer_sdk.errors import FreezerError, ObjectExists, ObjectNotFound, StorageError
from freezer_sdk.model import Buffer

if TYPE_CHECKING:
    from freezer_sdk.storages.base import ObjectInfo, Storage

_log = logging.getLogger("freezer_sdk")
_POLL: Final = 0.5  # seconds between two looks at a listing that lags


class SegmentedUpload:
    """See :meth:`~freezer_sdk.storages.base.Storage.upload_segmented`; holds one segment in memory.

    Args:
        storage: takes the segments, by its own ``put``.
        name: of the joined object.
        segments: what their names begin with.
        size: bytes of a segment.
    """

    def __init__(self, storage: Storage, name: str, segments: str, size: int) -> None:
        self._storage, self._name, self._segments, self._size = storage, name, segments, size
        self._buffer = bytearray()
        self._sent: dict[str, int] = {}  # sizes by name, those included that may not have arrived
        self._ended = False

    def __enter__(self) -> SegmentedUpload:
        if next(iter(self._storage.list(f"{self._segments}/")), None) is not None:
            raise ObjectExists(f"cannot store {self._name!r}: there are objects below {self._segments!r} already")
        try:
            self._storage.stat(self._name)
        except ObjectNotFound:
            return self
        raise ObjectExists(f"{self._name!r} exists already")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._buffer = bytearray()
        self._discard()

    def write(self, data: Buffer) -> None:
        """See :meth:`Upload.write`."""
        self._check()
        view = memoryview(data).cast("B")
        while view:
            room = self._size - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]
            if len(self._buffer) == self._size:
                self._send()

    def commit(self) -> ObjectInfo:
        """See :meth:`Upload.commit`."""
        self._check()
        if self._buffer or not self._sent:
            self._send()
        self._ended = True
        self._wait_until_listed()
        try:
            info = self._storage.join(self._name, segments=self._segments)
        except BaseException:
            self._withdraw()
            raise
        size, self._sent = sum(self._sent.values()), {}
        return replace(info, size=size)

    def _send(self) -> None:
        name = f"{self._segments}/{len(self._sent):08}"
        self._ended, self._sent[name] = True, len(self._buffer)  # when it fails, nothing can come after it
        self._storage.put(name, [self._buffer])
        self._ended, self._buffer = False, bytearray()

    def _wait_until_listed(self) -> None:
        """What is joined is what is listed: it must be all of ours, and nothing else."""
        deadline = time.monotonic() + self._storage.capabilities.listing_lag.total_seconds()
        while True:
            listed = {info.name: info.size for info in self._storage.list(f"{self._segments}/")}
            if foreign := listed.keys() - self._sent.keys():
                raise StorageError(f"cannot store {self._name!r}: somebody else has stored {min(foreign)!r} meanwhile")
            if listed == self._sent:
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(_POLL)
        missing = len(self._sent) - len(listed)
        _log.warning("%r: %d segments are stored and not listed yet; until then it reads short", self._name, missing)

    def _withdraw(self) -> None:
        """Nobody knows whether the joined object was made: it must not outlive its segments."""
        try:
            self._storage.delete(self._name)
        except FreezerError as error:
            self._sent = {}
            _log.warning("%r may be incomplete and could not be removed: %s", self._name, error)

    def _discard(self) -> None:
        names, self._sent = list(self._sent), {}
        if not names:
            return
        try:
            self._storage.delete_many(names)
        except FreezerError as error:
            _log.warning("segments below %r could not be removed: %s", self._segments, error)

    def _check(self) -> None:
        if self._ended:
            raise StorageError(f"cannot store {self._name!r} in {self._storage.location}: the upload has ended")
