"""Directories that have other names than at the level below.

GNU tar tells of them in the listing of the first directory, but not always the truth: it repeats an exchange of two
directories at every later level, and gives a directory the wrong new name when a parent is renamed as well. What is
told is therefore checked against the directories that the level holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from freezer_sdk.engines.tar.reading.dumpdir import UNCHANGED, Dumpdir
from freezer_sdk.engines.tar.reading.headers import Member
from freezer_sdk.engines.tar.reading.tree import BadPath, Directory, parts

_Path = tuple[bytes, ...]
_MOST_STEPS = 64
_SECOND = 10**9


class Listed(NamedTuple):
    """A directory of a level, and what it held."""

    member: Member
    listing: Dumpdir | None


class _Found(NamedTuple):
    """A directory in the tree of the levels below."""

    path: _Path
    holder: Directory
    directory: Directory


class _Destinations:
    """New names as a tree, to find the longest one that a path begins with."""

    __slots__ = ("below", "source")

    def __init__(self) -> None:
        self.below: dict[bytes, _Destinations] = {}
        self.source: _Path | None = None

    def add(self, to: _Path, source: _Path) -> None:
        node = self
        for part in to:
            node = node.below.setdefault(part, _Destinations())
        node.source = source

    def origin(self, path: _Path) -> _Path:
        """Where a path was before the directories that lead to it got their names."""
        rest: _Path = ()
        for _ in range(_MOST_STEPS):
            node, found = self, None
            for number, part in enumerate(path[:-1], 1):
                following = node.below.get(part)
                if following is None:
                    break
                node = following
                if node.source is not None:
                    found = node.source, path[number:]
            if found is None:
                break
            path, rest = found[0], found[1] + rest
        return path + rest


class Renaming:
    """Finds out which directories were renamed.

    Args:
        root: the tree of the levels below.
        listed: all directories of the level.
        since: when the level below was begun, in nanoseconds.
    """

    def __init__(self, root: Directory, listed: Sequence[Listed], *, since: int) -> None:
        self._root = root
        self._since = since
        self._listed = listed
        self._here = {path: each for each in listed if (path := _path(each.member.name))}

    def apply(self) -> None:
        """Gives directories their new names, all at once: in whatever order they are told, whatever cycles they form.

        What is in the way of a new name is gone, unless it is renamed itself. What is not there is passed over.
        """
        moves = self._moves()
        for found in moves.values():
            del found.holder.children[found.path[-1]]
        for new in sorted(moves, key=len):  # what leads to others has its place first
            node = self._root
            for part in new[:-1]:
                following = node.children.get(part)
                if not isinstance(following, Directory):  # its own member is to come
                    following = node.children[part] = Directory()
                node = following
            node.children[new[-1]] = moves[new].directory

    def _moves(self) -> dict[_Path, _Found]:
        told = _told(each.listing for each in self._listed)
        destinations = _Destinations()
        for old, new in told.items():
            destinations.add(new, old)
        moves: dict[_Path, _Found] = {}
        strays: list[tuple[bytes, _Found]] = []
        taken: set[int] = set()
        for old, new in told.items():
            # a directory that moved along with its parent is told with the parent's new name
            found = self._find(destinations.origin(old)) or self._find(old)
            if found is None or id(found.directory) in taken or self._stayed(found.path) or self._stayed(new):
                continue
            taken.add(id(found.directory))
            if new not in self._here:
                strays.append((new[-1], found))
            elif self._fits(found.directory, new):
                moves[new] = found
        self._settle(strays, moves, taken)
        return moves

    def _settle(self, strays: Sequence[tuple[bytes, _Found]], moves: dict[_Path, _Found], taken: set[int]) -> None:
        """Finds the true new names of directories that are told with wrong ones: the last part is always right."""
        left = list(strays)
        for path, listed in self._here.items():
            if not left:
                return
            before = self._find(path)
            if path in moves or (before and id(before.directory) not in taken and not _lacks(before.directory, listed)):
                continue
            fitting = [each for each in left if each[0] == path[-1] and not _lacks(each[1].directory, listed)]
            if fitting:
                moves[path] = fitting[0][1]
                left.remove(fitting[0])

    def _stayed(self, path: _Path) -> bool:
        """Whether the level's directory of this name is certainly the one that had it before.

        Renaming a directory sets the time of its last change. Whole seconds prove nothing for the second of a backup.
        """
        here, before = self._here.get(path), self._find(path)
        if here is None or before is None:
            return False
        member, facts = here.member, before.directory.facts
        if not member.ctime or (member.ctime, member.mtime) != (facts.ctime, facts.mtime):
            return False
        return bool(member.ctime % _SECOND) or member.ctime < self._since - _SECOND

    def _fits(self, directory: Directory, new: _Path) -> bool:
        """Whether a directory can have got a name: it has what is unchanged there, or what had the name has not."""
        listed, before = self._here[new], self._find(new)
        return not _lacks(directory, listed) or before is None or _lacks(before.directory, listed)

    def _find(self, path: _Path) -> _Found | None:
        holder = node = self._root
        for part in path:
            found = node.children.get(part)
            if not isinstance(found, Directory):
                return None
            holder, node = node, found
        return _Found(path, holder, node) if path else None


def _told(listings: Iterable[Dumpdir | None]) -> Mapping[_Path, _Path]:
    told: dict[_Path, _Path] = {}
    for listing in listings:
        for source, to in listing.renames if listing else ():
            old, new = _path(source), _path(to)
            if old and new and old != new:
                told[old] = new
    return told


def _lacks(directory: Directory, listed: Listed) -> bool:
    """Whether a directory does not have all that is said to be unchanged in it."""
    names = listed.listing.names if listed.listing else {}
    known, absent = directory.children, directory.absent
    return any(code == UNCHANGED and name not in known and name not in absent for name, code in names.items())


def _path(name: bytes) -> _Path:
    try:
        return tuple(parts(name))
    except BadPath:
        return ()
