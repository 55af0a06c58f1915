"""Counts what goes by in a tar stream, by its headers; the content is not looked at."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection
from typing import Final

from freezer_sdk.model import BackupStats

_BLOCK: Final = 512
_LARGEST: Final = 1 << 20  # longer extended headers belong to directories, which have no size
_PAX: Final = re.compile(rb"[0-9]+ (path|size|GNU\.sparse\.name|GNU\.sparse\.realsize|GNU\.sparse\.size)=")
_REGULAR: Final = b"0\x007S"
_DIRECTORIES: Final = b"5D"
_LONG_NAME: Final = ord("L")
_EXTENDED: Final = ord("x")
_HEADERS: Final = b"xgLK"
_HARD_LINK: Final = ord("1")
_OLD_SPARSE: Final = ord("S")


class Figures:
    """Takes a stream that GNU tar writes, in pieces of any size.

    Args:
        had: whether the base level had an entry of this name; ``None`` for level 0.
    """

    def __init__(self, had: Callable[[bytes], bool] | None) -> None:
        self._had = had
        self._skip = 0
        self._head = bytearray()
        self._wanted = _BLOCK
        self._within: int | None = None  # type of the extended header whose body comes
        self._facts: dict[bytes, bytes] = {}
        self._in_sparse_map = False
        self.files = self.directories = self.others = 0
        self.new = self.changed = 0
        self.bytes = self.read = 0

    def feed(self, data: memoryview) -> None:
        """The next piece."""
        position, end = 0, len(data)
        while position < end:
            if self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
                continue
            step = min(self._wanted - len(self._head), end - position)
            self._head += data[position : position + step]
            position += step
            if len(self._head) == self._wanted:
                block, self._head, self._wanted = bytes(self._head), bytearray(), _BLOCK
                self._take(block)

    def _take(self, block: bytes) -> None:
        if self._within is not None:
            self._extended(self._within, block)
            self._within = None
        elif self._in_sparse_map:
            self._in_sparse_map = bool(block[504])
        elif block[156] in _HEADERS:
            size = _number(block[124:136])
            padded = -(-size // _BLOCK) * _BLOCK
            if size and size <= _LARGEST:
                self._within, self._wanted = block[156], padded
            else:
                self._skip = padded
        elif block[0]:
            self._member(block)

    def _extended(self, kind: int, body: bytes) -> None:
        if kind == _LONG_NAME:
            self._facts[b"path"] = body.rstrip(b"\0")
        elif kind == _EXTENDED:
            position = 0
            while (blank := body.find(b" ", position, position + 20)) > 0:
                length = int(body[position:blank])
                found = _PAX.match(body, position)
                if found:
                    self._facts[found[1]] = body[found.end() : position + length - 1]
                position += length

    def _member(self, block: bytes) -> None:
        facts, self._facts = self._facts, {}
        kind = block[156]
        size = int(facts[b"size"]) if b"size" in facts else _number(block[124:136])
        if kind in _DIRECTORIES:
            self.directories += 1
        elif kind not in _REGULAR and kind != _HARD_LINK:
            self.others += 1
            return
        else:
            self.files += 1
            self._file(block, facts, size)
        if kind == _OLD_SPARSE:
            self._in_sparse_map = bool(block[482])
        if kind != _HARD_LINK:
            self._skip = -(-size // _BLOCK) * _BLOCK

    def _file(self, block: bytes, facts: dict[bytes, bytes], size: int) -> None:
        if block[156] != _HARD_LINK:
            self.read += size
            real = facts.get(b"GNU.sparse.realsize", facts.get(b"GNU.sparse.size"))
            if real is not None:
                self.bytes += int(real)
            else:
                self.bytes += _number(block[483:495]) if block[156] == _OLD_SPARSE else size
        if self._had is None:
            self.new += 1
            return
        name = facts.get(b"GNU.sparse.name", facts.get(b"path")) or _name(block)
        if self._had(name):
            self.changed += 1
        else:
            self.new += 1

    def stats(self, unmodified: Unmodified) -> BackupStats:
        """The figures, with those of entries that were not stored again."""
        return BackupStats(
            files=self.files + unmodified.files,
            directories=self.directories,
            others=self.others + unmodified.others,
            bytes=self.bytes + unmodified.bytes,
            new_files=self.new,
            changed_files=self.changed,
            unmodified_files=unmodified.files,
            read_bytes=self.read,
        )


class Unmodified:
    """Counts entries that GNU tar has looked at and left where they are stored: it does not tell their sizes.

    Args:
        location: where the tree is read.
        follow: symbolic links are followed.
    """

    def __init__(self, location: bytes, *, follow: bool) -> None:
        self._location, self._follow = location, follow
        self._linked: set[tuple[int, int]] = set()
        self.files = self.others = self.bytes = 0

    def add(self, directory: bytes, names: Collection[bytes]) -> None:
        """Counts entries of one directory (``./a``)."""
        base = os.path.join(self._location, directory)
        for name in names:
            try:
                st = os.stat(os.path.join(base, name), follow_symlinks=self._follow)
            except OSError:
                continue  # gone by now
            self.add_file(st)

    def add_file(self, st: os.stat_result) -> None:
        """Counts one entry; content that has several names is counted once."""
        if not stat.S_ISREG(st.st_mode):
            self.others += not stat.S_ISSOCK(st.st_mode)
            return
        self.files += 1
        if st.st_nlink > 1:
            if (st.st_dev, st.st_ino) in self._linked:
                return
            self._linked.add((st.st_dev, st.st_ino))
        self.bytes += st.st_size


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # binary, for what octal digits cannot say
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b" \0") or b"0", 8)


def _name(block: bytes) -> bytes:
    name = block[:100].split(b"\0", 1)[0]
    prefix = block[345:500].split(b"\0", 1)[0] if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name
