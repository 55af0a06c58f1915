"""Hashes of streams, made beside the reading."""

from __future__ import annotations

import hashlib
import threading

import pytest

from freezer_sdk.streams.hashing import StreamHash


@pytest.mark.parametrize("blocks", [0, 1, 4, 100])
def test_the_hash_is_that_of_all_bytes(blocks: int) -> None:
    expected = hashlib.sha256()
    with StreamHash() as digest:
        for number in range(blocks):
            block = b"%d" % number * 70_000
            expected.update(block)
            digest.update(block)
        assert digest.hexdigest() == expected.hexdigest()
        assert digest.size == sum(len(b"%d" % number) * 70_000 for number in range(blocks))


def test_its_thread_ends_with_the_context() -> None:
    before = threading.active_count()
    with StreamHash() as digest:
        for _ in range(10):
            digest.update(bytes(1 << 20))
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
