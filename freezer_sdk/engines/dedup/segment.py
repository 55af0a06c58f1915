"""Segments: blobs joined, compressed once, padded, encrypted once (repository-format, section "Segments")."""

from __future__ import annotations

import struct
import sys
import threading
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple, Protocol

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.crypto.aead import TAG_SIZE, Aead
from freezer_sdk.crypto.kdf import hkdf
from freezer_sdk.engines.dedup.layout import MAX_BLOB, MAX_BLOBS_IN_SEGMENT, MAX_SEGMENT, Kind
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

MAGIC = b"FZSG"
VERSION = 1
HEADER = struct.Struct("<4sBBHIII32s80s")
"""magic, version, kind, reserved, ciphertext length, epoch, counter, salt of the pack, sealed run key."""

MAX_STORED = HEADER.size + MAX_SEGMENT + (MAX_SEGMENT >> 3)
"""Bytes of header and ciphertext."""

_DOMAIN = b"freezer-sdk/1/segment\0"
_USUAL_FRAME = 1 << 21
_RAW_IS_AS_GOOD = 0.97  # compressed no smaller than this share: stored as it is


class SegmentHeader(NamedTuple):
    """The clear head of a segment."""

    kind: Kind
    length: int
    epoch: int
    counter: int
    salt: bytes
    sealed: bytes

    @property
    def stored(self) -> int:
        """Bytes of header and ciphertext."""
        return HEADER.size + self.length

    def pack(self) -> bytes:
        """The bytes."""
        return HEADER.pack(MAGIC, VERSION, self.kind, 0, self.length, self.epoch, self.counter, self.salt, self.sealed)

    @classmethod
    def unpack(cls, data: Buffer) -> SegmentHeader:
        """Parses the first bytes of a segment.

        Raises:
            IntegrityError: not a header of a version that is known.
        """
        if len(data) < HEADER.size:
            raise IntegrityError("a segment is shorter than its header")
        magic, version, kind, reserved, length, epoch, counter, salt, sealed = HEADER.unpack_from(data)
        if magic != MAGIC or version != VERSION or reserved or kind not in (Kind.DATA, Kind.META):
            raise IntegrityError("a segment's header is damaged")
        if not TAG_SIZE <= length <= MAX_STORED - HEADER.size:
            raise IntegrityError("a segment's length is out of bounds")
        return cls(Kind(kind), length, epoch, counter, salt, sealed)


class PackKeys(Protocol):
    """What is needed of a key ring."""

    repository_id: bytes

    def open_run_key(self, epoch: int, sealed: bytes) -> bytes:
        """The run key of a pack."""


def pack_key(run_key: bytes, salt: bytes, repository_id: bytes) -> bytes:
    """The key of one pack: HKDF-SHA256 of the run's key, salted by the pack."""
    return hkdf(run_key, salt=salt, info=_DOMAIN + repository_id)


def padded(size: int) -> int:
    """Padmé: the next length that reveals only O(log log size) bits (Nikitin et al., PETS 2019)."""
    if size < 2:
        return size
    exponent = size.bit_length() - 1
    low_bits = exponent - exponent.bit_length()
    mask = (1 << low_bits) - 1
    return (size + mask) & ~mask


def compress(raw: Buffer, compressor: Compressor, level: int | None) -> tuple[str, bytes | Buffer]:
    """Compresses a segment's content and proves that it comes back.

    Raises:
        IntegrityError: the compressor does not give back what it was given.
    """
    if compressor.id == "none":
        return "none", raw
    packed = compressor.compress(raw, level=level)
    if len(packed) > len(raw) * _RAW_IS_AS_GOOD:
        return "none", raw
    if compressor.decompress(packed, size=len(raw)) != bytes(raw):  # views compare byte by byte, ten times slower
        raise IntegrityError(
            f"compressor {compressor.id!r} damaged a segment; nothing was stored of it",
            hint="the memory of this machine or the compressor's library is faulty",
        )
    return compressor.id, packed


_scratch = threading.local()


