"""Setting owner, extended attributes, mode and times of restored entries, in the order that keeps them safe."""

from __future__ import annotations

import errno
import os
import stat
import struct
import time
from collections.abc import Mapping
from typing import NamedTuple

from freezer_sdk.files import posix
from freezer_sdk.files.extras import xattrs
from freezer_sdk.files.report import Reporter
from freezer_sdk.model import RestoreOptions
from freezer_sdk.modes.base import Attributes, Extra, Extras

_ACCESS_ACL = b"system.posix_acl_access"
_DEFAULT_ACL = b"system.posix_acl_default"
_CAPABILITY = b"security.capability"
_REMOVABLE = (b"user.", b"trusted.", _ACCESS_ACL, _DEFAULT_ACL, _CAPABILITY)
_ACL_ENTRY = struct.Struct("<HHI")
_ACL_GROUP_OBJ = 4
_PRIVILEGE = stat.S_ISUID | stat.S_ISGID


class Item(NamedTuple):
    """What a backup recorded of an entry."""

    attributes: Attributes
    extras: Extras


class OpenHandle:
    """An open file or directory whose attributes are set.

    Attributes:
        target: what calls that change attributes take: a descriptor, or a path that leads to it alone.
    """

    __slots__ = ("target",)

    def __init__(self, fd: int) -> None:
        self.target: int | bytes = fd

    def owner(self) -> tuple[int, int]:
        """User and group that it has now."""
        st = os.stat(self.target)
        return st.st_uid, st.st_gid

    def chmod(self, mode: int) -> None:
        """Sets the mode."""
        os.chmod(self.target, mode)


class PinnedHandle(OpenHandle):
    """An entry that must not or cannot be opened: a link, a device, a file without rights."""

    __slots__ = ("_symlink",)

    def __init__(self, fd: int, *, symlink: bool) -> None:
        super().__init__(fd)
        self.target = posix.pinned_path(fd)
        self._symlink = symlink

    def chmod(self, mode: int) -> None:
        """Sets the mode; links have none."""
        if not self._symlink:
            super().chmod(mode)


