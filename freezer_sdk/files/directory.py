"""One directory of a walk: listed once, then a place to open its files and to ask for their facts."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from freezer_sdk.errors import SourceUnreadable
from freezer_sdk.files import posix
from freezer_sdk.files.extras import pack_device, pack_extents, pack_xattr
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.report import NOT_IN_SNAPSHOT, OUT_OF_SNAPSHOT, Reporter
from freezer_sdk.modes.base import FLAG_HARDLINK, FLAG_NOT_DESCENDED, STAT, Extra, Extras

CACHE_TAG = b"CACHEDIR.TAG"
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
_LONG_PATH = 4096
_TYPE = 0o170000
_REGULAR, _DIRECTORY, _SYMLINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
_DEVICES = (stat.S_IFBLK, stat.S_IFCHR)
_U32, _U64, _I64 = (1 << 32) - 1, (1 << 64) - 1, (1 << 63) - 1
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_VANISHED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE)


@dataclass(kw_only=True)
class WalkState:
    """What all directories of one walk share."""

    report: Reporter
    patterns: Patterns
    one_file_system: bool
    exclude_caches: bool
    follow_soft: bool
    follow_hard: bool
    mount_points: list[bytes]
    missing: Collection[bytes]
    roots: Collection[bytes]
    in_snapshot: bool
    keep_open: int
    systems: dict[int, bytes] = field(default_factory=dict)

    @property
    def has_special(self) -> bool:
        """Whether options ask for more than recording entries as they are."""
        return self.follow_soft or self.one_file_system or self.exclude_caches or bool(self.missing)

    def name_system(self, device: int, path: bytes) -> None:
        """Gives a file system a name that, unlike its device number, is the same in the next run."""
        if device not in self.systems:
            self.systems[device] = hashlib.blake2b(path, digest_size=8).digest()

    def leave_out(self, path: bytes) -> None:
        """Records a directory of which the content is not in the snapshot of the volume above."""
        self.mount_points.append(path)
        if not self.one_file_system and path not in self.roots:
            self.report.fatal(path, *NOT_IN_SNAPSHOT)

    def unreadable(self, path: bytes, error: OSError) -> None:
        """Reports a directory or an entry that cannot be backed up."""
        kind = "vanished" if error.errno in _VANISHED else "unreadable"
        self.report.fatal(path, kind, error.strerror or str(error))


def _row(st: os.stat_result, flags: int) -> bytes:
    """A STAT row; numbers that no row can hold are cut to the nearest one."""
    size = st.st_size if st.st_mode & _TYPE in (_REGULAR, _SYMLINK) else 0
    try:
        return STAT.pack(st.st_mode, st.st_uid, st.st_gid, flags, size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino)
    except struct.error:
        mtime, ctime = (max(-_I64, min(time, _I64)) for time in (st.st_mtime_ns, st.st_ctime_ns))
        return STAT.pack(st.st_mode, st.st_uid & _U32, st.st_gid & _U32, flags, size, mtime, ctime, st.st_ino & _U64)


class ScannedDirectory:
    """One directory, as the walk saw it; see :class:`~freezer_sdk.modes.base.Directory`."""

    def __init__(self, state: WalkState, parent: ScannedDirectory | None, name: bytes, path: bytes | None) -> None:
        self.names: list[bytes] = []
        self.stats = b""
        self.incomplete = False
        self._state = state
        self._parent = parent
        self._name = name  # as opened
        self._path = path
        self._root = b"/"  # the root that it lies under
        self._root_device = 0
        self._identity = (0, 0)  # device and inode
        self._opened_through_link = False
        self._tag_only = False
        self._fd: int | None = None
        self._reading = self.names  # what to open for each name
        self._subdirectories: list[int] = []  # still to be entered, last first
        self._sparse: set[int] = set()
        self._link_devices: dict[int, int] = {}
        self._followed: set[int] = set()
        self._tagged: set[int] = set()

    @property
    def path(self) -> bytes:
        """Original absolute path; empty for the directory of the roots."""
        names: list[bytes] = []
        directory = self
        while directory._path is None:  # long ones are not kept: a deep tree would hold the square of its depth
            assert directory._parent is not None
            names.append(directory._name)
            directory = directory._parent
        return b"/".join([directory._path.rstrip(b"/"), *reversed(names)]) if names else directory._path

    def child_path(self, name: bytes) -> bytes:
        """The recorded path of an entry."""
        return b"%s/%s" % (self.path.rstrip(b"/"), name)

    def open(self, index: int) -> int:
        """A descriptor on a regular file; the caller closes it.

        Raises:
            OSError: vanished, unreadable, or no longer a regular file.
        """
        return posix.open_regular(self._reading[index], dir_fd=self.dir_fd(), follow=index in self._followed)

    def restat(self, index: int, fd: int) -> bytes:
        """The STAT row of an open file, in the form that the scan gives.

        Raises:
            OSError: as ``fstat``.
        """
        st = os.fstat(fd)
        linked = st.st_nlink > 1 and not self._state.follow_hard
        return _row(st, FLAG_HARDLINK if linked else 0)

    def extras(self, index: int, fd: int | None) -> Extras:
        """Link target, xattrs, device, link group, extents.

        Raises:
            OSError: the entry vanished.
        """
        mode, _, _, flags, size, _, _, inode = STAT.unpack_from(self.stats, index * STAT.size)
        kind = mode & _TYPE
        found: list[tuple[int, bytes]] = []
        if kind == _SYMLINK:
            found.append((Extra.LINK_TARGET, os.readlink(self._reading[index], dir_fd=self.dir_fd())))
        if posix.HAS_XATTRS:
            found += [(Extra.XATTR, pack_xattr(name, value)) for name, value in self._xattrs(index, fd)]
        if kind in _DEVICES:
            device = self._stat(index).st_rdev
            found.append((Extra.DEVICE, pack_device(os.major(device), os.minor(device))))
        if flags & FLAG_HARDLINK:
            system = self._state.systems[self._link_devices[index]]
            found.append((Extra.LINK_GROUP, system + inode.to_bytes(8, "little")))
        if index in self._sparse:
            extents = self._extents(index, fd, size)
            if extents is not None:
                found.append((Extra.EXTENTS, pack_extents(extents)))
        return found

    def dir_fd(self) -> int | None:
        """A descriptor on the directory, opened again if it had been put away; ``None`` for the roots.

        Raises:
            OSError: it is no longer where it was.
        """
        if self._fd is None:
            self._reopen()
        return self._fd

    def park(self) -> None:
        """Closes the descriptor until it is needed again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def next_subdirectory(self) -> int | None:
        """The index of the next subdirectory to enter."""
        return self._subdirectories.pop() if self._subdirectories else None

    def enter(self, index: int) -> ScannedDirectory | None:
        """Opens and lists a subdirectory; ``None`` when that failed, which is reported."""
        state = self._state
        path = self.child_path(self.names[index])
        child = ScannedDirectory(state, self, self._reading[index], path if len(path) < _LONG_PATH else None)
        child._opened_through_link = index in self._followed
        child._tag_only = index in self._tagged
        try:
            child._open()
        except OSError as error:
            state.unreadable(path, error)
            return None
        device = child._identity[0]
        child._root = self._root_for(path)
        child._root_device = self._root_device_for(device)
        if device != self._identity[0]:
            if state.one_file_system and device != child._root_device:
                state.mount_points.append(path)  # an automount that our opening set off
                child.park()
                return None
            state.name_system(device, path)
        child.scan()
        return child

    def scan(self) -> None:
        """Lists the directory."""
        try:
            names = self._list()
        except OSError as error:
            self._state.unreadable(self.path, error)
            self.incomplete = True
            return
        if self._tag_only:
            names = [name for name in names if name == CACHE_TAG]
        self._look_at(names)

    def _look_at(self, names: list[bytes]) -> None:
        """Fills ``stats``: the innermost loop of a backup."""
        pack, look, dir_fd = STAT.pack, os.stat, self._fd
        rows: list[bytes] = []
        lost: set[bytes] = set()
        split_links, has_special = not self._state.follow_hard, self._state.has_special
        for name in names:
            try:
                st = look(name, dir_fd=dir_fd, follow_symlinks=False)
            except OSError as error:
                self._lost(name, error)
                lost.add(name)
                continue
            flags = 0
            if has_special and st.st_mode & _TYPE != _REGULAR:
                st, flags = self._special(len(rows), name, st)
            mode, inode, device, links, uid, gid, size, _, _, _ = st
            kind = mode & _TYPE
            if kind == _DIRECTORY:
                size = 0
                if not flags or len(rows) in self._tagged:
                    self._subdirectories.append(len(rows))
            else:
                if links > 1 and split_links:
                    flags = FLAG_HARDLINK
                    self._link_devices[len(rows)] = device
                    self._state.name_system(device, self.child_path(name))
                if kind == _REGULAR:
                    if st.st_blocks * 512 < size:
                        self._sparse.add(len(rows))
                elif kind != _SYMLINK:
                    size = 0
            try:
                rows.append(pack(mode, uid, gid, flags, size, st.st_mtime_ns, st.st_ctime_ns, inode))
            except struct.error:
                rows.append(_row(st, flags))
        self.names = self._reading = [name for name in names if name not in lost] if lost else names
        self.stats = b"".join(rows)
        self._subdirectories.reverse()

    def _special(self, index: int, name: bytes, st: os.stat_result) -> tuple[os.stat_result, int]:
        """What options ask for: followed links, other file systems, tagged caches."""
        state = self._state
        if state.follow_soft and stat.S_ISLNK(st.st_mode):
            st = self._follow(index, name, st)
        if not stat.S_ISDIR(st.st_mode):
            return st, 0
        if state.missing and self._parent is not None and (path := self.child_path(name)) in state.missing:
            state.leave_out(path)
            return st, FLAG_NOT_DESCENDED
        if state.one_file_system and st.st_dev != self._root_device_for(st.st_dev):
            state.mount_points.append(self.child_path(name))
            return st, FLAG_NOT_DESCENDED
        if state.exclude_caches and self._is_cache(name):
            self._tagged.add(index)
            return st, FLAG_NOT_DESCENDED
        return st, 0

    def _follow(self, index: int, name: bytes, st: os.stat_result) -> os.stat_result:
        state = self._state
        try:
            target = os.stat(name, dir_fd=self._fd)
        except OSError as error:
            message = f"stored as a link, since it leads nowhere: {error.strerror}"
            state.report.note(self.child_path(name), "dangling", message)
            return st
        if stat.S_ISDIR(target.st_mode) and (target.st_dev, target.st_ino) in self._ancestry():
            message = "stored as a link, since it leads to a directory that contains it"
            state.report.note(self.child_path(name), "loop", message)
            return st
        if state.in_snapshot and target.st_dev != self._root_device_for(st.st_dev):
            state.report.note(self.child_path(name), *OUT_OF_SNAPSHOT)
        self._followed.add(index)
        return target

    def _ancestry(self) -> Iterator[tuple[int, int]]:
        directory: ScannedDirectory | None = self
        while directory is not None:
            yield directory._identity
            directory = directory._parent

    def _is_cache(self, name: bytes) -> bool:
        try:
            fd = os.open(name + b"/" + CACHE_TAG, posix.READ_FILE | posix.O_NOFOLLOW, dir_fd=self._fd)
        except OSError:
            return False
        try:
            regular = stat.S_ISREG(os.fstat(fd).st_mode)
            return regular and os.read(fd, len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
        except OSError:
            return False
        finally:
            os.close(fd)

    def _list(self) -> list[bytes]:
        fd, patterns = self._fd, self._state.patterns
        assert fd is not None
        if not patterns:
            names = [name.encode(_ENCODING, _ERRORS) for name in os.listdir(fd)]
            names.sort()
            return names
        prefix = self.path.rstrip(b"/") + b"/" if patterns.need_paths else b""
        names = []
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, _ERRORS)
                is_directory = patterns.need_types and self._is_directory(entry)
                if not patterns.verdict(prefix + name, is_directory=is_directory, root=self._root):
                    names.append(name)
        names.sort()
        return names

    def _is_directory(self, entry: os.DirEntry[str]) -> bool:
        with suppress(OSError):
            return entry.is_dir(follow_symlinks=self._state.follow_soft)
        return False

    def _lost(self, name: bytes, error: OSError) -> None:
        path = self.child_path(name)
        if error.errno in _VANISHED:  # as if it had been removed just before the listing: nothing is amiss
            self._state.report.note(path, "vanished", "removed while its directory was being listed")
            return
        self.incomplete = True
        self._state.unreadable(path, error)

    def _root_for(self, child_path: bytes) -> bytes:
        return self._root

    def _root_device_for(self, device: int) -> int:
        """The device that a subdirectory must lie on to be entered with ``one_file_system``."""
        return self._root_device

    def _open(self) -> None:
        assert self._parent is not None
        flags = posix.READ_DIRECTORY if self._opened_through_link else posix.READ_DIRECTORY | posix.O_NOFOLLOW
        self._fd = os.open(self._name, flags, dir_fd=self._parent.dir_fd())
        st = os.fstat(self._fd)
        self._identity = (st.st_dev, st.st_ino)

    def _reopen(self) -> None:
        """Opens the directories above that were put away, checking that each is still the same one."""
        chain: list[ScannedDirectory] = []
        directory: ScannedDirectory = self
        while directory._fd is None and directory._parent is not None:
            chain.append(directory)
            directory = directory._parent
        chain.reverse()
        keep = self._state.keep_open
        for position, part in enumerate(chain):
            identity = part._identity
            part._open()
            if part._identity != identity:
                part._identity = identity
                part.park()
                raise OSError(errno.ESTALE, "directory was moved or replaced", part._name)
            if position + 1 >= keep:
                chain[position + 1 - keep].park()

    def _stat(self, index: int) -> os.stat_result:
        return os.stat(self._reading[index], dir_fd=self.dir_fd(), follow_symlinks=index in self._followed)

    def _xattrs(self, index: int, fd: int | None) -> list[tuple[bytes, bytes]]:
        def failed(error: OSError, attribute: str) -> None:
            what = f"extended attribute {attribute}" if attribute else "extended attributes"
            message = f"cannot read {what}: {error.strerror}"
            self._state.report.warn(self.child_path(self.names[index]), "xattr", message, key=attribute)

        if fd is not None:
            return posix.get_xattrs(fd, failed=failed)
        target = posix.entry_path(self.dir_fd(), self._reading[index])
        return [] if target is None else posix.get_xattrs(target, follow=index in self._followed, failed=failed)

    def _extents(self, index: int, fd: int | None, size: int) -> list[tuple[int, int]] | None:
        if fd is not None:
            extents = posix.data_extents(fd, size)
            os.lseek(fd, 0, os.SEEK_SET)
            return extents
        own = self.open(index)
        try:
            return posix.data_extents(own, size)
        finally:
            os.close(own)


