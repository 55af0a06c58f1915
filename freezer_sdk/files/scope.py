"""Which entries of a backup a restore brings back, and where below the target each of them goes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from freezer_sdk.errors import RestoreError
from freezer_sdk.files.patterns import Filter
from freezer_sdk.model import Layout, RestoreOptions


class Relation(IntEnum):
    """Where an entry lies, as seen from the chosen paths."""

    INSIDE = 0
    LEADS = 1
    OUTSIDE = 2


class Root(NamedTuple):
    """A recorded root.

    Attributes:
        path: absolute.
    """

    path: bytes
    is_directory: bool


class Scope:
    """The choice of a restore: paths, patterns and layout.

    Args:
        contains: whether the backup has an entry at an absolute path.
        unread: number of roots that could not be read, which does not change where the others go.

    Attributes:
        layout: what was chosen for ``auto``.
        everything: no entry is left out.

    Raises:
        RestoreError: a chosen path is not in the backup.
    """

    def __init__(
        self, roots: Sequence[Root], options: RestoreOptions, *, contains: Callable[[bytes], bool], unread: int = 0
    ) -> None:
        self._roots = tuple(roots)
        self._filter = Filter(options.include, options.exclude)
        self._wanted = frozenset(_bare(self._resolve(path, contains)) for path in options.paths)
        self._leading = frozenset(above for path in self._wanted for above in upwards(path))
        self.layout = options.layout
        if self.layout is Layout.AUTO:
            self.layout = Layout.CONTENT if len(self._roots) + unread == 1 else Layout.FULL
        self.everything = not self._wanted and not self._filter

    def _resolve(self, path: bytes, contains: Callable[[bytes], bool]) -> bytes:
        for candidate in candidates(path, self._roots):
            if contains(candidate):
                return candidate
        raise RestoreError(f"the backup has no {os.fsdecode(path)!r}", hint="freezer backup ls shows what it has")

    @property
    def origin(self) -> bytes:
        """What the target itself stands for."""
        if self.layout is Layout.FULL or not self._roots:
            return b"/"
        path, is_directory = self._roots[0]
        return path if is_directory else path.rpartition(b"/")[0] or b"/"

    def place(self, recorded: bytes) -> bytes:
        """The path below the target of a recorded one."""
        if self.layout is Layout.FULL:
            return recorded.lstrip(b"/")
        for path, is_directory in self._roots:
            if recorded == path:
                return b"" if is_directory else recorded.rpartition(b"/")[2]
            above = join(path, b"")
            if recorded.startswith(above):
                return recorded[len(above) :]
        return recorded.lstrip(b"/")

    def relation(self, recorded: bytes) -> Relation:
        """Where an entry lies, as seen from the chosen paths."""
        if not self._wanted:
            return Relation.INSIDE
        path = _bare(recorded)
        if path in self._wanted or any(above in self._wanted for above in upwards(path)):
            return Relation.INSIDE
        return Relation.LEADS if path in self._leading else Relation.OUTSIDE

    def enters(self, recorded: bytes, *, root: bytes) -> bool:
        """Whether a directory, or something below it, may be chosen."""
        return self.relation(recorded) is not Relation.OUTSIDE and self._filter.enters(recorded, root=root)

    def chooses(self, recorded: bytes, *, is_directory: bool, root: bytes) -> bool:
        """Whether an entry is chosen."""
        if self.relation(recorded) is not Relation.INSIDE:
            return False
        return self._filter.chooses(recorded, is_directory=is_directory, root=root)


def _bare(path: bytes) -> bytes:
    """Without a slash at the end; the root directory is empty."""
    return path.rstrip(b"/")


def upwards(path: bytes) -> Iterator[bytes]:
    """The directories above a path, the nearest first, up to the one that is the empty path."""
    while path:
        path = path.rpartition(b"/")[0]
        yield path


def candidates(path: bytes, roots: Sequence[Root]) -> list[bytes]:
    """The recorded absolute paths that a path as given, absolute or below a root, can mean; the first that is there."""
    clean = os.path.normpath(path)
    found = [clean]
    if not clean.startswith(b"/"):
        found = [os.path.normpath(join(root.path, clean)) for root in roots]
        found += [root.path for root in roots if root.path.rpartition(b"/")[2] == clean]
    return found


def join(parent: bytes, name: bytes) -> bytes:
    """A path from its parts."""
    return parent + name if parent.endswith(b"/") else parent + b"/" + name
