"""What the levels of a chain make together: the tree, and the contents of its files."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.chains.content import Content, Piece, Taker
from freezer_sdk.engines.tar.reading.early import Early
from freezer_sdk.engines.tar.reading.entries import entry_of, pieces_of
from freezer_sdk.engines.tar.reading.members import MemberStream
from freezer_sdk.engines.tar.reading.merge import Merge
from freezer_sdk.engines.tar.reading.tree import Directory, File
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.posix import Owners
from freezer_sdk.model import Entry, Problem
from freezer_sdk.modes.base import ProblemHandler


class TarContent(Content):
    """The tree that levels make together. Made by :func:`read_levels`."""

    def __init__(self, levels: Sequence[LevelStream], merge: Merge, problem: ProblemHandler, owners: Owners) -> None:
        self._levels = levels
        self._tree = merge.tree
        self._damaged = merge.damaged
        self._problem = problem
        self._owners = owners

    def entries(self) -> Iterator[Entry]:
        """The final tree, as the contract says. Directories of which nothing is recorded get usual rights."""
        for path, node in self._tree.walk():
            if isinstance(node, Directory):
                yield entry_of(path, node)
            elif isinstance(node, File):
                yield entry_of(path, node, self._levels[node.level].id)

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        """Contents of files, as the contract says; levels that have none of what is wanted are not read.

        Raises:
            WrongPassword, StorageError.
        """
        plans: dict[int, dict[int, bytes]] = {}
        planned: set[File] = set()
        for path, node in self._tree.walk():
            if not isinstance(node, File) or node.lost or not stat.S_ISREG(node.facts.mode) or node in planned:
                continue
            if wanted(path):
                plans.setdefault(node.level, {})[node.number] = path
                if node.linked:
                    planned.add(node)
        for number in sorted(plans):
            try:
                yield from self._level(self._levels[number], plans[number])
            except IntegrityError as error:
                if number not in self._damaged:  # it was whole a while ago
                    data = self._levels[number].id.data
                    self._problem(Problem(path=data, kind="damaged", message=str(error)))

    def _level(self, level: LevelStream, plan: dict[int, bytes]) -> Iterator[Piece]:
        with level.open() as reader:
            stream = MemberStream(reader, self._owners)
            for number, path in sorted(plan.items()):
                if not stream.pass_to(number):
                    return
                yield from pieces_of(stream, path)


def read_levels(levels: Sequence[LevelStream], *, problem: ProblemHandler, taker: Taker | None = None) -> TarContent:
    """Reads all headers of the levels and merges them, as GNU tar's incremental extraction would.

    Args:
        levels: 0 to n; each stream is read once here, and again for contents.
        problem: told of damage and of what is lost, while the rest is given.
        taker: of files that can be given now already.

    Raises:
        IntegrityError: nothing at all can be read.
        WrongPassword, UnsupportedFormat, StorageError.
    """
    owners = Owners()
    alone = len(levels) == 1 and levels[0].id.level == 0
    early = Early(taker, levels[0].id) if taker is not None and alone else None
    merge = Merge(levels, problem=problem, owners=owners, early=early)
    merge.run()
    return TarContent(levels, merge, problem, owners)