class Roots(ScannedDirectory):
    """The directory of the roots: its names are absolute paths.

    Args:
        reading: what to read for each root.
        covered: what must be there too, though another root covers it.
    """

    def __init__(self, state: WalkState, reading: Mapping[bytes, bytes], covered: Sequence[bytes] = ()) -> None:
        super().__init__(state, None, b"", b"")
        self._covered = covered
        self._recorded = {read: root for root, read in reading.items()}
        self._error: OSError | None = None

    def scan(self) -> None:
        """Looks at the roots; one that cannot be looked at is reported, and the others are backed up.

        Raises:
            SourceUnreadable: none can be looked at.
        """
        reading = []
        for path, root in self._recorded.items():
            device = self._device(path)
            if device is not None:
                self._state.name_system(device, root)
                self._point_out_link(path)
                reading.append(path)
        if reading:
            for path in self._covered:
                self._device(path)
            self._look_at(reading)
            self.names = [self._recorded[path] for path in self._reading]
        if not self.names and self._error is not None:
            names = ", ".join(os.fsdecode(root) for root in self._recorded.values())
            message = f"cannot read {names}: {self._error.strerror}"
            raise SourceUnreadable(message, hint="check the path and its permissions") from self._error

    def _device(self, path: bytes) -> int | None:
        try:
            return os.stat(path, follow_symlinks=self._state.follow_soft).st_dev
        except OSError as error:
            self._lost(path, error)
            return None

    def _point_out_link(self, path: bytes) -> None:
        if not self._state.follow_soft and os.path.islink(path) and os.path.isdir(path):
            message = "only the link is stored; to store the directory, add a slash, or follow soft links"
            self._state.report.note(self.child_path(path), "symlink", message)

    def dir_fd(self) -> int | None:
        """None: the names are absolute."""
        return None

    def child_path(self, name: bytes) -> bytes:
        """The name is the path."""
        return self._recorded.get(name, name)

    def _lost(self, name: bytes, error: OSError) -> None:
        self._error = error
        if len(self._recorded) > 1 or self._covered:
            self._state.unreadable(self.child_path(name), error)

    def _root_for(self, child_path: bytes) -> bytes:
        return child_path

    def _root_device_for(self, device: int) -> int:
        return device
