"""The data sections of the format's document: their vectors and worked example, by our code and by a second reader.

The second reader was written from the document alone; it must also restore repositories that are made here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import stat
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from dedup import second_reader
from dedup.document import read_dumps, read_vectors

from freezer_sdk import Freezer
from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.crypto.kdf import Argon2Params
from freezer_sdk.engines.dedup import control, keyholders, segment
from freezer_sdk.engines.dedup.access import create_repository, open_repository
from freezer_sdk.engines.dedup.box import open_box
from freezer_sdk.engines.dedup.chunker import DEFAULT_CLASSES, Chunkers
from freezer_sdk.engines.dedup.commit import decode_commit, encode_commit
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.index import BlobIndex, decode_section, index_parts
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import Kind, digest_of, parse_backup_name
from freezer_sdk.engines.dedup.pack import decode_table, encode_table, read_table
from freezer_sdk.engines.dedup.page import Content, ContentBuilder, Page, content_ids, encode_page, list_ids
from freezer_sdk.modes.base import STAT
from freezer_sdk.storages.memory import MemoryStorage

VECTORS, DUMPS = read_vectors(), read_dumps()
PASSWORD = VECTORS["repository"]["password"]
EMPTY = {name: text.encode() for name, text in VECTORS["repository"]["objects"].items()}
EXAMPLE = {
    **EMPTY,
    **{"copies/" + name: data for name, data in EMPTY.items()},
    **{name: base64.b64decode(text) for name, text in VECTORS["example"]["objects"].items()},
}
DATA, META = second_reader.DATA, second_reader.META
QUICK = Argon2Params(memory=64, time=1, lanes=1)
compressor = DedupEngine().compressor


@pytest.fixture(scope="module")
def storage() -> MemoryStorage:
    storage = MemoryStorage()
    for name, data in EXAMPLE.items():
        storage.put(name, [data])
    return storage


@pytest.fixture(scope="module")
def ring(storage: MemoryStorage) -> KeyRing:
    return open_repository(storage, lambda: PASSWORD)


@pytest.fixture(scope="module")
def second() -> second_reader.Repository:
    return second_reader.Repository(EXAMPLE, PASSWORD)


def stored(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name]["stored"])


def sha(number: int) -> bytes:
    return hashlib.sha256(struct.pack("<I", number)).digest()


# -- one section after the other ---------------------------------------------------------------------------------


def test_cuts_are_where_they_have_always_been(ring: KeyRing) -> None:
    vector = VECTORS["cuts"]
    assert ring.chunker_seed == int(vector["chunker_seed"], 16)
    data = memoryview(b"".join(sha(number) for number in range(vector["size"] // 32)))
    chunkers = Chunkers(ring.chunker_seed)
    classes = {str(each.average): each for each in DEFAULT_CLASSES}
    for average, lengths in vector["lengths"].items():
        assert [chunk.length for chunk in chunkers.cutter(classes[average])(data)] == lengths
        assert sum(lengths) == len(data)
        assert min(lengths[:-1]) >= int(average) // 4
        assert max(lengths) <= int(average) * 4


def test_padding() -> None:
    for size, padded in VECTORS["padding"]:
        assert segment.padded(size) == second_reader.padded(size) == padded


def test_segment(ring: KeyRing, second: second_reader.Repository) -> None:
    vector, data = VECTORS["segment"], stored("segment")
    blobs = [blob.encode() for blob in vector["blobs"]]
    opened = segment.open_segment(data, ring, compressor)
    assert [bytes(blob) for blob in opened.blobs()] == blobs
    assert (opened.header.kind, opened.header.epoch, opened.header.counter) == (vector["kind"], vector["epoch"], 0)
    found = second.segment(data + b"what follows")
    assert found.blobs == blobs
    assert (found.kind, found.counter, found.method) == (vector["kind"], vector["counter"], vector["method"])
    assert (found.salt.hex(), found.frame.hex()) == (vector["salt"], vector["frame"])
    assert found.stored == len(data)


def test_pack(ring: KeyRing, second: second_reader.Repository) -> None:
    vector, data = VECTORS["pack"], stored("pack")
    assert vector["name"].endswith("/" + hashlib.sha256(data).hexdigest())
    wanted = [
        (row["stored"], [(bytes.fromhex(blob), length) for blob, length in row["blobs"]]) for row in vector["segments"]
    ]
    rows, used, writer = read_table(ring, Kind.DATA, data)
    assert [(row.stored, list(zip(row.ids, row.lengths, strict=True))) for row in rows] == wanted
    assert sum(row.stored for row in rows) + used == len(data)
    assert writer == ring.slot_id
    table = second.table(DATA, data)
    assert [(row.stored, row.blobs) for row in table] == wanted
    assert second.salvage(data) == table
    damaged = bytearray(data)
    damaged[200] ^= 1  # in the first segment: only it is lost
    assert second.salvage(bytes(damaged)) == table[1:]


def test_box(ring: KeyRing, second: second_reader.Repository) -> None:
    vector, data = VECTORS["box"], stored("box")
    body = bytes.fromhex(vector["body"])
    assert open_box(ring, vector["kind"], data) == (ring.slot_id, body)
    assert second.box(vector["kind"], data) == body
    assert encode_table(decode_table(body)) == body


def test_index(ring: KeyRing, second: second_reader.Repository) -> None:
    vector, data = VECTORS["index"], stored("index")
    assert vector["name"] == "index/" + hashlib.sha256(data).hexdigest()
    index = BlobIndex()
    for kind, (offset, length) in index_parts(data, len(data)).items():
        index.add(decode_section(ring, kind, data[offset : offset + length], compressor("zstd")))
    found = second.index(data)
    for kind, rows in ((Kind.DATA, vector["data"]), (Kind.META, vector["meta"])):
        assert len(found[kind]) == len(rows)
        for blob, pack, *numbers in rows:
            place = index.find(kind, bytes.fromhex(blob))
            assert place is not None
            assert [place.pack.hex(), *place[2:]] == [pack, *numbers]
            name, *others = found[kind][bytes.fromhex(blob)]
            assert name == f"{kind.prefix}{pack[:2]}/{pack}"
            assert others == numbers
    writers = {
        pack.hex(): writer.hex()
        for section in index.sections
        for pack, writer in zip(section.packs, section.writers, strict=True)
    }
    assert writers == second.writers(data) == vector["writers"]
    assert {section.signer for section in index.sections} == {ring.slot_id}


def test_content(ring: KeyRing) -> None:
    vector = VECTORS["content"]
    wanted = [sha(number) for number in range(vector["count"])]
    blobs: dict[bytes, bytes] = {}

    def store(blob: bytes) -> bytes:
        blobs[blob_id(ring.meta_hash_key(), blob)] = blob
        return next(reversed(blobs))

    builder = ContentBuilder(store)
    for blob in wanted:
        builder.add(blob)
    content = builder.finish()
    assert (content.depth, content.ids.hex()) == (vector["depth"], vector["ids"])
    assert content.depth > 0
    assert [[blob.hex(), len(list_ids(data)) // 32] for blob, data in blobs.items()] == [
        [each["id"], each["ids"]] for each in vector["lists"]
    ]
    assert list(content_ids(content, blobs.__getitem__)) == wanted


def test_page(ring: KeyRing) -> None:
    vector, data = VECTORS["page"], stored("page")
    assert blob_id(ring.meta_hash_key(), data).hex() == vector["id"]
    entries = vector["entries"]
    names = [bytes.fromhex(entry["name"]) for entry in entries]
    contents = [Content(entry["depth"], bytes.fromhex(entry["ids"])) for entry in entries]
    facts = [[(tag, bytes.fromhex(value)) for tag, value in entry["facts"]] for entry in entries]
    page = Page(data)
    assert page.names == names
    assert [list(attributes) for attributes in page.attributes()] == [entry["attributes"] for entry in entries]
    assert page.contents == contents
    assert page.extras() == {number: each for number, each in enumerate(facts) if each}
    rows = b"".join(STAT.pack(*entry["attributes"]) for entry in entries)
    assert encode_page(names, rows, contents, [(number, each) for number, each in enumerate(facts) if each]) == data
    for entry, name, content, each, wanted in zip(
        second_reader.read_page(data), names, contents, facts, entries, strict=True
    ):
        assert entry.name == name
        assert list(entry[1:9]) == wanted["attributes"]
        assert (entry.content.depth, b"".join(entry.content.ids)) == content
        assert [(tag, value) for tag, values in entry.facts.items() for value in values] == each


def test_commit(ring: KeyRing, second: second_reader.Repository) -> None:
    name, document = VECTORS["commit"]["name"], VECTORS["commit"]["document"]
    payload, _signer = control.open(ring, "backup", name, EXAMPLE[name], role=Role.WRITER)
    assert payload == document == second.control("backup", name, "writer")
    parsed = parse_backup_name(name)
    assert parsed is not None
    assert encode_commit(decode_commit(payload, backup_id=parsed[1])) == document


# -- the worked example ------------------------------------------------------------------------------------------


def test_the_example_restores(storage: MemoryStorage, second: second_reader.Repository, tmp_path: Path) -> None:
    wanted = VECTORS["example"]["tree"]
    (commit,) = second.backups().values()
    assert [
        {
            "path": path.decode(),
            "mode": f"{stat.S_IMODE(entry.mode):04o}",
            "size": entry.size,
            "mtime": entry.mtime,
            "content": None if content is None else content.decode(),
        }
        for path, (entry, content) in second.restore(commit).items()
    ] == wanted
    with Freezer(storage, password=PASSWORD) as freezer:
        assert freezer.verify(read_data=True).problems == ()
        freezer.restore(commit["id"], tmp_path / "out")
    assert (tmp_path / "out" / "hello.txt").read_text() == wanted[1]["content"]


def test_the_dumps_show_the_example(second: second_reader.Repository) -> None:
    def shown(name: str) -> bytes:
        lines = [(int(line[:5]), bytes.fromhex(line[7:54])) for line in DUMPS[name].splitlines()]
        assert [at for at, _piece in lines] == [sum(len(piece) for _at, piece in lines[:n]) for n in range(len(lines))]
        return b"".join(piece for _at, piece in lines)

    (meta,) = (data for name, data in EXAMPLE.items() if name.startswith("meta/"))
    (opened,) = (second.segment(meta[row.offset :]) for row in second.table(META, meta))
    assert shown("segment-header") == meta[:132]
    assert shown("frame") == opened.frame
    assert [shown("directory-page"), shown("roots-page")] == opened.blobs
    lines = iter(DUMPS["objects"].splitlines())
    sizes = {name: int(next(lines).split()[0]) for name in lines}
    added = {name: len(data) for name, data in EXAMPLE.items() if name.removeprefix("copies/") not in EMPTY}
    assert sizes == added


# -- real repositories -------------------------------------------------------------------------------------------


def make_source(base: Path) -> None:
    rng = random.Random(4)
    for number in range(150):
        path = base / f"d{number % 7}" / f"file {number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice((0, 1, 500, 9000))) + b"z" * number)
    (base / "large").write_bytes(rng.randbytes(3 << 20))
    (base / "text").write_bytes(b"the same line\n" * 100_000)
    with (base / "sparse").open("wb") as file:
        file.write(b"start")
        file.seek(2 << 20)
        file.write(b"middle" * 1000)
        file.truncate(5 << 20)
    with (base / "hole").open("wb") as file:
        file.truncate(1 << 20)
    (base / "link").symlink_to("text")
    (base / "dangling").symlink_to("/nowhere/at all")
    (base / os.fsdecode(b"no text \xff\xfe")).write_bytes(b"bytes")
    (base / "empty directory").mkdir()
    os.link(base / "text", base / "hard link")
    os.mkfifo(base / "fifo")
    many = base / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"mail-{number:05d}").touch()


def read_source(base: Path) -> dict[bytes, Any]:
    """Absolute path to type and mode, owner, size, mtime, and content or target."""
    found = {os.fsencode(base): facts_of(os.fsencode(base))}
    for folder, folders, files in os.walk(os.fsencode(base)):
        for name in (*folders, *files):
            found[os.path.join(folder, name)] = facts_of(os.path.join(folder, name))
    return found


def facts_of(path: bytes) -> tuple[object, ...]:
    info = os.lstat(path)
    content: bytes | None = None
    if stat.S_ISREG(info.st_mode):
        content = Path(os.fsdecode(path)).read_bytes()
    elif stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)
    size = len(content) if content is not None else 0
    return info.st_mode, info.st_uid, info.st_gid, size, info.st_mtime_ns, content


def by_second_reader(reader: second_reader.Repository, commit: dict[str, Any]) -> dict[bytes, Any]:
    found = {}
    for path, (entry, content) in reader.restore(commit).items():
        value = entry.facts[1][0] if stat.S_ISLNK(entry.mode) else content
        found[path] = (entry.mode, entry.uid, entry.gid, entry.size, entry.mtime, value)
    return found


def everything(storage: MemoryStorage) -> dict[str, bytes]:
    return {info.name: storage.get(info.name) for info in storage.list()}


def test_the_second_reader_restores_a_real_repository(tmp_path: Path) -> None:
    source, storage = tmp_path / "source", MemoryStorage()
    make_source(source)
    time.sleep(0.1)
    wanted, ids = [], []
    create_repository(storage, password="first", kdf=QUICK)
    for engine_options, change in (
        ({}, lambda: None),
        ({"compression": "zlib"}, lambda: (source / "many" / "mail-01500-new").write_bytes(b"new")),
        ({"compression": "bzip2"}, lambda: (source / "d1").rename(source / "renamed")),
        ({"compression": "xz"}, lambda: (source / "xz").write_bytes(b"x" * 70_000)),
        ({"compression": "none"}, lambda: (source / "large").write_bytes(random.Random(5).randbytes(100_000))),
    ):
        change()
        with Freezer(storage, password="first", engine_options=engine_options) as freezer:
            ids.append(freezer.backup(source, name="tree").id)
        wanted.append(read_source(source))
        if len(ids) == 2:  # another slot, and another epoch
            keys = open_repository(storage, lambda: "first")
            keyholders.add_slot(storage, keys, password="second", roles=[Role.READER], kdf=QUICK)
            keyholders.rotate(storage, keys)
    with Freezer(storage, password="first") as freezer:
        freezer.forget(freezer.backup(source).id)
        assert [entry.path for entry in freezer.entries(ids[0])] == sorted(wanted[0], key=lambda path: path.split(b"/"))
    objects = everything(storage)
    for password in ("first", "second"):
        reader = second_reader.Repository(objects, password)
        commits = reader.backups()
        assert list(commits) == ids
        chosen = range(len(ids)) if password == "first" else [4]
        for number in chosen:
            assert by_second_reader(reader, commits[ids[number]]) == wanted[number]
    assert reader.config["epochs"][-1]["number"] == 2
    with pytest.raises(second_reader.WrongPassword):
        second_reader.Repository(objects, "third")
    for like in (open_repository(storage, lambda: "first"), None):
        copies = MemoryStorage()
        create_repository(copies, password="third", kdf=QUICK, like=like)
        with Freezer(storage, password="first") as freezer, Freezer(copies, password="third") as target:
            target.copy(freezer)
        reader = second_reader.Repository(everything(copies), "third")
        commits = reader.backups()
        assert list(commits) == ids
        for number in (0, 4):
            assert by_second_reader(reader, commits[ids[number]]) == wanted[number]


def test_the_second_reader_rebuilds_what_the_indexes_say(tmp_path: Path) -> None:
    source, storage = tmp_path / "source", MemoryStorage()
    source.mkdir()
    for number in range(20):
        (source / str(number)).write_bytes(random.Random(number).randbytes(300_000))
    with Freezer(storage, create=True, encryption=False, engine_options={"pack_size": "1M"}) as freezer:
        freezer.backup(source, name="tree")
    objects = everything(storage)
    reader = second_reader.Repository(objects, None)
    indexed: dict[int, dict[bytes, second_reader.Place]] = {DATA: {}, META: {}}
    for name in objects:
        if name.startswith("index/"):
            for kind, places in reader.index(objects[name]).items():
                indexed[kind] |= places
    packs = [name for name in objects if name.startswith(("packs/", "meta/"))]
    assert len(packs) > 3
    rebuilt: dict[int, dict[bytes, second_reader.Place]] = {DATA: {}, META: {}}
    for name in packs:
        kind = META if name.startswith("meta/") else DATA
        digest = digest_of(name)
        assert digest == hashlib.sha256(objects[name]).digest()
        rows = reader.table(kind, objects[name])
        assert reader.salvage(objects[name]) == rows
        for row in rows:
            start = 0
            for blob, length in row.blobs:
                rebuilt[kind][blob] = second_reader.Place(name, row.offset, row.stored, start, length)
                start += length
    assert rebuilt == indexed


def test_the_second_reader_knows_nothing_of_the_program() -> None:
    text = Path(second_reader.__file__).read_text(encoding="utf-8")
    assert "freezer_sdk" not in text
    assert json.dumps(VECTORS)  # every vector is JSON
