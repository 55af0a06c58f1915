"""Streams that somebody made or damaged on purpose: nothing but an IntegrityError, and never much memory or time."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import tracemalloc
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tar.chain import TAR, Chain, levels_of, read_files
from tar.test_reading import FORMATS, make_source

from freezer_sdk.engines.tar.reading import dumpdir, pax, read_levels
from freezer_sdk.engines.tar.reading.acl import BadAcl, packed
from freezer_sdk.engines.tar.reading.numbers import BadNumber, field, time
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.posix import Owners
from freezer_sdk.model import Problem

needs_tar = pytest.mark.skipif(TAR is None, reason="GNU tar is not installed")


@cache
def streams(options: tuple[str, ...]) -> tuple[bytes, ...]:
    """Three levels of a small tree with every kind of entry, and with renamed directories."""
    with tempfile.TemporaryDirectory(prefix="freezer-test-") as scratch:
        root = Path(scratch) / "source"
        make_source(root)
        (root / "large").write_bytes(b"large" * 300)
        for path in root.glob("sparse-*"):
            path.unlink()
        with open(root / "sparse", "wb") as file:  # more ranges than one header has, and still small
            for number in range(30):
                file.seek(number * 8192)
                file.write(b"data")
            file.truncate(300_000)
        (root / "one").mkdir()
        (root / "two").mkdir()
        (root / "one" / "file").write_text("1")
        chain = Chain(root, Path(scratch), *options)
        chain.backup()
        os.rename(root / "one", root / "three")
        os.rename(root / "two", root / "one")
        os.rename(root / "three", root / "two")
        chain.backup()
        (root / "large").write_text("small")
        chain.backup()
        return tuple(chain.streams)


def survive(*found: bytes) -> None:
    """Reads everything; damage is told, or is an IntegrityError."""
    problems: list[Problem] = []
    try:
        content = read_levels(levels_of(found), problem=problems.append)
    except IntegrityError as error:
        assert " at byte " in error.message  # noqa: PT017 - any other error fails the test by itself
        return
    for entry in content.entries():
        assert b".." not in entry.path.split(b"/")
        assert not entry.path.startswith(b"/")
        assert b"\0" not in entry.path
        assert 0 <= entry.size < 2**63
        assert 0 <= entry.uid < 2**32
    if sum(entry.size for entry in content.entries()) < 64 << 20:
        read_files(content)
    else:
        for _ in content.pieces(lambda path: True):
            pass


def resum(stream: bytearray) -> None:
    """Makes the checksums of headers right again, so that what they say is believed."""
    for at in range(0, len(stream) - 511, 512):
        if stream[at + 257 : at + 262] == b"ustar":
            block = stream[at : at + 512]
            block[148:156] = b" " * 8
            stream[at + 148 : at + 156] = b"%06o\0 " % sum(block)


@needs_tar
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_changed_bytes(data: st.DataObject) -> None:
    options = data.draw(st.sampled_from(sorted(FORMATS.values())))
    found = [bytearray(stream) for stream in streams(options)]
    for _ in range(data.draw(st.integers(1, 6))):
        stream = found[data.draw(st.integers(0, 2))]
        headers = [at for at in range(0, len(stream), 512) if stream[at + 257 : at + 262] == b"ustar"]
        block = data.draw(st.sampled_from(headers)) if headers else 0
        block += data.draw(st.sampled_from([0, 0, 0, 512]))
        new = data.draw(
            st.binary(min_size=1, max_size=12) | st.sampled_from([b"\x80" + b"\xff" * 11, b"7" * 11, b"-1"])
        )
        at = block + data.draw(st.integers(0, 500))
        stream[at : at + len(new)] = new
    if data.draw(st.booleans()):
        for stream in found:
            resum(stream)
    survive(*map(bytes, found))


@needs_tar
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_cut_doubled_and_shuffled_streams(data: st.DataObject) -> None:
    options = data.draw(st.sampled_from(sorted(FORMATS.values())))
    found = list(streams(options))
    number = data.draw(st.integers(0, 2))
    stream = found[number]
    first = data.draw(st.integers(0, len(stream) // 512)) * 512 + data.draw(st.sampled_from([0, 0, 1, 511]))
    second = data.draw(st.integers(0, len(stream) // 512)) * 512
    length = data.draw(st.integers(0, 40)) * 512
    found[number] = (
        stream[:first]
        + data.draw(st.sampled_from([b"", stream[second : second + length]]))
        + stream[first + data.draw(st.sampled_from([0, length])) :]
    )
    order = data.draw(st.permutations(found))
    survive(*order)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, 2))
def test_anything_at_all(data: bytes, zeros: int) -> None:
    survive(data + bytes(512 * zeros))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_parts_raise_their_own_errors_only(data: bytes) -> None:
    for call, error in (
        (lambda: dumpdir.parse(data), dumpdir.BadDumpdir),
        (lambda: dumpdir.parse(data + b"\0\0"), dumpdir.BadDumpdir),
        (lambda: pax.parse(data), pax.BadHeader),
        (lambda: packed(data, Owners()), BadAcl),
        (lambda: field((data + bytes(12))[:12]), BadNumber),
        (lambda: time(data), BadNumber),
    ):
        try:
            call()
        except error:
            pass


def header(name: bytes, kind: bytes, size: int) -> bytes:
    block = bytearray(512)
    block[: len(name)] = name
    block[100:107], block[108:115], block[116:123], block[136:147] = b"0000644", b"0000000", b"0000000", b"0" * 11
    block[124:136] = b"\x80" + size.to_bytes(11, "big")
    block[156:157], block[257:265] = kind, b"ustar  \0"
    stream = bytearray(block)
    resum(stream)
    return bytes(stream)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g", b"D", b"0", b"S", b"V"])
@pytest.mark.parametrize("size", [1 << 20, 1 << 40, (1 << 63) - 1])
def test_sizes_that_lie_take_no_memory(kind: bytes, size: int) -> None:
    tracemalloc.start()
    try:
        survive(header(b"name", kind, size) + bytes(4096))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_deep_and_long_names_are_bounded() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in range(50):
            archive.addfile(tarfile.TarInfo(f"{number}/" + "a/" * 30_000 + "b"))
    tracemalloc.start()
    try:
        survive(buffer.getvalue())
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@needs_tar
def test_reading_needs_no_program(tmp_path: Path) -> None:
    """Neither GNU tar nor any other one is started."""
    (tmp_path / "stream").write_bytes(streams(FORMATS["posix"])[0])
    script = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "sys.addaudithook(lambda event, args: sys.exit('started ' + event) if event.startswith("
        "('subprocess', 'os.exec', 'os.posix_spawn', 'os.system', 'os.fork')) else None)\n"
        "from tar.chain import levels_of, read_files\n"
        "from freezer_sdk.engines.tar.reading import read_levels\n"
        "content = read_levels(levels_of([open(sys.argv[1], 'rb').read()]), problem=print)\n"
        "assert len(read_files(content)) > 5\n"
    )
    folders = [str(Path(__file__).parents[1])]
    command = [sys.executable, "-c", script, str(tmp_path / "stream"), *folders]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
