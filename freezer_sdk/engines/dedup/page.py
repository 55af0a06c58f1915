"""Directory pages and references to content (repository-format, sections "Pages" and "Content")."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

from freezer_sdk.engines.dedup.layout import MAX_BLOB
from freezer_sdk.errors import IntegrityError
from freezer_sdk.modes.base import STAT, Attributes, Extras

PAGE = b"P\1"
LIST = b"L\1"
_HEAD = struct.Struct("<2sHIII")
"""magic and version, reserved, entries, bytes of names, bytes of extras."""
_EXTRA = struct.Struct("<IBI")

INLINE = 8  # ids that a page holds itself; more become lists
CUT_LIST = 1024  # ids in a list, on average
CUT_PAGE = 1024  # entries in a page, on average
_LONGEST_LIST = 16 * CUT_LIST
_FULL_PAGE = 1 << 20  # bytes after which a page ends in any case
MAX_DEPTH = 7
MAX_ENTRIES = 1 << 16  # in a page: a full one has fewer than a third of them
MAX_FACTS = 1 << 18  # in a page
_SIZE_END = 23  # offset of the highest byte of the size in a row


class Content(NamedTuple):
    """A reference to content.

    Attributes:
        depth: 0: the ids are the content's blobs; n: they are lists of depth n - 1.
        ids: joined ids, at most ``INLINE``.
    """

    depth: int
    ids: bytes


EMPTY = Content(0, b"")
_make_content = partial(tuple.__new__, Content)  # these two without a call of Python code: there are millions of them
_make_attributes = partial(tuple.__new__, Attributes)

Store = Callable[[bytes], bytes]
"""Stores a meta blob, gives its id."""


class ContentBuilder:
    """Collects ids; long ones become lists, cut where an id says so, in as many levels as it takes."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._levels: list[list[bytes]] = [[]]

    def add(self, blob: bytes) -> None:
        """The next id."""
        self._add(0, blob)

    def _add(self, level: int, blob: bytes) -> None:
        if level == len(self._levels):
            self._levels.append([])
        ids = self._levels[level]
        ids.append(blob)
        if len(ids) > INLINE and (int.from_bytes(blob[:4], "little") % CUT_LIST == 0 or len(ids) >= _LONGEST_LIST):
            self._levels[level] = []
            self._add(level + 1, self._store(LIST + b"".join(ids)))

    def finish(self) -> Content:
        """The reference to all of it."""
        level = 0
        while True:
            ids = self._levels[level]
            if level + 1 == len(self._levels):
                if len(ids) <= INLINE:
                    return Content(level, b"".join(ids))
                self._levels.append([])
            if ids:
                self._levels[level] = []
                self._add(level + 1, self._store(LIST + b"".join(ids)))
            level += 1


def content_ids(content: Content, load: Callable[[bytes], bytes]) -> Iterator[bytes]:
    """The ids of a content's blobs, in order.

    Args:
        load: gives a meta blob by id.

    Raises:
        IntegrityError: a list is damaged.
    """
    if content.depth > MAX_DEPTH:
        raise IntegrityError("lists of ids lie deeper than they may")
    ids = content.ids
    for at in range(0, len(ids), 32):
        blob = ids[at : at + 32]
        if content.depth == 0:
            yield blob
        else:
            yield from content_ids(Content(content.depth - 1, list_ids(load(blob))), load)


def list_ids(data: bytes) -> bytes:
    """The joined ids in a list blob.

    Raises:
        IntegrityError: not a list.
    """
    if data[:2] != LIST or (len(data) - 2) % 32 or not 2 < len(data) <= 2 + 32 * _LONGEST_LIST:
        raise IntegrityError("a list of ids is damaged")
    return data[2:]


