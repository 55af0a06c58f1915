"""From the entries of a content to what a restore target takes; nothing that they say is trusted."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator

from freezer_sdk.engines.chains.content import ROOT
from freezer_sdk.errors import IntegrityError, UnsafePath
from freezer_sdk.files import posix
from freezer_sdk.files.attributes import Item
from freezer_sdk.files.extras import pack_device, pack_extents, pack_xattr
from freezer_sdk.model import Entry, EntryType
from freezer_sdk.modes.base import FLAG_HARDLINK, FLAG_INCOMPLETE, Attributes, Extra

TYPES = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.DIRECTORY: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.SOCKET: stat.S_IFSOCK,
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}
_NO_NAMES = frozenset({b"", b".", b".."})
_MAX_U32 = (1 << 32) - 1
_MAX_I64 = (1 << 63) - 1
_MAX_NAME = (1 << 16) - 1


def sound(entries: Iterable[Entry], refused: Callable[[Entry, Exception], None]) -> Iterator[Entry]:
    """Entries in the order of the tree, each path once, below directories only; all others are refused.

    Args:
        refused: told of what is left out, and why.
    """
    last: list[bytes] = []
    barred: list[bytes] | None = None  # the last entry that is no directory
    for entry in entries:
        if entry.path == ROOT:
            if last or entry.type is not EntryType.DIRECTORY:
                refused(entry, IntegrityError("the backup names its root twice, or not as a directory"))
                continue
            yield entry
            continue
        parts = entry.path.split(b"/")
        if b"\0" in entry.path or not _NO_NAMES.isdisjoint(parts):
            refused(entry, UnsafePath(f"the backup holds an unsafe path: {entry.path!r}"))
            continue
        if barred is not None and len(parts) > len(barred) and parts[: len(barred)] == barred:
            refused(entry, UnsafePath(f"the backup holds an unsafe path: {entry.path!r} lies below no directory"))
            continue
        if parts <= last:
            refused(entry, IntegrityError("the backup names it twice, or not where it belongs"))
            continue
        last = parts
        barred = None if entry.type is EntryType.DIRECTORY else parts
        yield entry


class Items:
    """Makes items; their owners are in this system's numbers.

    Names count before numbers, entry by entry: a chain may hold one number with several names, or names only.

    Args:
        numeric: recorded numbers only.
    """

    def __init__(self, *, numeric: bool) -> None:
        self._numeric = numeric
        self._owners = posix.Owners()
        self._uids: dict[tuple[int, str | None], int] = {}
        self._gids: dict[tuple[int, str | None], int] = {}

    def item(self, entry: Entry) -> Item:
        """What a target needs to make an entry.

        Raises:
            IntegrityError: what is recorded cannot be.
        """
        flags = FLAG_HARDLINK if entry.link_group is not None else 0
        is_directory = entry.type is EntryType.DIRECTORY
        if entry.incomplete and is_directory:
            flags |= FLAG_INCOMPLETE
        if not 0 <= entry.size <= _MAX_I64:
            raise IntegrityError(f"the backup records an impossible size: {entry.size}")
        attributes = Attributes(
            mode=TYPES[entry.type] | entry.mode & 0o7777,
            uid=self._uid(entry.uid, entry.user),
            gid=self._gid(entry.gid, entry.group),
            flags=flags,
            size=entry.size if entry.type is EntryType.FILE else 0,
            mtime=_time(entry.mtime_ns),
            ctime=_time(entry.ctime_ns),
            inode=0,
        )
        return Item(attributes, _extras(entry))

    def _uid(self, number: int, name: str | None) -> int:
        key = (number, name)
        found = self._uids.get(key)
        if found is None:
            local = self._owners.uid(name) if name and not self._numeric else None
            found = self._uids[key] = _owner(number) if local is None else local
        return found

    def _gid(self, number: int, name: str | None) -> int:
        key = (number, name)
        found = self._gids.get(key)
        if found is None:
            local = self._owners.gid(name) if name and not self._numeric else None
            found = self._gids[key] = _owner(number) if local is None else local
        return found


def _owner(number: int) -> int:
    if not 0 <= number < _MAX_U32:
        raise IntegrityError(f"the backup records an impossible owner: {number}")
    return number


def _time(nanoseconds: int) -> int:
    return max(-_MAX_I64, min(nanoseconds, _MAX_I64))


def _extras(entry: Entry) -> list[tuple[int, bytes]]:
    extras: list[tuple[int, bytes]] = []
    if entry.link_target is not None and entry.type is EntryType.SYMLINK:
        if b"\0" in entry.link_target:
            raise IntegrityError("the backup records a link that cannot be")
        extras.append((Extra.LINK_TARGET, entry.link_target))
    if entry.device is not None:
        if not all(0 <= number <= _MAX_U32 for number in entry.device):
            raise IntegrityError("the backup records a device that cannot be")
        extras.append((Extra.DEVICE, pack_device(*entry.device)))
    for name, value in entry.xattrs:
        if not 0 < len(name) <= _MAX_NAME or b"\0" in name:
            raise IntegrityError("the backup records an extended attribute without a usable name")
        extras.append((Extra.XATTR, pack_xattr(name, value)))
    if entry.extents is not None and entry.type is EntryType.FILE:
        _check_extents(entry.extents, entry.size)
        extras.append((Extra.EXTENTS, pack_extents(entry.extents)))
    return extras


def _check_extents(extents: tuple[tuple[int, int], ...], size: int) -> None:
    end = 0
    for offset, length in extents:
        if offset < end or length <= 0 or offset + length > size:
            raise IntegrityError("the backup records data ranges that cannot be")
        end = offset + length
