"""The building blocks against published vectors, and what they refuse."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.crypto import hpke, sign
from freezer_sdk.crypto.aead import TAG_SIZE, Aead
from freezer_sdk.crypto.hashing import blob_id, derive
from freezer_sdk.crypto.kdf import Argon2Params, argon2id, hkdf, normalise_password
from freezer_sdk.errors import ConfigurationError, IntegrityError, UnsupportedFormat


def test_hkdf_rfc5869_case_1():
    okm = hkdf(
        bytes.fromhex("0b" * 22),
        salt=bytes.fromhex("000102030405060708090a0b0c"),
        info=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"),
        length=42,
    )
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


def test_argon2id_reference_vector():
    key = argon2id(b"password", b"somesalt", Argon2Params(memory=65536, time=2, lanes=1))
    assert key.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


@pytest.mark.parametrize(
    "params",
    [
        Argon2Params(memory=(1 << 20) + 1),
        Argon2Params(memory=1 << 40),
        Argon2Params(memory=31, lanes=4),
        Argon2Params(time=0),
        Argon2Params(time=65),
        Argon2Params(lanes=0),
        Argon2Params(lanes=65),
        Argon2Params(memory=-1, lanes=-1),
    ],
)
def test_argon2id_refuses_costs_out_of_bounds(params):
    with pytest.raises(UnsupportedFormat):
        argon2id(b"password", bytes(16), params)


def test_password_forms():
    assert normalise_password("Ame\u0301lie") == normalise_password("Am\u00e9lie") == "Am\u00e9lie".encode()
    assert normalise_password("a\u00a0b\u3000c") == b"a b c"
    assert normalise_password(" A ") == b" A "
    assert normalise_password("\u2460") != normalise_password("1")


@pytest.mark.parametrize("password", ["", "broken \udcff"])
def test_password_refused(password):
    with pytest.raises(ConfigurationError):
        normalise_password(password)


@pytest.mark.parametrize(
    ("plain", "sealed"),
    [
        (b"", "530f8afbc74536b9a963b4f1c4cb738b"),
        (bytes(16), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    ],
)
def test_aes_gcm_published_vectors(plain, sealed):
    aead = Aead(bytes(32))
    assert aead.seal(0, plain).hex() == sealed
    assert aead.open(0, bytes.fromhex(sealed)) == plain


def test_aead_counter_is_a_big_endian_nonce():
    sealed = Aead(b"k" * 32).seal(0x0102, b"data", b"aad")
    assert AESGCM(b"k" * 32).decrypt(bytes(10) + b"\x01\x02", bytes(sealed), b"aad") == b"data"


@given(plain=st.binary(max_size=300), aad=st.binary(max_size=40), headroom=st.integers(0, 50))
def test_aead_headroom_and_tampering(plain, aad, headroom):
    aead = Aead(b"k" * 32)
    sealed = aead.seal(7, plain, aad, headroom=headroom)
    assert sealed[:headroom] == bytes(headroom)
    assert len(sealed) == headroom + len(plain) + TAG_SIZE
    body = bytes(sealed[headroom:])
    assert aead.open(7, memoryview(body), aad) == plain
    for wrong in (lambda: aead.open(8, body, aad), lambda: aead.open(7, body, aad + b"x")):
        with pytest.raises(IntegrityError):
            wrong()


def test_aead_every_byte_is_authenticated():
    aead = Aead(b"k" * 32)
    sealed = aead.seal(0, b"some content", b"aad")
    for position in range(len(sealed)):
        forged = bytearray(sealed)
        forged[position] ^= 1
        with pytest.raises(IntegrityError):
            aead.open(0, forged, b"aad")
    for size in range(len(sealed)):
        with pytest.raises(IntegrityError):
            aead.open(0, sealed[:size], b"aad")


def test_ed25519_rfc8032_test_2():
    key = sign.SigningKey(bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"))
    assert key.public.hex() == "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
    signature = key.sign(b"\x72")
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert sign.verify(key.public, b"\x72", signature)
    assert not sign.verify(key.public, b"\x73", signature)
    assert not sign.verify(key.public, b"\x72", signature[:63])
    assert not sign.verify(key.public[:31], b"\x72", signature)
    assert not sign.verify(sign.SigningKey.generate().public, b"\x72", signature)


def labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, hashlib.sha256)


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    message = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, message + b"\x01", hashlib.sha256)[:length]


def open_by_rfc9180(private: bytes, sealed: bytes, info: bytes) -> bytes:
    """Section 4.1 and 5.1 written out, to check the suite against the paper and not against itself."""
    encapsulated, ciphertext = sealed[:32], sealed[32:]
    key = X25519PrivateKey.from_private_bytes(private)
    shared = key.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    kem = b"KEM" + b"\x00\x20"
    context = encapsulated + key.public_key().public_bytes_raw()
    secret = labeled_expand(kem, labeled_extract(kem, b"", b"eae_prk", shared), b"shared_secret", context, 32)
    suite = b"HPKE" + b"\x00\x20\x00\x01\x00\x02"
    schedule = b"\x00" + labeled_extract(suite, b"", b"psk_id_hash", b"")
    schedule += labeled_extract(suite, b"", b"info_hash", info)
    prk = labeled_extract(suite, secret, b"secret", b"")
    aes = labeled_expand(suite, prk, b"key", schedule, 32)
    nonce = labeled_expand(suite, prk, b"base_nonce", schedule, 12)
    return AESGCM(aes).decrypt(nonce, ciphertext, b"")


def test_hpke_is_rfc9180_base_mode():
    pair = hpke.generate()
    sealed = hpke.seal(pair.public, b"a run key", b"purpose")
    assert len(sealed) == len(b"a run key") + hpke.OVERHEAD
    assert open_by_rfc9180(pair.private, sealed, b"purpose") == b"a run key"
    assert hpke.open(pair.private, sealed, b"purpose") == b"a run key"
    assert hpke.public_key(pair.private) == pair.public


def test_hpke_refuses():
    pair = hpke.generate()
    sealed = hpke.seal(pair.public, b"secret", b"purpose")
    for private, data, info in (
        (hpke.generate().private, sealed, b"purpose"),
        (pair.private, sealed, b"another purpose"),
        (pair.private, sealed[:-1], b"purpose"),
        (pair.private, b"", b"purpose"),
        (pair.private, bytes(32) + sealed[32:], b"purpose"),
        (pair.private[:31], sealed, b"purpose"),
    ):
        with pytest.raises(IntegrityError):
            hpke.open(private, data, info)
    for public in (b"", bytes(32)):  # too short, and of low order
        with pytest.raises(IntegrityError):
            hpke.seal(public, b"secret", b"purpose")
    unknown = hpke.SuiteId(0x0010, 1, 1)
    with pytest.raises(UnsupportedFormat, match="0x0010/0x0001/0x0001"):
        hpke.seal(pair.public, b"secret", b"purpose", suite=unknown)
    with pytest.raises(UnsupportedFormat):
        hpke.open(pair.private, sealed, b"purpose", suite=unknown)


def test_blake3_published_vectors():
    key = b"whats the Elvish word for friend"
    assert blob_id(key, b"").hex() == "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"
    assert blob_id(key, memoryview(bytearray(b"abc"))) == blob_id(key, b"abc")
    context = "BLAKE3 2019-12-27 16:29:52 test vectors context"
    assert derive(context, b"").hex() == "2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d"


def test_secrets_do_not_show():
    pair, key = hpke.generate(), sign.SigningKey.generate()
    shown = f"{pair!r} {pair} {key!r} {key} {Aead(pair.private)!r}"
    for secret in (pair.private, key.secret()):
        assert secret.hex() not in shown
        assert repr(secret)[2:-1] not in shown
