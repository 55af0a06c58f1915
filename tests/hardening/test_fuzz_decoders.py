"""Every decoder against bytes that a hostile writer could store: documented errors, nothing else.

Flipping bits of sealed objects only ever tests the seals. So what is fuzzed here is the plain text, sealed anew with
valid keys, as somebody could do who has a key, or who offers a repository of his own.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hardening import forge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from freezer_cli.config_file import parse_config
from freezer_cli.documents import backup_document
from freezer_sdk import Freezer
from freezer_sdk.compressors.base import Compressor
from freezer_sdk.compressors.bzip2 import Bzip2Compressor
from freezer_sdk.compressors.none import NoCompressor
from freezer_sdk.compressors.xz import XzCompressor
from freezer_sdk.compressors.zlib import ZlibCompressor
from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.crypto import hpke
from freezer_sdk.engines.dedup import box, control, segment
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.commit import decode_commit
from freezer_sdk.engines.dedup.config import OWNER, decode_config, encode_config, successor
from freezer_sdk.engines.dedup.epochs import Bundle, open_bundle
from freezer_sdk.engines.dedup.index import (
    HEADER,
    INDEX_BOX,
    BlobIndex,
    PackRows,
    decode_section,
    encode_index,
    index_parts,
    section_of,
)
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.pack import SegmentRow, decode_table, encode_table, read_table, table_tail
from freezer_sdk.engines.dedup.page import Content, Page, content_ids, list_ids
from freezer_sdk.engines.dedup.tree import Owners, TreeReader, entry_of, nodes_of
from freezer_sdk.errors import ConfigurationError, FreezerError, IntegrityError, UnsupportedFormat
from freezer_sdk.modes.base import Extra
from freezer_sdk.options import validate
from freezer_sdk.plugins import STORAGE, PluginRegistry
from freezer_sdk.storages.memory import MemoryStorage
from freezer_sdk.streams.osrc import parse_osrc

COMPRESSORS: dict[str, Compressor] = {
    each.id: each for each in (NoCompressor(), ZlibCompressor(), ZstdCompressor(), Bzip2Compressor(), XzCompressor())
}
FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def compressors(name: str) -> Compressor:
    try:
        return COMPRESSORS[name]
    except KeyError:
        raise UnsupportedFormat(f"no compressor {name!r}") from None


@pytest.fixture(scope="module")
def keys() -> KeyRing:
    return forge.Forge(MemoryStorage()).keys


@st.composite
def mutated(draw: st.DrawFn, base: bytes) -> bytes:
    """Some bytes of something valid replaced, put in or taken out; integers at the edges among them."""
    data = bytearray(base)
    edges = st.sampled_from((0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 4)):
            case 0 if at < len(data):
                data[at] = draw(st.integers(0, 255))
            case 1:
                data[at:at] = draw(st.binary(max_size=8))
            case 2:
                del data[at : at + draw(st.integers(1, 40))]
            case 3 if at + 4 <= len(data):
                data[at : at + 4] = struct.pack("<I", draw(edges))
            case _ if at + 8 <= len(data):
                data[at : at + 8] = struct.pack("<Q", draw(edges) << draw(st.sampled_from((0, 32))))
    return bytes(data)


# -- segments, tables, indexes -------------------------------------------------------------------------------------


def seal_segment(keys: KeyRing, frame: bytes) -> bytes:
    run = keys.new_run_key()
    header = segment.SegmentHeader(Kind.DATA, len(frame) + 16, run.epoch, 0, os.urandom(32), run.sealed)
    target = bytearray(header.stored)
    key = segment.pack_key(run.key, header.salt, keys.repository_id)
    segment.seal(frame, header, key, keys.repository_id, memoryview(target))
    return bytes(target)


@pytest.mark.parametrize("method", sorted(COMPRESSORS))
@FEW
@given(data=st.data())
def test_frames(keys: KeyRing, method: str, data: st.DataObject) -> None:
    blobs = [b"one" * 100, b"2", bytes(5000)]
    payload = COMPRESSORS[method].compress(b"".join(blobs))
    valid = bytes(segment.frame([len(blob) for blob in blobs], method, payload))
    frame = data.draw(mutated(valid) | st.binary(max_size=80))
    try:
        opened = segment.open_segment(seal_segment(keys, frame), keys, compressors)
    except (IntegrityError, UnsupportedFormat):
        return
    assert sum(len(blob) for blob in opened.blobs()) == len(opened.raw) <= 32 << 20
    assert all(opened.blobs()), "an empty blob does not exist"


@FEW
@given(data=st.data())
def test_headers(keys: KeyRing, data: st.DataObject) -> None:
    whole = seal_segment(keys, forge.frame([b"one", b"two"]))
    damaged = data.draw(mutated(whole))
    try:
        opened = segment.open_segment(damaged, keys, compressors)
    except (IntegrityError, UnsupportedFormat):
        return
    assert [bytes(blob) for blob in opened.blobs()] == [b"one", b"two"]


def table() -> bytes:
    rows = [SegmentRow(400, [b"a" * 32, b"b" * 32], [10, 20]), SegmentRow(300, [b"c" * 32], [5])]
    return encode_table(rows)


@FEW
@given(data=st.data())
def test_tables(keys: KeyRing, data: st.DataObject) -> None:
    body = data.draw(mutated(table()))
    sealed = box.seal_box(keys, 1, body)
    trailer = struct.pack("<4sBBHI", b"FZPK", 0, 1, 0, len(sealed))
    tail = data.draw(st.just(sealed + trailer) | mutated(sealed + trailer))
    try:
        assert table_tail(Kind.DATA, tail) >= 12
        rows, *_rest = read_table(keys, Kind.DATA, tail)
    except IntegrityError:
        return
    assert rows == decode_table(body)
    for row in rows:
        assert len(row.ids) == len(row.lengths) > 0
        assert all(0 < length <= 16 << 20 for length in row.lengths)


def section_body() -> bytes:
    """The plain text of a section of two packs."""
    keys = forge.Forge(MemoryStorage()).keys
    rows = [SegmentRow(400, [b"a" * 32, b"b" * 32], [10, 20]), SegmentRow(300, [b"c" * 32], [5])]
    packs = [PackRows(Kind.DATA, bytes([number]) * 32, 0, rows, keys.slot_id) for number in range(2)]
    data = encode_index(keys, [section_of(Kind.DATA, packs, signer=keys.slot_id)], COMPRESSORS["zstd"])
    offset, length = index_parts(data, len(data))[Kind.DATA]
    _signer, body = box.open_box(keys, INDEX_BOX[Kind.DATA], data[offset : offset + length])
    return COMPRESSORS["zstd"].decompress(body[4:], size=struct.unpack_from("<I", body)[0])


SECTION = section_body()


@FEW
@given(data=st.data())
def test_indexes(keys: KeyRing, data: st.DataObject) -> None:
    plain = data.draw(mutated(SECTION))
    body = struct.pack("<I", len(plain)) + COMPRESSORS["zstd"].compress(plain)
    sealed = box.seal_box(keys, INDEX_BOX[Kind.DATA], data.draw(st.just(body) | mutated(body)))
    stored = HEADER.pack(b"FZIX", 0, 0, len(sealed)) + sealed
    stored = data.draw(st.just(stored) | mutated(stored))
    try:
        parts = index_parts(stored, len(stored))
        offset, length = parts.get(Kind.DATA, (0, 0))
        section = decode_section(keys, Kind.DATA, stored[offset : offset + length], COMPRESSORS["zstd"])
    except IntegrityError:
        return
    index = BlobIndex()
    index.add(section)
    for blob in section.blob_ids():
        place = index.find(Kind.DATA, blob)
        assert place is not None
        assert place.stored <= segment.MAX_STORED
        assert place.length


# -- pages, lists, what they name ----------------------------------------------------------------------------------


def valid_page() -> bytes:
    extents = struct.pack("<QQQQ", 0, 10, 4096, 10)
    return forge.page(
        [
            forge.Entry(b"dev", 0o020644, facts=[(Extra.DEVICE, struct.pack("<II", 1, 3))]),
            forge.Entry(b"file", content=Content(0, bytes(64)), size=9, facts=[(Extra.XATTR, b"\x06\x00user.xv")]),
            forge.Entry(b"link", forge.LINK, facts=[(Extra.LINK_TARGET, b"file"), (Extra.LINK_GROUP, b"g")]),
            forge.Entry(b"sparse", content=Content(1, bytes(32)), size=4106, facts=[(Extra.EXTENTS, extents)]),
        ]
    )


class OneBlob:
    """Gives the same meta blob for every id."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def meta(self, blob: bytes) -> bytes:
        return self.data


