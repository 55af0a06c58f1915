"""One pass over a tree: what is unchanged is taken from the parent backup, the rest is read."""

from __future__ import annotations

import os
import stat
import struct
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field

from freezer_sdk.engines.dedup.chunker import Chunkers
from freezer_sdk.engines.dedup.ingest import Ingest, Meter
from freezer_sdk.engines.dedup.page import EMPTY, Content, Page, store_directory
from freezer_sdk.engines.dedup.patient import PatientReader
from freezer_sdk.engines.dedup.tree import TreeReader, get_extra
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import RepositoryError, SourceChanged, SourceUnreadable, StorageError
from freezer_sdk.model import Problem
from freezer_sdk.modes.base import (
    FLAG_HARDLINK,
    FLAG_INCOMPLETE,
    FLAG_NOT_DESCENDED,
    FLAG_RACY,
    STAT,
    Attributes,
    Directory,
    Enter,
    Extra,
    Extras,
    Stream,
    Tree,
)

_ONE_BLOB = 64 << 10  # files up to this size are not cut
_TICK_AFTER = 64  # entries
_ATTEMPTS = 3  # to read a file that changes meanwhile
_FLAGS_AT = 12  # offset of the flags in a row
_ROW = STAT.size
_FILE, _DIR = stat.S_IFREG >> 12, stat.S_IFDIR >> 12
_TYPE_OF = bytes(byte >> 4 for byte in range(256))  # second byte of a mode to its type
_COARSE = 2_000_000_000  # file systems with times in whole seconds
_TICK = 20_000_000  # several ticks of the kernel's coarse clock


