"""A copy run: one backup of another repository stored here, under the same rules as a backup of this machine."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.ahead import ReadAhead
from freezer_sdk.engines.dedup.catalog import Catalog, Listed
from freezer_sdk.engines.dedup.chunker import Chunkers
from freezer_sdk.engines.dedup.commit import Commit, Origin
from freezer_sdk.engines.dedup.earlier import Pair
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.ingest import Ingest
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import Kind, backup_name
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.replica import Replica
from freezer_sdk.engines.dedup.session import WriteSession
from freezer_sdk.engines.dedup.translate import Translation
from freezer_sdk.engines.dedup.undecided import refuse_undecided
from freezer_sdk.errors import IntegrityError, ObjectExists, RepositoryError
from freezer_sdk.model import Backup, CopyOutcome, CopyResult, Event, Problem

_EVENT_EVERY = 0.1  # seconds
_BLOCK = 4 << 20  # bytes cut at once


class Source(NamedTuple):
    """What is copied.

    Attributes:
        handle: of the repository that it is in.
        catalog, blobs: of the same.
    """

    handle: Handle
    catalog: Catalog
    blobs: BlobReader
    commit: Commit

    @property
    def repository(self) -> str:
        """Id of the repository."""
        return self.handle.keys.repository_id.hex()


class CopyRun:
    """One copy of one backup. Call :meth:`run` once.

    Args:
        handle, catalog: of the repository that the copy goes to.
        look_for_lost: compare the listing of packs with the index.

    Attributes:
        sound: that was done, and nothing is lost.
    """

    sound = False

    def __init__(
        self, handle: Handle, catalog: Catalog, source: Source, context: Context, *, look_for_lost: bool = True
    ) -> None:
        self._handle, self._keys, self._catalog = handle, handle.keys, catalog
        self._source, self._context = source, context
        self._look_for_lost = look_for_lost
        self._alike = self._keys.meta_hash_key() == source.handle.keys.meta_hash_key()
        self._work: Replica | Translation | None = None
        self._ingest: Ingest | None = None
        self._session: WriteSession | None = None
        self._next_event = 0.0
        self._started = time.monotonic()

    @property
    def _backup(self) -> Backup:
        return self._source.commit.backup

    def run(self, *, dry_run: bool) -> CopyResult:
        """Copies, unless it is here already.

        Raises:
            StorageError, RepositoryError, Cancelled: nothing was committed.
        """
        known = self._known()
        if known is not None:
            return CopyResult(backup=self._backup, outcome=known)
        if dry_run:
            return CopyResult(backup=self._backup, outcome=CopyOutcome.MISSING)
        name = backup_name(self._backup.time, self._backup.id)
        with WriteSession(
            self._handle, self._context, name, given=True, problem=self._problem, catalog=self._catalog
        ) as session:
            self._session = session
            session.look()
            known = self._known()  # now that the lease is seen
            if known is None:
                try:
                    session.commit(self._store(session))
                except ObjectExists:  # somebody else has copied it meanwhile
                    known = self._known() or CopyOutcome.PRESENT
        return self._result(known or CopyOutcome.COPIED)

    def _known(self) -> CopyOutcome | None:
        """What the target says about a backup of this id.

        Raises:
            RepositoryError: it is there, but does not count, or cannot be read.
        """
        backup = self._backup
        if protocol.is_forgotten(self._handle.storage, self._keys, backup.id):
            return CopyOutcome.FORGOTTEN
        listed = [item for item in self._catalog.listed(with_forgotten=True, strict=False) if item.id == backup.id]
        if not listed:
            unlisted = self._catalog.by_name(backup_name(backup.time, backup.id))
            if unlisted is None:
                return None
            listed = [unlisted]
        if Role.READER not in self._keys.roles:
            return CopyOutcome.PRESENT
        found = self._catalog.judge(listed)
        counting = {
            name: commit.generation
            for name, commit in found.counting.items()
            if self._keys.trusts(commit.signer) or self._is_same(commit)
        }
        if counting:
            refuse_undecided(self._handle.storage, self._keys, backup.id, counting)
            return CopyOutcome.PRESENT
        for _item, error in found.damaged:
            raise IntegrityError(
                f"backup {backup.short_id} is there already, but damaged: {error}",
                hint="freezer backup verify says what else is damaged in the repository that is copied to",
            ) from None
        if found.void:
            raise RepositoryError(
                f"backup {backup.short_id} is there already, but does not count: its writer was away for too long",
                hint="it can be copied again when maintenance has removed what is left of it",
            )
        name = backup_name(backup.time, backup.id)
        if any(item.name == name for item in listed):
            raise RepositoryError(
                f"{name} was stored by a slot that is not trusted, and is not this backup",
                hint="freezer repository key list shows the slots; remove the object from the storage to copy it again",
            )
        return None  # only what somebody put there who had no right to this id

    def _is_same(self, commit: Commit) -> bool:
        """Whether somebody who is not trusted has copied the same; where names of content agree, they prove it."""
        ours = self._source.commit
        known = dataclasses.replace(commit.backup, first_seen=ours.backup.first_seen)
        return self._alike and (commit.root, known) == (ours.root, ours.backup)

    def _store(self, session: WriteSession) -> Commit:
        parent, pair = self._parent()
        session.reader.load_index(Kind.META)
        if self._look_for_lost or session.damage_known:
            if session.lost_packs(parent):
                parent = pair = None
            self.sound = not session.lost
        if parent is not None and not session.stays(parent):
            parent = pair = None
        writer, source = session.write(), self._source
        settings = self._handle.settings
        threads = min(settings.threads or os.cpu_count() or 2, source.handle.storage.max_parallel)
        with ReadAhead(
            source.blobs, threads=threads, segments=max(threads, settings.queue_size >> 20), tick=self.tick
        ) as ahead:
            root = source.commit.root
            if self._alike:
                self._work = replica = Replica(source.blobs, session.reader, writer, tick=self.tick)
                copied = replica.copy(root, None if parent is None else parent.root, ahead)
            else:
                chunkers = Chunkers(self._keys.chunker_seed, self._keys.config.chunker_classes)
                self._ingest = Ingest(writer, chunkers, self, min(_BLOCK, settings.queue_size))
                self._work = translation = Translation(
                    source.blobs, session.reader, writer, self._ingest, tick=self.tick
                )
                copied = translation.copy(root, pair, ahead)
        session.finish()
        self._event()
        return dataclasses.replace(
            source.commit,
            root=copied,
            generation=session.generation,
            lease=session.lease,
            indexes=tuple(writer.indexes),
            seen=source.commit.backup.first_seen,
            origin=Origin(source.repository, root),
        )

    def _parent(self) -> tuple[Commit | None, Pair | None]:
        """A backup of the target's that most of this one may be found in, and where the same lies in the source.

        The newest of the same host and roots, or else of the same host and name. Where names of content differ, only
        one will do that the source knows too.
        """
        if Role.READER not in self._keys.roles:
            return None, None
        mine = self._backup
        ids: dict[str, list[Listed]] = {}
        if not self._alike:
            for item in self._source.catalog.listed(strict=False):
                ids.setdefault(item.id, []).append(item)
        best: tuple[Commit | None, Pair | None] = None, None
        for commit in self._catalog.visible([], newest_first=True, strict=False):
            backup = commit.backup
            if backup.host != mine.host or not self._keys.trusts(commit.signer):
                continue
            near = set(mine.paths) <= set(backup.paths)
            if not near and (best[0] is not None or backup.name != mine.name):
                continue
            pair = None
            if not self._alike:
                pair = self._pair(commit, ids)
                if pair is None:
                    continue
            if near:
                return commit, pair
            best = commit, pair
        return best

    def _pair(self, commit: Commit, ids: Mapping[str, Sequence[Listed]]) -> Pair | None:
        """Where the same lies in the source, by the word of slots that are trusted there."""
        origin = commit.origin
        if origin is not None and origin.repository == self._source.repository:
            return Pair(origin.root, commit.root, exact=True)
        source = self._source
        twins = source.catalog.judge(ids[commit.backup.id]).counting if commit.backup.id in ids else {}
        trusted = [twin for twin in twins.values() if source.handle.keys.trusts(twin.signer)]
        return Pair(trusted[0].root, commit.root, exact=False) if len(trusted) == 1 else None

    # -- progress ------------------------------------------------------------------------------------------

    def tick(self, path: bytes | None = None) -> None:
        """Cancellation, the lease, and now and then a progress event."""
        assert self._session is not None
        self._session.keep()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            self._event()

    def _event(self) -> None:
        result = self._result(CopyOutcome.COPIED)
        self._context.events(
            Event(
                kind="progress",
                operation="copy",
                files=0 if self._work is None else self._work.files,
                bytes=result.read_bytes,
                added_bytes=result.added_bytes,
            )
        )

    def _result(self, outcome: CopyOutcome) -> CopyResult:
        writer = None if self._session is None else self._session.writing
        read = self._work.read_bytes if isinstance(self._work, Replica) else 0
        if self._ingest is not None:
            read = self._ingest.read_bytes + self._ingest.under_way
        return CopyResult(
            backup=self._backup,
            outcome=outcome,
            read_bytes=read,
            added_bytes=0 if writer is None else writer.added_bytes,
            added_raw_bytes=0 if writer is None else writer.added_raw_bytes,
            duration=round(time.monotonic() - self._started, 3),
        )

    def _problem(self, problem: Problem) -> None:
        """About the target: the backup's own problems stay what they were."""
        self._context.events(Event(kind="problem", operation="copy", path=problem.path, problem=problem))
