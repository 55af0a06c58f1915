"""The tree of a backup of another engine, as a source for a new backup."""

from __future__ import annotations

import errno
import os
import stat
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from freezer_sdk.files.extras import pack_device, pack_extents, pack_xattr
from freezer_sdk.model import Entry, EntryType, Problem
from freezer_sdk.modes.base import (
    FLAG_HARDLINK,
    STAT,
    Attributes,
    Enter,
    Extra,
    Extras,
    Leave,
    OwnerNames,
    ProblemHandler,
    Tree,
)

_TYPES: Final = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.DIRECTORY: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.SOCKET: stat.S_IFSOCK,
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}
_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1
_I64: Final = (1 << 63) - 1


@dataclass(slots=True)
class Folder:
    """A directory of the tree.

    Attributes:
        rows: packed stats, in the order of the names.
        facts: of entries that have any.
        lost: files whose content is known to be lost.
    """

    path: bytes
    names: list[bytes] = field(default_factory=list)
    rows: bytearray = field(default_factory=bytearray)
    facts: dict[int, Extras] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    incomplete: bool = False

    def child(self, index: int) -> bytes:
        """The path of an entry; of a root its name is the path."""
        name = self.names[index]
        return name if not self.path else self.path.rstrip(b"/") + b"/" + name

    def row(self, index: int) -> bytes:
        """The packed stats of an entry."""
        return bytes(self.rows[index * STAT.size : (index + 1) * STAT.size])


class ImportedTree(Tree):
    """Directories and files of a backup. Contents come from what :meth:`feed` is given.

    Args:
        roots: recorded absolute paths.
        entries: parents first, in the order of the tree.
        problems: what is known to be missing; told again by each walk.
        stamp: tells files of this backup from those of others where their content is not known to be the same.
    """

    def __init__(
        self, roots: Sequence[bytes], entries: Iterable[Entry], problems: Sequence[Problem], *, stamp: int
    ) -> None:
        self.roots = tuple(sorted(roots))
        self.mount_points: Sequence[bytes] = ()
        self._problems, self._stamp = problems, stamp
        self._users: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._top = Folder(b"")
        self._folders: dict[bytes, Folder] = {}
        self._keys: dict[bytes, bytes] = {}  # of names of files with several names
        self.sizes: dict[bytes, int] = {}
        self._open: Callable[[bytes], int] | None = None
        for entry in entries:
            self._add(entry)
        for root in self.roots:
            if root not in self._top.names:
                self._add_folder(root)
        self._sort_roots()

    @property
    def owners(self) -> OwnerNames:
        """Names that the backup recorded: this machine may know others by these numbers."""
        return OwnerNames(users=self._users, groups=self._groups)

    def again(self) -> ImportedTree:
        """See :meth:`Tree.again <freezer_sdk.modes.base.Tree.again>`.

        Raises:
            OSError: contents come once.
        """
        raise OSError(errno.ENOTSUP, "a backup is imported into one repository at a time")

    def feed(self, open_file: Callable[[bytes], int]) -> None:
        """Where contents come from."""
        self._open = open_file

    def key(self, path: bytes) -> bytes:
        """Under which the content of a path is known: that of one of the names of a file."""
        return self._keys.get(path, path)

    def changed_since(self, before: ImportedTree | None) -> Callable[[bytes], bool]:
        """Tells the keys of files that are not as in another tree."""
        if before is None:
            return lambda key: True
        changed = set()
        for path, folder in self._folders_with_top():
            old = before._top if not path else before._folders.get(path)
            if old is not None and old.names == folder.names and old.rows == folder.rows:
                continue
            rows = {} if old is None else {name: old.row(index) for index, name in enumerate(old.names)}
            for index, name in enumerate(folder.names):
                if rows.get(name) != folder.row(index):
                    changed.add(self.key(folder.child(index)))
        return changed.__contains__

    def __len__(self) -> int:
        return sum(len(folder.names) for _path, folder in self._folders_with_top())

    def find(self, path: bytes) -> Attributes | None:
        """What is known of an entry."""
        parent, _, name = path.rpartition(b"/")
        folder, name = (self._top, path) if path in self.roots else (self._folders.get(parent or b"/"), name)
        if folder is None:
            return None
        index = bisect_left(folder.names, name)
        if index == len(folder.names) or folder.names[index] != name:
            return None
        return Attributes._make(STAT.unpack(folder.row(index)))

    def walk(self, problem: ProblemHandler) -> Iterator[Enter | Leave]:
        """See :meth:`Tree.walk <freezer_sdk.modes.base.Tree.walk>`."""
        for each in self._problems:
            problem(each)
        yield from self._walk(self._top)

    def _walk(self, top: Folder) -> Iterator[Enter | Leave]:
        stack = [(top, self._below(top))]
        yield Enter(directory=_Scanned(self, top))
        while stack:
            child = next(stack[-1][1], None)
            if child is None:
                stack.pop()
                yield Leave()
                continue
            stack.append((child, self._below(child)))
            yield Enter(directory=_Scanned(self, child))

    def _below(self, folder: Folder) -> Iterator[Folder]:
        for index in range(len(folder.names)):
            if folder.rows[index * STAT.size + 1] >> 4 == stat.S_IFDIR >> 12:
                yield self._folders[folder.child(index)]

    def _folders_with_top(self) -> Iterator[tuple[bytes, Folder]]:
        yield b"", self._top
        yield from self._folders.items()

    # -- building ------------------------------------------------------------------------------------------

    def _add(self, entry: Entry) -> None:
        if entry.path in self.roots:
            folder, name = self._top, entry.path
        else:
            parent, _, name = entry.path.rpartition(b"/")
            folder = self._parent(parent or b"/")
        index = len(folder.names)
        folder.names.append(name)
        folder.rows += _row(entry, self._stamp)
        facts = _facts(entry)
        if facts:
            folder.facts[index] = facts
        for number, owner, known in ((entry.uid, entry.user, self._users), (entry.gid, entry.group, self._groups)):
            if owner:
                known.setdefault(number & _U32, owner)
        if entry.type is EntryType.DIRECTORY:
            self._folder(entry.path).incomplete = entry.incomplete
        elif entry.type is EntryType.FILE:
            if entry.incomplete:
                folder.lost.add(index)
            if entry.link_group is not None:
                self._keys[entry.path] = b"\0" + entry.link_group
            self.sizes[self.key(entry.path)] = entry.size

    def _parent(self, path: bytes) -> Folder:
        """The folder of an entry, also when it is only implied."""
        if path not in self._folders and path not in self.roots and path != b"/":
            self._add(Entry(path=path, type=EntryType.DIRECTORY, mode=0o755))
        return self._folder(path)

    def _folder(self, path: bytes) -> Folder:
        found = self._folders.get(path)
        if found is None:
            found = self._folders[path] = Folder(path)
        return found

    def _add_folder(self, path: bytes) -> None:
        """A root of which nothing is recorded, as in the original's rsync format."""
        self._folder(path)
        self._top.names.append(path)
        self._top.rows += STAT.pack(stat.S_IFDIR | 0o755, 0, 0, 0, 0, 0, 0, 0)

    def _sort_roots(self) -> None:
        top, order = self._top, sorted(range(len(self._top.names)), key=self._top.names.__getitem__)
        self._top = Folder(
            b"",
            [top.names[index] for index in order],
            bytearray(b"".join(top.row(index) for index in order)),
            {new: top.facts[old] for new, old in enumerate(order) if old in top.facts},
            {new for new, old in enumerate(order) if old in top.lost},
        )

    def open_file(self, path: bytes) -> int:
        """A descriptor on the content of a file.

        Raises:
            OSError: it is lost.
        """
        assert self._open is not None
        return self._open(path)


