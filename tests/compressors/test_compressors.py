from __future__ import annotations

import bz2
import gzip
import importlib.util
import lzma
import shutil
import subprocess
import sys
import zlib
from importlib import metadata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk.compressors import gzip as gzip_module
from freezer_sdk.compressors.bzip2 import Bzip2Compressor
from freezer_sdk.compressors.gzip import GzipCompressor
from freezer_sdk.compressors.lz4 import Lz4Compressor
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


def _without_isal():
    """The compressor as it is where the library is not installed."""
    spec = importlib.util.spec_from_file_location("gzip_without_isal", gzip_module.__file__)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "isal", None)
        spec.loader.exec_module(module)
    assert module.isal_zlib is None
    return module.GzipCompressor


PlainGzip = _without_isal()
KINDS = [
    NoCompressor,
    ZstdCompressor,
    ZlibCompressor,
    Bzip2Compressor,
    XzCompressor,
    GzipCompressor,
    PlainGzip,
    Lz4Compressor,
]


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


class TestGzip(CompressorSuite):
    make_compressor = GzipCompressor


class TestGzipWithoutIsal(CompressorSuite):
    make_compressor = PlainGzip


class TestLz4(CompressorSuite):
    make_compressor = Lz4Compressor


def decode(kind, stream, *, step=1000, limit=1 << 20):
    decoder, plain = kind().decoder(), b""
    for start in range(0, len(stream), step):
        piece = decoder.write(stream[start : start + step], limit=limit)
        while piece:
            plain += piece
            piece = decoder.write(b"", limit=limit)
    return plain, decoder.finished


@pytest.mark.parametrize("kind", [GzipCompressor, PlainGzip])
class TestGzipStreams:
    """What ``gzip -d`` takes."""

    MEMBERS = (b"first " * 900, b"", b"third " * 2000)

    @pytest.mark.parametrize("step", [1, 7, 1000, 1 << 20])
    def test_members_are_joined(self, kind, step):
        stream = b"".join(gzip.compress(each) for each in self.MEMBERS)
        assert decode(kind, stream, step=step) == (b"".join(self.MEMBERS), True)
        assert decode(kind, stream, step=step, limit=100) == (b"".join(self.MEMBERS), True)

    @pytest.mark.parametrize("step", [1, 1000])
    def test_zeros_may_follow(self, kind, step):
        assert decode(kind, gzip.compress(b"x") + bytes(5000), step=step) == (b"x", True)

    @pytest.mark.parametrize("tail", [b"more", b"\0" * 10 + b"x", b"\0" + gzip.compress(b"y", mtime=0)])
    @pytest.mark.parametrize("step", [1, 1000])
    def test_nothing_else_may(self, kind, tail, step):
        with pytest.raises(IntegrityError):
            decode(kind, gzip.compress(b"x") + tail, step=step)

    def test_a_member_that_is_cut_is_noticed(self, kind):
        second = gzip.compress(b"second" * 100)
        for length in range(1, len(second)):
            _, finished = decode(kind, gzip.compress(b"first") + second[:length])
            assert not finished

    def test_no_time_and_no_name_is_stored(self, kind):
        encoder = kind().encoder()
        assert (encoder.write(b"x") + encoder.finish())[:8] == b"\x1f\x8b\x08\x00\0\0\0\0"


@pytest.mark.parametrize("kind", [GzipCompressor, PlainGzip])
@pytest.mark.parametrize("level", [1, 2, 3, 4, 9])
def test_gzip_itself_reads_it(kind, level):
    if shutil.which("gzip") is None:
        pytest.skip("needs gzip")
    encoder, plain = kind().encoder(level=level), b"freezer " * 50_000
    stream = encoder.write(plain) + encoder.finish()
    done = subprocess.run(["gzip", "-dc"], input=stream, capture_output=True, check=True)
    assert done.stdout == plain
    assert not done.stderr


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
     (XzCompressor, lzma.decompress), (GzipCompressor, gzip.decompress), (PlainGzip, gzip.decompress)],
)  # fmt: skip
def test_frames_are_those_of_the_named_format(compressor, decompress):
    plain = b"freezer " * 5000
    assert decompress(compressor().compress(plain)) == plain
    encoder = compressor().encoder()
    assert decompress(encoder.write(plain) + encoder.finish()) == plain


@pytest.mark.parametrize("kind", KINDS)
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
    assert {"none", "zstd", "zlib", "bzip2", "xz", "gzip", "lz4"} <= set(found)
