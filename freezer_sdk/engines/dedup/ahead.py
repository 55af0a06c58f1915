"""Reading blobs in a given order, with a few segments under way on threads."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from freezer_sdk.engines.dedup.index import Place
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.segment import OpenSegment
from freezer_sdk.errors import IntegrityError

_WINDOW = 16_384  # blobs that are planned ahead at most
_KEPT = 4  # segments kept after their last known use: neighbours were dealt to two packs at random
_USUAL = 1 << 20  # bytes of a segment's content
_WAIT = 0.5  # seconds between looks at cancellation

T = TypeVar("T")


class Wanted(NamedTuple):
    """A blob that is asked for."""

    blob: bytes
    place: Place


class _Held:
    """A segment that is on its way, or there."""

    __slots__ = ("counted", "future", "uses")

    def __init__(self, future: Future[OpenSegment]) -> None:
        self.future, self.uses, self.counted = future, 0, False


class ReadAhead:
    """Fetches and opens segments before they are needed. A context manager.

    Args:
        blobs: of the repository that is read.
        threads: that fetch.
        segments: that may be under way or waiting; about their number in MiB of memory.
        tick: called while waiting; raises Cancelled.
    """

    def __init__(self, blobs: BlobReader, *, threads: int, segments: int, tick: Callable[[], None]) -> None:
        self._blobs, self._segments, self._tick = blobs, max(2, segments), tick
        self._pool = ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="freezer-ahead")
        self._largest, self._seen = _USUAL, 0  # bytes of a segment, and how many were looked at
        self._held: dict[tuple[bytes, int], _Held] = {}
        self._kept: OrderedDict[tuple[bytes, int], _Held] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._held.clear()
        self._kept.clear()

    def read(self, steps: Iterable[tuple[T, Wanted | None]]) -> Iterator[tuple[T, bytes | None]]:
        """Gives each step with the blob that it wants, checked against its id.

        Args:
            steps: taken in this thread, a little ahead.

        Raises:
            IntegrityError: no place of a blob is whole; StorageError, Cancelled.
        """
        coming = iter(steps)
        window: deque[tuple[T, Wanted | None]] = deque()
        more = True
        while more or window:
            while more and self._has_room() and len(window) < _WINDOW:
                step = next(coming, None)
                if step is None:
                    more = False
                    break
                if step[1] is not None:
                    self._hold(step[1].place)
                window.append(step)
            if window:
                tag, wanted = window.popleft()
                yield tag, None if wanted is None else self._take(wanted)

    def _has_room(self) -> bool:
        """Whether another segment may be fetched: as many as their largest so far allows, and few at the start."""
        for held in self._held.values():
            if not held.counted and held.future.done() and held.future.exception() is None:
                held.counted = True
                self._seen += 1
                self._largest = max(self._largest, len(held.future.result().raw))
        return len(self._held) < max(2, min(self._segments, self._segments * _USUAL // self._largest, 4 + self._seen))

    def _hold(self, place: Place) -> None:
        key = (place.pack, place.offset)
        held = self._held.get(key)
        if held is None:
            held = self._kept.pop(key, None) or _Held(self._pool.submit(self._blobs.segment, place))
            self._held[key] = held
        held.uses += 1

    def _take(self, wanted: Wanted) -> bytes:
        blob, place = wanted
        key = (place.pack, place.offset)
        held = self._held[key]
        while not held.future.done():
            self._tick()
            wait((held.future,), timeout=_WAIT)
        held.uses -= 1
        if not held.uses:
            self._kept[key] = self._held.pop(key)
            while len(self._kept) > max(1, _KEPT * _USUAL // self._largest):
                self._kept.popitem(last=False)
        try:
            data = held.future.result().blob(place.start, place.length)
            self._blobs.check(place.kind, blob, data, place)
        except IntegrityError as error:
            return self._blobs.elsewhere(place.kind, blob, place, error)
        return data
