"""What a chain holds at one level: entries, and contents that are compared with their signatures."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.chains.content import Content, Piece, stored_as
from freezer_sdk.engines.rsync.items import Damaged, Item, block_count
from freezer_sdk.engines.rsync.levels import Level, opened
from freezer_sdk.engines.rsync.merge import Merged, Node, damage, merge
from freezer_sdk.engines.rsync.signature import Signature
from freezer_sdk.files.posix import Owners
from freezer_sdk.model import Entry, Problem
from freezer_sdk.modes.base import ProblemHandler

_NOBODY = 65534  # never the user who restores: the file may be setuid
_STEP = 256 << 10
_SPARSE = 1 << 23  # numbers of blocks that fit into a small map of bits


class RsyncContent(Content):
    """A :class:`~freezer_sdk.engines.chains.content.Content`."""

    def __init__(self, levels: Sequence[LevelStream], *, problem: ProblemHandler) -> None:
        self._levels = levels
        self._problem = problem
        self._merged: Merged = merge(levels, problem)
        self._order = sorted(self._merged.nodes, key=_tree_order)
        self._groups = self._link_groups()
        self._owners = Owners()
        self._strangers: set[str] = set()

    # -- entries -------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """See :meth:`Content.entries <freezer_sdk.engines.chains.content.Content.entries>`."""
        for path in self._order:
            node = self._merged.nodes[path]
            item = node.item
            yield Entry(
                path=path,
                type=item.type,
                mode=item.mode & 0o7777,
                uid=self._number(item.uid, item.user, self._owners.uid, "user"),
                gid=self._number(item.gid, item.group, self._owners.gid, "group"),
                user=item.user,
                group=item.group,
                size=item.size,
                mtime_ns=item.mtime_ns,
                ctime_ns=item.ctime_ns,
                inode=self._stored_as(path, node),
                link_target=item.target,
                link_group=self._groups.get(path),
                device=item.device,
                xattrs=item.xattrs,
                incomplete=node.lost,
            )

    def _stored_as(self, path: bytes, node: Node) -> int:
        """0 where no level recorded it."""
        if not node.item.is_file or node.level < 0:
            return 0
        return stored_as(self._levels[node.level].id, zlib.crc32(self._groups.get(path, path)))

    def _number(self, recorded: int | None, name: str | None, find: Callable[[str], int | None], kind: str) -> int:
        """The original's version 2 records names only."""
        if recorded is not None:
            return recorded
        found = find(name) if name else None
        if found is not None:
            return found
        if name and name not in self._strangers:
            self._strangers.add(name)
            message = f"the {kind} {name!r}, of whom no number was recorded, is not known here"
            self._problem(Problem(path="", kind="owner", message=message, fatal=False))
        return _NOBODY

    def _link_groups(self) -> dict[bytes, bytes]:
        """Names of one file, by what the level that recorded them says."""
        members: dict[tuple[int, bytes], list[bytes]] = {}
        nodes = self._merged.nodes
        for path in self._order:
            first = nodes[path].item.same_as
            if first is not None:
                members.setdefault((nodes[path].level, first), []).append(path)
        groups: dict[bytes, bytes] = {}
        for (level, first), others in members.items():
            head = nodes.get(first)
            kind = nodes[others[0]].item.mode
            same = [first] if head is not None and head.level == level and head.item.mode == kind else []
            same += [path for path in others if path != first and nodes[path].item.mode == kind]
            if len(same) > 1:
                groups.update(dict.fromkeys(same, b"%d:%s" % (level, first)))
        return groups

    def checked(self, path: bytes) -> bool:
        """See :meth:`Content.checked <freezer_sdk.engines.chains.content.Content.checked>`."""
        known = self._merged.known(path)
        return known is not None and known.signature is not None

    # -- contents ------------------------------------------------------------------------------------------

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        """See :meth:`Content.pieces <freezer_sdk.engines.chains.content.Content.pieces>`."""
        delivery = _Delivery(self._merged, self._problem, self._chosen(wanted))
        yield from delivery.empty()
        for number, level in enumerate(self._levels):
            if not delivery.waits_for(number):
                continue
            try:
                with opened(level) as stream:
                    for item in stream.contents():
                        yield from delivery.take(number, item, stream)
                        if not delivery.waits_for(number):
                            break
            except Damaged as error:
                if number not in self._merged.broken:
                    self._merged.broken[number] = str(error)
                    self._problem(damage(level, str(error)))
        delivery.finish()

    def _chosen(self, wanted: Callable[[bytes], bool]) -> list[bytes]:
        chosen = []
        taken: set[bytes] = set()
        for path in self._order:
            if not self._merged.nodes[path].item.is_file or not wanted(path):
                continue
            group = self._groups.get(path)
            if group is not None:
                if group in taken:
                    continue
                taken.add(group)
            chosen.append(path)
        return chosen


