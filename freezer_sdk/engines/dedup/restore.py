"""Restore: plan by segment, read each once, write files whole."""

from __future__ import annotations

import os
import stat
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter, itemgetter
from queue import Empty, Full
from typing import Any, NamedTuple

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.failover import Failover
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, Place
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.page import INLINE, content_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.select import Leaves, Selected, Selection
from freezer_sdk.engines.dedup.tree import Node, TreeReader, get_extra, nodes_of, not_descended, split_extents
from freezer_sdk.errors import IntegrityError, RestoreError
from freezer_sdk.files.target import Decision, FileWriter, Item, RestoreTarget, TargetUnusable
from freezer_sdk.files.writer_process import SmallFile, WriterProcess, is_content
from freezer_sdk.model import Buffer, Event, Problem, RestoreOptions, RestoreResult
from freezer_sdk.modes.base import FLAG_INCOMPLETE, STAT, Extra, Extras
from freezer_sdk.streams.pool import WorkerPool
from freezer_sdk.streams.weighted import WeightedQueue

_PLANNED_BLOBS = 131_072  # at most, before they are fetched: about 40 MB; content that occurs twice is fetched once
_PLANNED_BYTES = 48 << 20  # of pages and facts of files that are planned
_PLANNED_FILES = 256  # of several blobs, since they may all be open at once
_SMALL = 1 << 20  # files of one blob up to this size are written in one go
_MANY = 10_000  # files for which another process is worth its start
_MOST_HELPERS = 4
_MOST_JOBS = 4096  # segments whose files are planned, and which wait to be fetched
_EVENT_EVERY = 0.1  # seconds
_TICK_AFTER = 32  # entries
_REGULAR = stat.S_IFREG >> 12
_FLAGS_AND_SIZE, _AT_FLAGS = struct.Struct("<IQ"), 12  # of a row of STAT
_WAIT = 0.5  # seconds between looks at errors and cancellation


@dataclass(slots=True, eq=False)
class _File:
    """A file whose content is on its way."""

    path: bytes
    item: Item
    missing: int = 0
    writer: FileWriter | None = None
    failed: bool = False
    planned: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


_Quick = tuple[Leaves, int, int, int, tuple[int, ...]]
"""A small file that nothing is special about, all of it in one segment: its page, its number there, where its ids lie
among the page's, where its content starts in the segment, and the lengths of its blobs. Plain, since there may be very
many."""


class _Small(NamedTuple):
    """A small file of one blob."""

    path: bytes
    item: Item
    blob: bytes
    start: int
    length: int


class _Piece(NamedTuple):
    """A blob and the ranges of the file that it fills: ``(offset in file, offset in blob, length)``."""

    file: _File
    blob: bytes
    place: Place
    ranges: list[tuple[int, int, int]]


@dataclass(slots=True)
class _Run:
    """Bytes from ``begin`` to ``end`` of a source, which belong at an offset of a file."""

    offset: int
    source: memoryview
    begin: int
    end: int

    def takes(self, offset: int, source: memoryview, begin: int, length: int) -> bool:
        """Grows by bytes that follow in the source and in the file; whether they do."""
        if source is not self.source or begin != self.end or offset - self.offset != begin - self.begin:
            return False
        self.end += length
        return True


_Segment = tuple[bytes, int, int]
"""Its pack, offset and stored length."""


@dataclass(slots=True)
class _Batch:
    """What is planned and not yet fetched, by segment."""

    segments: dict[_Segment, list[Any]] = field(default_factory=dict)
    blobs: int = 0
    files: int = 0


_Job = tuple[_Segment, list[_Piece], list[_Small | _Quick]]
_Content = memoryview | IntegrityError
_Fetched = tuple[_Segment, list[_Small], list[_Quick], _Content]
"""With the small files that are still to be written."""


