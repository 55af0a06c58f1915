"""Storing needed blobs again, so that the packs that they lie in can go."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import chain

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
        self._opened: tuple[tuple[bytes, int], OpenSegment] | None = None
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
            stuck = set() if first is None else self._copy_rows([first], rows, writer)
            writer.finish(barrier)
        finally:
            writer.close()
            self._opened = None
        self.rewritten += writer.added_raw_bytes
        return stuck

    def _copy_rows(self, first: list[Row], rows: Iterable[Row], writer: BlobWriter) -> set[bytes]:
        stuck: set[bytes] = set()
        for row in chain(first, rows):
            self._keep()
            place, blob = row.place, row.blob
            try:
                writer.store_as(place.kind, blob, self._read(place, blob))
            except IntegrityError as error:
                if place.pack not in stuck:
                    message = f"cannot be written anew, and stays as it is: {error}"
                    path = pack_name(place.kind, place.pack)
                    self.problems.append(Problem(path=path, kind="damaged", message=message, fatal=False))
                stuck.add(place.pack)
        return stuck

    def _read(self, place: Place, blob: bytes) -> bytes:
        """A blob's bytes, from its place or else from any other.

        Raises:
            IntegrityError, StorageError.
        """
        blobs = self._blobs
        try:
            where = place.pack, place.offset
            if self._opened is None or self._opened[0] != where:
                self._opened = where, blobs.segment(place)
            data = self._opened[1].blob(place.start, place.length)
            blobs.check(place.kind, blob, data, place)
            return data
        except IntegrityError as error:
            return blobs.elsewhere(place.kind, blob, place, error)
