"""The tree that levels make together, and where the content of each file lies."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.rsync.items import Damaged, Item, block_count, to_nanoseconds
from freezer_sdk.engines.rsync.levels import opened
from freezer_sdk.engines.rsync.state import Known, State, load
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import EntryType, Problem
from freezer_sdk.modes.base import ProblemHandler

_ROOT = b"."
_UNSAFE = b"\0"
_DIRECTORY = 0o040755


class Source(NamedTuple):
    """Content that a level has: of the whole file, or of some blocks."""

    level: int
    blocks: Sequence[int] | None


@dataclass(slots=True)
class Node:
    """An entry of the final tree.

    Attributes:
        level: that recorded it last.
        sources: what its content is made of, the oldest first; a later one replaces what it has.
        lost: the content cannot be put together.
    """

    item: Item
    level: int = -1
    sources: tuple[Source, ...] = ()
    lost: bool = False


@dataclass(kw_only=True)
class Merged:
    """What the levels make together.

    Attributes:
        nodes: by path.
        state: what the last level says about the whole tree; ``None``: nothing that can be read.
        version: of the format of the last level.
        broken: what is wrong with levels that are not whole, by their numbers.
        gaps: numbers of levels below which one is missing.
    """

    nodes: dict[bytes, Node] = field(default_factory=dict)
    state: State | None = None
    version: int = 2
    block_size: int = 0
    broken: dict[int, str] = field(default_factory=dict)
    gaps: set[int] = field(default_factory=set)

    def known(self, path: bytes) -> Known | None:
        """What the state says of an entry."""
        return None if self.state is None else self.state.files.get(path)


def merge(levels: Sequence[LevelStream], problem: ProblemHandler) -> Merged:
    """Reads the items of all levels.

    Raises:
        IntegrityError: nothing at all can be read.
        UnsupportedFormat, WrongPassword, StorageError.
    """
    merged = Merged()
    replay = _Replay(merged, problem)
    for number, level in enumerate(levels):
        replay.level(number, level)
        if level.id.level != (levels[number - 1].id.level + 1 if number else 0):
            merged.gaps.add(number)
            merged.broken.setdefault(number, "a level below it is missing")
    merged.state = _state(merged, levels[-1], problem)
    for number, reason in merged.broken.items():
        # all facts, names and checksums are in the state of version 1: what is lost is told by name
        told = merged.version == 1 and merged.state is not None
        problem(damage(levels[number], reason, told=told))
    _reconcile(merged, problem)
    _judge(merged, problem)
    _adopt(merged, problem)
    if not merged.nodes and merged.broken:
        raise IntegrityError(f"nothing can be read of {levels[-1].id.data}, nor of the levels below")
    return merged


def damage(level: LevelStream, reason: str, *, told: bool = False) -> Problem:
    """Says that a level is not whole.

    Args:
        told: what is lost by it is told by name.
    """
    name = level.id.data
    message = reason if name in reason else f"the level is not whole: {reason}"
    if told:
        message += "; what is lost, if anything, is told by its name"
    return Problem(path=name, kind="damaged", message=message, fatal=not told)


def _state(merged: Merged, level: LevelStream, problem: ProblemHandler) -> State | None:
    name = level.id.engine_metadata
    try:
        stored = level.state()
        state = load(stored) if stored else None
        if state is not None and merged.block_size in (0, state.block_size):
            return state
        reason = "there are none" if state is None else "they are of another block size"
    except (IntegrityError, Damaged) as error:
        reason = str(error)
    message = f"contents cannot be compared with their signatures: {reason}"
    problem(Problem(path=name, kind="signatures", message=message, fatal=False))
    return None


class _Replay:
    """Applies the items of one level after the other."""

    def __init__(self, merged: Merged, problem: ProblemHandler) -> None:
        self._merged = merged
        self._problem = problem
        self._removed: dict[bytes, tuple[Source, ...]] = {}  # version 1 patches what it has deleted before

    def level(self, number: int, stream: LevelStream) -> None:
        """Reads a level; what it has until it is damaged counts."""
        merged = self._merged
        gone: set[bytes] = set()
        try:
            with opened(stream) as level:
                if merged.block_size and level.version == merged.version and level.block_size != merged.block_size:
                    raise Damaged("its block size is not that of the levels below")
                merged.version, merged.block_size = level.version, level.block_size
                for item in level.items():
                    self._apply(number, item, gone)
        except Damaged as error:
            merged.broken[number] = str(error)
        if gone:
            self._remove_below(gone, number)

    def _apply(self, number: int, item: Item, gone: set[bytes]) -> None:
        nodes = self._merged.nodes
        path = item.path
        if path == _UNSAFE or (path == _ROOT and not item.deleted and item.type is not EntryType.DIRECTORY):
            message = "an entry has a path that leads out of what was backed up; it is left out"
            self._problem(Problem(path="", kind="unsafe", message=message))
            return
        before = nodes.get(path)
        if before is not None and (item.deleted or not item.is_file):
            if before.sources:
                self._removed[path] = before.sources
            if before.item.type is EntryType.DIRECTORY and (item.deleted or item.type is not EntryType.DIRECTORY):
                gone.add(path)
        if item.deleted:
            nodes.pop(path, None)
            return
        node = nodes[path] = Node(item, number)
        if not item.is_file:
            return
        if before is not None and before.level == number and before.item.is_file:
            node.lost = True  # recorded twice: which content is which cannot be told
        elif item.blocks is None:
            node.sources = (Source(number, None),)
        else:
            below = before.sources if before is not None and before.sources else self._removed.get(path, ())
            node.sources = (*below, Source(number, item.blocks))

    def _remove_below(self, gone: set[bytes], number: int) -> None:
        """What a directory held goes with it, but for what the same level has recorded."""
        nodes = self._merged.nodes
        for path in [path for path, node in nodes.items() if node.level < number and _below(path, gone)]:
            del nodes[path]


def _below(path: bytes, directories: set[bytes]) -> bool:
    while b"/" in path:
        path = path.rpartition(b"/")[0]
        if path in directories:
            return True
    return False


# -- what the state says -----------------------------------------------------------------------------------


def _reconcile(merged: Merged, problem: ProblemHandler) -> None:
    """Compares the entries with the list that the last level has of all of them."""
    state = merged.state
    if state is None:
        return
    for path in [path for path in merged.nodes if path != _ROOT and path not in state.files]:
        is_directory = merged.nodes[path].item.type is EntryType.DIRECTORY
        if merged.broken or (merged.version == 1 and is_directory):  # which never says that a directory is gone
            del merged.nodes[path]
        else:
            message = "the signatures do not know it"
            problem(Problem(path=_shown(path), kind="signatures", message=message, fatal=False))
    for path, known in state.files.items():
        node = merged.nodes.get(path)
        if node is None:
            with suppress(Damaged):
                _supply(merged, path, known, problem)
        elif known.incomplete:
            node.lost = True
            node.item = replace(node.item, size=0)
        else:
            node.item = _corrected(node.item, known)


def _supply(merged: Merged, path: bytes, known: Known, problem: ProblemHandler) -> None:
    """An entry of which only the state tells."""
    item = known.item
    if item is None:
        item = Item(path=path, mode=known.mode, mtime_ns=_mtime(known), size=known.size or 0)
    if item.type is EntryType.SYMLINK and not item.target:
        problem(Problem(path=_shown(path), kind="lost", message="where the link leads is in what cannot be read"))
        return
    if item.is_file and (known.incomplete or known.signature is None):
        problem(Problem(path=_shown(path), kind="unreadable", message="it could not be read when the backup was made"))
    elif item.is_file and len(known.signature or ()):
        problem(Problem(path=_shown(path), kind="lost", message="its content is in what cannot be read"))
    else:
        merged.nodes[path] = Node(item)
        return
    merged.nodes[path] = Node(item, lost=True)


def _corrected(item: Item, known: Known) -> Item:
    """The facts that the last level knows, where the record of a change is lost."""
    if known.item is not None:
        facts = (item.mode, item.mtime_ns, item.size, item.uid, item.gid)
        if facts == (known.item.mode, known.item.mtime_ns, known.item.size, known.item.uid, known.item.gid):
            return item
        return replace(known.item, blocks=item.blocks, stored=item.stored, target=known.item.target or item.target)
    if item.mode == known.mode and abs(item.mtime_ns - _mtime(known)) < 1000:
        return item
    return replace(item, mode=known.mode, mtime_ns=_mtime(known), size=item.size if known.size is None else known.size)


def _mtime(known: Known) -> int:
    return to_nanoseconds(known.mtime) if known.mtime_ns is None else known.mtime_ns


# -- what can be put together ------------------------------------------------------------------------------


def _judge(merged: Merged, problem: ProblemHandler) -> None:
    """Marks files whose content is lost for certain."""
    for path, node in merged.nodes.items():
        if not node.item.is_file or node.lost:
            continue
        known = merged.known(path)
        reason = ""
        if node.item.incomplete:
            node.lost = True
        elif not node.sources:
            if node.item.size:
                reason = "its content is in what cannot be read"
        elif not _covered(node, merged.block_size):
            reason = "what its changes were made to is missing"
        elif (known is None or known.signature is None) and not _certain(node, merged):
            reason = "it may have been changed by what cannot be read"
        if reason:
            node.lost = True
            problem(Problem(path=_shown(path), kind="lost", message=reason))


def _covered(node: Node, block_size: int) -> bool:
    first = node.sources[0]
    if first.blocks is None:
        return True
    count = block_count(node.item.size, block_size)
    return len({number for source in node.sources for number in source.blocks or () if number < count}) == count


def _certain(node: Node, merged: Merged) -> bool:
    """Whether what cannot be read may not hold changes of a file: it was stored whole later, or is in what can be."""
    whole, own = node.sources[0].level, {source.level for source in node.sources}
    return all(whole >= gap for gap in merged.gaps) and all(number in own or number < whole for number in merged.broken)


def _adopt(merged: Merged, problem: ProblemHandler) -> None:
    """Every entry gets a directory that it lies in."""
    nodes = merged.nodes
    for path in sorted(nodes):
        parent = path
        while b"/" in parent:
            parent = parent.rpartition(b"/")[0]
            node = nodes.get(parent)
            if node is None:
                nodes[parent] = Node(Item(path=parent, mode=_DIRECTORY))
                message = "its owner, mode and times are in what cannot be read"
                problem(Problem(path=_shown(parent), kind="lost", message=message))
            elif node.item.type is not EntryType.DIRECTORY:
                nodes.pop(path, None)
                problem(Problem(path=_shown(path), kind="damaged", message="it lies below what is no directory"))
                break


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")