class Restore:
    """One restore of one backup.

    A few threads fetch, decrypt and decompress segments, and write the pieces of large files: that needs little of the
    interpreter. Small files are left to the caller's thread: several that write them would spend more on handing the
    interpreter to each other than they gain. Where there are many, another process writes most of them.
    """

    def __init__(
        self,
        handle: Handle,
        commit: Commit,
        options: RestoreOptions,
        context: Context,
        *,
        failover: Failover | None = None,
    ) -> None:
        self._commit, self._options, self._context = commit, options, context
        self._failover = failover
        self._blobs = (
            BlobReader(handle, BlobIndex(trusts=handle.keys.trusts))
            if failover is None
            else failover.reader(handle, self._problem)
        )
        self._trees = TreeReader(self._blobs)
        self._problems: list[Problem] = []
        self._dry_run = options.dry_run
        threads = handle.settings.threads or os.cpu_count() or 2
        self._ahead = max(2, threads, handle.settings.queue_size >> 20)
        self._most_under_way = self._ahead
        self._pool = WorkerPool("freezer-restore", threads=threads, budget=_MOST_JOBS, cancel=context.cancel)
        helped = threads > 1 and commit.backup.stats.files >= _MANY and not options.paths
        self._stopping = False
        self._helpers: list[WriterProcess] = []
        self._most_helpers = min(threads, _MOST_HELPERS) if helped else 0
        self._local = threading.local()
        self._under_way = 0
        self._fetched: WeightedQueue[_Fetched] = WeightedQueue(self._ahead)
        self._small, self._large = _Batch(), _Batch()
        self._links: dict[tuple[bytes, int], bytes] = {}  # by group and type: names of one file have one type
        self._open: set[_File] = set()
        self._counts: dict[str, Any] = {"files": 0, "directories": 0, "others": 0, "bytes": 0, "skipped": 0}
        self._lost: list[int] = []  # sizes of files that were counted and then failed; from any thread
        self._next_event, self._entries = 0.0, 0
        self._planned_bytes = 0

    def run(self, path: str) -> RestoreResult:
        """Writes everything that was chosen.

        Raises:
            RestoreError, StorageError, Cancelled, IntegrityError: the backup's directories are damaged at the top.
        """
        started = time.monotonic()
        backup, owners = self._commit.backup, self._commit.owners
        selection = Selection(self._commit, self._trees, self._options)
        with RestoreTarget(
            path,
            self._options,
            problem=self._problem,
            users=owners.users,
            groups=owners.groups,
            keep=backup.excludes,
            origin=selection.origin,
            roots=selection.roots,
        ) as target:
            self._target = target
            self._start_helpers()
            try:
                if self._failover is None:
                    self.walk(selection.entries(self._problem))
                else:
                    self._failover.run(self, selection, target, self._problem)
            finally:
                self._stopping = True
                for helper in self._helpers:
                    helper.stop()
                self._pool.close()
                for helper in self._helpers:
                    helper.close()
                for file in list(self._open):
                    self._abort(file)
            for problem in selection.unread({problem.path for problem in self._problems if problem.fatal}):
                self._problem(problem)
            target.finish()
            self._counts["files"] -= len(self._lost)
            self._counts["bytes"] -= sum(self._lost)
            return RestoreResult(
                backup=backup.id,
                target=path,
                **self._counts,
                deleted=target.deleted,
                duration=round(time.monotonic() - started, 3),
                problems=tuple(self._problems),
                plan=tuple(target.plan),
            )

    def walk(self, found: Iterator[Selected | Leaves]) -> None:
        """Restores what was selected."""
        for each in found:
            if isinstance(each, Leaves):
                self._tick(each.directory, len(each.numbers))
                self._leaves(each)
            else:
                self._tick(each[0], 1)
                self._entry(*each)
        self._fetch_all()

    def walk_again(self, found: Iterator[Selected | Leaves], blobs: BlobReader, failed: frozenset[bytes]) -> None:
        """As :meth:`walk`, from another repository.

        Args:
            failed: paths below the target of files that are not there though they had their turn.
        """
        helpers, self._helpers = self._helpers, []  # they know the key of one repository
        self._blobs = blobs
        self._links = {group: path for group, path in self._links.items() if path not in failed}
        try:
            self.walk(found)
        finally:
            self._helpers = helpers

    def counted_twice(self, directories: int) -> None:
        """Takes back that so many directories came in two walks."""
        self._counts["directories"] -= directories

    # -- entries -------------------------------------------------------------------------------------------

    def _tick(self, path: bytes, entries: int) -> None:
        self._entries += entries
        if self._entries >= _TICK_AFTER:
            self._entries = 0
            self._context.cancel.check()
            self._progress(path)
            while not self._fetched.empty():
                self._write_next()

    def _entry(self, path: bytes, node: Node | None, names: frozenset[bytes] | None) -> None:
        if node is None:
            self._target.implied_directory(path)
            return
        item = Item(node.attributes, node.extras)
        kind = stat.S_IFMT(node.attributes.mode)
        if kind == stat.S_IFDIR:
            self._counts["directories"] += 1
            self._target.directory(path, item, names=None if not_descended(node.attributes) else names)
            return
        if node.extras:
            self._hold(sum(len(value) for _tag, value in node.extras))
        try:
            self._leaf(path, node, item, kind)
        except TargetUnusable:
            raise
        except (RestoreError, IntegrityError, OSError) as error:
            self._fail(path, error)

    def _leaves(self, leaves: Leaves) -> None:
        """Plans the files of a page; those that nothing is special about, as most are, without taking them apart."""
        page = leaves.page
        stats, ids, facts = page.stats, page.ids, page.extras()
        quick = not self._dry_run and self._target.made(leaves.directory)
        types, counts = page.types, page.counts
        starts = page.starts()
        files = total = 0
        for number in leaves.numbers:
            if (
                quick
                and 0 < counts[number] <= INLINE  # depth 0, and as many ids
                and types[number] >> 4 == _REGULAR
                and (number not in facts or _only_chunker(facts[number]))
            ):
                flags, size = _FLAGS_AND_SIZE.unpack_from(stats, STAT.size * number + _AT_FLAGS)
                if size <= _SMALL and not flags & FLAG_INCOMPLETE:
                    at = starts[number]
                    place, lengths = self._together(ids[at : starts[number + 1]])
                    if place is not None and sum(lengths) == size:
                        files += 1
                        total += size
                        self._plan(self._small, place, (leaves, number, at, place.start, lengths))
                        continue
            (node,) = nodes_of(page, (number,))
            self._entry(_below(leaves.directory, node.name), node, None)
        self._counts["files"] += files
        self._counts["bytes"] += total
        if files:
            self._hold(page.size)

    def _hold(self, size: int) -> None:
        """Sees to it that what is planned does not keep too much of the backup's directories in memory."""
        self._planned_bytes += size
        if self._planned_bytes > _PLANNED_BYTES:
            self._planned_bytes = 0
            self._fetch_all()

    def _together(self, ids: bytes) -> tuple[Place | None, tuple[int, ...]]:
        """The place of the first of some blobs and the lengths of all, if they follow each other in one segment.

        What is nowhere is told when its file has its turn.
        """
        try:
            first = self._blobs.place(Kind.DATA, ids[:32])
            if len(ids) == 32:
                return first, (first.length,)
            places = [first, *(self._blobs.place(Kind.DATA, ids[at : at + 32]) for at in range(32, len(ids), 32))]
        except IntegrityError:
            return None, ()
        end = first.start
        for place in places:
            if (place.pack, place.offset, place.start) != (first.pack, first.offset, end):
                return None, ()
            end += place.length
        return first, tuple(place.length for place in places)

    def _leaf(self, path: bytes, node: Node, item: Item, kind: int) -> None:
        name = get_extra(node.extras, Extra.LINK_GROUP) if node.extras else None
        group = None if name is None else (name, kind)
        first = None if group is None else self._links.get(group)
        decision = self._target.decide(path, item)
        if decision is Decision.SKIP:
            self._counts["skipped"] += 1
        elif first is not None:
            self._finish_batch_for(first)
            if self._failover is not None and self._failover.waits_for(first):
                raise IntegrityError(f"{os.fsdecode(first)!r}, another name of it, is not whole")
            self._target.hardlink(path, first, item)
            self._counts["files" if kind == stat.S_IFREG else "others"] += 1
        elif kind != stat.S_IFREG:
            self._target.special(path, item)
            self._counts["others"] += 1
        elif decision is Decision.METADATA:
            self._target.metadata(path, item)
            self._counts["skipped"] += 1
        else:
            try:
                self._file(path, node, item)
            except (RestoreError, IntegrityError, OSError):
                self._lost.append(node.attributes.size)
                raise
        if group is not None and first is None and decision is not Decision.SKIP:
            self._links[group] = path

    def _file(self, path: bytes, node: Node, item: Item) -> None:
        if node.attributes.flags & FLAG_INCOMPLETE:
            self._problem(
                Problem(path=os.fsdecode(path), kind="incomplete", message="was not read whole when it was backed up")
            )
            if not node.content.ids:
                return
        self._counts["files"] += 1
        self._counts["bytes"] += node.attributes.size
        if self._dry_run:
            return
        if not node.content.ids:
            if node.attributes.size and get_extra(node.extras, Extra.EXTENTS) is None:
                raise IntegrityError("the backup names no content for it")
            if node.attributes.size:
                with self._target.open_file(path, item) as writer:
                    writer.commit()
            else:
                self._target.write_file(path, item, b"")
            return
        if node.content.depth == 0 and len(node.content.ids) == 32 and node.attributes.size <= _SMALL:
            place = self._blobs.place(Kind.DATA, node.content.ids)
            if place.length == node.attributes.size:
                self._plan(self._small, place, _Small(path, item, node.content.ids, place.start, place.length))
                return
        file = _File(path, item)
        self._large.files += 1
        try:
            for piece in self._pieces(file, node):
                with file.lock:
                    if file.failed:
                        break  # there may be no end of what it claims to hold
                    file.missing += 1
                self._plan(self._large, piece.place, piece)
        except IntegrityError as error:
            self._file_failed(file, error)
        finally:
            self._planned(file)

    def _plan(self, batch: _Batch, place: Place, piece: _Small | _Quick | _Piece) -> None:
        key = (place.pack, place.offset, place.stored)
        pieces = batch.segments.get(key)
        if pieces is None:
            batch.segments[key] = [piece]
        else:
            pieces.append(piece)
        batch.blobs += 1
        if batch.blobs >= _PLANNED_BLOBS or batch.files >= _PLANNED_FILES:
            self._fetch(batch)

    def _pieces(self, file: _File, node: Node) -> Iterator[_Piece]:
        size = node.attributes.size
        found = get_extra(node.extras, Extra.EXTENTS)
        extents = [(0, size)] if found is None else split_extents(found)
        number = used = 0
        for blob in content_ids(node.content, self._blobs.meta):
            place = self._blobs.place(Kind.DATA, blob)
            ranges = []
            at = 0
            while at < place.length:
                if number == len(extents):
                    raise IntegrityError("its content is longer than its size")
                offset, length = extents[number]
                count = min(length - used, place.length - at)
                if count:
                    ranges.append((offset + used, at, count))
                used += count
                at += count
                if used == length:
                    number, used = number + 1, 0
            yield _Piece(file, blob, place, ranges)
        if number < len(extents) and any(length for _offset, length in extents[number:]):
            raise IntegrityError("its content is shorter than its size")

    def _finish_batch_for(self, path: bytes) -> None:
        """A hard link needs its first name to be there."""
        if not self._dry_run and not self._target.exists(path):
            self._fetch_all()

    # -- content -------------------------------------------------------------------------------------------

    def _fetch(self, batch: _Batch) -> None:
        segments, batch.segments = batch.segments, {}
        batch.blobs = batch.files = 0
        if batch is self._small:
            jobs: list[_Job] = [(key, [], pieces) for key, pieces in segments.items()]
        else:
            jobs = [(key, pieces, self._small.segments.pop(key, [])) for key, pieces in segments.items()]
        for job in jobs:  # in the order of the tree: few files are open at once
            while self._under_way >= self._most_under_way:
                self._write_next()
            self._under_way += 1
            self._pool.submit(self._read_segment, *job)
            self._progress(None)

    def _fetch_all(self) -> None:
        self._fetch(self._large)
        self._fetch(self._small)
        while self._under_way:
            self._write_next()

    def _read_segment(self, key: _Segment, large: list[_Piece], small: list[_Small | _Quick]) -> None:
        """On a thread: the content of a segment; its pieces of large files are written at once."""
        segment: _Content
        try:
            segment = memoryview(self._blobs.segment(Place(Kind.DATA, *key, 0, 0)).raw)
        except IntegrityError as error:
            segment = error
        for file, pieces in groupby(large, key=attrgetter("file")):
            self._write_pieces(file, list(pieces), segment)
        plain = [piece for piece in small if isinstance(piece, _Small)]
        quick = [piece for piece in small if not isinstance(piece, _Small)]
        if quick and self._helpers and not isinstance(segment, IntegrityError):
            helper = self._helper()
            left = None if helper is None else helper.write(_small_files(quick), segment)
            quick = quick if left is None else [quick[number] for number in left]
        weight = 1 if isinstance(segment, IntegrityError) else max(1, len(segment) >> 20)
        while not self._stopping:
            try:
                return self._fetched.put((key, plain, quick, segment), weight, timeout=_WAIT)
            except Full:
                continue
        return None

    def _start_helpers(self) -> None:
        while len(self._helpers) < self._most_helpers:
            helper = self._target.writer_process(self._blobs.hash_key(Kind.DATA))
            if helper is None:
                break
            self._helpers.append(helper)
        if self._helpers:  # planning goes on while they work: jobs are small, and what they fetch is not kept
            self._most_under_way = _MOST_JOBS
        self._unused_helpers = list(self._helpers)

    def _helper(self) -> WriterProcess | None:
        """The process of the calling thread."""
        if not hasattr(self._local, "helper"):
            try:
                self._local.helper = self._unused_helpers.pop()
            except IndexError:
                self._local.helper = None
        found: WriterProcess | None = self._local.helper
        return found

    def _write_pieces(self, file: _File, pieces: list[_Piece], segment: _Content) -> None:
        """Pieces of one file; neighbours are written in one go."""
        runs: list[_Run] = []
        try:
            for piece in pieces:
                source, at = self._located(piece.blob, piece.place, segment)
                for offset, start, length in piece.ranges:
                    if not (runs and runs[-1].takes(offset, source, at + start, length)):
                        runs.append(_Run(offset, source, at + start, at + start + length))
            self._write(file, runs)
        except TargetUnusable:
            raise
        except (IntegrityError, RestoreError, OSError) as error:
            self._file_failed(file, error)
        with file.lock:
            file.missing -= len(pieces)
            done = file.planned and not file.missing
        if done:
            self._close(file)

    def _content(self, blob: bytes, place: Place, segment: _Content) -> memoryview:
        source, at = self._located(blob, place, segment)
        return source[at : at + place.length]

    def _located(self, blob: bytes, place: Place, segment: _Content) -> tuple[memoryview, int]:
        """What holds a blob, and where: its segment, or another place if it is damaged there.

        Raises:
            IntegrityError: no place is whole.
        """
        try:
            if isinstance(segment, IntegrityError):
                raise segment
            self._blobs.check(Kind.DATA, blob, segment[place.start : place.start + place.length], place)
        except IntegrityError as error:
            return memoryview(self._blobs.elsewhere(Kind.DATA, blob, place, error)), 0
        return segment, place.start

    def _write_next(self) -> None:
        """Waits for a segment and writes what it holds.

        Raises:
            Cancelled, StorageError: of this thread or of one that fetches.
        """
        while True:
            try:
                key, plain, quick, segment = self._fetched.get(timeout=_WAIT)
                break
            except Empty:
                self._context.cancel.check()
                self._pool.check()
        self._under_way -= 1
        self._context.cancel.check()
        for small in plain:
            with self._reported(small.path, small.length):
                place = Place(Kind.DATA, *key, small.start, small.length)
                self._target.write_file(small.path, small.item, self._content(small.blob, place, segment))
        write, unpack, hash_key = self._target.write_new, STAT.unpack_from, self._blobs.hash_key(Kind.DATA)
        raw = b"" if isinstance(segment, IntegrityError) else segment
        data: Buffer
        for piece in quick:
            (directory, page, _numbers), number, at, start, lengths = piece
            try:
                ids, data = page.ids[at : at + 32 * len(lengths)], raw[start : start + sum(lengths)]
                if not is_content(hash_key, ids, lengths, data):
                    data = b"".join(self._contents(key, ids, start, lengths, segment))
                write(directory, page.names[number], unpack(page.stats, STAT.size * number), data)
            except TargetUnusable:
                raise
            except (IntegrityError, RestoreError, OSError) as error:
                self._lost.append(sum(lengths))
                self._fail(_below(directory, page.names[number]), error)

    def _contents(
        self, key: _Segment, ids: bytes, start: int, lengths: tuple[int, ...], segment: _Content
    ) -> Iterator[memoryview]:
        """Blobs one by one, each from wherever it is whole."""
        for number, length in enumerate(lengths):
            place = Place(Kind.DATA, *key, start, length)
            yield self._content(ids[32 * number : 32 * (number + 1)], place, segment)
            start += length

    @contextmanager
    def _reported(self, path: bytes, size: int) -> Iterator[None]:
        """Turns the failure of a file into a problem."""
        try:
            yield
        except TargetUnusable:
            raise
        except (IntegrityError, RestoreError, OSError) as error:
            self._lost.append(size)
            self._fail(path, error)

    def _write(self, file: _File, runs: list[_Run]) -> None:
        with file.lock:
            if file.failed:
                return
            if file.writer is None:
                file.writer = self._target.open_file(file.path, file.item)
                self._open.add(file)
        for run in runs:
            file.writer.write_at(run.offset, run.source[run.begin : run.end])

    def _planned(self, file: _File) -> None:
        with file.lock:
            file.planned = True
            done = not file.missing
        if done:
            self._close(file)

    def _close(self, file: _File) -> None:
        """Called once, when no piece is on its way any more."""
        if file.writer is None:
            return
        if file.failed:
            self._abort(file)
            return
        self._open.discard(file)
        try:
            file.writer.commit()
        except (RestoreError, OSError) as error:
            self._file_failed(file, error)

    def _abort(self, file: _File) -> None:
        self._open.discard(file)
        if file.writer is not None:
            file.writer.abort()

    def _file_failed(self, file: _File, error: BaseException) -> None:
        with file.lock:
            first, file.failed = not file.failed, True
        if first:
            self._lost.append(file.item.attributes.size)
            self._fail(file.path, error)

    # -- reports -------------------------------------------------------------------------------------------

    def _fail(self, path: bytes, error: BaseException) -> None:
        kind = "damaged" if isinstance(error, IntegrityError) else "unwritable"
        message = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        problem = Problem(path=os.fsdecode(path), kind=kind, message=message)
        if self._failover is None or kind != "damaged" or not self._failover.takes(path, problem):
            self._problem(problem)

    def _problem(self, problem: Problem) -> None:
        self._problems.append(problem)
        self._context.events(Event(kind="problem", operation="restore", path=problem.path, problem=problem))

    def _progress(self, path: bytes | None) -> None:
        now = time.monotonic()
        if now < self._next_event:
            return
        self._next_event = now + _EVENT_EVERY
        stats = self._commit.backup.stats
        self._context.events(
            Event(
                kind="progress",
                operation="restore",
                path=None if path is None else os.fsdecode(path),
                files=self._counts["files"],
                bytes=self._counts["bytes"],
                total_files=None if self._options.paths else stats.files,
                total_bytes=None if self._options.paths else stats.bytes,
            )
        )


def _small_files(pieces: list[_Quick]) -> Iterator[tuple[bytes, list[SmallFile]]]:
    for leaves, group in groupby(pieces, key=itemgetter(0)):
        page = leaves.page
        names, stats, ids = page.names, page.stats, page.ids
        yield (
            leaves.directory,
            [
                (
                    names[number],
                    stats[STAT.size * number : STAT.size * (number + 1)],
                    start,
                    ids[at : at + 32 * len(lengths)],
                    lengths,
                )
                for _leaves, number, at, start, lengths in group
            ],
        )


def _only_chunker(facts: Extras) -> bool:
    return all(tag == Extra.CHUNKER for tag, _value in facts)


def _below(directory: bytes, name: bytes) -> bytes:
    """A path below the target; the target itself is the empty one."""
    return directory + b"/" + name if directory else name
