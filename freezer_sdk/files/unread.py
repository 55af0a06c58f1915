"""What a backup says that it could not read: a restore tells of it again, and deletes nothing in its place."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from freezer_sdk.files.scope import Scope, join
from freezer_sdk.model import Problem

CUT: Final = "cut"
"""Kind of the problem that stands for those that are not listed."""


def unread(
    problems: Iterable[Problem], scope: Scope, roots: Sequence[bytes], *, told: AbstractSet[str]
) -> Iterator[Problem]:
    """What a restore has to tell of items that were not read whole when they were backed up: they are old or gone.

    Args:
        problems: of the backup.
        roots: recorded ones.
        told: paths of problems that the restore has told of.
    """
    for problem in problems:
        path = os.fsencode(problem.path)
        if problem.fatal and told.isdisjoint((problem.path, os.fsdecode(scope.place(path)))):
            root = next((root for root in roots if path == root or path.startswith(join(root, b""))), path)
            if scope.chooses(path, is_directory=False, root=root):
                yield described(problem, os.fsdecode(scope.place(path)))


def described(problem: Problem, path: str) -> Problem:
    """One of these.

    Args:
        problem: of the backup.
        path: of the item in the target.
    """
    message = f"was not read whole when it was backed up: {problem.message}"
    return Problem(path=path, kind="incomplete", message=message)


def unread_names(problems: Iterable[Problem]) -> Mapping[bytes, frozenset[bytes]] | None:
    """The names of what was there and could not be read, by directory; ``None``: it is not all known.

    Args:
        problems: of the backup.
    """
    found: dict[bytes, set[bytes]] = {}
    for problem in problems:
        if problem.kind == CUT or (problem.fatal and not problem.path.startswith("/")):
            return None
        above = os.fsencode(problem.path)
        while problem.fatal and above.strip(b"/"):
            above, _, name = above.rpartition(b"/")
            found.setdefault(above or b"/", set()).add(name)
    return {path: frozenset(names) for path, names in found.items()}
