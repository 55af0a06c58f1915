"""Packs: segments one after the other, then their table (repository-format, section "Packs")."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import NamedTuple

from freezer_sdk.crypto.aead import TAG_SIZE
from freezer_sdk.crypto.kdf import hkdf
from freezer_sdk.engines.dedup import segment
from freezer_sdk.engines.dedup.box import BoxKeys, box_size, open_box, seal_box
from freezer_sdk.engines.dedup.keyring import RunKey
from freezer_sdk.engines.dedup.layout import MAX_BLOB, MAX_BLOBS_IN_SEGMENT, MAX_TABLE, Kind
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

TABLE_BOX = {Kind.DATA: 1, Kind.META: 2}
TRAILER = struct.Struct("<4sBBHI")
"""magic, version, kind, reserved, length of the box before it."""
MAGIC = b"FZPK"
VERSION = 1
_LIMITS = (segment.MAX_STORED, MAX_BLOBS_IN_SEGMENT, MAX_BLOB)
"""Of a segment's stored length, of the number of its blobs, of a blob's length."""


@dataclass(slots=True)
class SegmentRow:
    """One segment of a pack: its stored length, and its blobs in order."""

    stored: int
    ids: Sequence[bytes]
    lengths: Sequence[int]


class Table(NamedTuple):
    """The table of a stored pack.

    Attributes:
        rows: its segments in order.
        size: bytes that table and trailer take.
        writer: the slot that signed it, 16 bytes.
    """

    rows: list[SegmentRow]
    size: int
    writer: bytes


class OpenPack:
    """A pack that is being filled, in memory of the caller's; the caller holds a lock around its methods.

    Attributes:
        key: of the pack's segments.
        size: bytes taken.
        blobs: how many it has.
        missing: segments that have a place and are not sealed yet.
        full: takes no more.
    """

    def __init__(self, kind: Kind, run: RunKey, first_ids: Sequence[bytes], repository_id: bytes, memory: mmap) -> None:
        # the salt depends on the first content, so that repeated randomness does no harm
        digest = hashlib.sha256(b"".join(first_ids)).digest()
        self.kind, self.run, self.memory = kind, run, memory
        self.salt = hkdf(os.urandom(32), salt=digest, info=b"freezer-sdk/1/pack-salt\0")
        self.key = segment.pack_key(run.key, self.salt, repository_id)
        self.rows: list[SegmentRow] = []
        self.size = self.blobs = self.missing = 0
        self.full = False

    def reserve(
        self, plain_size: int, ids: Sequence[bytes], lengths: Sequence[int]
    ) -> tuple[segment.SegmentHeader, memoryview]:
        """The next place: the header to seal with, and where to."""
        header = segment.SegmentHeader(
            self.kind, plain_size + TAG_SIZE, self.run.epoch, len(self.rows), self.salt, self.run.sealed
        )
        self.rows.append(SegmentRow(header.stored, ids, lengths))
        begin, self.size = self.size, self.size + header.stored
        self.blobs += len(ids)
        self.missing += 1
        return header, memoryview(self.memory)[begin : self.size]

    def finish(self, keys: BoxKeys) -> tuple[bytes, list[Buffer]]:
        """SHA-256 and the buffers of the whole object; valid while the memory is."""
        box = seal_box(keys, TABLE_BOX[self.kind], encode_table(self.rows))
        trailer = TRAILER.pack(MAGIC, VERSION, self.kind, 0, len(box))
        parts: list[Buffer] = [memoryview(self.memory)[: self.size], box, trailer]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
        return digest.digest(), parts


def encode_table(rows: Sequence[SegmentRow]) -> bytes:
    """The body of a pack's table."""
    lengths = [length for row in rows for length in row.lengths]
    return b"".join(
        (
            struct.pack("<I", len(rows)),
            b"".join(struct.pack("<II", row.stored, len(row.ids)) for row in rows),
            struct.pack(f"<{len(lengths)}I", *lengths),
            *(blob for row in rows for blob in row.ids),
        )
    )


def decode_table(body: bytes) -> list[SegmentRow]:
    """The inverse of :func:`encode_table`.

    Raises:
        IntegrityError: it does not add up.
    """
    try:
        (count,) = struct.unpack_from("<I", body)
        if 4 + 8 * count > len(body):
            raise IntegrityError("a pack's table is out of bounds")
        heads = struct.unpack_from(f"<{2 * count}I", body, 4)
        total = sum(heads[1::2])
        at = 4 + 8 * count
        if at + 36 * total != len(body):
            raise IntegrityError("a pack's table does not add up")
        lengths = struct.unpack_from(f"<{total}I", body, at)
    except struct.error:
        raise IntegrityError("a pack's table is damaged") from None
    largest = max(heads[::2], default=0), max(heads[1::2], default=0), max(lengths, default=0)
    smallest = min(heads[::2], default=1), min(heads[1::2], default=1), min(lengths, default=1)
    if any(found > most for found, most in zip(largest, _LIMITS, strict=True)) or not all(smallest):
        raise IntegrityError("a pack's table is out of bounds")
    at += 4 * total
    rows = []
    blob = 0
    for stored, n in zip(heads[::2], heads[1::2], strict=True):
        ids = [body[at + 32 * i : at + 32 * i + 32] for i in range(blob, blob + n)]
        rows.append(SegmentRow(stored, ids, lengths[blob : blob + n]))
        blob += n
    return rows


def read_table(keys: BoxKeys, kind: Kind, tail: Buffer) -> Table:
    """The table at the end of a pack.

    Args:
        tail: the last bytes of the object; :func:`table_tail` tells how many are needed.

    Raises:
        IntegrityError: damaged or forged.
    """
    need = table_tail(kind, tail)
    if need > len(tail):
        raise IntegrityError("a pack is shorter than its table")
    box = memoryview(tail)[len(tail) - need : len(tail) - TRAILER.size]
    opened = open_box(keys, TABLE_BOX[kind], box)
    return Table(decode_table(opened.body), need, opened.signer)


def table_tail(kind: Kind, tail: Buffer) -> int:
    """Bytes of table and trailer, read from the trailer.

    Raises:
        IntegrityError: the trailer is damaged.
    """
    if len(tail) < TRAILER.size:
        raise IntegrityError("a pack is shorter than its trailer")
    magic, version, found, reserved, length = TRAILER.unpack_from(tail, len(tail) - TRAILER.size)
    if magic != MAGIC or version != VERSION or found != kind or reserved or length > MAX_TABLE:
        raise IntegrityError("a pack's trailer is damaged")
    return int(length) + TRAILER.size


__all__ = ["OpenPack", "SegmentRow", "Table", "box_size", "decode_table", "encode_table", "read_table", "table_tail"]
