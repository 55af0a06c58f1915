"""Which backups there are: commits that are neither forgotten nor void nor forged."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from freezer_sdk.engines.dedup import control, documents, protocol
from freezer_sdk.engines.dedup.commit import Commit, decode_commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import BACKUPS, backup_name, parse_backup_name
from freezer_sdk.engines.dedup.unlisted import find_object, short_listing, warn
from freezer_sdk.errors import BackupNotFound, IntegrityError, RepositoryError, UnsupportedFormat
from freezer_sdk.storages.base import ObjectInfo

COMMIT = "backup"
"""Kind of control object that a commit is."""

_AHEAD = timedelta(days=1)  # how far a writer's clock may be ahead of the storage's


class Listed(NamedTuple):
    """A commit object as listed.

    Attributes:
        modified: by the storage's clock.
    """

    time: datetime
    id: str
    name: str
    size: int
    modified: datetime


class Forged(NamedTuple):
    """A commit that its signer had no right to make.

    Attributes:
        why: said of the commit.
    """

    listed: Listed
    commit: Commit
    why: str


@dataclass
class Judged:
    """What commit objects of one id are.

    Attributes:
        damaged: with the reason each.
    """

    counting: dict[str, Commit] = field(default_factory=dict)
    void: list[Listed] = field(default_factory=list)
    forged: list[Forged] = field(default_factory=list)
    damaged: list[tuple[Listed, RepositoryError]] = field(default_factory=list)


class Catalog:
    """Reads commits; each is opened once."""

    def __init__(self, handle: Handle) -> None:
        self._storage, self._keys = handle.storage, handle.keys
        self._lock = threading.Lock()
        self._opened: dict[str, Commit] = {}
        self._remembered = handle.remembered
        self._names: set[str] = set()

    def listed(self, *, with_forgotten: bool = False, strict: bool = True) -> list[Listed]:
        """All commit objects, oldest first; void ones included.

        Args:
            strict: a listing that provably lacks one is an error; else what is known to be there is added.

        Raises:
            StorageUnavailable: the storage lists only a part of what it holds.
            StorageError.
        """
        found = [item for info in self._storage.list(BACKUPS) if (item := _listed(info)) is not None]
        found += self._unlisted({item.name for item in found}, strict=strict)
        if with_forgotten or not found:
            return sorted(found)
        forgotten = protocol.forgotten(self._storage, self._keys, among={item.id for item in found})
        return sorted(item for item in found if item.id not in forgotten)

    def _unlisted(self, names: set[str], *, strict: bool) -> list[Listed]:
        """Commits that this process or this machine has seen, and that are there though they are not listed."""
        with self._lock:
            missing = ({self._remembered()} | self._names) - names - {""}
            self._names = names
        there = [item for name in sorted(missing) if (item := self.by_name(name)) is not None]
        if there and not self._storage.capabilities.listing_lag:
            if strict:
                raise short_listing(self._storage, there[0].name)
            warn(self._storage, there[0].name)
        return there

    def by_name(self, name: str) -> Listed | None:
        """A commit object, whether it is listed or not; ``None``: there is none.

        Raises:
            StorageError.
        """
        info = find_object(self._storage, name)
        if info is None:
            return None
        with self._lock:
            self._names.add(name)
        return _listed(info)

    def open(self, listed: Listed) -> Commit:
        """One commit.

        Raises:
            IntegrityError: damaged or forged; BackupNotFound: gone meanwhile; StorageError.
        """
        with self._lock:
            known = self._opened.get(listed.name)
        if known is not None:
            return known
        data = documents.read_bounded(self._storage, listed.name, control.MAX_OBJECT)
        if data is None:
            raise BackupNotFound(f"backup {listed.id} is gone")
        try:
            payload, signer = control.open(self._keys, COMMIT, listed.name, data, role=Role.WRITER)
        except UnsupportedFormat as error:
            raise IntegrityError(f"{listed.name}: {error}") from None
        commit = decode_commit(payload, backup_id=listed.id, signer=signer)
        if backup_name(commit.backup.time, listed.id) != listed.name:
            raise IntegrityError(f"{listed.name}: the time that it says is not that of its name")
        told = commit.seen if self._keys.vouches_for(signer) else None  # of an original; not anybody may say so
        commit = replace(commit, backup=replace(commit.backup, first_seen=told or listed.modified))
        with self._lock:
            self._opened[listed.name] = commit
        return commit

    def visible(self, damaged: list[Listed], *, newest_first: bool = False, strict: bool = True) -> Iterator[Commit]:
        """Backups that count.

        Args:
            damaged: commits that cannot be read are added here; the others still come.
            newest_first: but for those whose time lies ahead of the storage's clock: they come last.
            strict: see :meth:`listed`.

        Raises:
            StorageError.
        """
        items = self.listed(strict=strict)
        if newest_first:
            items.sort(key=lambda item: (item.time <= item.modified + _AHEAD, item), reverse=True)
        sweeps = protocol.read_sweeps(self._storage, self._keys) if items else None
        same = _by_id(items)
        judged: dict[str, Judged] = {}  # of ids that several objects have
        for item in items:
            found = judged.get(item.id) or self.judge(same[item.id], sweeps)
            if len(same[item.id]) > 1:
                judged[item.id] = found
            if item.name in found.counting:
                yield found.counting[item.name]
            damaged += [listed for listed, _error in found.damaged if listed == item]

    def judge(self, same: Sequence[Listed], sweeps: protocol.Sweeps | None = None) -> Judged:
        """What the commit objects of one id are; those that are gone meanwhile are nothing.

        Who may only write can store a commit under the id of somebody else's backup. It must neither hide that one nor
        make its id ambiguous.

        Raises:
            AccessDenied: only readers open commits; StorageError.
        """
        sweeps = sweeps or protocol.read_sweeps(self._storage, self._keys)
        found, opened = Judged(), list[tuple[Listed, Commit]]()
        for item in same:
            try:
                commit = self.open(item)
            except BackupNotFound:
                continue
            except (IntegrityError, UnsupportedFormat) as error:
                found.damaged.append((item, error))
                continue
            host = commit.backup.host
            if sweeps.void(item.name, commit.generation):
                found.void.append(item)
            elif not self._keys.speaks_for(commit.signer, host):
                why = f"signed by the slot {commit.signer.hex()}, which may not make backups of the host {host!r}"
                found.forged.append(Forged(item, commit, why))
            else:
                opened.append((item, commit))
        if len(same) > 1:
            opened = self._owners(opened, found)
        found.counting = {item.name: commit for item, commit in opened}
        return found

    def _owners(self, opened: list[tuple[Listed, Commit]], found: Judged) -> list[tuple[Listed, Commit]]:
        """Of several commits of one id those that have it: of trusted slots, else what was stored first.

        Two that no clock tells apart both have it.
        """
        vouched = [(item, commit) for item, commit in opened if self._keys.vouches_for(commit.signer)]
        if vouched:
            kept, why = vouched, "under the id of a backup of a trusted slot"
            found.damaged.clear()  # the backup is whole: another object of the id was put there by somebody else
        else:
            times = [item.modified for item, _ in opened] + [item.modified for item, _ in found.damaged]
            first = min(times, default=datetime.max.replace(tzinfo=UTC)) + self._storage.capabilities.clock_resolution
            kept, why = [each for each in opened if each[0].modified <= first], "under the id of an earlier backup"
            found.damaged = [each for each in found.damaged if each[0].modified <= first]
        found.forged += [
            Forged(item, commit, f"signed by the slot {commit.signer.hex()} {why}")
            for item, commit in opened
            if (item, commit) not in kept
        ]
        return kept

    def forged(self) -> list[Forged]:
        """Commits that do not count because their signer had no right to make them.

        Raises:
            AccessDenied, StorageError.
        """
        items = self.listed(strict=False)
        sweeps = protocol.read_sweeps(self._storage, self._keys)
        return [each for same in _by_id(items).values() for each in self.judge(same, sweeps).forged]

    def find(self, backup_id: str) -> Commit:
        """The backup of a full id.

        Raises:
            BackupNotFound, IntegrityError, AccessDenied, StorageError.
        """
        found = self.judge([item for item in self.listed() if item.id == backup_id])
        _refuse_several(backup_id, found)
        for commit in found.counting.values():
            return commit
        for _item, error in found.damaged:
            raise error
        for forged in found.forged:
            raise BackupNotFound(f"backup {backup_id} does not count: it was {forged.why}")
        if found.void:
            raise BackupNotFound(f"backup {backup_id} does not count: its writer was away for too long")
        raise BackupNotFound(f"there is no backup {backup_id}", hint="freezer backup list shows what there is")

    def refuse_ambiguous(self, ids: Collection[str]) -> None:
        """Refuses ids that several backups have: what is decided about one would hold for the other.

        Raises:
            IntegrityError: names them; AccessDenied, StorageError.
        """
        for backup_id, same in _by_id([item for item in self.listed() if item.id in ids]).items():
            if len(same) > 1:
                _refuse_several(backup_id, self.judge(same))

    def refuse_stolen(self, name: str) -> None:
        """Refuses to go on when somebody else had the id of our commit before us: nobody would see ours.

        Args:
            name: of the commit object that was just stored.

        Raises:
            RepositoryError, StorageError.
        """
        items = [item for info in self._storage.list(BACKUPS) if (item := _listed(info)) is not None]
        ours = next((item for item in items if item.name == name), None)
        if ours is None:
            return
        limit = ours.modified + self._storage.capabilities.clock_resolution
        others = [item for item in items if item.id == ours.id and item != ours and item.modified <= limit]
        if others:
            raise RepositoryError(
                f"somebody has stored {others[0].name} under the id of this backup, which so does not count",
                hint="run the backup again; freezer repository check says whose key it was",
            )


def _refuse_several(backup_id: str, found: Judged) -> None:
    if len(found.counting) > 1:
        said = (f"{name} of the host {commit.backup.host!r}" for name, commit in found.counting.items())
        raise IntegrityError(
            f"several backups have the id {backup_id}: {', '.join(said)}",
            hint="somebody took the id of another's backup at the moment when it was made; remove that object",
        )


def _by_id(items: Sequence[Listed]) -> dict[str, list[Listed]]:
    same: defaultdict[str, list[Listed]] = defaultdict(list)
    for item in items:
        same[item.id].append(item)
    return same


def _listed(info: ObjectInfo) -> Listed | None:
    parsed = parse_backup_name(info.name)
    return None if parsed is None else Listed(parsed[0], parsed[1], info.name, info.size, info.modified)
