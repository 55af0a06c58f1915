"""Streams of ``openssl enc -aes-256-cfb``: read by the real program, and what it writes is read here."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.ciphers import modes
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk.crypto import openssl
from freezer_sdk.crypto.openssl import DIGESTS, OpenSslDecryptor, OpenSslEncryptor, derive_key
from freezer_sdk.errors import ConfigurationError, IntegrityError

PASSWORD = "corréct horse 'battery'".encode()
CONTENT = hashlib.shake_128(b"openssl").digest(100_003)
SIZES = (0, 1, 15, 16, 17, 4096, len(CONTENT))
program = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def encrypted(content, *, step=1000, **options):
    encryptor = OpenSslEncryptor(PASSWORD, **options)
    pieces = [encryptor.update(content[start : start + step]) for start in range(0, len(content), step)]
    return b"".join([*pieces, encryptor.finalize()])


def decrypted(stream, *, digest="sha256", step=1000, password=PASSWORD):
    decryptor = OpenSslDecryptor(password, digest=digest)
    pieces = [decryptor.update(stream[start : start + step]) for start in range(0, len(stream), step)]
    return b"".join([*pieces, decryptor.finalize()])


@pytest.fixture
def enc(tmp_path):
    """``openssl enc``, as the original's tar engine calls it."""
    (tmp_path / "pass").write_bytes(PASSWORD + b"\n")

    def run(data, *options):
        command = ["openssl", "enc", "-aes-256-cfb", "-pass", f"file:{tmp_path / 'pass'}", *options]
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    return run


@program
@pytest.mark.parametrize("digest", DIGESTS)
@pytest.mark.parametrize("size", SIZES)
def test_openssl_reads_what_is_written(enc, digest, size):
    assert enc(encrypted(CONTENT[:size], digest=digest), "-d", "-md", digest) == CONTENT[:size]


@program
@pytest.mark.parametrize("digest", DIGESTS)
@pytest.mark.parametrize("size", SIZES)
def test_what_openssl_writes_is_read(enc, digest, size):
    assert decrypted(enc(CONTENT[:size], "-md", digest), digest=digest) == CONTENT[:size]


@program
def test_the_default_is_that_of_openssl_today(enc):
    assert enc(encrypted(CONTENT), "-d") == CONTENT


def test_known_streams():
    """By OpenSSL 3.0: openssl enc -aes-256-cfb -pass pass:freezer -S 0001020304050607 -md DIGEST."""
    for digest, body in (
        ("sha256", "80ab172d2db3a019abd15a96838d040c1824d8943dc8a6"),
        ("md5", "0cec3beed4d017003123b34b61da9a64cb0ca7654e2440"),
    ):
        stream = b"Salted__" + bytes(range(8)) + bytes.fromhex(body)
        assert decrypted(stream, digest=digest, password=b"freezer") == b"what the original wrote"
        encryptor = OpenSslEncryptor(b"freezer", digest=digest, salt=bytes(range(8)))
        assert encryptor.update(b"what the original wrote") + encryptor.finalize() == stream


@given(size=st.integers(0, 300), steps=st.tuples(st.integers(1, 50), st.integers(1, 50)))
@settings(deadline=None)
def test_sizes_of_pieces_make_no_difference(size, steps):
    stream = encrypted(CONTENT[:size], step=steps[0], salt=b"saltsalt")
    assert stream == encrypted(CONTENT[:size], step=1 << 20, salt=b"saltsalt")
    assert len(stream) == 16 + size
    assert decrypted(stream, step=steps[1]) == CONTENT[:size]


@pytest.mark.parametrize("wrap", [bytearray, memoryview])
def test_every_kind_of_buffer_is_taken(wrap):
    encryptor, decryptor = OpenSslEncryptor(PASSWORD), OpenSslDecryptor(PASSWORD, digest="sha256")
    stream = encryptor.update(wrap(CONTENT)) + encryptor.finalize()
    assert decryptor.update(wrap(stream)) + decryptor.finalize() == CONTENT


def test_salts_are_random():
    assert len({encrypted(b"")[8:] for _ in range(50)}) == 50


def test_a_wrong_password_or_digest_gives_noise():
    """The stream has no check of its own."""
    stream = encrypted(CONTENT)
    for noise in (decrypted(stream, password=b"other"), decrypted(stream, digest="md5")):
        assert len(noise) == len(CONTENT)
        assert noise != CONTENT


@pytest.mark.parametrize("step", [1, 100])
@pytest.mark.parametrize("stream", [b"x", b"Salted_-" + bytes(20), b"\x1f\x8b" + bytes(50)])
def test_what_is_no_such_stream_is_refused_at_once(stream, step):
    with pytest.raises(IntegrityError, match="Salted__"):
        decrypted(stream, step=step)


@pytest.mark.parametrize("length", range(16))
def test_a_cut_header_is_noticed(length):
    with pytest.raises(IntegrityError, match="cut short"):
        decrypted(encrypted(CONTENT)[:length])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"digest": "sha1"}, "sha1"), ({"salt": b"short"}, "salt"), ({"password": b""}, "empty")],
)
def test_arguments_that_cannot_be(options, message):
    with pytest.raises(ConfigurationError, match=message):
        OpenSslEncryptor(**{"password": PASSWORD, **options})
    if "salt" not in options:
        with pytest.raises(ConfigurationError, match=message):
            OpenSslDecryptor(**{"password": PASSWORD, "digest": "md5", **options})


def test_keys_are_those_of_evp_bytestokey():
    key, vector = derive_key(b"password", b"saltsalt", "md5")
    first = hashlib.md5(b"passwordsaltsalt").digest()
    second = hashlib.md5(first + b"passwordsaltsalt").digest()
    third = hashlib.md5(second + b"passwordsaltsalt").digest()
    assert (key, vector) == (first + second, third)


def test_it_works_where_the_mode_is_not_yet_called_decrepit(monkeypatch):
    """Older releases of cryptography have it elsewhere; newer ones warn there, or have it no more."""
    elsewhere = "cryptography.hazmat.decrepit.ciphers.modes"
    monkeypatch.setitem(vars(modes), "CFB", importlib.import_module(elsewhere).CFB)
    monkeypatch.setitem(sys.modules, elsewhere, None)
    spec = importlib.util.spec_from_file_location("openssl_before", openssl.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    encryptor = module.OpenSslEncryptor(PASSWORD)
    assert decrypted(encryptor.update(CONTENT) + encryptor.finalize()) == CONTENT
