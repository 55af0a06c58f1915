"""The reading end: blobs by id, a segment at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.engines.dedup.adopt import adopt_orphans
from freezer_sdk.engines.dedup.documents import read_range
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, PackRows, Place
from freezer_sdk.engines.dedup.layout import Kind, pack_name
from freezer_sdk.engines.dedup.loading import IndexLoader
from freezer_sdk.engines.dedup.segment import OpenSegment, open_segment
from freezer_sdk.engines.dedup.unlisted import named_indexes
from freezer_sdk.errors import IntegrityError, ObjectNotFound

_CACHED = 12  # open segments kept: about their number in MiB of memory
_CACHED_BYTES = 32 << 20  # of their content: some repositories have larger segments than others


class BlobReader:
    """Gives blobs by id; every blob is checked against its id. May be used from several threads.

    Attributes:
        rebuilt: packs that no readable index names; their own tables were read instead.
    """

    def __init__(self, handle: Handle, index: BlobIndex) -> None:
        self._storage, self._keys, self._compressors = handle.storage, handle.keys, handle.compressors
        self._handle, self._cached = handle, handle.cache
        self.index = index
        self._loader = IndexLoader(handle)
        self._lock = threading.RLock()
        self._asked: set[Kind] = set()
        self._searched_indexes: set[Kind] = set()
        self._searched_packs: set[Kind] = set()
        self.rebuilt: list[PackRows] = []
        self._cache: OrderedDict[tuple[bytes, int], OpenSegment] = OrderedDict()
        self._hash_keys = {Kind.DATA: self._keys.data_hash_key(), Kind.META: self._keys.meta_hash_key()}

    @property
    def location(self) -> str:
        """URL of the storage, without secrets."""
        return self._storage.location

    def load_index(self, kind: Kind, *, again: bool = False) -> None:
        """Loads the index of a kind when that was not done yet.

        Raises:
            IntegrityError, StorageError.
        """
        with self._lock:
            if again or kind not in self._asked:
                self.rebuilt += self._loader.load(self.index, kind)
                self._asked.add(kind)

    def loaded(self, names: Iterable[str]) -> None:
        """The index was filled from all that is listed; of these objects nothing more is to be had."""
        with self._lock:
            self._asked = set(Kind)
            self._loader.know(names)

    def search(self, kind: Kind, blob: bytes) -> Place | None:
        """Looks for a blob beyond the listed indexes, once: a listing may have been cut short, an index lost.

        Raises:
            StorageError.
        """
        with self._lock:
            if kind not in self._searched_indexes:
                self._searched_indexes.add(kind)
                self._loader.load_named(self.index, kind, named_indexes(self._handle))
            place = self.index.find(kind, blob)
            if place is None:
                self._search_packs(kind)
                place = self.index.find(kind, blob)
            return place

    def place(self, kind: Kind, blob: bytes) -> Place:
        """Where a blob lies; when it is not known, the index is read again, then the tables of packs outside it.

        Raises:
            IntegrityError: nothing knows it.
        """
        place = self.index.find(kind, blob) if kind in self._asked else None
        if place is not None:
            return self.undisputed(kind, blob, place)
        with self._lock:
            self.load_index(kind)
            place = self.index.find(kind, blob)
            if place is None:
                self.load_index(kind, again=True)
                place = self.index.find(kind, blob)
            if place is None:
                place = self.search(kind, blob)
        if place is None:
            raise IntegrityError(
                f"a blob is in no index: {blob.hex()[:16]}", hint="freezer backup verify lists what is damaged"
            )
        return self.undisputed(kind, blob, place)

    def undisputed(self, kind: Kind, blob: bytes, place: Place) -> Place:
        """The same place, unless untrusted slots contradict each other: then the content decides.

        Raises:
            StorageError.
        """
        for other in self.index.disputed(kind, blob):
            try:
                self._get(kind, blob, other)
            except IntegrityError:
                continue
            return other
        return place

    def get(self, kind: Kind, blob: bytes) -> bytes:
        """A blob's bytes.

        Raises:
            IntegrityError: damaged or missing; StorageError.
        """
        place = self.place(kind, blob)
        try:
            return self._get(kind, blob, place)
        except IntegrityError as error:
            self.index.failed(kind, blob, place)
            return self.elsewhere(kind, blob, place, error)

    def elsewhere(self, kind: Kind, blob: bytes, failed: Place, error: IntegrityError) -> bytes:
        """A blob from another place than the one that is damaged or gone.

        Args:
            error: what is raised when there is none.

        Raises:
            IntegrityError: no place is whole; StorageError.
        """
        tried = {failed}
        for look in (self._load_again, self._search_packs):
            with self._lock:
                look(kind)
                places = [place for place in self.index.places(kind, blob) if place not in tried]
            for place in places:
                tried.add(place)
                try:
                    return self._get(kind, blob, place)
                except IntegrityError:
                    continue
        raise error

    def _load_again(self, kind: Kind) -> None:
        self.load_index(kind, again=True)

    def _search_packs(self, kind: Kind) -> None:
        """Reads the tables of packs that no trusted slot has indexed, once."""
        if kind not in self._searched_packs:
            self._searched_packs.add(kind)
            self.rebuilt += adopt_orphans(self._storage, self._keys, self.index, kinds=(kind,), search=True)

    def _get(self, kind: Kind, blob: bytes, place: Place) -> bytes:
        with self._lock:
            found = self._cache.get((place.pack, place.offset))
            if found is not None:
                self._cache.move_to_end((place.pack, place.offset))
        if found is None:
            found = self.segment(place)
            with self._lock:
                self._cache[place.pack, place.offset] = found
                kept = sum(len(each.raw) for each in self._cache.values())
                while len(self._cache) > _CACHED or (kept > _CACHED_BYTES and len(self._cache) > 1):
                    kept -= len(self._cache.popitem(last=False)[1].raw)
        data = found.blob(place.start, place.length)
        self.check(kind, blob, data, place)
        return data

    def meta(self, blob: bytes) -> bytes:
        """A page or list."""
        return self.get(Kind.META, blob)

    def hash_key(self, kind: Kind) -> bytes:
        """What a kind's blobs are named with."""
        return self._hash_keys[kind]

    def is_named(self, kind: Kind, blob: bytes, data: bytes | memoryview) -> bool:
        """Whether content is what its id says."""
        return blob_id(self._hash_keys[kind], data) == blob

    def check(self, kind: Kind, blob: bytes, data: bytes | memoryview, place: Place) -> None:
        """Compares content with its name.

        Raises:
            IntegrityError: another content.
        """
        if len(data) != place.length or not self.is_named(kind, blob, data):
            raise IntegrityError(f"{pack_name(kind, place.pack)}: a blob's content is not what its id says")

    def segment(self, place: Place) -> OpenSegment:
        """Fetches and opens the segment of a place.

        Raises:
            IntegrityError: damaged or missing; StorageError.
        """
        name = pack_name(place.kind, place.pack)
        if place.kind is Kind.META and self._cached is not None:
            try:
                return self.open_segment(place, self._cached.get(name, offset=place.offset, length=place.stored))
            except (IntegrityError, ObjectNotFound):
                pass  # what was damaged in the cache after it was checked is still whole in the storage
        try:
            data = read_range(self._storage, name, offset=place.offset, length=place.stored)
        except ObjectNotFound:
            raise IntegrityError(f"{name} is missing") from None
        try:
            return self.open_segment(place, data)
        except IntegrityError as error:
            raise IntegrityError(f"{name} at {place.offset}: {error}") from None

    def open_segment(self, place: Place, data: bytes) -> OpenSegment:
        """Opens a segment that was fetched.

        Raises:
            IntegrityError: damaged.
        """
        opened = open_segment(data, self._keys, self._compressors)
        if opened.header.kind is not place.kind:
            raise IntegrityError("a segment is of another kind than its place")
        return opened

    def clear(self) -> None:
        """Drops cached segments."""
        with self._lock:
            self._cache.clear()
