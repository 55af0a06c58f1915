"""What a restore brings back, and where below the target each entry goes."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.page import Content, Page
from freezer_sdk.engines.dedup.tree import DirectoryReader, HeldPages, Node, TreeReader, check_depth
from freezer_sdk.errors import IntegrityError, RestoreConflict
from freezer_sdk.files.scope import Relation, Root, Scope, join
from freezer_sdk.files.unread import unread, unread_names
from freezer_sdk.model import Layout, Problem, RestoreOptions

Selected = tuple[bytes, Node | None, frozenset[bytes] | None]
"""Path below the target; the entry, or ``None`` for a directory that is only implied; all names in a directory."""

_DIRECTORY = stat.S_IFDIR >> 12
_NO_NAMES: frozenset[bytes] = frozenset()


class Leaves(NamedTuple):
    """What is chosen of a page and is no directory.

    Attributes:
        directory: its path below the target.
        numbers: of the entries in the page, ascending.
    """

    directory: bytes
    page: Page
    numbers: Sequence[int]


@dataclass(slots=True)
class _Open:
    """A directory on the way down, when everything below is chosen."""

    recorded: bytes
    target: bytes
    reader: DirectoryReader


@dataclass(slots=True)
class _Level:
    """A directory on the way down."""

    recorded: bytes
    target: bytes
    nodes: Iterator[Node]
    pending: Selected | None  # the directory itself, while nothing below it was chosen


class Selection:
    """Walks a backup and gives what is to be restored, parents first."""

    def __init__(self, commit: Commit, trees: TreeReader, options: RestoreOptions) -> None:
        self._commit, self._trees, self._options = commit, trees, options
        self._roots = list(trees.nodes(commit.root, top=True))
        found = self.roots
        self._kept = unread_names(commit.backup.problems) if options.delete else {}
        self._unread = {os.fsencode(problem.path) for problem in commit.backup.problems if problem.fatal}
        self._missing = [path for path in map(os.fsencode, commit.backup.paths) if path not in found]
        self._scope = Scope(
            [Root(root.name, stat.S_ISDIR(root.attributes.mode)) for root in self._roots],
            options,
            contains=lambda path: trees.find(commit.root, path) is not None,
            unread=len(self._missing),
        )

    @property
    def roots(self) -> list[bytes]:
        """Recorded absolute paths of the roots."""
        return [root.name for root in self._roots]

    @property
    def origin(self) -> bytes:
        """What the target itself stands for."""
        return self._scope.origin

    @property
    def layout(self) -> Layout:
        """What was chosen for ``auto``."""
        return self._scope.layout

    def place(self, recorded: bytes) -> bytes:
        """The path below the target of a recorded one."""
        return self._scope.place(recorded)

    def unread(self, told: AbstractSet[str]) -> Iterator[Problem]:
        """What is chosen and was not read whole when it was backed up.

        Args:
            told: paths of problems that the restore has told of.
        """
        if self._kept is None:
            message = "nothing was deleted from the target: not all is known of what the backup could not read"
            yield Problem(path="", kind="delete", message=message, fatal=False)
        yield from unread(self._commit.backup.problems, self._scope, self.roots, told=told)

    def entries(self, problem: Callable[[Problem], None]) -> Iterator[Selected | Leaves]:
        """Everything that was chosen, one by one or, where nothing is left out, page by page.

        Args:
            problem: told of directories that are damaged; what lies beside them still comes.

        Raises:
            RestoreConflict: two roots would be laid over each other.
        """
        self._refuse_overlaps()
        for path in self._missing:
            if self._scope.relation(path) is not Relation.OUTSIDE:
                message = "could not be read when it was backed up"
                problem(Problem(path=os.fsdecode(path), kind="incomplete", message=message))
        implied: set[bytes] = {b""}
        for root in self._roots:
            if self._scope.relation(root.name) is Relation.OUTSIDE:
                continue
            above: list[Selected] = []
            if self.layout is Layout.FULL:
                place = root.name.lstrip(b"/")
                parts = place.split(b"/")[:-1]
                for depth in range(len(parts)):
                    parent = b"/".join(parts[: depth + 1])
                    if parent not in implied:
                        implied.add(parent)
                        above.append((parent, None, None))
            else:
                place = b"" if stat.S_ISDIR(root.attributes.mode) else root.name.rpartition(b"/")[2]
            implied.add(place)
            if self._scope.everything:
                yield from above
                yield from self._all_of(root, place, problem)
            else:
                yield from self._below(root, place, above, problem)

    def _all_of(self, root: Node, place: bytes, problem: Callable[[Problem], None]) -> Iterator[Selected | Leaves]:
        """A root and all that lies below it, page by page."""
        yield self._one(root, place, root.name, problem)
        stack: list[_Open] = []
        held = HeldPages()
        if stat.S_ISDIR(root.attributes.mode):
            stack.append(_Open(root.name, place, self._trees.nodes(root.content, held)))
        while stack:
            level = stack[-1]
            try:
                node = level.reader.take()
                page = level.reader.next_page() if node is None else None
                if page is not None:
                    page.extras()
            except IntegrityError as error:
                problem(Problem(path=os.fsdecode(level.recorded), kind="damaged", message=str(error)))
                stack.pop()
                continue
            if node is not None:
                recorded = join(level.recorded, node.name)
                target = level.target + b"/" + node.name if level.target else node.name
                yield self._one(node, target, recorded, problem)
                if node.content.ids:
                    check_depth(len(stack))
                    stack.append(_Open(recorded, target, self._trees.nodes(node.content, held)))
                continue
            if page is None:
                stack.pop()
                continue
            directories: list[int] = []
            leaves: list[int] = []
            for number, kind in enumerate(page.types):
                (directories if kind >> 4 == _DIRECTORY else leaves).append(number)
            level.reader.choose(directories)
            if leaves:
                yield Leaves(level.target, page, leaves)

    def _one(self, node: Node, target: bytes, recorded: bytes, problem: Callable[[Problem], None]) -> Selected:
        is_directory = stat.S_ISDIR(node.attributes.mode)
        return target, node, self._names(node.content, recorded, problem) if is_directory else None

    def _refuse_overlaps(self) -> None:
        if self.layout is not Layout.CONTENT or len(self._roots) < 2:
            return
        seen: set[bytes] = set()
        for root in self._roots:
            if stat.S_ISDIR(root.attributes.mode):
                names = {node.name for node in self._trees.nodes(root.content)}
            else:
                names = {root.name.rpartition(b"/")[2]}
            if seen & names:
                raise RestoreConflict(
                    f"several roots have {os.fsdecode(min(seen & names))!r}", hint="use --layout full, or choose paths"
                )
            seen |= names

    def _below(
        self, root: Node, place: bytes, above: list[Selected], problem: Callable[[Problem], None]
    ) -> Iterator[Selected]:
        held = HeldPages()
        top = _Level(b"", b"", iter((root,)), None)
        stack = [top]
        while stack:
            level = stack[-1]
            try:
                node = next(level.nodes, None)
            except IntegrityError as error:
                problem(Problem(path=os.fsdecode(level.recorded), kind="damaged", message=str(error)))
                node = None
            if node is None:
                stack.pop()
                continue
            first = level is top
            target = place if first else (level.target + b"/" + node.name if level.target else node.name)
            is_directory = stat.S_ISDIR(node.attributes.mode)
            recorded = node.name if first else join(level.recorded, node.name)
            if is_directory and not self._scope.enters(recorded, root=root.name):
                continue
            chosen = self._scope.chooses(recorded, is_directory=is_directory, root=root.name)
            if not is_directory:
                if chosen:
                    yield from self._release(stack, above)
                    yield target, node, None
                continue
            names = self._names(node.content, recorded, problem) if chosen else None
            this: Selected = (target, node, names)
            if chosen:
                yield from self._release(stack, above)
                yield this
            if node.content.ids:
                check_depth(len(stack))
                nodes = self._trees.nodes(node.content, held)
                pending = None if chosen or not target else this  # the target itself is left as it is
                stack.append(_Level(recorded, target, nodes, pending))

    def _names(self, content: Content, recorded: bytes, problem: Callable[[Problem], None]) -> frozenset[bytes] | None:
        """All names of a directory when extra files are to be deleted; ``None``: leave it alone."""
        if not self._options.delete or self._kept is None or recorded in self._unread:
            return None
        try:
            return self._kept.get(recorded, _NO_NAMES).union(node.name for node in self._trees.nodes(content))
        except IntegrityError as error:
            problem(Problem(path=os.fsdecode(recorded), kind="damaged", message=str(error)))
            return None

    @staticmethod
    def _release(stack: list[_Level], above: list[Selected]) -> Iterator[Selected]:
        """Gives the directories that lead to something chosen, once."""
        yield from above
        above.clear()
        for level in stack:
            if level.pending is not None:
                yield level.pending
                level.pending = None
