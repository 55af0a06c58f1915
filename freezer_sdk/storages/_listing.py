"""Listing a tree of folders in the order of whole names."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from freezer_sdk.storages._posix import Root, moment, reporting
from freezer_sdk.storages.base import MAX_NAME, ObjectInfo

NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of a common prefix."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file, or without ``info`` a folder; ``key`` is what all names of it begin with."""

    key: str
    info: ObjectInfo | None


def listing(root: Root, prefix: str, *, deep: bool, hidden: Collection[str]) -> Iterator[ObjectInfo]:
    """Objects whose names begin with ``prefix``, sorted by code point.

    One folder is open at a time, and only while it is read.

    Args:
        deep: else folders below that of the prefix are summed up.
        hidden: names in the root that are no objects.

    Raises:
        AccessDenied, StorageUnavailable, StorageError: a folder cannot be read.
    """
    *folders, start = prefix.split("/")
    if any(part in ("", ".", "..") for part in folders) or not _is_text(prefix) or "\0" in prefix:
        return  # no object has such a name
    if folders and folders[0] in hidden:
        return
    pending = _scan(root, folders, start, () if folders else hidden)
    while pending:
        entry = pending.pop()
        if entry.info is not None:
            yield entry.info
        elif deep:
            pending += _scan(root, entry.key.split("/")[:-1])
        elif _holds_objects(root, entry.key):
            yield ObjectInfo(name=entry.key, size=0, modified=NO_TIME, is_prefix=True)


def _scan(root: Root, folders: Sequence[str], start: str = "", hidden: Collection[str] = ()) -> list[_Entry]:
    """The entries of a folder, the last one first; empty when there is no such folder."""
    path = "".join(part + "/" for part in folders)
    found: list[_Entry] = []
    with reporting(f"cannot list {path!r} in {root.path}"):
        try:
            with root.folders(folders) as chain, os.scandir(chain[-1]) as entries:
                for entry in entries:
                    if entry.name.startswith(start) and entry.name not in hidden and _is_text(entry.name):
                        found += _look(path, entry)
        except (FileNotFoundError, NotADirectoryError):
            return []  # not there, removed meanwhile, or a link
    # a folder sorts as the names below it do: "a-b" < "a/b" < "a0"
    found.sort(key=lambda entry: entry.key, reverse=True)
    return found


def _look(path: str, entry: os.DirEntry[str]) -> Iterator[_Entry]:
    name = path + entry.name
    if len(name) > MAX_NAME // 4 and len(name.encode()) > MAX_NAME:
        return
    if entry.is_dir(follow_symlinks=False):
        yield _Entry(name + "/", None)
        return
    try:
        status = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return  # deleted meanwhile
    if stat.S_ISREG(status.st_mode):
        info = ObjectInfo(name=name, size=status.st_size, modified=moment(status.st_mtime_ns))
        yield _Entry(name, info)


def _holds_objects(root: Root, path: str) -> bool:
    below = []
    with reporting(f"cannot list {path!r} in {root.path}"):
        try:
            with root.folders(path.split("/")[:-1]) as chain, os.scandir(chain[-1]) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False) and _is_text(entry.name):
                        return True
                    if entry.is_dir(follow_symlinks=False) and _is_text(entry.name):
                        below.append(f"{path}{entry.name}/")
        except (FileNotFoundError, NotADirectoryError):
            return False
    return any(_holds_objects(root, deeper) for deeper in below)


def _is_text(name: str) -> bool:
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