class _Scanned:
    """See :class:`~freezer_sdk.modes.base.Directory`."""

    def __init__(self, tree: ImportedTree, folder: Folder) -> None:
        self._tree, self._folder = tree, folder
        self.path: bytes = folder.path
        self.names: Sequence[bytes] = folder.names
        self.stats = bytes(folder.rows)
        self.incomplete = folder.incomplete

    def open(self, index: int) -> int:
        """The content of a file."""
        if index in self._folder.lost:
            raise OSError(errno.EIO, "its content is in a part of the backup that cannot be read")
        return self._tree.open_file(self._folder.child(index))

    def restat(self, index: int, fd: int) -> bytes:
        """What a backup holds does not change."""
        return self._folder.row(index)

    def extras(self, index: int, fd: int | None) -> Extras:
        """Link target, attributes, device, link group, data ranges."""
        return self._folder.facts.get(index, ())


def _row(entry: Entry, stamp: int) -> bytes:
    unknown = stamp << 32 if entry.type is EntryType.FILE else 0
    facts = unknown | zlib.crc32(repr((entry.link_target, entry.xattrs, entry.device)).encode())
    return STAT.pack(
        _TYPES[entry.type] | entry.mode & 0o7777,
        entry.uid & _U32,
        entry.gid & _U32,
        FLAG_HARDLINK if entry.link_group is not None else 0,
        _size(entry),
        max(-_I64, min(entry.mtime_ns, _I64)),
        max(-_I64, min(entry.ctime_ns, _I64)),
        (entry.inode or facts) & _U64,
    )


def _size(entry: Entry) -> int:
    if entry.type is EntryType.SYMLINK:
        return len(entry.link_target or b"")
    return entry.size if entry.type is EntryType.FILE else 0


def _facts(entry: Entry) -> Extras:
    found: list[tuple[int, bytes]] = []
    if entry.type is EntryType.SYMLINK:
        found.append((Extra.LINK_TARGET, entry.link_target or b""))
    found += [(Extra.XATTR, pack_xattr(name, value)) for name, value in entry.xattrs]
    if entry.device is not None:
        found.append((Extra.DEVICE, pack_device(*entry.device)))
    if entry.link_group is not None:
        found.append((Extra.LINK_GROUP, entry.link_group))
    if entry.extents is not None and entry.type is EntryType.FILE:
        found.append((Extra.EXTENTS, pack_extents(entry.extents)))
    return found


def recorded_roots(paths: Iterable[str]) -> tuple[bytes, ...]:
    """The roots of a backup; of one that records none, all lies below ``/``."""
    return tuple(os.fsencode(path) for path in paths) or (b"/",)
