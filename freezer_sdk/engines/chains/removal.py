"""How levels are taken out of a store, and what interrupted runs left in it."""

from __future__ import annotations

from freezer_sdk.engines.chains.catalog import Catalog, begun
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.errors import ObjectNotFound
from freezer_sdk.storages.base import Storage


def mark_started(storage: Storage, level: LevelId) -> None:
    """Says that what lies there without ``metadata`` is ours, and may be removed by the next run of the series.

    Raises:
        StorageError.
    """
    storage.put(level.started, [b'{"version": 1}'])


def remove_level(storage: Storage, level: LevelId) -> None:
    """Takes a level out: first it counts no more, then its objects go. Wherever it breaks off, the next run goes on.

    The caller holds the lock of the series.

    Raises:
        StorageError.
    """
    mark_started(storage, level)
    storage.delete(level.metadata)
    storage.flush()  # else a crash could bring back the mark of a level whose stream is gone
    names = {item.name for prefix in level.places for item in storage.list(prefix)} - {level.started}
    names |= {level.data, level.engine_metadata, level.record}  # a listing may miss what has just been stored
    storage.delete_many(sorted(names))
    storage.flush()
    storage.delete(level.started)


def counts(storage: Storage, level: LevelId) -> bool:
    """Whether a level is there now, where a listing may lag behind.

    Raises:
        StorageError.
    """
    try:
        storage.stat(level.metadata)
    except ObjectNotFound:
        return False
    return True


def tidy(storage: Storage, catalog: Catalog, folder: str, series: str) -> list[LevelId]:
    """Removes what runs of this program left of a series, and gives the levels that they did not finish.

    The caller holds the lock of the series.

    Args:
        catalog: read under the lock.

    Raises:
        StorageError.
    """
    whole = set(catalog.levels)
    unfinished = []
    for level in begun(storage, folder, series):
        if level in whole or counts(storage, level):  # the run died after it was done
            storage.delete(level.started)
        else:
            remove_level(storage, level)
            unfinished.append(level)
    return unfinished
