"""The codec of the original's rsync engines: reads both versions of their streams, writes the second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Codec, LevelStream, OpenSslPassword, Written
from freezer_sdk.engines.chains.content import Content
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import JSON, Buffer
from freezer_sdk.modes.base import ProblemHandler, Protected

DEFAULT_BLOCK_SIZE: Final = 4096
BLOCK_SIZES: Final = (512, 16 << 20)
"""The smallest and the largest that is written."""


class RsyncCodec(Codec):
    """Levels of block deltas.

    Args:
        block_size: of new chains; a chain keeps the one that it has.
        compression: name in the metadata document; what the next level needs to know is compressed in the same way.

    Raises:
        ConfigurationError: a block size or a compression that this format cannot have.
    """

    folder: ClassVar[str] = "rsync"
    compressions: ClassVar[dict[str, str]] = {"gzip": "zlib", "bzip2": "bzip2"}
    padding: ClassVar[int] = 16
    layered: ClassVar[bool] = True

    def __init__(self, *, block_size: int = DEFAULT_BLOCK_SIZE, compression: str = "gzip") -> None:
        lowest, highest = BLOCK_SIZES
        if not lowest <= block_size <= highest:
            raise ConfigurationError(
                f"a block size of {block_size} bytes cannot be", hint=f"choose one from {lowest} to {highest}"
            )
        if compression not in self.compressions:
            raise ConfigurationError(
                f"streams of the rsync engine cannot be compressed with {compression!r}", hint="choose gzip or bzip2"
            )
        self._block_size = block_size
        self._compression = compression

    def write(
        self,
        protected: Protected,
        *,
        level: int,
        base: bytes | None,
        output: Callable[[Buffer], None],
        context: Context,
        problem: ProblemHandler,
    ) -> Written:
        """See :meth:`Codec.write`."""
        from freezer_sdk.engines.rsync.writing import write_level

        return write_level(
            protected,
            base=base,
            block_size=self._block_size,
            compression=self._compression,
            output=output,
            context=context,
            problem=problem,
        )

    def check_state(self, state: bytes) -> None:
        """See :meth:`Codec.check_state`."""
        from freezer_sdk.engines.rsync.writing import usable_state

        usable_state(state)

    def metadata(self, *, compression: str, encrypted: bool) -> JSON:
        """See :meth:`Codec.metadata`."""
        return {
            "engine_name": self.folder,
            "compression": compression,
            "rsync_block_size": self._block_size,
            "encryption": encrypted,
        }

    def content(self, levels: Sequence[LevelStream], *, problem: ProblemHandler) -> Content:
        """See :meth:`Codec.content`; contents are compared with the signatures that the last level has of them."""
        from freezer_sdk.engines.rsync.content import RsyncContent

        return RsyncContent(levels, problem=problem)

    def passwords(self, text: str) -> Sequence[OpenSslPassword]:
        """See :meth:`Codec.passwords`. The original takes the first line of its file with the end of the line."""
        password = text.encode("utf-8", "surrogateescape")
        endings = (b"\n", b"", b"\r\n")
        return [OpenSslPassword(password + ending, "md5") for ending in endings]
