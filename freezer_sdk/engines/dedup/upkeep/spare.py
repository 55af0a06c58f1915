"""The reserve: space that is freed first when the storage is full, so that deleting can begin at all."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from freezer_sdk.errors import StorageError, StorageFull
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import ObjectInfo, Storage, StorageWrapper

PREFIX: Final = "reserve/"
_NAME: Final = re.compile(r"reserve/\d{8}\Z")
_FIRST: Final = PREFIX + f"{0:08d}"
_log = logging.getLogger("freezer_sdk")


def make_reserve(storage: Storage, size: int) -> bool:
    """Takes the reserve, unless there is one of any size; whether it is there now.

    Its bytes are random, so that no storage can keep them in less space, and mean nothing.

    Args:
        size: bytes; 0: none is wanted.

    Raises:
        StorageError: but not because the storage is full.
    """
    if not size or any(_NAME.match(info.name) for info in storage.list(PREFIX)):
        return True
    try:
        storage.put(_FIRST, [os.urandom(size)])
    except StorageFull:
        return False
    return True


def free_reserve(storage: Storage) -> bool:
    """Gives the reserve's space back; whether there was any.

    Raises:
        StorageError.
    """
    names = [info.name for info in storage.list(PREFIX) if _NAME.match(info.name)]
    storage.delete_many(names)
    return bool(names)


class SpareStorage(StorageWrapper):
    """Another storage, whose reserve is freed when it is full: the put that failed is tried again, once.

    Args:
        storage: does the work; not closed by this one.

    Attributes:
        freed: the reserve had to be freed.
    """

    name = "spare"
    api_version = 1
    summary = "another storage, with a reserve"

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._lock = threading.Lock()
        self.freed = False

    def restore(self, size: int) -> None:
        """Takes the reserve, if there is none; a storage that is still full, or fails, is only reported.

        Args:
            size: bytes; 0: none is wanted.
        """
        try:
            if not make_reserve(self._storage, size):
                _log.warning("%s is still full: a reserve of %d bytes could not be made", self.location, size)
        except StorageError as error:
            _log.warning("the reserve could not be made: %s", error)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        freed_before = self.freed
        try:
            return self._storage.put(name, buffers, if_absent=if_absent)
        except StorageFull:
            if freed_before or not self._free():
                raise
        return self._storage.put(name, buffers, if_absent=if_absent)

    def _free(self) -> bool:
        """Frees the reserve, unless another thread did it in this moment; whether there is more space now."""
        with self._lock:
            if not self.freed:
                self.freed = free_reserve(self._storage)
                if self.freed:
                    _log.warning("%s is full: its reserve is used", self.location)
            return self.freed

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`."""
        self._storage.delete_many(names)
