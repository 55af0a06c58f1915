"""Fewer indexes: those that name packs which are gone, and many small ones, become new ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Final

from freezer_sdk.engines.dedup.adopt import read_pack
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import Section, encode_index, section_of
from freezer_sdk.engines.dedup.layout import index_name
from freezer_sdk.engines.dedup.merge import MERGED_BLOBS, merge
from freezer_sdk.engines.dedup.upkeep.holdings import Holdings, IndexObject, read_sections
from freezer_sdk.errors import IntegrityError, ObjectNotFound

_SMALL: Final = MERGED_BLOBS // 4  # blobs of an index that is worth merging with others
_MANY: Final = 16  # small ones at once
_AT_ONCE: Final = 8 * MERGED_BLOBS  # blobs in memory


class IndexMerge:
    """Replaces indexes: new ones are stored before old ones go.

    Rows keep their writers. What an untrusted slot says is never repeated under the maintainer's signature: packs that
    only such an index names are named as their own tables say.

    Args:
        holdings: as they were found.
        keep: sees to the lease and to cancellation; called often.
    """

    def __init__(self, handle: Handle, holdings: Holdings, *, keep: Callable[[], None]) -> None:
        self._handle, self._holdings, self._keep = handle, holdings, keep

    def run(self, gone: Collection[bytes]) -> list[str]:
        """Takes packs out of all indexes that name them, and merges small ones if there are many.

        Args:
            gone: packs that a decision condemns, or that are not there any more.

        Returns:
            Names of the indexes that were removed.

        Raises:
            StorageError, LeaseLost, Cancelled.
        """
        naming = [each for each in self._holdings.objects if not each.packs.isdisjoint(gone)]
        small = [each for each in self._holdings.objects if each.trusted and each.blobs < _SMALL]
        chosen = {each.name: each for each in naming}
        if len(small) >= _MANY:
            chosen.update({each.name: each for each in small})
        removed = []
        for batch in _batches(chosen[name] for name in sorted(chosen)):
            removed += self._replace(batch, frozenset(gone))
        return removed

    def _replace(self, batch: Sequence[IndexObject], gone: frozenset[bytes]) -> list[str]:
        sections, replaced = list[Section](), list[str]()
        for each in batch:
            self._keep()
            try:
                sections += read_sections(self._handle, each.name) if each.trusted else self._from_packs(each, gone)
            except ObjectNotFound:  # somebody else was faster
                continue
            except IntegrityError:  # damaged since: what it says must not get lost
                continue
            replaced.append(each.name)
        handle, keys = self._handle, self._handle.keys
        for section in merge(sections, leave_out=gone, signer=keys.slot_id):
            self._keep()
            data = encode_index(keys, [section], handle.compressors("zstd"))
            handle.storage.put(index_name(hashlib.sha256(data).digest()), [data])
        handle.storage.flush()
        self._keep()
        handle.storage.delete_many(replaced)
        return replaced

    def _from_packs(self, index: IndexObject, gone: frozenset[bytes]) -> list[Section]:
        """What the packs of an index say of themselves.

        Raises:
            IntegrityError: one cannot be read.
        """
        sections = []
        for (kind, pack), info in sorted(self._holdings.packs.items()):
            if pack in index.packs and pack not in gone:
                self._keep()
                rows = read_pack(self._handle.storage, self._handle.keys, kind, info)
                sections.append(section_of(kind, [rows], rows.writer))
        return sections


def _batches(objects: Iterable[IndexObject]) -> Iterator[list[IndexObject]]:
    batch: list[IndexObject] = []
    blobs = 0
    for each in objects:
        if batch and blobs + each.blobs > _AT_ONCE:
            yield batch
            batch, blobs = [], 0
        batch.append(each)
        blobs += each.blobs
    if batch:
        yield batch
