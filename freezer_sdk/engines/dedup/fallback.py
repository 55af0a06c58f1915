"""A reader that takes what its repository lacks from others in which content has the same names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, Place
from freezer_sdk.engines.dedup.layout import Kind, pack_name
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.segment import OpenSegment
from freezer_sdk.errors import FreezerError, IntegrityError, StorageError, Transient
from freezer_sdk.model import Problem

FALLBACK = "fallback"
"""Kind of the notes about what was read elsewhere."""


class FallbackReader(BlobReader):
    """Reads its own repository as long as that can give what is asked for.

    A storage that cannot be read is treated as damage to what was asked of it; one that cannot be reached is not asked
    again: each attempt would take as long as the retries do.

    Args:
        others: in the order in which they are asked; whatever they give is checked against its id as well.
        note: told once of every object that was replaced, from any thread.
    """

    def __init__(self, handle: Handle, others: Sequence[BlobReader], note: Callable[[Problem], None]) -> None:
        super().__init__(handle, BlobIndex(trusts=handle.keys.trusts))
        self._others, self._note = list(others), note
        self._homes: dict[bytes, BlobReader] = {}  # packs of others that were planned to be read
        self._noted: set[str] = set()
        self._gone: IntegrityError | None = None

    def place(self, kind: Kind, blob: bytes) -> Place:
        """Where a blob lies, here or in another repository.

        Raises:
            IntegrityError: nobody knows it.
        """
        error = self._gone
        if error is None:
            try:
                return super().place(kind, blob)
            except IntegrityError as found:
                error = found
            except StorageError as found:
                error = self._lost(found)
        for other in tuple(self._others):
            try:
                place = other.place(kind, blob)
            except (IntegrityError, StorageError) as failure:
                self._drop(other, failure)
                continue
            self._homes[place.pack] = other
            self._tell(kind.prefix.rstrip("/"), other, error)
            return place
        raise error

    def segment(self, place: Place) -> OpenSegment:
        """The segment of a place that this reader gave.

        Raises:
            IntegrityError: damaged, missing, or its storage cannot be read.
        """
        home = self._homes.get(place.pack)
        if home is None and self._gone is not None:
            raise self._gone
        try:
            return super().segment(place) if home is None else home.segment(place)
        except StorageError as error:
            if home is None:
                raise self._lost(error) from error
            raise IntegrityError(str(error)) from error

    def elsewhere(self, kind: Kind, blob: bytes, failed: Place, error: IntegrityError) -> bytes:
        """A blob from another place, here or in another repository.

        Raises:
            IntegrityError: no place is whole.
        """
        if self._gone is None and failed.pack not in self._homes:
            try:
                return super().elsewhere(kind, blob, failed, error)
            except IntegrityError:
                pass
            except StorageError as found:
                self._lost(found)
        for other in tuple(self._others):
            try:
                data = other.get(kind, blob)
            except (IntegrityError, StorageError) as failure:
                self._drop(other, failure)
                continue
            self._tell(pack_name(failed.kind, failed.pack), other, error)
            return data
        raise error

    def _lost(self, error: StorageError) -> IntegrityError:
        """What a storage's failure means for what was asked of it."""
        damage = IntegrityError(f"{self.location} cannot be read: {error}")
        if isinstance(error, Transient):  # and all retries were in vain
            self._gone = damage
        return damage

    def _drop(self, other: BlobReader, failure: FreezerError) -> None:
        """Another one that cannot be reached is not asked again, either."""
        if isinstance(failure, Transient):
            self._others = [each for each in self._others if each is not other]

    def _tell(self, name: str, other: BlobReader, error: IntegrityError) -> None:
        if self._gone is not None:
            name = self.location
        if name in self._noted:
            return
        self._noted.add(name)
        message = f"{error}; read from {other.location}"
        self._note(Problem(path=name, kind=FALLBACK, message=message, fatal=False))
