"""Reading directories of a stored backup."""

from __future__ import annotations

import hashlib
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import lt
from typing import NamedTuple

from freezer_sdk.engines.dedup.page import Content, Page, content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Entry, EntryType
from freezer_sdk.modes.base import FLAG_INCOMPLETE, FLAG_NOT_DESCENDED, Attributes, Extra, Extras

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFSOCK: EntryType.SOCKET,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
}
_NO_NAMES = frozenset((b"", b".", b".."))
_MAX_DEPTH = 20_000  # of directories: a cycle in a hostile repository ends


class Node(NamedTuple):
    """One stored entry as the engine sees it."""

    name: bytes
    attributes: Attributes
    content: Content
    extras: Extras


_make_node = partial(tuple.__new__, Node)  # without a call of Python code: there are millions of them


@dataclass(frozen=True)
class Owners:
    """Names of numeric owners, as the backup recorded them."""

    users: Mapping[int, str]
    groups: Mapping[int, str]


class TreeReader:
    """Walks the directories of stored backups."""

    def __init__(self, blobs: BlobReader) -> None:
        self.blobs = blobs

    def pages(self, content: Content) -> Iterator[Page]:
        """The pages of a directory, in order.

        Raises:
            IntegrityError, StorageError.
        """
        for blob in content_ids(content, self.blobs.meta):
            yield Page(self.blobs.meta(blob))

    def checked_pages(self, content: Content, *, top: bool = False) -> Iterator[Page]:
        """As :meth:`pages`, with names that are sorted and stay in the directory.

        Args:
            top: the directory of the roots, whose names are absolute paths.

        Raises:
            IntegrityError, StorageError.
        """
        last: list[bytes] = []
        for page in self.pages(content):
            _check_names(page, last, top=top)
            last = page.names[-1:]
            yield page

    def nodes(self, content: Content, *, top: bool = False) -> Iterator[Node]:
        """The entries of a directory, sorted by name.

        Args:
            top: the directory of the roots, whose names are absolute paths.

        Raises:
            IntegrityError: damaged, or a name could lead outside the directory; StorageError.
        """
        for page in self.checked_pages(content, top=top):
            yield from nodes_of(page)

    def walk(
        self, root: Content, *, below: bytes | None = None, depth: int | None = None
    ) -> Iterator[tuple[bytes, Node]]:
        """All entries, parents first, siblings in the order of their names; ``path`` is absolute.

        Args:
            root: the roots directory.
            below: an absolute path: only this entry and what lies below it.
            depth: how many levels to go down from there; ``None``: all.

        Raises:
            IntegrityError, StorageError.
        """
        stack: list[tuple[bytes, Iterator[Node]]] = [(b"", self.nodes(root, top=True))]
        base = 1
        while stack:
            parent, nodes = stack[-1]
            node = next(nodes, None)
            if node is None:
                stack.pop()
                continue
            path = node.name if len(stack) == 1 else join(parent, node.name)
            relation = 0 if below is None else _relation(path, below)
            if relation < 0:
                continue
            if relation == 0:
                yield path, node
                if path == below:
                    base = len(stack)
                elif below is not None and len(stack) == 1:
                    base = 0  # several roots lie below a path that is none itself
                if depth is not None and len(stack) - base >= depth:
                    continue
            if stat.S_ISDIR(node.attributes.mode) and node.content.ids:
                if len(stack) > _MAX_DEPTH:
                    raise IntegrityError("directories lie deeper than they may")
                stack.append((path, self.nodes(node.content)))

    def find(self, root: Content, path: bytes) -> Node | None:
        """The entry of one absolute path."""
        return next((node for found, node in self.walk(root, below=path) if found == path), None)


def nodes_of(page: Page, numbers: Sequence[int] | None = None) -> Iterator[Node]:
    """The entries of a page, or those of some numbers.

    Raises:
        IntegrityError: damaged.
    """
    found = page.extras()
    if numbers is None:
        extras = [found.get(number, ()) for number in range(page.count)] if found else repeat(())
        return map(_make_node, zip(page.names, page.attributes(), page.contents, extras, strict=False))
    starts = page.starts()
    return (
        Node(
            page.names[number],
            page.attributes_of(number),
            page.content_at(number, starts[number]),
            found.get(number, ()),
        )
        for number in numbers
    )


