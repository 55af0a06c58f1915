"""The format of the engine ``tar``: GNU incremental streams, as the original writes and restores them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Codec, LevelStream, OpenSslPassword, Restored, Written
from freezer_sdk.engines.chains.content import Content, Taker
from freezer_sdk.engines.tar.reading import read_levels
from freezer_sdk.engines.tar.reading.gnu import GnuExtraction
from freezer_sdk.engines.tar.snapshot import Snapshot
from freezer_sdk.engines.tar.writing import LevelWriter, TarSource, WriteOptions
from freezer_sdk.model import JSON, Buffer, RestoreOptions
from freezer_sdk.modes.base import ProblemHandler, Protected

READERS: Final = ("auto", "python", "gnu")
"""Values of the option ``reader``."""


class TarCodec(Codec):
    """Writes levels by GNU tar, and reads them without any program.

    Args:
        writing: what is stored, and how.
        reader: one of :data:`READERS`.
    """

    folder: ClassVar[str] = "tar"
    compressions: ClassVar[Mapping[str, str]] = {"gzip": "gzip", "bzip2": "bzip2", "xz": "xz"}

    def __init__(self, *, writing: WriteOptions | None = None, reader: str = READERS[0]) -> None:
        self._writing = writing or WriteOptions()
        self.reader = reader

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
        """See :meth:`Codec.write <freezer_sdk.engines.chains.codec.Codec.write>`.

        Raises:
            PluginUnavailable: GNU tar is not installed.
            ConfigurationError, IntegrityError, SourceError, Cancelled.
        """
        source = TarSource.of(protected)
        writer = LevelWriter(source, self._writing, base=base, context=context, problem=problem)
        return writer.write(output)

    def check_state(self, state: bytes) -> None:
        """Looks whether it is a snapshot file of GNU tar, whole and of a version that can be built upon.

        Raises:
            IntegrityError: it is not.
        """
        for _ in Snapshot(state).directories():
            pass

    def metadata(self, *, compression: str, encrypted: bool) -> JSON:
        """The original's document of a level."""
        return {"engine_name": "tar", "compression": compression, "encryption": encrypted}

    def content(self, levels: Sequence[LevelStream], *, problem: ProblemHandler) -> Content:
        """See :meth:`Codec.content <freezer_sdk.engines.chains.codec.Codec.content>`."""
        return read_levels(levels, problem=problem)

    def content_taken(self, levels: Sequence[LevelStream], *, problem: ProblemHandler, taker: Taker) -> Content:
        """See :meth:`Codec.content_taken <freezer_sdk.engines.chains.codec.Codec.content_taken>`: of a level 0 alone.

        In it all directories come before all files; what higher levels have changes what lies below them.
        """
        return read_levels(levels, problem=problem, taker=taker)

    def passwords(self, text: str) -> Sequence[OpenSslPassword]:
        """The first line without its end; ``openssl`` took MD5 before version 1.1.0 and SHA-256 since."""
        password = text.encode("utf-8", "surrogateescape")
        return OpenSslPassword(password, "sha256"), OpenSslPassword(password, "md5")

    def restore(
        self,
        levels: Sequence[LevelStream],
        target: str,
        options: RestoreOptions,
        context: Context,
        *,
        problem: ProblemHandler,
    ) -> Restored | None:
        """See :meth:`Codec.restore <freezer_sdk.engines.chains.codec.Codec.restore>`: GNU tar, with ``reader`` gnu.

        Raises:
            ConfigurationError, PluginUnavailable, RestoreError, WrongPassword, StorageError, Cancelled.
        """
        if self.reader != "gnu":
            return None
        return GnuExtraction(options).run(levels, target, context, problem=problem)
