"""Restore: the tree of all levels first, then each stream once more for contents that did not come meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Final, NamedTuple

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.arriving import Arriving, Packed
from freezer_sdk.engines.chains.content import ROOT, Content, Piece
from freezer_sdk.engines.chains.items import Items, sound
from freezer_sdk.engines.chains.reading import DOUBT, Opening
from freezer_sdk.engines.chains.select import Selected, Selection, names_by_directory, recorded_path
from freezer_sdk.engines.chains.writers import writers_of
from freezer_sdk.errors import IntegrityError, RestoreError
from freezer_sdk.files.scope import Root, Scope, candidates, join, upwards
from freezer_sdk.files.target import Decision, Item, RestoreTarget, TargetUnusable
from freezer_sdk.files.unread import CUT, unread
from freezer_sdk.model import Entry, EntryType, Event, Problem, RestoreOptions, RestoreResult

_EVENT_EVERY: Final = 0.1  # seconds
_TICK_AFTER: Final = 64  # entries or pieces
_REGULAR: Final = 0o10
_COUNTED: Final = ("files", "directories", "others", "bytes", "skipped")
_Group = tuple[bytes, EntryType]
"""What the names of one file have in common; of each type, lest hostile streams mix them."""


class _Name(NamedTuple):
    """Another name of a file, made when the first one is whole."""

    path: bytes
    group: _Group
    packed: Packed


class Restore:
    """One restore of one backup; also a :class:`~freezer_sdk.engines.chains.content.Taker`."""

    def __init__(self, opening: Opening, options: RestoreOptions, context: Context) -> None:
        self._opening, self._backup = opening, opening.listed.backup
        self._options, self._context, self._findings = options, context, opening.findings
        self._items = Items(numeric=options.numeric_owner)
        self._links: dict[_Group, bytes] = {}  # the name that has the content
        self._names: list[_Name] = []
        self._failed: set[bytes] = set()
        self._doubtful = set[bytes]()
        self._taken: set[int] = set()  # what tells contents apart, of those that came while the levels were read
        self._taking = False
        self._counts: dict[str, Any] = dict.fromkeys(_COUNTED, 0)
        self._next_event, self._ticks = 0.0, 0

    def run(self, path: str) -> RestoreResult:
        """Writes everything that was chosen.

        Raises:
            RestoreError, StorageError, WrongPassword, Cancelled.
            IntegrityError: nothing can be read at all.
        """
        started = time.monotonic()
        with ExitStack() as self._open:
            self._path = path
            opened = self._opening.read(self if self._takes() else None)
            self._doubts = opened.doubts
            if not self._taking:
                self._begin(opened.root, opened.content)
            for selected in self._selection().of(sound(opened.content.entries(), self._refuse)):
                self._tick(selected.path)
                self._entry(selected)
            if not self._options.dry_run:
                self._write(opened.content)
                self._link()
            self._tell_unread()
            self._target.finish()
            return RestoreResult(
                backup=self._backup.id,
                target=path,
                **self._counts,
                deleted=self._target.deleted,
                duration=round(time.monotonic() - started, 3),
                problems=self._findings.problems,
                plan=tuple(self._target.plan),
            )

    def _begin(self, root: bytes, content: Content | None) -> None:
        """Opens the target.

        Args:
            content: what the levels hold, where it is known already.
        """
        self._root = root
        self._scope = self._chosen(content)
        self._names_to_keep = None if content is None else self._recorded_names(content)
        self._place = self._selection().place
        self._target = self._open.enter_context(
            RestoreTarget(
                self._path,
                self._options,
                problem=self._findings.add,
                users={},
                groups={},
                keep=self._backup.excludes,
                origin=self._scope.origin,
                roots=[root],
            )
        )
        writers = self._open.enter_context(writers_of(self._target))
        self._arriving = Arriving(self._target, writers, place=self._place, written=self._written, failed=self._fail)

    # -- files that come while the levels are read -----------------------------------------------------------

    def _takes(self) -> bool:
        """Whether everything is chosen, and nothing has to be known of the content before."""
        options = self._options
        chosen = options.paths or options.include or options.exclude
        return not (chosen or options.delete or options.dry_run) and self._opening.root is not None

    def directories(self, entries: Iterable[Entry]) -> bool:
        """See :meth:`Taker.directories`; files are taken where nothing that is there can matter."""
        root = self._opening.root
        assert root is not None
        self._begin(root, None)
        self._taking = self._target.made(b"")
        if self._taking:
            for selected in self._selection().of(sound(entries, self._refuse)):
                self._tick(selected.path)
                self._entry(selected, meanwhile=True)
                if not self._target.made(selected.path):
                    self._failed.add(selected.path)  # told already
        return self._taking

    def file(self, entry: Entry, pieces: Iterator[Piece]) -> None:
        """See :meth:`Taker.file`; what is not taken has its turn when everything is known."""
        path = entry.path
        if not self._target.made(self._place(path).rpartition(b"/")[0]) or entry.extents == ():
            return
        try:
            item = self._items.item(entry)
        except IntegrityError:
            return
        self._arriving.expect(path, item)
        try:
            self._arriving.write(self._ticked(pieces))
        finally:
            if path in self._arriving:
                self._arriving.forget(path)
            else:
                self._taken.add(entry.inode)

    def take_back(self, entries: Iterable[Entry]) -> None:
        """See :meth:`Taker.take_back`; what leads to the root is no entry."""
        self._target.take_back((self._place(entry.path), entry.type is EntryType.DIRECTORY) for entry in entries)
        root = self._place(ROOT)
        self._target.take_back((path, True) for path in (root, *upwards(root)))
        self._taking = False
        self._taken.clear()
        self._failed.clear()
        self._counts = dict.fromkeys(_COUNTED, 0)

    # -- what is chosen ------------------------------------------------------------------------------------

    def _chosen(self, content: Content | None) -> Scope:
        """What to restore; looks at all entries first where it has to."""
        roots = [Root(self._root, is_directory=True)]
        wanted = {candidate for path in self._options.paths for candidate in candidates(path, roots)}
        there = {self._root}
        if wanted and content is not None:
            paths = (recorded_path(self._root, entry.path) for entry in _sound_quietly(content))
            there.update(wanted.intersection(paths))
        return Scope(roots, self._options, contains=there.__contains__)

    def _selection(self) -> Selection:
        return Selection(self._scope, self._root, names=self._names_to_keep)

    def _recorded_names(self, content: Content) -> Mapping[bytes, frozenset[bytes]] | None:
        if not self._options.delete:
            return None
        names = names_by_directory(_sound_quietly(content), self._unread())
        if self._findings.fatal or any(problem.kind == CUT for problem in self._backup.problems):
            message = "nothing is deleted from the target: the backup cannot be read whole, so what it had is not known"
            self._findings.add(Problem(path="", kind="delete", message=message, fatal=False))
            return None
        return names

    def _unread(self) -> Iterator[tuple[bytes, bool]]:
        """Paths in the content that something is told of, and whether it is fatal: it was there, whatever is known."""
        for problem in self._findings.problems:
            yield os.fsencode(problem.path), problem.fatal
        above = join(self._root, b"")
        for problem in self._backup.problems:
            path = os.fsencode(problem.path)
            if path.startswith(above):
                yield path[len(above) :] or ROOT, problem.fatal
            elif path == self._root:
                yield ROOT, problem.fatal

    # -- entries -------------------------------------------------------------------------------------------

    def _entry(self, selected: Selected, *, meanwhile: bool = False) -> None:
        """Brings back an entry, or notes what is still to be done.

        Args:
            meanwhile: the levels are still being read.
        """
        path, entry, names = selected
        if self._taking and not meanwhile and self._came(path, entry):
            return
        if entry is None:
            self._target.implied_directory(path)
            return
        try:
            item = self._items.item(entry)
            if entry.type is EntryType.DIRECTORY:
                self._counts["directories"] += 1
                self._target.directory(path, item, names=names)
            else:
                self._leaf(path, entry, item)
        except TargetUnusable:
            raise
        except (RestoreError, IntegrityError, OSError) as error:
            self._fail(path, error)

    def _came(self, path: bytes, entry: Entry | None) -> bool:
        """Whether an entry is there since the levels were read."""
        if entry is None or entry.type is EntryType.DIRECTORY:
            return self._target.made(path) or path in self._failed
        if entry.type is not EntryType.FILE or entry.inode not in self._taken:
            return False
        if entry.link_group is not None:
            if path not in self._failed and not self._target.exists(path):
                return False  # another name of it
            self._links[entry.link_group, entry.type] = path
        if path not in self._failed and self._doubts(entry):
            self._doubtful.add(path)
            self._tell_doubt(path, path)
        return True

    def _leaf(self, path: bytes, entry: Entry, item: Item) -> None:
        group = None if entry.link_group is None else (entry.link_group, entry.type)
        decision = self._target.decide(path, item)
        if decision is Decision.SKIP:
            self._counts["skipped"] += 1
            return
        if group is not None and (group in self._links or entry.inode in self._taken):
            self._names.append(_Name(path, group, Packed.of(item)))
            if self._options.dry_run:
                self._counts["files" if entry.type is EntryType.FILE else "others"] += 1
            return
        if entry.type is not EntryType.FILE:
            self._target.special(path, item)
            self._counts["others"] += 1
        elif decision is Decision.METADATA:
            self._target.metadata(path, item)
            self._counts["skipped"] += 1
        else:
            self._file(path, entry, item)
        if group is not None:
            self._links[group] = path

    def _file(self, path: bytes, entry: Entry, item: Item) -> None:
        if entry.incomplete:
            raise IntegrityError("its content is in a part of the backup that cannot be read")
        if self._doubts(entry):
            self._doubtful.add(path)
        if self._options.dry_run:
            self._done(entry.size)
        elif not entry.size:
            self._target.write_file(path, item, b"")
            self._done(0)
        elif entry.extents == ():
            with self._target.open_file(path, item) as writer:
                writer.commit()
            self._done(entry.size)
        else:
            self._arriving.expect(entry.path, item)

    def _done(self, size: int) -> None:
        self._counts["files"] += 1
        self._counts["bytes"] += size

    # -- content -------------------------------------------------------------------------------------------

    def _write(self, content: Content) -> None:
        if self._arriving:
            try:
                self._arriving.write(self._ticked(content.pieces(self._arriving.__contains__)))
            except IntegrityError as error:
                self._findings.add(Problem(path="", kind="damaged", message=str(error)))
        self._arriving.give_up()

    def _ticked(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._tick(piece.path)
            yield piece

    def _written(self, path: bytes, size: int) -> None:
        self._done(size)
        self._tell_doubt(path, path)

    def _link(self) -> None:
        """Other names of files, now that the first ones are there."""
        for path, group, packed in self._names:
            self._tick(path)
            item = packed.item
            try:
                first = self._links.get(group)
                if first is None or first in self._failed:
                    raise IntegrityError(f"{os.fsdecode(first or path)!r}, another name of it, is not whole")
                self._target.hardlink(path, first, item)
                self._counts["files" if item.attributes.mode >> 12 == _REGULAR else "others"] += 1
                self._tell_doubt(path, first)
            except TargetUnusable:
                raise
            except (RestoreError, IntegrityError, OSError) as error:
                self._fail(path, error)

    # -- reports -------------------------------------------------------------------------------------------

    def _fail(self, path: bytes, error: Exception) -> None:
        self._failed.add(path)
        kind = "damaged" if isinstance(error, IntegrityError) else "unwritable"
        message = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        self._findings.add(Problem(path=os.fsdecode(path), kind=kind, message=message))

    def _tell_unread(self) -> None:
        told = {problem.path for problem in self._findings.problems if problem.fatal}
        for problem in unread(self._backup.problems, self._scope, [self._root], told=told):
            self._findings.add(problem)

    def _tell_doubt(self, path: bytes, first: bytes) -> None:
        if first in self._doubtful:
            self._findings.add(Problem(path=os.fsdecode(path), kind="unverified", message=DOUBT))

    def _refuse(self, entry: Entry, error: Exception) -> None:
        code = error.code if isinstance(error, RestoreError) else "damaged"
        self._findings.add(Problem(path=os.fsdecode(entry.path), kind=code, message=str(error)))

    def _tick(self, path: bytes) -> None:
        self._ticks += 1
        if self._ticks < _TICK_AFTER:
            return
        self._ticks = 0
        self._context.cancel.check()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            stats, known = self._backup.stats, not self._options.paths and bool(self._backup.stats.files)
            self._context.events(
                Event(
                    kind="progress",
                    operation="restore",
                    path=os.fsdecode(path),
                    files=self._counts["files"],
                    bytes=self._counts["bytes"],
                    total_files=stats.files if known else None,
                    total_bytes=stats.bytes if known else None,
                )
            )


def _sound_quietly(content: Content) -> Iterator[Entry]:
    return sound(content.entries(), lambda entry, error: None)
