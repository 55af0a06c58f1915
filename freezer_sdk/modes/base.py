"""The Mode contract: what is protected, and when it is consistent. And the sources that modes hand to engines."""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

from freezer_sdk.contract import Plugin
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import JSON, Backup, Entry, Problem, RestoreOptions, RestoreResult

STAT = struct.Struct("<IIIIQqqQ")
"""One row of :attr:`Directory.stats`, 48 bytes little-endian: the fields of :class:`Attributes`."""


class Attributes(NamedTuple):
    """One unpacked row of stats.

    Attributes:
        mode: st_mode with the type bits.
        flags: see the ``FLAG_*`` constants.
        size: bytes for regular files; length of a link's target for symlinks; 0 for everything else.
        mtime, ctime: nanoseconds.
    """

    mode: int
    uid: int
    gid: int
    flags: int
    size: int
    mtime: int
    ctime: int
    inode: int


FLAG_RACY = 1
"""Changed so shortly before the scan that a later change may not show in its times; set by engines."""
FLAG_INCOMPLETE = 2
"""Could not be read whole; set by engines."""
FLAG_NOT_DESCENDED = 4
"""A directory that is recorded without its content (mount point, cache directory)."""
FLAG_HARDLINK = 8
"""Not a directory and has more than one name."""


class Extra:
    """Tags of the optional facts of an entry (``(tag, value)`` pairs; ints little-endian)."""

    LINK_TARGET: ClassVar[int] = 1  # raw bytes
    XATTR: ClassVar[int] = 2  # u16 length of the name, name, value; repeated
    DEVICE: ClassVar[int] = 3  # u32 major, u32 minor
    LINK_GROUP: ClassVar[int] = 4  # opaque; equal for all names of one file within a backup
    EXTENTS: ClassVar[int] = 5  # data ranges of a sparse file: u64 offset, u64 length, repeated
    CHUNKER: ClassVar[int] = 6  # ASCII, written by engines
    BIRTH_TIME: ClassVar[int] = 7  # i64 nanoseconds


Extras = Sequence[tuple[int, bytes]]


class Directory(Protocol):
    """One scanned directory of a tree, valid until the walk leaves it."""

    @property
    def path(self) -> bytes:
        """Original absolute path, raw; empty for the directory of the roots."""

    @property
    def names(self) -> Sequence[bytes]:
        """Sorted names of the recorded entries."""

    @property
    def stats(self) -> bytes:
        """Packed :data:`STAT` rows, in the order of ``names``."""

    @property
    def incomplete(self) -> bool:
        """Whether ``names`` lacks an entry that could not be looked at."""

    def open(self, index: int) -> int:
        """A file descriptor on a regular file, opened without following links; the caller closes it.

        Raises:
            OSError: vanished, unreadable, or no longer a regular file.
        """

    def restat(self, index: int, fd: int) -> bytes:
        """The STAT row of an open file, in the form that the scan gives.

        Raises:
            OSError: as ``fstat``.
        """

    def extras(self, index: int, fd: int | None) -> Extras:
        """Link target, xattrs, device, link group, extents; ``fd`` saves a path look-up for open files.

        Problems that leave the entry usable (an unreadable xattr) are reported through the walk's handler.

        Raises:
            OSError: the entry vanished.
        """


@dataclass(frozen=True, kw_only=True)
class Enter:
    """The walk enters a directory; its subdirectories follow, then its :class:`Leave`."""

    directory: Directory


@dataclass(frozen=True, kw_only=True)
class Leave:
    """The walk leaves the directory entered last."""


ProblemHandler = Callable[[Problem], None]


@dataclass(frozen=True, kw_only=True)
class TreeRules:
    """What another program needs to read a tree itself, in place of a walk.

    Attributes:
        locations: for each root the absolute path where it is read now (a volume snapshot, for example), in the order
            of the roots.
        excludes: patterns of what is left out, one a line of ``.gitignore``; the last that matches decides. They are
            compared with recorded absolute paths, and with paths relative to their root. Roots are never left out.
        one_file_system: directories on another file system than their root's are recorded, not entered.
        exclude_caches: of directories tagged by a ``CACHEDIR.TAG`` nothing but the tag is recorded.
        follow: links stored as what they lead to: ``none``, ``soft``, ``hard`` or ``all``.
        missing: directories of which the content is not where the tree is read; their recorded absolute paths.
    """

    locations: Mapping[bytes, bytes]
    excludes: Sequence[bytes] = ()
    one_file_system: bool = False
    exclude_caches: bool = False
    follow: str = "none"
    missing: Sequence[bytes] = ()


