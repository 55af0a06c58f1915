"""Storing needed blobs again, so that the packs that they lie in can go."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, groupby

from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import PackRows, Place
from freezer_sdk.engines.dedup.layout import pack_name
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.segment import OpenSegment
from freezer_sdk.engines.dedup.upkeep.usage import Row, Usage
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Problem
from freezer_sdk.streams.cancel import CancelToken

Fetch = Callable[[], OpenSegment]


class Rewriter:
    """Copies blobs into new packs, each checked against its id, and stores an index of them.

    Args:
        blobs: reads; its index knows all packs, and those that are to go as condemned.
        keep: sees to the lease and to cancellation; called often.

    Attributes:
        rewritten: bytes of blobs that were stored again.
        problems: what could not be read.
    """

    def __init__(self, handle: Handle, blobs: BlobReader, *, keep: Callable[[], None], cancel: CancelToken) -> None:
        self._handle, self._blobs, self._keep, self._cancel = handle, blobs, keep, cancel
        self._opened: tuple[Fetch, OpenSegment] | None = None
        self.rewritten = 0
        self.problems: list[Problem] = []

    def copy(self, usage: Usage, packs: Collection[bytes], *, adopted: Sequence[PackRows] = ()) -> set[bytes]:
        """Copies what is needed of some packs; when it returns, a decision may rely on it.

        Args:
            adopted: packs that no index names, and that are to be named now.

        Returns:
            Packs that must stay, because something that is needed cannot be read from anywhere.

        Raises:
            StorageError, LeaseLost, Cancelled.
        """
        storage = self._handle.storage
        rows = usage.rows(packs)
        first = next(rows, None)
        if first is None and not adopted:
            return set()
        writer = BlobWriter(
            self._handle, self._blobs.index, load_index=lambda: None, adopted=adopted, cancel=self._cancel
        )

        def barrier() -> None:
            storage.flush()
            self._keep()

        try:
            stuck = set() if first is None else self._copy_rows(chain([first], rows), writer)
            writer.finish(barrier)
        finally:
            writer.close()
            self._opened = None
        self.rewritten += writer.added_raw_bytes
        return stuck

    def _copy_rows(self, rows: Iterable[Row], writer: BlobWriter) -> set[bytes]:
        stuck: set[bytes] = set()
        for group, segment in self._segments(rows):
            for row in group:
                self._keep()
                place, blob = row.place, row.blob
                try:
                    writer.store_as(place.kind, blob, self._read(place, blob, segment))
                except IntegrityError as error:
                    if place.pack not in stuck:
                        message = f"cannot be written anew, and stays as it is: {error}"
                        path = pack_name(place.kind, place.pack)
                        self.problems.append(Problem(path=path, kind="damaged", message=message, fatal=False))
                    stuck.add(place.pack)
        return stuck

    def _segments(self, rows: Iterable[Row]) -> Iterator[tuple[list[Row], Fetch]]:
        """Needed blobs by segment, with what gives the segment; some are fetched ahead."""
        groups = (list(group) for _where, group in groupby(rows, key=lambda row: row.place[:3]))
        threads = min(self._handle.settings.threads or os.cpu_count() or 2, self._handle.storage.max_parallel)
        if threads < 2:
            yield from ((group, partial(self._blobs.segment, group[0].place)) for group in groups)
            return
        with ThreadPoolExecutor(max_workers=threads, thread_name_prefix="freezer-rewrite") as pool:
            window: deque[tuple[list[Row], Fetch]] = deque()
            for group in groups:
                window.append((group, pool.submit(self._blobs.segment, group[0].place).result))
                if len(window) > threads:
                    yield window.popleft()
            yield from window

    def _read(self, place: Place, blob: bytes, segment: Fetch) -> bytes:
        """A blob's bytes, from its place or else from any other.

        Raises:
            IntegrityError, StorageError.
        """
        try:
            if self._opened is None or self._opened[0] is not segment:
                self._opened = segment, segment()
            data = self._opened[1].blob(place.start, place.length)
            self._blobs.check(place.kind, blob, data, place)
            return data
        except IntegrityError as error:
            return self._blobs.elsewhere(place.kind, blob, place, error)
