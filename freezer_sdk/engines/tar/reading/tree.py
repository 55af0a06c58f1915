"""The tree that the levels of a chain make, as it grows level by level: names, and where each content lies."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import NamedTuple

from freezer_sdk.engines.tar.reading.dumpdir import CHANGED, DIRECTORY, UNCHANGED, Dumpdir
from freezer_sdk.engines.tar.reading.headers import Member, Owner
from freezer_sdk.files.extras import pack_extents

DEEPEST = 2048
_NO_NAMES: frozenset[bytes] = frozenset()
_FACTS = struct.Struct("<IQqq")


class Facts(NamedTuple):
    """What is recorded of an entry, unpacked."""

    mode: int
    size: int
    mtime: int
    ctime: int


class Special(NamedTuple):
    """What few entries have."""

    link: bytes = b""
    device: tuple[int, int] | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    extents: bytes | None = None


class File:
    """Everything but a directory; several names may lead to one.

    Attributes:
        level, number: the member that holds its content.
        linked: it has, or had, several names.
        lost: its content is in a part of a level that cannot be read.
        stale: a later level should have had it, but does not.
    """

    __slots__ = ("level", "linked", "lost", "number", "owner", "packed", "special", "stale")

    def __init__(self, member: Member, level: int) -> None:
        self.packed = _FACTS.pack(member.mode, member.size, member.mtime, member.ctime)
        self.owner = member.owner
        self.special = _special(member)
        self.level = level
        self.number = member.number
        self.linked = self.lost = self.stale = False

    @property
    def facts(self) -> Facts:
        """What is recorded of it."""
        return Facts(*_FACTS.unpack(self.packed))


class Lost:
    """A name whose entry is in a part of a level that cannot be read."""

    __slots__ = ("level",)

    def __init__(self, level: int) -> None:
        self.level = level


class Directory:
    """A directory.

    Attributes:
        owner: ``None``: it only leads to what it holds, nothing is recorded of it.
        expected: names that its listing has as stored in the level that is being read, and that did not come yet.
        missing: names that were to come in a level that was read to its end, and did not.
        absent: names listed as unchanged that no level below has; most were left out on purpose.
        lacking: those of them that may be lost.
        stale: a later level lists it as unchanged, as it does when it cannot be read or is left out from then on.
        doubtful: that happened while directories were renamed, when GNU tar forgets some.
    """

    __slots__ = (
        "absent",
        "children",
        "doubtful",
        "expected",
        "lacking",
        "missing",
        "owner",
        "packed",
        "special",
        "stale",
    )

    def __init__(self) -> None:
        self.children: dict[bytes, Node] = {}
        self.packed = b""
        self.owner: Owner | None = None
        self.special: Special | None = None
        self.expected: set[bytes] = set()
        self.missing = self.absent = self.lacking = _NO_NAMES
        self.stale = self.doubtful = False

    @property
    def facts(self) -> Facts:
        """What is recorded of it."""
        return Facts(*_FACTS.unpack(self.packed)) if self.packed else Facts(stat.S_IFDIR | 0o755, 0, 0, 0)

    def record(self, member: Member) -> None:
        """Takes what a member says of it."""
        self.stale = self.doubtful = False
        self.packed = _FACTS.pack(member.mode, 0, member.mtime, member.ctime)
        self.owner = member.owner
        self.special = _special(member)


Node = File | Lost | Directory


def _special(member: Member) -> Special | None:
    if not (member.link or member.device or member.xattrs or member.segments is not None):
        return None
    extents = None if member.segments is None else pack_extents(member.segments)
    return Special(b"" if member.hard else member.link, member.device, member.xattrs, extents)


class BadPath(ValueError):
    """A name leads nowhere in the tree."""


def parts(name: bytes) -> list[bytes]:
    """The names on the way to an entry; empty for the root.

    Raises:
        BadPath: it would lead out of the tree, or is too long.
    """
    found = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in found:
        raise BadPath("it leads out of the tree")
    if len(found) > DEEPEST:
        raise BadPath("it is too deep")
    return found


class Tree:
    """Takes the members of one level after the other, as an incremental extraction would take them.

    Attributes:
        root: ``owner`` is ``None`` when it is not recorded (a backup of a single file).
    """

    def __init__(self) -> None:
        self.root = Directory()
        self._listed: list[Directory] = []
        self._parent: tuple[bytes, Directory] | None = None  # most members follow one of the same directory

    # -- members -------------------------------------------------------------------------------------------

    def directory(self, member: Member, listing: Dumpdir | None, *, doubtful: bool) -> None:
        """Takes a directory.

        Args:
            listing: what it held; ``None``: it is not known, and everything stays.
            doubtful: what should be there may not be, since a level below is damaged or directories were renamed.

        Raises:
            BadPath.
        """
        self._parent = None
        path = parts(member.name)
        node = self.root
        if path:
            holder = self._holder(path)
            found = holder.children.get(path[-1])
            node = found if isinstance(found, Directory) else Directory()
            holder.children[path[-1]] = node
            holder.expected.discard(path[-1])
        node.record(member)
        if listing is not None:
            self._purge(node, listing.names, doubtful=doubtful)

    def _purge(self, node: Directory, names: dict[bytes, int], *, doubtful: bool) -> None:
        """Removes what the directory did not hold any more, and remembers what is to come."""
        children = node.children
        for name in [name for name, child in children.items() if not _stays(child, names.get(name))]:
            del children[name]
        node.expected = {name for name, code in names.items() if code != UNCHANGED}
        unchanged = [name for name, code in names.items() if code == UNCHANGED]
        absent = frozenset(name for name in unchanged if name not in children) or _NO_NAMES
        node.missing = node.missing & absent or _NO_NAMES
        new = absent - node.absent - node.missing if doubtful else _NO_NAMES
        node.lacking = node.lacking & absent | new or _NO_NAMES
        node.absent = absent
        for name in unchanged:
            child = children.get(name)
            if isinstance(child, Directory):
                child.stale = True
                child.doubtful = child.doubtful or doubtful
        self._listed.append(node)

    def file(self, member: Member, level: int, *, lost: bool = False) -> None:
        """Takes anything that is neither a directory nor a hard link.

        Args:
            lost: its content cannot be read.

        Raises:
            BadPath.
        """
        holder, name = self._place(member.name)
        node = File(member, level)
        node.lost = lost
        holder.children[name] = node
        holder.expected.discard(name)

    def link(self, member: Member) -> None:
        """Takes one more name of a file.

        Raises:
            BadPath: also when there is no such file.
        """
        target: Node | None = self.root
        for part in parts(member.link):
            target = target.children.get(part) if isinstance(target, Directory) else None
        if not isinstance(target, File):
            raise BadPath("the file that it is another name of is not there")
        holder, name = self._place(member.name)
        target.linked = True
        holder.children[name] = target
        holder.expected.discard(name)

    def _place(self, name: bytes) -> tuple[Directory, bytes]:
        """The directory and the name in it."""
        directory, _, base = name.rpartition(b"/")
        if self._parent is not None and self._parent[0] == directory and base not in (b"", b".", b".."):
            return self._parent[1], base
        path = parts(name)
        if not path:
            raise BadPath("it has no name")
        holder = self._holder(path)
        if path[-1] == base:
            self._parent = directory, holder
        return holder, path[-1]

    def look(self, name: bytes) -> tuple[bytes, Directory | None, bytes]:
        """The path of a member, the directory that holds it, if there is one, and the name in it. Changes nothing."""
        try:
            found = parts(name)
        except BadPath:
            found = []
        if not found:
            return b"", None, b""
        node: Node | None = self.root
        for part in found[:-1]:
            node = node.children.get(part) if isinstance(node, Directory) else None
        return b"/".join(found), node if isinstance(node, Directory) else None, found[-1]

    def _holder(self, path: list[bytes]) -> Directory:
        """The directory that holds the last one of these names; made where nothing is recorded of it."""
        node = self.root
        for part in path[:-1]:
            found = node.children.get(part)
            if found is None or isinstance(found, Lost):
                found = node.children[part] = Directory()
            elif isinstance(found, File):
                raise BadPath("it leads through something that is no directory")
            node = found
        return node

    # -- levels --------------------------------------------------------------------------------------------

    def finish(self, level: int, *, damaged: bool) -> None:
        """Ends a level: settles what its listings have and its stream did not.

        Args:
            damaged: the stream could not be read to its end.
        """
        for node in self._listed:
            for name in node.expected:
                found = node.children.get(name)
                if isinstance(found, Directory):
                    continue
                if damaged:
                    node.children[name] = _lost(found, level)
                elif isinstance(found, File):
                    found.stale = True
            if node.expected and not damaged:
                node.missing |= frozenset(name for name in node.expected if name not in node.children)
            node.expected = set()
        self._listed = []
        self._parent = None

    def walk(self) -> Iterator[tuple[bytes, Node]]:
        """All entries in the order of the tree, parents first; the root first, as ``b"."``, when it is recorded."""
        if self.root.owner is not None:
            yield b".", self.root
        stack: list[tuple[bytes, Iterator[tuple[bytes, Node]]]] = [(b"", _sorted(self.root))]
        while stack:
            prefix, children = stack[-1]
            for name, node in children:
                yield prefix + name, node
                if isinstance(node, Directory):
                    stack.append((prefix + name + b"/", _sorted(node)))
                    break
            else:
                stack.pop()


def _stays(child: Node, code: int | None) -> bool:
    if code is None:
        return False
    is_directory = isinstance(child, Directory)
    return not ((code == DIRECTORY and not is_directory) or (code == CHANGED and is_directory))


def _lost(found: Node | None, level: int) -> Node:
    """What stands for a file of which an older state is known at most."""
    if not isinstance(found, File):
        return Lost(level)
    copy = File.__new__(File)  # its other names may not be lost
    copy.packed, copy.owner, copy.special = found.packed, found.owner, found.special
    copy.level, copy.number = level, -1
    copy.linked, copy.lost, copy.stale = False, True, False
    return copy


def _sorted(directory: Directory) -> Iterator[tuple[bytes, Node]]:
    return iter(sorted(directory.children.items(), key=lambda item: item[0]))