@dataclass(frozen=True, kw_only=True)
class OwnerNames:
    """Names of users and groups, by their numbers."""

    users: Mapping[int, str]
    groups: Mapping[int, str]


class Tree(ABC):
    """A source of kind tree: directories with entries.

    The roots themselves form a directory: ``walk`` first enters a *roots directory* whose names are the original
    absolute paths of the roots (the only names that contain ``/``), then everything below, depth first, in
    the order of names. A subdirectory that cannot be entered is reported and left out of the walk.
    """

    roots: tuple[bytes, ...]
    mount_points: Sequence[bytes]  # not descended into; complete when the walk has ended

    @property
    def owners(self) -> OwnerNames | None:
        """Names of the owners that occur, complete when the walk has ended; ``None``: this machine knows them."""
        return None

    @property
    def as_of_ns(self) -> int | None:
        """The time of what is read, where that is older than the walk (a volume snapshot); nanoseconds.

        What changed at this time or later is not in it, so that the next run must look at it again.
        """
        return None

    @property
    def rules(self) -> TreeRules | None:
        """How another program can read the same entries; ``None``: only :meth:`walk` can."""
        return None

    @abstractmethod
    def again(self) -> Tree:
        """The same tree once more, for a walk in another thread at the same time.

        A Tree is walked by one thread at a time, as often as need be; what a walk changes is shared with no other
        Tree. All of them are good as long as the mode protects its data.
        """

    @abstractmethod
    def walk(self, problem: ProblemHandler) -> Iterator[Enter | Leave]:
        """One pass over the tree.

        Raises:
            SourceUnreadable: a root cannot be read at all.
        """


class StreamReader(Protocol):
    """The open end of a stream source."""

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as far as it can; 0 at the end.

        Raises:
            SourceError: the producer failed (a child process with a non-zero exit status fails here, at the end).
        """


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A source of kind stream: bytes that are read once.

    Attributes:
        name: recorded as ``/name``.
        open: gives the reader; called once. Leaving the context ends child processes, and a ``readinto`` that waits
            for one in another thread with them.
        size: in bytes, when known; a reader that gives another number of bytes fails the stream.
        extents: data ranges when known, else ``None``: then the reader gives only the data, range after range, and
            what lies between is zero.
        mtime_ns: recorded time; ``None``: the start of the backup.
    """

    name: str
    open: Callable[[], AbstractContextManager[StreamReader]]
    size: int | None = None
    extents: Sequence[tuple[int, int]] | None = None
    mode: int = 0o600
    mtime_ns: int | None = None


Source = Tree | Stream


@dataclass(frozen=True, kw_only=True)
class Protected:
    """What a mode hands over while its data are consistent.

    Attributes:
        sources: at most one Tree, any number of Streams.
        facts: the mode's JSON document (binlog position, image properties...).
        excludes: patterns in force, for the record.
        confirm: asked by the engine when all sources were read, and before it commits. Raises when the data were not
            consistent after all (a volume snapshot that overflowed), and nothing is committed; returns facts that are
            known only then, which are added to ``facts``. With several repositories it is asked by each of them, from
            any thread.

    Raises:
        ValueError: several trees; an engine would have to leave out all but one.
    """

    sources: Sequence[Source]
    facts: JSON = field(default_factory=dict)
    excludes: Sequence[str] = ()
    confirm: Callable[[], JSON] | None = None

    def confirmed(self) -> JSON:
        """All facts, once :attr:`confirm` has been asked.

        Raises:
            SnapshotError, SourceError: the data are not consistent; nothing may be committed.
        """
        return dict(self.facts) if self.confirm is None else {**self.facts, **self.confirm()}

    def __post_init__(self) -> None:
        if sum(isinstance(source, Tree) for source in self.sources) > 1:
            raise ValueError("a mode can hand over one tree at most; give one tree several roots")


class SnapshotGroup(ABC):
    """One consistent group of volume snapshots, there as long as the context that gave it.

    Attributes:
        views: for each path that was asked for, a path with its content as of one moment, or a stream of it.
        facts: what was made, for the record: ``{"provider": "lvm", ...}``.
        missing: directories below these paths of which the content is not in the views (nested subvolumes), as they
            are called without a snapshot. File systems that are mounted below are found without the provider.
        taken_ns: nothing that changed at this time or later is in the views. Providers need not know; without it
            everything in the views is read again by the next run.
    """

    views: Mapping[Path, Path | Stream]
    facts: JSON
    missing: Sequence[Path] = ()
    taken_ns: int = 0

    @abstractmethod
    def check(self) -> None:
        """Whether the views still show that moment; may be asked often, from any thread.

        Raises:
            SnapshotError: they do not, for example because the space for changes was used up.
        """


