"""Loading many indexes: each is fetched once, on several threads, and what is wrong with one harms no other."""

from __future__ import annotations

import hashlib
import random

import pytest

from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import BlobIndex, PackRows, encode_index, section_of
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import Kind, index_name
from freezer_sdk.engines.dedup.loading import IndexLoader
from freezer_sdk.engines.dedup.pack import SegmentRow
from freezer_sdk.engines.dedup.settings import Settings
from freezer_sdk.errors import StorageUnavailable
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing import Fault, FaultyStorage
from freezer_sdk.testing.faults import Call, fail

ZSTD = ZstdCompressor()


def fill(storage: MemoryStorage, keys: KeyRing, count: int, *, blobs: int = 3) -> dict[str, list[bytes]]:
    """Indexes, and the blobs in each."""
    rng = random.Random(count)
    found = {}
    for _ in range(count):
        ids = [rng.randbytes(32) for _ in range(blobs)]
        pack = PackRows(Kind.DATA, rng.randbytes(32), 0, [SegmentRow(500, ids, [7] * blobs)], keys.slot_id)
        data = encode_index(keys, [section_of(Kind.DATA, [pack], keys.slot_id)], ZSTD)
        name = index_name(hashlib.sha256(data).digest())
        storage.put(name, [data])
        found[name] = ids
    return found


def gets(storage: FaultyStorage) -> list[Call]:
    return [call for call in storage.calls if call.method == "get"]


def loader(storage: FaultyStorage, keys: KeyRing, threads: int | None = None) -> IndexLoader:
    return IndexLoader(Handle(storage, keys, Settings(threads=threads), lambda _name: ZSTD))


@pytest.mark.parametrize(("count", "threads"), [(3, None), (60, None), (60, 1)])
def test_each_index_is_fetched_once(storage: MemoryStorage, keys: KeyRing, count: int, threads: int | None) -> None:
    blobs = fill(storage, keys, count)
    faulty, index = FaultyStorage(storage), BlobIndex(trusts=keys.trusts)
    loading = loader(faulty, keys, threads)
    assert loading.load(index, Kind.DATA) == []
    assert sorted(call.name for call in gets(faulty)) == sorted(blobs)
    assert all(index.find(Kind.DATA, blob) for ids in blobs.values() for blob in ids)
    more = fill(storage, keys, 20)
    loading.load(index, Kind.DATA)
    assert sorted(call.name for call in gets(faulty)[count:]) == sorted(more)


def test_large_indexes_are_read_only_as_far_as_they_are_needed(storage: MemoryStorage, keys: KeyRing) -> None:
    fill(storage, keys, 20, blobs=3000)
    index = BlobIndex(trusts=keys.trusts)
    faulty = FaultyStorage(storage)
    loader(faulty, keys).load(index, Kind.META)  # there is nothing of the kind: headers tell
    assert len(gets(faulty)) == 20
    assert index.sections == []
    loader(faulty, keys).load(index, Kind.DATA)
    assert len(gets(faulty)) == 60
    assert sum(map(len, index.sections)) == 60_000


def test_damaged_and_vanished_indexes_harm_no_others(storage: MemoryStorage, keys: KeyRing) -> None:
    blobs = fill(storage, keys, 40)
    damaged, vanished, *good = blobs
    storage.put(damaged, [storage.get(damaged)[:-1] + b"?"])
    faulty = FaultyStorage(
        storage, Fault(lambda _call: storage.delete(vanished), methods={"get"}, prefix=min([*good, vanished]))
    )
    index = BlobIndex(trusts=keys.trusts)
    loader(faulty, keys).load(index, Kind.DATA)
    for name in good:
        assert all(index.find(Kind.DATA, blob) for blob in blobs[name])
    assert not any(index.find(Kind.DATA, blob) for blob in blobs[damaged])


def test_a_storage_that_cannot_be_read_is_said_to_be_so(storage: MemoryStorage, keys: KeyRing) -> None:
    fill(storage, keys, 40)
    faulty = FaultyStorage(storage, Fault(fail(StorageUnavailable("down")), at=30, times=None, methods={"get"}))
    with pytest.raises(StorageUnavailable):
        loader(faulty, keys).load(BlobIndex(), Kind.DATA)
