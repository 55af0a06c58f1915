"""Directories that have other names than at the level below."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from freezer_sdk.engines.tar.reading.tree import BadPath, Directory, parts

_Path = tuple[bytes, ...]
_MOST_STEPS = 64


class _Move(NamedTuple):
    holder: Directory
    name: bytes
    directory: Directory
    to: _Path


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
        for _ in range(_MOST_STEPS):
            node, found = self, None
            for number, part in enumerate(path[:-1], 1):
                following = node.below.get(part)
                if following is None:
                    break
                node = following
                if node.source is not None:
                    found = node.source + path[number:]
            if found is None:
                break
            path = found
        return path


def rename(root: Directory, renames: Iterable[tuple[bytes, bytes]]) -> None:
    """Gives directories their new names, all at once: whatever cycles they form and in whatever order they are listed.

    A directory that moved along with its parent is listed with the parent's new name. What is in the way of a new name
    is gone, unless it is renamed itself. What is not there is passed over: what it held is missing then.
    """
    wanted: dict[_Path, _Path] = {}
    destinations = _Destinations()
    for source, to in renames:
        try:
            old, new = tuple(parts(source)), tuple(parts(to))
        except BadPath:
            continue
        if old and new and old != new:
            wanted[old] = new
            destinations.add(new, old)
    moves: list[_Move] = []
    taken: set[int] = set()
    for old, new in wanted.items():
        found = _find(root, destinations.origin(old)) or _find(root, old)
        if found is not None and id(found[2]) not in taken:
            taken.add(id(found[2]))
            moves.append(_Move(*found, new))
    for move in moves:
        del move.holder.children[move.name]
    for move in sorted(moves, key=lambda move: len(move.to)):  # what leads to others has its place first
        _attach(root, move)


def _find(root: Directory, path: _Path) -> tuple[Directory, bytes, Directory] | None:
    """A directory, and the one that holds it."""
    holder = node = root
    for part in path:
        found = node.children.get(part)
        if not isinstance(found, Directory):
            return None
        holder, node = node, found
    return holder, path[-1], node


def _attach(root: Directory, move: _Move) -> None:
    node = root
    for part in move.to[:-1]:
        found = node.children.get(part)
        if not isinstance(found, Directory):  # its own member follows
            found = node.children[part] = Directory()
        node = found
    node.children[move.to[-1]] = move.directory
