"""Where data that are damaged may still be had: in what is left of a pack, or in another repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, Place
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.segment import OpenSegment
from freezer_sdk.engines.dedup.structure import Blob, Places, Unreadable
from freezer_sdk.engines.dedup.upkeep.survey import Survey
from freezer_sdk.errors import IntegrityError, RepositoryError, StorageError

_NOWHERE = bytes(32)


class Supply(Protocol):
    """Somewhere that blobs may be had from; what it gives was checked against its id.

    Attributes:
        title: for people.
    """

    title: str

    def size(self, kind: Kind, blob: bytes) -> int | None:
        """Of a blob; ``None``: it is not there."""

    def get(self, kind: Kind, blob: bytes) -> bytes | None:
        """A blob; ``None``: it cannot be had."""

    def ordered(self, blobs: Sequence[Blob]) -> Iterator[Blob]:
        """Blobs in the order in which they are read best."""


class Remains:
    """What is whole in packs that are damaged elsewhere."""

    title = "damaged packs"

    def __init__(self, survey: Survey) -> None:
        self._reader = survey.reader
        self._opened: tuple[tuple[bytes, int], OpenSegment] | None = None  # blobs are asked for in their order
        self._places: dict[Blob, Place] = {
            (damage.kind, blob): place for damage in survey.damaged.values() for blob, place in damage.good.items()
        }

    @property
    def places(self) -> Mapping[Blob, Place]:
        """Where they are."""
        return self._places

    def size(self, kind: Kind, blob: bytes) -> int | None:
        """Of a blob; ``None``: it is not there."""
        place = self._places.get((kind, blob))
        return None if place is None else place.length

    def get(self, kind: Kind, blob: bytes) -> bytes | None:
        """A blob; ``None``: it cannot be had."""
        place = self._places.get((kind, blob))
        if place is None:
            return None
        where = place.pack, place.offset
        try:
            if self._opened is None or self._opened[0] != where:
                self._opened = where, self._reader.segment(place)
            data = self._opened[1].blob(place.start, place.length)
            self._reader.check(kind, blob, data, place)
        except IntegrityError:
            return None
        return data

    def ordered(self, blobs: Sequence[Blob]) -> Iterator[Blob]:
        """A segment is read once."""
        return iter(sorted(blobs, key=self._places.__getitem__))


class Elsewhere:
    """Another repository in which content has the same names."""

    def __init__(self, handle: Handle) -> None:
        self.title = handle.storage.location
        self._reader = BlobReader(handle, BlobIndex(trusts=handle.keys.trusts))

    def size(self, kind: Kind, blob: bytes) -> int | None:
        """Of a blob; ``None``: it is not there."""
        place = self._place(kind, blob)
        return None if place is None else place.length

    def get(self, kind: Kind, blob: bytes) -> bytes | None:
        """A blob; ``None``: it cannot be had."""
        if self._place(kind, blob) is None:
            return None
        try:
            return self._reader.get(kind, blob)
        except (RepositoryError, StorageError):
            return None

    def ordered(self, blobs: Sequence[Blob]) -> Iterator[Blob]:
        """A segment is read once."""
        return iter(sorted(blobs, key=lambda each: self._place(*each) or Place(each[0], _NOWHERE, 0, 0, 0, 0)))

    def _place(self, kind: Kind, blob: bytes) -> Place | None:
        try:
            self._reader.load_index(kind)
            return self._reader.index.find(kind, blob) or self._reader.search(kind, blob)
        except (RepositoryError, StorageError):
            return None


class Mended(Places):
    """Places as they will be when what can be had elsewhere is stored again.

    Attributes:
        wanted: what is to be stored again, and where it is to be had.
    """

    def __init__(
        self,
        blobs: BlobReader,
        sizes: Mapping[bytes, int],
        damaged: Mapping[bytes, Mapping[bytes, Place]],
        supplies: Sequence[Supply],
    ) -> None:
        super().__init__(blobs, sizes, damaged)
        self._supplies = supplies
        self.wanted: dict[Blob, Supply] = {}

    def find(self, kind: Kind, blob: bytes) -> Place:
        """A place that a blob can be read from, or will be.

        Raises:
            Unreadable: there is none; StorageError.
        """
        try:
            return super().find(kind, blob)
        except Unreadable:
            for supply in self._supplies:
                size = supply.size(kind, blob)
                if size is not None:
                    self._want(kind, blob, supply)
                    return Place(kind, _NOWHERE, 0, 0, 0, size)
            raise

    def meta(self, blob: bytes) -> bytes:
        """A page or list.

        Raises:
            Unreadable, StorageError.
        """
        try:
            return super().meta(blob)
        except Unreadable:
            for supply in self._supplies:
                data = supply.get(Kind.META, blob)
                if data is not None:
                    self._want(Kind.META, blob, supply)
                    return data
            raise

    def _want(self, kind: Kind, blob: bytes, supply: Supply) -> None:
        self.wanted[kind, blob] = supply
        self.lost.pop((kind, blob), None)
