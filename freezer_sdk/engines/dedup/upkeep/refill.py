"""Storing again what a repair has found elsewhere: blob by blob, or a backup as a whole."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from freezer_sdk.engines.dedup import control, protocol
from freezer_sdk.engines.dedup.ahead import ReadAhead
from freezer_sdk.engines.dedup.catalog import COMMIT, Listed
from freezer_sdk.engines.dedup.chunker import Chunkers
from freezer_sdk.engines.dedup.commit import Commit, Origin, encode_commit
from freezer_sdk.engines.dedup.copy import Source
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.ingest import Ingest
from freezer_sdk.engines.dedup.page import Content
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.replica import Replica
from freezer_sdk.engines.dedup.structure import Blob
from freezer_sdk.engines.dedup.translate import Translation
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.engines.dedup.upkeep.mending import Supply
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.streams.cancel import CancelToken

_BLOCK = 4 << 20  # bytes cut at once


class Refill:
    """Writes packs under the maintenance lease.

    Args:
        reader: its index knows what is there, and distrusts what is damaged or gone.

    Attributes:
        writer: of the packs.
    """

    def __init__(self, handle: Handle, reader: BlobReader, claim: Claim, cancel: CancelToken) -> None:
        self._handle, self._reader, self._claim, self._cancel = handle, reader, claim, cancel
        self.writer = BlobWriter(handle, reader.index, load_index=lambda: None, cancel=cancel)

    def tick(self, path: bytes | None = None) -> None:
        """Sees to cancellation and to the lease.

        Raises:
            Cancelled, LeaseLost, StorageError.
        """
        self._cancel.check()
        self._claim.keep()

    def blobs(self, wanted: Mapping[Blob, Supply]) -> None:
        """Stores blobs again; one that cannot be had after all is left out.

        Raises:
            StorageError, IntegrityError, LeaseLost, Cancelled.
        """
        by_supply: defaultdict[int, list[Blob]] = defaultdict(list)
        supplies = {id(supply): supply for supply in wanted.values()}
        for each, supply in wanted.items():
            by_supply[id(supply)].append(each)
        for number, blobs in by_supply.items():
            for kind, blob in supplies[number].ordered(blobs):
                self.tick()
                data = supplies[number].get(kind, blob)
                if data is not None:
                    self.writer.store_as(kind, blob, data)

    def backup(self, source: Source) -> Content:
        """Stores what a backup of another repository holds and this one lacks; gives its root here.

        Content is cut by the rules of this repository, so that what was in it before gets the same names again.

        Raises:
            IntegrityError: damaged there, too; StorageError, LeaseLost, Cancelled.
        """
        keys, settings, root = self._handle.keys, self._handle.settings, source.commit.root
        threads = min(settings.threads or os.cpu_count() or 2, source.handle.storage.max_parallel)
        segments = max(threads, settings.queue_size >> 20)
        with ReadAhead(source.blobs, threads=threads, segments=segments, tick=self.tick) as ahead:
            if alike(self._handle, source.handle):
                return Replica(source.blobs, self._reader, self.writer, tick=self.tick).copy(root, None, ahead)
            chunkers = Chunkers(keys.chunker_seed, keys.config.chunker_classes)
            ingest = Ingest(self.writer, chunkers, self, min(_BLOCK, settings.queue_size))
            return Translation(source.blobs, self._reader, self.writer, ingest, tick=self.tick).copy(root, None, ahead)

    def commit(self, listed: Listed, source: Source, root: Content) -> None:
        """Puts a commit in the place of one that cannot be read; what it names is stored.

        Raises:
            LeaseLost, StorageError.
        """
        handle, lease = self._handle, self._claim.lease
        generation = newest_generation(handle)
        commit = _commit_of(source, root, generation, lease.id, tuple(self.writer.indexes))
        lease.check()
        data = control.seal(handle.keys, COMMIT, listed.name, encode_commit(commit), secrecy="data")
        handle.storage.put(listed.name, [data])
        handle.storage.flush()
        lease.confirm(generation)

    def finish(self) -> None:
        """Stores what is still open, and the index of all of it.

        Raises:
            StorageError, IntegrityError, Cancelled.
        """
        self.writer.finish(self._handle.storage.flush)


def alike(one: Handle, other: Handle) -> bool:
    """Whether content has the same names in two repositories."""
    return one.keys.data_hash_key() == other.keys.data_hash_key()


def newest_generation(handle: Handle) -> int:
    """Of marks and sweeps.

    Raises:
        StorageError.
    """
    marks, sweeps = protocol.read_marks(handle.storage, handle.keys), protocol.read_sweeps(handle.storage, handle.keys)
    return max(marks.generation, sweeps.generation)


def _commit_of(source: Source, root: Content, generation: int, lease: str, indexes: tuple[str, ...]) -> Commit:
    origin = Origin(source.repository, source.commit.root)
    return replace(source.commit, root=root, generation=generation, lease=lease, indexes=indexes, origin=origin)
