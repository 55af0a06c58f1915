"""The contract between what all engines with levels share and the one format that each of them writes and reads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.content import Content, Taker
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.model import JSON, BackupStats, Buffer, RestoreOptions
from freezer_sdk.modes.base import ProblemHandler, Protected
from freezer_sdk.storages.base import Reader


class LevelStream(Protocol):
    """One level, decrypted and decompressed."""

    @property
    def id(self) -> LevelId:
        """Where it lies."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The original's document; empty when it is missing."""

    def open(self) -> AbstractContextManager[Reader]:
        """The stream from its start; may be called several times.

        What can be decoded is given before an error is raised, so that it need not be lost.

        Raises:
            WrongPassword, IntegrityError, UnsupportedFormat, StorageError: also from ``read``.
        """

    def state(self) -> bytes:
        """What the next level needs to know, opened where it is sealed; empty when there is none.

        Raises:
            WrongPassword, IntegrityError, StorageError.
        """


class OpenSslPassword(NamedTuple):
    """What makes the key of an OpenSSL stream.

    Attributes:
        digest: ``md5`` or ``sha256``; no stream says which.
    """

    password: bytes
    digest: str


@dataclass(frozen=True, kw_only=True)
class Written:
    """What a codec has written.

    Attributes:
        state: what the next level needs to know.
        root: the absolute path of what was backed up, raw.
        mount_points: directories that were not descended into.
        document: what the original's metadata document says beyond :meth:`Codec.metadata`, or otherwise.
    """

    state: bytes
    root: bytes
    stats: BackupStats = field(default_factory=BackupStats)
    mount_points: tuple[bytes, ...] = ()
    document: JSON = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a program restored that does it in place of this one."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0


class Codec(ABC):
    """One format of levels.

    Attributes:
        folder: where the original keeps it: ``tar`` or ``rsync``.
        compressions: name in the metadata document -> id of the compressor; the first one is the default.
        padding: bytes that may follow the end of an encrypted stream's compressed content.
        layered: a level may hold parts of a file that others hold the rest of.
    """

    folder: ClassVar[str]
    compressions: ClassVar[Mapping[str, str]]
    padding: ClassVar[int] = 0
    layered: ClassVar[bool] = False

    @abstractmethod
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
        """Writes one level.

        Args:
            base: ``state`` of the level below; ``None`` for level 0.
            output: takes the stream, uncompressed, in pieces of up to a few MiB; they may be reused afterwards.
            problem: called for everything that could not be read whole.

        Raises:
            ConfigurationError: this source cannot be written in this format.
            IntegrityError: ``base`` is no state of this format.
            SourceError, PluginUnavailable, Cancelled, and whatever ``output`` raises.
        """

    @abstractmethod
    def check_state(self, state: bytes) -> None:
        """Looks whether a level can be written on top of one whose state this is.

        Raises:
            IntegrityError: it is damaged, or of another format.
        """

    @abstractmethod
    def metadata(self, *, compression: str, encrypted: bool) -> JSON:
        """The original's document of a level.

        Args:
            compression: one of the names in ``compressions``.
        """

    @abstractmethod
    def content(self, levels: Sequence[LevelStream], *, problem: ProblemHandler) -> Content:
        """What a chain holds at its last given level.

        Args:
            levels: 0 to n; each stream is read once for each pass over the content.
            problem: called for what is damaged or lost, while the rest is given.

        Raises:
            UnsupportedFormat, WrongPassword, IntegrityError: nothing can be read; also while it is read.
        """

    def content_taken(self, levels: Sequence[LevelStream], *, problem: ProblemHandler, taker: Taker) -> Content:
        """As :meth:`content`; gives a taker what it can while it reads. What it gave stays in the content.

        Raises:
            UnsupportedFormat, WrongPassword, IntegrityError, and what the taker raises.
        """
        return self.content(levels, problem=problem)

    @abstractmethod
    def passwords(self, text: str) -> Sequence[OpenSslPassword]:
        """Ways to make an OpenSSL key of a password: the first one to write with, all of them to try on reading."""

    def restore(
        self,
        levels: Sequence[LevelStream],
        target: str,
        options: RestoreOptions,
        context: Context,
        *,
        problem: ProblemHandler,
    ) -> Restored | None:
        """Lets another program restore a whole backup; ``None``, and nothing done: this one is to do it.

        Raises:
            ConfigurationError: the program cannot do what is asked for.
            PluginUnavailable: it is not installed.
            RestoreError, WrongPassword, StorageError, Cancelled.
        """
        return None
