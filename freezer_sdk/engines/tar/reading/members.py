"""The members of a tar stream, one after the other: old GNU, GNU incremental and POSIX (pax) formats."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from freezer_sdk.engines.tar.reading import headers, pax, sparse
from freezer_sdk.engines.tar.reading.blocks import BLOCK, BlockReader, padded
from freezer_sdk.engines.tar.reading.headers import DUMPDIR, HARD_LINK, SPARSE, Member, OwnerTable
from freezer_sdk.engines.tar.reading.numbers import BadNumber, decimal, size_field
from freezer_sdk.files.posix import Owners
from freezer_sdk.storages.base import Reader

_LONGEST_NAME = 1 << 20
_LARGEST_HEADER = 256 << 20  # listings of directories with some millions of names are as long
_ZEROS = bytes(BLOCK)
_LONG_NAME, _LONG_LINK, _GLOBAL, _LABEL, _CONTINUED = b"L", b"K", b"g", b"V", b"M"
_EXTENDED = (b"x", b"X")
_BEFORE = (_LONG_NAME, _LONG_LINK, *_EXTENDED, _GLOBAL, _LABEL, _CONTINUED)


class _Headers(NamedTuple):
    """All headers of one member.

    Attributes:
        block: the member's own one.
        position: of the first of them in the stream.
        name, link: from members of type ``L`` and ``K``; empty where there are none.
    """

    block: bytes
    position: int
    name: bytes
    link: bytes
    extended: pax.Extended


class MemberStream:
    """Reads a stream once. Iterating gives members; ``data`` the content of the one given last, or it is skipped.

    Blocks of zeros between members are passed over, as by ``tar --ignore-zeros``.

    Args:
        owners: looks up names in access lists.
    """

    def __init__(self, reader: Reader, owners: Owners) -> None:
        self._blocks = BlockReader(reader)
        self._owners = owners
        self._table = OwnerTable()
        self._global: dict[bytes, bytes] = {}
        self._number = 0
        self._ended = False
        self._left = 0  # bytes of the current member's content, with what fills its last block
        self._stored = 0
        self._segments: sparse.Segments | None = None

    def __iter__(self) -> Iterator[Member]:
        return self

    def __next__(self) -> Member:
        """The next member.

        Raises:
            IntegrityError: the stream is damaged here; nothing more can be read of it.
        """
        found = self._next()
        if found is None:
            raise StopIteration
        try:
            return self._member(found)
        except (BadNumber, sparse.BadMap) as error:
            raise self._blocks.damaged(str(error), found.position) from error

    def pass_to(self, number: int) -> bool:
        """Goes on to a member for its ``data`` alone, without looking closely at those before; whether there is one.

        Raises:
            IntegrityError: the stream is damaged before.
        """
        while found := self._next():
            try:
                self._begin(found)
            except (BadNumber, sparse.BadMap) as error:
                raise self._blocks.damaged(str(error), found.position) from error
            if self._number > number:
                return True
        return False

    def _next(self) -> _Headers | None:
        """The headers of the next member; ``None``: there is none."""
        blocks = self._blocks
        if self._left:
            self.pass_over()
        first = blocks.position
        name = link = b""
        extended = pax.Extended({}, [])
        while True:
            at = blocks.position
            header = self._header()
            if header is None:
                if name or link or extended.values:
                    raise blocks.damaged("the stream ends within the headers of a member", first)
                return None
            kind = header[156:157]
            if kind not in _BEFORE:
                if self._global:
                    extended = extended._replace(values={**self._global, **extended.values})
                return _Headers(header, first, name, link, extended)
            try:
                if kind == _LONG_NAME:
                    name = self._body(header, _LONGEST_NAME).split(b"\0", 1)[0]
                elif kind == _LONG_LINK:
                    link = self._body(header, _LONGEST_NAME).split(b"\0", 1)[0]
                elif kind in _EXTENDED:
                    extended = pax.parse(self._body(header, _LARGEST_HEADER))
                elif kind == _GLOBAL:
                    self._global.update(pax.parse(self._body(header, _LONGEST_NAME)).values)
                elif kind == _LABEL:
                    blocks.skip(padded(size_field(header[124:136])))
                else:
                    raise BadNumber("this is a later volume of an archive in several ones")
            except (BadNumber, pax.BadHeader) as error:
                raise blocks.damaged(str(error), at) from error

    def data(self) -> Iterator[tuple[int, memoryview]]:
        """The content of the member given last, once: offset in the file, and bytes that stay valid.

        Raises:
            IntegrityError: the stream ends within, or cannot be decoded.
        """
        stored, self._stored = self._stored, 0
        if self._segments is None and stored and (view := self._blocks.view(stored)) is not None:
            self._left -= stored
            yield 0, view
            return
        segments = ((0, stored),) if self._segments is None else self._segments
        for offset, length in segments:
            at = offset
            for piece in self._blocks.pieces(length):
                self._left -= len(piece)
                yield at, piece
                at += len(piece)

    def pass_over(self) -> None:
        """Skips what is left of the content of the member given last.

        Raises:
            IntegrityError: the stream ends within, or cannot be decoded.
        """
        left, self._left, self._stored = self._left, 0, 0
        self._blocks.skip(left)

    def _header(self) -> bytes | None:
        """The next block that is not all zeros; ``None``: the stream is at its end.

        Raises:
            IntegrityError: it is no header, or the stream's end is not marked.
        """
        blocks = self._blocks
        while True:
            header = blocks.block()
            if header is None:
                if not self._ended:
                    raise blocks.damaged("the stream ends without the mark of its end")
                return None
            if header[0] or header != _ZEROS:
                break
            self._ended = True
        if not headers.is_header(header):
            what = "what follows the end of the archive is no archive" if self._ended else "this is no header"
            raise blocks.damaged(what, blocks.position - BLOCK)
        self._ended = False
        return header

    def _body(self, header: bytes, most: int) -> bytes:
        """The content of a member that goes before another one's header."""
        size = size_field(header[124:136])
        if size > most:
            raise BadNumber(f"a header of {size} bytes is longer than any can be")
        body = self._blocks.take(size)
        self._blocks.skip(padded(size) - size)
        return body

    def _begin(self, found: _Headers) -> int:
        """Reads what stands between the headers and the content; gives the size of a file, or of what is stored."""
        block, values = found.block, found.extended.values
        kind = block[156:157]
        size = 0 if kind == HARD_LINK else decimal(values[b"size"]) if b"size" in values else size_field(block[124:136])
        self._number += 1
        self._stored, self._left, self._segments = size, padded(size), None
        if kind == SPARSE or (values and headers.holds_data(kind)):
            size = self._map(block, kind, found.extended, size)
        return size

    def _member(self, found: _Headers) -> Member:
        block, values = found.block, found.extended.values
        kind = block[156:157]
        size = self._begin(found)
        name, link = headers.names(block, found.name, found.link, values)
        mode = headers.mode(block, kind, name)
        mtime, ctime = headers.times(block, values)
        warnings: list[str] = []
        if headers.unknown(kind):
            warnings.append(f"a member of the unknown type {kind!r} is taken for a file")
        listing = self._listing(size) if kind == DUMPDIR else None
        xattrs: tuple[tuple[bytes, bytes], ...] = ()
        if values:
            listing = values.get(b"GNU.dumpdir", listing)
            xattrs = headers.xattrs(values, self._owners, warnings)
        return Member(
            number=self._number - 1,
            position=found.position,
            name=name,
            mode=mode,
            owner=self._table.find(block, values),
            size=size if stat.S_ISREG(mode) else 0,
            mtime=mtime,
            ctime=ctime,
            link=link,
            hard=kind == HARD_LINK,
            device=headers.device(block, kind),
            xattrs=xattrs,
            segments=self._segments,
            listing=listing,
            warnings=tuple(warnings),
        )

    def _listing(self, size: int) -> bytes:
        if size > _LARGEST_HEADER:
            raise BadNumber(f"a directory's listing of {size} bytes is longer than any can be")
        listing = self._blocks.take(size)
        self._left -= size
        return listing

    def _map(self, header: bytes, kind: bytes, extended: pax.Extended, stored: int) -> int:
        """Reads the map of a sparse file, where it is one; gives the file's size."""
        values = extended.values
        if kind == SPARSE:
            size = size_field(header[483:495])
            segments = sparse.old_gnu(header, self._blocks)
        elif b"GNU.sparse.major" in values:
            size = _real_size(values, stored)
            if values[b"GNU.sparse.major"] != b"1" or values.get(b"GNU.sparse.minor", b"0") != b"0":
                raise sparse.BadMap("a sparse file is of a newer form than is known")
            segments, used = sparse.of_data(self._blocks, stored)
            self._left -= used
            stored -= used
        else:
            found = sparse.of_header(extended)
            if found is None:
                return stored
            size, segments = _real_size(values, stored), found
        self._segments = sparse.checked(segments, size=size, stored=stored)
        return size


def _real_size(values: Mapping[bytes, bytes], stored: int) -> int:
    for keyword in (b"GNU.sparse.realsize", b"GNU.sparse.size"):
        if keyword in values:
            return decimal(values[keyword])
    return stored