def _check_names(page: Page, last: list[bytes], *, top: bool) -> None:
    """Stored names must be sorted, and stay in their directory.

    Args:
        last: the last name of the page before.
        top: roots are absolute paths.

    Raises:
        IntegrityError: they would not.
    """
    names = page.names
    before = [*last, *names[:-1]]
    if not all(map(lt, before, names[len(names) - len(before) :])):
        raise IntegrityError("a directory's names are not sorted, or one is there twice")
    parts, absolute = names, []
    if top:
        parts = [name for name in names if not name.startswith(b"/")]
        absolute = [part for name in names if len(name) > 1 and name.startswith(b"/") for part in name[1:].split(b"/")]
    # NUL separates names: none can hold it
    if b"/" in b"\0".join(parts) or not _NO_NAMES.isdisjoint(parts) or not _NO_NAMES.isdisjoint(absolute):
        raise IntegrityError("a stored name could lead outside its directory")


def join(parent: bytes, name: bytes) -> bytes:
    """A path from its parts."""
    return parent + name if parent.endswith(b"/") else parent + b"/" + name


def _relation(path: bytes, below: bytes) -> int:
    """0: the path is ``below`` or lies below it; 1: it leads there; -1: neither."""
    base = below if below.endswith(b"/") else below + b"/"
    if path == below.rstrip(b"/") or path.startswith(base) or below == path:
        return 0
    return 1 if base.startswith(path if path.endswith(b"/") else path + b"/") else -1


def entry_of(path: bytes, node: Node, owners: Owners) -> Entry:
    """The public form of a stored entry."""
    attributes = node.attributes
    facts: dict[int, bytes] = {}
    xattrs = []
    for tag, value in node.extras:
        if tag == Extra.XATTR:
            xattrs.append(split_xattr(value))
        else:
            facts[tag] = value
    device = facts.get(Extra.DEVICE)
    extents = facts.get(Extra.EXTENTS)
    content = None
    if stat.S_ISREG(attributes.mode):
        inside = bytes((node.content.depth,)) + node.content.ids + (extents or b"")
        content = hashlib.sha256(inside).digest()
    return Entry(
        path=path,
        type=_TYPES.get(stat.S_IFMT(attributes.mode), EntryType.FILE),
        mode=stat.S_IMODE(attributes.mode),
        uid=attributes.uid,
        gid=attributes.gid,
        user=owners.users.get(attributes.uid),
        group=owners.groups.get(attributes.gid),
        size=attributes.size,
        mtime_ns=attributes.mtime,
        ctime_ns=attributes.ctime,
        inode=attributes.inode,
        link_target=facts.get(Extra.LINK_TARGET),
        link_group=facts.get(Extra.LINK_GROUP),
        device=struct.unpack("<II", device) if device is not None and len(device) == 8 else None,
        xattrs=tuple(xattrs),
        extents=tuple(split_extents(extents)) if extents is not None else None,
        incomplete=bool(attributes.flags & FLAG_INCOMPLETE),
        content=content,
    )


def split_xattr(value: bytes) -> tuple[bytes, bytes]:
    """Name and value of an XATTR fact.

    Raises:
        IntegrityError: damaged.
    """
    length = int.from_bytes(value[:2], "little")
    if len(value) < 2 + length:
        raise IntegrityError("a stored extended attribute is damaged")
    return value[2 : 2 + length], value[2 + length :]


def split_extents(value: bytes) -> list[tuple[int, int]]:
    """Offsets and lengths of an EXTENTS fact, ascending and apart.

    Raises:
        IntegrityError: damaged.
    """
    if len(value) % 16:
        raise IntegrityError("a stored list of extents is damaged")
    extents = list(struct.iter_unpack("<QQ", value))
    end = 0
    for offset, length in extents:
        if offset < end:
            raise IntegrityError("stored extents overlap")
        end = offset + length
    return extents


def get_extra(extras: Extras, tag: int) -> bytes | None:
    """The first fact of a tag."""
    return next((value for found, value in extras if found == tag), None)


def not_descended(attributes: Attributes) -> bool:
    """Whether the directory was recorded without its content."""
    return bool(attributes.flags & (FLAG_NOT_DESCENDED | FLAG_INCOMPLETE))
