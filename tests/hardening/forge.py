"""A writer that lies: repositories whose seals and signatures are right, and whose content is what a test wants."""

from __future__ import annotations

import hashlib
import json
import secrets
import stat
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from mmap import mmap
from typing import Any

from freezer_sdk.compressors.zstd import ZstdCompressor
from freezer_sdk.crypto.aead import Aead
from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.crypto.kdf import Argon2Params, hkdf
from freezer_sdk.engines.dedup import control, segment
from freezer_sdk.engines.dedup.access import create_repository
from freezer_sdk.engines.dedup.commit import Commit, encode_commit
from freezer_sdk.engines.dedup.index import PackRows, encode_index, section_of
from freezer_sdk.engines.dedup.keyring import KeyRing
from freezer_sdk.engines.dedup.layout import Kind, backup_name, index_name, pack_name
from freezer_sdk.engines.dedup.pack import OpenPack
from freezer_sdk.engines.dedup.page import Content
from freezer_sdk.engines.dedup.tree import Owners
from freezer_sdk.model import Backup, Status
from freezer_sdk.modes.base import STAT
from freezer_sdk.storages.base import Storage

CHEAP = Argon2Params(memory=8, time=1, lanes=1)
ZSTD = ZstdCompressor()
START = datetime(2026, 11, 23, 5, 32, 16, 123000, tzinfo=UTC)
FILE, DIRECTORY, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777

Facts = Sequence[tuple[int, bytes]]


class Entry:
    """One row of a page, in which everything can be chosen."""

    def __init__(
        self,
        name: bytes,
        mode: int = FILE,
        content: Content | None = None,
        *,
        size: int = 0,
        facts: Facts = (),
        flags: int = 0,
        uid: int = 0,
        gid: int = 0,
        mtime: int = 1,
    ) -> None:
        self.name, self.content, self.facts = name, content or Content(0, b""), facts
        self.row = STAT.pack(mode, uid, gid, flags, size, mtime, 1, 1)


