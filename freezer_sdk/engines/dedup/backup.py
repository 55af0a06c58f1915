"""A backup run: lease, scan, packs, index, commit, in the order that makes every crash harmless."""

from __future__ import annotations

import dataclasses
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.chunker import Chunkers
from freezer_sdk.engines.dedup.commit import MAX_PROBLEMS, Commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import Kind, backup_name, is_backup_id
from freezer_sdk.engines.dedup.page import Content, store_directory
from freezer_sdk.engines.dedup.scan import TreeScan, clock_ns
from freezer_sdk.engines.dedup.session import WriteSession
from freezer_sdk.engines.dedup.tree import Owners, TreeReader
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import (
    AccessDenied,
    CommandFailed,
    ConfigurationError,
    ObjectExists,
    RepositoryError,
    SourceError,
    SourceUnreadable,
)
from freezer_sdk.files import posix
from freezer_sdk.files.unread import CUT
from freezer_sdk.model import Backup, BackupOptions, BackupStats, Event, Problem, Status
from freezer_sdk.modes.base import Extras, Protected, Stream, Tree

_EVENT_EVERY = 0.1  # seconds
_BLOCK = 4 << 20  # bytes read at once


class BackupRun:
    """One run. Call :meth:`run` once."""

    def __init__(
        self,
        handle: Handle,
        options: BackupOptions,
        context: Context,
    ) -> None:
        self._handle, self._storage, self._keys = handle, handle.storage, handle.keys
        self._options, self._context = options, context
        self._problems: list[Problem] = []
        self._count_problems, self._fatal = 0, False
        self._started = time.monotonic()
        self._next_event = 0.0
        self._session: WriteSession | None = None
        self._scan: TreeScan | None = None
        self._writer: BlobWriter | None = None
        self._before: BackupStats | None = None

    def run(self, protected: Protected) -> Backup:
        """Stores the sources and commits.

        Raises:
            AccessDenied: the slot may not make backups of this host.
            StorageError, RepositoryError, SourceError, Cancelled: nothing was committed.
        """
        self._refuse_host()
        start_ns = clock_ns()
        backup_id, start = _identity(self._options)
        name = backup_name(start, backup_id)
        with WriteSession(
            self._handle,
            self._context,
            name,
            given=self._options.id is not None,
            problem=self._problem,
            dry_run=self._options.dry_run,
        ) as session:
            self._session = session
            self._refuse_known(backup_id, name, session.catalog)
            commit = self._store(protected, session, backup_id, start, start_ns)
            if self._options.dry_run:
                return dataclasses.replace(commit.backup, dry_run=True)
            try:
                session.commit(commit)
            except ObjectExists:
                raise _known(backup_id) from None
            return commit.backup

    # -- steps ---------------------------------------------------------------------------------------------

    def _refuse_host(self) -> None:
        """Nobody would ever see the backup."""
        host, line = self._options.host, self._keys.config.slot(self._keys.slot_id)
        if line is not None and not line.speaks_for(host):
            raise AccessDenied(
                f"this key may not make backups of the host {host!r}, only of {', '.join(line.hosts or ()) or 'none'}",
                hint="give the host's name with --host, or use a key of that host",
            )

    def _refuse_known(self, backup_id: str, name: str, catalog: Catalog) -> None:
        """A given id must be new here; forgotten backups keep theirs."""
        if self._options.id is None:
            return
        if any(item.id == backup_id for item in catalog.listed(with_forgotten=True, strict=False)):
            raise _known(backup_id)
        if catalog.by_name(name) is not None:
            raise _known(backup_id)
        if protocol.is_forgotten(self._storage, self._keys, backup_id):
            raise _known(backup_id)

    def _store(
        self, protected: Protected, session: WriteSession, backup_id: str, start: datetime, start_ns: int
    ) -> Commit:
        session.look()
        parent = self._parent(protected, session.catalog)
        self._before = None if parent is None else parent.backup.stats
        session.reader.load_index(Kind.META)
        damaged = False
        if self._options.force_read or session.damage_known or not self._ran_today(start, session.catalog):
            damaged = session.lost_packs(parent)
        if parent is not None and not damaged:
            damaged = not session.stays(parent)
        writer = self._writer = session.write()
        scan = self._scan = TreeScan(
            writer,
            Chunkers(self._keys.chunker_seed, self._keys.config.chunker_classes),
            None if parent is None else TreeReader(session.reader),
            start_ns=start_ns,
            as_of_ns=min([start_ns, *_moments(protected)]),
            problem=self._problem,
            meter=self,
            block=min(_BLOCK, self._handle.settings.queue_size),
            force_read=self._options.force_read or damaged,
        )
        root = self._store_sources(protected, scan, parent)
        facts = protected.confirmed()
        session.finish()
        self._event("progress")
        trees = [source for source in protected.sources if isinstance(source, Tree)]
        streams = [source for source in protected.sources if isinstance(source, Stream)]
        if self._count_problems > len(self._problems):
            message = f"{self._count_problems - len(self._problems)} more problems are not listed"
            self._problems.append(Problem(path="", kind=CUT, message=message, fatal=False))
        counts = scan.counts
        stats = BackupStats(
            **dataclasses.asdict(counts),
            read_bytes=scan.read_bytes,
            added_bytes=writer.added_bytes,
            added_raw_bytes=writer.added_raw_bytes,
            duration=round(time.monotonic() - self._started, 3),
        )
        options = self._options
        backup = Backup(
            id=backup_id,
            time=start,
            host=options.host,
            name=options.name,
            mode=options.mode,
            engine="dedup",
            status=Status.PARTIAL if self._fatal else Status.COMPLETE,
            paths=_paths(trees, streams),
            tags=options.tags,
            stats=stats,
            problems=tuple(self._problems),
            excludes=tuple(options.excludes) or tuple(protected.excludes),
            mount_points=tuple(os.fsdecode(path) for tree in trees for path in tree.mount_points),
            facts=facts,
            username=options.username,
            machine_id=options.machine_id,
            program=_program(),
            parent=None if parent is None else parent.backup.id,
        )
        return Commit(
            backup=backup,
            root=root,
            owners=_owners(scan, parent, trees),
            generation=session.generation,
            lease=session.lease,
            indexes=tuple(writer.indexes),
            scan_start_ns=start_ns,
            seen=options.first_seen,
        )

    def _ran_today(self, start: datetime, catalog: Catalog) -> bool:
        if Role.READER not in self._keys.roles:
            return False
        for commit in catalog.visible([], newest_first=True, strict=False):
            if commit.backup.time.date() < start.date():
                break
            if commit.backup.host == self._options.host and self._keys.trusts(commit.signer):
                return True
        return False

    def _store_sources(self, protected: Protected, scan: TreeScan, parent: Commit | None) -> Content:
        trees = [source for source in protected.sources if isinstance(source, Tree)]
        streams = [source for source in protected.sources if isinstance(source, Stream)]
        if not trees and not streams:
            raise SourceUnreadable("there is nothing to back up", hint="name a path, a stream or a command")
        if trees and not streams:
            return scan.tree(trees[0], None if parent is None else parent.root)[0]
        rows: list[tuple[bytes, bytes, Content, Extras]] = []
        failure: SourceError | None = None
        for stream in streams:
            try:
                rows.append(scan.stream(stream))
            except SourceError as error:
                failure = error
                kind = "command" if isinstance(error, CommandFailed) else "unreadable"
                self._problem(Problem(path="/" + stream.name.lstrip("/"), kind=kind, message=error.message))
        if failure is not None and not rows and not trees:
            raise failure
        if trees:
            rows += scan.roots(trees[0], None if parent is None else parent.root)
        rows.sort()
        names = [row[0] for row in rows]
        if len(set(names)) != len(names):
            raise SourceUnreadable("two sources have the same name", hint="give the streams different names")
        extras = [(number, row[3]) for number, row in enumerate(rows) if row[3]]
        stats = b"".join(row[1] for row in rows)
        return store_directory(names, stats, [row[2] for row in rows], extras, scan.store_meta)

    def _parent(self, protected: Protected, catalog: Catalog) -> Commit | None:
        """The newest backup of the same host and roots, or else of the same host and name.

        Only a listing after the lease counts, and only what a trusted slot signed: it says which files need not be
        read. Who may not read commits reads all files, and stores only what is new.
        """
        trees = [source for source in protected.sources if isinstance(source, Tree)]
        if not trees or Role.READER not in self._keys.roles:
            return None
        wanted = self._options.parent
        paths = {os.fsdecode(root) for root in trees[0].roots}
        best = None
        for commit in catalog.visible([], newest_first=True, strict=False):
            backup = commit.backup
            if not self._keys.trusts(commit.signer):
                continue
            if wanted is not None:
                if backup.id == wanted:
                    return commit
            elif backup.host == self._options.host and paths <= set(backup.paths):
                return commit
            elif best is None and backup.host == self._options.host and backup.name == self._options.name:
                best = commit
        return best

    # -- progress ------------------------------------------------------------------------------------------

    def tick(self, path: bytes | None) -> None:
        """Cancellation, the lease, and now and then a progress event."""
        assert self._session is not None
        self._session.keep()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            self._event("progress", path=None if path is None else os.fsdecode(path))

    def _event(self, kind: str, *, path: str | None = None) -> None:
        counts = None if self._scan is None else self._scan.counts
        before = self._before  # about as much as last time is to be expected
        self._context.events(
            Event(
                kind=kind,
                operation="backup",
                path=path,
                files=0 if counts is None else counts.files,
                bytes=0 if self._scan is None else self._scan.seen_bytes,
                total_files=None if before is None else max(before.files, counts.files if counts else 0),
                total_bytes=None if before is None else max(before.bytes, self._scan.seen_bytes if self._scan else 0),
                added_bytes=0 if self._writer is None else self._writer.added_bytes,
            )
        )

    def _problem(self, problem: Problem) -> None:
        self._count_problems += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem)
        self._fatal = self._fatal or problem.fatal
        self._context.events(Event(kind="problem", operation="backup", path=problem.path, problem=problem))


