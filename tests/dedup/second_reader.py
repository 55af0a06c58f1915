"""A second reader of repositories, written from docs/reference/repository-format.md alone.

Nothing here comes from the program; where this file cannot be written from the document, the document is wrong. It
holds everything in memory and prefers plain code to fast code. The headings are those of the document.
"""

from __future__ import annotations

import base64
import bz2
import contextlib
import hashlib
import json
import lzma
import re
import stat
import struct
import sys
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DATA, META = 1, 2
MIB = 1 << 20


class Refused(Exception):
    """What the document does not allow."""


class WrongPassword(Refused):
    """No slot opens."""


def need(condition: object, what: str) -> None:
    if not condition:
        raise Refused(what)


# -- Cryptography ------------------------------------------------------------------------------------------------


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def unseal(key: bytes, number: int, sealed: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(number.to_bytes(12, "big"), sealed, aad)
    except InvalidTag:
        raise Refused("a seal is broken") from None


def keyed_hash(key: bytes, data: bytes) -> bytes:
    return blake3(data, key=key).digest()


def derive(context: str, material: bytes) -> bytes:
    return blake3(material, derive_key_context=context).digest()


def hpke_open(private: str, suite: list[int], sealed: bytes, info: bytes) -> bytes:
    need(suite == [32, 1, 2], "unknown suite")
    key = X25519PrivateKey.from_private_bytes(bytes.fromhex(private))
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM).decrypt(sealed, key, info)


def read_json(raw: bytes, limit: int) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), "a key occurs twice")
        return dict(pairs)

    def refuse(_name: str) -> None:
        raise Refused("NaN or Infinity")

    def integer(text: str) -> int:
        need(abs(int(text)) < 1 << 53, "an integer that not every reader of JSON holds")
        return int(text)

    need(len(raw) <= limit, "too large")
    document = json.loads(raw.decode(), object_pairs_hook=unique, parse_constant=refuse, parse_int=integer)
    need(isinstance(document, dict), "not a JSON object")
    return document


# -- Opening a repository ----------------------------------------------------------------------------------------


class Signed(NamedTuple):
    config: dict[str, Any]
    line: bytes
    signer: str
    signature: bytes


def read_config(raw: bytes) -> Signed:
    need(len(raw) <= MIB, "a configuration is too large")
    line, tail, end = raw.split(b"\n")
    need(end == b"", "a configuration ends in a line feed")
    config, signed = read_json(line, MIB), read_json(tail, MIB)
    need((config["format"], config["version"]) == ("freezer-repository", 1), "an unknown version")
    return Signed(config, line, signed["signer"], bytes.fromhex(signed["signature"]))


