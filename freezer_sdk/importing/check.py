"""Whether a backup that was imported is what it was made of."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping

from freezer_sdk.engines.base import Repository
from freezer_sdk.errors import IntegrityError
from freezer_sdk.importing.tree import ImportedTree
from freezer_sdk.model import Entry, EntryType

_BLOCK = 1 << 20


def compare(
    target: Repository, backup: str, tree: ImportedTree, digests: Mapping[bytes, bytes], *, tick: Callable[[], None]
) -> int:
    """Reads a backup back.

    Args:
        backup: full id in the target.
        tree: what it was made of.
        digests: SHA-256 of contents that were stored, by their keys; what is not there was stored and read before.
        tick: called often.

    Returns:
        How many bytes were read.

    Raises:
        IntegrityError: it is not the same.
        StorageError, Cancelled.
    """
    left, count, size = dict(digests), 0, 0
    for entry in target.entries(backup):
        count += 1
        tick()
        _compare_entry(entry, tree)
        digest = left.pop(tree.key(entry.path), None) if entry.type is EntryType.FILE else None
        if digest is not None and not entry.incomplete:
            size += _compare_content(target, backup, entry, digest, tick)
    if count != len(tree):
        raise _different(backup, f"{count} entries were stored of {len(tree)}")
    if left:
        raise _different(backup, f"the content of {len(left)} files cannot be found")
    return size


def _compare_entry(entry: Entry, tree: ImportedTree) -> None:
    known = tree.find(entry.path)
    if known is None:
        raise _different(entry.path, "nothing of this name was imported")
    same = (entry.mode, entry.uid, entry.gid, entry.mtime_ns) == (
        stat.S_IMODE(known.mode),
        known.uid,
        known.gid,
        known.mtime,
    )
    if not same or (entry.type is EntryType.FILE and not entry.incomplete and entry.size != known.size):
        raise _different(entry.path, "its attributes are others than in the source")


def _compare_content(target: Repository, backup: str, entry: Entry, digest: bytes, tick: Callable[[], None]) -> int:
    found, size = hashlib.sha256(), 0
    with target.open(backup, entry.path) as reader:
        while data := reader.read(_BLOCK):
            found.update(data)
            size += len(data)
            tick()
    if found.digest() != digest:
        raise _different(entry.path, "its content is another one than in the source")
    return size


def _different(what: str | bytes, message: str) -> IntegrityError:
    return IntegrityError(
        f"{os.fsdecode(what)}: {message}", hint="delete the imported backup, and tell the developers of this program"
    )
