"""Restore: the tree of all levels first, then each stream once, writing files whole."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.content import Piece
from freezer_sdk.engines.chains.findings import unread
from freezer_sdk.engines.chains.items import Items, sound
from freezer_sdk.engines.chains.reading import DOUBT, Opened
from freezer_sdk.engines.chains.record import CUT
from freezer_sdk.engines.chains.select import Selected, Selection, names_by_directory, recorded_path
from freezer_sdk.engines.chains.writers import Writers, writers_of
from freezer_sdk.errors import IntegrityError, RestoreError
from freezer_sdk.files.scope import Root, Scope, candidates, join
from freezer_sdk.files.target import Decision, Item, RestoreTarget, TargetUnusable
from freezer_sdk.model import Entry, EntryType, Event, Problem, RestoreOptions, RestoreResult
from freezer_sdk.modes.base import STAT, Attributes, Extras

_EVENT_EVERY: Final = 0.1  # seconds
_TICK_AFTER: Final = 64  # entries or pieces
_SMALL: Final = 1 << 20  # bytes of a file that is held to be written in one go


class _Planned(NamedTuple):
    """A file that waits for its content: its packed attributes, since there may be very many."""

    stat: bytes
    extras: Extras


class _Name(NamedTuple):
    """Another name of a file, made when the first one is whole."""

    path: bytes
    first: bytes
    planned: _Planned


class Restore:
    """One restore of one backup."""

    def __init__(self, opened: Opened, options: RestoreOptions, context: Context) -> None:
        self._backup, self._root, self._content = opened.backup, opened.root, opened.content
        self._options, self._context, self._findings = options, context, opened.findings
        self._items = Items(numeric=options.numeric_owner)
        self._planned: dict[bytes, bytes | _Planned] = {}  # by path in the content; mostly only the packed attributes
        self._links: dict[tuple[bytes, EntryType], bytes] = {}
        self._names: list[_Name] = []
        self._failed: set[bytes] = set()
        self._doubts, self._doubtful = opened.doubts, set[bytes]()
        self._counts = {"files": 0, "directories": 0, "others": 0, "bytes": 0, "skipped": 0}
        self._next_event, self._ticks = 0.0, 0

    def run(self, path: str) -> RestoreResult:
        """Writes everything that was chosen.

        Raises:
            RestoreError, StorageError, WrongPassword, Cancelled.
            IntegrityError: nothing can be read at all.
        """
        started = time.monotonic()
        self._selection, origin = self._select()
        backup = self._backup
        with RestoreTarget(
            path,
            self._options,
            problem=self._findings.add,
            users={},
            groups={},
            keep=backup.excludes,
            origin=origin,
            roots=[self._root],
        ) as target:
            self._target = target
            for selected in self._selection.of(sound(self._content.entries(), self._refuse)):
                self._tick(selected.path)
                self._entry(selected)
            if not self._options.dry_run:
                with writers_of(target) as writers:
                    self._write(writers)
                self._link()
            self._tell_unread()
            target.finish()
            return RestoreResult(
                backup=backup.id,
                target=path,
                **self._counts,
                deleted=target.deleted,
                duration=round(time.monotonic() - started, 3),
                problems=self._findings.problems,
                plan=tuple(target.plan),
            )

    # -- what is chosen ------------------------------------------------------------------------------------

    def _select(self) -> tuple[Selection, bytes]:
        """What to restore, and the recorded path of the target itself; looks at all entries first where it has to."""
        roots = [Root(self._root, is_directory=True)]
        wanted = {candidate for path in self._options.paths for candidate in candidates(path, roots)}
        there = {self._root}
        if wanted:
            paths = (recorded_path(self._root, entry.path) for entry in self._sound_quietly())
            there.update(wanted.intersection(paths))
        self._scope = scope = Scope(roots, self._options, contains=there.__contains__)
        return Selection(scope, self._root, names=self._names_to_keep()), scope.origin

    def _names_to_keep(self) -> Mapping[bytes, frozenset[bytes]] | None:
        if not self._options.delete:
            return None
        names = names_by_directory(self._sound_quietly(), self._unread())
        if self._findings.fatal or any(problem.kind == CUT for problem in self._backup.problems):
            message = "nothing is deleted from the target: the backup cannot be read whole, so what it had is not known"
            self._findings.add(Problem(path="", kind="delete", message=message, fatal=False))
            return None
        return names

    def _unread(self) -> Iterator[bytes]:
        """Paths in the content that something is told of: it was there, whatever is known of it now."""
        for problem in self._findings.problems:
            yield os.fsencode(problem.path)
        above = join(self._root, b"")
        for problem in self._backup.problems:
            path = os.fsencode(problem.path)
            if path.startswith(above):
                yield path[len(above) :]

    def _sound_quietly(self) -> Iterator[Entry]:
        return sound(self._content.entries(), lambda entry, error: None)

    # -- entries -------------------------------------------------------------------------------------------

    def _entry(self, selected: Selected) -> None:
        path, entry, names = selected
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

    def _leaf(self, path: bytes, entry: Entry, item: Item) -> None:
        group = None if entry.link_group is None else (entry.link_group, entry.type)
        first = None if group is None else self._links.get(group)
        decision = self._target.decide(path, item)
        if decision is Decision.SKIP:
            self._counts["skipped"] += 1
            return
        if first is not None:
            self._names.append(_Name(path, first, _Planned(STAT.pack(*item.attributes), item.extras)))
            if self._options.dry_run:
                self._counts["files" if entry.type is EntryType.FILE else "others"] += 1
        elif entry.type is not EntryType.FILE:
            self._target.special(path, item)
            self._counts["others"] += 1
        elif decision is Decision.METADATA:
            self._target.metadata(path, item)
            self._counts["skipped"] += 1
        else:
            self._file(path, entry, item)
        if group is not None and first is None:
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
            packed = STAT.pack(*item.attributes)
            self._planned[entry.path] = _Planned(packed, item.extras) if item.extras else packed

    def _done(self, size: int) -> None:
        self._counts["files"] += 1
        self._counts["bytes"] += size

    # -- content -------------------------------------------------------------------------------------------

    def _write(self, writers: Writers) -> None:
        if self._planned:
            try:
                for piece in self._joined(self._content.pieces(self._planned.__contains__)):
                    self._tick(piece.path)
                    self._piece(piece, writers)
            except IntegrityError as error:
                self._findings.add(Problem(path="", kind="damaged", message=str(error)))
        for path in self._planned:
            place = self._selection.place(path)
            writers.abort(place)
            self._fail(place, IntegrityError("its content is in a part of the backup that cannot be read"))
        self._planned.clear()

    def _joined(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """Puts together what follows each other of a small file: written in one go it takes half the time."""
        path, held, size = b"", list[bytes](), 0
        for piece in pieces:
            if held:
                if piece.path == path and piece.offset == size and size + len(piece.data) <= _SMALL:
                    held.append(bytes(piece.data))
                    size += len(piece.data)
                    if piece.last:
                        yield Piece(path, 0, b"".join(held), last=True)
                        held.clear()
                    continue
                yield Piece(path, 0, b"".join(held), last=False)
                held.clear()
            if not piece.last and not piece.offset and self._is_small(piece.path):
                path, size = piece.path, len(piece.data)
                held.append(bytes(piece.data))
            else:
                yield piece
        if held:
            yield Piece(path, 0, b"".join(held), last=False)

    def _is_small(self, path: bytes) -> bool:
        planned = self._planned.get(path)
        return planned is not None and _item(planned).attributes.size <= _SMALL

    def _piece(self, piece: Piece, writers: Writers) -> None:
        planned = self._planned.get(piece.path)
        if planned is None:
            return
        path = self._selection.place(piece.path)
        try:
            item = _item(planned)
            size, end = item.attributes.size, piece.offset + len(piece.data)
            if piece.offset < 0 or end > size:
                raise IntegrityError("the backup holds more content for it than its size")
            if piece.last and len(piece.data) == size and path not in writers:
                self._whole(path, item, piece)
            else:
                writers.get(path, item).write_at(piece.offset, piece.data)
                if not piece.last:
                    return
                writers.commit(path)
            self._done(size)
            self._tell_doubt(path, path)
        except TargetUnusable:
            raise
        except (RestoreError, IntegrityError, OSError) as error:
            writers.abort(path)
            self._fail(path, error)
        del self._planned[piece.path]

    def _whole(self, path: bytes, item: Item, piece: Piece) -> None:
        directory, _, name = path.rpartition(b"/")
        if item.extras or not self._target.made(directory):
            self._target.write_file(path, item, piece.data)
        else:
            self._target.write_new(directory, name, item.attributes, piece.data)

    def _link(self) -> None:
        """Other names of files, now that the first ones are there."""
        for path, first, planned in self._names:
            self._tick(path)
            item = _item(planned)
            try:
                if first in self._failed:
                    raise IntegrityError(f"{os.fsdecode(first)!r}, another name of it, is not whole")
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
        for problem in self._backup.problems:
            path = os.fsencode(problem.path)
            place = os.fsdecode(self._scope.place(path))
            if problem.fatal and place not in told and self._scope.chooses(path, is_directory=False, root=self._root):
                self._findings.add(unread(problem, place))

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


_REGULAR: Final = 0o10


def _item(planned: bytes | _Planned) -> Item:
    if isinstance(planned, bytes):
        return Item(Attributes(*STAT.unpack(planned)), ())
    return Item(Attributes(*STAT.unpack(planned.stat)), planned.extras)