def _identity(options: BackupOptions) -> tuple[str, datetime]:
    """Id and time of the backup: those given, or new ones.

    Raises:
        ConfigurationError: what was given is no id, or a time without a zone.
    """
    if options.id is not None and not is_backup_id(options.id):
        raise ConfigurationError(f"{options.id!r} is no id of a backup", hint="32 hexadecimal digits in lower case")
    if options.time is not None and options.time.tzinfo is None:
        raise ConfigurationError("the time of a backup needs a zone")
    start = datetime.now(UTC) if options.time is None else options.time.astimezone(UTC)
    return options.id or uuid.uuid4().hex, start


def _known(backup_id: str) -> RepositoryError:
    return RepositoryError(f"there is, or was, a backup {backup_id} in this repository already")


def _paths(trees: list[Tree], streams: list[Stream]) -> tuple[str, ...]:
    paths = [os.fsdecode(root) for tree in trees for root in tree.roots]
    return (*paths, *("/" + stream.name.lstrip("/") for stream in streams))


def _owners(scan: TreeScan, parent: Commit | None, trees: list[Tree]) -> Owners:
    """Names of all owners that occur: as the tree knows them, or this machine; of unchanged parts as the parent did."""
    before = Owners({}, {}) if parent is None else parent.owners
    for tree in trees:
        if tree.owners is not None:
            own = tree.owners
            return Owners({**before.users, **own.users}, {**before.groups, **own.groups})
    names = posix.Owners()
    users = {number: name for number in before.users.keys() | scan.users if (name := names.user_name(number))}
    groups = {number: name for number in before.groups.keys() | scan.groups if (name := names.group_name(number))}
    return Owners({**before.users, **users}, {**before.groups, **groups})


def _moments(protected: Protected) -> Iterator[int]:
    """When what is read from volume snapshots was so."""
    for source in protected.sources:
        if isinstance(source, Tree) and source.as_of_ns is not None:
            yield source.as_of_ns


def _program() -> str:
    try:
        return f"freezer-sdk {version('freezer-sdk')}"
    except PackageNotFoundError:
        return "freezer-sdk"
