"""Streams of levels: what is written is read again, by openssl, gzip and others too; damage is told."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import subprocess
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk import plugins
from freezer_sdk.crypto.openssl import OpenSslEncryptor
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Codec, LevelStream, OpenSslPassword, Written
from freezer_sdk.engines.chains.coding import NONE, OPENSSL, SEALED, Coding
from freezer_sdk.engines.chains.content import Content
from freezer_sdk.engines.chains.keys import Keys
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.errors import IntegrityError, UnsupportedFormat, WrongPassword
from freezer_sdk.model import JSON, Buffer
from freezer_sdk.modes.base import ProblemHandler, Protected
from freezer_sdk.storages.base import Storage
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.testing.faults import damage

PASSWORD = "correct horse"


class BareCodec(Codec):
    """Has streams, and no format in them."""

    folder = "bare"
    compressions: ClassVar = {"gzip": "gzip", "bzip2": "bzip2", "xz": "xz", "deflate": "zlib"}
    padding = 16

    def write(
        self,
        protected: Protected,
        *,
        level: int,
        base: bytes | None,
        output: Callable[[Buffer], None],
        context: Context,
        problem: ProblemHandler,
    ) -> Written:
        raise AssertionError("nobody calls this")

    def check_state(self, state: bytes) -> None:
        raise AssertionError("nobody calls this")

    def metadata(self, *, compression: str, encrypted: bool) -> JSON:
        return {"engine_name": "bare", "compression": compression, "encryption": encrypted}

    def content(self, levels: Sequence[LevelStream], *, problem: ProblemHandler) -> Content:
        raise AssertionError("nobody calls this")

    def passwords(self, text: str) -> Sequence[OpenSslPassword]:
        return [OpenSslPassword(text.encode(), digest) for digest in ("sha256", "md5")]


def coding(storage: Storage, password: str | None = PASSWORD) -> Coding:
    def compressor(name: str) -> plugins.Compressor:
        return plugins.PluginRegistry().build(plugins.COMPRESSOR, name)

    return Coding(storage=storage, codec=BareCodec(), keys=Keys(lambda: password), compressor=compressor)


def level(cipher: str) -> LevelId:
    return LevelId(folder="bare-sealed" if cipher == SEALED else "bare", series="h_n", chain=5, level=0, time=5)


def store(storage: Storage, pieces: Sequence[bytes], *, compression: str = "gzip", cipher: str = NONE) -> LevelId:
    made, place = coding(storage), level(cipher)
    with made.writing(place, compression=compression, compression_level=None, cipher=cipher) as writer:
        for piece in pieces:
            writer.write(piece)
        stored = writer.commit()
    raw = storage.get(place.data)
    assert (stored.size, stored.sha256) == (len(raw), hashlib.sha256(raw).hexdigest())
    document = made.codec.metadata(compression=compression, encrypted=cipher != NONE)
    storage.put(
        place.metadata, [repr(document).replace("'", '"').replace("True", "true").replace("False", "false").encode()]
    )
    return place


def read(storage: Storage, place: LevelId, *, size: int = -1, password: str | None = PASSWORD) -> bytes:
    with coding(storage, password).stream(place).open() as reader:
        return b"".join(iter(partial(reader.read, size if size > 0 else 1 << 16), b""))


def read_all_there_is(storage: Storage, place: LevelId) -> tuple[bytes, Exception | None]:
    found = bytearray()
    try:
        with coding(storage).stream(place).open() as reader:
            while data := reader.read(4096):
                found += data
    except IntegrityError as error:
        return bytes(found), error
    return bytes(found), None


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=3000) | st.integers(0, 400_000).map(bytes), max_size=6),
    compression=st.sampled_from(list(BareCodec.compressions)),
    cipher=st.sampled_from([NONE, OPENSSL]),
    size=st.sampled_from([1 << 16, 1000, 512]),
)
def test_what_is_written_is_read_again(pieces: list[bytes], compression: str, cipher: str, size: int) -> None:
    storage = MemoryStorage()
    place = store(storage, pieces, compression=compression, cipher=cipher)
    assert read(storage, place, size=size) == b"".join(pieces)


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, 1_000_000])
def test_sealed_streams_are_read_again(size: int) -> None:
    storage, content = MemoryStorage(), os.urandom(size)
    place = store(storage, [content], cipher=SEALED)
    assert read(storage, place) == content


def test_the_stored_object_is_what_other_programs_read() -> None:
    storage, content = MemoryStorage(), os.urandom(100_000)
    for compression, expand in {"gzip": gzip.decompress, "bzip2": bz2.decompress, "xz": lzma.decompress}.items():
        place = store(storage, [content], compression=compression)
        assert expand(storage.get(place.data)) == content


def test_openssl_opens_what_is_written_for_exchange() -> None:
    storage, content = MemoryStorage(), os.urandom(100_000)
    place = store(storage, [content], cipher=OPENSSL)
    command = ["openssl", "enc", "-d", "-aes-256-cfb", "-md", "sha256", "-pass", f"pass:{PASSWORD}"]
    opened = subprocess.run(command, input=storage.get(place.data), capture_output=True, check=True).stdout
    assert gzip.decompress(opened) == content


@pytest.mark.parametrize("compression", list(BareCodec.compressions))
@pytest.mark.parametrize("digest", ["md5", "sha256"])
def test_the_digest_of_an_old_stream_is_found_out(compression: str, digest: str) -> None:
    storage, content = MemoryStorage(), os.urandom(70_000)
    place = store(storage, [content], compression=compression, cipher=OPENSSL)
    plain = coding(storage).compressor(BareCodec.compressions[compression]).compress(content)
    encryptor = OpenSslEncryptor(PASSWORD.encode(), digest=digest)
    storage.put(place.data, [encryptor.update(plain) + encryptor.finalize()])
    assert read(storage, place) == content


@pytest.mark.parametrize("padding", [1, 4, 16])
def test_padding_behind_an_encrypted_stream_is_no_damage(padding: int) -> None:
    storage, content = MemoryStorage(), os.urandom(70_000)
    place = store(storage, [content], compression="deflate", cipher=OPENSSL)
    encryptor = OpenSslEncryptor(PASSWORD.encode(), digest="md5")
    encrypted = encryptor.update(zlib.compress(content) + bytes([padding]) * padding) + encryptor.finalize()
    storage.put(place.data, [encrypted])
    assert read(storage, place) == content


@pytest.mark.parametrize("cipher", [OPENSSL, SEALED])
@pytest.mark.parametrize("password", ["wrong horse", None])
def test_a_wrong_password_is_told_before_anything_comes_out(cipher: str, password: str | None) -> None:
    storage = MemoryStorage()
    place = store(storage, [os.urandom(50_000)], cipher=cipher)
    stream = coding(storage, password).stream(place)
    with pytest.raises(WrongPassword), stream.open() as reader:
        reader.read(1)
    with pytest.raises(WrongPassword):
        stream.unlock()


@pytest.mark.parametrize("cipher", [NONE, OPENSSL, SEALED])
def test_a_stream_that_is_cut_gives_what_is_whole_and_tells(cipher: str) -> None:
    storage, content = MemoryStorage(), os.urandom(900_000)
    place = store(storage, [content], cipher=cipher)
    raw = storage.get(place.data)
    storage.put(place.data, [raw[: len(raw) // 2]])
    found, error = read_all_there_is(storage, place)
    assert isinstance(error, IntegrityError)
    assert content.startswith(found)
    assert len(found) > 150_000


@pytest.mark.parametrize("compression", list(BareCodec.compressions))
@pytest.mark.parametrize("cut", [1, 15, 5000])
def test_the_end_that_old_agents_lost_costs_no_more_than_that(compression: str, cut: int) -> None:
    storage, content = MemoryStorage(), os.urandom(400_000)
    place = store(storage, [content], compression=compression, cipher=OPENSSL)
    raw = storage.get(place.data)
    storage.put(place.data, [raw[:-cut]])
    found, error = read_all_there_is(storage, place)
    assert isinstance(error, IntegrityError)
    assert content.startswith(found)
    if compression in ("gzip", "deflate"):
        assert len(found) >= len(content) - cut - 40_000


@pytest.mark.parametrize("cipher", [NONE, OPENSSL, SEALED])
@pytest.mark.parametrize("where", [0.0, 0.3, 0.999])
def test_a_flipped_byte_never_passes(cipher: str, where: float) -> None:
    storage, content = MemoryStorage(), os.urandom(300_000)
    place = store(storage, [content], cipher=cipher)
    damage(storage, place.data, offset=int(where * storage.stat(place.data).size))
    try:
        found, error = read_all_there_is(storage, place)
    except WrongPassword:  # the first bytes of an OpenSSL stream are all that a password is tried on
        assert where == 0.0
        return
    assert error is not None
    if cipher == SEALED:
        assert content.startswith(found)


def test_a_missing_stream_is_damage() -> None:
    storage = MemoryStorage()
    place = store(storage, [b"x"])
    storage.delete(place.data)
    with pytest.raises(IntegrityError, match="missing"):
        read(storage, place)


def test_an_unknown_compression_is_told() -> None:
    storage = MemoryStorage()
    place = store(storage, [b"x"])
    storage.put(place.metadata, [b'{"compression": "lha"}'])
    with pytest.raises(UnsupportedFormat, match="lha"):
        read(storage, place)


@pytest.mark.parametrize("document", [b"", b"junk", b"[]", b"5", b'{"compression": '])
def test_a_damaged_metadata_document_is_told(document: bytes) -> None:
    storage = MemoryStorage()
    place = store(storage, [b"x"])
    storage.put(place.metadata, [document])
    with pytest.raises(IntegrityError):
        read(storage, place)


def test_a_sealed_stream_cannot_be_passed_off_as_another_one() -> None:
    storage = MemoryStorage()
    place = store(storage, [b"x" * 1000], cipher=SEALED)
    other = LevelId(folder=place.folder, series="h_n", chain=5, level=0, time=6)
    storage.put(other.metadata, [storage.get(place.metadata)])
    storage.put(other.data, [storage.get(place.data)])
    with pytest.raises(IntegrityError, match="belongs elsewhere"):
        read(storage, other)


def test_leaving_without_commit_stores_nothing() -> None:
    storage = MemoryStorage()
    writing = coding(storage).writing(level(NONE), compression="gzip", compression_level=None, cipher=NONE)
    with writing as writer:
        writer.write(os.urandom(1 << 20))
    assert not list(storage.list())
