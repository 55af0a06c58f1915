"""Verification: is every level there that something needs, is it what was stored, and does it decode."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.catalog import leftovers
from freezer_sdk.engines.chains.findings import Findings
from freezer_sdk.engines.chains.items import sound
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.listing import Listed, Listing
from freezer_sdk.engines.chains.reading import Opened, open_backup
from freezer_sdk.engines.chains.record import Record, Stored
from freezer_sdk.engines.chains.removal import counts
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import BackupNotFound, IntegrityError, ObjectNotFound, UnsupportedFormat
from freezer_sdk.model import Entry, EntryType, Event, Problem, VerifyResult

_EVENT_EVERY: Final = 0.1  # seconds
_UNCOUNTED: Final = (
    "is missing: the level is recorded as whole, and is no backup any more without it, nor are those above it"
)


class Verification:
    """One verification of a store, or of some of its backups."""

    def __init__(self, store: Store, context: Context) -> None:
        self._store, self._context = store, context
        self._listing = Listing(store)  # a new one: what was read before is to be looked at again
        self._findings = Findings(self._tell)
        self._objects = self._bytes = 0
        self._read: set[LevelId] = set()
        self._next_event = 0.0

    def run(self, backups: Sequence[str], *, read_data: bool) -> VerifyResult:
        """Looks at chosen backups and what they need, or at everything that the store holds.

        Raises:
            StorageError, WrongPassword, BackupNotFound, Cancelled.
        """
        started = time.monotonic()
        chosen = self._chosen(backups)
        levels = list(dict.fromkeys(level for listed in chosen for level in listed.levels))
        records = {each.level: each for each in self._listing.read()}
        for level in levels:
            self._progress(level.path)
            self._level(level, records[level], read_data=read_data)
        for listed in chosen:
            for number in listed.missing:
                self._problem(listed.level.path, "missing", f"needs level {number} of its chain, which is not there")
        if read_data:
            self._decode(chosen)
        return VerifyResult(
            backups=len(chosen),
            objects=self._objects,
            bytes_read=self._bytes,
            read_data=read_data,
            duration=round(time.monotonic() - started, 3),
            problems=self._findings.problems,
        )

    def _chosen(self, backups: Sequence[str]) -> Sequence[Listed]:
        if backups:
            by_id = {each.backup.id: each for each in self._listing.read()}
            for backup in backups:
                if backup not in by_id:
                    raise BackupNotFound(f"there is no backup {backup}")
            return [by_id[backup] for backup in dict.fromkeys(backups)]
        catalog = self._listing.catalog()
        for problem in catalog.problems:
            self._findings.add(problem)
        for leftover in leftovers(self._store.storage, self._store.codec.folder):
            if leftover.uncounted and not counts(self._store.storage, leftover.level):
                self._problem(leftover.level.metadata, "missing", _UNCOUNTED)
            else:
                message = "not finished: a run was interrupted, or is at work"
                self._findings.add(Problem(path=leftover.level.path, kind="leftover", message=message, fatal=False))
        return self._listing.read(catalog)

    # -- objects -------------------------------------------------------------------------------------------

    def _level(self, level: LevelId, listed: Listed, *, read_data: bool) -> None:
        if listed.fault is not None:
            self._problem(level.record, "locked" if listed.locked else "damaged", listed.fault)
        stream, record = self._store.coding.stream(level), listed.record
        with_record = record is not None
        self._checked(level.metadata, lambda: self._metadata(level, record))
        self._checked(level.data, lambda: self._size(level.data, record.data if record else None))
        if with_record or self._there(level.engine_metadata):
            self._checked(
                level.engine_metadata, lambda: self._size(level.engine_metadata, record.state if record else None)
            )
            if read_data:
                self._checked(level.engine_metadata, stream.state)
        else:
            message = "is missing: nothing can be added to its chain"
            self._findings.add(Problem(path=level.engine_metadata, kind="missing", message=message, fatal=False))

    def _metadata(self, level: LevelId, record: Record | None) -> None:
        data = self._store.coding.small(level.metadata) or b""
        if record is not None and Stored(size=len(data), sha256=hashlib.sha256(data).hexdigest()) != record.metadata:
            raise IntegrityError("it is not what was stored")
        _ = self._store.coding.stream(level).compression
        self._objects += 1

    def _size(self, name: str, expected: Stored | None) -> None:
        size = self._store.storage.stat(name).size
        unknown = size == 0 and self._store.storage.capabilities.segmented_uploads  # joined segments need not have one
        if expected is not None and size != expected.size and not unknown:
            raise IntegrityError(f"it has {size} bytes instead of {expected.size}")
        self._objects += 1

    def _there(self, name: str) -> bool:
        try:
            self._store.storage.stat(name)
        except ObjectNotFound:
            return False
        return True

    def _checked(self, name: str, look: Callable[[], object]) -> None:
        self._context.cancel.check()
        try:
            look()
        except ObjectNotFound:
            self._problem(name, "missing", "is missing")
        except (IntegrityError, UnsupportedFormat) as error:
            self._problem(name, "damaged", error.message)

    # -- streams -------------------------------------------------------------------------------------------

    def _decode(self, chosen: Sequence[Listed]) -> None:
        """Each stream once; where that finds damage, every backup that may be affected is looked at by itself.

        So is one without hashes whose files lie in several levels: each may be put together wrongly by itself.
        """
        damaged: set[LevelId] = set()
        layered = self._store.codec.layered
        for listed in sorted(chosen, key=lambda each: len(each.levels), reverse=True):
            alone = layered and listed.record is None
            if not alone and self._read.issuperset(listed.levels) and damaged.isdisjoint(listed.levels):
                continue
            if not self._whole(listed):
                damaged.update(listed.levels)

    def _whole(self, listed: Listed) -> bool:
        """Reads a backup to its last byte; whether it is whole."""
        found = Findings()
        opened: Opened | None = None
        try:
            opened = open_backup(self._store, listed, tick=self._tick, told=found.add)
            self._files(opened, found)
        except (IntegrityError, UnsupportedFormat) as error:
            found.add(Problem(path=listed.level.data, kind="damaged", message=error.message))
        told = {problem.path for problem in found.problems}
        for level in opened.levels if opened else ():
            if not level.ended and level.id not in self._read and level.id.data not in told:
                try:
                    level.drain()
                except (IntegrityError, UnsupportedFormat) as error:
                    found.add(Problem(path=level.id.data, kind="damaged", message=error.message))
        for each in listed.levels:
            if each not in self._read:
                self._read.add(each)
                self._bytes += self._stored_size(each)
        streams = {each.data for each in listed.levels}
        for problem in found.problems:
            if (problem.fatal or problem.path in streams) and problem.kind != "missing":
                path = f"{listed.backup.id[:8]}:{problem.path}"
                self._findings.add(replace(problem, path=path))
        return not any(problem.fatal for problem in found.problems)

    def _files(self, opened: Opened, found: Findings) -> None:
        def refused(entry: Entry, error: Exception) -> None:
            found.add(Problem(path=_shown(entry.path), kind="damaged", message=str(error)))

        missing: set[bytes] = set()
        groups: set[bytes] = set()
        for entry in sound(opened.content.entries(), refused):
            if entry.type is not EntryType.FILE or not entry.size or entry.link_group in groups:
                continue
            missing.add(entry.path)
            if entry.link_group is not None:  # it comes under its first name
                groups.add(entry.link_group)
        for piece in opened.content.pieces(missing.__contains__):
            self._progress(_shown(piece.path))
            if piece.last:
                missing.discard(piece.path)
        for path in sorted(missing):
            found.add(Problem(path=_shown(path), kind="damaged", message="its content is lost"))

    def _stored_size(self, level: LevelId) -> int:
        try:
            return self._store.storage.stat(level.data).size
        except ObjectNotFound:
            return 0

    # -- reports -------------------------------------------------------------------------------------------

    def _problem(self, path: str, kind: str, message: str) -> None:
        self._findings.add(Problem(path=path, kind=kind, message=message))

    def _tell(self, problem: Problem) -> None:
        self._context.events(Event(kind="problem", operation="verify", path=problem.path, problem=problem))

    def _tick(self) -> None:
        self._progress(None)

    def _progress(self, path: str | None) -> None:
        self._context.cancel.check()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            self._context.events(
                Event(kind="progress", operation="verify", path=path, files=self._objects, bytes=self._bytes)
            )


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
