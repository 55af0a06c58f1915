"""The differences of two backups: a merge of two walks that holds one entry of each at a time."""

from __future__ import annotations

from collections.abc import Iterator

from freezer_sdk.model import Change, Entry, EntryType

_METADATA = ("mode", "uid", "gid", "user", "group", "mtime_ns", "xattrs")


def tree_order(path: bytes) -> list[bytes]:
    """A sort key: parents first, siblings by their raw names."""
    return path.split(b"/")


def changes(before: Iterator[Entry], after: Iterator[Entry], *, metadata: bool = False) -> Iterator[Change]:
    """What differs between two walks.

    Args:
        before, after: entries in tree order (see :func:`tree_order`).
        metadata: also report entries of which only owner, permissions, times or attributes differ.
    """
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if new is None or (old is not None and tree_order(old.path) < tree_order(new.path)):
            assert old is not None
            yield Change(path=old.path, kind="removed", before=old)
            old = next(before, None)
        elif old is None or tree_order(new.path) < tree_order(old.path):
            yield Change(path=new.path, kind="added", after=new)
            new = next(after, None)
        else:
            kind = _difference(old, new)
            if kind is not None and (metadata or kind != "metadata"):
                yield Change(path=new.path, kind=kind, before=old, after=new)
            old, new = next(before, None), next(after, None)


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
