"""Streams of version 1: a head and, for files, a body, one entry after the other."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from freezer_sdk.engines.rsync.fields import Fields, name
from freezer_sdk.engines.rsync.items import NANOSECONDS, Damaged, Item, block_array, block_count, clean_path, entry_type
from freezer_sdk.engines.rsync.items import stored_size as size_of_blocks

BLOCK_SIZE: Final = 4096
_FIELDS: Final = (
    "length", "path", "version", "mode", "uid", "gid", "size", "mtime", "ctime", "uname", "gname", "ftype", "lname",
    "inode", "nlink", "devminor", "devmajor", "block_size", "level_id", "deleted",
)  # fmt: skip
_MAX_HEAD: Final = 1 << 16
_NUMBER: Final = re.compile(rb"[0-9]{1,20}\Z")
_PATCH, _GONE = b"1111", b"1111"
_SECONDS: Final = 1 << 33  # what nanoseconds can tell in 63 bits
_STEP: Final = 64 << 10
_LONGEST_NUMBER: Final = 21
_SPARE: Final = 16


class Bytes(Protocol):
    """The stream."""

    def exactly(self, size: int) -> bytes:
        """The next bytes, all of them; Damaged when there are fewer."""

    def ended(self) -> bool:
        """Whether there are none."""


def read_items(stream: Bytes) -> Iterator[Item]:
    """All items of a level; what an item has stored is to be read before the next.

    Raises:
        Damaged: the stream is not whole; what came before is.
    """
    while not stream.ended():
        yield _read_item(stream)


def _read_item(stream: Bytes) -> Item:
    length = _number(stream, b"\0")
    used = len(str(length)) + 1
    if not used < length <= _MAX_HEAD:
        raise Damaged("the head of an entry has a length that cannot be")
    values = stream.exactly(length - used).split(b"\0")
    if len(values) != len(_FIELDS) - 1:
        raise Damaged("the head of an entry does not have all of its fields")
    fields = Fields(dict(zip(_FIELDS[1:], values, strict=True)))
    if fields.get("version") != b"1":
        raise Damaged("the head of an entry is of an unknown version")
    path = clean_path(values[0]) or b"\0"
    if fields.get("deleted") == _GONE:
        return Item(path=path)
    return _made(stream, path, fields)


def _made(stream: Bytes, path: bytes, fields: Fields) -> Item:
    kind = fields.get("ftype")
    mode = fields.number("mode")
    is_file = kind in (b"r", b"u")
    if is_file:
        mode = stat.S_IFREG | stat.S_IMODE(mode)  # of an unknown type, the original has the content and nothing else
    entry_type(mode)
    size = fields.number("size") if is_file else 0
    blocks = None
    stored = size
    if is_file and fields.get("level_id") == _PATCH:
        blocks = _read_blocks(stream, size)
        stored = size_of_blocks(blocks, size, BLOCK_SIZE)
    return Item(
        path=path,
        mode=mode,
        uid=fields.number("uid"),
        gid=fields.number("gid"),
        user=name(fields.text("uname")),
        group=name(fields.text("gname")),
        size=size,
        mtime_ns=fields.number("mtime", lowest=-_SECONDS) * NANOSECONDS,
        ctime_ns=fields.number("ctime", lowest=-_SECONDS) * NANOSECONDS,
        target=fields.text("lname") if stat.S_ISLNK(mode) else None,
        blocks=blocks,
        stored=stored,
    )


def _read_blocks(stream: Bytes, size: int) -> Sequence[int]:
    """The numbers of the blocks that follow.

    The length of the data that stands before them is wrong after insertions, and of no use. Numbers count what the
    original's search has found in the file, and may therefore lie beyond its end.
    """
    if stream.exactly(1) != b"\0":
        raise Damaged("there is something else where the changes of a file should begin")
    _number(stream, b"\0")
    length = _number(stream, b"\0") - 1
    count = block_count(size, BLOCK_SIZE)
    if not 1 <= length <= _LONGEST_NUMBER * (2 * count + _SPARE):
        raise Damaged("the list of a file's changed blocks has a length that cannot be")
    found = block_array(count)
    previous = -1
    rest = b""
    while length:
        part = stream.exactly(min(length, _STEP))
        length -= len(part)
        *whole, rest = (rest + part).split(b"\0")
        for digits in whole:
            if not digits:  # before the first
                continue
            if not _NUMBER.match(digits) or int(digits) <= previous:
                raise Damaged("the list of a file's changed blocks is damaged")
            previous = int(digits)
            if previous < count:
                found.append(previous)
    if rest:
        raise Damaged("the list of a file's changed blocks does not end where it should")
    return found


def _number(stream: Bytes, end: bytes) -> int:
    digits = b""
    while (byte := stream.exactly(1)) != end:
        digits += byte
        if not _NUMBER.match(digits):
            raise Damaged("there is something else where an entry should begin")
    if not digits:
        raise Damaged("there is something else where an entry should begin")
    return int(digits)
