"""Packs that are encrypted with keys of an earlier epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from freezer_sdk.engines.dedup.documents import read_range
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.segment import HEADER, SegmentHeader
from freezer_sdk.errors import IntegrityError, ObjectNotFound
from freezer_sdk.storages.base import ObjectInfo


def packs_of_earlier_epochs(
    handle: Handle, packs: Mapping[tuple[Kind, bytes], ObjectInfo], *, tick: Callable[[], None]
) -> set[bytes]:
    """Those among some packs whose keys others may still have; reads the first bytes of each.

    Raises:
        StorageError.
    """
    newest = handle.keys.epoch
    if newest == 1:
        return set()

    def is_old(name: str) -> bool:
        tick()
        try:
            return SegmentHeader.unpack(read_range(handle.storage, name, length=HEADER.size)).epoch < newest
        except (IntegrityError, ObjectNotFound):
            return False

    ordered = sorted(packs)
    with ThreadPoolExecutor(max_workers=max(1, handle.storage.max_parallel)) as pool:
        found = pool.map(is_old, (packs[key].name for key in ordered))
        return {pack for (_kind, pack), old in zip(ordered, found, strict=True) if old}
