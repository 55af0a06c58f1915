"""Writes the test vectors of the data sections into the format's document: ``python tests/dedup/make_data_vectors.py``.

They lie in the repository of the vector "repository", which ``make_key_vectors.py`` makes. Sealing is randomised, so
every run gives other vectors.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from mmap import mmap
from pathlib import Path

from document import read_vectors, write_blocks

from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import control, segment
from freezer_sdk.engines.dedup.access import open_repository
from freezer_sdk.engines.dedup.box import seal_box
from freezer_sdk.engines.dedup.chunker import DEFAULT_CLASSES, Chunkers
from freezer_sdk.engines.dedup.engine import DedupEngine
from freezer_sdk.engines.dedup.index import PackRows, encode_index, section_of
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.layout import Kind, index_name, pack_name
from freezer_sdk.engines.dedup.pack import OpenPack, SegmentRow, encode_table, read_table
from freezer_sdk.engines.dedup.page import Content, ContentBuilder, Page, encode_page
from freezer_sdk.engines.dedup.segment import SegmentHeader
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import BackupOptions
from freezer_sdk.modes.base import STAT, Extra, Protected
from freezer_sdk.storages.memory import MemoryStorage

ZSTD = ZstdCompressor()
CONTENTS = [[b"freezer " * 64, b"sdk " * 64], [b"too short to be compressed"]]
HELLO = b"Hello from the example.\n"
STAMP = 1_767_323_045_678_000_000  # 2026-01-02T03:04:05.678 UTC

Dump = Iterable[tuple[str, bytes]]


class Sealed:
    """A pack of two segments, its parts, and an index of it."""

    def __init__(self, keys: KeyRing) -> None:
        self.keys = keys
        ids = [[blob_id(keys.data_hash_key(), blob) for blob in blobs] for blobs in CONTENTS]
        pack = OpenPack(Kind.DATA, keys.new_run_key(), ids[0], keys.repository_id, mmap(-1, 1 << 20))
        self.frames = []
        for blobs, named in zip(CONTENTS, ids, strict=True):
            lengths = [len(blob) for blob in blobs]
            plain = segment.frame(lengths, *segment.compress(b"".join(blobs), ZSTD, None))
            header, target = pack.reserve(len(plain), named, lengths)
            segment.seal(plain, header, pack.key, keys.repository_id, target)
            self.frames.append(bytes(plain))
        digest, parts = pack.finish(keys)
        self.rows, self.stored, self.name = pack.rows, b"".join(parts), pack_name(Kind.DATA, digest)
        packs = {Kind.DATA: PackRows(Kind.DATA, digest, len(self.stored), pack.rows, keys.slot_id)}
        meta = [blob_id(keys.meta_hash_key(), blob) for blob in (b"one", b"two")]
        rows = [SegmentRow(1000, meta, [3, 3])]
        packs[Kind.META] = PackRows(
            Kind.META, hashlib.sha256(b"a pack of meta blobs").digest(), 0, rows, bytes(range(16))
        )
        self.index = encode_index(keys, [section_of(kind, [packs[kind]], keys.slot_id) for kind in Kind], ZSTD)
        self.packs = packs
        self.places = {kind: _places(pack) for kind, pack in packs.items()}

    def vectors(self) -> dict[str, object]:
        """Segment, pack, box and index."""
        first = self.stored[: self.rows[0].stored]
        header = SegmentHeader.unpack(first)
        return {
            "segment": {
                "kind": int(header.kind),
                "epoch": header.epoch,
                "counter": header.counter,
                "salt": header.salt.hex(),
                "method": "zstd",
                "blobs": [blob.decode() for blob in CONTENTS[0]],
                "frame": self.frames[0].hex(),
                "stored": first.hex(),
            },
            "pack": {
                "name": self.name,
                "segments": [
                    {
                        "stored": row.stored,
                        "blobs": [[blob.hex(), length] for blob, length in zip(row.ids, row.lengths, strict=True)],
                    }
                    for row in self.rows
                ],
                "stored": self.stored.hex(),
            },
            "box": {
                "kind": 1,
                "body": encode_table(self.rows).hex(),
                "stored": seal_box(self.keys, 1, encode_table(self.rows)).hex(),
            },
            "index": {
                "name": index_name(hashlib.sha256(self.index).digest()),
                "writers": {pack.digest.hex(): pack.writer.hex() for pack in self.packs.values()},
                "data": self.places[Kind.DATA],
                "meta": self.places[Kind.META],
                "stored": self.index.hex(),
            },
        }


def _places(pack: PackRows) -> list[list[object]]:
    """Rows of id, pack, offset and stored length of the segment, offset and length of the blob in it."""
    found: list[list[object]] = []
    offset = 0
    for row in pack.rows:
        start = 0
        for blob, length in zip(row.ids, row.lengths, strict=True):
            found.append([blob.hex(), pack.digest.hex(), offset, row.stored, start, length])
            start += length
        offset += row.stored
    return sorted(found)


def counted(size: int) -> list[bytes]:
    """SHA-256 of u32 0, 1, 2 ..."""
    return [hashlib.sha256(struct.pack("<I", number)).digest() for number in range(size)]


def cuts(keys: KeyRing) -> dict[str, object]:
    """Chunk lengths of the first two size classes."""
    data = b"".join(counted(1 << 16))
    chunkers = Chunkers(keys.chunker_seed)
    lengths = {c.average: [chunk.length for chunk in chunkers.cutter(c)(memoryview(data))] for c in DEFAULT_CLASSES[:2]}
    return {"chunker_seed": f"{keys.chunker_seed:016x}", "size": len(data), "lengths": lengths}


def content(keys: KeyRing) -> dict[str, object]:
    """A content of more ids than a page holds."""
    lists = []

    def store(blob: bytes) -> bytes:
        lists.append({"id": blob_id(keys.meta_hash_key(), blob).hex(), "ids": (len(blob) - 2) // 32})
        return bytes.fromhex(str(lists[-1]["id"]))

    builder = ContentBuilder(store)
    for blob in counted(12_000):
        builder.add(blob)
    found = builder.finish()
    return {"count": 12_000, "depth": found.depth, "ids": found.ids.hex(), "lists": lists}


def page(keys: KeyRing) -> dict[str, object]:
    """A directory, a file with facts, a symlink, a sparse file, and a name that is no text."""
    xattr = struct.pack("<H", 12) + b"user.comment" + b"kept"
    entries: list[tuple[bytes, tuple[int, ...], Content, Sequence[tuple[int, bytes]]]] = [
        (b"dir", (0o040755, 0, 0, 0, 0, STAMP, STAMP + 1, 11), Content(0, counted(1)[0]), ()),
        (
            b"file",
            (0o100644, 1000, 100, 1, 70_000, STAMP, STAMP + 2, 12),
            Content(0, b"".join(counted(2))),
            [(2, xattr)],
        ),
        (b"link", (0o120777, 0, 0, 0, 4, -1, STAMP + 3, 13), Content(0, b""), [(Extra.LINK_TARGET, b"file")]),
        (
            b"sparse",
            (0o100600, 0, 0, 0, 1 << 20, STAMP, STAMP + 4, 1 << 40),
            Content(1, counted(3)[2]),
            [(Extra.EXTENTS, struct.pack("<QQQQ", 4096, 8192, 65536, 4096))],
        ),
        (b"\xff\xfe", (0o010600, 0, 0, 0, 0, STAMP, STAMP, 15), Content(0, b""), ()),
    ]
    stored = encode_page(
        [entry[0] for entry in entries],
        b"".join(STAT.pack(*entry[1]) for entry in entries),
        [entry[2] for entry in entries],
        [(number, entry[3]) for number, entry in enumerate(entries) if entry[3]],
    )
    return {
        "id": blob_id(keys.meta_hash_key(), stored).hex(),
        "entries": [
            {
                "name": name.hex(),
                "attributes": list(attributes),
                "depth": inside.depth,
                "ids": inside.ids.hex(),
                "facts": [[tag, value.hex()] for tag, value in facts],
            }
            for name, attributes, inside, facts in entries
        ],
        "stored": stored.hex(),
    }


class Example:
    """The worked example: a backup of one file in one directory."""

    def __init__(self, objects: dict[str, str], password: str) -> None:
        self.storage = MemoryStorage()
        for name, text in objects.items():
            self.storage.put(name, [text.encode()])
            self.storage.put("copies/" + name, [text.encode()])
        self.keys = open_repository(self.storage, lambda: password)
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder, "example")
            base.mkdir(mode=0o755)
            file = base / "hello.txt"
            file.write_bytes(HELLO)
            file.chmod(0o644)
            for path in (file, base):
                os.utime(path, ns=(STAMP, STAMP))
            time.sleep(0.1)  # older than what counts as racy
            tree = LocalTree([b"/srv/example"], shadow={b"/srv/example": os.fsencode(base)})
            options = BackupOptions(name="example", host="node1", username="root", machine_id="0" * 32)
            repository = DedupEngine(compression="none").open(self.storage, password=lambda: password)
            self.backup = repository.backup(Protected(sources=[tree]), options, Context())
            self.entries = list(repository.entries(self.backup.id))
            self.blobs = repository._reader()
        added = {info.name: self.storage.get(info.name) for info in self.storage.list()}
        self.objects = {
            name: data for name, data in sorted(added.items()) if name.removeprefix("copies/") not in objects
        }

    def named(self, prefix: str) -> tuple[str, bytes]:
        """The one object below a prefix."""
        ((name, data),) = ((name, data) for name, data in self.objects.items() if name.startswith(prefix))
        return name, data

    def commit(self) -> dict[str, object]:
        """The commit's document."""
        name, data = self.named("backups/")
        payload, _signer = control.open(self.keys, "backup", name, data, role=Role.WRITER)
        return {"name": name, "document": payload}

    def vector(self) -> dict[str, object]:
        """Objects, and what they must give."""
        return {
            "tree": [
                {
                    "path": entry.path.decode(),
                    "mode": f"{entry.mode:04o}",
                    "size": entry.size,
                    "mtime": entry.mtime_ns,
                    "content": HELLO.decode() if entry.size else None,
                }
                for entry in self.entries
            ],
            "objects": {name: base64.b64encode(data).decode() for name, data in self.objects.items()},
        }

    def dumps(self) -> dict[str, str]:
        """What the prose shows."""
        holds = {
            "backups": "the commit",
            "index": "where the three blobs lie",
            "leases": "the writer's lease",
            "meta": "a pack of one segment of two pages",
            "packs": "a pack of one segment of one blob",
        }
        lines = []
        for name, data in self.objects.items():
            what = "the lease, closed" if name.endswith("/closed") else holds[name.partition("/")[0]]
            lines.append(f"{name}\n    {len(data)} bytes: {what}")
        stored = self.named("meta/")[1]
        rows = read_table(self.keys, Kind.META, stored).rows
        roots, inside = (self.blobs.meta(blob) for blob in (rows[0].ids[1], rows[0].ids[0]))
        return {
            "objects": "\n".join(lines),
            "segment-header": dump(header_fields(stored)),
            "frame": dump(frame_fields(self.keys, stored[: rows[0].stored])),
            "roots-page": dump(page_fields(roots)),
            "directory-page": dump(page_fields(inside)),
        }


