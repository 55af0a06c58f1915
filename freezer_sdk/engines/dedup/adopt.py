"""Packs that no index names: left by a run that died, or by an index that was lost; good to be used again."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby
from operator import attrgetter

from freezer_sdk.engines.dedup import lease
from freezer_sdk.engines.dedup.documents import read_range
from freezer_sdk.engines.dedup.index import BlobIndex, PackRows, section_of
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import Kind, digest_of
from freezer_sdk.engines.dedup.pack import SegmentRow, read_table, table_tail
from freezer_sdk.errors import IntegrityError, ObjectNotFound
from freezer_sdk.storages.base import ObjectInfo, Storage

_TAIL = 64 << 10  # bytes that usually hold a whole table


def unclosed_leases(storage: Storage) -> set[str]:
    """Ids of leases that were never closed: their holders are at work, or died.

    Raises:
        StorageError.
    """
    matches = [match for info in storage.list(lease.PREFIX) if (match := lease.NAME.match(info.name))]
    return {match[1] for match in matches} - {match[1] for match in matches if match[2] == "closed"}


def adopt_orphans(
    storage: Storage, keys: KeyRing, index: BlobIndex, *, kinds: Iterable[Kind] = tuple(Kind), search: bool = False
) -> list[PackRows]:
    """Adds packs that are stored and in no index to ``index``; damaged ones and condemned ones are left alone.

    They count as vouched for by who signed their tables.

    Args:
        search: something is to be found, whatever it takes: also packs that only untrusted slots have indexed are read.

    Raises:
        StorageError.
    """
    adopted = []
    for kind in kinds:
        known: Collection[bytes] = index.packs(kind, trusted=search) | index.condemned
        found = []
        for info in storage.list(kind.prefix):
            digest = digest_of(info.name)
            if digest is None or digest in known:
                continue
            try:
                found.append(read_pack(storage, keys, kind, info))
            except (IntegrityError, ObjectNotFound):
                continue
        found.sort(key=attrgetter("writer"))
        for writer, packs in groupby(found, key=attrgetter("writer")):
            index.add(section_of(kind, list(packs), writer))
        adopted += found
    return adopted


def read_pack_table(storage: Storage, keys: KeyRing, kind: Kind, info: ObjectInfo) -> list[SegmentRow]:
    """The segments of :func:`read_pack`.

    Raises:
        IntegrityError: damaged or forged; StorageError.
    """
    return list(read_pack(storage, keys, kind, info).rows)


def read_pack(storage: Storage, keys: KeyRing, kind: Kind, info: ObjectInfo) -> PackRows:
    """What the table at the end of a stored pack says; it must account for every byte before it.

    Raises:
        IntegrityError: damaged or forged; StorageError.
    """
    tail = read_range(storage, info.name, offset=-_TAIL)
    need = table_tail(kind, tail)
    if need > len(tail):
        tail = read_range(storage, info.name, offset=-need)
    table = read_table(keys, kind, tail)
    if sum(row.stored for row in table.rows) + table.size != info.size:
        raise IntegrityError(f"{info.name}: its table does not account for all of it")
    return PackRows(kind, digest_of(info.name) or b"", info.size, table.rows, table.writer)