class AttributeWriter:
    """Knows the options, the process's rights and the names of owners.

    Args:
        users, groups: names of owners as recorded, by number.
    """

    def __init__(
        self, options: RestoreOptions, report: Reporter, users: Mapping[int, str], groups: Mapping[int, str]
    ) -> None:
        self.uid, self.gid = posix.effective_user()
        self.sets_owner = self.uid == 0 if options.owner is None else options.owner
        self._map_names = not options.numeric_owner
        self._report = report
        self._users, self._groups = users, groups
        self._owners = posix.Owners()
        self._uids: dict[int, int] = {}
        self._gids: dict[int, int] = {}
        self._now = time.time_ns()

    def wanted_owner(self, attributes: Attributes) -> tuple[int, int]:
        """User and group in this system's numbers."""
        return self._local_owner(attributes.uid, attributes.gid)

    def _local_owner(self, recorded_uid: int, recorded_gid: int) -> tuple[int, int]:
        uid, gid = self._uids.get(recorded_uid), self._gids.get(recorded_gid)
        if uid is None:
            name = self._users.get(recorded_uid) if self._map_names else None
            local = self._owners.uid(name) if name else None
            uid = self._uids[recorded_uid] = recorded_uid if local is None else local
        if gid is None:
            name = self._groups.get(recorded_gid) if self._map_names else None
            local = self._owners.gid(name) if name else None
            gid = self._gids[recorded_gid] = recorded_gid if local is None else local
        return uid, gid

    def apply(
        self, handle: OpenHandle, path: bytes, item: Item, *, has: tuple[int, int] | None = None, existed: bool = False
    ) -> None:
        """Owner first (it clears the rest), then extended attributes, mode and times.

        Args:
            has: owner that the entry has now, when known.
            existed: also take away attributes that the entry has beyond the recorded ones.

        Raises:
            OSError: mode or times cannot be set.
        """
        attributes, extras = item
        mode = attributes.mode & 0o7777
        owned = True
        if self.sets_owner or mode & _PRIVILEGE or extras:
            owned = self._own(handle, path, attributes, has)
        if not owned and mode & _PRIVILEGE:
            self._report.warn(path, "mode", "setuid and setgid were dropped, since the owner could not be set")
            mode &= ~_PRIVILEGE
        if existed:
            self._remove_foreign(handle, path, extras)
        if extras:
            mode = self._set_xattrs(handle, path, extras, mode, owned=owned)
        handle.chmod(mode)
        os.utime(handle.target, ns=(self._now, attributes.mtime))

    def is_plain(self, uid: int, gid: int, inherited: int) -> bool:
        """Whether a new file has its recorded owner without more ado.

        Args:
            uid, gid: as recorded.
            inherited: the group of its directory, which may hand it down.
        """
        ours = self._uids.get(uid) == self.uid and self._gids.get(gid) == self.gid == inherited
        return ours or (inherited == self.gid and self._local_owner(uid, gid) == (self.uid, self.gid))

    def finish(self, fd: int, mode: int | None, mtime: int) -> None:
        """Mode, unless it has it, and times of a file that has its owner and nothing else.

        Raises:
            OSError.
        """
        if mode is not None:
            os.chmod(fd, mode)
        os.utime(fd, ns=(self._now, mtime))

    def _own(self, handle: OpenHandle, path: bytes, attributes: Attributes, has: tuple[int, int] | None) -> bool:
        """Sets the owner if allowed; whether the entry has its recorded owner now."""
        wanted = self.wanted_owner(attributes)
        if has == wanted:
            return True
        if self.sets_owner:
            try:
                os.chown(handle.target, *wanted)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL, *posix.NOT_SUPPORTED):
                    raise
                self._report.warn(path, "owner", f"the owner could not be set: {error.strerror}")
            else:
                return True
        return handle.owner() == wanted

    def _remove_foreign(self, handle: OpenHandle, path: bytes, extras: Extras) -> None:
        try:
            wanted = {name for name, _ in xattrs(extras)}
            for name in posix.list_xattrs(handle.target):
                if name not in wanted and name.startswith(_REMOVABLE):
                    posix.remove_xattr(handle.target, name)
        except OSError as error:
            self._report.warn(path, "xattr", f"an extended attribute could not be removed: {error.strerror}")

    def _set_xattrs(self, handle: OpenHandle, path: bytes, extras: Extras, mode: int, *, owned: bool) -> int:
        """Sets extended attributes, capabilities last; returns the mode to set."""
        if not any(tag == Extra.XATTR for tag, _ in extras):
            return mode
        for name, value in sorted(xattrs(extras), key=lambda pair: pair[0] == _CAPABILITY):
            if name == _CAPABILITY and not owned:
                self._report.warn(path, "capability", "capabilities were dropped, since the owner could not be set")
                continue
            try:
                posix.set_xattr(handle.target, name, value)
            except OSError as error:
                kind = os.fsdecode(name.partition(b".")[0])
                message = f"cannot set extended attribute {os.fsdecode(name)}: {error.strerror}"
                self._report.warn(path, "xattr", message, key=kind)
                if name == _ACCESS_ACL:
                    mode = _without_acl(mode, value)
        return mode


def _without_acl(mode: int, acl: bytes) -> int:
    """The mode of an entry whose list is lost: its group bits were the list's mask, not the group's rights."""
    entries = acl[4:]
    for tag, rights, _ in _ACL_ENTRY.iter_unpack(entries[: len(entries) // _ACL_ENTRY.size * _ACL_ENTRY.size]):
        if tag == _ACL_GROUP_OBJ:
            allowed: int = (rights & 7) << 3
            return mode & (~0o070 | allowed)
    return mode & ~0o070
