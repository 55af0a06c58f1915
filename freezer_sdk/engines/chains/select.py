"""What a restore brings back of a content, parents first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from freezer_sdk.engines.chains.content import ROOT
from freezer_sdk.files.scope import Scope, join
from freezer_sdk.model import Entry, EntryType


class Selected(NamedTuple):
    """One step of a restore.

    Attributes:
        path: below the target, which is the empty one.
        entry: ``None``: a directory that is only implied.
        names: all recorded names in a directory, when others are to be deleted; else ``None``.
    """

    path: bytes
    entry: Entry | None
    names: frozenset[bytes] | None


def recorded_path(root: bytes, path: bytes) -> bytes:
    """The absolute path of an entry."""
    return root if path == ROOT else join(root, path)


def names_by_directory(
    entries: Iterable[Entry], unread: Iterable[tuple[bytes, bool]]
) -> Mapping[bytes, frozenset[bytes]]:
    """The names in each directory of which they are known, by its path in the content.

    Args:
        unread: paths of what was there and may be no entry, and whether it is not whole; looked at after the entries.
    """
    found: dict[bytes, list[bytes]] = {}
    for entry in entries:
        if entry.type is EntryType.DIRECTORY:
            found.setdefault(entry.path, [])
        if entry.path != ROOT:
            parent, _, name = entry.path.rpartition(b"/")
            found.setdefault(parent or ROOT, []).append(name)
    unlisted: set[bytes] = set()  # where one of them is a directory, not all that it held is known
    for path, partial in unread:
        if partial:
            unlisted.add(path)
        above = path
        while above:
            above, _, name = above.rpartition(b"/")
            found.setdefault(above or ROOT, []).append(name)
    return {path: frozenset(names) for path, names in found.items() if path not in unlisted}


@dataclass(slots=True)
class _Level:
    """A directory on the way down; ``pending`` while nothing below it was chosen."""

    path: bytes
    pending: Selected | None


class Selection:
    """Chooses among entries that come in the order of the tree.

    Args:
        root: recorded absolute path of ``.``.
        names: of :func:`names_by_directory`, where extra files are to be deleted.
    """

    def __init__(self, scope: Scope, root: bytes, *, names: Mapping[bytes, frozenset[bytes]] | None = None) -> None:
        self._scope, self._root, self._names = scope, root, names
        self._base = scope.place(root)
        self._stack: list[_Level] = []

    def place(self, path: bytes) -> bytes:
        """The path below the target of an entry's path."""
        if path == ROOT:
            return self._base
        return self._base + b"/" + path if self._base else path

    def of(self, entries: Iterable[Entry]) -> Iterator[Selected]:
        """What is chosen, and the directories that lead there, once."""
        scope, root = self._scope, self._root
        for entry in entries:
            target = self.place(entry.path)
            if scope.everything:
                chosen = True
            else:
                recorded = recorded_path(root, entry.path)
                is_directory = entry.type is EntryType.DIRECTORY
                if is_directory and not scope.enters(recorded, root=root):
                    continue
                chosen = scope.chooses(recorded, is_directory=is_directory, root=root)
            if entry.type is not EntryType.DIRECTORY:
                if chosen:
                    yield from self._lead_to(target)
                    yield Selected(target, entry, None)
                continue
            if chosen:
                yield from self._lead_to(target)
                names = None if self._names is None else self._names.get(entry.path)
                yield Selected(target, entry, names)
                self._stack.append(_Level(target, None))
            elif target:  # the target itself is left as it is
                self._leave(target)
                self._stack.append(_Level(target, Selected(target, entry, None)))

    def _leave(self, target: bytes) -> None:
        stack = self._stack
        while stack and stack[-1].path and not target.startswith(stack[-1].path + b"/"):
            stack.pop()

    def _lead_to(self, target: bytes) -> Iterator[Selected]:
        """The directories above a path that were not given yet."""
        self._leave(target)
        stack, above = self._stack, b""
        for level in stack:
            if level.pending is not None:
                for path in _between(above, level.path):  # above the root there are no entries
                    yield Selected(path, None, None)
                yield level.pending
                level.pending = None
            above = level.path
        for path in _between(above, target):
            stack.append(_Level(path, None))
            yield Selected(path, None, None)


def _between(above: bytes, below: bytes) -> Iterator[bytes]:
    """The directories between two paths, of which one leads to the other."""
    start = len(above) + 1 if above else 0
    while (end := below.find(b"/", start)) >= 0:
        yield below[:end]
        start = end + 1
