"""Which backups there are: commits that are neither forgotten nor void."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from freezer_sdk.engines.dedup import control, documents, protocol
from freezer_sdk.engines.dedup.commit import Commit, decode_commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import BACKUPS, parse_backup_name
from freezer_sdk.engines.dedup.unlisted import find_object, short_listing, warn
from freezer_sdk.errors import BackupNotFound, IntegrityError, UnsupportedFormat
from freezer_sdk.storages.base import ObjectInfo

COMMIT = "backup"
"""Kind of control object that a commit is."""


class Listed(NamedTuple):
    """A commit object as listed."""

    time: datetime
    id: str
    name: str
    size: int


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
        forgotten = protocol.forgotten(self._storage, self._keys) if found and not with_forgotten else frozenset()
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
            payload, _signer = control.open(self._keys, COMMIT, listed.name, data, role=Role.WRITER)
        except UnsupportedFormat as error:
            raise IntegrityError(f"{listed.name}: {error}") from None
        commit = decode_commit(payload, backup_id=listed.id)
        with self._lock:
            self._opened[listed.name] = commit
        return commit

    def visible(self, damaged: list[Listed], *, newest_first: bool = False, strict: bool = True) -> Iterator[Commit]:
        """Backups that count.

        Args:
            damaged: commits that cannot be read are added here; the others still come.
            strict: see :meth:`listed`.

        Raises:
            StorageError.
        """
        items = self.listed(strict=strict)
        decisions = protocol.read_sweeps(self._storage, self._keys) if items else None
        for item in reversed(items) if newest_first else items:
            try:
                commit = self.open(item)
            except (IntegrityError, UnsupportedFormat):
                damaged.append(item)
                continue
            except BackupNotFound:
                continue
            if decisions is None or not decisions.void(item.name, commit.generation):
                yield commit

    def find(self, backup_id: str) -> Commit:
        """The backup of a full id.

        Raises:
            BackupNotFound, IntegrityError, StorageError.
        """
        for item in self.listed():
            if item.id == backup_id:
                commit = self.open(item)
                if protocol.read_sweeps(self._storage, self._keys).void(item.name, commit.generation):
                    raise BackupNotFound(f"backup {backup_id} does not count: its writer was away for too long")
                return commit
        raise BackupNotFound(f"there is no backup {backup_id}", hint="freezer backup list shows what there is")


def _listed(info: ObjectInfo) -> Listed | None:
    parsed = parse_backup_name(info.name)
    return None if parsed is None else Listed(parsed[0], parsed[1], info.name, info.size)
