"""An open store of an engine with levels."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Self

from freezer_sdk.engines.base import Context, Repository
from freezer_sdk.engines.chains.backup import BackupRun
from freezer_sdk.engines.chains.drills import ChainDrills
from freezer_sdk.engines.chains.extract import reading
from freezer_sdk.engines.chains.items import sound
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.listing import Listing
from freezer_sdk.engines.chains.reading import Opened, open_backup, open_levels
from freezer_sdk.engines.chains.restore import Restore
from freezer_sdk.engines.chains.retention import ChainRetention
from freezer_sdk.engines.chains.select import recorded_path
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.engines.chains.verify import Verification
from freezer_sdk.engines.chains.whole import Whole
from freezer_sdk.errors import CapabilityMissing, IntegrityError, RestoreError
from freezer_sdk.files.unread import described
from freezer_sdk.model import (
    Backup,
    BackupOptions,
    CopyResult,
    Entry,
    EntryType,
    Event,
    Problem,
    RepositoryInfo,
    RepositoryStats,
    RestoreOptions,
    RestoreResult,
    VerifyResult,
)
from freezer_sdk.modes.base import ProblemHandler, Protected
from freezer_sdk.services.base import KeyService, MaintenanceService, RetentionService
from freezer_sdk.storages.base import Reader

_KEPT: Final = 2  # opened backups: a diff walks two
_FORGOTTEN: Final = "forgotten by its id"


class ChainRepository:
    """See :class:`~freezer_sdk.engines.base.Repository`."""

    def __init__(self, store: Store, *, problems: Sequence[Problem] = ()) -> None:
        self.problems = problems
        self._store = store
        self._listing = Listing(store)
        self._lock = threading.Lock()
        self._opened: OrderedDict[tuple[LevelId, ...], Opened] = OrderedDict()

    @property
    def store(self) -> Store:
        """For the engine only."""
        return self._store

    def info(self) -> RepositoryInfo:
        """What the repository says about itself; of a store of the original, what can be told from its backups."""
        store, marker = self._store, self._store.marker
        levels = self._listing.catalog().levels
        if marker is not None:
            identifier, created = marker.id, marker.created
        else:
            first = levels[0] if levels else None
            identifier = first.default_id if first else hashlib.sha256(store.storage.location.encode()).hexdigest()[:32]
            created = datetime.fromtimestamp(first.time if first else 0, UTC)
        ciphers = {store.coding.stream(level).cipher for level in levels[-1:]}
        return RepositoryInfo(
            id=identifier,
            engine=store.engine,
            version=1,
            location=store.storage.location,
            encrypted=ciphers != {"none"} if ciphers else marker is not None and marker.cipher != "none",
            created=created,
            details={
                "chains": len({(level.folder, level.series, level.chain) for level in levels}),
                "levels": len(levels),
                "original": marker is None,
            },
        )

    def stats(self) -> RepositoryStats:
        """Sizes; lists the storage.

        Raises:
            WrongPassword, StorageError.
        """
        kinds: dict[str, dict[str, int]] = {}
        objects = stored = 0
        for item in self._store.storage.list():
            kind = kinds.setdefault(item.name.split("/", 1)[0], {"objects": 0, "bytes": 0})
            kind["objects"] += 1
            kind["bytes"] += item.size
            objects += 1
            stored += item.size
        found = self._listing.read()
        return RepositoryStats(
            backups=len(found),
            objects=objects,
            stored_bytes=stored,
            raw_bytes=sum(each.record.raw_size for each in found if each.record is not None),
            by_kind=kinds,
        )

    def backup(self, protected: Protected, options: BackupOptions, context: Context) -> Backup:
        """Stores the source as one level; partial when some could not be read whole.

        Raises:
            ConfigurationError, StorageError, RepositoryError, SourceError, Cancelled: nothing was committed.
        """
        return BackupRun(self._store, options, context).run(protected)

    def backups(self) -> Sequence[Backup]:
        """All levels of all chains, oldest first; damaged are those whose record, or a level below them, is missing.

        Raises:
            WrongPassword: everything is sealed with another one.
            StorageError.
        """
        return [each.backup for each in self._listing.read()]

    def entries(self, backup: str, *, path: bytes | None = None, recursive: bool = True) -> Iterator[Entry]:
        """Entries in the order of the tree, parents first.

        Args:
            backup: full id.
            path: absolute; only this entry and what lies below it.
            recursive: ``False``: the entry and what lies directly in it; without a path, the root.

        Raises:
            BackupNotFound, WrongPassword, StorageError.
            IntegrityError: also after all that can be read was given.
        """
        opened = self._open(backup)
        refused: list[Exception] = []
        below = None if path is None else path.rstrip(b"/") or b"/"
        base = opened.root if below is None or _depth(opened.root, below) else below
        limit = 0 if base != below else 1  # above the root there is nothing but the root
        for entry in sound(opened.content.entries(), lambda entry, error: refused.append(error)):
            recorded = recorded_path(opened.root, entry.path)
            depth = _depth(recorded, base)
            if depth is None or (not recursive and depth > limit):
                continue
            yield replace(entry, path=recorded)
        broken = next((problem for problem in opened.findings.problems if problem.fatal), None)
        if broken is not None:
            raise IntegrityError(f"{broken.path}: {broken.message}", hint="what was listed before can be read")
        if refused:
            raise refused[0]

    def open(self, backup: str, path: bytes, *, others: Sequence[Repository] = ()) -> AbstractContextManager[Reader]:
        """The content of one file.

        Raises:
            BackupNotFound, WrongPassword, IntegrityError, StorageError, RestoreError: no such file.
        """
        opened = self._open(backup)
        entry = self._file(opened, path)
        return reading(opened, entry)

    @staticmethod
    def _file(opened: Opened, path: bytes) -> Entry:
        for entry in sound(opened.content.entries(), lambda entry, error: None):
            if recorded_path(opened.root, entry.path) == path:
                if entry.type is not EntryType.FILE:
                    raise RestoreError(f"{os.fsdecode(path)!r} is not a file")
                return entry
        raise RestoreError(f"the backup has no {os.fsdecode(path)!r}", hint="freezer backup ls shows what it has")

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

        Raises:
            RestoreError, BackupNotFound, WrongPassword, StorageError, Cancelled.
            IntegrityError: nothing at all can be read; damage to single items is in the result.
        """

        def told(problem: Problem) -> None:
            context.events(Event(kind="problem", operation="restore", path=problem.path, problem=problem))

        started = time.monotonic()
        store, listed = self._store, self._listing.find(backup)
        opening = open_levels(store, listed, tick=context.cancel.check, told=told)
        findings = opening.findings
        done = store.codec.restore(opening.levels, target, options, context, problem=findings.add)
        if done is None:
            return Restore(opening, options, context).run(target)
        for problem in listed.backup.problems:
            if problem.fatal:
                findings.add(described(problem, problem.path))
        return RestoreResult(
            backup=backup,
            target=target,
            files=done.files,
            directories=done.directories,
            others=done.others,
            bytes=done.bytes,
            duration=round(time.monotonic() - started, 3),
            problems=findings.problems,
        )

    def whole(self, backup: str, context: Context, *, problem: ProblemHandler) -> Whole:
        """One backup, to be read as a whole.

        Raises:
            BackupNotFound, WrongPassword, UnsupportedFormat, StorageError.
            IntegrityError: nothing at all can be read.
        """
        opened = open_backup(self._store, self._listing.find(backup), tick=context.cancel.check, told=problem)
        return Whole(opened)

    def copy(self, source: Repository, backup: str, context: Context, *, dry_run: bool = False) -> CopyResult:
        """Engines with levels do not take copies.

        Raises:
            CapabilityMissing.
        """
        raise CapabilityMissing(f"the engine {self._store.engine} takes no copies of backups")

    def verify(self, backups: Sequence[str], *, read_data: bool, context: Context) -> VerifyResult:
        """Checks that backups are whole; findings are in the result.

        Raises:
            StorageError, WrongPassword, BackupNotFound, Cancelled.
        """
        return Verification(self._store, context).run(backups, read_data=read_data)

    def forget(self, backups: Iterable[str]) -> None:
        """Deletes levels, those first that need others.

        Raises:
            BackupNotFound, StorageError.
            PolicyRefusal: one is held, or needed by one that stays.
        """
        self.retention().forget(dict.fromkeys(backups, _FORGOTTEN))

    def retention(self) -> RetentionService:
        """What retention needs of the repository."""
        return ChainRetention(self._store, self._listing)

    def drills(self) -> ChainDrills:
        """Records of restore drills."""
        return ChainDrills(self._store, self._listing)

    def key_service(self) -> KeyService:
        """There is one password, and it is not stored.

        Raises:
            CapabilityMissing.
        """
        raise CapabilityMissing(f"the engine {self._store.engine} has no keys to administrate")

    def maintenance(self) -> MaintenanceService:
        """Nothing is shared, so there is nothing to prune.

        Raises:
            CapabilityMissing.
        """
        raise CapabilityMissing(f"the engine {self._store.engine} needs no maintenance")

    def close(self) -> None:
        """Releases what is held; the storage stays open."""
        with self._lock:
            self._opened.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, backup: str) -> Opened:
        """For browsing: the last few stay open while they are whole, since it takes reading whole chains."""
        listed = self._listing.find(backup)
        with self._lock:
            known = self._opened.pop(listed.levels, None)
            opened = known or open_backup(self._store, listed)
            if known is None:
                next(iter(opened.content.entries()), None)  # the codec has read all by then
            if not opened.findings.fatal:
                self._opened[listed.levels] = opened
                while len(self._opened) > _KEPT:
                    self._opened.popitem(last=False)
            return opened


def _depth(recorded: bytes, base: bytes) -> int | None:
    """How far a path lies below another one; ``None``: it does not."""
    if recorded == base:
        return 0
    above = base if base.endswith(b"/") else base + b"/"
    return recorded.count(b"/", len(above)) + 1 if recorded.startswith(above) else None