SERVER = "server:"
"""As the target of a restore: the running server that the options of the mode lead to, in place of a folder."""

SnapshotMaker = Callable[[Sequence[Path]], AbstractContextManager[SnapshotGroup]]
"""Makes one consistent group of snapshots of what lies below some absolute paths.

The call looks for a provider, which takes its time, and changes nothing; entering the context makes the snapshots. A
mode that keeps an application waiting calls it first, then locks, enters, and unlocks at once. Both may raise
SnapshotError.
"""


class Restorer(Protocol):
    """What ``client`` gives a mode to bring a backup back: bound to one backup of one repository.

    Attributes:
        backup: the backup, with its facts and roots.
        facts: those of the backup.
        options: what the caller asked for; ``dry_run`` binds modes, too.
    """

    backup: Backup
    facts: Mapping[str, Any]
    options: RestoreOptions

    def entries(self) -> Iterator[Entry]:
        """What the backup holds, parents first; streams are files below ``/``."""

    def files(self, target: str, *, root: str | None = None) -> RestoreResult:
        """Restores the tree below ``target``.

        Args:
            root: one recorded root, whose content goes into the target itself, whatever layout was asked for.

        Raises:
            RestoreError, StorageError, IntegrityError, Cancelled.
        """

    def stream(self, name: str) -> AbstractContextManager[Any]:
        """The stored stream, readable.

        Raises:
            RestoreError, StorageError, IntegrityError.
        """

    def progress(self, *, size: int) -> None:
        """Tells the caller how many bytes a mode has brought back itself, and looks whether it is to end.

        Raises:
            Cancelled.
        """


def recorded_facts(restorer: Restorer, mode: str) -> Mapping[str, Any]:
    """What a mode recorded under its own name with the backup.

    Raises:
        ConfigurationError: the backup was made by another mode.
    """
    facts = restorer.facts.get(mode)
    if not isinstance(facts, Mapping):
        raise ConfigurationError(
            f"backup {restorer.backup.short_id} was not made by mode {mode!r}",
            hint="leave the mode out, or bring plain files back by mode fs",
        )
    return facts


class Mode(Plugin):
    """What is protected. Built with its options; ``protect`` may be called once.

    Attributes:
        takes_snapshots: whether :meth:`protect` can make use of volume snapshots.
        verifies_restored: whether there is a :meth:`verify_restored`.
    """

    takes_snapshots: ClassVar[bool] = False
    verifies_restored: ClassVar[bool] = False

    @abstractmethod
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> AbstractContextManager[Protected]:
        """Quiesces, snapshots, resumes, hands over sources, and cleans up on every way out.

        Args:
            snapshots: makes volume snapshots, where the user wants them; given only to modes that take them.

        Raises:
            SourceError, SnapshotError, ConfigurationError.
        """

    @abstractmethod
    def restore(self, restorer: Restorer, target: str) -> RestoreResult:
        """Puts a backup where the application expects it.

        Args:
            target: a folder; modes of servers may know :data:`SERVER` too.

        Raises:
            RestoreError, SourceError, ConfigurationError.
        """

    def verify_restored(self, target: str, *, facts: Mapping[str, Any], queries: Sequence[str] = ()) -> JSON:
        """Whether the application can use what :meth:`restore` put into a folder that nobody else uses.

        The mode of a database starts a server of its own there, which nobody else can reach, has it check all
        tables, and asks the queries. Nothing of it runs any more when this returns; what the folder holds afterwards
        is still the restored data, though a server may have finished its recovery.

        Args:
            target: the folder, as it was given to :meth:`restore`.
            facts: those of the backup.
            queries: in the application's own language; each must succeed, and give at least one row.

        Returns:
            What was found: ``{"server": version, "tables": how many, "queries": [[row, ...], ...], ...}``.

        Raises:
            RestoreError: it cannot, with what the application said.
            ConfigurationError: the mode has no such check, or a program that it needs is missing.
        """
        raise ConfigurationError(f"mode {self.name!r} cannot check what was restored")

    def default_name(self) -> str | None:
        """A name for the backup when the user gives none."""
        return None
