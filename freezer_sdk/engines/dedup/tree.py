"""Reading directories of a stored backup."""

from __future__ import annotations

import hashlib
import stat
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from operator import lt
from typing import NamedTuple

from freezer_sdk.engines.dedup.page import Content, Page, content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.scope import join
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
_MOST_HELD = 24 << 20  # bytes of pages of directories that lie in each other; as objects they take several times that


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

    def nodes(self, content: Content, held: HeldPages | None = None, *, top: bool = False) -> DirectoryReader:
        """The entries of a directory, sorted by name.

        Args:
            held: of all directories that are read at the same time.
            top: the directory of the roots, whose names are absolute paths.
        """
        return DirectoryReader(self, content, held or HeldPages(), top=top)

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
        held = HeldPages()
        stack = [(b"", self.nodes(root, held, top=True))]
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
                check_depth(len(stack))
                stack.append((path, self.nodes(node.content, held)))

    def find(self, root: Content, path: bytes) -> Node | None:
        """The entry of one absolute path."""
        return next((node for found, node in self.walk(root, below=path) if found == path), None)


class HeldPages:
    """Sees to it that directories which lie in each other do not keep too many pages in memory."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[DirectoryReader, int] = OrderedDict()
        self._total = 0

    def add(self, reader: DirectoryReader, size: int) -> None:
        """A reader has taken a page into memory."""
        self._sizes[reader] = size
        self._total += size
        while self._total > _MOST_HELD and len(self._sizes) > 1:
            oldest, size = self._sizes.popitem(last=False)
            self._total -= size
            oldest.drop()

    def remove(self, reader: DirectoryReader) -> None:
        """A reader has let go of its page."""
        self._total -= self._sizes.pop(reader, 0)


class DirectoryReader:
    """The entries of a directory in the order of their names. In between its page may be dropped, and is read again.

    Args:
        top: the directory of the roots, whose names are absolute paths.
    """

    def __init__(self, trees: TreeReader, content: Content, held: HeldPages, *, top: bool = False) -> None:
        self._meta, self._held, self._top = trees.blobs.meta, held, top
        self._pages = content_ids(content, self._meta)
        self._page_id = b""
        self._last: list[bytes] = []
        self._chosen: Sequence[int] | None = ()
        self._count = self._done = 0
        self._nodes: Iterator[Node] | None = None

    def __iter__(self) -> Iterator[Node]:
        return self

    def __next__(self) -> Node:
        while True:
            node = self.take()
            if node is not None:
                return node
            if self.next_page() is None:
                raise StopIteration

    def next_page(self) -> Page | None:
        """The next page, whose names are sorted and stay in the directory; its entries come next.

        Raises:
            IntegrityError, StorageError.
        """
        self._held.remove(self)
        self._nodes, self._done, self._count = None, 0, 0
        self._page_id = next(self._pages, b"")
        if not self._page_id:
            return None
        page = self._load()
        check_names(page, self._last, top=self._top)
        self._last = page.names[-1:]
        self._chosen, self._count, self._nodes = None, page.count, nodes_of(page)
        return page

    def choose(self, numbers: Sequence[int]) -> None:
        """Of the page that was just given, only these entries come."""
        self._chosen, self._count, self._nodes = numbers, len(numbers), None

    def take(self) -> Node | None:
        """The next entry of the page; ``None`` when all have come.

        Raises:
            IntegrityError, StorageError.
        """
        if self._done == self._count:
            return None
        if self._nodes is None:
            numbers = range(self._count) if self._chosen is None else self._chosen
            self._nodes = nodes_of(self._load(), numbers[self._done :])
        self._done += 1
        return next(self._nodes)

    def drop(self) -> None:
        """Gives memory back."""
        self._nodes = None

    def _load(self) -> Page:
        page = Page(self._meta(self._page_id))
        self._held.remove(self)
        self._held.add(self, page.size)
        return page


def check_depth(depth: int) -> None:
    """Ends the way down into a directory that would lie in itself.

    Raises:
        IntegrityError: no real tree is so deep.
    """
    if depth > _MAX_DEPTH:
        raise IntegrityError("directories lie deeper than they may")


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


def check_names(page: Page, last: list[bytes], *, top: bool) -> None:
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
        if offset < end or not length:
            raise IntegrityError("stored extents are empty or overlap")
        end = offset + length
    return extents


def get_extra(extras: Extras, tag: int) -> bytes | None:
    """The first fact of a tag."""
    return next((value for found, value in extras if found == tag), None)


def not_descended(attributes: Attributes) -> bool:
    """Whether the directory was recorded without its content."""
    return bool(attributes.flags & (FLAG_NOT_DESCENDED | FLAG_INCOMPLETE))