@FEW
@given(mutated(valid_page()))
def test_pages(data: bytes) -> None:
    trees = TreeReader(OneBlob(data))  # type: ignore[arg-type]
    owners = Owners({}, {})
    try:
        names = []
        for node in trees.nodes(Content(0, bytes(32))):
            entry = entry_of(b"/" + node.name, node, owners)
            assert 0 <= entry.size < 1 << 63
            names.append(node.name)
        page = Page(data)
        assert [node.name for node in nodes_of(page, range(page.count))] == names
    except IntegrityError:
        return
    assert names == sorted(set(names))
    assert not {b"", b".", b".."} & set(names)
    assert not any(b"/" in name or b"\0" in name for name in names)


@FEW
@given(mutated(forge.id_list([b"a" * 32, b"b" * 32])), st.integers(0, 15))
def test_lists(data: bytes, depth: int) -> None:
    try:
        assert len(list_ids(data)) % 32 == 0
        for _number, blob in zip(range(1000), content_ids(Content(depth, bytes(32)), lambda blob: data), strict=False):
            assert len(blob) == 32
    except IntegrityError:
        return
    assert depth <= 7


# -- control objects and commits -----------------------------------------------------------------------------------


@FEW
@given(data=st.data())
def test_plain_texts_of_control_objects(keys: KeyRing, data: st.DataObject) -> None:
    name = "marks/" + 32 * "a"
    body = json.dumps({"generation": 1, "packs": [64 * "0"], "created": "2026-11-23T00:00:00+00:00"}).encode()
    encoding, stored = data.draw(st.sampled_from(((0, body), (1, zlib.compress(body)))))
    plain = forge.control_plain(keys, "mark", name, body, encoding=encoding, stored=stored, size=len(body))
    sealed = forge.seal_control(keys, "mark", name, data.draw(st.just(plain) | mutated(plain)))
    try:
        opened = control.open(keys, "mark", name, sealed, role=Role.MAINTAINER)
    except (IntegrityError, UnsupportedFormat):
        return
    assert opened.payload == json.loads(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((1 << 53, -1, 1 << 64, 10**400))
    | st.text(max_size=12)
    | st.sampled_from(("\ud800", "\udcff", "a\x1b[31m", "\u202e", "../../etc", "9" * 5000, "\0"))
    | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made = forge.Forge(MemoryStorage())
    return made.document(made.directory()) | {
        "problems": [{"path": "L2E=", "message": "bm8=", "kind": "unreadable", "fatal": True}],
        "tags": ["a"],
        "origin": {"repository": 32 * "0", "root": {"depth": 0, "ids": ""}},
    }


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_commits(document: dict[str, Any], data: st.DataObject) -> None:
    changed = json.loads(json.dumps(document))
    for _ in range(data.draw(st.integers(1, 3))):
        spot: Any = changed
        while True:
            key = data.draw(st.sampled_from(sorted(spot) if isinstance(spot, dict) else range(len(spot))))
            if isinstance(spot[key], (dict, list)) and spot[key] and data.draw(st.booleans()):
                spot = spot[key]
                continue
            spot[key] = data.draw(json_values)
            break
    try:
        commit = decode_commit(changed, backup_id=document["id"])
    except IntegrityError:
        return
    assert commit.backup.time.tzinfo is not None
    text = json.dumps(backup_document(commit.backup))
    assert json.loads(text)["id"] == document["id"]
    backup_document(commit.backup)["host"].encode("utf-8")  # every stream of output takes it


@pytest.mark.parametrize(
    "changes",
    [
        {"time": "9999-12-31T23:59:59-23:59"},
        {"time": "0001-01-01T00:00:00+23:59"},
        {"root": {"depth": 1e400, "ids": ""}},
        {"root": {"depth": 0, "ids": "00" * 32 * 9}},
        {"generation": 1e400},
        {"generation": 1 << 70},
        {"scan_start_ns": "9" * 5000},
        {"stats": {"bytes": 10**400}},
        {"stats": {"duration": 1e400}},
        {"host": "\ud800"},
        {"tags": "abc"},
        {"tags": [["nested"]]},
        {"users": {"9" * 5000: "root"}},
        {"indexes": ["index/../../../etc/cron.d/" + 64 * "a"]},
        {"indexes": ["packs/aa/" + 64 * "a"]},
    ],
    ids=str,
)
def test_commits_that_others_would_stumble_over(document: dict[str, Any], changes: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        decode_commit(document | changes, backup_id=document["id"])


def test_facts_that_are_nested_too_deeply(document: dict[str, Any]) -> None:
    nested: Any = {}
    for _ in range(500):
        nested = {"a": [nested]}
    with pytest.raises(IntegrityError):
        decode_commit(document | {"facts": nested}, backup_id=document["id"])


# -- configurations, slots, bundles --------------------------------------------------------------------------------


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_configurations_that_a_maintainer_signed(data: st.DataObject) -> None:
    storage = MemoryStorage()
    made = forge.Forge(storage)
    good = successor(made.keys.config, made.keys.config.changed)
    signed = encode_config(good, made.keys.slot_id, made.keys.secret.signing)
    body = json.loads(signed.signed)
    field = data.draw(st.sampled_from(sorted(body)))
    value = data.draw(json_values)
    if data.draw(st.booleans()) and isinstance(body[field], list) and body[field] and isinstance(body[field][0], dict):
        body[field][0][data.draw(st.sampled_from(sorted(body[field][0])))] = value
    else:
        body[field] = value
    raw = json.dumps(body).encode()
    message = b"".join(
        (
            b"freezer-sdk/1/signature\0",
            made.keys.repository_id,
            made.keys.slot_id,
            struct.pack("<I", 7),
            b"config\0",
            raw,
        )
    )
    tail = {"signature": made.keys.secret.signing.sign(message).hex(), "signer": made.keys.slot_id.hex()}
    stored = raw + b"\n" + json.dumps(tail).encode() + b"\n"
    for place in ("config/00000002", "copies/config/00000002"):
        storage.put(place, [stored])
    try:
        decode_config(stored, 2)
        keys = open_repository(storage, lambda: None)
    except FreezerError:
        return
    with Freezer(storage) as freezer:
        assert freezer.info().id == keys.repository_id.hex()
        assert freezer.backups() == []


@FEW
@given(data=st.data())
def test_bundles(keys: KeyRing, data: st.DataObject) -> None:
    line = keys.config.roster[0]
    good = keys.epochs[1].seal(keys.repository_id, line.id, line.kem_public, OWNER)
    info = b"freezer-sdk/1/bundle\0" + keys.repository_id + line.id + struct.pack("<I", 1)
    plain = bytes(hpke.open(keys.secret.kem_private, good.sealed, info, suite=good.suite))
    body = json.loads(plain)
    body[data.draw(st.sampled_from(sorted(body)))] = data.draw(json_values)
    text = data.draw(st.just(json.dumps(body).encode()) | mutated(plain))
    bundle = Bundle(epoch=1, suite=hpke.SUITE, sealed=hpke.seal(line.kem_public, text, info))
    try:
        opened = open_bundle(
            bundle,
            repository_id=keys.repository_id,
            slot_id=line.id,
            kem_private=keys.secret.kem_private,
            epoch=keys.config.epochs[0],
            roles=OWNER,
        )
    except (IntegrityError, UnsupportedFormat):
        return
    assert opened == keys.epochs[1]


# -- files of this machine -----------------------------------------------------------------------------------------

toml_text = st.lists(
    st.sampled_from(
        (
            "[profiles.a]",
            "[profiles.a.backup]",
            "[[profiles]]",
            'storage = "local:/x"',
            "storage = [1, {a = 2}]",
            "group = ['a', 'b']",
            "profile = 'a'",
            "profile = 1979-05-27",
            "keyring = 'yes'",
            "password-command = [1]",
            "'\\u0000' = 1",
            "stall-timeout = inf",
            "backup = 3",
            "storage-options = {a.b = 1}",
        )
    )
    | st.text(max_size=30),
    max_size=8,
).map("\n".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=toml_text)
def test_configuration_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        read = parse_config(path)
    except ConfigurationError:
        return
    assert all(isinstance(url, str) for profile in read.profiles.values() for url in profile.storages)


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "{a=" * 5000, "x" * 1_000_000 + "= 1"])
def test_configuration_files_that_are_deep_or_long(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        parse_config(path)
    assert len(caught.value.message) < 2_000_000


def test_references_that_grow_in_an_osrc_file() -> None:
    lines = ["A0=xxxxxxxx", *(f'A{n}="$A{n - 1}$A{n - 1}$A{n - 1}$A{n - 1}"' for n in range(1, 60))]
    lines += [f"B{n}=$A{n}$A{n}$A{n}$A{n}" for n in range(60)]
    found = parse_osrc("\n".join(lines))
    assert found.values["A1"] == "x" * 32
    assert sum(map(len, found.values.values())) < 1_000_000
    assert "A59" in found.unknown


# -- places --------------------------------------------------------------------------------------------------------

SCHEMES = ("local", "sftp", "ssh", "s3", "swift", "ftp", "ftps")
url_rest = st.builds(
    "{}{}".format,
    st.sampled_from((":", "://", ":/", "")),
    st.lists(
        st.sampled_from(
            ("user:secret@", "[::1]", "[", "]", ":99999", ":-1", "/..", "//", "?a=b", "#", "%zz", "%00", "host")
        )
        | st.text(max_size=8),
        max_size=6,
    ).map("".join),
)


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name in PluginRegistry().names(STORAGE)])
@settings(max_examples=120, deadline=None)
@given(rest=url_rest)
def test_urls(scheme: str, rest: str) -> None:
    plugin = PluginRegistry().load(STORAGE, scheme)
    try:
        options = plugin.parse_url(scheme + rest)
        validate(plugin.options, options, owner="it")
    except ConfigurationError:
        pass
