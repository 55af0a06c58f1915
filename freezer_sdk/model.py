"""What goes in and comes out of the library: frozen dataclasses, no behaviour.

Times are aware datetimes in UTC unless a field says ``_ns`` (integer nanoseconds since 1970).
Paths inside a backup are ``bytes`` where any file name must survive, ``str`` (surrogateescape) where people read them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from freezer_sdk.errors import FreezerError

Buffer = bytes | bytearray | memoryview
JSON = Mapping[str, Any]

_CLOCKS = timedelta(days=1)  # how far apart clocks may be
_LONGEST_RUN = timedelta(days=7)  # what a backup says of its duration is believed up to here


class Status(StrEnum):
    """How a backup ended.

    ``damaged``: what the repository says of it cannot be read; ``locked``: not with this password.
    """

    COMPLETE = "complete"
    PARTIAL = "partial"
    DAMAGED = "damaged"
    LOCKED = "locked"


class EntryType(StrEnum):
    """What a recorded file system entry is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER_DEVICE = "character_device"
    BLOCK_DEVICE = "block_device"


class Overwrite(StrEnum):
    """What a restore does with files that exist already."""

    ALWAYS = "always"
    IF_CHANGED = "if-changed"
    NEVER = "never"


class Layout(StrEnum):
    """Where a restore puts things below its target.

    ``content``: the content of the one root goes into the target. ``full``: recorded absolute paths
    are made below the target. ``auto``: content for one root, full for several.
    """

    AUTO = "auto"
    CONTENT = "content"
    FULL = "full"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that could not be backed up, restored or verified as it should.

    Attributes:
        path: the entry or object that it concerns.
        kind: short stable word, e.g. ``unreadable``, ``changed``, ``vanished``, ``xattr``, ``owner``, ``damaged``.
        message: for people.
        fatal: the item is not whole (a backup becomes partial, a restore failed for it); else only a warning.
    """

    path: str
    kind: str
    message: str
    fatal: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class BackupStats:
    """Figures of one backup run.

    Attributes:
        files, directories, others: entries recorded (hard links count each).
        bytes: size of all recorded files.
        new_files, changed_files, unmodified_files: against the parent backup.
        read_bytes: read from the source in this run.
        added_bytes: stored by this run: packs, index and commit.
        added_raw_bytes: the same content before compression.
        duration: seconds.
    """

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    new_files: int = 0
    changed_files: int = 0
    unmodified_files: int = 0
    read_bytes: int = 0
    added_bytes: int = 0
    added_raw_bytes: int = 0
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Backup:
    """One stored state of the data.

    Attributes:
        id: 32 hexadecimal digits; any unambiguous prefix selects it.
        time: when the run started, by the writer's clock.
        paths: the recorded roots, absolute, as text (surrogateescape).
        problems: what could not be read whole.
        facts: what the mode recorded (JSON).
        parent: id of the backup that it was compared with, or that it is an increment to.
        level: for engines with levels, else ``None``: 0 is a full backup, n an increment to one of level n - 1.
        chain: for engines with levels: id of the full backup that it needs, its own for one; else ``None``.
        first_seen: when the storage got it, by its own clock, where that is known.
    """

    id: str
    time: datetime
    host: str
    name: str
    mode: str
    engine: str
    status: Status
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    stats: BackupStats = field(default_factory=BackupStats)
    problems: tuple[Problem, ...] = ()
    excludes: tuple[str, ...] = ()
    mount_points: tuple[str, ...] = ()
    facts: JSON = field(default_factory=dict)
    username: str = ""
    machine_id: str = ""
    program: str = ""
    parent: str | None = None
    level: int | None = None
    chain: str | None = None
    dry_run: bool = False
    first_seen: datetime | None = field(default=None, compare=False)

    @property
    def short_id(self) -> str:
        """The first eight digits."""
        return self.id[:8]

    @property
    def readable(self) -> bool:
        """Whether what the repository says of it can be read."""
        return self.status not in (Status.DAMAGED, Status.LOCKED)

    @property
    def measured(self) -> bool:
        """Whether ``stats`` are known; the original recorded none for its levels."""
        return self.level is None or bool(self.program)

    @property
    def plausible(self) -> bool:
        """The writer's clock and the storage's agree, but for a day and the time that the run took."""
        if self.first_seen is None:
            return True
        taken = min(timedelta(seconds=min(self.stats.duration, 1e9)), _LONGEST_RUN)
        return -_CLOCKS <= self.first_seen - self.time <= _CLOCKS + taken


@dataclass(frozen=True, kw_only=True)
class TargetResult:
    """What became of a run in one of several repositories.

    Attributes:
        location: URL of the storage, without secrets.
        backup: what was stored, or ``None``.
        error: why nothing was stored, or ``None``.
    """

    location: str
    backup: Backup | None = None
    error: FreezerError | None = None


@dataclass(frozen=True, kw_only=True)
class GroupResult:
    """What a run stored in several repositories under one id.

    Attributes:
        time: when the run started; the same in all repositories.
        targets: in the order of the group; one at least has a backup.
    """

    id: str
    time: datetime
    targets: tuple[TargetResult, ...]

    @property
    def status(self) -> Status:
        """Complete when every repository has a complete backup."""
        whole = all(each.backup is not None and each.backup.status is Status.COMPLETE for each in self.targets)
        return Status.COMPLETE if whole else Status.PARTIAL


@dataclass(frozen=True, kw_only=True)
class GroupBackup:
    """One backup, and which of several repositories have it.

    Attributes:
        copies: by location, in the order of the group; one at least.
    """

    copies: Mapping[str, Backup]

    @property
    def backup(self) -> Backup:
        """As the first repository knows it in which it is readable."""
        readable = (each for each in self.copies.values() if each.readable)
        return next(readable, None) or next(iter(self.copies.values()))

    @property
    def locations(self) -> tuple[str, ...]:
        """Where it can be read."""
        return tuple(place for place, each in self.copies.items() if each.readable)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One file system entry, or one stream, inside a backup.

    Attributes:
        path: absolute as recorded, raw bytes.
        mode: permission bits without the type.
        link_target: raw bytes, for symlinks.
        xattrs: raw names and values (POSIX ACLs and capabilities among them).
        link_group: entries of one backup with the same value are hard links of one file.
        extents: data ranges ``(offset, length)`` of a sparse file, else ``None``.
        incomplete: content was not read whole.
        content: opaque name of a file's content: equal within one repository when the content is; ``None``: unknown.
    """

    path: bytes
    type: EntryType
    mode: int = 0
    uid: int = 0
    gid: int = 0
    user: str | None = None
    group: str | None = None
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    inode: int = 0
    link_target: bytes | None = None
    link_group: bytes | None = None
    device: tuple[int, int] | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    extents: tuple[tuple[int, int], ...] | None = None
    incomplete: bool = False
    content: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A difference between two backups: ``added``, ``removed``, ``content``, ``metadata`` or ``type``."""

    path: bytes
    kind: str
    before: Entry | None = None
    after: Entry | None = None


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How a restore behaves.

    Attributes:
        paths: recorded absolute paths, or paths below the root; empty: everything.
        include, exclude: gitignore-like patterns on the recorded paths.
        delete: remove what the target has and the backup has not.
        inplace: write into existing files instead of renaming whole ones over them.
        force: allow what a rule refuses (non-empty target, ``delete`` from a partial backup).
        owner: restore ownership; ``None``: when running as root.
        numeric_owner: never map owner names.
    """

    paths: tuple[bytes, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    overwrite: Overwrite | None = None
    delete: bool = False
    layout: Layout = Layout.AUTO
    inplace: bool = False
    dry_run: bool = False
    force: bool = False
    owner: bool | None = None
    numeric_owner: bool = False
    sparse: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedAction:
    """One step of a restore plan: ``create``, ``replace``, ``metadata``, ``delete``, ``skip`` or ``same``."""

    action: str
    path: bytes
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class RestoreResult:
    """What a restore did.

    Attributes:
        problems: fatal ones name every item that is not whole.
        plan: filled for a dry run.
        facts: what the mode says of it beside (JSON), such as the ids of what a service made.
    """

    backup: str
    target: str
    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    skipped: int = 0
    deleted: int = 0
    duration: float = 0.0
    problems: tuple[Problem, ...] = ()
    plan: tuple[PlannedAction, ...] = ()
    facts: JSON = field(default_factory=dict)

    @property
    def status(self) -> Status:
        """Partial when an item is not whole."""
        return Status.PARTIAL if any(p.fatal for p in self.problems) else Status.COMPLETE


@dataclass(frozen=True, kw_only=True)
class VerifyResult:
    """What a verification looked at, and what it found wrong."""

    backups: int = 0
    objects: int = 0
    blobs: int = 0
    bytes_read: int = 0
    read_data: bool = False
    duration: float = 0.0
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing is damaged or missing; there may be warnings."""
        return not any(problem.fatal for problem in self.problems)


class CopyOutcome(StrEnum):
    """What became of a backup that was to be copied.

    ``present``: it was there already. ``missing``: it is not there yet, and a dry run left it so. ``forgotten``: it was
    there and was deleted, which copies respect.
    """

    COPIED = "copied"
    PRESENT = "present"
    MISSING = "missing"
    FORGOTTEN = "forgotten"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class CopyResult:
    """One backup that was to be copied from one repository to another.

    Attributes:
        backup: as the source knows it.
        read_bytes: content read from the source.
        added_bytes: stored in the target: packs and index.
        added_raw_bytes: the same content before compression.
        duration: seconds.
        error: why it failed.
    """

    backup: Backup
    outcome: CopyOutcome
    read_bytes: int = 0
    added_bytes: int = 0
    added_raw_bytes: int = 0
    duration: float = 0.0
    error: FreezerError | None = None


@dataclass(frozen=True, kw_only=True)
class RepositoryInfo:
    """What a repository says about itself."""

    id: str
    engine: str
    version: int
    location: str
    encrypted: bool
    created: datetime
    role: str = ""
    features: tuple[str, ...] = ()
    details: JSON = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RepositoryStats:
    """Sizes of a repository, in bytes and objects."""

    backups: int = 0
    objects: int = 0
    stored_bytes: int = 0
    blobs: int = 0
    raw_bytes: int = 0
    by_kind: JSON = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BackupOptions:
    """How a backup is recorded, whatever the mode and engine.

    Attributes:
        id, time: what the backup is to be known by, for one that is stored in several repositories; by default a new id
            (32 hexadecimal digits), and the moment when the engine begins.
        first_seen: of a backup that was made elsewhere before: when the storage there got it.
    """

    name: str
    host: str
    id: str | None = None
    time: datetime | None = None
    tags: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    parent: str | None = None
    force_read: bool = False
    dry_run: bool = False
    username: str = ""
    machine_id: str = ""
    mode: str = "fs"
    first_seen: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something that happened, for progress displays and wrappers.

    Attributes:
        kind: ``start``, ``progress``, ``problem``, ``file`` (verbose), ``storage``, ``finish``.
        operation: ``backup``, ``restore``, ``verify``...
        files, bytes: done so far. total_*: when known, else ``None``.
        added_bytes: stored so far.
        target: location of the repository that it concerns, when there are several; else ``None``.
    """

    kind: str
    operation: str
    target: str | None = None
    path: str | None = None
    files: int = 0
    bytes: int = 0
    total_files: int | None = None
    total_bytes: int | None = None
    added_bytes: int = 0
    problem: Problem | None = None
    message: str | None = None
    data: JSON = field(default_factory=dict)


EventHandler = Callable[[Event], None]
