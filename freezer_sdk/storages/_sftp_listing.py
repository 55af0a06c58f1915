"""Listing folders over SFTP in the order of whole names, several folders in one round trip."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from freezer_sdk.storages._sftp_answers import Attributes, Code, ServerStatus
from freezer_sdk.storages._sftp_session import Pending, Session
from freezer_sdk.storages.base import MAX_NAME, ObjectInfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE = 16  # folders that are read together
_FIRST_PAGES = 2  # most folders have one page, and the end is asked for in the same round trip
_PAGES = 16  # of one folder, asked for together

Names = list[tuple[bytes, Attributes]]
ReadFolders = Callable[[Sequence[str], bool], Sequence[Names | None]]
"""Entries of folders (``"packs/ab/"``), ``None``: there is none; if told so, only until there is a file."""


def moment(seconds: int) -> datetime:
    """A file's time."""
    return _EPOCH + timedelta(seconds=seconds)


@dataclass(slots=True)
class _Entry:
    """A file, or without ``info`` a folder; ``key`` is what all names of it begin with."""

    key: str
    info: ObjectInfo | None
    content: list[_Entry] | None = None  # of a folder that was read ahead
    holds_objects: bool | None = None


def listing(read: ReadFolders, prefix: str, *, deep: bool, hidden: Collection[str]) -> Iterator[ObjectInfo]:
    """Objects whose names begin with ``prefix``, sorted by code point.

    Args:
        read: reads folders; nothing of it is held while the listing waits to be taken.
        deep: else folders below that of the prefix are summed up.
        hidden: names in the root that are no objects.
    """
    *folders, start = prefix.split("/")
    if any(part in ("", ".", "..") for part in folders) or _text(prefix) is None or "\0" in prefix:
        return  # no object has such a name
    if folders and folders[0] in hidden:
        return
    path = "".join(part + "/" for part in folders)
    pending = _sorted(path, read([path], False)[0], start, () if folders else hidden)
    while pending:
        entry = pending.pop()
        if entry.info is not None:
            yield entry.info
        elif deep:
            if entry.content is None:
                _read_ahead(read, entry, pending)
            pending += entry.content or ()
        elif _holds_objects(read, entry, pending):
            yield ObjectInfo(name=entry.key, size=0, modified=_EPOCH, is_prefix=True)


def read_folders(session: Session, paths: Sequence[bytes], *, until_file: bool) -> list[Names | None]:
    """Entries of folders; ``None`` where there is no such folder.

    Args:
        until_file: stop where a folder is known to have a file.

    Raises:
        ServerStatus, ConnectionLost.
    """
    handles = _open_folders(session, paths)
    found: list[Names | None] = [None if handle is None else [] for handle in handles]
    unread = [(handle, names) for handle, names in zip(handles, found, strict=True) if handle and names is not None]
    pages = _FIRST_PAGES
    try:
        while unread:
            asked = [(handle, names, [session.readdir(handle) for _ in range(pages)]) for handle, names in unread]
            unread = []
            for handle, names, answers in asked:
                ended = [_take(answer, names) for answer in answers]
                if not any(ended) and not (until_file and any(attributes.is_file for _, attributes in names)):
                    unread.append((handle, names))
            pages = _PAGES
        return found
    finally:
        _close_all(session, handles)


def _open_folders(session: Session, paths: Sequence[bytes]) -> list[bytes | None]:
    """A handle for each folder; ``None`` where there is none, or a link."""
    asked = [(session.lstat(path.rstrip(b"/")), session.opendir(path)) for path in paths]
    handles: list[bytes | None] = [None] * len(asked)
    failure: ServerStatus | None = None
    for index, (attributes, opened) in enumerate(asked):
        try:
            handle = opened.result()
            if attributes.result().is_folder:
                handles[index] = handle
            else:
                session.close(handle)
        except ServerStatus as status:
            if status.code not in (Code.NO_SUCH_FILE, Code.BAD_MESSAGE):  # the latter: no name can be so long
                failure = failure or status
    if failure is not None:
        _close_all(session, handles)
        raise failure
    return handles


def _close_all(session: Session, handles: Iterable[bytes | None]) -> None:
    for handle in handles:
        if handle is not None and not session.broken:
            session.close(handle)


def _take(answer: Pending[Names | None], names: Names) -> bool:
    """Adds a page to the names; tells whether the folder ends here."""
    page = answer.result()
    names += page or ()
    return page is None


def _sorted(path: str, names: Names | None, start: str = "", hidden: Collection[str] = ()) -> list[_Entry]:
    """The entries of a folder, the last one first."""
    found: list[_Entry] = []
    for raw, attributes in names or ():
        name = _text(raw)
        if name is not None and name.startswith(start) and name not in hidden and name not in (".", ".."):
            key = path + name
            if len(key) > MAX_NAME // 4 and len(key.encode()) > MAX_NAME:
                continue
            if attributes.is_folder:
                found.append(_Entry(key + "/", None))
            elif attributes.is_file:
                found.append(_Entry(key, ObjectInfo(name=key, size=attributes.size, modified=moment(attributes.mtime))))
    # a folder sorts as the names below it do: "a-b" < "a/b" < "a0"
    found.sort(key=lambda entry: entry.key, reverse=True)
    return found


def _next_folders(entry: _Entry, pending: Sequence[_Entry], wanted: Callable[[_Entry], bool]) -> list[_Entry]:
    """This folder and those that come soon after it."""
    soon = (other for other in reversed(pending[-4 * _AT_ONCE :]) if other.info is None and wanted(other))
    return [entry, *itertools.islice(soon, _AT_ONCE - 1)]


def _read_ahead(read: ReadFolders, entry: _Entry, pending: Sequence[_Entry]) -> None:
    folders = _next_folders(entry, pending, lambda other: other.content is None)
    for folder, names in zip(folders, read([folder.key for folder in folders], False), strict=True):
        folder.content = _sorted(folder.key, names)


def _holds_objects(read: ReadFolders, entry: _Entry, pending: Sequence[_Entry]) -> bool:
    if entry.holds_objects is None:
        folders = _next_folders(entry, pending, lambda other: other.holds_objects is None)
        for folder, names in zip(folders, read([folder.key for folder in folders], True), strict=True):
            folder.holds_objects = _any_object(read, _sorted(folder.key, names))
    return bool(entry.holds_objects)


def _any_object(read: ReadFolders, entries: Sequence[_Entry]) -> bool:
    if any(entry.info for entry in entries):
        return True
    for start in range(0, len(entries), _AT_ONCE):
        keys = [entry.key for entry in entries[start : start + _AT_ONCE]]
        for key, names in zip(keys, read(keys, True), strict=True):
            if _any_object(read, _sorted(key, names)):
                return True
    return False


def _text(name: bytes | str) -> str | None:
    """A name that is UTF-8."""
    try:
        return name.decode() if isinstance(name, bytes) else name.encode().decode()
    except UnicodeError:
        return None
