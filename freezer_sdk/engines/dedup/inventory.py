"""What a storage holds of a repository: backups by what became of them, indexes, packs. Checks begin with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby

from freezer_sdk.engines.dedup import documents, protocol
from freezer_sdk.engines.dedup.adopt import adopt_orphans
from freezer_sdk.engines.dedup.catalog import Catalog, Forged, Listed
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import MAX_OBJECT, BlobIndex, PackRows, decode_section, index_parts
from freezer_sdk.engines.dedup.layout import BACKUPS, INDEX, Kind, digest_of, pack_name, parse_backup_name
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.unlisted import find_packs
from freezer_sdk.errors import BackupNotFound, IntegrityError, RepositoryError, UnsupportedFormat
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import ObjectInfo

Report = Callable[[Problem], None]

_ROUNDS = 3  # of listing indexes, while they are merged


@dataclass
class Backups:
    """All commit objects, by what became of them.

    Attributes:
        visible: those that count, oldest first.
        damaged: with the reason each.
        remains: forgotten ones that are damaged besides, with the reason each.
    """

    visible: list[Commit] = field(default_factory=list)
    forgotten: list[Listed] = field(default_factory=list)
    void: list[Listed] = field(default_factory=list)
    forged: list[Forged] = field(default_factory=list)
    damaged: list[tuple[Listed, RepositoryError]] = field(default_factory=list)
    remains: list[tuple[Listed, RepositoryError]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Of all objects."""
        return sum(len(each) for each in (self.visible, self.forgotten, self.void, self.forged, self.damaged))


def read_backups(handle: Handle, catalog: Catalog, report: Report) -> Backups:
    """Opens all commits.

    Raises:
        AccessDenied: only readers open commits; StorageUnavailable: the listing provably lacks some; StorageError.
    """
    found = Backups()
    for info in handle.storage.list(BACKUPS):
        if parse_backup_name(info.name) is None:
            report(Problem(path=info.name, kind="unknown", message="not the name of a backup", fatal=False))
    remaining = {item.name for item in catalog.listed()}
    sweeps = protocol.read_sweeps(handle.storage, handle.keys)
    items = sorted(catalog.listed(with_forgotten=True), key=lambda item: item.id)
    for _id, group in groupby(items, key=lambda item: item.id):
        same = list(group)
        forgotten = [item for item in same if item.name not in remaining]
        found.forgotten += forgotten
        found.remains += [(item, error) for item in forgotten if (error := _damage(catalog, item)) is not None]
        judged = catalog.judge([item for item in same if item.name in remaining], sweeps)
        found.visible += judged.counting.values()
        found.void += judged.void
        found.forged += judged.forged
        found.damaged += judged.damaged
    found.visible.sort(key=lambda commit: (commit.backup.time, commit.backup.id))
    return found


def _damage(catalog: Catalog, item: Listed) -> RepositoryError | None:
    try:
        catalog.open(item)
    except BackupNotFound:
        return None
    except (IntegrityError, UnsupportedFormat) as error:
        return error
    return None


class Inventory:
    """Indexes and packs.

    Attributes:
        index: of all indexes that can be read, and of the tables of packs that none of them names.
        packs: name, size and time, by kind and id.
        indexes: names of all index objects.
        damaged_indexes: why each cannot be read, by name.
        orphans: packs that no index names.
    """

    def __init__(self, handle: Handle, report: Report, check: Callable[[], None]) -> None:
        self._storage, self._keys, self._compressors = handle.storage, handle.keys, handle.compressors
        self._report, self._check = report, check
        self.index = BlobIndex(trusts=self._keys.trusts)
        self.packs: dict[Kind, dict[bytes, ObjectInfo]] = {Kind.DATA: {}, Kind.META: {}}
        self.indexes: list[str] = []
        self._known: set[str] = set()
        self.damaged_indexes: dict[str, str] = {}
        self.orphans: list[PackRows] = []

    def load(self) -> None:
        """Reads all of it.

        Raises:
            StorageError, Cancelled.
        """
        for _ in range(_ROUNDS):
            if self._load_indexes():
                break
        for kind in Kind:
            self._list_packs(kind)
        self.orphans = adopt_orphans(self._storage, self._keys, self.index)

    def reader(self, handle: Handle) -> BlobReader:
        """Reads what the indexes name."""
        reader = BlobReader(handle, self.index)
        reader.loaded(self.indexes)
        return reader

    @property
    def sizes(self) -> dict[bytes, int]:
        """Of the packs that are there."""
        return {digest: info.size for packs in self.packs.values() for digest, info in packs.items()}

    def missing(self) -> list[tuple[Kind, bytes]]:
        """Packs that an index names and that are not there."""
        return [
            (kind, pack) for kind in Kind for pack in sorted(self.index.ends(kind).keys() - self.packs[kind].keys())
        ]

    def _load_indexes(self) -> bool:
        """Whether all were there; one that is gone was merged into another, which may not have been listed yet."""
        complete = True
        for info in list(self._storage.list(INDEX)):
            self._check()
            digest = digest_of(info.name)
            if info.name in self._known:
                continue
            if digest is None:
                self._report(Problem(path=info.name, kind="unknown", message="not the name of an index", fatal=False))
            else:
                try:
                    data = documents.read_bounded(self._storage, info.name, MAX_OBJECT)
                    if data is None:
                        complete = False
                        continue
                    self._load_index(data, digest)
                except IntegrityError as error:
                    self.damaged_indexes[info.name] = error.message
                self.indexes.append(info.name)
            self._known.add(info.name)
        return complete

    def _load_index(self, data: bytes, digest: bytes) -> None:
        if hashlib.sha256(data).digest() != digest:
            raise IntegrityError("its bytes are not those that it is named by")
        for kind, (offset, length) in index_parts(data, len(data)).items():
            box = memoryview(data)[offset : offset + length]
            self.index.add(decode_section(self._keys, kind, box, self._compressors("zstd")))

    def _list_packs(self, kind: Kind) -> None:
        packs = self.packs[kind]
        for info in self._storage.list(kind.prefix):
            digest = digest_of(info.name)
            if digest is None or info.name != pack_name(kind, digest):
                self._report(Problem(path=info.name, kind="unknown", message="not the name of a pack", fatal=False))
                continue
            packs[digest] = info
        unlisted = find_packs(self._storage, kind, self.index.ends(kind).keys() - packs.keys())
        packs |= unlisted
        if unlisted:
            message = f"{len(unlisted)} packs are there, and are not listed"
            self._report(Problem(path=kind.prefix, kind="unknown", message=message, fatal=False))
