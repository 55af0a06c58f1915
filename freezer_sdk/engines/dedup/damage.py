"""Packs that a maintainer has found damaged: new backups rely on nothing in them (repository-format, "Records")."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from freezer_sdk.engines.dedup.documents import MAX_NUMBER, Fields
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.opening import Reported
from freezer_sdk.engines.dedup.records import Record, read_records, supersede
from freezer_sdk.storages.base import Storage

KIND: Final = "damaged"


def damaged_packs(storage: Storage, keys: KeyRing) -> frozenset[bytes]:
    """Ids of packs that are known to be damaged; whoever has to choose between copies takes another one.

    Raises:
        StorageError.
    """
    return _summed_up(read_records(storage, keys, KIND))[0]


def note_damaged(storage: Storage, keys: KeyRing, found: Collection[bytes], whole: Collection[bytes] = ()) -> bool:
    """Writes down what was found; nothing when it is known already.

    Args:
        found: packs that are damaged.
        whole: packs that turned out to be whole, or that are gone.

    Returns:
        Whether something was written.

    Raises:
        AccessDenied: the slot may not maintain; StorageError.
    """
    old = read_records(storage, keys, KIND)
    known, named = _summed_up(old)
    now = (known | frozenset(found)) - frozenset(whole)
    if now == known:
        return False
    # older records may outlive this one where nothing can be deleted
    facts = {"packs": sorted(pack.hex() for pack in now), "whole": sorted(pack.hex() for pack in named - now)}
    supersede(storage, keys, KIND, facts, old)
    return True


def _summed_up(records: Sequence[Record]) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Packs that are damaged by all that was said, one after the other; and all that were ever called so."""
    known, named = frozenset[bytes](), frozenset[bytes]()
    for record in records:
        with Reported(record.name, []):
            packs, whole = (_ids(record.facts, field) for field in ("packs", "whole"))
            known, named = (known - whole) | packs, named | packs
    return known, named


def _ids(fields: Fields, name: str) -> frozenset[bytes]:
    try:
        ids = frozenset(bytes.fromhex(text) for text in fields.texts(name, limit=MAX_NUMBER, each=64))
    except ValueError:
        fields.fail(name)
    return ids if all(len(each) == 32 for each in ids) else fields.fail(name)