class _Delivery:
    """Gives every block of the chosen files once, from the level that has recorded it last.

    Args:
        chosen: paths of files.
    """

    def __init__(self, merged: Merged, problem: ProblemHandler, chosen: Sequence[bytes]) -> None:
        self._merged = merged
        self._problem = problem
        self._missing: dict[bytes, int] = {}  # blocks still to come
        self._waiting: dict[int, int] = {}  # files that a level is needed for
        self._empty: list[bytes] = []
        self._warned: set[bytes] = set()
        self._counted: set[bytes] = set()
        for path in chosen:
            node = merged.nodes[path]
            if node.lost:
                continue
            self._missing[path] = block_count(node.item.size, merged.block_size) if node.item.size else 0
            if not self._check_count(path, node):
                continue
            if not self._missing[path]:
                self._empty.append(path)
                continue
            self._counted.add(path)
            for source in node.sources:
                self._waiting[source.level] = self._waiting.get(source.level, 0) + 1

    def empty(self) -> Iterator[Piece]:
        """Files without content."""
        for path in self._empty:
            del self._missing[path]
            yield Piece(path, 0, b"", True)

    def waits_for(self, level: int) -> bool:
        """Whether content of a level is still to come."""
        return self._waiting.get(level, 0) > 0

    def take(self, number: int, item: Item, stream: Level) -> Iterator[Piece]:
        """What an item of a level has stored, as far as it is of use.

        Raises:
            Damaged: the stream ends too early.
        """
        path = item.path
        node = self._merged.nodes.get(path)
        if node is None or not any(source.level == number for source in node.sources):
            return
        if path in self._missing:
            if item.stored == node.item.size and len(node.sources) == 1:
                yield from self._whole(path, node, stream)
            else:
                yield from self._blocks(path, node, number, item, stream)
        if path in self._counted:
            self._waiting[number] -= 1

    def finish(self) -> None:
        """Tells what has not become whole."""
        for path in self._missing:
            self._fail(path, "lost", "its content is in what cannot be read", forget=False)

    def _whole(self, path: bytes, node: Node, stream: Level) -> Iterator[Piece]:
        """A file that one level has whole: in large pieces."""
        size = node.item.size
        check = _Check(self._signature(path), self._merged.block_size)
        offset = 0
        while offset < size:
            data = stream.read(min(_STEP, size - offset))
            if not self._passes(path, check, data, ended=offset + len(data) == size):
                return
            yield self._piece(path, offset, data, last=offset + len(data) == size)
            offset += len(data)

    def _blocks(self, path: bytes, node: Node, number: int, item: Item, stream: Level) -> Iterator[Piece]:
        """Blocks that no later level replaces."""
        block_size, size = self._merged.block_size, node.item.size
        replaced = self._replaced(node, number)
        signature = self._signature(path)
        numbers = item.blocks if item.blocks is not None else range(block_count(item.size, block_size))
        last = len(numbers) - 1
        for position, block in enumerate(numbers):
            start = block * block_size
            left = block_size if position < last else item.stored - last * block_size
            needed = min(block_size, size - start)
            if needed <= 0 or replaced(block):
                stream.skip(left)
                continue
            check = _Check(signature, block_size, first=block)
            if left < needed:
                self._fail(path, "damaged", "its blocks do not fit together")
                return
            excess, left, offset = left - needed, needed, start
            while left:
                data = stream.read(min(_STEP, left))
                left -= len(data)
                if not self._passes(path, check, data, ended=not left):
                    return
                if not left:
                    self._missing[path] -= 1
                yield self._piece(path, offset, data, last=not left and not self._missing[path])
                offset += len(data)
            stream.skip(excess)

    def _piece(self, path: bytes, offset: int, data: bytes, *, last: bool) -> Piece:
        if last:
            del self._missing[path]
        return Piece(path, offset, data, last)

    @staticmethod
    def _replaced(node: Node, number: int) -> Callable[[int], bool]:
        later = [source.blocks or () for source in node.sources if source.level > number]
        if not later:
            return lambda block: False
        highest = max((blocks[-1] for blocks in later if blocks), default=0)
        if highest > _SPARSE + 512 * sum(map(len, later)):
            return frozenset(chain.from_iterable(later)).__contains__
        found = bytearray(1 + highest // 8)
        for block in chain.from_iterable(later):
            found[block >> 3] |= 1 << (block & 7)
        return lambda block: block >> 3 < len(found) and bool(found[block >> 3] & 1 << (block & 7))

    # -- signatures ----------------------------------------------------------------------------------------

    def _signature(self, path: bytes) -> Signature | None:
        known = self._merged.known(path)
        return None if known is None else known.signature

    def _check_count(self, path: bytes, node: Node) -> bool:
        signature = self._signature(path)
        if signature is None or len(signature) == self._missing[path]:
            return True
        self._fail(path, "damaged", "its size is not that of its signature")
        return False

    def _passes(self, path: bytes, check: _Check, data: bytes, *, ended: bool) -> bool:
        if not check.update(data, ended=ended):
            self._fail(path, "damaged", "its content is not what its signature says")
            return False
        if check.odd and path not in self._warned:
            self._warned.add(path)
            message = "the weak checksums of its signature are wrong; its content is right"
            self._problem(Problem(path=_shown(path), kind="signatures", message=message, fatal=False))
        return True

    def _fail(self, path: bytes, kind: str, message: str, *, forget: bool = True) -> None:
        self._problem(Problem(path=_shown(path), kind=kind, message=message))
        self._merged.nodes[path].lost = True
        if forget:
            self._missing.pop(path, None)


class _Check:
    """Compares content with a signature, block after block.

    Attributes:
        odd: a weak checksum is wrong although the strong one is right.
    """

    def __init__(self, signature: Signature | None, block_size: int, *, first: int = 0) -> None:
        self._signature = signature
        self._block_size = block_size
        self._block = first
        self._filled = 0
        self._weak = 1
        self._strong = hashlib.sha1(usedforsecurity=False)
        self.odd = False

    def update(self, data: bytes, *, ended: bool) -> bool:
        """Takes the next bytes; whether all blocks that are complete now are right."""
        if self._signature is None:
            return True
        view = memoryview(data)
        while view:
            part = view[: self._block_size - self._filled]
            self._strong.update(part)
            self._weak = zlib.adler32(part, self._weak)
            self._filled += len(part)
            view = view[len(part) :]
            if (self._filled == self._block_size or (ended and not view)) and not self._close(self._signature):
                return False
        return True

    def _close(self, signature: Signature) -> bool:
        right = self._strong.digest() == signature.block(self._block)
        if signature.weak and self._block < len(signature.weak) and signature.weak[self._block] != self._weak:
            self.odd = True
        self._block += 1
        self._filled, self._weak = 0, 1
        self._strong = hashlib.sha1(usedforsecurity=False)
        return right


def _tree_order(path: bytes) -> list[bytes]:
    return [] if path == b"." else path.split(b"/")


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
