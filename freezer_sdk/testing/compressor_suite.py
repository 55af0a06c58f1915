"""The conformance suite for compressors.

A test of a compressor is two lines::

    class TestMine(CompressorSuite):
        make_compressor = MyCompressor
"""

from __future__ import annotations

import random
import re
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from freezer_sdk.compressors.base import Compressor, Decoder
from freezer_sdk.contract import API_VERSION
from freezer_sdk.errors import ConfigurationError, IntegrityError
from freezer_sdk.model import Buffer
from freezer_sdk.testing.suite import Result, Suite, check, check_equal, refused, run

_BOMB = 48 << 20
_WINDOW = 16 << 20  # what a method may take for its window, whatever the size


class CompressorSuite(Suite):
    """Tests of the Compressor contract; a subclass gives ``make_compressor``."""

    def make_compressor(self) -> Compressor:
        """A new compressor."""
        raise TypeError(f"{type(self).__name__} must define make_compressor")

    def setup_method(self) -> None:
        """Makes the compressor under test."""
        self.compressor = self.make_compressor()

    def test_declares_itself(self) -> None:
        """Name, id, levels and version make sense."""
        kind = type(self.compressor)
        check(re.fullmatch(r"[a-z0-9-]{1,16}", kind.id), f"id {kind.id!r} is not 1 to 16 characters of a-z0-9-")
        check_equal(kind.api_version, API_VERSION, "api_version")
        check(kind.name and kind.summary and "\n" not in kind.summary, "name and a summary of one line are needed")
        lowest, highest = kind.levels
        check(lowest <= kind.default_level <= highest, "default_level does not lie between the levels")
        check_equal(kind.available(), None, "available() here")

    def test_gives_back_what_it_took(self) -> None:
        """Every sample survives at the lowest, default and highest level."""
        for level in (None, *self.compressor.levels):
            for label, plain in _samples():
                frame = self.compressor.compress(plain, level=level)
                check(isinstance(frame, bytes), f"compress gave {type(frame).__name__}")
                back = self.compressor.decompress(frame, size=len(plain))
                check(isinstance(back, bytes) and back == plain, f"{label} came back changed at level {level}")

    def test_takes_every_kind_of_buffer(self) -> None:
        """bytes, bytearray and memoryview, on both ways, and from the middle of a larger one."""
        plain = _text(5000)
        frame = self.compressor.compress(plain)
        for wrap in (bytes, bytearray, memoryview, _middle):
            again = self.compressor.compress(wrap(plain))
            check(self.compressor.decompress(again, size=len(plain)) == plain, f"compress of {wrap.__name__}")
            check(self.compressor.decompress(wrap(frame), size=len(plain)) == plain, f"decompress of {wrap.__name__}")

    def test_refuses_levels_that_it_does_not_have(self) -> None:
        """One below the lowest, one above the highest."""
        lowest, highest = self.compressor.levels
        for level in (lowest - 1, highest + 1):
            with refused(ConfigurationError, what=f"compress at level {level}"):
                self.compressor.compress(b"x", level=level)
            with refused(ConfigurationError, what=f"an encoder of level {level}"):
                self.compressor.encoder(level=level)

    def test_refuses_another_size(self) -> None:
        """The length must be exact."""
        plain = _text(3000)
        frame = self.compressor.compress(plain)
        for size in (0, 1, len(plain) - 1, len(plain) + 1, 10 * len(plain)):
            with refused(IntegrityError, what=f"{len(plain)} bytes taken for {size}"):
                self.compressor.decompress(frame, size=size)

    def test_refuses_trailing_bytes(self) -> None:
        """Also a second frame is too much."""
        plain = _text(3000)
        frame = self.compressor.compress(plain)
        for tail in (b"\0", b"trailing", frame):
            with refused(IntegrityError, what=f"{len(tail)} bytes after a frame"):
                self.compressor.decompress(frame + tail, size=len(plain))

    def test_refuses_cut_frames(self) -> None:
        """A frame that ends early, anywhere."""
        plain = _text(3000)
        frame = self.compressor.compress(plain)
        for length in (*range(0, len(frame), max(1, len(frame) // 50)), len(frame) - 1):
            with refused(IntegrityError, what=f"the first {length} of {len(frame)} bytes"):
                self.compressor.decompress(frame[:length], size=len(plain))

    def test_damage_gives_nothing_but_an_integrity_error(self) -> None:
        """A flipped bit is found, or gives other bytes of the right length; never another error."""
        plain = _text(3000)
        frame = self.compressor.compress(plain)
        for position in range(0, len(frame), max(1, len(frame) // 200)):
            damaged = bytearray(frame)
            damaged[position] ^= 1 << (position % 8)
            try:
                back = self.compressor.decompress(damaged, size=len(plain))
            except IntegrityError:
                continue
            check_equal(len(back), len(plain), f"length after damage at {position}")

    def test_garbage_gives_nothing_but_an_integrity_error(self) -> None:
        """Bytes that never were a frame."""
        for seed in range(30):
            with refused(IntegrityError, what="garbage"):
                self.compressor.decompress(_noise(200 + seed, seed), size=1000)

    def test_memory_is_bounded_by_size(self) -> None:
        """A bomb is refused before it goes off."""
        frame = self.compressor.compress(bytes(_BOMB))
        tracemalloc.start()
        try:
            with refused(IntegrityError, what="a bomb"):
                self.compressor.decompress(frame, size=1000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        check(peak < _WINDOW, f"refusing a bomb of {_BOMB} bytes took {peak} bytes of memory")

    def test_streams_give_back_what_they_took(self) -> None:
        """Whatever the sizes of writes and limits."""
        for label, plain in _samples():
            for step, limit in ((1 << 20, 1 << 20), (1000, 333), (len(plain) or 1, 1 << 16)):
                stream = self._encode(plain, step)
                back, decoder = self._decode(stream, step, limit)
                check(back == plain, f"{label} came back changed with writes of {step}, limit {limit}")
                check(decoder.finished, f"{label}: the end of the stream was not seen")

    def test_a_stream_at_every_level(self) -> None:
        """Lowest and highest."""
        plain = _text(100_000)
        for level in self.compressor.levels:
            encoder = self.compressor.encoder(level=level)
            back, _ = self._decode(encoder.write(plain) + encoder.finish(), 4096, 4096)
            check(back == plain, f"the stream came back changed at level {level}")

    def test_a_decoder_keeps_its_limit(self) -> None:
        """A bomb comes out in small pieces only."""
        stream = self._encode(bytes(1 << 20), 1 << 16)
        decoder = self.compressor.decoder()
        piece = decoder.write(stream, limit=1000)
        count = 0
        while piece:
            check(len(piece) <= 1000, f"{len(piece)} bytes came out with a limit of 1000")
            count += len(piece)
            piece = decoder.write(b"", limit=1000)
        check_equal(count, 1 << 20, "bytes that came out")

    def test_a_cut_stream_is_noticed(self) -> None:
        """It never looks like the whole."""
        plain = _text(20_000)
        stream = self._encode(plain, 4096)
        for length in range(0, len(stream), max(1, len(stream) // 20)):
            back, decoder = self._decode(stream[:length], 4096, 4096)
            check(not (decoder.finished and back == plain), f"{length} of {len(stream)} bytes passed for the whole")

    def test_a_damaged_stream_gives_nothing_but_an_integrity_error(self) -> None:
        """A flipped bit, anywhere."""
        stream = self._encode(_text(20_000), 4096)
        for position in range(0, len(stream), max(1, len(stream) // 50)):
            damaged = bytearray(stream)
            damaged[position] ^= 0x10
            try:
                self._decode(bytes(damaged), 4096, 4096)
            except IntegrityError:
                continue

    def test_threads_share_one_compressor(self) -> None:
        """Several at once, on different data."""
        plains = [_text(20_000, seed) + _noise(5000, seed) for seed in range(32)]

        def round_trip(plain: bytes) -> bool:
            return all(
                self.compressor.decompress(self.compressor.compress(plain), size=len(plain)) == plain for _ in range(5)
            )

        with ThreadPoolExecutor(8) as pool:
            check(all(pool.map(round_trip, plains)), "data came back changed")

    def _encode(self, plain: bytes, step: int) -> bytes:
        encoder = self.compressor.encoder()
        pieces = [encoder.write(plain[start : start + step]) for start in range(0, len(plain), step)]
        return b"".join([*pieces, encoder.finish()])

    def _decode(self, stream: bytes, step: int, limit: int) -> tuple[bytes, Decoder]:
        decoder = self.compressor.decoder()
        pieces = []
        for start in range(0, len(stream), step):
            piece = decoder.write(stream[start : start + step], limit=limit)
            while piece:
                pieces.append(piece)
                piece = decoder.write(b"", limit=limit)
        return b"".join(pieces), decoder


def run_suite(
    make_compressor: Callable[[], Compressor], *, progress: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Runs the suite without a test framework.

    Args:
        make_compressor: gives a new compressor.
        progress: called with each result as soon as it is known.
    """

    class Bound(CompressorSuite):
        def make_compressor(self) -> Compressor:
            return make_compressor()

    return run(Bound(), progress=progress)


def _samples() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "one byte", b"x"
    yield "text", _text(50_000)
    yield "noise", _noise(70_000, 1)
    yield "zeros", bytes(300_000)
    yield "a mixture", _text(40_000) + _noise(40_000, 2) + bytes(40_000)


def _text(size: int, seed: int = 0) -> bytes:
    words = [b"backup", b"restore", b"verify", b"storage", b"segment", b"pack", b"index", b"level"]
    source = random.Random(seed)  # noqa: S311 - test data
    text = b" ".join(source.choice(words) + b"%d" % source.randrange(1000) for _ in range(size // 6 + 1))
    return text[:size]


def _noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)  # noqa: S311 - test data


def _middle(data: bytes) -> Buffer:
    return memoryview(b"<<" + data + b">>")[2:-2]
