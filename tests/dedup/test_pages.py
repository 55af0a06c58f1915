"""Pages and content references: what goes in comes out, and small changes touch little."""

from __future__ import annotations

import hashlib
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.engines.dedup.page import (
    EMPTY,
    INLINE,
    Content,
    ContentBuilder,
    Page,
    content_ids,
    encode_page,
    store_directory,
)
from freezer_sdk.errors import IntegrityError
from freezer_sdk.modes.base import STAT


class Store(dict[bytes, bytes]):
    """Content-addressed, in memory."""

    def put(self, data: bytes) -> bytes:
        key = hashlib.sha256(data).digest()
        self[key] = data
        return key


def ids(count: int, salt: int = 0) -> list[bytes]:
    return [hashlib.sha256(struct.pack("<QQ", salt, number)).digest() for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, INLINE, INLINE + 1, 100, 5000, 60_000])
def test_content_gives_back_its_ids(count: int) -> None:
    store = Store()
    builder = ContentBuilder(store.put)
    wanted = ids(count)
    for blob in wanted:
        builder.add(blob)
    content = builder.finish()
    assert len(content.ids) <= 32 * INLINE
    assert list(content_ids(content, store.__getitem__)) == wanted


def test_one_changed_chunk_rewrites_few_lists() -> None:
    before, after = Store(), Store()
    wanted = ids(60_000)
    for store in (before, after):
        builder = ContentBuilder(store.put)
        for blob in wanted:
            builder.add(blob)
        builder.finish()
        wanted[30_000] = bytes(32 * [255])
    new = after.keys() - before.keys()
    assert 1 <= len(new) <= 5
    assert sum(len(after[key]) for key in new) < 40 * 1024 * 32


def test_content_without_any_cut_still_ends() -> None:
    store = Store()
    builder = ContentBuilder(store.put)
    wanted = [struct.pack("<I", 1) + bytes(28)] * 40_000
    for blob in wanted:
        builder.add(blob)
    assert list(content_ids(builder.finish(), store.__getitem__)) == wanted


def test_hostile_depth_is_refused() -> None:
    with pytest.raises(IntegrityError):
        list(content_ids(Content(15, bytes(32)), lambda blob: b"L\0" + blob))


names = st.lists(
    st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name), unique=True, max_size=60
).map(sorted)


@given(names, st.randoms(use_true_random=False))
def test_page_round_trip(listed: list[bytes], rng: object) -> None:
    stats = b"".join(STAT.pack(0o100644, n, n, 0, n, -n, n, n) for n in range(len(listed)))
    contents = [Content(n % 3, b"".join(ids(n % (INLINE + 1), n))) for n in range(len(listed))]
    extras = [(n, [(1, b"x" * n), (2, b"")]) for n in range(0, len(listed), 3)]
    page = Page(encode_page(listed, stats, contents, extras))
    assert page.names == listed
    assert page.stats == stats
    assert [c.ids for c in page.contents] == [c.ids for c in contents]
    assert page.extras() == dict(extras)


@given(st.binary(max_size=300))
def test_damaged_pages_raise_only_integrity_errors(data: bytes) -> None:
    for candidate in (data, b"P\0\0\0" + data):
        try:
            page = Page(candidate)
            assert len(page.names) == page.count
            page.attributes()
            page.extras()
            assert len(page.contents) == page.count
        except IntegrityError:
            pass


def test_large_directory_changes_one_page() -> None:
    listed = sorted(b"mail-%06d" % n for n in range(50_000))

    def stored(listed: list[bytes]) -> Store:
        store = Store()
        stats = b"".join(STAT.pack(0o100644, 0, 0, 0, 1, 1, 1, zlib.crc32(name)) for name in listed)
        content = store_directory(listed, stats, [Content(0, bytes(32))] * len(listed), [], store.put)
        found = [Page(store[blob]) for blob in content_ids(content, store.__getitem__)]
        assert [name for page in found for name in page.names] == listed
        return store

    before, after = stored(listed), stored(sorted([*listed, b"mail-025000-new"]))
    new = [key for key in after if key not in before]
    assert len(new) <= 4
    assert len(before) > 20


def test_empty_directory_needs_no_page() -> None:
    assert store_directory([], b"", [], [], Store().put) is EMPTY
