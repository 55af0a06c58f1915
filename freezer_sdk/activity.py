"""The storage that a repository works with: watched while it is waited for, its times kept in bounds."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, TypeVar

from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import ObjectInfo, Reader, Storage, StorageWrapper, Traffic, Upload

T = TypeVar("T")
# A server can say any time. Ages and periods are added to it, so it keeps clear of the ends of what a date can hold.
_EARLIEST: Final = datetime(1000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Activity:
    """Counts the calls of a storage that are under way. May be used from several threads.

    Args:
        clock: for tests.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._calls = 0
        self._moved = clock()

    @contextmanager
    def call(self) -> Iterator[None]:
        """The body is a call of the storage."""
        with self._lock:
            if not self._calls:
                self._moved = self._clock()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                self._moved = self._clock()

    def moved(self) -> None:
        """Some content of a call has moved."""
        self._moved = self._clock()

    @property
    def stalled_for(self) -> float:
        """Seconds since anything moved while calls are under way; 0 when nobody waits for the storage."""
        with self._lock:
            return self._clock() - self._moved if self._calls else 0.0


class WatchedStorage(StorageWrapper):
    """Hands every call on to another storage, and notes that it is under way.

    A time that the storage tells is moved into the years 1000 to 9000, whatever the server said.

    Args:
        storage: does the work; its ``traffic`` is listened to.

    Attributes:
        activity: what is noted.
    """

    name = "watched"
    api_version = 1
    summary = "another storage, watched"

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self.activity = Activity()
        _listen(storage, self.activity)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        with self.activity.call():
            return _bounded(self._storage.put(name, buffers, if_absent=if_absent))

    @contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`."""
        with _Watched(self._storage.upload(name), self.activity) as upload:
            yield _Upload(upload, self.activity)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        with self.activity.call():
            return self._storage.get(name, offset=offset, length=length)

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`."""
        with _Watched(self._storage.open(name), self.activity) as reader:
            yield _Reader(reader, self.activity)

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        with self.activity.call():
            return _bounded(self._storage.stat(name))

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`."""
        with self.activity.call():
            items = self._storage.list(prefix, delimiter=delimiter)
        return self._items(items)

    def _items(self, items: Iterator[ObjectInfo]) -> Iterator[ObjectInfo]:
        while True:
            with self.activity.call():  # it may fetch a page
                item = next(items, None)
            if item is None:
                return
            yield _bounded(item)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        with self.activity.call():
            self._storage.delete(name)

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`."""
        with self.activity.call():
            self._storage.delete_many(names)

    def join(self, name: str, *, segments: str) -> ObjectInfo:
        """See :meth:`Storage.join`."""
        with self.activity.call():
            return _bounded(self._storage.join(name, segments=segments))

    def flush(self) -> None:
        """See :meth:`Storage.flush`."""
        with self.activity.call():
            self._storage.flush()

    def now(self) -> datetime:
        """See :meth:`Storage.now`."""
        with self.activity.call():
            return _within(self._storage.now())

    def close(self) -> None:
        """Closes the storage that does the work."""
        with self.activity.call():
            self._storage.close()


class _Upload:
    def __init__(self, upload: Upload, activity: Activity) -> None:
        self._upload, self._activity = upload, activity

    def write(self, data: Buffer) -> None:
        with self._activity.call():
            self._upload.write(data)

    def commit(self) -> ObjectInfo:
        with self._activity.call():
            return _bounded(self._upload.commit())


class _Reader:
    def __init__(self, reader: Reader, activity: Activity) -> None:
        self._reader, self._activity = reader, activity

    def read(self, size: int = -1) -> bytes:
        with self._activity.call():
            return self._reader.read(size)


class _Watched(AbstractContextManager[T]):
    """A context of a storage; entering and leaving it are calls."""

    def __init__(self, context: AbstractContextManager[T], activity: Activity) -> None:
        self._context, self._activity = context, activity

    def __enter__(self) -> T:
        with self._activity.call():
            return self._context.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        with self._activity.call():
            return self._context.__exit__(kind, error, trace)


class _Listening:
    """Traffic of a storage, overheard by everybody who watches it; as long as they do."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._lock = threading.Lock()
        self._listeners: weakref.WeakSet[Activity] = weakref.WeakSet()

    def add(self, listener: Activity) -> None:
        with self._lock:
            self._listeners.add(listener)

    def sent(self, size: int) -> None:
        self._traffic.sent(size)
        self._tell()

    def received(self, size: int) -> None:
        self._traffic.received(size)
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            for listener in self._listeners:
                listener.moved()


def _listen(storage: Storage, activity: Activity) -> None:
    traffic = storage.traffic
    if not isinstance(traffic, _Listening):
        traffic = storage.traffic = _Listening(traffic)
    traffic.add(activity)


def _bounded(info: ObjectInfo) -> ObjectInfo:
    moment = _within(info.modified)
    return info if moment is info.modified else replace(info, modified=moment)


def _within(moment: datetime) -> datetime:
    return moment if _EARLIEST <= moment <= _LATEST else min(max(moment, _EARLIEST), _LATEST)
