"""Looking at one pack: is every byte what it was, and what is still whole when it is not?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.engines.dedup.adopt import read_pack_table
from freezer_sdk.engines.dedup.documents import read_range
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import Place
from freezer_sdk.engines.dedup.layout import Kind, digest_of
from freezer_sdk.engines.dedup.pack import SegmentRow
from freezer_sdk.engines.dedup.segment import HEADER, MAGIC, MAX_STORED, OpenSegment, SegmentHeader, open_segment
from freezer_sdk.errors import IntegrityError
from freezer_sdk.storages.base import ObjectInfo

BLOCK = 4 << 20
"""Bytes read at once where no table says what they are."""

_STEP = 64 << 10  # a region that cannot be read is passed over in steps of this size
_TRIES = 16  # so many times the size of a pack is read in search of segments, whatever it pretends to hold


class Whole(NamedTuple):
    """What was read of a pack.

    Attributes:
        faults: what is wrong with it, in words; empty: nothing.
        damaged: offsets of the segments that are damaged.
    """

    blobs: int
    bytes_read: int
    faults: tuple[str, ...]
    damaged: frozenset[int] = frozenset()


class Recovered(NamedTuple):
    """A blob that is whole, named by what it holds."""

    blob: bytes
    place: Place
    data: memoryview


class PackInspector:
    """Looks at packs. May be used from several threads.

    Args:
        check: called often; raises to end it.
    """

    def __init__(self, handle: Handle, check: Callable[[], None]) -> None:
        self._storage, self._keys, self._compressors = handle.storage, handle.keys, handle.compressors
        self._check = check
        self._hash_keys = {Kind.DATA: self._keys.data_hash_key(), Kind.META: self._keys.meta_hash_key()}

    def table(self, kind: Kind, info: ObjectInfo) -> list[SegmentRow]:
        """The pack's own table.

        Raises:
            IntegrityError: damaged or forged; ObjectNotFound, StorageError.
        """
        return read_pack_table(self._storage, self._keys, kind, info)

    def read(self, kind: Kind, info: ObjectInfo, needed: Collection[int] | None = None) -> Whole:
        """Reads every byte: against the object's name, each segment's tag, each blob's id, the table.

        Args:
            needed: offsets; only these segments are read, and the name is not checked.

        Raises:
            ObjectNotFound: it vanished; StorageError.
        """
        digest, pack = hashlib.sha256(), digest_of(info.name) or b""
        faults: list[str] = []
        damaged: set[int] = set()
        blobs = bytes_read = offset = 0
        try:
            rows = self.table(kind, info)
        except IntegrityError as error:
            return Whole(0, 0, (str(error),))
        for row in rows:
            self._check()
            if needed is None or offset in needed:
                data, fault = self._segment(Place(kind, pack, offset, row.stored, 0, 0), row, info.name)
                digest.update(data)
                blobs, bytes_read = blobs + len(row.ids), bytes_read + len(data)
                if fault is not None:
                    faults.append(f"at {offset}: {fault}")
                    damaged.add(offset)
            offset += row.stored
        if needed is None:
            try:
                bytes_read += self._rest(info.name, offset, digest)
                if digest.digest() != pack and not faults:
                    faults.append("its bytes are not those that it is named by")
            except IntegrityError as error:
                faults.append(str(error))
        return Whole(blobs, bytes_read, tuple(faults), frozenset(damaged))

    def _segment(self, place: Place, row: SegmentRow, name: str) -> tuple[bytes, str | None]:
        """The stored bytes of a segment, and what is wrong with it."""
        data = b""
        try:
            data = read_range(self._storage, name, offset=place.offset, length=place.stored)
            opened = self._open(place.kind, data)
            if len(opened.offsets) - 1 != len(row.ids):
                raise IntegrityError("a segment has another number of blobs than its table says")
            for blob, length, content in zip(row.ids, row.lengths, opened.blobs(), strict=True):
                if len(content) != length or blob_id(self._hash_keys[place.kind], content) != blob:
                    raise IntegrityError("a blob's content is not what its id says")
        except IntegrityError as error:
            return data, error.message
        return data, None

    def _rest(self, name: str, offset: int, digest: hashlib._Hash) -> int:
        """Hashes what comes behind the segments."""
        begin, rest = offset, None
        while rest is None or len(rest) == BLOCK:
            self._check()
            rest = read_range(self._storage, name, offset=offset, length=BLOCK)
            digest.update(rest)
            offset += len(rest)
        return offset - begin

    def _open(self, kind: Kind, data: bytes) -> OpenSegment:
        opened = open_segment(data, self._keys, self._compressors)
        if opened.header.kind is not kind:
            raise IntegrityError("a segment is of another kind than its place")
        return opened

    # -- what is left of a damaged pack --------------------------------------------------------------------

    def recover(self, kind: Kind, info: ObjectInfo) -> Iterator[Recovered]:
        """All blobs of a pack that are whole, whatever became of the rest; their ids are computed.

        Raises:
            StorageError.
        """
        try:
            rows = self.table(kind, info)
        except IntegrityError:
            yield from self._scan(kind, info)
            return
        offset = 0
        for row in rows:
            yield from self._recovered(kind, info, offset, row.stored) or ()
            offset += row.stored

    def _recovered(self, kind: Kind, info: ObjectInfo, offset: int, stored: int) -> Iterator[Recovered] | None:
        """The blobs of the segment at an offset; ``None``: no whole segment is there."""
        self._check()
        try:
            opened = self._open(kind, read_range(self._storage, info.name, offset=offset, length=stored))
        except IntegrityError:
            return None
        return self._each(kind, digest_of(info.name) or b"", offset, opened)

    def _each(self, kind: Kind, pack: bytes, offset: int, opened: OpenSegment) -> Iterator[Recovered]:
        for start, content in zip(opened.offsets, opened.blobs(), strict=False):
            place = Place(kind, pack, offset, opened.header.stored, start, len(content))
            yield Recovered(blob_id(self._hash_keys[kind], content), place, content)

    def _scan(self, kind: Kind, info: ObjectInfo) -> Iterator[Recovered]:
        """Searches for segments where no table says where they are (repository-format, "When the table is gone")."""
        at, budget = 0, _TRIES * info.size + MAX_STORED
        while at < info.size and budget > 0:
            header = self._header(kind, info, at)
            if header is not None and at + header.stored <= info.size:
                blobs = self._recovered(kind, info, at, header.stored)
                if blobs is not None:
                    yield from blobs
                    at += header.stored
                    continue
                budget -= header.stored
            block = self._block(info, at + 1)
            budget -= len(block)
            found = block.find(MAGIC)
            if found >= 0:
                at += 1 + found
            else:
                at += max(len(block) - len(MAGIC) + 1, 1) if block else _STEP

    def _block(self, info: ObjectInfo, at: int) -> bytes:
        """The bytes from here on; fewer where some cannot be read, none where these cannot."""
        for length in (BLOCK, _STEP):
            try:
                return read_range(self._storage, info.name, offset=at, length=length)
            except IntegrityError:
                continue
        return b""

    def _header(self, kind: Kind, info: ObjectInfo, at: int) -> SegmentHeader | None:
        try:
            header = SegmentHeader.unpack(read_range(self._storage, info.name, offset=at, length=HEADER.size))
        except IntegrityError:
            return None
        return header if header.kind is kind else None
