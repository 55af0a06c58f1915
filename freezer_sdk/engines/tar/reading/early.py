"""Files of a level 0 that are given on while its headers are read, so that the stream is read once.

GNU tar writes all directories with their listings before all files. From then on a file that its directory lists and
comes for the first time is what the final tree has there, unless something comes that GNU tar does not write at this
place: then everything that was given is taken back, and comes again when the tree is known.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from freezer_sdk.engines.chains.content import Taker
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.tar.reading.entries import entry_of, pieces_of
from freezer_sdk.engines.tar.reading.headers import Member
from freezer_sdk.engines.tar.reading.members import MemberStream
from freezer_sdk.engines.tar.reading.tree import Directory, File, Tree
from freezer_sdk.model import Entry


class Early:
    """Looks at each member before the tree takes it.

    Args:
        level: the level 0, which has no other ones above it.
    """

    def __init__(self, taker: Taker, level: LevelId) -> None:
        self._taker = taker
        self._level = level
        self._given: set[int] = set()  # numbers of members
        self._begun = self._over = False

    def see(self, member: Member, stream: MemberStream, tree: Tree) -> None:
        """Gives the content of a member on, or takes everything back.

        Raises:
            IntegrityError: the stream ends within, or cannot be decoded.
        """
        if self._over:
            return
        if stat.S_ISDIR(member.mode):
            self._end_if_begun(tree)
            return
        path, holder, name = tree.look(member.name)
        if holder is not None and name in holder.children:
            self._end_if_begun(tree)
            return
        if holder is None or name not in holder.expected:
            return
        if not member.size or member.hard or not stat.S_ISREG(member.mode):
            return
        if not self._begun:
            self._begun = True
            self._over = not self._taker.directories(_directories(tree))
        if not self._over:
            self._given.add(member.number)
            self._taker.file(entry_of(path, File(member, 0), self._level), pieces_of(stream, path))

    def _end_if_begun(self, tree: Tree) -> None:
        if self._begun:
            self._over = True
            self._taker.take_back(reversed(list(self._entries(tree))))
            self._given.clear()

    def _entries(self, tree: Tree) -> Iterator[Entry]:
        for path, node in tree.walk():
            if isinstance(node, Directory) or (isinstance(node, File) and node.number in self._given):
                yield entry_of(path, node)


def _directories(tree: Tree) -> Iterator[Entry]:
    for path, node in tree.walk():
        if isinstance(node, Directory):
            yield entry_of(path, node)
