"""Segments, packs and indexes: every byte counts."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from mmap import mmap

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freezer_sdk.compressors.base import Compressor
from freezer_sdk.compressors.none import NoCompressor
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.engines.dedup import segment
from freezer_sdk.engines.dedup import writer as writing
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import (
    HEADER,
    BlobIndex,
    PackRows,
    decode_section,
    encode_index,
    index_parts,
    section_of,
)
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import MAX_BLOB, Kind, pack_name
from freezer_sdk.engines.dedup.pack import OpenPack, SegmentRow, decode_table, encode_table, read_table
from freezer_sdk.engines.dedup.settings import Settings
from freezer_sdk.engines.dedup.writer import BlobWriter
from freezer_sdk.errors import IntegrityError, StorageUnavailable
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.testing import Fault, FaultyStorage
from freezer_sdk.testing.faults import fail

ZSTD = ZstdCompressor()
ME = bytes(range(16))


def compressors(name: str) -> Compressor:
    return {"zstd": ZSTD, "none": NoCompressor()}[name]


def everybody(_slot: bytes) -> bool:
    return True


def make_pack(keys: KeyRing, contents: list[list[bytes]]) -> tuple[OpenPack, bytes, bytes]:
    run = keys.new_run_key()
    pack = OpenPack(Kind.DATA, run, [b"x" * 32], keys.repository_id, mmap(-1, 1 << 20))
    for blobs in contents:
        raw = b"".join(blobs)
        method, payload = segment.compress(raw, ZSTD, None)
        plain = segment.frame([len(blob) for blob in blobs], method, payload)
        ids = [blob_id(keys.data_hash_key(), blob) for blob in blobs]
        header, target = pack.reserve(len(plain), ids, [len(blob) for blob in blobs])
        segment.seal(plain, header, pack.key, keys.repository_id, target)
    digest, parts = pack.finish(keys)
    return pack, digest, b"".join(bytes(part) for part in parts)


def test_pack_round_trip(keys: KeyRing) -> None:
    contents = [[b"a", b"bb" * 1000], [os.urandom(5000)], [b"c" * 100_000, b"d"]]
    pack, _digest, data = make_pack(keys, contents)
    rows, used, writer = read_table(keys, Kind.DATA, data[-4096:])
    assert writer == keys.slot_id
    assert [row.stored for row in rows] == [row.stored for row in pack.rows]
    assert sum(row.stored for row in rows) + used == len(data)
    offset = 0
    for row, blobs in zip(rows, contents, strict=True):
        opened = segment.open_segment(data[offset : offset + row.stored], keys, compressors)
        assert [bytes(blob) for blob in opened.blobs()] == blobs
        offset += row.stored


def open_all(keys: KeyRing, data: bytes, bounds: list[int]) -> None:
    for start, end in pairwise(bounds):
        segment.open_segment(data[start:end], keys, compressors)
    read_table(keys, Kind.DATA, data)


def open_sections(keys: KeyRing, data: bytes) -> None:
    for kind, (offset, length) in index_parts(data, len(data)).items():
        decode_section(keys, kind, data[offset : offset + length], ZSTD)


def test_every_flipped_byte_of_a_pack_is_noticed(keys: KeyRing) -> None:
    _pack, _digest, data = make_pack(keys, [[b"one", b"two"], [b"three"]])
    rows = read_table(keys, Kind.DATA, data).rows
    bounds = [0]
    for row in rows:
        bounds.append(bounds[-1] + row.stored)
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 0x40
        with pytest.raises(IntegrityError):
            open_all(keys, bytes(bad), bounds)


def test_segment_of_another_repository_is_refused(keys: KeyRing) -> None:
    from freezer_sdk.engines.dedup.access import create_repository

    other = create_repository(MemoryStorage(), password="correct horse")
    _pack, _digest, data = make_pack(keys, [[b"one"]])
    rows = read_table(keys, Kind.DATA, data).rows
    with pytest.raises(IntegrityError):
        segment.open_segment(data[: rows[0].stored], other, compressors)
    with pytest.raises(IntegrityError):
        read_table(other, Kind.DATA, data)


class Lossy(Compressor):
    """Gives back something else, as a broken library or memory would."""

    name = id = "zstd"
    api_version = 1
    summary = ""
    levels, default_level = (1, 1), 1

    def compress(self, data: Buffer, *, level: int | None = None) -> bytes:
        return ZSTD.compress(bytes(data)[:-1] + b"?")

    def decompress(self, data: Buffer, *, size: int) -> bytes:
        return ZSTD.decompress(data, size=size)

    def encoder(self, *, level: int | None = None) -> object:  # type: ignore[override]
        raise AssertionError

    def decoder(self) -> object:  # type: ignore[override]
        raise AssertionError


def test_a_compressor_that_damages_data_stores_nothing() -> None:
    with pytest.raises(IntegrityError, match="damaged a segment"):
        segment.compress(b"abc" * 1000, Lossy(), None)


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        (0, 0),
        (1, 1),
        (2, 2),
        (9, 10),
        (100, 104),
        (1000, 1024),
        (1 << 20, 1 << 20),
        ((1 << 20) + 1, (1 << 20) + (1 << 15)),
    ],
)
def test_padme(size: int, wanted: int) -> None:
    assert segment.padded(size) == wanted


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_no_segment(keys: KeyRing, data: bytes) -> None:
    for candidate in (data, segment.MAGIC + data):
        with pytest.raises(IntegrityError):
            segment.open_segment(candidate, keys, compressors)
        with pytest.raises(IntegrityError):
            read_table(keys, Kind.DATA, candidate)


@given(st.binary(max_size=200))
def test_tables_raise_only_integrity_errors(data: bytes) -> None:
    try:
        decode_table(data)
    except IntegrityError:
        pass


def rows_of(rng: random.Random, count: int) -> list[SegmentRow]:
    rows = []
    for _ in range(count):
        lengths = [rng.randrange(1, 10_000) for _ in range(rng.randrange(1, 90))]
        rows.append(SegmentRow(sum(lengths) // 3, [rng.randbytes(32) for _ in lengths], lengths))
    return rows


@pytest.mark.parametrize("segments", [1, 10, 300])
def test_index_finds_every_blob(keys: KeyRing, segments: int) -> None:
    rng = random.Random(segments)
    packs = [PackRows(kind, rng.randbytes(32), 0, rows_of(rng, segments), ME) for kind in Kind for _ in range(3)]
    data = encode_index(keys, [section_of(kind, [p for p in packs if p.kind is kind], ME) for kind in Kind], ZSTD)
    parts = index_parts(data[: HEADER.size], len(data))
    index = BlobIndex(trusts=everybody)
    for kind, (offset, length) in parts.items():
        index.add(decode_section(keys, kind, data[offset : offset + length], ZSTD))
    for pack in packs:
        offset = 0
        for row in pack.rows:
            start = 0
            for blob, length in zip(row.ids, row.lengths, strict=True):
                assert index.find(pack.kind, blob) == (pack.kind, pack.digest, offset, row.stored, start, length)
                assert index.reusable(pack.kind, blob)
                start += length
            offset += row.stored
    assert index.find(Kind.DATA, rng.randbytes(32)) is None
    assert decode_table(encode_table(packs[0].rows))[0].lengths == tuple(packs[0].rows[0].lengths)


@pytest.mark.parametrize(
    "row", [SegmentRow(segment.MAX_STORED + 1, [bytes(32)], [1]), SegmentRow(1000, [bytes(32)], [MAX_BLOB + 1])]
)
def test_a_table_beyond_the_limits_is_refused(row: SegmentRow) -> None:
    good = SegmentRow(segment.MAX_STORED, [bytes(32)], [MAX_BLOB])
    assert len(decode_table(encode_table([good]))) == 1
    with pytest.raises(IntegrityError):
        decode_table(encode_table([good, row]))


def test_an_index_with_a_segment_beyond_the_limits_is_refused(keys: KeyRing) -> None:
    for stored, allowed in ((segment.MAX_STORED, True), (segment.MAX_STORED + 1, False)):
        packs = [PackRows(Kind.DATA, bytes(32), 0, [SegmentRow(stored, [bytes(32)], [1])], ME)]
        data = encode_index(keys, [section_of(Kind.DATA, packs, ME)], ZSTD)
        if allowed:
            open_sections(keys, data)
            continue
        with pytest.raises(IntegrityError):
            open_sections(keys, data)


def test_every_flipped_byte_of_an_index_is_noticed(keys: KeyRing) -> None:
    rng = random.Random(7)
    packs = [PackRows(Kind.META, rng.randbytes(32), 0, rows_of(rng, 1), ME)]
    data = encode_index(keys, [section_of(Kind.META, packs, ME)], ZSTD)
    for at in range(0, len(data), 1 if len(data) < 4000 else 7):
        bad = bytearray(data)
        bad[at] ^= 1
        with pytest.raises(IntegrityError):
            open_sections(keys, bytes(bad))


def test_a_blob_in_a_condemned_pack_is_not_reused_but_still_found() -> None:
    rng = random.Random(1)
    shared, only = rng.randbytes(32), rng.randbytes(32)
    good = PackRows(Kind.DATA, rng.randbytes(32), 0, [SegmentRow(10, [shared], [5])], ME)
    bad = PackRows(Kind.DATA, rng.randbytes(32), 0, [SegmentRow(10, [shared, only], [5, 5])], ME)
    for order in ([good, bad], [bad, good]):
        index = BlobIndex(frozenset({bad.digest}), trusts=everybody)
        for pack in order:
            index.add(section_of(Kind.DATA, [pack], ME))
        place = index.find(Kind.DATA, shared)
        assert place is not None
        assert place.pack == good.digest
        assert index.reusable(Kind.DATA, shared)
        assert not index.reusable(Kind.DATA, only)
        assert index.find(Kind.DATA, only) is not None


def test_writer_stores_each_blob_once_and_names_packs_by_content(storage: MemoryStorage, keys: KeyRing) -> None:
    import hashlib

    index = BlobIndex(trusts=keys.trusts)
    writer = BlobWriter(
        Handle(storage, keys, Settings(pack_size=1 << 20), compressors),
        index,
        load_index=lambda: None,
        cancel=CancelToken(),
    )
    rng = random.Random(3)
    blobs = [rng.randbytes(rng.randrange(1, 200_000)) for _ in range(60)]
    first = [writer.store(Kind.DATA, blob) for blob in blobs]
    assert [writer.store(Kind.DATA, blob) for blob in blobs] == first
    flushed: list[int] = []
    writer.finish(lambda: flushed.append(len(list(storage.list("index/")))))
    writer.close()
    assert flushed == [0, 1]
    assert writer.added_raw_bytes == sum(len(blob) for blob in blobs)
    packs = list(storage.list("packs/"))
    assert len(packs) > 3
    for info in packs:
        digest = hashlib.sha256(storage.get(info.name)).digest()
        assert info.name == pack_name(Kind.DATA, digest)
    for blob in first:
        place = index.find(Kind.DATA, blob)
        assert place is not None
        data = storage.get(pack_name(Kind.DATA, place.pack), offset=place.offset, length=place.stored)
        found = segment.open_segment(data, keys, compressors).blob(place.start, place.length)
        assert blob_id(keys.data_hash_key(), found) == blob


def store_all(storage: Storage, keys: KeyRing, blobs: list[bytes]) -> BlobWriter:
    handle = Handle(storage, keys, Settings(), compressors)
    writer = BlobWriter(handle, BlobIndex(trusts=keys.trusts), load_index=lambda: None, cancel=CancelToken())
    try:
        for blob in blobs:
            writer.store(Kind.DATA, blob)
        writer.finish(storage.flush)
    finally:
        writer.close()
    return writer


def test_very_many_tiny_blobs_stay_within_the_limits_of_readers(
    monkeypatch: pytest.MonkeyPatch, storage: MemoryStorage, keys: KeyRing
) -> None:
    for name, value in {"_SEGMENT_BLOBS": 50, "_PACK_BLOBS": 300, "MERGED_BLOBS": 700}.items():
        monkeypatch.setattr(writing, name, value)
    writer = store_all(storage, keys, [b"%d" % number for number in range(2000)])
    sections = []
    for name in writer.indexes:
        data = storage.get(name)
        for kind, (offset, length) in index_parts(data, len(data)).items():
            sections.append(decode_section(keys, kind, data[offset : offset + length], ZSTD))
    assert len(sections) >= 3
    assert sum(len(section) for section in sections) == 2000
    for section in sections:
        assert len(section) <= 700
        per_segment = [section.segment_of.count(number) for number in range(len(section.stored))]
        assert max(per_segment) == 50
        per_pack = [section.first_segments[n + 1] - section.first_segments[n] for n in range(len(section.packs))]
        assert max(per_pack) <= 6


def test_what_an_index_could_not_be_written_for_is_still_known(storage: MemoryStorage, keys: KeyRing) -> None:
    faulty = FaultyStorage(storage, Fault(fail(StorageUnavailable("down")), methods={"put"}, prefix="index/"))
    handle = Handle(faulty, keys, Settings(), compressors)
    writer = BlobWriter(handle, BlobIndex(trusts=keys.trusts), load_index=lambda: None, cancel=CancelToken())
    writer.store(Kind.DATA, b"content")
    with pytest.raises(StorageUnavailable):
        writer.finish(faulty.flush)
    writer.close()
    assert writer.unindexed
    writer.settle(faulty.flush)
    assert not writer.unindexed
    assert len(list(storage.list("index/"))) == 1
