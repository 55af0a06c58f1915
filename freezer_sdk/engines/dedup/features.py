"""What a repository announces that a program must know (repository-format, "Configuration").

Data that only an installed plug-in can decompress are announced before the first of them are stored: whoever opens
the repository without the plug-in is told its name at once, and not in the middle of a restore.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from freezer_sdk.engines.dedup import keyholders
from freezer_sdk.engines.dedup.handle import Compressors
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.errors import ConfigurationError, UnsupportedFormat
from freezer_sdk.storages.base import Storage

_COMPRESSION: Final = "compression:"
_BUILT_IN: Final = frozenset({"none", "zstd", "zlib", "bzip2", "xz"})


def supported(compressors: Iterable[str]) -> frozenset[str]:
    """The features that installed compressors bring."""
    return frozenset(_COMPRESSION + name for name in compressors)


def read_features(compression: str, compressors: Compressors) -> tuple[str, ...]:
    """What readers of data that are compressed so must know; nothing for what every program knows.

    Raises:
        ConfigurationError: there is no such compressor, or none has the name that is stored with the data.
    """
    try:
        stored = compressors(compression).id
        if stored in _BUILT_IN:
            return ()
        compressors(stored)  # else nobody could open the repository again
    except UnsupportedFormat as error:
        raise ConfigurationError(
            f"compression {compression!r} cannot be used: {error.message}",
            hint="freezer plugin list --kind compressor shows what there is",
        ) from None
    return (_COMPRESSION + stored,)


def announce(storage: Storage, keys: KeyRing, features: tuple[str, ...]) -> KeyRing:
    """Sees to it that the configuration has these read features; gives the key ring that knows it.

    Raises:
        ConfigurationError: it has not, and this slot may not change it.
        RepositoryLocked, StorageError.
    """
    if set(features) <= set(keys.config.features["read"]):
        return keys
    if Role.MAINTAINER in keys.roles:
        return keyholders.reconfigure(storage, keys, features={"read": features})
    keys = keyholders.reload(storage, keys)
    missing = sorted(set(features) - set(keys.config.features["read"]))
    if missing:
        raise ConfigurationError(
            f"the repository does not announce {', '.join(missing)}, and the slot of this password may not change that",
            hint="make one backup like this with a maintainer's password, or use another compression",
        )
    return keys