@dataclass(slots=True)
class Counts:
    """Figures of the run."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    new_files: int = 0
    changed_files: int = 0
    unmodified_files: int = 0


class Previous:
    """A directory of the parent backup."""

    __slots__ = ("_by_name", "content", "pages")

    def __init__(self, content: Content, pages: list[Page]) -> None:
        self.content = content
        self.pages = pages
        self._by_name: dict[bytes, tuple[Page, int]] | None = None

    def equals(self, directory: Directory) -> bool:
        """Whether names and stats are the same, byte for byte."""
        if len(self.pages) == 1:
            page = self.pages[0]
            return page.stats == directory.stats and page.names_column == b"\0".join(directory.names)
        return b"".join([page.stats for page in self.pages]) == directory.stats and b"\0".join(
            [page.names_column for page in self.pages]
        ) == b"\0".join(directory.names)

    def find(self, name: bytes) -> tuple[Page, int] | None:
        """Page and number of an entry."""
        if self._by_name is None:
            self._by_name = {name: (page, number) for page in self.pages for number, name in enumerate(page.names)}
        return self._by_name.get(name)

    def contents(self) -> list[Content]:
        """Of all entries."""
        return [content for page in self.pages for content in page.contents]

    def extras(self) -> list[tuple[int, Extras]]:
        """Of all entries."""
        found: list[tuple[int, Extras]] = []
        base = 0
        for page in self.pages:
            found += [(base + number, facts) for number, facts in page.extras().items()]
            base += page.count
        return found


@dataclass(slots=True)
class _Frame:
    """A directory between its Enter and its Leave."""

    directory: Directory
    previous: Previous | None
    same: bool
    contents: list[Content]
    stats: bytearray | bytes
    extras: list[tuple[int, Extras]]
    entered: set[int] = field(default_factory=set)
    number: int = -1


class TreeScan:
    """Stores a tree.

    Args:
        start_ns: when the run began.
        as_of_ns: entries changed at this time or later are read again by the next run.
        force_read: trust no stat, read everything.
    """

    def __init__(
        self,
        writer: BlobWriter,
        chunkers: Chunkers,
        trees: TreeReader | None,
        *,
        start_ns: int,
        as_of_ns: int,
        problem: Callable[[Problem], None],
        meter: Meter,
        block: int,
        force_read: bool = False,
    ) -> None:
        self._ingest, self._trees = Ingest(writer, chunkers, meter, block), trees
        self.store_meta = writer.store_meta
        self._start_ns, self._as_of_ns = start_ns, as_of_ns
        self._problem, self._meter, self._force = problem, meter, force_read
        self._links: dict[bytes, tuple[bytes, Content]] = {}
        self.counts = Counts()
        self.users: set[int] = set()
        self.groups: set[int] = set()

    @property
    def read_bytes(self) -> int:
        """Bytes read from the source."""
        return self._ingest.read_bytes

    @property
    def seen_bytes(self) -> int:
        """Bytes of all files so far, and of the one that is being read."""
        return self.counts.bytes + self._ingest.under_way

    # -- the walk ------------------------------------------------------------------------------------------

    def tree(self, tree: Tree, parent: Content | None) -> tuple[Content, _Frame]:
        """Stores all of it; gives the roots directory, stored and in columns.

        Raises:
            SourceError, StorageError, IntegrityError, Cancelled.
        """
        stack: list[_Frame] = []
        for step in tree.walk(self._problem):
            if isinstance(step, Enter):
                stack.append(self._enter(step.directory, stack[-1] if stack else None, parent, len(stack)))
                self._meter.tick(step.directory.path)
                continue
            frame = stack.pop()
            content = self._leave(frame)
            if not stack:
                return content, frame
            self._child_done(stack[-1], frame, content)
        raise SourceUnreadable("the walk over the source ended early")

    def roots(self, tree: Tree, parent: Content | None) -> list[tuple[bytes, bytes, Content, Extras]]:
        """As :meth:`tree`, with the roots directory as rows to be joined with streams."""
        _content, frame = self.tree(tree, parent)
        self._thaw(frame)
        extras = dict(frame.extras)
        return [
            (
                name,
                bytes(frame.stats[_ROW * number : _ROW * (number + 1)]),
                frame.contents[number],
                extras.get(number, ()),
            )
            for number, name in enumerate(frame.directory.names)
        ]

    def _enter(self, directory: Directory, above: _Frame | None, parent: Content | None, depth: int) -> _Frame:
        number = -1
        before = parent
        if above is not None:
            name = directory.path if depth == 1 else directory.path.rpartition(b"/")[2]
            number = bisect_left(above.directory.names, name)
            above.entered.add(number)
            before = self._previous_content(above, number, name)
        previous = self._load(before)
        if previous is not None and not self._force and previous.equals(directory):
            frame = _Frame(directory, previous, True, previous.contents(), directory.stats, [])
            self._count_unchanged(directory.stats)
        else:
            frame = _Frame(directory, previous, False, [], bytearray(directory.stats), [])
            self._read_entries(frame)
        frame.number = number
        return frame

    def _previous_content(self, above: _Frame, number: int, name: bytes) -> Content | None:
        if above.previous is None:
            return None
        if above.same:
            return above.contents[number]
        found = above.previous.find(name)
        if found is None:
            return None
        page, at = found
        return page.contents[at] if page.stats[_ROW * at + 1] >> 4 == _DIR else None

    def _load(self, content: Content | None) -> Previous | None:
        """The parent's directory; what cannot be read there is only not used."""
        if content is None or self._trees is None:
            return None
        if not content.ids:
            return Previous(content, [])
        try:
            return Previous(content, list(self._trees.pages(content)))
        except (RepositoryError, StorageError) as error:
            message = f"a directory of the parent backup cannot be read: {error}"
            self._problem(Problem(path="", kind="parent", message=message, fatal=False))
            return None

    def _leave(self, frame: _Frame) -> Content:
        self._mark_missing(frame)
        if frame.same and frame.previous is not None:
            return frame.previous.content
        return store_directory(frame.directory.names, bytes(frame.stats), frame.contents, frame.extras, self.store_meta)

    def _mark_missing(self, frame: _Frame) -> None:
        """Subdirectories that the walk could not enter are incomplete."""
        kinds = bytes(frame.stats[1::_ROW]).translate(_TYPE_OF)
        if kinds.count(_DIR) == len(frame.entered):
            return
        at = kinds.find(_DIR)
        while at >= 0:
            flags = frame.stats[_ROW * at + _FLAGS_AT]
            if at not in frame.entered and not flags & FLAG_NOT_DESCENDED:
                self._thaw(frame)
                frame.contents[at] = EMPTY
                self._flag(frame, at, FLAG_INCOMPLETE)
            at = kinds.find(_DIR, at + 1)

    def _child_done(self, frame: _Frame, child: _Frame, content: Content) -> None:
        incomplete = child.directory.incomplete
        if frame.same and frame.contents[child.number] == content and not incomplete:
            return
        self._thaw(frame)
        frame.contents[child.number] = content
        if incomplete:
            self._flag(frame, child.number, FLAG_INCOMPLETE)

    @staticmethod
    def _thaw(frame: _Frame) -> None:
        """A directory that looked unchanged is not."""
        if frame.same and frame.previous is not None:
            frame.same = False
            frame.stats = bytearray(frame.stats)
            frame.extras = frame.previous.extras()

    @staticmethod
    def _flag(frame: _Frame, number: int, flag: int) -> None:
        assert isinstance(frame.stats, bytearray)
        frame.stats[_ROW * number + _FLAGS_AT] |= flag

    def _count_unchanged(self, stats: bytes) -> None:
        kinds = bytes(stats[1::_ROW]).translate(_TYPE_OF)
        files, directories = kinds.count(_FILE), kinds.count(_DIR)
        counts = self.counts
        counts.files += files
        counts.unmodified_files += files
        counts.directories += directories
        counts.others += len(kinds) - files - directories
        if files + directories == len(kinds):
            counts.bytes += sum(memoryview(stats).cast("Q")[2 :: _ROW // 8])
        else:
            counts.bytes += sum(row[4] for row in STAT.iter_unpack(stats) if row[0] >> 12 == _FILE)

    # -- entries -------------------------------------------------------------------------------------------

    def _read_entries(self, frame: _Frame) -> None:
        directory, stats, counts = frame.directory, frame.stats, self.counts
        assert isinstance(stats, bytearray)
        for number, name in enumerate(directory.names):
            if not number % _TICK_AFTER:
                self._meter.tick(directory.path)
            at = _ROW * number
            row = bytes(stats[at : at + _ROW])
            attributes = Attributes._make(STAT.unpack(row))
            self.users.add(attributes.uid)
            self.groups.add(attributes.gid)
            kind = attributes.mode >> 12
            known = frame.previous.find(name) if frame.previous is not None else None
            content: Content | None = None
            if kind == _FILE:
                counts.files += 1
            elif kind == _DIR:
                counts.directories += 1
            else:
                counts.others += 1
            extras: Extras
            if known is not None and not self._force and known[0].stats[_ROW * known[1] :][:_ROW] == row:
                page, there = known
                content = page.contents[there] if kind != _DIR else EMPTY
                extras = page.extras().get(there, ())
                if kind == _FILE:
                    counts.unmodified_files += 1
                    counts.bytes += attributes.size
            else:
                content, row, extras = self._read_entry(frame, number, row, attributes)
                stats[at : at + _ROW] = row
                self._flag_racy(frame, number, row)
                if kind == _FILE:
                    counts.bytes += STAT.unpack(row)[4]
                    if known is None:
                        counts.new_files += 1
                    else:
                        counts.changed_files += 1
            frame.contents.append(content)
            if extras:
                frame.extras.append((number, extras))

    def _flag_racy(self, frame: _Frame, number: int, row: bytes) -> None:
        _mode, _uid, _gid, _flags, _size, mtime, ctime, _inode = STAT.unpack(row)
        coarse = not (mtime % 1_000_000_000 or ctime % 1_000_000_000)
        if ctime >= self._as_of_ns - (_COARSE if coarse else _TICK):
            self._flag(frame, number, FLAG_RACY)

    def _read_entry(
        self, frame: _Frame, number: int, row: bytes, attributes: Attributes
    ) -> tuple[Content, bytes, Extras]:
        directory = frame.directory
        try:
            if attributes.mode >> 12 != _FILE or not attributes.size:
                return EMPTY, row, directory.extras(number, None)
            if attributes.size <= _ONE_BLOB and not attributes.flags & FLAG_HARDLINK:
                fd = directory.open(number)
                try:
                    data = os.read(fd, attributes.size + 1)
                    extras = directory.extras(number, fd)
                    after = directory.restat(number, fd)
                finally:
                    os.close(fd)
                if after == row and len(data) == attributes.size and not _has_extents(extras):
                    return self._ingest.small(data), row, extras
            return self._read_file(directory, number)
        except OSError as error:
            path = _join(directory.path, directory.names[number])
            kind = "vanished" if isinstance(error, FileNotFoundError) else "unreadable"
            self._problem(Problem(path=os.fsdecode(path), kind=kind, message=error.strerror or str(error)))
            return EMPTY, _with_flag(row, FLAG_INCOMPLETE), ()

    def _read_file(self, directory: Directory, number: int) -> tuple[Content, bytes, Extras]:
        for attempt in range(_ATTEMPTS):
            fd = directory.open(number)
            try:
                before = directory.restat(number, fd)
                extras = directory.extras(number, fd)
                group = get_extra(extras, Extra.LINK_GROUP)
                if group is not None and group in self._links and self._links[group][0] == before:
                    return self._links[group][1], before, extras
                last = attempt + 1 == _ATTEMPTS
                content, size, extras = self._ingest.file(fd, before, extras, dense=last)
                after = directory.restat(number, fd)
            finally:
                os.close(fd)
            whole = STAT.unpack(before)[4]
            if before == after and size == whole:
                if group is not None:
                    self._links[group] = (before, content)
                return content, before, extras
        path = os.fsdecode(_join(directory.path, directory.names[number]))
        self._problem(Problem(path=path, kind="changed", message="changed while it was read"))
        fields = list(STAT.unpack(after))
        fields[3] |= FLAG_INCOMPLETE
        fields[4] = size
        return content, STAT.pack(*fields), extras

    def stream(self, stream: Stream) -> tuple[bytes, bytes, Content, Extras]:
        """Stores a stream; gives name, row, content and facts for the roots directory.

        Raises:
            SourceError: the producer failed; nothing refers to what was stored.
        """
        with stream.open() as reader, PatientReader(reader.readinto, lambda: self._meter.tick(None)) as patient:
            content, size, tag = self._ingest.chunks(patient.readinto, stream.size)
        expected = stream.size if stream.extents is None else sum(length for _offset, length in stream.extents)
        if expected is not None and size != expected:
            raise SourceChanged(f"{stream.name}: {size} bytes were read of {expected}")
        extras: Extras = tag
        recorded = size
        if stream.extents is not None and stream.size is not None:
            recorded = stream.size
            packed = b"".join(struct.pack("<QQ", *extent) for extent in stream.extents)
            extras = [*tag, (Extra.EXTENTS, packed)]
        mtime = self._start_ns if stream.mtime_ns is None else stream.mtime_ns
        row = STAT.pack(stat.S_IFREG | stream.mode, 0, 0, 0, recorded, mtime, mtime, 0)
        self.counts.files += 1
        self.counts.new_files += 1
        self.counts.bytes += recorded
        return b"/" + os.fsencode(stream.name.lstrip("/")), row, content, extras


def _has_extents(extras: Extras) -> bool:
    return any(tag == Extra.EXTENTS for tag, _value in extras)


def _with_flag(row: bytes, flag: int) -> bytes:
    fields = list(STAT.unpack(row))
    fields[3] |= flag
    return STAT.pack(*fields)


def _join(parent: bytes, name: bytes) -> bytes:
    if not parent or name.startswith(b"/"):
        return name
    return parent + name if parent.endswith(b"/") else parent + b"/" + name


def clock_ns() -> int:
    """The clock that file systems stamp with."""
    coarse = getattr(time, "CLOCK_REALTIME_COARSE", None)
    return time.time_ns() if coarse is None else time.clock_gettime_ns(coarse)
