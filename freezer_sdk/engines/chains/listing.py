"""The backups of a store: every level that counts, with what is recorded of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from freezer_sdk.engines.chains.catalog import Catalog, Chain
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.record import Record, unrecorded
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import BackupNotFound, IntegrityError, WrongPassword
from freezer_sdk.model import Backup, Problem, Status

_Found = Record | str | WrongPassword | None
"""A record, or why there is none; ``None``: the original made the level."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A level as a backup.

    Attributes:
        record: ``None``: the original made it, or ``fault`` says what is wrong with the record.
        locked: the record opens with another password only; ``fault`` says so.
        missing: numbers of the levels below it that are not there.
    """

    level: LevelId
    chain: Chain
    backup: Backup
    record: Record | None
    fault: str | None
    locked: bool
    missing: tuple[int, ...]

    @property
    def levels(self) -> tuple[LevelId, ...]:
        """What a restore reads, as far as it is there."""
        return self.chain.present(self.level)


class Listing:
    """Reads the catalog anew each time; records, which never change, once. May be used from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._records: dict[LevelId, _Found] = {}

    def catalog(self) -> Catalog:
        """What there is.

        Raises:
            StorageError.
        """
        return Catalog.read(self._store.storage, self._store.codec.folder)

    def read(self, catalog: Catalog | None = None) -> Sequence[Listed]:
        """All backups, the oldest first.

        Each series may have a password of its own: what is sealed with another one is listed as locked.

        Raises:
            WrongPassword: everything is sealed with another one.
            StorageError.
        """
        catalog = catalog or self.catalog()
        records = _readable(self._load(catalog.levels))
        ids = _ids(catalog.levels, records)
        found = [
            _listed(level, chain, records[level], ids) for chain in catalog.chains for level in chain.levels
        ]  # a level is in one chain only
        return sorted(found, key=lambda each: (each.backup.time, each.level.time, each.backup.id))

    def find(self, backup: str) -> Listed:
        """One backup by its full id.

        Raises:
            BackupNotFound, WrongPassword, StorageError.
        """
        for each in self.read():
            if each.backup.id == backup:
                return each
        raise BackupNotFound(f"there is no backup {backup}", hint="freezer backup list shows what there is")

    def _load(self, levels: Sequence[LevelId]) -> Mapping[LevelId, _Found]:
        with self._lock:
            known = dict(self._records)
        new = [level for level in levels if level not in known]
        threads = max(1, min(self._store.storage.max_parallel, 4 * (os.cpu_count() or 2), len(new)))
        if threads == 1:
            known.update((level, self._record(level)) for level in new)
        else:
            with ThreadPoolExecutor(threads, thread_name_prefix="freezer-records") as pool:
                known.update(zip(new, pool.map(self._record, new), strict=True))
        found = {level: known[level] for level in levels}
        with self._lock:  # what cannot be read now may be mended the next time
            self._records = {
                level: known for level, known in found.items() if known is None or isinstance(known, Record)
            }
        return found

    def _record(self, level: LevelId) -> _Found:
        try:
            record = self._store.coding.record(level)
        except WrongPassword as error:
            return error
        except IntegrityError as error:
            return error.message
        if record is None and level.sealed:  # the original, whose levels have none, never sealed anything
            return f"{level.record} is missing"
        return record


def _readable(
    records: Mapping[LevelId, _Found],
) -> Mapping[LevelId, _Found]:
    """Records, and why there is none; raises WrongPassword where none can be read."""
    refused = [each for each in records.values() if isinstance(each, WrongPassword)]
    if refused and len(refused) == len(records):
        raise refused[0]
    return records


def _ids(levels: Iterable[LevelId], records: Mapping[LevelId, _Found]) -> Mapping[LevelId, str]:
    """Ids of backups; a level that was copied beside another one does not have its id as well."""
    taken: set[str] = set()
    ids: dict[LevelId, str] = {}
    for level in levels:
        record = records[level]
        own = record.backup.id if isinstance(record, Record) else level.default_id
        ids[level] = own if own not in taken else level.default_id
        taken.add(ids[level])
    return ids


def _listed(level: LevelId, chain: Chain, record: _Found, ids: Mapping[LevelId, str]) -> Listed:
    present = chain.present(level)
    missing = tuple(sorted(set(range(level.level)) - {each.level for each in present}))
    bottom = replace(level, level=0, time=chain.time)
    parent = present[-2] if len(present) > 1 else None
    if isinstance(record, Record):
        backup, fault = record.backup, None
    else:
        backup = unrecorded(level, chain=bottom, parent=parent)
        fault = record.message if isinstance(record, WrongPassword) else record
    listed = Listed(
        level=level,
        chain=chain,
        backup=replace(
            backup,
            id=ids[level],
            chain=ids.get(present[0] if present[0].level == 0 else bottom, bottom.default_id),
            parent=None if parent is None else ids[parent],
            status=Status.LOCKED
            if isinstance(record, WrongPassword)
            else Status.DAMAGED
            if missing or fault is not None
            else backup.status,
        ),
        record=record if isinstance(record, Record) else None,
        fault=fault,
        locked=isinstance(record, WrongPassword),
        missing=missing,
    )
    found = [replace(problem, fatal=False) for problem in faults(listed)]
    return replace(listed, backup=replace(listed.backup, problems=(*listed.backup.problems, *found)))


def faults(listed: Listed) -> Sequence[Problem]:
    """What is known to be wrong with a backup before its streams are read."""
    found = [
        Problem(
            path=f"{listed.chain.folder}/{listed.chain.series}/{listed.chain.time}",
            kind="missing",
            message=f"level {number} of the chain is missing: what it held is lost, and files that changed in it are "
            "not whole",
        )
        for number in listed.missing
    ]
    if listed.fault is not None:
        kind = "locked" if listed.locked else "damaged"
        found.append(Problem(path=listed.level.record, kind=kind, message=listed.fault, fatal=False))
    return found
