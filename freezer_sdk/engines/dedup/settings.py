"""The options of the dedup engine."""

from __future__ import annotations

from dataclasses import dataclass

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.options import Option

NO_CACHE = "-"
"""As the folder of the cache: there is none, whatever the caller's default."""

OPTIONS = (
    Option(
        name="pack_size",
        type="size",
        default=16 << 20,
        help="Size of stored packs in bytes, 1M to 256M; memory grows by about three of them",
    ),
    Option(
        name="queue_size",
        type="size",
        default=4 << 20,
        help="Bytes of data that may wait between reading and storing, 1M or more; memory grows by twice as much",
    ),
    Option(name="compression", default="zstd", help="Name of the compressor for new data"),
    Option(name="compression_level", type="int", help="Level of the compressor; its own default when not given"),
    Option(name="threads", type="int", help="Threads that compress and encrypt; the number of processors by default"),
    Option(
        name="cache",
        type="path",
        help="Folder of the local cache of indexes and directories, for storages across a network; - for none",
    ),
    Option(name="cache_size", type="size", default=1 << 30, help="Bytes that the local cache may take"),
    Option(
        name="grace",
        type="duration",
        help="For a new repository: how long what no backup needs stays before it is deleted, 1h at least; it must be "
        "longer than a backup may be suspended. 24h when not given",
    ),
    Option(
        name="reserve",
        type="size",
        default=8 << 20,
        help="Bytes that are kept in the storage, to be freed when it is full so that deleting can begin; 0 for none",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Checked values of the options."""

    pack_size: int = 16 << 20
    queue_size: int = 4 << 20
    compression: str = "zstd"
    compression_level: int | None = None
    threads: int | None = None
    cache: str | None = None
    cache_size: int = 1 << 30
    grace: float | None = None
    reserve: int = 8 << 20

    def __post_init__(self) -> None:
        if not 1 << 20 <= self.pack_size <= 256 << 20:
            raise ConfigurationError("pack_size must lie between 1M and 256M")
        if self.queue_size < 1 << 20:
            raise ConfigurationError("queue_size must be 1M at least")
        if self.threads is not None and self.threads < 1:
            raise ConfigurationError("threads must be 1 at least")
        if not 0 <= self.reserve <= 1 << 30:
            raise ConfigurationError("reserve must lie between 0 and 1G")