def header_fields(data: bytes) -> Dump:
    """The fields of a segment's header."""
    fields = {
        "magic": 4,
        "version": 1,
        "kind: meta": 1,
        "reserved": 2,
        "length of the ciphertext": 4,
        "epoch": 4,
        "counter": 4,
        "salt of the pack": 32,
        "sealed run key": 80,
    }
    return split(data, fields)


def frame_fields(keys: KeyRing, data: bytes) -> Dump:
    """The fields of a frame of two blobs, not compressed."""
    header = SegmentHeader.unpack(data)
    key = segment.pack_key(keys.open_run_key(header.epoch, header.sealed), header.salt, keys.repository_id)
    plain = segment.Aead(key).open(
        header.counter, data[132:], b"freezer-sdk/1/segment\0" + keys.repository_id + data[:132]
    )
    first, second = struct.unpack_from("<II", plain, 17)
    fields = {
        "length of the name": 1,
        "none": 4,
        "bytes of all blobs": 4,
        "number of blobs": 4,
        "bytes of the payload": 4,
        "length of the first": 4,
        "length of the second": 4,
        "page of /srv/example": first,
        "page of the roots": second,
        "padding": len(plain) - 25 - first - second,
    }
    return split(bytes(plain), fields)


def page_fields(data: bytes) -> Dump:
    """The fields of a page of one entry with one id."""
    names = len(Page(data).names_column)
    fields = {
        "kind and version": 2,
        "reserved": 2,
        "number of entries": 4,
        "bytes of the names": 4,
        "bytes of the facts": 4,
        "name": names,
        "mode": 4,
        "uid": 4,
        "gid": 4,
        "flags": 4,
        "size": 8,
        "mtime": 8,
        "ctime": 8,
        "inode": 8,
        "depth 0, one id": 1,
        "id": 32,
    }
    return split(data, fields)


def split(data: bytes, fields: dict[str, int]) -> Dump:
    """Cuts bytes into named fields, from the first."""
    at = 0
    for label, size in fields.items():
        yield label, data[at : at + size]
        at += size


def dump(fields: Dump) -> str:
    """Offset, bytes, and the field's name."""
    lines, at = [], 0
    for label, data in fields:
        for start in range(0, len(data), 16):
            piece = data[start : start + 16]
            lines.append(f"{at:5}  {piece.hex(' '):<47}  {'' if start else label}".rstrip())
            at += len(piece)
    return "\n".join(lines)


def main() -> int:
    """Rewrites the blocks in place."""
    repository = read_vectors()["repository"]
    example = Example(repository["objects"], repository["password"])
    keys = example.keys
    vectors = {
        "cuts": cuts(keys),
        "padding": [[size, segment.padded(size)] for size in (0, 1, 2, 9, 100, 1000, 65_537, 1_048_577)],
        **Sealed(keys).vectors(),
        "content": content(keys),
        "page": page(keys),
        "commit": example.commit(),
        "example": example.vector(),
    }
    write_blocks(vectors, example.dumps())
    return 0


if __name__ == "__main__":
    sys.exit(main())
