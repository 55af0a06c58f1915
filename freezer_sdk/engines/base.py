"""The Engine contract: how backups lie in a storage."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from freezer_sdk.contract import Plugin
from freezer_sdk.model import (
    JSON,
    Backup,
    BackupOptions,
    Buffer,
    CopyResult,
    Entry,
    EventHandler,
    Problem,
    RepositoryInfo,
    RepositoryStats,
    RestoreOptions,
    RestoreResult,
    VerifyResult,
)
from freezer_sdk.modes.base import Protected
from freezer_sdk.services.base import DrillService, KeyService, MaintenanceService, RetentionService
from freezer_sdk.storages.base import Reader, Storage
from freezer_sdk.streams.cancel import CancelToken


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineCapabilities:
    """What an engine can do.

    Attributes:
        copies: its repositories take copies (:meth:`Repository.copy`), can be made like another one, and a restore
            from them falls over to others.
        keys: :meth:`Repository.key_service`.
        retention: :meth:`Repository.retention`.
        prune: :meth:`Repository.maintenance`.
        undelete: what was forgotten can come back until maintenance; else forgetting deletes at once.
        whole: :meth:`Repository.whole`.
        drills: :meth:`Repository.drills`.
    """

    levels: bool = False
    prune: bool = False
    keys: bool = False
    streams: bool = False
    copies: bool = False
    retention: bool = False
    undelete: bool = False
    whole: bool = False
    drills: bool = False


class Piece(NamedTuple):
    """A part of a regular file's content.

    Attributes:
        path: of its entry.
        offset: in the file.
        data: valid until the next piece is asked for; empty where an empty file ends.
        last: whether the file is whole now. A file that never gets its last piece is lost.
    """

    path: bytes
    offset: int
    data: Buffer
    last: bool


class WholeBackup(Protocol):
    """A backup that is read once, from one end to the other, in the order in which that is cheapest."""

    def entries(self) -> Iterator[Entry]:
        """The tree, parents first, with recorded absolute paths; may be asked for more than once.

        Of files with the same path in two backups of the repository the content is the same where ``inode`` is, unless
        it is 0.

        Raises:
            WrongPassword, StorageError.
            IntegrityError: nothing at all can be read.
        """

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        """Contents of regular files, in any order, with those of other files between them.

        A later piece replaces what it overlaps; what no piece fills is zero. Of the names of one file (``link_group``)
        it comes under one that is wanted.

        Args:
            wanted: called with the path of an entry, once at least for each; quick.

        Raises:
            WrongPassword, IntegrityError, StorageError.
        """


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every long operation is given.

    Attributes:
        events: called from any thread, quickly; must not raise.
        cancel: checked at least once a segment.
    """

    events: EventHandler = lambda event: None
    cancel: CancelToken = field(default_factory=CancelToken)


