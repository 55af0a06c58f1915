"""The differences of two backups: a merge of two walks that holds one entry of each at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Protocol

from freezer_sdk.model import Change, Entry, EntryType

_METADATA = ("mode", "uid", "gid", "user", "group", "mtime_ns", "xattrs")


def tree_order(path: bytes) -> list[bytes]:
    """A sort key: parents first, siblings by their raw names."""
    return [part for part in path.split(b"/") if part]


class Walk(Protocol):
    """Entries of one backup: of a path and all below it, or of the roots alone."""

    def __call__(self, path: bytes | None, *, recursive: bool = True) -> Iterator[Entry]:
        """Without recursion: what lies directly in the path; without a path: the roots."""


def in_tree_order(walk: Walk, path: bytes | None, *, several_roots: bool) -> Iterator[Entry]:
    """All entries, each path once, sorted by :func:`tree_order`.

    Engines walk the roots in the order of their whole paths, ``/etc-old`` before ``/etc/ssh``, and a root may lie
    inside another one.
    """
    if path is not None or not several_roots:
        yield from walk(path)
        return
    roots = [entry.path for entry in walk(None, recursive=False)]
    last: bytes | None = None
    for entry in heapq.merge(
        *(_ascending(walk(root), root) for root in roots), key=lambda entry: tree_order(entry.path)
    ):
        if entry.path != last:
            yield entry
        last = entry.path


def _ascending(entries: Iterator[Entry], root: bytes) -> Iterator[Entry]:
    """One root's own entries; those of a root inside it, which come after them, start lower or again."""
    last: list[bytes] | None = None
    for entry in entries:
        order = tree_order(entry.path)
        if last is not None and order <= last and entry.path != root:
            return
        if last is None or entry.path != root:  # twice: as a mount point of an outer root, then as a root
            yield entry
        last = order


def changes(
    before: Iterator[Entry], after: Iterator[Entry], *, metadata: bool = False, bases: tuple[bytes, bytes] = (b"", b"")
) -> Iterator[Change]:
    """What differs between two walks.

    Args:
        before, after: entries in tree order (see :func:`tree_order`).
        metadata: also report entries of which only owner, permissions, times or attributes differ.
        bases: the paths where the walks start; what lies below them is compared by its path from there.
    """
    starts = len(bases[0]), len(bases[1])
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        side = _side(old, new, starts)
        if old is not None and side < 0:
            yield Change(path=old.path, kind="removed", before=old)
        elif new is not None and side > 0:
            yield Change(path=new.path, kind="added", after=new)
        elif old is not None and new is not None:
            kind = _difference(old, new)
            if kind is not None and (metadata or kind != "metadata"):
                yield Change(path=new.path, kind=kind, before=old, after=new)
        old = next(before, None) if side <= 0 else old
        new = next(after, None) if side >= 0 else new


def _side(old: Entry | None, new: Entry | None, starts: tuple[int, int]) -> int:
    """Which entry comes first: -1 the old one, 1 the new one, 0 both are at the same path."""
    if old is None or new is None:
        return 1 if old is None else -1
    first, second = tree_order(old.path[starts[0] :]), tree_order(new.path[starts[1] :])
    return (first > second) - (first < second)


def _difference(old: Entry, new: Entry) -> str | None:
    if old.type is not new.type:
        return "type"
    if old.type is EntryType.FILE and _content_differs(old, new):
        return "content"
    if old.link_target != new.link_target or old.device != new.device:
        return "content"
    if any(getattr(old, name) != getattr(new, name) for name in _METADATA):
        return "metadata"
    return None


def _content_differs(old: Entry, new: Entry) -> bool:
    if old.size != new.size:
        return True
    if old.content is not None and new.content is not None:
        return old.content != new.content
    return old.mtime_ns != new.mtime_ns  # without the ids of the content, its times are all there is
