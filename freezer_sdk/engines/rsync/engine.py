"""Engine ``rsync``: block deltas against the level before, in the original's layout."""

from __future__ import annotations

from typing import ClassVar

from freezer_sdk.engines.chains.engine import ChainEngine
from freezer_sdk.engines.chains.settings import LEVEL_OPTIONS, STREAM_OPTIONS
from freezer_sdk.engines.rsync.codec import DEFAULT_BLOCK_SIZE, RsyncCodec
from freezer_sdk.options import Option


class RsyncEngine(ChainEngine):
    """Reads what the original's engines rsync and rsyncv2 wrote, and writes what rsyncv2 reads."""

    name = "rsync"
    api_version = 1
    summary = "levels of block deltas; reads and continues stores of the original Freezer (rsync, rsyncv2)"
    compression_names: ClassVar[dict[str, str]] = {"zlib": "gzip", "gzip": "gzip", "bzip2": "bzip2"}
    options = (
        *LEVEL_OPTIONS,
        Option(
            name="compression",
            choices=tuple(compression_names),
            default="zlib",
            help="How streams are compressed; gzip is what the original calls zlib",
        ),
        *STREAM_OPTIONS,
        Option(
            name="block_size",
            type="size",
            default=DEFAULT_BLOCK_SIZE,
            help="Bytes of a block that is stored anew when something in it changed; for new chains",
        ),
    )

    @classmethod
    def available(cls) -> str | None:
        """See :meth:`Plugin.available`."""
        try:
            import msgpack  # noqa: F401
        except ImportError:
            return "msgpack is not installed: pip install 'freezer-sdk[rsync]'"
        return None

    def codec(self) -> RsyncCodec:
        """The format of the levels."""
        block_size = self._options.get("block_size", DEFAULT_BLOCK_SIZE)
        return RsyncCodec(block_size=block_size, compression=self._settings.compression)
