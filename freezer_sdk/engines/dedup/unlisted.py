"""Listings that end too early, and say nothing of it: what they lack is asked for by name before it counts as gone.

A proxy or a gateway between a program and its storage can cut an answer short. An object that is listed is there;
one that is not listed may be there all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import Kind, pack_name
from freezer_sdk.errors import ObjectNotFound, StorageUnavailable
from freezer_sdk.storages.base import ObjectInfo, Storage

if TYPE_CHECKING:
    from freezer_sdk.engines.dedup.handle import Handle

_log = logging.getLogger("freezer_sdk")


def find_object(storage: Storage, name: str) -> ObjectInfo | None:
    """Size and time of an object, whatever listings say of it; ``None``: there is none.

    Raises:
        StorageError.
    """
    try:
        return storage.stat(name)
    except ObjectNotFound:
        return None


def find_packs(storage: Storage, kind: Kind, packs: Iterable[bytes]) -> dict[bytes, ObjectInfo]:
    """Those of the packs that are there, whatever listings say of it; asks for each, several at once.

    Raises:
        StorageError.
    """
    wanted = list(packs)
    if not wanted:
        return {}
    with ThreadPoolExecutor(max_workers=max(1, min(storage.max_parallel, len(wanted)))) as pool:
        infos = pool.map(lambda pack: find_object(storage, pack_name(kind, pack)), wanted)
        return {pack: info for pack, info in zip(wanted, infos, strict=True) if info is not None}


def named_indexes(handle: Handle) -> set[str]:
    """Names of the indexes that readable commits mention; many of them may be merged away by now.

    Raises:
        StorageError.
    """
    from freezer_sdk.engines.dedup.catalog import Catalog

    if Role.READER not in handle.keys.roles:
        return set()
    return {name for commit in Catalog(handle).visible([], strict=False) for name in commit.indexes}


def short_listing(storage: Storage, name: str) -> StorageUnavailable:
    """The error for a listing that provably lacks an object."""
    return StorageUnavailable(
        f"{storage.location} lists only a part of what it holds: {name} is there, and is not listed",
        hint="try again; if it stays so, look for a proxy, gateway or cache on the way to the storage",
    )


def warn(storage: Storage, name: str) -> None:
    """Tells people about a listing that lacks an object, where that did no harm."""
    _log.warning("%s", short_listing(storage, name).message)
