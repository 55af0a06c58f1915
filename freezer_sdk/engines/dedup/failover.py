"""A restore that goes on from other repositories where its own is damaged, incomplete or gone.

Where content has the same names, blob by blob (:mod:`~freezer_sdk.engines.dedup.fallback`). What is still not whole
then is taken from the next repository that has the backup: the same walk over the tree as it is recorded there, but
only for the files and directories that are wanted.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.fallback import FALLBACK, FallbackReader
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.select import Leaves, Selected, Selection
from freezer_sdk.engines.dedup.tree import TreeReader
from freezer_sdk.errors import RepositoryError, RestoreError, StorageError
from freezer_sdk.files.target import RestoreTarget
from freezer_sdk.model import Problem, RestoreOptions

_NOTED = 100  # files that are named one by one

Report = Callable[[Problem], None]


class Standby(NamedTuple):
    """A repository that may have the backup."""

    handle: Handle
    commit: Callable[[], Commit]

    @property
    def location(self) -> str:
        """URL of the storage, without secrets."""
        return self.handle.storage.location


class Walker(Protocol):
    """What a restore lets others do."""

    def walk(self, found: Iterator[Selected | Leaves]) -> None:
        """Restores what was selected."""

    def walk_again(self, found: Iterator[Selected | Leaves], blobs: BlobReader, failed: frozenset[bytes]) -> None:
        """The same from another repository."""

    def counted_twice(self, directories: int) -> None:
        """Some directories came in two walks."""


def alike_reader(handle: Handle, others: Sequence[Standby], note: Report) -> FallbackReader:
    """Reads a repository, and those of the others where content has the same names in its place."""
    key = handle.keys.data_hash_key()
    alike = [place.handle for place in others if place.handle.keys.data_hash_key() == key]
    return FallbackReader(handle, [BlobReader(each, BlobIndex(trusts=each.keys.trusts)) for each in alike], note)


class Failover:
    """What a restore could not get, and where else it may be.

    Args:
        others: in the order in which they are asked.
        notes: told at the start.
    """

    def __init__(self, options: RestoreOptions, others: Sequence[Standby], notes: Sequence[Problem] = ()) -> None:
        self._options, self._others, self._notes = options, others, notes
        self._files: dict[bytes, Problem] = {}
        self._directories: dict[bytes, Problem] = {}

    # -- what a restore tells ------------------------------------------------------------------------------

    def takes(self, path: bytes, problem: Problem) -> bool:
        """Whether a file that is not whole is to be had elsewhere; called from any thread."""
        self._files[path] = problem
        return True

    def waits_for(self, path: bytes) -> bool:
        """Whether a file is not whole so far."""
        return path in self._files

    def reader(self, handle: Handle, note: Report, *, after: int = 0) -> BlobReader:
        """Reads a repository, and those where content has the same names in its place.

        Args:
            after: only others from this number on are asked.
        """
        return alike_reader(handle, self._others[after:], note)

    # -- the passes ----------------------------------------------------------------------------------------

    def run(self, restore: Walker, selection: Selection, target: RestoreTarget, report: Report) -> None:
        """Restores what was selected, and what is not whole then from the others.

        Raises:
            RestoreError, Cancelled, and what a walk raises.
        """
        for note in self._notes:
            report(note)
        restore.walk(selection.entries(self._damaged(selection, report)))
        self._options = replace(self._options, layout=selection.layout)
        for number, place in enumerate(self._others):
            if not (self._files or self._directories):
                break
            blobs = self.reader(place.handle, report, after=number + 1)
            try:
                there = Selection(place.commit(), TreeReader(blobs), self._options)
            except (RepositoryError, StorageError, RestoreError):  # it does not have the backup, or not this part
                continue
            wanted = _Wanted(frozenset(self._files), frozenset(self._directories), target)
            _tell(self._take(restore, there, blobs, wanted, report), place.location, report)
        for problem in (*self._directories.values(), *self._files.values()):
            report(problem)

    def _take(
        self, restore: Walker, selection: Selection, blobs: BlobReader, wanted: _Wanted, report: Report
    ) -> list[Problem]:
        """Takes what it can from another repository; gives what was wrong with it before."""
        before = {**self._directories, **self._files}
        files, directories = self._files, self._directories
        self._files, self._directories = {}, {}
        found = wanted.of(selection.entries(self._damaged(selection, report, within=wanted)))
        restore.walk_again(found, blobs, frozenset(files))
        restore.counted_twice(len(wanted.seen_directories))
        for path in files.keys() - wanted.seen_files:
            self._files.setdefault(path, files[path])
        for path in directories.keys() - wanted.seen_directories:
            self._directories.setdefault(path, directories[path])
        return [
            problem for path, problem in before.items() if path not in self._files and path not in self._directories
        ]

    def _damaged(self, selection: Selection, report: Report, *, within: _Wanted | None = None) -> Report:
        """What is told of directories that cannot be read: they are had elsewhere as a whole."""

        def told(problem: Problem) -> None:
            path = selection.place(os.fsencode(problem.path))
            if problem.kind == "damaged" and (within is None or within.is_below(path)):
                self._directories[path] = problem
            elif within is None:
                report(problem)

        return told


class _Wanted:
    """Chooses what has to be restored once more.

    Args:
        files: paths below the target.
        directories: with all that lies below them.
    """

    def __init__(self, files: frozenset[bytes], directories: frozenset[bytes], target: RestoreTarget) -> None:
        self._files, self._directories, self._target = files, directories, target
        self.seen_files: set[bytes] = set()
        self.seen_directories: set[bytes] = set()

    def is_below(self, path: bytes) -> bool:
        """Whether a path is one of the directories or lies below one."""
        while path and path not in self._directories:
            path = path.rpartition(b"/")[0]
        return path in self._directories

    def of(self, found: Iterator[Selected | Leaves]) -> Iterator[Selected | Leaves]:
        """What is wanted of a selection."""
        for each in found:
            if isinstance(each, Leaves):
                numbers = self._of_page(each)
                if numbers:
                    yield each._replace(numbers=numbers)
            elif each[1] is not None and self._takes(each[0], is_directory=stat.S_ISDIR(each[1].attributes.mode)):
                yield each

    def _of_page(self, leaves: Leaves) -> list[int]:
        names, directory = leaves.page.names, leaves.directory
        paths = {number: directory + b"/" + names[number] if directory else names[number] for number in leaves.numbers}
        below = self.is_below(directory)
        return [number for number, path in paths.items() if self._takes(path, is_directory=False, below=below)]

    def _takes(self, path: bytes, *, is_directory: bool, below: bool | None = None) -> bool:
        if path in self._files and not is_directory:
            self.seen_files.add(path)
            return True
        if is_directory and path in self._directories:
            self.seen_directories.add(path)  # it is there itself, but what it should not hold may be, too
            return True
        parent = path.rpartition(b"/")[0]
        if not (self.is_below(parent) if below is None else below):
            return False
        return not (self._target.made(parent) and self._target.exists(path))  # a part of it could be read


def _tell(taken: Sequence[Problem], location: str, report: Report) -> None:
    for problem in taken[:_NOTED]:
        message = f"{problem.message}; restored from {location}"
        report(Problem(path=problem.path, kind=FALLBACK, message=message, fatal=False))
    if len(taken) > _NOTED:
        message = f"{len(taken) - _NOTED} more were restored from {location}"
        report(Problem(path="", kind=FALLBACK, message=message, fatal=False))
