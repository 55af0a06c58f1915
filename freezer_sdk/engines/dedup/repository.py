"""An open repository of the dedup engine."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from types import TracebackType
from typing import Self

from freezer_sdk.engines.base import Context, Repository, WholeBackup
from freezer_sdk.engines.dedup import features, protocol
from freezer_sdk.engines.dedup.backup import BackupRun
from freezer_sdk.engines.dedup.catalog import Catalog, Listed
from freezer_sdk.engines.dedup.content import ContentReader
from freezer_sdk.engines.dedup.copy import CopyRun, Source
from freezer_sdk.engines.dedup.drills import DrillRecords
from freezer_sdk.engines.dedup.failover import Standby
from freezer_sdk.engines.dedup.firstseen import believed
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.holds import refuse_held
from freezer_sdk.engines.dedup.index import BlobIndex
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.keyservice import DedupKeys
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.losses import NONE, Loss, marked, read_losses
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.restore import Restore
from freezer_sdk.engines.dedup.retaining import Retaining
from freezer_sdk.engines.dedup.several import SeveralReader, restore_from_several
from freezer_sdk.engines.dedup.tree import Node, TreeReader, entry_of
from freezer_sdk.engines.dedup.upkeep.service import DedupMaintenance
from freezer_sdk.engines.dedup.verify import Verification
from freezer_sdk.errors import AccessDenied, BackupNotFound, CapabilityMissing, ConfigurationError, RestoreError
from freezer_sdk.model import (
    Backup,
    BackupOptions,
    CopyResult,
    Entry,
    EntryType,
    Problem,
    RepositoryInfo,
    RepositoryStats,
    RestoreOptions,
    RestoreResult,
    Status,
    VerifyResult,
)
from freezer_sdk.modes.base import ProblemHandler, Protected
from freezer_sdk.storages.base import Reader


class DedupRepository:
    """See :class:`~freezer_sdk.engines.base.Repository`."""

    def __init__(self, handle: Handle, *, problems: Sequence[Problem] = ()) -> None:
        self._handle, self._storage, self._keys = handle, handle.storage, handle.keys
        self.problems = problems
        self._catalog = Catalog(handle)
        self._lock = threading.Lock()
        self._blobs: BlobReader | None = None
        self._looked_for_lost: date | None = None  # the day when packs were compared with the index for a copy

    @property
    def keys(self) -> KeyRing:
        """Secret: for the engine only."""
        return self._keys

    @property
    def handle(self) -> Handle:
        """For the engine only."""
        return self._handle

    def info(self) -> RepositoryInfo:
        """What the repository says about itself."""
        config = self._keys.config
        return RepositoryInfo(
            id=self._keys.repository_id.hex(),
            engine="dedup",
            version=1,
            location=self._storage.location,
            encrypted=self._keys.encrypted,
            created=config.created,
            role=", ".join(sorted(self._keys.roles)),
            features=tuple(sorted({feature for names in config.features.values() for feature in names})),
            details={
                "epoch": self._keys.epoch,
                "grace_seconds": config.grace,
                "slots": len(config.roster),
                "chunker": [{"above": c.above, "average": c.average} for c in config.chunker_classes],
            },
        )

    def stats(self) -> RepositoryStats:
        """Sizes; lists the storage.

        Raises:
            StorageError, IntegrityError.
        """
        kinds: dict[str, dict[str, int]] = {}
        objects = stored = 0
        for item in self._storage.list():
            kind = kinds.setdefault(item.name.split("/", 1)[0], {"objects": 0, "bytes": 0})
            kind["objects"] += 1
            kind["bytes"] += item.size
            objects += 1
            stored += item.size
        index = BlobIndex(trusts=self._keys.trusts)
        reader = BlobReader(self._handle, index)
        for blob_kind in Kind:
            reader.load_index(blob_kind)
        return RepositoryStats(
            backups=len(self.backups()),
            objects=objects,
            stored_bytes=stored,
            blobs=sum(len(section) for section in index.sections),
            raw_bytes=sum(sum(section.lengths) for section in index.sections),
            by_kind=kinds,
        )

    def backup(self, protected: Protected, options: BackupOptions, context: Context) -> Backup:
        """Stores the sources as one backup; partial when some could not be read whole.

        Raises:
            StorageError, RepositoryError, SourceError, Cancelled: nothing was committed.
        """
        if Role.WRITER not in self._keys.roles:
            raise AccessDenied("this key may not write to the repository")
        if not options.dry_run:
            self._announce()
        return BackupRun(self._handle, options, context).run(protected)

    def _announce(self) -> None:
        """Readers must know the compressor before there is anything that it compressed."""
        handle = self._handle
        needed = features.read_features(handle.settings.compression, handle.compressors)
        with self._lock:
            self._use(features.announce(self._storage, self._handle.keys, needed))

    def _use(self, keys: KeyRing) -> None:
        if keys is not self._handle.keys:
            self._handle, self._keys = replace(self._handle, keys=keys), keys
            self._catalog, self._blobs = Catalog(self._handle), None

    def _changed(self, keys: KeyRing) -> None:
        with self._lock:
            self._use(keys)

    def key_service(self) -> DedupKeys:
        """Administration of keys."""
        return DedupKeys(self._handle, self._changed)

    def backups(self) -> Sequence[Backup]:
        """All visible backups, oldest first; those whose commit cannot be read have the status ``damaged``.

        Raises:
            StorageError.
        """
        damaged: list[Listed] = []
        found = believed([commit.backup for commit in self._catalog.visible(damaged)], self._storage, self._keys)
        losses = read_losses(self._storage, self._keys) if found else NONE
        found = [marked(backup, losses) for backup in found]
        found += [
            Backup(id=item.id, time=item.time, host="", name="", mode="", engine="dedup", status=Status.DAMAGED)
            for item in damaged
        ]
        return sorted(found, key=lambda backup: (backup.time, backup.id))

    def entries(self, backup: str, *, path: bytes | None = None, recursive: bool = True) -> Iterator[Entry]:
        """Entries in the order of the tree, parents first.

        Args:
            backup: full id.
            path: absolute; only this entry and what lies below it.
            recursive: ``False``: the entry and what lies directly in it; without a path, the roots.

        Raises:
            BackupNotFound, IntegrityError, StorageError.
        """
        commit = self._catalog.find(backup)
        trees = TreeReader(self._reader())
        depth = None if recursive else (0 if path is None else 1)
        lost = frozenset(read_losses(self._storage, self._keys).backups.get(backup, Loss(())).paths)
        for found, node in trees.walk(commit.root, below=path, depth=depth):
            entry = entry_of(found, node, commit.owners)
            yield replace(entry, incomplete=True) if found in lost else entry

    def open(self, backup: str, path: bytes, *, others: Sequence[Repository] = ()) -> AbstractContextManager[Reader]:
        """The content of one file or stream.

        Raises:
            BackupNotFound, IntegrityError, StorageError, RestoreError: no such file.
        """
        if others:
            return _opened(SeveralReader(self._standbys(backup, others), path))
        return _opened(ContentReader(self._reader(), self._file(backup, path)))

    def _file(self, backup: str, path: bytes) -> Node:
        commit = self._catalog.find(backup)
        node = TreeReader(self._reader()).find(commit.root, path)
        if node is None:
            raise RestoreError(f"the backup has no {path!r}", hint="freezer backup ls shows what it has")
        if entry_of(path, node, commit.owners).type is not EntryType.FILE:
            raise RestoreError(f"{path!r} is not a file")
        return node

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
            RestoreError, BackupNotFound, StorageError, Cancelled. Damage to single items is in the result.
        """
        if not others:
            return Restore(self._handle, self._catalog.find(backup), options, context).run(target)
        return restore_from_several(self._standbys(backup, others), target, options, context)

    def _standbys(self, backup: str, others: Sequence[Repository]) -> list[Standby]:
        """This repository, then others of this engine."""
        places = [self, *(each for each in others if isinstance(each, DedupRepository) and each is not self)]
        return [Standby(each._handle, partial(each._catalog.find, backup)) for each in places]

    def whole(self, backup: str, context: Context, *, problem: ProblemHandler) -> WholeBackup:
        """Backups of this engine are copied, which keeps more of them.

        Raises:
            CapabilityMissing.
        """
        raise CapabilityMissing("backups of the engine dedup are copied, not imported")

    def copy(self, source: Repository, backup: str, context: Context, *, dry_run: bool = False) -> CopyResult:
        """Replicates a backup of another repository here, with all that is recorded about it, its id included.

        Raises:
            BackupNotFound, IntegrityError, ConfigurationError, AccessDenied, StorageError, RepositoryError, Cancelled.
        """
        if Role.WRITER not in self._keys.roles:
            raise AccessDenied("this key may not write to the repository")
        if not isinstance(source, DedupRepository):
            raise ConfigurationError("backups can only be copied from a repository of the engine dedup")
        if source.keys.repository_id == self._keys.repository_id:
            raise ConfigurationError("a repository cannot be copied into itself")
        if not dry_run:
            self._announce()
        run = CopyRun(
            self._handle,
            self._catalog,
            source.opened(backup),
            context,
            look_for_lost=self._looked_for_lost != datetime.now(UTC).date(),
        )
        result = run.run(dry_run=dry_run)
        if run.sound:
            self._looked_for_lost = datetime.now(UTC).date()
        return result

    def opened(self, backup: str) -> Source:
        """For the engine only: a backup with what it is read through.

        Raises:
            BackupNotFound, IntegrityError, StorageError.
        """
        commit = self._catalog.find(backup)
        (known,) = believed([commit.backup], self._storage, self._keys)
        return Source(self._handle, self._catalog, self._reader(), replace(commit, backup=known))

    def verify(self, backups: Sequence[str], *, read_data: bool, context: Context) -> VerifyResult:
        """Checks that backups are whole; findings are in the result.

        Raises:
            StorageError, BackupNotFound, Cancelled.
        """
        return Verification(self._handle.without_cache(), context).run(backups, read_data=read_data)

    def forget(self, backups: Iterable[str]) -> None:
        """Hides backups and leaves their space to maintenance.

        Raises:
            BackupNotFound, AccessDenied, StorageError.
            IntegrityError: two backups have one id.
            PolicyRefusal: one is held.
        """
        if Role.MAINTAINER not in self._keys.roles:
            raise AccessDenied("this key may not forget backups", hint="open the repository with the owner's password")
        ids = list(backups)
        listed = {item.id for item in self._catalog.listed()}  # names are enough: damaged ones can be forgotten too
        for backup in ids:
            if backup not in listed:
                raise BackupNotFound(f"there is no backup {backup}", hint="freezer backup list shows what there is")
        self._catalog.refuse_ambiguous(ids)
        refuse_held(self._storage, self._keys, ids, now=min(self._storage.now(), datetime.now(UTC)))
        for backup in ids:
            protocol.write_tombstone(self._storage, self._keys, backup)
        self._storage.flush()

    def retention(self) -> Retaining:
        """What retention needs of the repository."""
        return Retaining(self._handle, self._catalog)

    def drills(self) -> DrillRecords:
        """Records of restore drills."""
        return DrillRecords(self._storage, self._keys)

    def maintenance(self) -> DedupMaintenance:
        """Pruning and what goes with it."""
        return DedupMaintenance(self._handle, self._changed)

    def close(self) -> None:
        """Releases what is held; the storage stays open."""
        with self._lock:
            self._blobs = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _reader(self) -> BlobReader:
        """One reader for browsing, so that repeated calls load the index once."""
        with self._lock:
            if self._blobs is None:
                self._blobs = self._new_reader()
            return self._blobs

    def _new_reader(self) -> BlobReader:
        return BlobReader(self._handle, BlobIndex(trusts=self._handle.keys.trusts))


@contextmanager
def _opened(reader: Reader) -> Iterator[Reader]:
    yield reader
