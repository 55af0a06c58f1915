"""The envelope of control objects: what it binds, what it refuses, and how much memory it may take."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from freezer_sdk.crypto.aead import Aead
from freezer_sdk.crypto.kdf import Argon2Params, hkdf
from freezer_sdk.engines.dedup import control, documents
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.keyholders import add_slot, reload
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.errors import AccessDenied, ConfigurationError, FreezerError, IntegrityError, UnsupportedFormat
from freezer_sdk.storages.memory import MemoryStorage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
SECRECY = ["index", "data"]


@pytest.fixture(scope="module")
def rings():
    storage = MemoryStorage()
    owner = create_repository(storage, password="owner", kdf=CHEAP)
    add_slot(storage, owner, password="writer", roles={Role.WRITER}, kdf=CHEAP)
    return reload(storage, owner), open_repository(storage, lambda: "writer")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=3)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=30,
)


@settings(deadline=None)
@given(payload=st.dictionaries(st.text(), json_values, max_size=8), secrecy=st.sampled_from(SECRECY))
def test_any_json_comes_back(rings, payload, secrecy):
    owner, _ = rings
    data = control.seal(owner, "record", "records/x", payload, secrecy=secrecy)
    opened = control.open(owner, "record", "records/x", data, role=Role.MAINTAINER)
    assert opened.payload == payload
    assert opened.signer == owner.slot_id


@pytest.mark.parametrize("secrecy", SECRECY)
@pytest.mark.parametrize("payload", [{"a": 1}, {"a": list(range(2000))}])
def test_every_byte_counts(rings, secrecy, payload):
    owner, _ = rings
    data = control.seal(owner, "mark", "marks/x", payload, secrecy=secrecy)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1
        with pytest.raises((IntegrityError, UnsupportedFormat)):
            control.open(owner, "mark", "marks/x", damaged, role=Role.MAINTAINER)
    for size in {0, 1, 43, 44, 123, 124, 140, len(data) - 1}:
        with pytest.raises(IntegrityError):
            control.open(owner, "mark", "marks/x", data[:size], role=Role.MAINTAINER)
    with pytest.raises(IntegrityError):
        control.open(owner, "mark", "marks/x", data + b"\0", role=Role.MAINTAINER)


@pytest.mark.parametrize("secrecy", SECRECY)
def test_kind_name_and_repository_are_bound(rings, secrecy):
    owner, _ = rings
    data = control.seal(owner, "mark", "marks/x", {"a": 1}, secrecy=secrecy)
    other = create_repository(MemoryStorage(), password=None)
    for ring, kind, name in (
        (owner, "mark", "marks/y"),
        (owner, "tombstone", "marks/x"),
        (owner, "mar", "kmarks/x"),
        (other, "mark", "marks/x"),
    ):
        with pytest.raises(IntegrityError) as caught:
            control.open(ring, kind, name, data, role=Role.MAINTAINER)
        assert caught.value.message.startswith(name)


def test_secrecy(rings):
    owner, writer = rings
    for_all = control.seal(owner, "mark", "marks/x", {"a": 1}, secrecy="index")
    assert control.open(writer, "mark", "marks/x", for_all, role=Role.MAINTAINER).payload == {"a": 1}
    for_readers = control.seal(writer, "backup", "backups/x", {"a": 1}, secrecy="data")
    assert control.open(owner, "backup", "backups/x", for_readers, role=Role.WRITER).signer == writer.slot_id
    with pytest.raises(AccessDenied):
        control.open(writer, "backup", "backups/x", for_readers, role=Role.WRITER)


def test_the_signer_needs_the_role(rings):
    owner, writer = rings
    data = control.seal(writer, "mark", "marks/x", {"a": 1}, secrecy="index")
    with pytest.raises(IntegrityError, match="maintainer"):
        control.open(owner, "mark", "marks/x", data, role=Role.MAINTAINER)


def forge(ring, inner, name="marks/x", kind="mark"):
    """What somebody makes who has the index key and no right to sign."""
    context = control._context(kind, name)
    head = control.HEADER.pack(control.MAGIC, control.VERSION, 0, 0, 1, bytes(32))
    key = hkdf(ring.index_key(1), salt=bytes(32), info=b"freezer-sdk/1/control\0" + ring.repository_id)
    aad = b"freezer-sdk/1/control\0" + ring.repository_id + struct.pack("<I", len(head)) + head + context
    return head + Aead(key).seal(0, inner, aad)


def inner(signer, signature, encoding, size, body):
    return struct.pack("<16s64sBI", signer, signature, encoding, size) + body


def test_forged_signatures(rings):
    owner, writer = rings
    body = documents.encode({"a": 1})
    own = writer.sign(control._context("mark", "marks/x"), body)
    for signer, signature in (
        (owner.slot_id, own),
        (owner.slot_id, bytes(64)),
        (bytes(16), own),
        (owner.slot_id, owner.sign(control._context("mark", "marks/y"), body)),
        (owner.slot_id, owner.sign(control._context("tombstone", "marks/x"), body)),
    ):
        with pytest.raises(IntegrityError):
            control.open(
                owner,
                "mark",
                "marks/x",
                forge(writer, inner(signer, signature, 0, len(body), body)),
                role=Role.MAINTAINER,
            )
    good = forge(
        writer, inner(owner.slot_id, owner.sign(control._context("mark", "marks/x"), body), 0, len(body), body)
    )
    assert control.open(owner, "mark", "marks/x", good, role=Role.MAINTAINER).payload == {"a": 1}


@pytest.mark.parametrize(
    ("encoding", "size", "body"),
    [
        (0, 3, b"{}"),
        (0, 1, b"{}"),
        (2, 2, b"{}"),
        (1, 2, b"no zlib"),
        (1, 2, zlib.compress(b"{}") + b"more"),
        (1, 3, zlib.compress(b"{}")),
        (1, 1, zlib.compress(b"{}")),
        (1, 2, zlib.compress(b"{}")[:-1]),
        (1, (64 << 20) + 1, zlib.compress(b" " * 100)),
        (0, 0xFFFFFFFF, b"{}"),
    ],
)
def test_wrong_lengths(rings, encoding, size, body):
    owner, _ = rings
    data = forge(owner, inner(owner.slot_id, bytes(64), encoding, size, body))
    with pytest.raises(IntegrityError):
        control.open(owner, "mark", "marks/x", data, role=Role.MAINTAINER)


def test_a_decompression_bomb_takes_no_memory(rings):
    owner, _ = rings
    bomb = zlib.compress(bytes(256 << 20), 9)
    data = forge(owner, inner(owner.slot_id, bytes(64), 1, 1000, bomb))
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError):
            control.open(owner, "mark", "marks/x", data, role=Role.MAINTAINER)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_signed_nonsense_is_refused(rings):
    owner, _ = rings
    deep = b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}"
    for body in (b"", b"[]", b"1", b"\xff", b'{"a":NaN}', b'{"a":1,"a":1}', b"{}}", b"9" * 9999, deep):
        signature = owner.sign(control._context("mark", "marks/x"), body)
        data = forge(owner, inner(owner.slot_id, signature, 0, len(body), body))
        with pytest.raises(IntegrityError):
            control.open(owner, "mark", "marks/x", data, role=Role.MAINTAINER)


@settings(deadline=None)
@given(data=st.binary(max_size=400), keep=st.integers(0, 48))
def test_random_bytes(rings, data, keep):
    owner, _ = rings
    head = control.HEADER.pack(control.MAGIC, control.VERSION, 1, 0, 1, bytes(32))[:keep]
    with pytest.raises(FreezerError):
        control.open(owner, "mark", "marks/x", head + data, role=Role.MAINTAINER)


def test_what_cannot_be_stored(rings):
    owner, _ = rings
    for payload in ({"a": float("nan")}, {"a": b"bytes"}, {"a": "x" * (65 << 20)}):
        with pytest.raises(ConfigurationError):
            control.seal(owner, "mark", "marks/x", payload, secrecy="index")


def test_repeated_randomness_does_not_repeat_keys(rings, monkeypatch):
    """A machine that is cloned in this moment draws the same numbers: still no key seals two different documents."""
    owner, _ = rings
    monkeypatch.setattr("secrets.token_bytes", bytes)
    one = control.seal(owner, "mark", "marks/x", {"a": 1}, secrecy="index")
    two = control.seal(owner, "mark", "marks/x", {"a": 2}, secrecy="index")
    other = control.seal(owner, "mark", "marks/y", {"a": 1}, secrecy="index")
    assert len({data[12:44] for data in (one, two, other)}) == 3