def page(entries: Sequence[Entry], *, count: int | None = None) -> bytes:
    """The bytes of a page, unchecked."""
    names = b"\0".join(entry.name for entry in entries)
    facts = b"".join(
        struct.pack("<IBI", number, tag, len(value)) + value
        for number, entry in enumerate(entries)
        for tag, value in entry.facts
    )
    return b"".join(
        (
            struct.pack("<2sHIII", b"P\1", 0, len(entries) if count is None else count, len(names), len(facts)),
            names,
            *(entry.row for entry in entries),
            bytes((entry.content.depth << 4 | len(entry.content.ids) // 32) & 0xFF for entry in entries),
            *(entry.content.ids for entry in entries),
            facts,
        )
    )


def id_list(ids: Iterable[bytes]) -> bytes:
    """The bytes of a list of ids."""
    return b"L\1" + b"".join(ids)


class Forge:
    """Writes objects into a repository that was just made."""

    def __init__(self, storage: Storage, *, password: str | None = None) -> None:
        self.storage = storage
        self.keys = create_repository(storage, password=password, kdf=CHEAP)
        self._packs: list[PackRows] = []
        self._hash_keys = {Kind.DATA: self.keys.data_hash_key(), Kind.META: self.keys.meta_hash_key()}

    def id(self, kind: Kind, data: bytes) -> bytes:
        """The name of a blob."""
        return blob_id(self._hash_keys[kind], data)

    def pack(self, kind: Kind, *segments: Sequence[bytes], compress: bool = True) -> None:
        """A pack of segments of blobs."""
        plain = [frame(blobs, compress=compress) for blobs in segments]
        rows = [([self.id(kind, blob) for blob in blobs], [len(blob) for blob in blobs]) for blobs in segments]
        self.raw_pack(kind, plain, rows)

    def raw_pack(
        self, kind: Kind, frames: Sequence[bytes], rows: Sequence[tuple[Sequence[bytes], Sequence[int]]]
    ) -> None:
        """A pack of given frames, whose table says what it is told to."""
        run = self.keys.new_run_key()
        room = sum(len(plain) for plain in frames) + 4096 * (1 + len(frames))
        pack = OpenPack(kind, run, [secrets.token_bytes(32)], self.keys.repository_id, mmap(-1, room))
        for plain, (ids, lengths) in zip(frames, rows, strict=True):
            header, target = pack.reserve(len(plain), ids, lengths)
            segment.seal(plain, header, pack.key, self.keys.repository_id, target)
        digest, parts = pack.finish(self.keys)
        size = self.storage.put(pack_name(kind, digest), parts).size
        self._packs.append(PackRows(kind, digest, size, pack.rows, self.keys.slot_id))

    def store(self, *blobs: bytes, kind: Kind = Kind.META) -> bytes:
        """Stores blobs in a segment each; gives their joined ids."""
        self.pack(kind, *([blob] for blob in blobs))
        return b"".join(self.id(kind, blob) for blob in blobs)

    def file(self, data: bytes) -> Content:
        """Stores the content of a file."""
        return Content(0, self.store(data, kind=Kind.DATA))

    def directory(self, *entries: Entry) -> Content:
        """Stores a directory of one page."""
        return Content(0, self.store(page(entries)))

    def document(self, root: Content, *, time: datetime = START) -> dict[str, Any]:
        """The document of a commit as an honest writer makes it."""
        backup = Backup(
            id=secrets.token_hex(16),
            time=time,
            host="node1",
            name="t",
            mode="fs",
            engine="dedup",
            status=Status.COMPLETE,
            paths=("/srv",),
        )
        commit = Commit(backup, root, Owners({0: "root"}, {0: "root"}), 0, "0" * 32, (), 0)
        return json.loads(json.dumps(encode_commit(commit)))

    def commit(self, root: Content, **changes: Any) -> str:
        """Makes a backup visible; gives its id.

        Args:
            changes: fields of the document.
        """
        return self.commit_document(self.document(root) | changes)

    def index(self) -> None:
        """Stores an index of the packs that were made since the last one."""
        sections = [
            section_of(kind, packs, signer=self.keys.slot_id)
            for kind in Kind
            if (packs := [pack for pack in self._packs if pack.kind is kind])
        ]
        self._packs = []
        if sections:
            data = encode_index(self.keys, sections, ZSTD)
            self.storage.put(index_name(hashlib.sha256(data).digest()), [data])

    def commit_document(self, document: Mapping[str, Any]) -> str:
        """Stores any document as a commit."""
        self.index()
        name = backup_name(datetime.fromisoformat(document["time"]), document["id"])
        self.storage.put(name, [control.seal(self.keys, "backup", name, document, secrecy="data")])
        return str(document["id"])

    def backup(self, *entries: Entry, root: bytes = b"/srv", **changes: Any) -> str:
        """A backup of one root that holds these entries."""
        return self.commit(self.directory(Entry(root, DIRECTORY, self.directory(*entries))), **changes)


def frame(blobs: Sequence[bytes], *, compress: bool = True) -> bytes:
    """The plain text of a segment."""
    raw = b"".join(blobs)
    method, payload = ("zstd", ZSTD.compress(raw, level=1)) if compress else ("none", raw)
    return bytes(segment.frame([len(blob) for blob in blobs], method, payload))


def seal_control(keys: KeyRing, kind: str, name: str, plain: bytes) -> bytes:
    """A control object of secrecy *index* around any plain text."""
    head = control.HEADER.pack(control.MAGIC, control.VERSION, 0, 0, keys.epoch, secrets.token_bytes(32))
    context = b"control\0" + kind.encode() + b"\0" + name.encode()
    domain = b"freezer-sdk/1/control\0"
    key = hkdf(keys.index_key(keys.epoch), salt=head[-32:], info=domain + keys.repository_id)
    aad = domain + keys.repository_id + struct.pack("<I", len(head)) + head + context
    return head + bytes(Aead(key).seal(0, plain, aad))


def control_plain(
    keys: KeyRing, kind: str, name: str, body: bytes, *, encoding: int, stored: bytes, size: int
) -> bytes:
    """The plain text of a control object: signed as it should be, and wrapped as a test wants."""
    context = b"control\0" + kind.encode() + b"\0" + name.encode()
    signature = keys.sign(context, body)
    return struct.pack("<16s64sBI", keys.slot_id, signature, encoding, size) + stored


def raw_frame(method: bytes, size: int, lengths: Sequence[int], payload: bytes, *, count: int | None = None) -> bytes:
    """A frame that says what it is told to."""
    number = len(lengths) if count is None else count
    head = bytes((len(method),)) + method + struct.pack("<III", size, number, len(payload))
    return head + struct.pack(f"<{len(lengths)}I", *lengths) + payload