class Repository:
    """An open repository.

    Args:
        objects: everything in the storage, by name.
        password: ``None`` for an unencrypted repository.
    """

    def __init__(self, objects: Mapping[str, bytes], password: str | None) -> None:
        self.objects = objects
        listed = {name.removeprefix("copies/") for name in objects}
        self._numbers = {int(name[7:]) for name in listed if re.fullmatch(r"config/\d{8}", name)}
        need(self._numbers, "there is no repository here")
        self._find_slots(listed)
        self._unwrap(password)
        self._find_config()
        self._open_bundles()
        newest = self._bundles[self.config["epochs"][-1]["number"]]
        hash_key = bytes.fromhex(newest["hash_key"])
        self.hash_keys = {
            DATA: derive("freezer-sdk/1/data-ids", hash_key),
            META: derive("freezer-sdk/1/meta-ids", hash_key),
        }
        self._places: dict[tuple[int, bytes], list[Place]] | None = None
        self._segments: dict[tuple[str, int], bytes] = {}

    def _find_slots(self, listed: set[str]) -> None:
        self._id = self._configs(max(self._numbers))[0].config["repository"]
        self.repository = bytes.fromhex(self._id)
        found = []
        for name in sorted(name for name in listed if re.fullmatch("keys/[0-9a-f]{64}", name)):
            whole = [raw for raw in self._both(name) if hashlib.sha256(raw).hexdigest() == name[5:]]
            slot = read_json(whole[0], 4 * MIB) if whole else {}
            if slot.get("repository") == self._id:
                need((slot["format"], slot["version"]) == ("freezer-slot", 1), "an unknown slot")
                found.append(slot)
        self._slots = sorted(found, key=lambda slot: -slot["serial"])

    def _unwrap(self, password: str | None) -> None:
        opened = [slot for slot in self._slots if slot["kdf"]["name"] == "open"]
        unencrypted = len(opened) == len(self._slots)
        need(unencrypted == (password is None), "a password is needed, or is none of this repository's")
        roots: dict[str, bytes] = {}
        for slot in self._slots:
            if (slot in opened) is not unencrypted:
                continue
            kdf = json.dumps(slot["kdf"])
            if kdf not in roots:
                roots[kdf] = _root(slot["kdf"], password)
            binding = b"freezer-sdk/1/slot\0" + self.repository + bytes.fromhex(slot["slot"])
            key = hkdf(roots[kdf], bytes.fromhex(slot["kdf"]["salt"]), binding)
            try:
                plain = unseal(key, 0, base64.b64decode(slot["wrapped"]), binding)
            except Refused:
                continue
            self._secrets, self.slot = read_json(plain, MIB), slot["slot"]
            self._encrypted = not unencrypted
            return
        raise WrongPassword

    def _find_config(self) -> None:
        """Which configuration holds."""
        inside = [read_config(base64.b64decode(slot["config"])) for slot in self._slots]
        trusted = {item["slot"]: item["signing_public"] for item in self._secrets["trust"]}
        self.config, stored = {}, False
        for number in sorted(self._numbers | {each.config["number"] for each in inside}):
            if number < self._secrets["trust_number"]:
                continue
            places = [(each, True) for each in self._configs(number)]
            for each, in_place in [*places, *((each, False) for each in inside)]:
                config = each.config
                if (config["number"], config["repository"]) != (number, self._id) or each.signer not in trusted:
                    continue
                self._verify(trusted[each.signer], each.signer, b"config\0", each.line, each.signature)
                self.config, stored = config, stored or in_place
                trusted = {
                    line["slot"]: line["signing_public"]
                    for line in config["roster"]
                    if "maintainer" in line["roles"] and line["revoked"] is None
                }
                break
        need(self.config and stored, "no configuration that the slot trusts")
        need(self.config["encrypted"] is self._encrypted, "slot and configuration disagree")
        need(not self.config["features"]["read"], "needs what this reader does not know")
        self.roster = {line["slot"]: line for line in self.config["roster"]}
        ours = self.roster[self.slot]
        need(ours["revoked"] is None, "the slot was removed")
        signing = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(self._secrets["signing_private"]))
        kem = X25519PrivateKey.from_private_bytes(bytes.fromhex(self._secrets["kem_private"]))
        public = [key.public_key().public_bytes_raw().hex() for key in (signing, kem)]
        need(public == [ours["signing_public"], ours["kem_public"]], "the keys are not those of the roster")

    def _open_bundles(self) -> None:
        self._bundles = {}
        slots = [slot for slot in self._slots if slot["slot"] == self.slot]
        for epoch in self.config["epochs"]:
            number = epoch["number"]
            sealed = next(each for slot in slots for each in slot["bundles"] if each["epoch"] == number)
            info = b"freezer-sdk/1/bundle\0" + self.repository + bytes.fromhex(self.slot) + struct.pack("<I", number)
            private = self._secrets["kem_private"]
            raw = hpke_open(private, sealed["suite"], base64.b64decode(sealed["sealed"]), info)
            bundle = read_json(raw, MIB)
            need((bundle["format"], bundle["version"], bundle["epoch"]) == ("freezer-bundle", 1, number), "a bundle")
            keys = b"".join(bytes.fromhex(bundle[name]) for name in ("hash_key", "index_key", "data_public"))
            head = self.repository + struct.pack("<IQ", number, int(bundle["chunker_seed"], 16))
            need(derive("freezer-sdk/1/epoch-commitment", head + keys).hex() == epoch["commitment"], "a commitment")
            need(bundle["data_public"] == epoch["data_public"], "a bundle's data key")
            self._bundles[number] = bundle

    def _configs(self, number: int) -> list[Signed]:
        """Those stored under a number that decode."""
        found = []
        for raw in self._both(f"config/{number:08d}"):
            try:
                found.append(read_config(raw))
            except (Refused, ValueError):
                continue
        return found

    def _both(self, name: str) -> Iterator[bytes]:
        return (self.objects[place] for place in (name, "copies/" + name) if place in self.objects)

    # -- Signatures ----------------------------------------------------------------------------------------------

    def _verify(self, public: str, slot: str, context: bytes, payload: bytes, signature: bytes) -> None:
        head = b"freezer-sdk/1/signature\0" + self.repository + bytes.fromhex(slot)
        message = head + struct.pack("<I", len(context)) + context + payload
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, message)
        except InvalidSignature:
            raise Refused("a signature is not valid") from None

    def _signed_by(self, role: str, epoch: int, slot: bytes, context: bytes, payload: bytes, signature: bytes) -> None:
        line = self.roster.get(slot.hex())
        need(line is not None and role in line["roles"], "signed by nobody who may")
        need(line["revoked"] is None or epoch < line["revoked"], "signed by somebody who was removed")
        self._verify(line["signing_public"], slot.hex(), context, payload, signature)

    def _index_key(self, epoch: int) -> bytes:
        return bytes.fromhex(self._bundles[epoch]["index_key"])

    def run_key(self, epoch: int, sealed: bytes) -> bytes:
        info = b"freezer-sdk/1/run-key\0" + self.repository + struct.pack("<I", epoch)
        return hpke_open(self._bundles[epoch]["data_private"], [32, 1, 2], sealed, info)

    # -- Control objects -----------------------------------------------------------------------------------------

    def control(self, kind: str, name: str, role: str) -> dict[str, Any]:
        return self.signed(kind, name, role)[0]

    def signed(
        self, kind: str, name: str, role: str, asked: frozenset[str] = frozenset()
    ) -> tuple[dict[str, Any], bytes]:
        """The document, and who signed it; ``asked``: what is being confirmed."""
        stored = self.objects[name]
        need(len(stored) <= 64 * MIB + 4096, "a control object is too large")
        magic, version, secrecy, zero, epoch, salt = struct.unpack_from("<4sBBHI32s", stored)
        need((magic, version, zero) == (b"FZCT", 1, 0) and secrecy in (0, 1), "not a control object")
        size = (44, 124)[secrecy]
        head = stored[:size]
        base = self.run_key(epoch, head[44:]) if secrecy else self._index_key(epoch)
        context = b"control\0" + kind.encode() + b"\0" + name.encode()
        domain = b"freezer-sdk/1/control\0" + self.repository
        aad = domain + struct.pack("<I", len(head)) + head + context
        plain = unseal(hkdf(base, salt, domain), 0, stored[size:], aad)
        signer, signature, encoding, length = struct.unpack_from("<16s64sBI", plain)
        need(length <= 64 * MIB and encoding in (0, 1), "a control object's inner header")
        body = plain[85:]
        if encoding:
            body = inflate(zlib.decompressobj(), body, length)
        need(len(body) == length, "a control object's length")
        self._signed_by(role, epoch, signer, context, body, signature)
        if role == "maintainer" and self.roster[signer.hex()]["revoked"] is not None:
            confirmed = (name, hashlib.sha256(stored).hexdigest()) in self._confirmed(asked | {name})
            need(confirmed, "signed by a maintainer who was removed")
        return read_json(body, 64 * MIB), signer

    def _confirmed(self, asked: frozenset[str]) -> set[tuple[str, str]]:
        """What removed maintainers have signed and what counts; not by the word of those that it is asked for."""
        found: set[tuple[str, str]] = set()
        for name in sorted(self.objects):
            if re.fullmatch(r"confirmed/[0-9a-f]{32}-[0-9a-f]{32}", name) and name not in asked:
                with contextlib.suppress(Refused):
                    found |= set(self.signed("confirmation", name, "maintainer", asked)[0]["objects"].items())
        return found

    def backups(self) -> dict[str, dict[str, Any]]:
        """Documents of the backups that count, by id."""
        found: dict[str, list[tuple[bytes, dict[str, Any]]]] = {}
        for name in sorted(self.objects):
            match = re.fullmatch(r"backups/(\d{8}T\d{6})\.(\d{3})Z-([0-9a-f]{32})", name)
            if not match:
                continue
            commit, signer = self.signed("backup", name, "writer")
            stamp = f"{match[1]}.{match[2]}"
            need((commit["version"], commit["id"]) == (1, match[3]), "a commit of another backup")
            time = re.fullmatch(r"(\d+)-(\d+)-(\d+)T(\d+):(\d+):(\d+)\.(\d{3})\d{3}\+00:00", commit["time"])
            need(time and "{}{}{}T{}{}{}.{}".format(*time.groups()) == stamp, "a commit of another time")
            hosts = self.roster[signer.hex()]["hosts"]
            if (hosts is None or commit["host"] in hosts) and not self._hidden(name, commit):
                found.setdefault(match[3], []).append((signer, commit))
        return {backup: self._of_one_id(same) for backup, same in found.items()}

    def _of_one_id(self, same: list[tuple[bytes, dict[str, Any]]]) -> dict[str, Any]:
        """Of several commits with one id those of trusted slots count, if there are any; it knows no clock."""
        counting = [commit for signer, commit in same if len(same) == 1 or self._trusted(signer)]
        need(len(counting or same) == 1, "backups that cannot be told apart")
        return counting[0] if counting else same[0][1]

    def _trusted(self, slot: bytes) -> bool:
        line = self.roster[slot.hex()]
        return bool(line["trusted"] or ("maintainer" in line["roles"] and line["revoked"] is None))

    def _hidden(self, name: str, commit: dict[str, Any]) -> bool:
        tombstone = "forgotten/" + commit["id"]
        if tombstone in self.objects:
            need(self.control("tombstone", tombstone, "maintainer")["backup"] == commit["id"], "a tombstone")
            return True
        for other in self.objects:
            if re.fullmatch(r"sweeps/\d{16}/decided-[0-9a-f]{32}", other):
                decision = self.control("decision", other, "maintainer")
                late = decision["generation"] > commit["generation"] and name not in decision["alive"]
                if late or name in decision["released"]:
                    return True
        return False

    # -- Segments ------------------------------------------------------------------------------------------------

    def segment(self, data: bytes) -> Segment:
        """The segment that begins here; what follows it is not looked at."""
        need(len(data) >= 132, "a segment's header is cut short")
        magic, version, kind, zero, length, epoch, counter, salt, sealed = struct.unpack_from("<4sBBHIII32s80s", data)
        need((magic, version, zero) == (b"FZSG", 1, 0) and kind in (DATA, META), "not a segment")
        need(16 <= length <= 37_748_736, "a segment's length")
        domain = b"freezer-sdk/1/segment\0" + self.repository
        key = hkdf(self.run_key(epoch, sealed), salt, domain)
        frame = unseal(key, counter, data[132 : 132 + length], domain + data[:132])
        method, blobs = read_frame(frame)
        return Segment(kind, counter, salt, method, 132 + length, blobs, frame)

    # -- Boxes, Packs, Indexes -----------------------------------------------------------------------------------

    def box(self, kind: int, data: bytes) -> bytes:
        need(len(data) >= 48, "a box is cut short")
        magic, version, found, zero, length, epoch, salt = struct.unpack_from("<4sBBHII32s", data)
        need((magic, version, zero, found) == (b"FZBX", 1, 0, kind), "not the box that belongs here")
        need(96 <= length <= 256 * MIB and len(data) == 48 + length, "a box's length")
        context = b"freezer-sdk/1/box\0" + bytes([kind])
        key = hkdf(self._index_key(epoch), salt, context + self.repository)
        plain = unseal(key, 0, data[48:], context + self.repository + data[:48])
        self._signed_by("writer", epoch, plain[:16], context, plain[80:], plain[16:80])
        return plain[80:]

    def table(self, kind: int, pack: bytes) -> list[Row]:
        """What a pack says of its segments."""
        magic, version, found, zero, size = struct.unpack("<4sBBHI", pack[-12:])
        need((magic, version, found, zero) == (b"FZPK", 1, kind, 0), "a pack's trailer")
        table = self.box(kind, pack[-12 - size : -12])
        (count,) = struct.unpack_from("<I", table)
        heads = [struct.unpack_from("<II", table, 4 + 8 * n) for n in range(count)]
        total = sum(blobs for _stored, blobs in heads)
        need(len(table) == 4 + 8 * count + 36 * total, "a pack's table does not add up")
        need(sum(stored for stored, _blobs in heads) + size + 12 == len(pack), "a pack has bytes that are in no table")
        lengths = struct.unpack_from(f"<{total}I", table, 4 + 8 * count)
        ids = table[4 + 8 * count + 4 * total :]
        rows, at, offset = [], 0, 0
        for stored, blobs in heads:
            named = [(ids[32 * n : 32 * n + 32], lengths[n]) for n in range(at, at + blobs)]
            rows.append(Row(offset, stored, named))
            at, offset = at + blobs, offset + stored
        return rows

    def salvage(self, pack: bytes) -> list[Row]:
        """When the table is gone."""
        rows, at = [], 0
        while (at := pack.find(b"FZSG", at)) >= 0:
            try:
                segment = self.segment(pack[at:])
            except Refused:
                at += 1
                continue
            key = self.hash_keys[segment.kind]
            rows.append(Row(at, segment.stored, [(keyed_hash(key, blob), len(blob)) for blob in segment.blobs]))
            at += segment.stored
        return rows

    def index(self, data: bytes) -> dict[int, dict[bytes, Place]]:
        """Places by kind and id."""
        return {DATA: {}, META: {}} | {kind: read_section(kind, body) for kind, body in self.sections(data)}

    def writers(self, data: bytes) -> dict[str, str]:
        """The slot that wrote each pack of an index."""
        found = {}
        for _kind, body in self.sections(data):
            section = inflate_section(body)
            (packs,) = struct.unpack_from("<I", section)
            for number in range(packs):
                at = 12 + 32 * packs + 16 * number
                found[section[12 + 32 * number : 44 + 32 * number].hex()] = section[at : at + 16].hex()
        return found

    def sections(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Kind and content of the boxes of an index."""
        magic, version, zero, *lengths = struct.unpack_from("<4sB3sII", data)
        need((magic, version, zero) == (b"FZIX", 1, bytes(3)), "not an index")
        need(len(data) == 16 + sum(lengths), "an index's length")
        at = 16
        for kind, box_kind, length in ((META, 4, lengths[0]), (DATA, 3, lengths[1])):
            if length:
                yield kind, self.box(box_kind, data[at : at + length])
            at += length

    def blob(self, kind: int, blob: bytes) -> bytes:
        if self._places is None:
            self._places = {}
            for name in self.objects:
                if re.fullmatch("index/[0-9a-f]{64}", name):
                    need(hashlib.sha256(self.objects[name]).hexdigest() == name[6:], "an index is damaged")
                    for each, places in self.index(self.objects[name]).items():
                        for found, where in places.items():
                            self._places.setdefault((each, found), []).append(where)
        place = next(each for each in self._places[kind, blob] if each.name in self.objects)
        if (place.name, place.offset) not in self._segments:
            stored = self.objects[place.name][place.offset : place.offset + place.stored]
            segment = self.segment(stored)
            need((segment.kind, segment.stored) == (kind, place.stored), "a segment is not what its index says")
            self._segments[place.name, place.offset] = b"".join(segment.blobs)
        plain = self._segments[place.name, place.offset][place.start : place.start + place.length]
        need(keyed_hash(self.hash_keys[kind], plain) == blob, "a blob is not what its id says")
        return plain

    # -- Content, Pages ------------------------------------------------------------------------------------------

    def ids(self, reference: Reference) -> Iterator[bytes]:
        need(reference.depth <= 7, "lists too deep")
        for blob in reference.ids:
            if not reference.depth:
                yield blob
                continue
            data = self.blob(META, blob)
            need(data[:2] == b"L\1" and len(data) % 32 == 2, "not a list")
            yield from self.ids(Reference(reference.depth - 1, [data[n : n + 32] for n in range(2, len(data), 32)]))

    def directory(self, reference: Reference) -> Iterator[Entry]:
        last = b""
        for page in self.ids(reference):
            for entry in read_page(self.blob(META, page)):
                need(entry.name > last, "names are not ascending")
                last = entry.name
                yield entry

    def tree(self, commit: dict[str, Any]) -> Iterator[tuple[bytes, Entry]]:
        """Every entry of a backup by its absolute path."""
        ids = bytes.fromhex(commit["root"]["ids"])
        need(len(ids) % 32 == 0 and len(ids) <= 256, "a content reference")
        root = Reference(commit["root"]["depth"], [ids[n : n + 32] for n in range(0, len(ids), 32)])
        for entry in self.directory(root):
            parts = entry.name.split(b"/")
            need(parts[0] == b"" and (entry.name == b"/" or allowed(parts[1:])), "the name of a root")
            yield from self._below(entry.name, entry)

    def _below(self, path: bytes, entry: Entry) -> Iterator[tuple[bytes, Entry]]:
        yield path, entry
        if stat.S_ISDIR(entry.mode):
            for child in self.directory(entry.content):
                need(b"/" not in child.name and allowed([child.name]), "a name that leads elsewhere")
                yield from self._below(path.rstrip(b"/") + b"/" + child.name, child)

    def content(self, entry: Entry) -> bytes:
        """The bytes of a regular file."""
        data = b"".join(self.blob(DATA, blob) for blob in self.ids(entry.content))
        extents = entry.facts.get(5)
        if extents is not None:
            whole, at = bytearray(entry.size), 0
            for offset, length in struct.iter_unpack("<QQ", extents[0]):
                whole[offset : offset + length] = data[at : at + length]
                at += length
            need(at == len(data) and len(whole) == entry.size, "extents and content do not fit")
            return bytes(whole)
        need(len(data) == entry.size, "a file's size")
        return data

    def restore(self, commit: dict[str, Any]) -> dict[bytes, tuple[Entry, bytes | None]]:
        """Path to entry and content; content is ``None`` for what is no regular file."""
        return {
            path: (entry, self.content(entry) if stat.S_ISREG(entry.mode) else None)
            for path, entry in self.tree(commit)
        }


class Segment(NamedTuple):
    kind: int
    counter: int
    salt: bytes
    method: str
    stored: int
    blobs: list[bytes]
    frame: bytes


class Row(NamedTuple):
    offset: int
    stored: int
    blobs: list[tuple[bytes, int]]


class Place(NamedTuple):
    name: str
    offset: int
    stored: int
    start: int
    length: int


class Reference(NamedTuple):
    depth: int
    ids: list[bytes]


class Entry(NamedTuple):
    name: bytes
    mode: int
    uid: int
    gid: int
    flags: int
    size: int
    mtime: int
    ctime: int
    inode: int
    content: Reference
    facts: dict[int, list[bytes]]


def _root(kdf: dict[str, Any], password: str | None) -> bytes:
    if password is None:
        return hashlib.sha256(b"freezer-sdk/1/no-encryption").digest()
    need(kdf["name"] == "argon2id", "an unknown kdf")
    memory, time, lanes = kdf["memory"], kdf["time"], kdf["lanes"]
    need(8 * lanes <= memory <= 1 << 20 and 1 <= time <= 64 and 1 <= lanes <= 64, "costs out of bounds")
    text = "".join(" " if unicodedata.category(each) == "Zs" else each for each in password)
    phrase = unicodedata.normalize("NFC", text).encode()
    salt = bytes.fromhex(kdf["salt"])
    return Argon2id(salt=salt, length=32, iterations=time, lanes=lanes, memory_cost=memory).derive(phrase)


def allowed(parts: list[bytes]) -> bool:
    return not any(part in (b"", b".", b"..") for part in parts)


def padded(size: int) -> int:
    if size < 2:
        return size
    e = size.bit_length() - 1
    s = e.bit_length()
    unit = 1 << (e - s)
    return -(-size // unit) * unit


def read_frame(frame: bytes) -> tuple[str, list[bytes]]:
    at = 1 + frame[0]
    method = frame[1:at].decode("ascii")
    size, count, stored = struct.unpack_from("<III", frame, at)
    need(size <= 33_554_432 and count <= 1_048_576, "a frame out of bounds")
    lengths = struct.unpack_from(f"<{count}I", frame, at + 12)
    begin = at + 12 + 4 * count
    end = begin + stored
    need(end <= len(frame) and sum(lengths) == size, "a frame does not add up")
    need(len(frame) == padded(end) and not any(frame[end:]), "padding")
    need(all(0 < length <= 16 * MIB for length in lengths), "a blob's length")
    plain = decompress(method, frame[begin:end], size)
    blobs, at = [], 0
    for length in lengths:
        blobs.append(plain[at : at + length])
        at += length
    return method, blobs


def decompress(method: str, data: bytes, size: int) -> bytes:
    if method == "none":
        need(len(data) == size, "a length")
        return data
    makers: dict[str, Any] = {
        "zstd": zstd.ZstdDecompressor,
        "zlib": zlib.decompressobj,
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    }
    need(method in makers, f"compression {method} is not known")
    return inflate(makers[method](), data, size)


def inflate(decoder: Any, data: bytes, size: int) -> bytes:
    plain = decoder.decompress(data, size + 1)
    need(len(plain) == size and decoder.eof and not decoder.unused_data, "a compressed length")
    return plain


def inflate_section(body: bytes) -> bytes:
    (size,) = struct.unpack_from("<I", body)
    need(size <= 256 * MIB, "an index section is too large")
    return inflate(zstd.ZstdDecompressor(), body[4:], size)


def read_section(kind: int, body: bytes) -> dict[bytes, Place]:
    data = inflate_section(body)
    packs, segments, blobs = struct.unpack_from("<III", data)
    need(len(data) == 12 + 52 * packs + 4 * segments + 44 * blobs, "an index section does not add up")
    numbers = memoryview(data[12 + 48 * packs : 12 + 52 * packs + 4 * segments])
    words = [word for (word,) in struct.iter_unpack("<I", numbers)]
    where, next_segment = [], packs
    for number in range(packs):
        digest = data[12 + 32 * number : 44 + 32 * number].hex()
        name, offset = f"{'packs' if kind == DATA else 'meta'}/{digest[:2]}/{digest}", 0
        for stored in words[next_segment : next_segment + words[number]]:
            where.append((name, offset, stored))
            offset += stored
        next_segment += words[number]
    need(len(where) == segments, "an index section's segments")
    at = 12 + 52 * packs + 4 * segments
    ids = [data[at + 32 * n : at + 32 * n + 32] for n in range(blobs)]
    need(ids == sorted(ids), "an index section is not sorted")
    columns = struct.unpack_from(f"<{3 * blobs}I", data, at + 32 * blobs)
    return {blob: Place(*where[columns[n]], columns[blobs + n], columns[2 * blobs + n]) for n, blob in enumerate(ids)}


def read_page(data: bytes) -> list[Entry]:
    magic, zero, count, names_size, facts_size = struct.unpack_from("<2sHIII", data)
    need((magic, zero) == (b"P\1", 0) and count, "not a page")
    names = data[16 : 16 + names_size].split(b"\0")
    need(len(names) == count and sorted(set(names)) == names, "a page's names")
    rows = 16 + names_size
    counts = data[rows + 48 * count : rows + 49 * count]
    at = rows + 49 * count
    references = []
    for byte in counts:
        number = byte & 15
        need(number <= 8, "a content reference")
        references.append(Reference(byte >> 4, [data[at + 32 * n : at + 32 * n + 32] for n in range(number)]))
        at += 32 * number
    need(at + facts_size == len(data), "a page does not add up")
    facts: list[dict[int, list[bytes]]] = [{} for _ in range(count)]
    while at < len(data):
        entry, tag, length = struct.unpack_from("<IBI", data, at)
        at += 9
        need(entry < count and at + length <= len(data), "a fact")
        facts[entry].setdefault(tag, []).append(data[at : at + length])
        at += length
    return [
        Entry(name, *struct.unpack_from("<IIIIQqqQ", data, rows + 48 * n), references[n], facts[n])
        for n, name in enumerate(names)
    ]
