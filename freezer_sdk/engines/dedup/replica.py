"""A backup brought over as it is, into a repository that names content alike: only what is missing there is read."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from freezer_sdk.engines.dedup.ahead import ReadAhead, Wanted
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.page import Content, Page, content_ids, list_ids
from freezer_sdk.engines.dedup.reader import BlobReader
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import RepositoryError, StorageError
from freezer_sdk.modes.base import STAT

_PLANNED = 32_768  # blobs that are sorted by segment before they are read
_REMEMBERED = 65_536  # directories that need not be looked at twice
_DIR = 0o040000
_TYPE = 0o170000

_Work = tuple[Content, Content | None]


class Replica:
    """Copies the pages, lists and file contents below a root that the target lacks; all keep their ids.

    A directory that equals the one in a backup of the target's is there with all that lies below it, and is passed
    over. For anything else a page that is stored proves nothing about what it names: each blob is looked up.

    Args:
        source: reads the repository that is copied from.
        target: reads the other one; knows its index.
        tick: called often.

    Attributes:
        read_bytes: of file contents. files: that were looked at.
    """

    def __init__(self, source: BlobReader, target: BlobReader, writer: BlobWriter, *, tick: Callable[[], None]) -> None:
        self._source, self._target, self._writer, self._tick = source, target, writer, tick
        self._done: OrderedDict[Content, None] = OrderedDict()
        self.read_bytes = self.files = 0

    def copy(self, root: Content, before: Content | None, ahead: ReadAhead) -> Content:
        """Copies everything below a root.

        Args:
            before: the root of a backup of the target's that is relied upon.
            ahead: reads the source.

        Raises:
            IntegrityError: the source is damaged; StorageError, Cancelled.
        """
        for blob, data in ahead.read(self._by_segment(self._missing(root, before))):
            if data is not None:
                self._writer.store_as(Kind.DATA, blob, data)
                self.read_bytes += len(data)
                self._tick()
        return root

    def _by_segment(self, blobs: Iterator[bytes]) -> Iterator[tuple[bytes, Wanted]]:
        """Sorts: each segment of the source is read once, as far as memory allows."""
        planned: dict[tuple[bytes, int], list[Wanted]] = {}
        known: set[bytes] = set()
        for blob in blobs:
            if blob in known:
                continue
            known.add(blob)
            place = self._source.place(Kind.DATA, blob)
            planned.setdefault((place.pack, place.offset), []).append(Wanted(blob, place))
            if len(known) >= _PLANNED:
                yield from ((wanted.blob, wanted) for segment in planned.values() for wanted in segment)
                planned.clear()
                known.clear()
        yield from ((wanted.blob, wanted) for segment in planned.values() for wanted in segment)

    def _missing(self, root: Content, before: Content | None) -> Iterator[bytes]:
        """File contents that the target lacks; stores pages and lists on the way."""
        stack: list[_Work] = [(root, before)]
        while stack:
            content, known = stack.pop()
            if content == known or content in self._done:
                continue
            self._tick()
            below: list[_Work] = []
            yield from self._directory(content, known, below)
            stack += reversed(below)
            self._done[content] = None
            if len(self._done) > _REMEMBERED:
                self._done.popitem(last=False)

    def _directory(self, content: Content, known: Content | None, below: list[_Work]) -> Iterator[bytes]:
        here, there = list(self._leaves(content, None)), self._page_ids(known)
        same = frozenset(here) & frozenset(there)
        entries = self._entries([blob for blob in there if blob not in same])
        for blob in here:
            if blob in same:
                continue
            page = Page(self._meta(blob))
            for name, row, inside in zip(page.names, STAT.iter_unpack(page.stats), page.contents, strict=True):
                is_directory = row[0] & _TYPE == _DIR
                self.files += not is_directory
                if not inside.ids:
                    continue
                before = entries.get((name, is_directory))
                if before == inside:
                    continue
                if is_directory:
                    below.append((inside, before))
                else:
                    yield from (leaf for leaf in self._leaves(inside, before) if not self._writer.has(Kind.DATA, leaf))

    def _leaves(self, content: Content, before: Content | None) -> Iterator[bytes]:
        """The ids at the end of a reference, but for those in lists that ``before`` has too."""
        alike: frozenset[bytes] = frozenset()
        if content.depth and before is not None:
            alike = frozenset(self._lists(before))
        return content_ids(content, self._meta) if not alike else self._others(content, alike)

    def _others(self, content: Content, alike: frozenset[bytes]) -> Iterator[bytes]:
        ids = content.ids
        for at in range(0, len(ids), 32):
            blob = ids[at : at + 32]
            if content.depth == 0:
                yield blob
            elif blob not in alike:
                yield from self._others(Content(content.depth - 1, list_ids(self._meta(blob))), alike)

    def _lists(self, content: Content) -> Iterator[bytes]:
        """The ids of all lists of a reference that the target has."""
        if not content.depth:
            return
        for at in range(0, len(content.ids), 32):
            blob = content.ids[at : at + 32]
            yield blob
            if content.depth > 1:
                try:
                    inner = Content(content.depth - 1, list_ids(self._target.meta(blob)))
                except (RepositoryError, StorageError):
                    continue  # then its parts are looked up one by one
                yield from self._lists(inner)

    def _page_ids(self, content: Content | None) -> list[bytes]:
        try:
            return [] if content is None else list(content_ids(content, self._target.meta))
        except (RepositoryError, StorageError):
            return []

    def _entries(self, pages: list[bytes]) -> dict[tuple[bytes, bool], Content]:
        """What pages of the target name, by name and whether it is a directory."""
        found = {}
        for blob in pages:
            try:
                page = Page(self._target.meta(blob))
            except (RepositoryError, StorageError):
                continue
            for name, row, inside in zip(page.names, STAT.iter_unpack(page.stats), page.contents, strict=True):
                found[name, row[0] & _TYPE == _DIR] = inside
        return found

    def _meta(self, blob: bytes) -> bytes:
        """A page or list of the source, stored in the target."""
        data = self._source.meta(blob)
        self._writer.store_as(Kind.META, blob, data)
        return data