class Page:
    """A directory, or a part of a large one, in columns.

    Attributes:
        names_column: names joined by NUL.
        size: bytes of the page.
        stats: :data:`~freezer_sdk.modes.base.STAT` rows.
        counts: one byte an entry: depth and number of ids of its content.
        ids: of all contents, joined.
    """

    __slots__ = (
        "_contents",
        "_extras",
        "_facts",
        "_names",
        "_starts",
        "count",
        "counts",
        "ids",
        "names_column",
        "size",
        "stats",
    )

    def __init__(self, data: bytes) -> None:
        """Parses a page.

        Raises:
            IntegrityError: it does not add up.
        """
        if len(data) < _HEAD.size:
            raise IntegrityError("a directory page is damaged")
        magic, reserved, count, names, extras = _HEAD.unpack_from(data)
        at = _HEAD.size + names
        if magic != PAGE or reserved or at + (STAT.size + 1) * count > len(data) or count > MAX_ENTRIES:
            raise IntegrityError("a directory page is damaged")
        self.count: int = count
        self.size = len(data)
        self.names_column = data[_HEAD.size : at]
        self.stats = data[at : at + STAT.size * count]
        if count and max(self.stats[_SIZE_END :: STAT.size]) > 0x7F:
            raise IntegrityError("a directory page names a size that no file can have")
        at += STAT.size * count
        self.counts = data[at : at + count]
        at += count
        total = 32 * sum(byte & 15 for byte in self.counts)
        if at + total + extras != len(data):
            raise IntegrityError("a directory page does not add up")
        self.ids = data[at : at + total]
        self._extras = data[at + total :]
        self._names: list[bytes] | None = None
        self._contents: list[Content] | None = None
        self._starts: list[int] | None = None
        self._facts: dict[int, list[tuple[int, bytes]]] | None = None

    @property
    def names(self) -> list[bytes]:
        """Sorted names.

        Raises:
            IntegrityError: not as many as there are entries.
        """
        if self._names is None:
            if self.count and self.names_column.count(b"\0") + 1 != self.count:
                raise IntegrityError("a directory page has another number of names than entries")
            self._names = self.names_column.split(b"\0") if self.count else []
        return self._names

    @property
    def contents(self) -> list[Content]:
        """Content references, in the order of the names."""
        if self._contents is None:
            found = []
            ids, at = self.ids, 0
            for byte in self.counts:
                if not byte:
                    found.append(EMPTY)
                    continue
                end = at + 32 * (byte & 15)
                found.append(_make_content((byte >> 4, ids[at:end])))
                at = end
            self._contents = found
        return self._contents

    def starts(self) -> list[int]:
        """Where each entry's ids start among all ids, and the end."""
        if self._starts is None:
            self._starts = list(accumulate([32 * (byte & 15) for byte in self.counts], initial=0))
        return self._starts

    def content_at(self, number: int, start: int) -> Content:
        """The content reference of one entry, whose ids start there."""
        byte = self.counts[number]
        return Content(byte >> 4, self.ids[start : start + 32 * (byte & 15)]) if byte else EMPTY

    @property
    def types(self) -> bytes:
        """One byte an entry: what kind it is, in the highest four bits as ``stat`` numbers kinds."""
        return self.stats[1 :: STAT.size]

    def attributes(self) -> Iterator[Attributes]:
        """Unpacked stats."""
        return map(_make_attributes, STAT.iter_unpack(self.stats))

    def attributes_of(self, number: int) -> Attributes:
        """One unpacked row."""
        return Attributes(*STAT.unpack_from(self.stats, STAT.size * number))

    def extras(self) -> dict[int, list[tuple[int, bytes]]]:
        """Optional facts by number of the entry.

        Raises:
            IntegrityError: damaged.
        """
        if self._facts is not None:
            return self._facts
        found: dict[int, list[tuple[int, bytes]]] = {}
        at, data, number = 0, self._extras, 0
        while at < len(data):
            number += 1
            if at + _EXTRA.size > len(data) or number > MAX_FACTS:
                raise IntegrityError("a directory page's extras are damaged")
            entry, tag, length = _EXTRA.unpack_from(data, at)
            at += _EXTRA.size
            if entry >= self.count or at + length > len(data):
                raise IntegrityError("a directory page's extras are damaged")
            found.setdefault(entry, []).append((tag, data[at : at + length]))
            at += length
        self._facts = found
        return found


def encode_page(
    names: Sequence[bytes], stats: bytes, contents: Sequence[Content], extras: Sequence[tuple[int, Extras]]
) -> bytes:
    """The bytes of one page.

    Args:
        extras: pairs of the entry's number and its facts, ascending.
    """
    column = b"\0".join(names)
    tail = b"".join(_EXTRA.pack(entry, tag, len(value)) + value for entry, facts in extras for tag, value in facts)
    return b"".join(
        (
            _HEAD.pack(PAGE, 0, len(names), len(column), len(tail)),
            column,
            stats,
            bytes([content.depth << 4 | len(content.ids) >> 5 for content in contents]),
            b"".join([content.ids for content in contents]),
            tail,
        )
    )


def store_directory(
    names: Sequence[bytes],
    stats: bytes,
    contents: Sequence[Content],
    extras: Sequence[tuple[int, Extras]],
    store: Store,
) -> Content:
    """Stores a directory as pages, cut by a hash of the names, and gives the reference to them."""
    if not names:
        return EMPTY
    size = len(stats) + sum(map(len, names)) + 33 * len(names)
    if len(names) < CUT_PAGE // 4 and size + sum(len(v) + 9 for _e, facts in extras for _t, v in facts) < _FULL_PAGE:
        return Content(0, store(encode_page(names, stats, contents, extras)))
    builder = ContentBuilder(store)
    by_entry = dict(extras)
    begin = size = 0
    for number, name in enumerate(names):
        facts = by_entry.get(number, ())
        size += len(name) + STAT.size + 2 + len(contents[number].ids) + sum(len(v) + 9 for _t, v in facts)
        last = number + 1 == len(names)
        if last or size >= _FULL_PAGE or zlib.crc32(name) % CUT_PAGE == 0:
            end = number + 1
            part = [(n - begin, by_entry[n]) for n in range(begin, end) if n in by_entry]
            page = encode_page(names[begin:end], stats[STAT.size * begin : STAT.size * end], contents[begin:end], part)
            if len(page) > MAX_BLOB:
                raise IntegrityError("the attributes of one entry are larger than a page may be")
            builder.add(store(page))
            begin, size = end, 0
    return builder.finish()
