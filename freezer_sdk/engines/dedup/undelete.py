"""Bringing a forgotten backup back: a new backup of the same content, under the same rules as any other.

A tombstone is for ever, so what comes back has another id. That follows from the old one: done twice, or in two
repositories that hold the same backup, it gives the same backup.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.ahead import ReadAhead
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.firstseen import believed
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import backup_name
from freezer_sdk.engines.dedup.replica import Replica
from freezer_sdk.engines.dedup.session import WriteSession
from freezer_sdk.engines.dedup.undecided import refuse_undecided
from freezer_sdk.errors import BackupNotFound, IntegrityError, ObjectExists
from freezer_sdk.model import Backup, Event, Problem

_DOMAIN: Final = b"freezer-sdk/1/undelete\0"
_EVENT_EVERY: Final = 0.1  # seconds


def successor(backup_id: str) -> str:
    """The id under which a forgotten backup comes back."""
    return hashlib.sha256(_DOMAIN + bytes.fromhex(backup_id)).hexdigest()[:32]


def find_forgotten(catalog: Catalog, backup_id: str, sweeps: protocol.Sweeps) -> Commit:
    """The commit of a forgotten backup that maintenance has not let go yet.

    Raises:
        BackupNotFound: there is none, or not any more.
        IntegrityError: it cannot be read; AccessDenied, StorageError.
    """
    same = [item for item in catalog.listed(with_forgotten=True) if item.id == backup_id]
    found = catalog.judge(same, sweeps)
    for commit in found.counting.values():
        return commit
    for _item, error in found.damaged:
        raise error
    raise _let_go(backup_id)


class UndeleteRun:
    """Brings one backup back. Call :meth:`run` once."""

    def __init__(self, handle: Handle, catalog: Catalog, backup_id: str, context: Context) -> None:
        self._handle, self._catalog, self._context = handle, catalog, context
        self._id = backup_id
        self._session: WriteSession | None = None
        self._replica: Replica | None = None
        self._next_event = 0.0

    def run(self) -> Backup:
        """Copies what would be lost, and commits anew; gives the backup that is there already if there is one.

        Raises:
            BackupNotFound: a sweep has let it go.
            IntegrityError: something of it is damaged.
            AccessDenied, LeaseLost, StorageError, Cancelled.
        """
        handle, keys = self._handle, self._handle.keys
        keys.require_role(Role.WRITER)
        keys.require_role(Role.MAINTAINER)  # it was a maintainer's decision
        old = find_forgotten(self._catalog, self._id, protocol.read_sweeps(handle.storage, keys))
        while True:
            new_id = self._free_id(old)
            if isinstance(new_id, Backup):
                return new_id
            try:
                return self._bring_back(backup_name(old.backup.time, new_id), new_id)
            except ObjectExists:  # somebody else does the same
                continue

    def _bring_back(self, name: str, new_id: str) -> Backup:
        with WriteSession(
            self._handle, self._context, name, given=True, problem=self._problem, catalog=self._catalog
        ) as session:
            self._session = session
            session.look()
            try:
                commit = self._store(session, new_id)
            except IntegrityError as error:
                raise self._explained(error, session.generation) from error
            session.commit(commit)
        return commit.backup

    def _free_id(self, old: Commit) -> str | Backup:
        """The next id of the chain that nothing has, or the backup that has come back already."""
        candidate = successor(self._id)
        while True:
            if not protocol.forgotten(self._handle.storage, self._handle.keys, among={candidate}):
                try:
                    found = self._catalog.find(candidate)
                    name = backup_name(found.backup.time, candidate)
                    refuse_undecided(self._handle.storage, self._handle.keys, candidate, {name: found.generation})
                    return found.backup
                except BackupNotFound:
                    if self._catalog.by_name(backup_name(old.backup.time, candidate)) is None:
                        return candidate
                    # an attempt that does not count
            candidate = successor(candidate)

    def _store(self, session: WriteSession, new_id: str) -> Commit:
        """Everything that is needed, out of reach of the next sweep.

        What lies in unmarked packs is relied upon as by any backup: after the lease, blob by blob, and only in packs
        that are there. The rest is read and stored again.
        """
        storage, keys, settings = self._handle.storage, self._handle.keys, self._handle.settings
        old = find_forgotten(self._catalog, self._id, protocol.read_sweeps(storage, keys))  # after the lease
        session.lost_packs(None)
        writer, blobs = session.write(), session.reader
        threads = min(settings.threads or os.cpu_count() or 2, storage.max_parallel)
        with ReadAhead(
            blobs, threads=threads, segments=max(threads, settings.queue_size >> 20), tick=self._tick
        ) as ahead:
            self._replica = Replica(blobs, blobs, writer, tick=self._tick)
            self._replica.copy(old.root, None, ahead)
        session.finish()
        self._event()
        (original,) = believed([old.backup], storage, keys)
        return dataclasses.replace(
            old,
            backup=dataclasses.replace(original, id=new_id),
            generation=session.generation,
            lease=session.lease,
            indexes=tuple(writer.indexes),
            seen=original.first_seen,
        )

    def _explained(self, error: IntegrityError, generation: int) -> IntegrityError | BackupNotFound:
        """Was it the sweep, or is it damage?"""
        sweeps = protocol.read_sweeps(self._handle.storage, self._handle.keys)
        try:
            find_forgotten(self._catalog, self._id, sweeps)
        except BackupNotFound as gone:
            return gone
        except IntegrityError:
            return error
        return _let_go(self._id) if sweeps.generation > generation else error

    # -- progress ------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        assert self._session is not None
        self._session.keep()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            self._event()

    def _event(self) -> None:
        replica, writing = self._replica, None if self._session is None else self._session.writing
        self._context.events(
            Event(
                kind="progress",
                operation="undelete",
                files=0 if replica is None else replica.files,
                bytes=0 if replica is None else replica.read_bytes,
                added_bytes=0 if writing is None else writing.added_bytes,
            )
        )

    def _problem(self, problem: Problem) -> None:
        self._context.events(Event(kind="problem", operation="undelete", path=problem.path, problem=problem))


def _let_go(backup_id: str) -> BackupNotFound:
    return BackupNotFound(
        f"backup {backup_id} cannot come back: maintenance has let go of what it needs",
        hint="another repository may have a copy: freezer backup copy",
    )
