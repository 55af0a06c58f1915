"""What every part of an open repository works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.settings import Settings
from freezer_sdk.storages.base import Storage

Compressors = Callable[[str], Compressor]
"""Gives the installed compressor of a stored name."""


@dataclass(frozen=True)
class Handle:
    """Storage, keys, settings and compressors, made once when the repository is opened."""

    storage: Storage
    keys: KeyRing
    settings: Settings
    compressors: Compressors
