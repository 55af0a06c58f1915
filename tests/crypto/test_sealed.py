"""Sealed streams: whole, or an error that says what is wrong. The reader in the documentation reads them, too."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk.crypto import sealed
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.crypto.sealed import HEADER_SIZE, Opener, SealKeys
from freezer_sdk.errors import ConfigurationError, FreezerError, IntegrityError, UnsupportedFormat, WrongPassword

CHEAP = Argon2Params(memory=64, time=1, lanes=1)
CHUNK, TAG = 1 << 12, 16
PASSWORD = "corréct horse"
CONTEXT = b"freezer-sdk tar-sealed/node1_etc/1795407940/0_1795407940/data"
KEYS = SealKeys(PASSWORD, params=CHEAP)
CONTENT = hashlib.shake_128(b"content").digest(2 * CHUNK + 100)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sealed-streams.md"

VECTOR = bytes.fromhex(
    "465a5345414c45440101010c000000400000000100000001000102030405060708090a0b0c0d0e0f00010203040506070809"
    "0a0b0c0d0e0f101112131415161718191a1b1c1d1e1fd7f4250574d99c4da67a3f7bcc5a49040980097e24c973bf18a7e301"
    "ac84f5981de4cfaaac5845771f6d16cff4c4e9071d4807af89592c9b6fe815a2011cf3f7364b453c1437e12cb6270099f0a2"
    "7a58c49b975f3dfbf04931307220f9c8fcaba71b29de89c54d69"
)


def seal(content, *, keys=KEYS, context=CONTEXT, chunk=12, step=1000):
    sealer = keys.sealer(context, chunk=chunk)
    pieces = [sealer.update(content[start : start + step]) for start in range(0, len(content), step)]
    return b"".join([*pieces, sealer.finalize()])


def unseal(stream, *, keys=KEYS, context=CONTEXT, step=1000, given=None):
    """The content; what came out before an error is added to ``given``."""
    opener, pieces = keys.opener(context), [] if given is None else given
    for start in range(0, len(stream), step):
        pieces.append(opener.update(stream[start : start + step]))
    pieces.append(opener.finalize())
    return b"".join(pieces)


def chunks(stream):
    body = stream[HEADER_SIZE:]
    return [body[start : start + CHUNK + TAG] for start in range(0, len(body), CHUNK + TAG)]


@given(
    size=st.integers(0, 5 * CHUNK) | st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK]),
    steps=st.tuples(st.integers(1, 3 * CHUNK), st.integers(1, 3 * CHUNK)),
    chunk=st.sampled_from([12, 13, 18]),
)
@settings(deadline=None, max_examples=150)
def test_any_content_comes_back(size, steps, chunk):
    content = hashlib.shake_128(b"any").digest(size)
    stream = seal(content, step=steps[0], chunk=chunk)
    assert unseal(stream, step=steps[1]) == content
    assert len(stream) == HEADER_SIZE + size + TAG * max(1, -(-size // (1 << chunk)))


@pytest.mark.parametrize("wrap", [bytearray, memoryview, lambda data: memoryview(b"<" + data + b">")[1:-1]])
def test_every_kind_of_buffer_is_taken(wrap):
    sealer = KEYS.sealer(CONTEXT, chunk=12)
    stream = sealer.update(wrap(CONTENT)) + sealer.finalize()
    opener = KEYS.opener(CONTEXT)
    assert opener.update(wrap(stream)) + opener.finalize() == CONTENT


def test_a_known_stream(monkeypatch):
    """What was written once is read for ever, and written so again."""
    assert unseal(VECTOR, keys=SealKeys(PASSWORD)) == b"sealed stream, version 1"
    monkeypatch.setattr(sealed.secrets, "token_bytes", lambda size: bytes(range(size)))
    keys = SealKeys(PASSWORD, params=CHEAP)
    assert seal(b"sealed stream, version 1", keys=keys) == VECTOR
    assert (
        hashlib.sha256(seal(CONTENT, keys=keys)).hexdigest()
        == "1a127104347572b41617505c65f664c3d61ad286253e43980771ec68310c2fd4"
    )


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_the_reader_in_the_documentation_reads_it(tmp_path, size):
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    (tmp_path / "unseal.py").write_text(source)
    (tmp_path / "password").write_text(PASSWORD + "\n")

    def read(stream, context=CONTEXT):
        command = [sys.executable, tmp_path / "unseal.py", tmp_path / "password", context.decode()]
        return subprocess.run(command, input=stream, capture_output=True, check=False)

    content = CONTENT[:size] if size <= len(CONTENT) else bytes(size)
    stream = seal(content)
    assert read(stream).stdout == content
    if size == 3 * CHUNK:
        assert read(stream[:-1]).returncode
        assert read(stream[: HEADER_SIZE + CHUNK + TAG]).returncode
        assert read(stream, b"elsewhere").returncode
        assert b"wrong password" in read(seal(content, keys=SealKeys("other", params=CHEAP))).stderr


# -- tampering -------------------------------------------------------------------------------------------------


def check_refused(stream, *, step=1 << 20, context=CONTEXT):
    """An error that says damage, and nothing came out that is not the beginning of the content."""
    given: list[bytes] = []
    with pytest.raises(FreezerError) as caught:
        unseal(stream, step=step, given=given, context=context)
    assert isinstance(caught.value, IntegrityError | UnsupportedFormat), caught.value
    assert CONTENT.startswith(b"".join(given))
    return str(caught.value)


def test_every_flipped_byte_is_noticed():
    stream = bytearray(seal(CONTENT))
    for position in range(len(stream)):
        stream[position] ^= 0x40
        message = check_refused(stream)
        assert "password" not in message
        stream[position] ^= 0x40
    assert unseal(stream) == CONTENT


def test_every_cut_is_noticed():
    stream = seal(CONTENT)
    for length in range(len(stream)):
        check_refused(stream[:length])


def test_a_cut_between_chunks_is_told_as_such():
    stream = seal(CONTENT)
    for number in (1, 2):
        assert "cut short" in check_refused(stream[: HEADER_SIZE + number * (CHUNK + TAG)])
    assert "cut short" in check_refused(stream[:HEADER_SIZE])
    assert "cut short" in check_refused(b"")


def test_chunks_cannot_change_places():
    stream = seal(CONTENT)
    header, (one, two, last) = stream[:HEADER_SIZE], chunks(stream)
    for order in ((two, one, last), (one, last), (two, last), (last,), (one, one, two, last), (one, two, last, last)):
        check_refused(header + b"".join(order))
    for end in (b"x", b"\0" * 16, bytes(CHUNK + TAG), one):
        check_refused(stream + end)


def test_chunks_cannot_come_from_another_stream():
    """Of the same password, place and content."""
    ours, theirs = seal(CONTENT), seal(CONTENT)
    for number in range(3):
        mixed = chunks(ours)
        mixed[number] = chunks(theirs)[number]
        check_refused(ours[:HEADER_SIZE] + b"".join(mixed))
    check_refused(ours[:HEADER_SIZE] + theirs[HEADER_SIZE:])


@pytest.mark.parametrize("size", [0, 10, CHUNK, len(CONTENT)])
def test_streams_cannot_change_places(size):
    stream = seal(CONTENT[:size])
    for context in (b"", CONTEXT[:-1], CONTEXT + b"x", CONTEXT.replace(b"data", b"record")):
        assert "belongs elsewhere" in check_refused(stream, context=context)


def test_a_forged_header_opens_nothing():
    """Also with its digest made anew."""
    stream = seal(CONTENT)
    for position in range(HEADER_SIZE - 32):
        fixed = bytearray(stream[: HEADER_SIZE - 32])
        fixed[position] ^= 1
        with pytest.raises((IntegrityError, UnsupportedFormat, WrongPassword)):
            unseal(bytes(fixed) + hashlib.sha256(fixed).digest() + stream[HEADER_SIZE:])


@pytest.mark.parametrize("position", [12, 16, 20])
def test_a_header_cannot_ask_for_everything(position):
    """Of memory, time, or lanes: refused before the key is derived."""
    stream = seal(b"")
    fixed = stream[:position] + b"\xff\xff\xff\xff" + stream[position + 4 : HEADER_SIZE - 32]
    with pytest.raises(UnsupportedFormat, match="out of bounds"):
        unseal(fixed + hashlib.sha256(fixed).digest() + stream[HEADER_SIZE:])


def test_a_newer_version_is_told_as_such():
    stream = seal(b"")
    with pytest.raises(UnsupportedFormat, match="version 2"):
        unseal(stream[:8] + b"\2" + stream[9:])
    for position in (9, 10, 11):
        fixed = stream[:position] + b"\x63" + stream[position + 1 : HEADER_SIZE - 32]
        with pytest.raises(UnsupportedFormat, match="kind"):
            unseal(fixed + hashlib.sha256(fixed).digest())


# -- passwords -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, len(CONTENT)])
@pytest.mark.parametrize("step", [1, HEADER_SIZE, 1 << 20])
def test_a_wrong_password_is_told_before_anything_comes_out(size, step):
    given: list[bytes] = []
    with pytest.raises(WrongPassword):
        unseal(seal(CONTENT[:size]), keys=SealKeys("corréct horsE"), step=step, given=given)
    assert not any(given)


def test_a_password_means_the_same_however_it_is_typed():
    stream = seal(CONTENT)
    assert unseal(stream, keys=SealKeys("corre\u0301ct\u00a0horse")) == CONTENT


@pytest.mark.parametrize("password", ["", "\udcff"])
def test_passwords_that_cannot_be(password):
    with pytest.raises(ConfigurationError, match="password"):
        SealKeys(password)


def test_nothing_secret_is_shown():
    sealer = KEYS.sealer(CONTEXT)
    shown = " ".join(map(repr, (KEYS, sealer, KEYS.opener(CONTEXT), *vars(KEYS)["_known"].values())))
    assert PASSWORD not in shown
    for secret in vars(KEYS)["_known"].values():
        assert repr(secret.key) not in shown
        assert secret.key.hex() not in shown


@pytest.fixture
def derivations(monkeypatch):
    made = []
    original = sealed.argon2id

    def counting(password, salt, params, **options):
        made.append(salt)
        return original(password, salt, params, **options)

    monkeypatch.setattr(sealed, "argon2id", counting)
    return made


def test_a_key_is_derived_once(derivations):
    keys = SealKeys(PASSWORD, params=CHEAP)
    streams = [seal(CONTENT, keys=keys) for _ in range(5)]
    for stream in streams:
        unseal(stream, keys=keys)
    assert len(derivations) == 1
    assert len({stream[40:72] for stream in streams}) == 5


def test_who_continues_a_chain_uses_its_salt(derivations):
    old = seal(CONTENT)
    keys = SealKeys(PASSWORD, params=CHEAP)
    unseal(old, keys=keys)
    assert seal(CONTENT, keys=keys)[24:40] == old[24:40]
    assert len(derivations) == 1


def test_a_salt_with_other_costs_is_not_used_again():
    """Or what is cheap once would be cheap for ever."""
    keys = SealKeys(PASSWORD, params=Argon2Params(memory=128, time=1, lanes=1))
    old = seal(CONTENT)
    unseal(old, keys=keys)
    new = seal(CONTENT, keys=keys)
    assert new[24:40] != old[24:40]
    assert new[12:16] == (128).to_bytes(4, "big")


def test_threads_share_the_keys(derivations):
    keys = SealKeys(PASSWORD, params=CHEAP)

    def round_trip(number):
        content = b"%d" % number * 10_000
        return unseal(seal(content, keys=keys), keys=keys) == content

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, range(40)))
    assert len(derivations) == 1


# -- bounds ----------------------------------------------------------------------------------------------------


def test_memory_holds_a_chunk_or_two():
    sealer, opener, block = KEYS.sealer(CONTEXT), KEYS.opener(CONTEXT), bytes(60_001)
    tracemalloc.start()
    try:
        count = sum(len(opener.update(sealer.update(block))) for _ in range(500))
        count += len(opener.update(sealer.finalize())) + len(opener.finalize())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 500 * len(block)
    assert peak < 5 << sealed.DEFAULT_CHUNK


def test_a_stream_ends_before_its_key_is_worn_out(monkeypatch):
    monkeypatch.setattr(sealed, "MAX_CHUNKS", 3)
    seal(bytes(3 * CHUNK))
    with pytest.raises(UnsupportedFormat, match="3 chunks"):
        seal(bytes(3 * CHUNK + 1))


@pytest.mark.parametrize("chunk", [0, 11, 25])
def test_chunks_that_cannot_be(chunk):
    with pytest.raises(ValueError, match="chunk"):
        KEYS.sealer(CONTEXT, chunk=chunk)


def test_an_opener_gives_chunks_as_soon_as_they_are_known():
    stream = seal(CONTENT)
    opener = KEYS.opener(CONTEXT)
    assert isinstance(opener, Opener)
    assert opener.update(stream[: HEADER_SIZE + CHUNK + TAG]) == b""  # it may be the last one
    assert opener.update(stream[HEADER_SIZE + CHUNK + TAG :][:1]) == CONTENT[:CHUNK]


@given(
    garbage=st.binary(max_size=400) | st.binary(max_size=200).map(lambda data: seal(b"")[:HEADER_SIZE] + data),
    step=st.integers(1, 300),
)
@settings(deadline=None)
def test_garbage_gives_nothing_but_an_error(garbage, step):
    given: list[bytes] = []
    with pytest.raises((IntegrityError, UnsupportedFormat, WrongPassword)):
        unseal(garbage, step=step, given=given)
    assert not any(given)
