"""Packs of old epochs: marked, so that maintenance stores what is needed of them again, under new keys."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.documents import read_range
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import Kind, digest_of
from freezer_sdk.engines.dedup.segment import HEADER, SegmentHeader
from freezer_sdk.errors import IntegrityError, ObjectNotFound
from freezer_sdk.storages.base import ObjectInfo, Storage


def mark_old_packs(handle: Handle) -> tuple[int, int]:
    """Marks every pack of an epoch before the newest one. A mark deletes nothing: a sweep stores anew what backups
    need of a marked pack before the pack goes.

    Returns:
        How many packs, and their bytes.

    Raises:
        AccessDenied, StorageError.
    """
    storage, keys = handle.storage, handle.keys
    keys.require_role(Role.MAINTAINER)
    marked = protocol.read_marks(storage, keys).condemned
    before = _oldest_lease(handle)
    packs = {
        digest: info
        for kind in Kind
        for info in storage.list(kind.prefix)
        if (digest := digest_of(info.name)) and digest not in marked and (before is None or info.modified < before)
    }
    old = [digest for digest, epoch in _epochs(storage, packs) if epoch < keys.epoch]
    if old:
        protocol.write_mark(storage, keys, old)
        storage.flush()
    return len(old), sum(packs[digest].size for digest in old)


def epoch_of(storage: Storage, name: str) -> int | None:
    """The epoch that a pack is encrypted in, from its first bytes; ``None``: it is gone or damaged.

    Raises:
        StorageError.
    """
    try:
        return SegmentHeader.unpack(read_range(storage, name, length=HEADER.size)).epoch
    except (IntegrityError, ObjectNotFound):
        return None


def _epochs(storage: Storage, packs: dict[bytes, ObjectInfo]) -> Iterator[tuple[bytes, int]]:
    with ThreadPoolExecutor(max_workers=max(1, min(storage.max_parallel, len(packs) or 1))) as pool:
        epochs = pool.map(lambda info: epoch_of(storage, info.name), packs.values())
        for digest, epoch in zip(packs, epochs, strict=True):
            if epoch is not None:
                yield digest, epoch


def _oldest_lease(handle: Handle) -> datetime | None:
    """When the oldest lease that is still open was refreshed last: what came later may be of an upload under way."""
    leases = protocol.read_leases(handle.storage, handle.keys).leases
    return min((lease.refreshed for lease in leases if not lease.closed), default=None)
