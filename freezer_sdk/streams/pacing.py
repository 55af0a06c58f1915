"""What makes a storage keep to bandwidth limits, and what ends its waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from freezer_sdk.errors import StorageError
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import TRAFFIC_BLOCK, ObjectInfo, Storage, Traffic, Upload
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.ratelimit import Limits

_SLICE = 0.2
_SMALL = 16 << 10  # what cleans up after a cancelled run still passes


class Stop(CancelToken):
    """Ends the waiting of a storage: when it is closed, and when everybody for whom it may be was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self._watched: tuple[CancelToken, ...] = ()
        self._lock = threading.Lock()

    def watch(self, token: CancelToken) -> None:
        """Somebody works with the storage from now on, and may be cancelled by this token."""
        with self._lock:
            self._watched = (*self._watched, token)

    def forget(self, token: CancelToken) -> None:
        """This one has finished."""
        with self._lock:
            kept = list(self._watched)
            kept.remove(token)
            self._watched = tuple(kept)

    def check(self) -> None:
        """Goes on, or stops.

        Raises:
            Cancelled: everybody was cancelled.
            StorageError: the storage is closed.
        """
        if self.cancelled:
            raise StorageError("the storage was closed meanwhile")
        watched = self._watched
        if watched and all(token.cancelled for token in watched):
            watched[0].check()

    def sleep(self, seconds: float) -> None:
        """Waits, unless :meth:`check` has something against it."""
        end = time.monotonic() + seconds
        while True:
            self.check()
            left = end - time.monotonic()
            if left <= 0:
                return
            self._event.wait(min(left, _SLICE))


class Pace:
    """Traffic that waits for bandwidth.

    Args:
        limits: all of them hold; each may be shared with other storages.
        stop: ends the waiting.

    Attributes:
        listener: is told of the same traffic.
    """

    def __init__(self, limits: Sequence[Limits], stop: CancelToken) -> None:
        self.listener: Traffic = Storage.traffic
        self._limits = tuple(limits)
        self._stop = stop
        self._closed = CancelToken()

    @property
    def limited(self) -> bool:
        """Whether any limit holds now."""
        return any(each.upload or each.download for each in self._limits)

    def sent(self, size: int) -> None:
        """See :meth:`Traffic.sent`."""
        for each in self._limits:
            each.sending.take(size, cancel=self._canceller(size))
        self.listener.sent(size)

    def received(self, size: int) -> None:
        """See :meth:`Traffic.received`."""
        self.listener.received(size)
        for each in self._limits:
            each.receiving.take(size, cancel=self._canceller(size))

    def all_sent(self, size: int) -> None:
        """The same for what is more than a block."""
        for start in range(0, size, TRAFFIC_BLOCK):
            self.sent(min(TRAFFIC_BLOCK, size - start))

    def all_received(self, size: int) -> None:
        """The same for what is more than a block."""
        for start in range(0, size, TRAFFIC_BLOCK):
            self.received(min(TRAFFIC_BLOCK, size - start))

    def close(self) -> None:
        """Ends all waiting."""
        self._closed.cancel()
        for each in self._limits:
            each.sending.wake()
            each.receiving.wake()

    def _canceller(self, size: int) -> CancelToken:
        return self._stop if size > _SMALL else self._closed


class PacedUpload:
    """A stream that waits for bandwidth, for storages that do not do it themselves."""

    def __init__(self, upload: Upload, pace: Pace) -> None:
        self._upload = upload
        self._pace = pace

    def write(self, data: Buffer) -> None:
        """See :meth:`Upload.write`."""
        if self._pace.limited:
            self._pace.all_sent(memoryview(data).nbytes)
        self._upload.write(data)

    def commit(self) -> ObjectInfo:
        """See :meth:`Upload.commit`."""
        return self._upload.commit()
