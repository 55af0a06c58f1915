"""The contract, as Freezer SDK tests it for everybody."""

from freezer_compressor_brotli.compressor import BrotliCompressor

from freezer_sdk.testing import CompressorSuite


class TestBrotli(CompressorSuite):
    make_compressor = BrotliCompressor


def test_frames_are_plain_brotli():
    import brotli

    assert brotli.decompress(BrotliCompressor().compress(b"freezer" * 100)) == b"freezer" * 100