class Repository(Protocol):
    """An open repository. May be used from several threads; several processes may have it open.

    Attributes:
        problems: warnings of the opening, for example what was damaged and could be replaced by its second copy.
    """

    problems: Sequence[Problem]

    def info(self) -> RepositoryInfo:
        """What the repository says about itself."""

    def stats(self) -> RepositoryStats:
        """Sizes; lists the storage.

        Raises:
            StorageError.
        """

    def backup(self, protected: Protected, options: BackupOptions, context: Context) -> Backup:
        """Stores the sources as one backup; partial when some could not be read whole.

        Raises:
            StorageError, RepositoryError, SourceError, Cancelled: nothing was committed.
        """

    def backups(self) -> Sequence[Backup]:
        """All visible backups, oldest first; those that cannot be read have the status ``damaged`` and no host.

        Raises:
            StorageError.
        """

    def entries(self, backup: str, *, path: bytes | None = None, recursive: bool = True) -> Iterator[Entry]:
        """Entries in the order of the tree, parents first.

        Args:
            backup: full id.
            path: absolute; only this entry and what lies below.

        Raises:
            BackupNotFound, IntegrityError, StorageError.
        """

    def open(self, backup: str, path: bytes, *, others: Sequence[Repository] = ()) -> AbstractContextManager[Reader]:
        """The content of one file or stream.

        Args:
            others: repositories that may have the same backup; what cannot be read here is taken from them. Only given
                with the capability ``copies``.

        Raises:
            BackupNotFound, IntegrityError, StorageError, RestoreError: no such file.
        """

    def restore(
        self,
        backup: str,
        target: str,
        options: RestoreOptions,
        context: Context,
        *,
        others: Sequence[Repository] = (),
    ) -> RestoreResult:
        """Brings the backup, or chosen paths, back below ``target``.

        Args:
            others: repositories that may have the same backup (it has the same id there), in the order in which they
                are asked: what cannot be read here is taken from them, and each use is a problem of the kind
                ``fallback``, which is not fatal. Only given with the capability ``copies``.

        Raises:
            RestoreError, BackupNotFound, StorageError, Cancelled. Damage to single items is in the result.
        """

    def whole(self, backup: str, context: Context, *, problem: Callable[[Problem], None]) -> WholeBackup:
        """One backup, to be read as a whole. Only called with the capability ``whole``.

        Args:
            backup: full id.
            problem: told of what is damaged or lost, while the rest is given.

        Raises:
            BackupNotFound, WrongPassword, UnsupportedFormat, StorageError.
            IntegrityError: nothing at all can be read.
        """

    def copy(self, source: Repository, backup: str, context: Context, *, dry_run: bool = False) -> CopyResult:
        """Replicates a backup of another repository here, with all that is recorded about it, its id included.

        What is here already is neither read nor written again, and a backup that is here, or was and is forgotten,
        is left as it is. Only called with the capability ``copies``.

        Args:
            source: another open repository, of any engine.
            backup: full id.
            dry_run: only tell what would be done.

        Raises:
            BackupNotFound: the source does not have it.
            IntegrityError: damaged in the source, so that it cannot be copied whole; nothing was committed.
            ConfigurationError: nothing can be copied from this source.
            StorageError, RepositoryError, Cancelled: nothing was committed.
        """

    def verify(self, backups: Sequence[str], *, read_data: bool, context: Context) -> VerifyResult:
        """Checks that backups are whole; findings are in the result.

        Args:
            backups: full ids; empty: all of the repository, and every object in it.
            read_data: reads and authenticates every byte, instead of only presence and structure.

        Raises:
            StorageError, BackupNotFound, Cancelled.
        """

    def forget(self, backups: Iterable[str]) -> None:
        """Hides backups and leaves their space to maintenance.

        Raises:
            BackupNotFound, StorageError.
            PolicyRefusal: one is held.
        """

    def retention(self) -> RetentionService:
        """What retention needs of the repository. Only called with the capability ``retention``."""

    def drills(self) -> DrillService:
        """Records of restore drills. Only called with the capability ``drills``."""

    def key_service(self) -> KeyService:
        """Administration of keys. Only called with the capability ``keys``."""

    def maintenance(self) -> MaintenanceService:
        """Pruning and what goes with it. Only called with the capability ``prune``."""

    def close(self) -> None:
        """Releases what is held; the storage stays open."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


PasswordSource = Callable[[], str | None]
"""Asked only when a password is needed; ``None``: there is none."""


class Engine(Plugin):
    """Makes and opens repositories of one layout. Built with its options."""

    @property
    @abstractmethod
    def capabilities(self) -> EngineCapabilities:
        """What it can do."""

    @abstractmethod
    def probe(self, storage: Storage) -> bool:
        """Whether the storage holds a repository of this engine.

        Raises:
            StorageError.
        """

    @abstractmethod
    def create(
        self,
        storage: Storage,
        *,
        password: PasswordSource,
        encryption: bool = True,
        like: Repository | None = None,
    ) -> Repository:
        """Makes a repository and opens it.

        Args:
            like: an open repository of this engine whose secrets of deduplication the new one shares, so that copies
                between the two, and backups into both, are found again. Only given with the capability ``copies``.

        Raises:
            RepositoryExists, ConfigurationError: encryption without a password, or a password without encryption;
                ``like`` is of another engine.
            PolicyRefusal: the new repository would give away secrets of ``like``.
            StorageError.
        """

    @abstractmethod
    def open(self, storage: Storage, *, password: PasswordSource) -> Repository:
        """Opens a repository.

        Raises:
            RepositoryNotFound, WrongPassword, UnsupportedFormat, IntegrityError, StorageError.
        """

    def schema(self) -> JSON:
        """Facts about its format for documentation and tools."""
        return {}
