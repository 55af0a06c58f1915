"""Walking local directories: what a run in which nothing changed spends its time on."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from freezer_sdk.errors import ConfigurationError, SnapshotError
from freezer_sdk.files.directory import Roots, ScannedDirectory, WalkState
from freezer_sdk.files.patterns import Patterns
from freezer_sdk.files.report import Reporter
from freezer_sdk.modes.base import Enter, Leave, ProblemHandler, SnapshotGroup, Stream, Tree, TreeRules

_KEPT_OPEN = 200
_LEAVE = Leave()


class Follow(StrEnum):
    """Which links are stored as what they lead to.

    ``soft``: symbolic links are followed. ``hard``: every name of a file is stored as a file of its own.
    ``all``: both. The words are those of the original's ``--dereference-symlink``.
    """

    NONE = "none"
    SOFT = "soft"
    HARD = "hard"
    ALL = "all"


class LocalTree(Tree):
    """Directories and files of this machine.

    Args:
        roots: absolute paths. A root below another root is covered by it and dropped, unless ``one_file_system``
            keeps the walk of the other from reaching it.
        patterns: what to leave out; roots themselves are never left out.
        one_file_system: record, but do not enter, directories on another file system than their root's.
        exclude_caches: record directories tagged by a ``CACHEDIR.TAG`` (https://bford.info/cachedir/) with
            nothing but the tag.
        follow: which links are stored as what they lead to.
        shadow: for each root the path to read in its place; what is recorded stays the root.
        snapshot: where roots are read in place of the file system; it must hold all of them.

    Raises:
        ConfigurationError: no root, a relative one, or an unknown word for links.
        SnapshotError: the snapshot gives a stream for a root.
    """

    def __init__(
        self,
        roots: Sequence[bytes],
        *,
        patterns: Patterns | None = None,
        one_file_system: bool = False,
        exclude_caches: bool = False,
        follow: Follow | str = Follow.NONE,
        shadow: Mapping[bytes, bytes] | None = None,
        snapshot: SnapshotGroup | None = None,
    ) -> None:
        self.patterns = patterns or Patterns()
        self.one_file_system = one_file_system
        self.exclude_caches = exclude_caches
        self.follow = _follow(follow)
        self.follow_soft = follow in (Follow.SOFT, Follow.ALL)
        self.follow_hard = follow in (Follow.HARD, Follow.ALL)
        self.shadow = {**(shadow or {}), **({} if snapshot is None else _views(snapshot))}
        self.mount_points: list[bytes] = []
        self._covered: list[bytes] = []
        self._as_of = None if snapshot is None else snapshot.taken_ns
        self.roots = self._chosen(roots)
        self.missing = frozenset(() if snapshot is None else self._left_out(snapshot.missing))

    def _chosen(self, roots: Sequence[bytes]) -> tuple[bytes, ...]:
        normal = sorted({_normal(root) for root in roots})
        if not normal:
            raise ConfigurationError("no path to back up", hint="name at least one file or directory")
        kept: list[bytes] = []
        for root in normal:
            above = [other for other in kept if root.startswith(other.rstrip(b"/") + b"/")]
            if not above or self._apart(root, above[-1]):
                kept.append(root)
            else:
                self._covered.append(self._read(root, above[0]))
        return tuple(kept)

    def _apart(self, root: bytes, above: bytes) -> bool:
        """Whether the walk of one root does not come to another that lies below it."""
        if self.one_file_system and self._device(root) != self._device(above):
            return True
        if self._as_of is None:
            return False
        try:
            return not os.path.samefile(self._read(root, root), self._read(root, above))
        except OSError:
            return True

    def _left_out(self, missing: Sequence[Path]) -> Iterator[bytes]:
        """What is not in the view of its root, though no pattern leaves it out; roots among it have their own views."""
        for path in sorted({*map(os.fsencode, missing), *self.roots}):
            root = max(
                (each for each in self.roots if path.startswith(each.rstrip(b"/") + b"/")), key=len, default=None
            )
            if root is not None and not self._excluded(path, root):
                yield path

    def _excluded(self, path: bytes, root: bytes) -> bool:
        while path not in (root, b"/"):
            if self.patterns.verdict(path, is_directory=True, root=root):
                return True
            path = os.path.dirname(path)
        return False

    def _read(self, path: bytes, root: bytes) -> bytes:
        """Where a path at or below a root is read."""
        return self.shadow[root] + path[len(root) :] if root in self.shadow else path

    def _device(self, root: bytes) -> int | None:
        try:
            return os.stat(self._read(root, root), follow_symlinks=self.follow_soft).st_dev
        except OSError:
            return None

    @property
    def as_of_ns(self) -> int | None:
        """When the snapshot was made."""
        return self._as_of

    @property
    def rules(self) -> TreeRules:
        """See :attr:`Tree.rules <freezer_sdk.modes.base.Tree.rules>`."""
        return TreeRules(
            locations={root: self._read(root, root) for root in self.roots},
            excludes=self.patterns.lines,
            one_file_system=self.one_file_system,
            exclude_caches=self.exclude_caches,
            follow=str(self.follow),
            missing=tuple(sorted(self.missing.difference(self.roots))),
        )

    def again(self) -> LocalTree:
        """See :meth:`Tree.again <freezer_sdk.modes.base.Tree.again>`."""
        other = copy.copy(self)
        other.mount_points = []
        return other

    def walk(self, problem: ProblemHandler) -> Iterator[Enter | Leave]:
        """See :meth:`Tree.walk <freezer_sdk.modes.base.Tree.walk>`.

        A directory must be used by the thread that walks, or while the walk stands still.
        A tagged cache directory has ``FLAG_NOT_DESCENDED`` and is entered nonetheless, with its tag alone.

        Raises:
            SourceUnreadable: a root cannot be read at all.
        """
        self.mount_points.clear()
        report = Reporter(problem)
        state = WalkState(
            report=report,
            patterns=self.patterns,
            one_file_system=self.one_file_system,
            exclude_caches=self.exclude_caches,
            follow_soft=self.follow_soft,
            follow_hard=self.follow_hard,
            mount_points=self.mount_points,
            missing=self.missing,
            roots=self.roots,
            in_snapshot=self._as_of is not None,
            keep_open=_KEPT_OPEN,
        )
        roots = Roots(state, {root: self._read(root, root) for root in self.roots}, self._covered)
        stack: list[ScannedDirectory] = [roots]
        try:
            roots.scan()
            yield Enter(directory=roots)
            while stack:
                index = stack[-1].next_subdirectory()
                if index is None:
                    stack.pop().park()
                    yield _LEAVE
                    continue
                child = stack[-1].enter(index)
                if child is None:
                    continue
                stack.append(child)
                if len(stack) > _KEPT_OPEN:
                    stack[-_KEPT_OPEN].park()
                yield Enter(directory=child)
            report.close()
        finally:
            for directory in stack:
                directory.park()


def _follow(word: str) -> Follow:
    try:
        return Follow(word)
    except ValueError as error:
        raise ConfigurationError(f"no kind of links to follow: {word!r}", hint=f"one of {', '.join(Follow)}") from error


def _views(group: SnapshotGroup) -> dict[bytes, bytes]:
    streams = [view.name for view in group.views.values() if isinstance(view, Stream)]
    if streams:
        raise SnapshotError(
            f"the snapshot of {streams[0]!r} is a stream of its volume, and has no files to read",
            hint="choose another provider with --snapshot",
        )
    return {os.fsencode(path): os.fsencode(view) for path, view in group.views.items() if isinstance(view, Path)}


def _normal(root: bytes) -> bytes:
    if not root.startswith(b"/") or b"\0" in root:
        raise ConfigurationError(f"not an absolute path: {os.fsdecode(root)!r}")
    return b"/" + os.path.normpath(root).lstrip(b"/")
