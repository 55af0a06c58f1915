"""What every part of an open repository works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.engines.dedup.cache import LocalCache
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.seen import Memory, look_back
from freezer_sdk.engines.dedup.settings import Settings
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import Storage

Compressors = Callable[[str], Compressor]
"""Gives the installed compressor of a stored name."""


class Reads(Protocol):
    """What objects are read through: the local cache, or the storage itself."""

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""


@dataclass(frozen=True)
class Handle:
    """Storage, keys, settings and compressors, made once when the repository is opened.

    Attributes:
        cache: for indexes and meta packs of a storage across a network.
    """

    storage: Storage
    keys: KeyRing
    settings: Settings
    compressors: Compressors
    cache: LocalCache | None = None

    @property
    def reads(self) -> Reads:
        """Where indexes and meta packs are read."""
        return self.storage if self.cache is None else self.cache

    def look_back(self, *, generation: int | None = None) -> list[Problem]:
        """Warnings when the storage was set back, as far as this machine can remember.

        Args:
            generation: the newest of marks and sweeps, where it is known.

        Raises:
            StorageError.
        """
        if self.cache is None:
            return []
        return look_back(Memory(self.cache.folder), self.storage, self.keys, generation=generation)

    def remembered(self) -> str:
        """Name of the newest commit object that this machine has seen; empty when it remembers none."""
        return "" if self.cache is None else Memory(self.cache.folder).load().commit

    def remember(self, commit: str) -> None:
        """Keeps in mind that there is a newer commit object.

        Args:
            commit: its name.
        """
        if self.cache is not None:
            memory = Memory(self.cache.folder)
            seen = memory.load()
            memory.store(replace(seen, commit=max(seen.commit, commit)))

    def without_cache(self) -> Handle:
        """For those who want to know what the storage holds."""
        return replace(self, cache=None)
