from __future__ import annotations

import bz2
import lzma
import sys
import zlib
from importlib import metadata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk.compressors.bzip2 import Bzip2Compressor
from freezer_sdk.compressors.none import NoCompressor
from freezer_sdk.compressors.xz import XzCompressor
from freezer_sdk.compressors.zlib import ZlibCompressor
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.errors import IntegrityError
from freezer_sdk.testing.compressor_suite import CompressorSuite, run_suite

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class TestNone(CompressorSuite):
    make_compressor = NoCompressor


class TestZstd(CompressorSuite):
    make_compressor = ZstdCompressor


class TestZlib(CompressorSuite):
    make_compressor = ZlibCompressor


class TestBzip2(CompressorSuite):
    make_compressor = Bzip2Compressor


class TestXz(CompressorSuite):
    make_compressor = XzCompressor


def test_zstd_frames_record_their_size_and_window():
    """Any zstd library can size its buffer from the frame alone."""
    frame = ZstdCompressor().compress(bytes(100_000))
    assert zstd.get_frame_info(frame).decompressed_size == 100_000


def test_zstd_refuses_a_window_larger_than_the_data():
    encoder = ZstdCompressor().encoder(level=22)  # unknown length: asks its reader for the window of the level
    frame = encoder.write(b"x" * 1000) + encoder.finish()
    with pytest.raises(IntegrityError, match="zstd"):
        ZstdCompressor().decompress(frame, size=1000)


@pytest.mark.parametrize(
    ("compressor", "decompress"),
    [(ZstdCompressor, zstd.decompress), (ZlibCompressor, zlib.decompress), (Bzip2Compressor, bz2.decompress),
     (XzCompressor, lzma.decompress)],
)  # fmt: skip
def test_frames_are_those_of_the_named_format(compressor, decompress):
    plain = b"freezer " * 5000
    assert decompress(compressor().compress(plain)) == plain
    encoder = compressor().encoder()
    assert decompress(encoder.write(plain) + encoder.finish()) == plain


@pytest.mark.parametrize("kind", [NoCompressor, ZstdCompressor, ZlibCompressor, Bzip2Compressor, XzCompressor])
@given(plain=st.binary(max_size=5000), garbage=st.binary(max_size=300))
@settings(max_examples=40, deadline=None)
def test_any_bytes_come_back_and_any_garbage_is_refused(kind, plain, garbage):
    compressor = kind()
    assert compressor.decompress(compressor.compress(plain), size=len(plain)) == plain
    try:
        assert len(compressor.decompress(garbage, size=len(plain))) == len(plain)
    except IntegrityError:
        pass


def test_the_suite_finds_a_compressor_that_breaks_its_promises():
    class Careless(ZlibCompressor):
        def decompress(self, data, *, size):
            return zlib.decompress(data)

    failed = {result.name for result in run_suite(Careless) if result.outcome == "failed"}
    assert {"refuses_another_size", "refuses_cut_frames", "memory_is_bounded_by_size"} <= failed
    assert "gives_back_what_it_took" not in failed


def test_the_suite_runs_without_pytest():
    results = run_suite(ZstdCompressor)
    assert results
    assert all(result.outcome == "passed" for result in results), results


def test_entry_points_name_these_classes():
    found = {entry.name: entry.load() for entry in metadata.entry_points(group="freezer_sdk.compressors")}
    assert {name: kind.id for name, kind in found.items()} == {name: name for name in found}
    assert {"none", "zstd", "zlib", "bzip2", "xz"} <= set(found)
