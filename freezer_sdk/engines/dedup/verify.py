"""Verification: is everything there, does everything refer to something whole, is every byte what it was."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import audit
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import Place
from freezer_sdk.engines.dedup.inspection import PackInspector
from freezer_sdk.engines.dedup.inventory import Inventory, read_backups
from freezer_sdk.engines.dedup.layout import Kind, digest_of
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.structure import Places, Structure
from freezer_sdk.errors import IntegrityError, ObjectNotFound
from freezer_sdk.model import Event, Problem, VerifyResult
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.streams.pool import WorkerPool

_EVENT_EVERY = 0.1


@dataclass(slots=True)
class _Figures:
    objects: int = 0
    blobs: int = 0
    bytes_read: int = 0


class Verification:
    """One verification of a repository, or of some of its backups."""

    def __init__(self, handle: Handle, context: Context) -> None:
        self._handle, self._context = handle, context
        self._catalog = Catalog(handle)
        self._inspector = PackInspector(handle, context.cancel.check)
        self._inventory = Inventory(handle, self._report, context.cancel.check)
        threads = max(2, handle.settings.threads or os.cpu_count() or 2)
        self._pool = WorkerPool("freezer-verify", threads=threads, budget=2 * threads, cancel=context.cancel)
        self._lock = threading.Lock()
        self._problems: list[Problem] = []
        self._figures = _Figures()
        self._damaged: dict[bytes, dict[bytes, Place]] = {}
        self._next_event = 0.0

    def run(self, backups: Sequence[str], *, read_data: bool) -> VerifyResult:
        """Looks at chosen backups, or at everything that the storage holds.

        Raises:
            StorageError, BackupNotFound, Cancelled.
        """
        started, inventory = time.monotonic(), self._inventory
        try:
            commits = [self._catalog.find(backup) for backup in backups] if backups else self._everything()
            inventory.load()
            self._figures.objects += len(inventory.indexes)
            for name, message in inventory.damaged_indexes.items():
                self._problem(name, "damaged", message)
            reader = inventory.reader(self._handle)
            chosen = self._walk(reader, commits) if backups else None
            self._look_at_packs(None if chosen is None else chosen.places.needed, read_data=read_data)
            # once more, now that it is known what is damaged
            self._name_affected(self._walk(reader, commits) if chosen is None or self._damaged else chosen, commits)
        finally:
            self._pool.close()
        return VerifyResult(
            backups=len(commits),
            objects=self._figures.objects,
            blobs=self._figures.blobs,
            bytes_read=self._figures.bytes_read,
            read_data=read_data,
            duration=round(time.monotonic() - started, 3),
            problems=tuple(self._problems),
        )

    # -- objects -------------------------------------------------------------------------------------------

    def _everything(self) -> list[Commit]:
        for finding in audit.audit(self._handle.storage, self._handle.keys):
            self._report(finding)
        found = read_backups(self._handle, self._catalog, self._report)
        for forged in found.forged:
            self._report(Problem(path=forged.listed.name, kind="forged", message=forged.why, fatal=False))
        for item, error in (*found.damaged, *found.remains):
            self._problem(item.name, "damaged", str(error))
        self._figures.objects += found.count - len(found.damaged) - len(found.remains)
        return found.visible

    def _walk(self, reader: BlobReader, commits: Sequence[Commit]) -> Structure:
        """Follows backups to all of their data, as far as is known."""
        structure = Structure(Places(reader, self._inventory.sizes, self._damaged), self._tick)
        for commit in commits:
            structure.whole(commit.root)
        return structure

    def _look_at_packs(self, needed: dict[bytes, set[int]] | None, *, read_data: bool) -> None:
        for kind, packs in self._inventory.packs.items():
            for digest, info in packs.items():
                if needed is None or digest in needed:
                    segments = None if needed is None else needed[digest]
                    self._pool.submit(self._look_at_pack, kind, info, segments, read_data)
                    self._progress(info.name)
        self._pool.drain()

    def _look_at_pack(self, kind: Kind, info: ObjectInfo, needed: set[int] | None, read_data: bool) -> None:
        faults: Sequence[str] = ()
        try:
            if read_data:
                whole = self._inspector.read(kind, info, needed)
                faults = whole.faults
                self._count(blobs=whole.blobs, bytes_read=whole.bytes_read)
            else:
                self._inspector.table(kind, info)
        except ObjectNotFound:
            self._problem(info.name, "missing", "vanished while it was looked at")
            return
        except IntegrityError as error:
            faults = (error.message,)
        self._count(objects=1)
        for fault in faults:
            self._problem(info.name, "damaged", fault)
        if faults:
            good = {found.blob: found.place for found in self._inspector.recover(kind, info)}
            with self._lock:
                self._damaged[digest_of(info.name) or b""] = good

    def _name_affected(self, structure: Structure, commits: Sequence[Commit]) -> None:
        """Which paths of which backups cannot be restored."""
        for commit in commits:
            for path, fault in structure.affected(commit.root):
                self._problem(f"{commit.backup.id[:8]}:{os.fsdecode(path)}", "damaged", fault.message)

    # -- reports -------------------------------------------------------------------------------------------

    def _tick(self, name: bytes) -> None:
        self._progress(os.fsdecode(name))

    def _count(self, *, objects: int = 0, blobs: int = 0, bytes_read: int = 0) -> None:
        with self._lock:
            self._figures.objects += objects
            self._figures.blobs += blobs
            self._figures.bytes_read += bytes_read

    def _problem(self, path: str, kind: str, message: str) -> None:
        self._report(Problem(path=path, kind=kind, message=message))

    def _report(self, problem: Problem) -> None:
        with self._lock:
            self._problems.append(problem)
        self._context.events(Event(kind="problem", operation="verify", path=problem.path, problem=problem))

    def _progress(self, path: str | None) -> None:
        self._context.cancel.check()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            figures = self._figures
            self._context.events(
                Event(kind="progress", operation="verify", path=path, files=figures.objects, bytes=figures.bytes_read)
            )
