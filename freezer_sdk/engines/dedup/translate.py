"""A backup brought over into a repository that names content otherwise: everything is cut, named and sealed anew.

What an earlier copy brought over already is not read again: source and target each know an earlier backup, and where
the source's did not change, the target's part of it is taken.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from freezer_sdk.engines.dedup.ahead import ReadAhead, Wanted
from freezer_sdk.engines.dedup.earlier import Earlier, Pair, pages_of
from freezer_sdk.engines.dedup.ingest import Ingest
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.page import EMPTY, Content, content_ids, store_directory
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.tree import get_extra, split_extents
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import IntegrityError, RepositoryError, StorageError
from freezer_sdk.files.scope import join
from freezer_sdk.modes.base import FLAG_HARDLINK, FLAG_INCOMPLETE, Attributes, Extra, Extras

_ONE_BLOB = 64 << 10  # files up to this size are not cut
_REMEMBERED = 16_384  # contents, of files and of directories, that are not read twice
_DIR, _TYPE = 0o040000, 0o170000


class _Step(Enum):
    BEGIN = auto()
    BLOB = auto()
    END = auto()
    LEAVE = auto()


@dataclass(slots=True, eq=False)
class _File:
    """Content that is on its way; several entries may wait for it."""

    path: bytes
    attributes: Attributes
    extras: Extras
    stream: bool
    content: Content | None = None
    tag: Extras = ()


@dataclass(slots=True, eq=False)
class _Directory:
    """A directory that is stored when all that lies in it is.

    Attributes:
        twin: one with the same content that was planned before, and is stored in its place.
    """

    path: bytes
    names: list[bytes] = field(default_factory=list)
    stats: bytearray = field(default_factory=bytearray)
    contents: list[Content | _File | _Directory] = field(default_factory=list)
    extras: list[Extras] = field(default_factory=list)
    below: list[tuple[_Directory, Content, Pair | None]] = field(default_factory=list)
    content: Content | None = None
    twin: _Directory | None = None


_Item = tuple[_Step, "_File | _Directory"]
_Plan = Iterator[tuple[_Item, Wanted | None]]
_Read = Iterator[tuple[_Item, bytes | None]]


class Translation:
    """Stores anew what lies below a root.

    Args:
        source: reads the repository that is copied from.
        target: reads the other one.
        ingest: cuts and stores contents by the target's rules.
        tick: called often.

    Attributes:
        files: that were looked at.
    """

    def __init__(
        self,
        source: BlobReader,
        target: BlobReader,
        writer: BlobWriter,
        ingest: Ingest,
        *,
        tick: Callable[[], None],
    ) -> None:
        self._source, self._target, self._writer, self._tick = source, target, writer, tick
        self._ingest = ingest
        self._known: OrderedDict[tuple[Content, Extras, int], _File] = OrderedDict()
        self._directories: OrderedDict[Content, _Directory] = OrderedDict()
        self.files = 0

    def copy(self, root: Content, pair: Pair | None, ahead: ReadAhead) -> Content:
        """Copies everything below a root, and gives the root that stands for it in the target.

        Args:
            pair: the root of an earlier backup, in both repositories.
            ahead: reads the source.

        Raises:
            IntegrityError: the source is damaged; StorageError, Cancelled.
        """
        if pair is not None and pair.exact and pair.source == root:
            return pair.target
        top = _Directory(b"")
        steps = ahead.read(self._plan(top, root, pair))
        for (step, item), _data in steps:
            if step is _Step.BEGIN and isinstance(item, _File):
                self._store_file(item, steps)
            elif isinstance(item, _Directory):
                self._store_directory(item)
        assert top.content is not None
        return top.content

    # -- what is to be done, a little ahead of doing it ----------------------------------------------------

    def _plan(self, top: _Directory, root: Content, pair: Pair | None) -> _Plan:
        stack: list[tuple[_Directory, Content, Iterator[tuple[_Directory, Content, Pair | None]]]] = []
        yield from self._enter(top, root, pair)
        stack.append((top, root, iter(top.below)))
        while stack:
            directory, content, below = stack[-1]
            step = next(below, None)
            if step is None:
                stack.pop()
                directory.below = []
                yield (_Step.LEAVE, directory), None
                self._directories[content] = directory
                if len(self._directories) > _REMEMBERED:
                    self._directories.popitem(last=False)
                continue
            child, inside, _pair = step
            child.twin = self._directories.get(inside)
            if child.twin is None:
                yield from self._enter(*step)
                stack.append((child, inside, iter(child.below)))

    def _enter(self, directory: _Directory, content: Content, pair: Pair | None) -> _Plan:
        """Lists a directory; plans to read those of its files that are not in the target yet."""
        self._tick()
        before = None if pair is None else self._earlier(pair)
        for page in pages_of(self._source, content):
            facts, first = page.extras(), len(directory.names)
            directory.names += page.names
            directory.stats += page.stats
            directory.extras += [facts.get(n, ()) for n in range(page.count)]
            for n, (attributes, inside) in enumerate(zip(page.attributes(), page.contents, strict=True), first):
                is_directory = attributes.mode & _TYPE == _DIR
                self.files += not is_directory
                if not inside.ids:
                    directory.contents.append(EMPTY)
                elif is_directory:
                    self._plan_directory(directory, directory.names[n], inside, before)
                else:
                    yield from self._plan_file(directory, n, inside, attributes, before)

    def _earlier(self, pair: Pair) -> Earlier | None:
        """An earlier state; what cannot be read of it is only not used."""
        try:
            return Earlier(self._source, self._target, pair)
        except (RepositoryError, StorageError):
            return None

    @staticmethod
    def _plan_directory(above: _Directory, name: bytes, content: Content, before: Earlier | None) -> None:
        pair = None if before is None else before.directory(name)
        if pair is not None and pair.exact and pair.source == content:
            above.contents.append(pair.target)
            return
        child = _Directory(_path(above, name))
        above.contents.append(child)
        above.below.append((child, content, pair))

    def _plan_file(
        self, above: _Directory, n: int, content: Content, attributes: Attributes, before: Earlier | None
    ) -> _Plan:
        name, extras = above.names[n], above.extras[n]
        done = None if before is None else before.file(name, content, attributes.size, extras)
        if done is not None:
            above.contents.append(done[0])
            above.extras[n] = _tagged(extras, done[1])
            return
        stream = not above.path and not attributes.inode
        file, new = self._file(_File(_path(above, name), attributes, extras, stream), content)
        above.contents.append(file)
        if new:
            yield from self._read(file, content)

    def _file(self, file: _File, content: Content) -> tuple[_File, bool]:
        """The file, or one with the same content that is on its way already (hard links, and plain copies)."""
        rest = tuple(fact for fact in file.extras if fact[0] in (Extra.EXTENTS, Extra.CHUNKER))
        key = (content, rest, file.attributes.size)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known, False
        self._known[key] = file
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return file, True

    def _read(self, file: _File, content: Content) -> _Plan:
        yield (_Step.BEGIN, file), None
        blobs = self._source
        for blob in content_ids(content, blobs.meta):
            yield (_Step.BLOB, file), Wanted(blob, blobs.place(Kind.DATA, blob))
        yield (_Step.END, file), None

    # -- doing it ------------------------------------------------------------------------------------------

    def _store_file(self, file: _File, steps: _Read) -> None:
        attributes, extents = file.attributes, get_extra(file.extras, Extra.EXTENTS)
        size = attributes.size
        data = _Joined(steps)
        whole = extents is None and not attributes.flags & FLAG_HARDLINK and not file.stream
        if whole and size <= _ONE_BLOB:
            content = data.read_all()
            read = len(content)
            file.content = self._ingest.small(content) if content else EMPTY
        else:
            # a stream was cut before its size was known
            usual = file.stream and get_extra(file.extras, Extra.CHUNKER) is None
            file.content, read, file.tag = self._ingest.chunks(data.readinto, None if usual else size)
        expected = size if extents is None else sum(length for _offset, length in split_extents(extents))
        if read != expected and not attributes.flags & FLAG_INCOMPLETE:
            raise IntegrityError(
                f"{os.fsdecode(file.path)!r} has {read} bytes of content in the source, not {expected}"
            )

    def _store_directory(self, directory: _Directory) -> None:
        contents = []
        for n, item in enumerate(directory.contents):
            if isinstance(item, _File):
                directory.extras[n] = _tagged(directory.extras[n], item.tag)
            stored = item.twin if isinstance(item, _Directory) and item.twin is not None else item
            content = stored if isinstance(stored, Content) else stored.content
            assert content is not None  # steps come in order: what lies in a directory was stored before
            contents.append(content)
        extras = [(n, facts) for n, facts in enumerate(directory.extras) if facts]
        store = self._writer.store_meta
        directory.content = store_directory(directory.names, bytes(directory.stats), contents, extras, store)
        directory.names, directory.stats, directory.contents, directory.extras = [], bytearray(), [], []


class _Joined:
    """The blobs of one file as a stream."""

    def __init__(self, steps: _Read) -> None:
        self._steps = steps
        self._rest = memoryview(b"")
        self._ended = False

    def _next(self) -> bool:
        """Takes the next blob; whether there was one."""
        if self._ended:
            return False
        (step, _file), data = next(self._steps)
        if step is _Step.END or data is None:
            self._ended = True
            return False
        self._rest = memoryview(data)
        return True

    def read_all(self) -> bytes:
        """All of it."""
        pieces = []
        while self._next():
            pieces.append(self._rest)
        return b"".join(pieces)

    def readinto(self, view: memoryview) -> int:
        """0 at the end."""
        if not self._rest and not self._next():
            return 0
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _path(above: _Directory, name: bytes) -> bytes:
    return join(above.path, name) if above.path else name


def _tagged(extras: Extras, tag: Extras) -> Extras:
    """Facts of an entry, with the chunker that was used in the target."""
    kept = [fact for fact in extras if fact[0] != Extra.CHUNKER]
    return [*kept, *(fact for fact in tag if fact[0] == Extra.CHUNKER)]
