"""Indexes: where each blob lies; the tables of many packs in one object (repository-format, section "Indexes")."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable
from itertools import pairwise

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.engines.dedup.box import BoxKeys, box_size, open_box, seal_box
from freezer_sdk.engines.dedup.layout import MAX_TABLE, Kind
from freezer_sdk.engines.dedup.lookup import BlobIndex
from freezer_sdk.engines.dedup.section import Blobs, PackRows, Packs, Place, Section, prefixes_of, section_of
from freezer_sdk.engines.dedup.segment import MAX_STORED
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

MAGIC = b"FZIX"
VERSION = 1
HEADER = struct.Struct("<4sB3xII")
"""magic, version, length of the box for meta packs, length of the box for data packs (0: none)."""

MAX_OBJECT = HEADER.size + 2 * MAX_TABLE
"""Bytes of a stored index."""
MAX_RATIO = 8
"""A section is at most so many times as long as its compressed form, and a little more: ids do not compress."""
_SLACK = 64 << 10
INDEX_BOX = {Kind.DATA: 3, Kind.META: 4}


def encode_index(keys: BoxKeys, sections: Iterable[Section], compressor: Compressor) -> bytes:
    """The whole object."""
    boxes = {
        section.kind: seal_box(keys, INDEX_BOX[section.kind], _encode(section, compressor)) for section in sections
    }
    meta, data = boxes.get(Kind.META, b""), boxes.get(Kind.DATA, b"")
    return HEADER.pack(MAGIC, VERSION, len(meta), len(data)) + meta + data


def index_parts(head: Buffer, size: int) -> dict[Kind, tuple[int, int]]:
    """Offset and length of the boxes in an index object of ``size`` bytes.

    Raises:
        IntegrityError: not an index.
    """
    if len(head) < HEADER.size:
        raise IntegrityError("an index is shorter than its header")
    magic, version, meta, data = HEADER.unpack_from(head)
    if (
        magic != MAGIC
        or version != VERSION
        or HEADER.size + meta + data != size
        or bytes(head[5:8]) != b"\0\0\0"
        or max(meta, data) > MAX_TABLE
    ):
        raise IntegrityError("an index's header is damaged")
    parts = {Kind.META: (HEADER.size, meta), Kind.DATA: (HEADER.size + meta, data)}
    return {kind: part for kind, part in parts.items() if part[1]}


def decode_section(keys: BoxKeys, kind: Kind, box: Buffer, compressor: Compressor) -> Section:
    """Opens one box of an index.

    Raises:
        IntegrityError: damaged, forged, or not adding up.
    """
    signer, body = open_box(keys, INDEX_BOX[kind], box)
    try:
        (size,) = struct.unpack_from("<I", body)
        if size > min(MAX_TABLE, MAX_RATIO * len(body) + _SLACK):
            raise IntegrityError("an index is out of bounds")
        return _decode(kind, signer, compressor.decompress(memoryview(body)[4:], size=size))
    except struct.error:
        raise IntegrityError("an index is damaged") from None


def _encode(section: Section, compressor: Compressor) -> bytes:
    firsts = section.first_segments
    body = b"".join(
        (
            struct.pack("<III", len(section.packs), len(section.stored), len(section)),
            b"".join(section.packs),
            b"".join(section.writers),
            _little(array("I", (end - first for first, end in pairwise(firsts)))),
            _little(section.stored),
            section.ids,
            _little(section.segment_of),
            _little(section.starts),
            _little(section.lengths),
        )
    )
    return struct.pack("<I", len(body)) + compressor.compress(body)


def _decode(kind: Kind, signer: bytes, body: bytes) -> Section:
    n_packs, n_segments, n_blobs = struct.unpack_from("<III", body)
    if 12 + 52 * n_packs + 4 * n_segments + 44 * n_blobs != len(body):
        raise IntegrityError("an index does not add up")
    at = 12
    digests = [body[at + 32 * i : at + 32 * i + 32] for i in range(n_packs)]
    at += 32 * n_packs
    known: dict[bytes, bytes] = {}  # there are few writers and many packs
    writers = [known.setdefault(body[i : i + 16], body[i : i + 16]) for i in range(at, at + 16 * n_packs, 16)]
    at += 16 * n_packs
    counts, stored = _column(body, at, n_packs), _column(body, at + 4 * n_packs, n_segments)
    at += 4 * (n_packs + n_segments)
    if sum(counts) != n_segments:
        raise IntegrityError("an index does not add up")
    if max(stored, default=0) > MAX_STORED:
        raise IntegrityError("an index names a segment that is longer than it may be")
    ids = body[at : at + 32 * n_blobs]
    at += 32 * n_blobs
    segments, starts, lengths = (_column(body, at + 4 * n_blobs * i, n_blobs) for i in range(3))
    if n_blobs and (max(segments) >= n_segments or not min(lengths)):
        raise IntegrityError("an index names a segment that it does not have, or an empty blob")
    order = prefixes_of(ids).tolist()
    if order != sorted(order):
        raise IntegrityError("an index is not sorted")
    return Section(kind, signer, Packs(digests, writers, counts, stored), Blobs(ids, segments, starts, lengths))


def _column(body: bytes, at: int, count: int) -> array[int]:
    column = array("I")
    column.frombytes(body[at : at + 4 * count])
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _little(column: array[int]) -> bytes:
    if sys.byteorder == "big":
        column = array("I", column)
        column.byteswap()
    return column.tobytes()


__all__ = [
    "BlobIndex",
    "PackRows",
    "Place",
    "Section",
    "box_size",
    "decode_section",
    "encode_index",
    "index_parts",
    "section_of",
]