def frame(lengths: Sequence[int], method: str, payload: Buffer) -> memoryview:
    """The plain text of a segment: method, lengths, payload, padding.

    Returns:
        A view of memory that this thread uses again for its next frame.
    """
    name = method.encode("ascii")
    head = b"".join(
        (
            bytes((len(name),)),
            name,
            struct.pack("<III", sum(lengths), len(lengths), len(payload)),
            struct.pack(f"<{len(lengths)}I", *lengths),
        )
    )
    size = len(head) + len(payload)
    whole = padded(size)
    memory: bytearray | None = getattr(_scratch, "memory", None)
    if memory is None or len(memory) < whole:
        memory = _scratch.memory = bytearray(max(whole, _USUAL_FRAME))
    plain = memoryview(memory)[:whole]
    plain[: len(head)] = head
    plain[len(head) : size] = payload
    plain[size:] = bytes(whole - size)
    return plain


def seal(plain: Buffer, header: SegmentHeader, key: bytes, repository_id: bytes, target: memoryview) -> None:
    """Writes header and ciphertext to where they belong in a pack."""
    head = header.pack()
    target[: len(head)] = head
    Aead(key).seal_into(header.counter, plain, _DOMAIN + repository_id + head, target[len(head) :])


class OpenSegment(NamedTuple):
    """A decrypted and decompressed segment.

    Attributes:
        offsets: where each blob starts, and the end.
    """

    header: SegmentHeader
    raw: Buffer
    offsets: Sequence[int]

    def blob(self, offset: int, length: int) -> bytes:
        """One blob's bytes."""
        return bytes(memoryview(self.raw)[offset : offset + length])

    def blobs(self) -> Iterator[memoryview]:
        """All blobs in order."""
        view = memoryview(self.raw)
        return (view[a:b] for a, b in pairwise(self.offsets))


def open_segment(data: Buffer, keys: PackKeys, compressors: Callable[[str], Compressor]) -> OpenSegment:
    """Authenticates, decrypts and decompresses one segment.

    Args:
        data: exactly header and ciphertext.
        compressors: gives the compressor of a stored method name.

    Raises:
        IntegrityError: damaged or forged.
        UnsupportedFormat: compressed by a method that is not installed.
    """
    header = SegmentHeader.unpack(data)
    if header.stored != len(data):
        raise IntegrityError("a segment's length does not match its place")
    view = memoryview(data)
    key = pack_key(keys.open_run_key(header.epoch, header.sealed), header.salt, keys.repository_id)
    aad = _DOMAIN + keys.repository_id + bytes(view[: HEADER.size])
    plain = memoryview(Aead(key).open(header.counter, view[HEADER.size :], aad))
    method, size, lengths, payload = _parse(plain)
    raw: Buffer = payload if method == "none" else compressors(method).decompress(payload, size=size)
    if len(raw) != size:
        raise IntegrityError("a segment's content has another length than it says")
    return OpenSegment(header, raw, array("I", accumulate(lengths, initial=0)))


def _parse(plain: memoryview) -> tuple[str, int, array[int], memoryview]:
    try:
        at = 1 + plain[0]
        method = bytes(plain[1:at]).decode("ascii")
        size, count, stored = struct.unpack_from("<III", plain, at)
        at += 12
        if size > MAX_SEGMENT or count > MAX_BLOBS_IN_SEGMENT or at + 4 * count + stored > len(plain):
            raise IntegrityError("a segment's lengths are out of bounds")
    except (struct.error, IndexError, UnicodeDecodeError):
        raise IntegrityError("a segment's frame is damaged") from None
    lengths = array("I", plain[at : at + 4 * count].tobytes())  # numbers, not objects: there may be a million
    if sys.byteorder == "big":
        lengths.byteswap()
    if sum(lengths) != size or (count and not 1 <= min(lengths) <= max(lengths) <= MAX_BLOB):
        raise IntegrityError("a segment's lengths do not add up")
    at += 4 * count
    return method, size, lengths, plain[at : at + stored]
