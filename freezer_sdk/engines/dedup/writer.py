"""The writing end: blobs to segments to packs to indexes, overlapped on a few threads."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from mmap import mmap

from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.engines.dedup import segment
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, PackRows, encode_index, section_of
from freezer_sdk.engines.dedup.layout import Kind, index_name, pack_name
from freezer_sdk.engines.dedup.merge import MERGED_BLOBS
from freezer_sdk.engines.dedup.pack import OpenPack
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.writer_process import is_content
from freezer_sdk.model import Buffer
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.pool import WorkerPool

_OPEN_PACKS = {Kind.DATA: 2, Kind.META: 1}  # data segments are dealt at random: sizes of neighbours tell less
_WAIT = 0.5  # seconds between looks at errors and cancellation
_SLACK = 8 << 20  # room, besides a segment, behind the size at which a pack is full; not touched, it costs nothing
_INDEX_AFTER = 256 << 20  # bytes of packs after which a partial index makes them reusable should the run die
_INDEX_BLOBS = 65_536  # blobs after which one is due in any case: as rows of an index they take half the memory
_SEGMENT_BLOBS = 65_536  # at most, however small they are: readers refuse segments and tables beyond limits of theirs
_PACK_BLOBS = 1 << 20


class _Joining:
    """A segment that is being filled. Its memory is used again and lies outside the heap, which it would fragment."""

    __slots__ = ("buffer", "ids", "lengths", "size")

    def __init__(self, room: int) -> None:
        self.buffer = mmap(-1, room)
        self.clear()

    def clear(self) -> None:
        """Empties it."""
        self.ids: list[bytes] = []
        self.lengths: list[int] = []
        self.size = 0

    def add(self, blob: bytes, data: Buffer) -> None:
        """Copies a blob in."""
        end = self.size + len(data)
        if end > len(self.buffer):
            larger = mmap(-1, end)
            larger[: self.size] = self.buffer[: self.size]
            self.buffer = larger
        self.buffer[self.size : end] = data
        self.ids.append(blob)
        self.lengths.append(len(data))
        self.size = end


class BlobWriter:
    """Stores blobs that are not there yet. ``store`` and ``finish`` are called by one thread.

    Args:
        index: what is stored already; told of what is added.
        load_index: fills ``index`` with file data; called before the first of it is stored.
        adopted: packs of a run that died, to be named in the next index.
        dry_run: count, but write nothing.
    """

    def __init__(
        self,
        handle: Handle,
        index: BlobIndex,
        *,
        load_index: Callable[[], None],
        adopted: Sequence[PackRows] = (),
        cancel: CancelToken,
        dry_run: bool = False,
    ) -> None:
        self._storage, self._keys, self._settings = handle.storage, handle.keys, handle.settings
        self._index = index
        self._segment = self._keys.config.segment
        self._slack = _SLACK + self._segment
        self._compressor = handle.compressors(self._settings.compression)
        self._index_compressor = handle.compressors("zstd")
        self._dry_run, self._cancel = dry_run, cancel
        self._hash_keys = {Kind.DATA: self._keys.data_hash_key(), Kind.META: self._keys.meta_hash_key()}
        self._run = None if dry_run else self._keys.new_run_key()
        self._joining = {Kind.DATA: _Joining(2 * self._segment), Kind.META: _Joining(2 * self._segment)}
        self._fresh: dict[Kind, set[bytes]] = {Kind.DATA: set(), Kind.META: set()}
        self._spare: list[_Joining] = []
        self._memory: list[mmap] = []
        self._lock = threading.Condition()
        self._open: dict[Kind, list[OpenPack]] = {Kind.DATA: [], Kind.META: []}
        self._load_index: Callable[[], None] | None = load_index
        self._stored = list(adopted)
        self._stored_bytes = self._stored_blobs = 0
        threads = self._settings.threads or os.cpu_count() or 2
        self._sealers = WorkerPool("freezer-seal", threads=threads, budget=self._settings.queue_size, cancel=cancel)
        uploads = min(self._storage.max_parallel, max(1, self._settings.queue_size // self._settings.pack_size), 4)
        self._memory_left = sum(_OPEN_PACKS.values()) + uploads - 1  # packs that may be in memory at once
        self._uploaders = WorkerPool(
            "freezer-put",
            threads=uploads,
            budget=max(self._settings.queue_size, self._settings.pack_size),
            cancel=cancel,
        )
        self.indexes: list[str] = []
        self.added_bytes = 0
        self.added_raw_bytes = 0

    def store(self, kind: Kind, data: Buffer) -> bytes:
        """The id of a blob, stored now or before; the buffer may be reused at once.

        Raises:
            StorageError, IntegrityError, Cancelled: also of work begun before.
        """
        blob = blob_id(self._hash_keys[kind], data)
        self.store_as(kind, blob, data)
        return blob

    def store_as(self, kind: Kind, blob: bytes, data: Buffer) -> None:
        """As :meth:`store`, for content that was just checked against its id."""
        if self.has(kind, blob):
            return
        self._fresh[kind].add(blob)
        joining = self._joining[kind]
        joining.add(blob, data)
        if joining.size >= self._segment or len(joining.ids) >= _SEGMENT_BLOBS:
            self._submit(kind)

    def has(self, kind: Kind, blob: bytes) -> bool:
        """Whether a blob is stored, in this run or before, where it can be relied upon."""
        if self._load_index is not None and kind is Kind.DATA:
            self._load_index()
            self._load_index = None
        return blob in self._fresh[kind] or self._index.reusable(kind, blob)

    def store_meta(self, data: bytes) -> bytes:
        """As :meth:`store`, for pages and lists."""
        return self.store(Kind.META, data)

    def finish(self, barrier: Callable[[], None]) -> None:
        """Stores what is still open, then the index of it; when it returns, a commit may rely on all of it.

        Args:
            barrier: called between packs and index, and at the end; makes durable what was stored before, also the
                indexes of other writers that were used.

        Raises:
            StorageError, IntegrityError, Cancelled.
        """
        for kind in Kind:
            if self._joining[kind].ids:
                self._submit(kind)
        self._sealers.drain()
        with self._lock:
            rest = [pack for packs in self._open.values() for pack in packs]
            self._open = {Kind.DATA: [], Kind.META: []}
        for pack in rest:
            self._uploaders.submit(self._put, pack, weight=pack.size)
        self._uploaders.drain()
        self._write_index(barrier)
        if not self._dry_run:
            barrier()

    def index_also(self, packs: Sequence[PackRows]) -> None:
        """Names packs in the next index that no readable index names."""
        with self._lock:
            self._stored += packs

    def close(self) -> None:
        """Ends the threads; what was not finished is dropped."""
        self._sealers.close()
        self._uploaders.close()

    @property
    def unindexed(self) -> bool:
        """Whether packs were stored that no index names yet."""
        return bool(self._stored) and not self._dry_run

    def settle(self, barrier: Callable[[], None]) -> None:
        """After a failure and :meth:`close`: an index of what was stored, so that the next run uses it again.

        Raises:
            StorageError.
        """
        self._write_index(barrier)

    def _submit(self, kind: Kind) -> None:
        joining = self._joining[kind]
        self.added_raw_bytes += joining.size
        if self._dry_run:
            joining.clear()
            return
        self._joining[kind] = self._spare.pop() if self._spare else _Joining(2 * self._segment)
        self._sealers.submit(self._seal, kind, joining, weight=joining.size)
        if self._stored_bytes >= _INDEX_AFTER or self._stored_blobs >= _INDEX_BLOBS:
            self._write_index(self._storage.flush)

    def _seal(self, kind: Kind, joining: _Joining) -> None:
        with memoryview(joining.buffer) as whole, whole[: joining.size] as raw:
            method, payload = segment.compress(raw, self._compressor, self._settings.compression_level)
            if not is_content(self._hash_keys[kind], b"".join(joining.ids), joining.lengths, raw):
                raise IntegrityError(
                    "data changed in memory after they were read; nothing was stored of them",
                    hint="the memory of this machine is faulty",
                )
            with segment.frame(joining.lengths, method, payload) as plain:
                del payload
                with self._lock:
                    pack = self._choose(kind, joining.ids, len(plain))
                    header, target = pack.reserve(len(plain), joining.ids, joining.lengths)
                    enough = pack.size >= self._settings.pack_size or pack.blobs >= _PACK_BLOBS
                    if enough and not pack.full:
                        pack.full = True
                        self._open[kind].remove(pack)
                with target:
                    segment.seal(plain, header, pack.key, self._keys.repository_id, target)
        joining.clear()
        with self._lock:
            if len(joining.buffer) == 2 * self._segment:
                self._spare.append(joining)
            pack.missing -= 1
            done = pack.full and not pack.missing
        if done:
            self._uploaders.submit(self._put, pack, weight=pack.size)

    def _choose(self, kind: Kind, first_ids: list[bytes], plain_size: int) -> OpenPack:
        """An open pack, or a new one; a frame of unusual size gets a pack of its own. Called with the lock held.

        While all memory is on its way to the storage, what is open takes everything. Waiting cannot last: no more
        packs are open than there is memory, so that some is always on its way when none is free.
        """
        assert self._run is not None
        packs = self._open[kind]
        if plain_size > self._slack - 4096:
            pack = OpenPack(kind, self._run, first_ids, self._keys.repository_id, mmap(-1, plain_size + 4096))
            pack.full = True
            return pack
        number = random.SystemRandom().randrange(_OPEN_PACKS[kind])
        while number >= len(packs):
            if self._memory or self._memory_left:
                pack = OpenPack(kind, self._run, first_ids, self._keys.repository_id, self._take_memory())
                packs.append(pack)
                return pack
            if packs:
                return packs[0]
            self._cancel.check()
            self._uploaders.check()
            self._lock.wait(_WAIT)
        return packs[number]

    def _take_memory(self) -> mmap:
        if self._memory:
            return self._memory.pop()
        self._memory_left -= 1
        return mmap(-1, self._settings.pack_size + self._slack)

    def _put(self, pack: OpenPack) -> None:
        digest, parts = pack.finish(self._keys)
        size = sum(len(part) for part in parts)
        self._storage.put(pack_name(pack.kind, digest), parts)
        with self._lock:
            if len(pack.memory) == self._settings.pack_size + self._slack:
                self._memory.append(pack.memory)
                self._lock.notify_all()
            self._stored.append(PackRows(pack.kind, digest, size, pack.rows, self._keys.slot_id))
            self._stored_bytes += size
            self._stored_blobs += sum(len(row.ids) for row in pack.rows)
            self.added_bytes += size

    def _write_index(self, barrier: Callable[[], None]) -> None:
        with self._lock:
            stored = list(self._stored)
            self._stored_bytes = self._stored_blobs = 0
        if not stored or self._dry_run:
            return
        barrier()
        for packs in _portions(stored):
            self._put_index(packs)
            with self._lock:
                del self._stored[: len(packs)]  # what comes later is at the end

    def _put_index(self, stored: Sequence[PackRows]) -> None:
        signer = self._keys.slot_id
        sections = [
            section_of(kind, packs, signer)
            for kind in Kind
            if (packs := [pack for pack in stored if pack.kind is kind])
        ]
        data = encode_index(self._keys, sections, self._index_compressor)
        name = index_name(hashlib.sha256(data).digest())
        self._storage.put(name, [data])
        self.indexes.append(name)
        self.added_bytes += len(data)
        for section in sections:
            self._index.add(section)
            self._fresh[section.kind].difference_update(section.blob_ids())


def _portions(packs: Iterable[PackRows]) -> Iterator[list[PackRows]]:
    """What goes into one index each: no more blobs than prune would put there, unless one pack has more."""
    portion: list[PackRows] = []
    blobs = 0
    for pack in packs:
        more = sum(len(row.ids) for row in pack.rows)
        if portion and blobs + more > MERGED_BLOBS:
            yield portion
            portion, blobs = [], 0
        portion.append(pack)
        blobs += more
    if portion:
        yield portion
