#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Brings backups back from a Freezer repository, without Freezer: one file, to be kept beside the backups.

    python3 freezer_recover.py list    REPO                       which backups there are
    python3 freezer_recover.py ls      REPO BACKUP [--path P]     what is in one
    python3 freezer_recover.py restore REPO BACKUP TARGET [--path P]
    python3 freezer_recover.py verify  REPO [--read-data]         what is whole and what is not

REPO is a folder that holds the repository's objects: its own disk, or a bucket that any tool has downloaded. Nothing
is ever written to it. BACKUP is an id from "list", its first digits, or "latest". The password (or a recovery key) is
asked for, or comes from FREEZER_PASSWORD or --password-file.

Needs Linux, Python 3.9 and "cryptography" (Debian: apt install python3-cryptography python3-argon2). Taken from where
they are found: zstd from Python 3.14, backports.zstd, zstandard or the system's libzstd; Argon2id from cryptography 44,
argon2-cffi or the system's libargon2; BLAKE3 from the package blake3, else a slower one that is built in. All that is
done here follows the format's document, docs/reference/repository-format.md, and nothing else.

Exit codes: 0 whole, 1 failed, 2 usage, 3 restored but not everything, 10 no repository, 12 wrong password, 13 damage.
"""

from __future__ import annotations

import argparse
import binascii
import bz2
import contextlib
import ctypes
import ctypes.util
import errno
import functools
import getpass
import hashlib
import hmac
import importlib
import itertools
import json
import lzma
import mmap
import os
import re
import stat
import struct
import sys
import time
import unicodedata
import zlib
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Callable, NamedTuple

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
except ImportError:
    sys.exit(
        "the Python package cryptography is missing: apt install python3-cryptography, or pip install cryptography"
    )

VERSION = 1  # of the format that is read
LABEL = b"freezer-sdk/1/"  # begins whatever keys are derived with and signatures are made over

MIB = 1 << 20
MAX_BLOB = 16 * MIB
MAX_CONTENT = 32 * MIB  # of a segment, before compression
MAX_CIPHERTEXT = 36 * MIB
MAX_BOX = 256 * MIB
MAX_CONTROL = 64 * MIB + 4096
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # what recovery keys are written in
MAX_FOLDERS = 4000  # folders in folders
CACHE = 96 * MIB  # decrypted segments that are kept
DATA, META = 1, 2
FOLDERS = {DATA: "packs", META: "meta"}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
MALFORMED = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError, struct.error)


class Damage(Exception):
    """Something stored is damaged, missing or forged; the rest may be whole."""


class Stop(Exception):
    """The command cannot go on."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


@contextlib.contextmanager
def decoding(what: str) -> Iterator[None]:
    """Around (or as decorator of) a decoder: what is not as the format says is damage and no crash."""
    try:
        yield
    except MALFORMED as error:
        raise Damage(f"{what} is not well-formed ({type(error).__name__}: {error})") from error


def say(text: str) -> None:
    """One line for people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def show(name: object) -> str:
    """A name or text, safe to print: whatever could command a terminal is escaped."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


class Progress:
    """A line now and then, if somebody is looking."""

    def __init__(self) -> None:
        self._told = time.monotonic()

    def tell(self, text: Callable[[], str]) -> None:
        """Tells how far the work is, if it was long ago."""
        if time.monotonic() - self._told > 5 and sys.stderr.isatty():
            self._told = time.monotonic()
            say(text())


def optional(name: str) -> Any:
    """A module, or None when it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def library(name: str) -> Any:
    """A shared library of the system, or None."""
    try:
        return ctypes.CDLL(ctypes.util.find_library(name) or f"lib{name}.so.1")
    except OSError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# BLAKE3, for machines without the package. Chunks of 1,024 bytes are hashed side by side: a "word" below is one large
# number that holds a word of each chunk in a lane of 64 bits, so that one Python operation serves all of them.

IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
SHUFFLE = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))
CHUNK_START, CHUNK_END, PARENT, ROOT, KEYED, CONTEXT, MATERIAL = 1, 2, 4, 8, 16, 32, 64


def _lanes(words: Iterable[int]) -> int:
    return int.from_bytes(array("Q", words).tobytes(), sys.byteorder)


def _ones(count: int) -> int:
    return int.from_bytes(b"\1\0\0\0\0\0\0\0" * count, "little")


def _compress(chain: Sequence[int], block: Sequence[int], number: int, ends: tuple[int, int], count: int) -> list[int]:
    ones = _ones(count)
    mask = ones * 0xFFFFFFFF
    v = [*chain, *(word * ones for word in IV[:4]), number, 0, ends[0] * ones, ends[1] * ones]
    for _ in range(7):
        for position, (a, b, c, d) in enumerate(COLUMNS + DIAGONALS):
            for mine, one, other in ((block[2 * position], 16, 12), (block[2 * position + 1], 8, 7)):
                v[a] = (v[a] + v[b] + mine) & mask
                x = v[d] ^ v[a]
                v[d] = (x >> one | x << (32 - one)) & mask
                v[c] = (v[c] + v[d]) & mask
                x = v[b] ^ v[c]
                v[b] = (x >> other | x << (32 - other)) & mask
        block = [block[at] for at in SHUFFLE]
    return [v[at] ^ v[at + 8] for at in range(8)]


def _chunks(data: bytes, key: Sequence[int], flags: int, first: int, count: int) -> list[array[int]]:
    """Chaining values of ``count`` chunks of one length: eight rows, a column a chunk."""
    size = len(data) // count
    blocks = max(1, (size + 63) // 64)
    words = array("I", data.ljust(64 * blocks * count, b"\0"))
    chain, numbers = [word * _ones(count) for word in key], _lanes(range(first, first + count))
    for at in range(blocks):
        block = [_lanes(words[16 * at + i :: 16 * blocks]) for i in range(16)]
        ends = (0 if at else CHUNK_START) | (CHUNK_END | flags if at == blocks - 1 else flags & ~ROOT)
        chain = _compress(chain, block, numbers, (min(64, size - 64 * at), ends), count)
    return [array("Q", word.to_bytes(8 * count, sys.byteorder)) for word in chain]


def _blake3(data: bytes, key: Sequence[int], flags: int) -> bytes:
    if sys.byteorder != "little":
        raise Stop("the built-in BLAKE3 does not work on this machine: pip install blake3")
    count = len(data) // 1024
    if len(data) <= 1024:
        rows = _chunks(data, key, flags | ROOT, 0, 1)
    else:
        rows = _chunks(data[: 1024 * count], key, flags, 0, count)
        if len(data) % 1024:
            rows = [row + last for row, last in zip(rows, _chunks(data[1024 * count :], key, flags, count, 1))]
    while len(rows[0]) > 1:
        pairs = len(rows[0]) // 2
        block = [_lanes(row[side : 2 * pairs : 2]) for side in (0, 1) for row in rows]
        root = ROOT if len(rows[0]) == 2 else 0
        above = _compress([word * _ones(pairs) for word in key], block, 0, (64, flags | PARENT | root), pairs)
        packed = [array("Q", word.to_bytes(8 * pairs, sys.byteorder)) for word in above]
        rows = [new + old[2 * pairs :] for new, old in zip(packed, rows)]
    return struct.pack("<8I", *(row[0] for row in rows))


BLAKE3 = optional("blake3")


def keyed_hash(key: bytes, data: bytes) -> bytes:
    """BLAKE3 in keyed mode."""
    return bytes(BLAKE3.blake3(data, key=key).digest()) if BLAKE3 else _blake3(data, struct.unpack("<8I", key), KEYED)


def derive(context: bytes, material: bytes) -> bytes:
    """BLAKE3 in key-derivation mode."""
    if BLAKE3:
        return bytes(BLAKE3.blake3(material, derive_key_context=context.decode("ascii")).digest())
    return _blake3(material, struct.unpack("<8I", _blake3(context, IV, CONTEXT)), MATERIAL)


# ---------------------------------------------------------------------------------------------------------------------
# Ciphers, signatures, and decompression that never makes more than the size that was recorded.


@functools.lru_cache(maxsize=64)
def argon2id(password: bytes, salt: bytes, memory: int, passes: int, lanes: int) -> bytes:
    """RFC 9106, 32 bytes out; memory in KiB."""
    module = optional("cryptography.hazmat.primitives.kdf.argon2")
    if module:
        with contextlib.suppress(Exception):  # OpenSSL may lack it: the next way is as good
            kdf = module.Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory)
            return bytes(kdf.derive(password))
    module = optional("argon2.low_level")
    if module:
        return bytes(module.hash_secret_raw(password, salt, passes, memory, lanes, 32, module.Type.ID))
    system = library("argon2")
    if not system:
        raise Stop("Argon2id is missing: apt install python3-argon2, or pip install argon2-cffi")
    out, call = ctypes.create_string_buffer(32), system.argon2id_hash_raw
    call.argtypes = [ctypes.c_uint32] * 3 + [ctypes.c_char_p, ctypes.c_size_t] * 3
    if call(passes, memory, lanes, password, len(password), salt, len(salt), out, 32):
        raise Stop("libargon2 failed: is there enough memory?")
    return out.raw


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256, 32 bytes out."""
    return hmac.digest(hmac.digest(salt, key, "sha256"), info + b"\1", "sha256")


def unseal(key: bytes, counter: int, ciphertext: bytes, aad: bytes) -> bytes:
    """AES-256-GCM, the nonce being a counter."""
    try:
        return AESGCM(key).decrypt(counter.to_bytes(12, "big"), ciphertext, aad)
    except (InvalidTag, ValueError) as error:
        raise Damage("it does not decrypt: damaged, or not from this repository") from error


def public_half(key: Any) -> bytes:
    """The public key of a private one."""
    return bytes(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def hpke_open(private: bytes, sealed: bytes, info: bytes) -> bytes:
    """RFC 9180, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM."""

    def extract(suite: bytes, salt: bytes, label: bytes, key: bytes) -> bytes:
        return hmac.digest(salt, b"HPKE-v1" + suite + label + key, "sha256")

    def expand(suite: bytes, key: bytes, label: bytes, text: bytes, length: int) -> bytes:
        labeled = struct.pack(">H", length) + b"HPKE-v1" + suite + label + text
        return hmac.digest(key, labeled + b"\1", "sha256")[:length]

    kem, suite = b"KEM" + struct.pack(">H", 32), b"HPKE" + struct.pack(">3H", 32, 1, 2)
    try:
        mine = X25519PrivateKey.from_private_bytes(private)
        agreed = extract(kem, b"", b"eae_prk", mine.exchange(X25519PublicKey.from_public_bytes(sealed[:32])))
        shared = expand(kem, agreed, b"shared_secret", sealed[:32] + public_half(mine), 32)
        context = b"\0" + extract(suite, b"", b"psk_id_hash", b"") + extract(suite, b"", b"info_hash", info)
        secret = extract(suite, shared, b"secret", b"")
        nonce = expand(suite, secret, b"base_nonce", context, 12)
        return AESGCM(expand(suite, secret, b"key", context, 32)).decrypt(nonce, sealed[32:], b"")
    except (InvalidTag, ValueError) as error:
        raise Damage("a sealed key does not open") from error


def signed_by(public: str, who: bytes, context: bytes, payload: bytes, signature: bytes) -> bool:
    """Whether a signature is that of a slot; ``who`` is the repository's id and the slot's."""
    text = LABEL + b"signature\0" + who + struct.pack("<I", len(context)) + context + payload
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _bounded(source: Any, data: bytes, size: int) -> bytes:
    out = bytes(source.decompress(data, size + 1))
    if len(out) == size and not source.eof:  # the end of the stream may still lie in what was not looked at
        out += source.decompress(getattr(source, "unconsumed_tail", b""), 1)
    if len(out) != size or not source.eof or source.unused_data:
        raise Damage("compressed data are cut off, or have another size than recorded")
    return out


def _zstd(data: bytes, size: int) -> bytes:
    module = optional("compression.zstd") or optional("backports.zstd")
    if module:
        return _bounded(module.ZstdDecompressor(), data, size)
    module, system = optional("zstandard"), library("zstd")
    if module:
        if module.get_frame_parameters(data).content_size not in (size, module.CONTENTSIZE_UNKNOWN):
            raise Damage("compressed data have another size than recorded")
        return bytes(module.ZstdDecompressor(max_window_size=128 * MIB).stream_reader(data).read(size + 1))
    if system is None:
        raise Stop("zstd is missing: apt install libzstd1, or pip install backports.zstd (or zstandard)")
    call, out = system.ZSTD_decompress, ctypes.create_string_buffer(max(1, size))
    call.argtypes, call.restype = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t], ctypes.c_size_t
    return out.raw[:size] if call(out, size, data, len(data)) == size else b""


def decompress(method: str, data: bytes, size: int) -> bytes:
    """The content of a segment or an index."""
    known: dict[str, Callable[[], bytes]] = {
        "none": lambda: data,
        "zstd": lambda: _zstd(data, size),
        "zlib": lambda: _bounded(zlib.decompressobj(), data, size),
        "bzip2": lambda: _bounded(bz2.BZ2Decompressor(), data, size),
        "xz": lambda: _bounded(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=128 * MIB), data, size),
    }
    if method not in known:
        raise Damage(f"it was compressed by a plug-in that this program does not have: {show(method)}")
    try:
        out = known[method]()
    except (Stop, Damage):
        raise
    except Exception as error:  # each library has its own kinds
        raise Damage(f"{method}: {error}") from error
    if len(out) != size:
        raise Damage("compressed data have another size than recorded")
    return out


# ---------------------------------------------------------------------------------------------------------------------
# The folder with the objects, and JSON documents.


class Folder:
    """A repository on disk: the object ``packs/ab/x`` is the file ``packs/ab/x``."""

    def __init__(self, root: str) -> None:
        self.root = root

    def names(self, prefix: str) -> list[str]:
        """Names of all files below a prefix, sorted."""
        found = []
        for folder, _, files in os.walk(os.path.join(self.root, prefix), onerror=self._unlisted):
            found += [os.path.relpath(os.path.join(folder, file), self.root) for file in files]
        return sorted(found)

    @staticmethod
    def _unlisted(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            say(f"cannot be listed: {error}")

    def open(self, name: str) -> tuple[Any, int]:
        """A file and its size."""
        try:
            file = open(os.open(os.path.join(self.root, name), os.O_RDONLY | os.O_NONBLOCK), "rb")  # noqa: SIM115
        except OSError as error:
            raise Damage("it is missing" if error.errno == errno.ENOENT else f"it cannot be opened: {error}") from error
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise Damage("it is no regular file")
        return file, status.st_size

    def read(self, name: str, limit: int, offset: int = 0, length: int | None = None) -> bytes:
        """An object of at most ``limit`` bytes, or a range of it."""
        file, size = self.open(name)
        with file:
            length = size if length is None else length
            if length > limit:
                raise Damage(f"it has {length} bytes, and may have {limit}")
            try:
                file.seek(offset)
                data = bytes(file.read(length))
            except OSError as error:
                raise Damage(f"it cannot be read: {error.strerror}") from error
        if len(data) != length:
            raise Damage("it ends too early")
        return data


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


@decoding("the document")
def parse(data: bytes) -> dict[str, Any]:
    """A JSON document."""
    document = json.loads(data.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=int)  # int() takes no NaN
    if not isinstance(document, dict):
        raise Damage("it is no document")
    return document


def binary(text: str) -> bytes:
    """The bytes of base64."""
    return binascii.a2b_base64(text.encode("ascii"))


def u32(number: int) -> bytes:
    """A number as the format has it."""
    return struct.pack("<I", number)


# ---------------------------------------------------------------------------------------------------------------------
# Opening a repository: configurations, slots, bundles. What a field is missing from is passed over as damaged.


class Config(NamedTuple):
    """A configuration; ``payload`` is what was signed."""

    number: int
    repository: str
    document: dict[str, Any]
    payload: bytes
    signer: str
    signature: bytes


@decoding("the configuration")
def decode_config(data: bytes) -> Config:
    """An object below ``config/``, or its copy inside a slot."""
    payload, seal, rest = data.split(b"\n")
    document, signature = parse(payload), parse(seal)
    if rest or document["format"] != "freezer-repository":
        raise Damage("it is no configuration")
    if document["version"] != VERSION:
        raise Damage(f"it is of version {document['version']}; newer backups may need a newer freezer_recover.py")
    if not isinstance(document["number"], int) or not bytes.fromhex(document["repository"] + signature["signer"]):
        raise Damage("its number, repository or signer is none")
    numbered = document["number"], document["repository"], document, payload
    return Config(*numbered, signature["signer"], bytes.fromhex(signature["signature"]))


class Keys:
    """What a password opens: the secrets of every epoch, and whose signatures count."""

    def __init__(self, config: Config, bundles: dict[int, dict[str, Any]]) -> None:
        self.bundles, self.repository = bundles, bytes.fromhex(config.repository)
        self.roster: dict[str, dict[str, Any]] = {line["slot"]: line for line in config.document["roster"]}
        secret = bytes.fromhex(bundles[max(bundles)]["hash_key"])
        self.hash_keys = {DATA: derive(LABEL + b"data-ids", secret), META: derive(LABEL + b"meta-ids", secret)}
        self.run_key = functools.lru_cache(maxsize=4096)(self._run_key)
        self.pack_key = functools.lru_cache(maxsize=4096)(self._pack_key)

    def secret(self, epoch: int, name: str) -> bytes:
        """A secret of an epoch."""
        if epoch not in self.bundles:
            raise Damage(f"the keys of epoch {epoch} are missing")
        return bytes.fromhex(self.bundles[epoch][name])

    def _run_key(self, epoch: int, sealed: bytes) -> bytes:
        return hpke_open(
            self.secret(epoch, "data_private"), sealed, LABEL + b"run-key\0" + self.repository + u32(epoch)
        )

    def _pack_key(self, epoch: int, sealed: bytes, salt: bytes) -> bytes:
        return hkdf(self.run_key(epoch, sealed), salt, LABEL + b"segment\0" + self.repository)

    def signer(self, slot: bytes, role: str, epoch: int) -> dict[str, Any]:
        """The line of a signer whose signature counts for this, in this epoch."""
        line = self.roster.get(slot.hex())
        if line is None or role not in line["roles"] or not (line["revoked"] is None or epoch < line["revoked"]):
            raise Damage("nobody who may make it has signed it")
        return line


class Opening:
    """Finds the slot that a password fits, and the configuration that it trusts."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.notes: list[str] = []
        self.configs: list[Config] = []
        names = folder.names("config") + folder.names("copies/config")
        for name in names:
            with self._noting(name):
                config = decode_config(folder.read(name, MIB))
                if name.rpartition("/")[2] != f"{config.number:08}":
                    raise Damage("its number is not that of its name")
                self.configs.append(config)
        stored = len(self.configs)
        places = folder.names("keys") + folder.names("copies/keys")
        self.slots = self._slots(sorted(places, key=lambda name: os.lstat(os.path.join(folder.root, name)).st_mtime))
        if not names and not self.slots:
            raise Stop(
                f"there is no repository in {folder.root}: it should have the folders config, keys, packs, ...", 10
            )
        if not stored:
            self.notes.append(
                "no configuration can be read below config/ and copies/config/: one inside a slot is used"
            )
        if not self.configs or not self.slots:
            raise Stop("\n".join([*self.notes, "no slot (or no configuration) can be read: no password helps"]), 13)

    @contextlib.contextmanager
    def _noting(self, name: str) -> Iterator[None]:
        try:
            yield
        except Damage as error:
            self.notes.append(f"{show(name)}: {error}")

    def _slots(self, places: list[str]) -> list[dict[str, Any]]:
        """From each name the first copy with the right hash, else (they prove themselves) one with a wrong hash."""
        found: dict[str, dict[str, Any]] = {}
        spent = 0
        for whole in (True, False):
            for place in places:
                name = place.rpartition("/")[2]
                if name in found or spent > 256 * MIB:
                    continue
                with self._noting(place) if whole else contextlib.suppress(Damage):
                    data = self.folder.read(place, 4 * MIB)
                    spent += len(data)
                    if whole and hashlib.sha256(data).hexdigest() != name:
                        raise Damage("its bytes do not have the hash that it is named by")
                    found[name] = self._slot(data)
        return list(found.values())

    @decoding("the slot")
    def _slot(self, data: bytes) -> dict[str, Any]:
        document = parse(data)
        head = document["format"], document["version"], type(document["bundles"])
        if head != ("freezer-slot", VERSION, list):
            raise Damage(f"it is no slot of version {VERSION}")
        document["id"] = bytes.fromhex(document["repository"]) + bytes.fromhex(document["slot"])
        document["name"], document["order"] = document["kdf"]["name"], -document["serial"]
        with contextlib.suppress(Damage):
            self.configs.append(decode_config(binary(document["config"])))
        return document

    def open(self, password: Callable[[], str], given: bool) -> Keys:
        """The keys; ``given``: a password was offered, whether one is needed or not."""
        closed = [slot for slot in self.slots if slot["name"] != "open"]
        if not closed and given:
            raise Stop("this repository is not encrypted, and a password was given: leave it out if that is right", 12)
        known = re.findall(r'"slot":"([0-9a-f]{32})"', "".join(config.payload.decode() for config in self.configs))
        slots = sorted(closed or self.slots, key=lambda slot: (slot["slot"] not in known, slot["order"]))
        refused = []
        typed = password_bytes(password()) if closed else b""
        for slot in slots:
            try:
                secret = self._unwrap(slot, typed)
            except Damage:
                continue
            try:
                return self._keys(slot, secret, encrypted=bool(closed))
            except Damage as error:
                refused.append(f"slot {slot['slot']}: {error}")
        if refused:
            raise Stop("\n".join(["the password is right, but its slot cannot be used:", *refused, *self.notes]), 13)
        raise Stop("\n".join([*self.notes, "wrong password" if closed else "the open slot is damaged"]), 12)

    @staticmethod
    @decoding("the slot")
    def _unwrap(slot: dict[str, Any], password: bytes) -> dict[str, Any]:
        kdf, context = slot["kdf"], LABEL + b"slot\0" + slot["id"]
        salt = bytes.fromhex(kdf["salt"])
        root = hashlib.sha256(LABEL + b"no-encryption").digest()
        if slot["name"] != "open":
            memory, passes, lanes = kdf["memory"], kdf["time"], kdf["lanes"]
            if slot["name"] != "argon2id" or not (
                1 <= lanes <= 64 and 1 <= passes <= 64 and 8 * lanes <= memory <= MIB
            ):
                raise Damage("it asks for too much work, or for a key derivation that is not known")
            root = argon2id(password, salt, memory, passes, lanes)
        return parse(unseal(hkdf(root, salt, context), 0, binary(slot["wrapped"]), context))

    @decoding("the slot")
    def _keys(self, slot: dict[str, Any], secret: dict[str, Any], encrypted: bool) -> Keys:
        config = self._holding(slot["repository"], secret)
        line = next((line for line in config.document["roster"] if line["slot"] == slot["slot"]), None)
        if line is None or line["revoked"] is not None:
            raise Damage("this password or key was removed from the repository")
        kem, signing = bytes.fromhex(secret["kem_private"]), bytes.fromhex(secret["signing_private"])
        mine = (
            public_half(X25519PrivateKey.from_private_bytes(kem)),
            public_half(Ed25519PrivateKey.from_private_bytes(signing)),
        )
        if [key.hex() for key in mine] != [line["kem_public"], line["signing_public"]]:
            raise Damage("the configuration names other keys for this slot")
        if config.document["encrypted"] != encrypted:
            raise Damage("the configuration says that this is not an encrypted repository, or that it is one")
        unknown = [name for name in config.document["features"]["read"] if not name.startswith("compression:")]
        if unknown:
            raise Stop(f"reading this repository needs what this program does not know: {show(unknown)}")
        if "reader" not in line["roles"] and "maintainer" not in line["roles"]:
            raise Stop("this password belongs to a slot that may only write: nothing can be read with it", 12)
        bundles = {}
        for epoch in config.document["epochs"]:
            bundle = self._bundle(slot, kem, epoch)
            if bundle:
                bundles[epoch["number"]] = bundle
            else:
                self.notes.append(f"the keys of epoch {epoch['number']} do not open: what it holds cannot be read")
        if not bundles:
            raise Damage("none of its sealed keys can be opened")
        return Keys(config, bundles)

    def _holding(self, repository: str, secret: dict[str, Any]) -> Config:
        """Section "Which one holds": upwards, each signed by a maintainer of the one before."""
        trusted = {line["slot"]: line["signing_public"] for line in secret["trust"]}
        holding = None
        known = [
            each for each in self.configs if each.repository == repository and each.number >= secret["trust_number"]
        ]
        for config in sorted(known, key=lambda config: config.number):
            if config.signer not in trusted or (holding and config.number == holding.number):
                continue
            who = bytes.fromhex(repository + config.signer)
            if signed_by(trusted[config.signer], who, b"config\0", config.payload, config.signature):
                holding, lines = config, config.document["roster"]
                lines = [line for line in lines if "maintainer" in line["roles"] and line["revoked"] is None]
                trusted = {line["slot"]: line["signing_public"] for line in lines}
        if holding is None:
            raise Damage("no configuration is signed by anyone whom this slot trusts")
        return holding

    def _bundle(self, slot: dict[str, Any], kem: bytes, epoch: dict[str, Any]) -> dict[str, Any] | None:
        """The secrets of an epoch, from any object of the slot, if they are those that a maintainer committed to."""
        number = u32(epoch["number"])
        for sealed in [sealed for each in self.slots if each["id"] == slot["id"] for sealed in each["bundles"]]:
            with contextlib.suppress(Damage), decoding("the bundle"):
                if sealed["epoch"] != epoch["number"] or sealed["suite"] != [32, 1, 2]:
                    continue
                bundle = parse(hpke_open(kem, binary(sealed["sealed"]), LABEL + b"bundle\0" + slot["id"] + number))
                seed = struct.pack("<Q", int(bundle["chunker_seed"], 16))
                text = b"".join(bytes.fromhex(bundle[name]) for name in ("hash_key", "index_key", "data_public"))
                private = X25519PrivateKey.from_private_bytes(bytes.fromhex(bundle["data_private"]))
                commitment = derive(LABEL + b"epoch-commitment", slot["id"][:16] + number + seed + text).hex()
                if commitment == epoch["commitment"] and text[64:] == public_half(private):
                    return bundle
        return None


def password_bytes(text: str) -> bytes:
    """What a typed password, or recovery key, stands for."""
    plain = "".join(text.split()).replace("-", "").upper().translate(str.maketrans("OIL", "011"))
    if len(plain) == 48 and set(plain) <= set(CROCKFORD):
        wrong = []
        for line in range(4):
            eight, check = plain[12 * line : 12 * line + 8], plain[12 * line + 8 : 12 * line + 12]
            digest = hashlib.sha256(LABEL + b"recovery-key\0" + bytes([line]) + eight.encode()).digest()
            bits = int.from_bytes(digest[:3], "big") >> 4
            if check != "".join(CROCKFORD[bits >> shift & 31] for shift in (15, 10, 5, 0)):
                wrong.append(str(line + 1))
        if not wrong:
            return plain.encode()
        if len(wrong) < 3:
            raise Stop(f"the recovery key has a typing error in line {' and line '.join(wrong)}", 12)
    text = text.partition("\n")[0].rstrip("\r")
    spaced = "".join(" " if unicodedata.category(c) == "Zs" else c for c in text)
    return unicodedata.normalize("NFC", spaced).encode("utf-8", "surrogateescape")


# ---------------------------------------------------------------------------------------------------------------------
# Control objects, and which backups there are.


@decoding("it")
def open_control(keys: Keys, kind: str, name: str, role: str, data: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """The document of a control object, and the roster's line of its signer."""
    magic, version, secrecy, zero, epoch = struct.unpack_from("<4sBBHI", data)
    if (magic, version, zero) != (b"FZCT", VERSION, 0) or secrecy > 1:
        raise Damage("it is no control object of this version")
    head = data[: 124 if secrecy else 44]
    base = keys.run_key(epoch, data[44:124]) if secrecy else keys.secret(epoch, "index_key")
    context = b"control\0" + kind.encode() + b"\0" + name.encode("utf-8", "surrogateescape")
    label = LABEL + b"control\0" + keys.repository
    text = unseal(hkdf(base, data[12:44], label), 0, data[len(head) :], label + u32(len(head)) + head + context)
    slot, signature, (encoding, size) = text[:16], text[16:80], struct.unpack_from("<BI", text, 80)
    if size > min(64 * MIB, 256 * (len(text) - 85)) or encoding > 1:
        raise Damage("it is too large, or of an unknown encoding")
    document = decompress("zlib" if encoding else "none", text[85:], size)
    if document.count(b",") > 2_000_000:
        raise Damage("it has more parts than the format allows")
    line = keys.signer(slot, role, epoch)
    if not signed_by(line["signing_public"], keys.repository + slot, context, document, signature):
        raise Damage("its signature is forged")
    return parse(document), line


class Commit:
    """One backup."""

    @decoding("the commit")
    def __init__(self, name: str, document: dict[str, Any], line: dict[str, Any]) -> None:
        self.name, self.document, self.state = name, document, str(document["status"])
        self.id, self.time, self.host = str(document["id"]), str(document["time"]), str(document["host"])
        self.generation = int(document["generation"])
        self.root = reference(document["root"]["depth"], bytes.fromhex(document["root"]["ids"]))
        self.paths = [binary(path) for path in document["paths"]]
        problems = [
            (binary(each["path"]), show(binary(each["message"]))) for each in document["problems"] if each["fatal"]
        ]
        self.problems: list[tuple[bytes, str]] = problems
        self.title = f"{self.id[:8]} ({show(document['name'])} of {show(self.host)}, {show(self.time[:19])})"
        self.forged = line.get("hosts") is not None and self.host not in line["hosts"]
        self.trusted = bool(line.get("trusted")) or ("maintainer" in line["roles"] and line["revoked"] is None)
        stamp = self.time[:23].replace("-", "").replace(":", "")
        if name != f"backups/{stamp}Z-{self.id}" or document["version"] != VERSION:
            raise Damage("its id or time is not that of its name, or it is of another version")


class Catalog:
    """All backups: those that can be seen, forgotten, void and forged ones, and the names of damaged objects."""

    def __init__(self, folder: Folder, keys: Keys) -> None:
        self.damaged: dict[str, str] = {}
        self.commits: list[Commit] = []
        forgotten: set[str] = set()
        decisions: list[tuple[int, set[str], set[str]]] = []
        confirmed = self._confirmed(folder, keys)
        kinds = (("backups/", "backup", "writer"), ("forgotten/", "tombstone", "maintainer"))
        for prefix, kind, role in (*kinds, ("sweeps/", "decision", "maintainer")):
            for name in folder.names(prefix):
                if kind == "decision" and "/decided-" not in name:
                    continue
                try:
                    data = folder.read(name, MAX_CONTROL)
                    document, line = open_control(keys, kind, name, role, data)
                    known = role == "writer" or line["revoked"] is None
                    if not known and (name, hashlib.sha256(data).hexdigest()) not in confirmed:
                        raise Damage("a maintainer who was removed has signed it, and nobody has confirmed it")
                    with decoding("it"):
                        if kind == "backup":
                            self.commits.append(Commit(name, document, line))
                        elif kind == "tombstone" and name == "forgotten/" + document["backup"]:
                            forgotten.add(document["backup"])
                        elif kind == "decision" and name.startswith(f"sweeps/{int(document['generation']):016}/"):
                            lists = set(document["alive"]), set(document["released"])
                            decisions.append((int(document["generation"]), *lists))
                        else:
                            raise Damage("it is about something else than its name says")
                except Damage as error:
                    self.damaged[name] = str(error)
        self._judge(forgotten, decisions)

    def _confirmed(self, folder: Folder, keys: Keys) -> set[tuple[str, str]]:
        """Section "Removed maintainers": names and hashes of what such have signed before they were removed."""
        said: list[tuple[bool, tuple[str, str], set[tuple[str, str]]]] = []
        for name in folder.names("confirmed"):
            try:
                data = folder.read(name, MAX_CONTROL)
                document, line = open_control(keys, "confirmation", name, "maintainer", data)
                with decoding("it"):
                    if not name.startswith(f"confirmed/{document['slot']}-"):
                        raise Damage("it is about something else than its name says")
                    mine = name, hashlib.sha256(data).hexdigest()
                    said.append((line["revoked"] is None, mine, set(document["objects"].items())))
            except Damage as error:
                self.damaged[name] = str(error)
        confirmed: set[tuple[str, str]] = set()
        for _ in said:  # each may itself need one of the others
            confirmed.update(*(objects for counts, mine, objects in said if counts or mine in confirmed))
        return confirmed

    def _judge(self, forgotten: set[str], decisions: list[tuple[int, set[str], set[str]]]) -> None:
        """Section "Readers": which backups are hidden, and why."""
        for commit in self.commits:
            for generation, alive, released in decisions:
                if commit.name in released or (generation > commit.generation and commit.name not in alive):
                    commit.state = "void"
            commit.state = "forgotten" if commit.id in forgotten else commit.state
            commit.state = "forged" if commit.forged else commit.state
        trusted = {commit.id for commit in self.visible(hidden=False) if commit.trusted}
        for commit in self.visible(hidden=False):
            if commit.id in trusted and not commit.trusted:
                commit.state = "forged"
        self.commits.sort(key=lambda commit: (commit.time, commit.name))

    def visible(self, hidden: bool) -> list[Commit]:
        """The backups that count, oldest first; ``hidden``: the others too."""
        return [each for each in self.commits if hidden or each.state not in ("forgotten", "void", "forged")]

    def choose(self, selector: str, hidden: bool) -> Commit:
        """The one backup that is meant."""
        found = self.visible(hidden)
        if selector != "latest":
            found = [each for each in found if each.id.startswith(selector) or each.name.endswith("/" + selector)]
        elif len({(each.host, str(each.document["name"])) for each in found}) == 1:
            found = found[-1:]
        if len(found) != 1:
            lines = [f"{show(name)}: {why}" for name, why in self.damaged.items() if f"-{selector}" in name]
            lines += [f"{each.name[8:]}  {each.title}" for each in found[:20]]  # these whole names are understood, too
            raise Stop(
                "\n  ".join([f"{len(found) or 'no'} backups are meant by {show(selector)}: see list", *lines]), 2
            )
        return found[0]


# ---------------------------------------------------------------------------------------------------------------------
# Blobs: where they lie, and how they are read.


class Places:
    """Where the blobs of one kind lie. Columns, so that ten million of them fit into a small machine."""

    def __init__(self) -> None:
        self.packs: list[str] = []  # SHA-256, in hex
        self.segment_pack, self.segment_offset, self.segment_length = array("I"), array("Q"), array("I")
        self.ids, self.segments, self.offsets, self.lengths = bytearray(), array("I"), array("I"), array("I")
        self._order = array("Q")

    def add_segment(self, pack: int, offset: int, length: int) -> int:
        """Number of a new segment."""
        self.segment_pack.append(pack)
        self.segment_offset.append(offset)
        self.segment_length.append(length)
        return len(self.segment_pack) - 1

    def add_blobs(self, segment: int, ids: bytes, lengths: Sequence[int]) -> None:
        """All blobs of a segment."""
        self.ids += ids
        self.segments.extend([segment] * len(lengths))
        self.offsets.extend([0, *itertools.accumulate(lengths)][: len(lengths)])
        self.lengths.extend(lengths)

    def pack(self, row: int) -> str:
        """The pack that a blob lies in."""
        return self.packs[self.segment_pack[self.segments[row]]]

    def id(self, row: int) -> bytes:
        """The id of a blob."""
        return bytes(self.ids[32 * row : 32 * row + 32])

    def find(self, blob: bytes) -> list[int]:
        """The rows of a blob, by bisection: the upper 36 bits of a key are from its id, the lower 28 are the row."""
        if len(self._order) != len(self.segments):
            words = array("Q", bytes(self.ids))[::4]
            self._order = array("Q", sorted([word >> 28 << 28 | row for row, word in enumerate(words)]))
        key = int.from_bytes(blob[:8], sys.byteorder) >> 28
        at, rows = bisect_left(self._order, key << 28), []
        while at < len(self._order) and self._order[at] >> 28 == key:
            rows.append(self._order[at] & 0xFFFFFFF)
            at += 1
        return [row for row in rows if self.id(row) == blob]


def numbers(data: bytes, at: int, count: int) -> tuple[array[int], int]:
    """``count`` numbers of 32 bits, and where they end."""
    found = array("I", data[at : at + 4 * count])
    if len(found) != count:
        raise ValueError("it ends too early")
    if sys.byteorder == "big":
        found.byteswap()
    return found, at + 4 * count


class Store:
    """Reads blobs by id, whatever it takes: indexes first, then tables of packs, then segments one by one."""

    def __init__(self, folder: Folder, keys: Keys) -> None:
        self.folder, self.keys = folder, keys
        self.places = {DATA: Places(), META: Places()}
        self.damaged: dict[str, str] = {}
        self.files: dict[int, dict[str, str]] = {}  # packs by their SHA-256, wherever below packs/ or meta/ they are
        for kind, top in FOLDERS.items():
            self.files[kind] = {name.rpartition("/")[2]: name for name in folder.names(top)}
        self._indexed: set[str] = set()
        self._tables_read: set[int] = set()
        self._suspects: set[tuple[int, str]] = set()
        self._scanned: set[tuple[int, str]] = set()
        self._cache: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cached = 0
        for name in folder.names("index"):
            try:
                self._index(name, folder.read(name, 2 * MAX_BOX + 16))
            except Damage as error:
                self.note(name, f"{error}; tables of packs are read instead")

    def note(self, name: str, message: str) -> None:
        """Names a damaged object, once."""
        if name not in self.damaged:
            self.damaged[name] = message
            say(f"damaged: {show(name)}: {message}")

    def rows(self, kind: int, blob: bytes) -> Iterator[int]:
        """All places of a blob; what must be read to find more of them is read when it comes to that."""
        tried: set[int] = set()
        for widen in (None, self._read_tables, self._scan_suspects):
            if widen:
                widen(kind)
            new = [row for row in self.places[kind].find(blob) if row not in tried]
            tried.update(new)
            yield from new

    def blob(self, kind: int, blob: bytes) -> bytes:
        """The content of a blob, checked.

        Raises:
            Damage: no good copy of it is left.
        """
        for row in self.rows(kind, blob):
            with contextlib.suppress(Damage):
                return self.row(kind, row)
        raise Damage(f"the {'data' if kind == DATA else 'meta'} blob {blob.hex()[:16]} is damaged or missing")

    def row(self, kind: int, row: int) -> bytes:
        """The blob at one place; a pack where it is not is suspected of more."""
        places = self.places[kind]
        try:
            content = self._segment(kind, places.segments[row])
            data = content[places.offsets[row] : places.offsets[row] + places.lengths[row]]
            if keyed_hash(self.keys.hash_keys[kind], data) == places.id(row):
                return data
            raise Damage("a blob in it is not what its id stands for")
        except Damage as error:
            pack = places.pack(row)
            self._suspects.add((kind, pack))
            self.note(self.files[kind].get(pack, f"{FOLDERS[kind]}/{pack[:2]}/{pack}"), str(error))
            raise

    def _segment(self, kind: int, number: int) -> bytes:
        if (kind, number) in self._cache:
            self._cache.move_to_end((kind, number))
            return self._cache[kind, number]
        places = self.places[kind]
        name = self.files[kind].get(places.packs[places.segment_pack[number]])
        if name is None:
            raise Damage("it is missing")
        length = places.segment_length[number]
        content, _ = self.open_segment(
            kind, self.folder.read(name, MAX_CIPHERTEXT + 132, places.segment_offset[number], length)
        )
        self._cache[kind, number] = content
        self._cached += len(content)
        while self._cached > CACHE and len(self._cache) > 1:
            self._cached -= len(self._cache.popitem(last=False)[1])
        return content

    @decoding("a segment of it")
    def open_segment(self, kind: int, data: bytes) -> tuple[bytes, array[int]]:
        """The content of a segment and the lengths of its blobs."""
        magic, version, stored_kind, zero, length, epoch, counter = struct.unpack_from("<4sBBHIII", data)
        if (magic, version, stored_kind, zero, length) != (b"FZSG", VERSION, kind, 0, len(data) - 132):
            raise Damage("the header of a segment in it is damaged")
        key = self.keys.pack_key(epoch, data[52:132], data[20:52])
        frame = unseal(key, counter, data[132:], LABEL + b"segment\0" + self.keys.repository + data[:132])
        name = 1 + frame[0]
        size, count, packed = struct.unpack_from("<III", frame, name)
        if size > MAX_CONTENT or count > MIB:
            raise Damage("a segment of it is larger than the format allows")
        lengths, at = numbers(frame, name + 12, count)
        if sum(lengths) != size or at + packed > len(frame) or frame[at + packed :].strip(b"\0"):
            raise Damage("a segment of it contradicts itself")
        return decompress(frame[1:name].decode("ascii"), frame[at : at + packed], size), lengths

    def _box(self, kind: int, data: bytes) -> bytes:
        """The body of a box. Its signature concerns writers: to a reader, ids prove what lies where."""
        magic, version, stored_kind, zero, length, epoch = struct.unpack_from("<4sBBHII", data)
        if (magic, version, stored_kind, zero, length) != (b"FZBX", VERSION, kind, 0, len(data) - 48):
            raise Damage("it holds no box of the right kind")
        context = LABEL + b"box\0" + bytes([kind])
        key = hkdf(self.keys.secret(epoch, "index_key"), data[16:48], context + self.keys.repository)
        return unseal(key, 0, data[48:], context + self.keys.repository + data[:48])[80:]

    @decoding("the index")
    def _index(self, name: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != name.rpartition("/")[2]:
            raise Damage("its bytes do not have the hash that it is named by")
        magic, meta, other = struct.unpack_from("<8sII", data)
        if magic != b"FZIX" + bytes([VERSION, 0, 0, 0]) or len(data) != 16 + meta + other:
            raise Damage("it is no index of this version")
        for kind, box, sealed in ((META, 4, data[16 : 16 + meta]), (DATA, 3, data[16 + meta :])):
            if sealed:
                body = self._box(box, sealed)
                (size,) = struct.unpack_from("<I", body)
                if size > min(MAX_BOX, 8 * len(body) + 65536):
                    raise Damage("it is larger than the format allows")
                self._section(kind, decompress("zstd", body[4:], size))

    def _section(self, kind: int, section: bytes) -> None:
        places = self.places[kind]
        (packs, segments, blobs), at = numbers(section, 0, 3)
        if len(section) != 12 + 52 * packs + 4 * segments + 44 * blobs:
            raise Damage("a section of it contradicts itself")
        names, at = [section[at + 32 * i : at + 32 * i + 32].hex() for i in range(packs)], at + 32 * packs
        per_pack, at = numbers(section, at + 16 * packs, packs)  # past who wrote each pack, which concerns writers
        stored, at = numbers(section, at, segments)
        ids, at = section[at : at + 32 * blobs], at + 32 * blobs
        inside, at = numbers(section, at, blobs)
        offsets, at = numbers(section, at, blobs)
        lengths, at = numbers(section, at, blobs)
        if sum(per_pack) != segments or max(inside, default=-1) >= segments or 0 in lengths:
            raise Damage("a section of it contradicts itself")
        base, done = len(places.segment_pack), 0
        for name, count in zip(names, per_pack):
            places.packs.append(name)
            self._indexed.add(name)
            offset = 0
            for length in stored[done : done + count]:
                places.add_segment(len(places.packs) - 1, offset, length)
                offset += length
            done += count
        places.ids += ids
        places.segments.extend(base + each for each in inside)
        places.offsets.extend(offsets)
        places.lengths.extend(lengths)

    def _read_tables(self, kind: int) -> None:
        """Reads the tables of packs that no index names."""
        if kind not in self._tables_read:
            self._tables_read.add(kind)
            for pack in sorted(set(self.files[kind]) - self._indexed):
                try:
                    self._table(kind, pack)
                except Damage as error:
                    self._suspects.add((kind, pack))
                    self.note(self.files[kind][pack], f"{error}; its segments are looked for")

    @decoding("its table")
    def _table(self, kind: int, pack: str) -> None:
        name, places = self.files[kind][pack], self.places[kind]
        file, size = self.folder.open(name)
        file.close()
        magic, length = struct.unpack("<8sI", self.folder.read(name, 12, max(0, size - 12), 12))
        if magic != b"FZPK" + bytes([VERSION, kind, 0, 0]) or not 48 <= length <= size - 12:
            raise Damage("it does not end with a table")
        body = self._box(kind, self.folder.read(name, MAX_BOX + 48, size - 12 - length, length))
        (segments,) = struct.unpack_from("<I", body)
        pairs, at = numbers(body, 4, 2 * segments)
        lengths, at = numbers(body, at, sum(pairs[1::2]))
        if sum(pairs[::2]) + length + 12 != size or len(body) != at + 32 * len(lengths):
            raise Damage("its table does not account for every byte")
        places.packs.append(pack)
        done = start = 0
        for stored, count in zip(pairs[::2], pairs[1::2]):
            number = places.add_segment(len(places.packs) - 1, start, stored)
            mine = slice(done, done + count)
            places.add_blobs(number, body[at + 32 * mine.start : at + 32 * mine.stop], lengths[mine])
            start, done = start + stored, done + count

    def _scan_suspects(self, kind: int) -> None:
        """Looks for whole segments in packs without a table, or where something was not where it should be."""
        for suspect in sorted(self._suspects - self._scanned):
            if suspect[0] == kind and suspect[1] in self.files[kind]:
                self._scanned.add(suspect)
                with contextlib.suppress(Damage, OSError, ValueError):
                    self._scan(*suspect)

    def _scan(self, kind: int, pack: str) -> None:
        file, size = self.folder.open(self.files[kind][pack])
        places = self.places[kind]
        places.packs.append(pack)
        budget = 16 * MAX_CIPHERTEXT + 4 * size  # false beginnings may not cost for ever
        with file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            at = view.find(b"FZSG")
            while 0 <= at <= size - 148 and budget > 0:
                end = at + 132 + struct.unpack_from("<I", view, at + 8)[0]
                step = at + 4
                if end <= min(size, at + 132 + MAX_CIPHERTEXT):
                    budget -= end - at
                    with contextlib.suppress(Damage):
                        content, lengths = self.open_segment(kind, view[at:end])
                        ids, done = bytearray(), 0
                        for length in lengths:
                            ids += keyed_hash(self.keys.hash_keys[kind], content[done : done + length])
                            done += length
                        segment = places.add_segment(len(places.packs) - 1, at, end - at)
                        places.add_blobs(segment, bytes(ids), lengths)
                        step = end
                at = view.find(b"FZSG", step)

    def there(self, kind: int, blob: bytes) -> bool:
        """Whether a blob has a place in a pack that is there and long enough; its content is not looked at."""
        places = self.places[kind]
        for row in self.rows(kind, blob):
            number = places.segments[row]
            if places.segment_offset[number] + places.segment_length[number] <= self.size(kind, places.pack(row)):
                return True
        return False

    @functools.lru_cache(maxsize=100_000)  # noqa: B019  there is one store
    def size(self, kind: int, pack: str) -> int:
        """Size of a pack; -1: it is not there."""
        with contextlib.suppress(Damage, KeyError):
            file, size = self.folder.open(self.files[kind][pack])
            file.close()
            return size
        return -1

    def read_everything(self) -> set[bytes]:
        """Reads all packs; gives the ids of blobs of which no good copy is left."""
        lost, progress = set(), Progress()
        for kind, places in self.places.items():
            for done, name in enumerate(self.files[kind].values()):
                self._check_hash(name)
                progress.tell(lambda: f"{done:,} of {len(self.files[kind]):,} packs compared with their names")  # noqa: B023
            self._read_tables(kind)
            self._scan_suspects(kind)
            bad = set()
            for done, row in enumerate(sorted(range(len(places.segments)), key=places.segments.__getitem__)):
                progress.tell(lambda: f"{done:,} of {len(places.segments):,} blobs read")  # noqa: B023
                try:
                    self.row(kind, row)
                except Damage:
                    bad.add(places.id(row))
            for blob in bad:
                try:
                    self.blob(kind, blob)
                except Damage:
                    lost.add(blob)
        return lost

    def _check_hash(self, name: str) -> None:
        digest = hashlib.sha256()
        try:
            file, _ = self.folder.open(name)
            with file:
                for piece in iter(lambda: file.read(MIB), b""):
                    digest.update(piece)
        except (Damage, OSError) as error:
            return self.note(name, str(error))
        if digest.hexdigest() != name.rpartition("/")[2]:
            self.note(name, "its bytes do not have the hash that it is named by")
        return None


# ---------------------------------------------------------------------------------------------------------------------
# Directories.

INCOMPLETE, HARD_LINK = 2, 8
LINK_TARGET, XATTR, DEVICE, LINK_GROUP, EXTENTS = 1, 2, 3, 4, 5
Report = Callable[[bytes, str], None]


class Reference(NamedTuple):
    """A content reference: ids of blobs, or of lists of ids when the depth is above 0."""

    depth: int
    ids: tuple[bytes, ...]


def reference(depth: int, joined: bytes) -> Reference:
    """From ids that follow each other."""
    if not 0 <= depth <= 7 or len(joined) % 32 or len(joined) > 8 * 32:
        raise ValueError("a content reference is out of bounds")
    return Reference(depth, tuple(joined[at : at + 32] for at in range(0, len(joined), 32)))


class Entry(NamedTuple):
    """A line of a directory."""

    name: bytes
    mode: int
    uid: int
    gid: int
    flags: int
    size: int
    mtime: int
    content: Reference
    facts: list[tuple[int, bytes]]

    def fact(self, tag: int) -> bytes | None:
        """The first fact of a kind."""
        return next((value for known, value in self.facts if known == tag), None)


@decoding("a directory page")
def decode_page(data: bytes) -> list[Entry]:
    """The entries of a page."""
    kind, zero, count, names_size, facts_size = struct.unpack_from("<2sHIII", data)
    names = data[16 : 16 + names_size].split(b"\0", count)
    rows = 16 + names_size
    counts = rows + 48 * count
    ids, at = counts + count, len(data) - facts_size
    total = 32 * sum(byte & 15 for byte in data[counts:ids])
    if kind != b"\x50\1" or zero or len(names) != count or count > 65536 or ids + total != at:
        raise Damage("a directory page contradicts itself")
    facts: list[list[tuple[int, bytes]]] = [[] for _ in names]
    while at < len(data):
        number, tag, length = struct.unpack_from("<IBI", data, at)
        facts[number].append((tag, data[at + 9 : at + 9 + length]))
        at += 9 + length
    if at != len(data):
        raise Damage("a directory page ends too early")
    entries = []
    for number, name in enumerate(names):
        mode, uid, gid, flags, size, mtime = struct.unpack_from("<IIIIQq", data, rows + 48 * number)
        end = ids + 32 * (data[counts + number] & 15)
        content = reference(data[counts + number] >> 4, data[ids:end])
        entries.append(Entry(name, mode, uid, gid, flags, size, mtime, content, facts[number]))
        ids = end
    return entries


def safe_name(name: bytes) -> bool:
    """Whether a name stays in its directory."""
    return name not in (b"", b".", b"..") and b"/" not in name and b"\0" not in name


def safe_root(name: bytes) -> bool:
    """Whether a root is an absolute path without tricks."""
    return name == b"/" or (name[:1] == b"/" and all(map(safe_name, name[1:].split(b"/"))))


def join(path: bytes, name: bytes) -> bytes:
    """A path below another."""
    return path + name if path.endswith(b"/") or not path else path + b"/" + name


class Tree:
    """What is in one backup; ``report`` is told of what cannot be read."""

    def __init__(self, store: Store, commit: Commit, report: Report, chosen: Sequence[str] = ()) -> None:
        self.store, self.commit, self.report, self.seen = store, commit, report, not chosen
        self.chosen = []
        for path in map(os.fsencode, chosen):
            if not path.startswith(b"/") and len(commit.paths) != 1:
                raise Stop("the backup has several roots: give absolute paths", 2)
            parts = join(b"" if path.startswith(b"/") else commit.paths[0], path).split(b"/")
            self.chosen.append(b"/" + b"/".join(part for part in parts if part not in (b"", b".")))

    def wants(self, path: bytes) -> bool:
        """Whether a path is chosen, or on the way to one that is."""
        below = [one for one in self.chosen if path == one or path.startswith(one.rstrip(b"/") + b"/")]
        self.seen = self.seen or bool(below)
        return not self.chosen or bool(below) or any(one.startswith(path.rstrip(b"/") + b"/") for one in self.chosen)

    def ids(self, content: Reference, lost: Callable[[str], None] | None = None) -> Iterator[bytes]:
        """The ids of a content's blobs, in order; ``lost`` is told of lists that are lost, if the rest is of use."""
        for each in content.ids:
            if content.depth == 0:
                yield each
                continue
            try:
                data = self.store.blob(META, each)
                if data[:2] != b"\x4c\1" or len(data) < 34 or len(data) % 32 != 2:
                    raise Damage("a list of ids is not well-formed")
            except Damage as error:
                if lost is None:
                    raise
                lost(str(error))
                continue
            for at in range(2, len(data), 32):
                yield from self.ids(Reference(content.depth - 1, (data[at : at + 32],)), lost)

    def entries(self, content: Reference, path: bytes) -> Iterator[Entry]:
        """The entries of a directory, or (for an empty path) the roots; what cannot be read is reported."""
        last = b""

        def lost(message: str) -> None:
            self.report(path or b"/", f"a part of this folder is lost: {message}")

        for page in self.ids(content, lost):
            try:
                entries = decode_page(self.store.blob(META, page))
            except Damage as error:
                lost(str(error))
                continue
            for entry in entries:
                if entry.name <= last or not (safe_name(entry.name) if path else safe_root(entry.name)):
                    self.report(join(path, entry.name), "this name is not allowed, or not in order: passed over")
                else:
                    last = entry.name
                    yield entry

    def walk(self, skip: Callable[[Entry], bool] = lambda entry: False) -> Iterator[tuple[int, Entry, bytes]]:
        """Depth, entry and path of everything chosen, folders first; what is in folders to ``skip`` is passed over."""
        stack = [(b"", self.entries(self.commit.root, b""))]
        while stack:
            path, level = stack[-1]
            entry = next(level, None)
            if entry is None:
                stack.pop()
                continue
            inside = join(path, entry.name)
            if self.wants(inside):
                yield len(stack), entry, inside
                if stat.S_ISDIR(entry.mode) and not skip(entry):
                    if len(stack) < MAX_FOLDERS:
                        stack.append((inside, self.entries(entry.content, inside)))
                    else:
                        self.report(inside, f"more than {MAX_FOLDERS} folders lie in each other")
        if not self.seen:
            raise Stop("the backup has no such path")


# ---------------------------------------------------------------------------------------------------------------------
# Restore. Nothing is opened through a link, and everything is opened by its folder: no path leads out of the target.


class Level(NamedTuple):
    """A folder that is being filled; ``place`` is its path below the target."""

    fd: int
    place: bytes
    path: bytes
    entry: Entry | None


def enter(fd: int, parts: Iterable[bytes], *, make: bool) -> int:
    """Opens a folder below another, step by step."""
    fd = os.dup(fd)
    for part in parts:
        above = fd
        try:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=above)
            fd = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return fd


class Restore:
    """Writes one backup into a new folder."""

    def __init__(self, store: Store, commit: Commit, options: argparse.Namespace) -> None:
        self.store, self.keep_damaged = store, options.damaged
        self.tree = Tree(store, commit, self.report, options.path)
        self.single = len(commit.paths) == 1
        self.root, self.unmade = os.geteuid() == 0, False
        self.problems = self.warnings = self.files = self.bytes = 0
        self.links: dict[
            tuple[bytes, int] | None, bytes
        ] = {}  # group of names: where the first one is, below the target
        os.makedirs(options.target, mode=0o700, exist_ok=True)
        if os.listdir(options.target):
            raise Stop(f"{options.target} is not empty: give a new folder", 2)
        self.target = os.open(options.target, os.O_RDONLY | os.O_DIRECTORY)
        self.progress = Progress()

    def report(self, path: bytes, message: str, what: str = "NOT RESTORED") -> None:
        """Names what is not restored as it was."""
        self.problems += 1
        say(f"{what}: {show(path)}: {message}")

    def warn(self, path: bytes, message: str) -> None:
        """Names what is restored, but not in every respect."""
        self.warnings += 1
        if self.warnings <= 50:
            say(f"warning: {show(path)}: {message}")

    def run(self) -> None:
        """Restores everything that is wanted."""
        for path, message in self.tree.commit.problems:
            if self.tree.wants(path):
                self.report(path, f"{message} (when the backup was made)", "NOT WHOLE")
        levels = [Level(os.dup(self.target), b"", b"", None)]
        for depth, entry, path in self.tree.walk(skip=lambda entry: self.unmade):
            while len(levels) > depth:
                self._finish(levels.pop())
            above = levels[-1]
            if depth > 1:
                place = join(above.place, entry.name)
            elif self.single:  # its content goes into the target
                place = b"" if stat.S_ISDIR(entry.mode) else entry.name.rpartition(b"/")[2]
            else:
                place = entry.name[1:]
            self.unmade = False
            try:
                fd = enter(above.fd, place.split(b"/")[:-1] if depth == 1 else [], make=True)
                try:
                    self._entry(fd, entry, path, place, levels)
                finally:
                    os.close(fd)
            except (Damage, *MALFORMED, OSError) as error:
                self.unmade = True  # a folder, that is: what is in it is passed over
                self._failed(path, error)
            self._tell()
        while levels:
            self._finish(levels.pop())

    def _tell(self) -> None:
        self.progress.tell(lambda: f"{self.files:,} files, {self.bytes / MIB:,.0f} MiB, {self.problems} problems")

    def _entry(self, fd: int, entry: Entry, path: bytes, place: bytes, levels: list[Level]) -> None:
        name = place.rpartition(b"/")[2]
        if stat.S_ISDIR(entry.mode):
            levels.append(Level(enter(fd, [name] if name else [], make=True), place, path, entry))
            return
        fact = entry.fact(LINK_GROUP) if entry.flags & HARD_LINK else None
        group = None if fact is None else (fact, stat.S_IFMT(entry.mode))
        if group and group in self.links and self._link(fd, name, self.links[group], path):
            pass
        elif stat.S_ISREG(entry.mode):
            self._file(fd, name, entry, path)
        else:
            self._node(fd, name, entry, path)
        if group:
            self.links.setdefault(group, place)
        self.files += 1

    def _link(self, fd: int, name: bytes, first: bytes, path: bytes) -> bool:
        *folders, last = first.split(b"/")
        try:
            there = enter(self.target, folders, make=False)
            try:
                os.link(last, name, src_dir_fd=there, dst_dir_fd=fd, follow_symlinks=False)
            finally:
                os.close(there)
        except OSError as error:
            self.warn(path, f"restored on its own, since it cannot be linked to {show(first)}: {error.strerror}")
            return False
        return True

    def _finish(self, level: Level) -> None:
        """A folder's own attributes come last: filling it changes its times."""
        if level.entry is not None:
            self._attributes(level.fd, None, level.entry, level.path)
        os.close(level.fd)

    def _failed(self, path: bytes, error: Exception) -> None:
        if isinstance(error, OSError) and error.errno in FULL:
            raise Stop(f"{show(path)}: {error.strerror}") from error
        self.report(path, getattr(error, "strerror", None) or str(error))

    def _file(self, fd: int, name: bytes, entry: Entry, path: bytes) -> None:
        out = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=fd)
        try:
            lost = self._content(out, entry, path)
            self._attributes(out, None, entry, path)
            if lost:
                os.rename(name, name[:240] + b".DAMAGED", src_dir_fd=fd, dst_dir_fd=fd)
                self.report(path, f"kept as NAME.DAMAGED, with zeros in place of {lost} lost pieces")
        except BaseException:
            os.unlink(name, dir_fd=fd)
            raise
        finally:
            os.close(out)

    def _content(self, out: int, entry: Entry, path: bytes) -> int:
        """Writes the ranges that are no holes, one after the other; gives the number of lost pieces."""
        ranges = self._ranges(entry)
        room, lost = sum(length for _, length in ranges), 0
        os.truncate(out, entry.size)
        for blob in self.tree.ids(entry.content):
            try:
                data = self.store.blob(DATA, blob)
            except Damage:
                rows = self.store.places[DATA].find(blob)
                if not self.keep_damaged or not rows:
                    raise
                lost, data = lost + 1, bytes(min(MAX_BLOB, self.store.places[DATA].lengths[rows[0]]))
            if len(data) > room and not entry.flags & INCOMPLETE:
                raise Damage("its content is longer than its size")
            data = data[:room]
            room -= len(data)
            self.bytes += len(data)
            while data:
                offset, length = ranges[-1]
                done = os.pwrite(out, data[:length], offset)
                data = data[done:]
                ranges[-1:] = [(offset + done, length - done)] if done < length else []
            self._tell()
        if entry.flags & INCOMPLETE:
            self.warn(path, "it could not be read whole when it was backed up")
        elif room:
            raise Damage(f"{room} bytes of its content are missing")
        return lost

    @staticmethod
    def _ranges(entry: Entry) -> list[tuple[int, int]]:
        """Offset and length of each part that is not a hole, the last one first."""
        extents = entry.fact(EXTENTS)
        words = (0, entry.size) if extents is None else struct.unpack(f"<{len(extents) // 8}Q", extents)
        ranges, end = [], 0
        for offset, length in zip(words[::2], words[1::2]):
            if offset < end or offset + length > entry.size:
                raise Damage("its holes are recorded wrongly")
            end = offset + length
            ranges.append((offset, length))
        return [each for each in reversed(ranges) if each[1]]

    def _node(self, fd: int, name: bytes, entry: Entry, path: bytes) -> None:
        """A link, FIFO, socket or device."""
        kind, device = stat.S_IFMT(entry.mode), 0
        if kind == stat.S_IFLNK:
            os.symlink(entry.fact(LINK_TARGET) or b"", name, dir_fd=fd)
        elif kind in (stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK):
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                device = os.makedev(*struct.unpack("<II", entry.fact(DEVICE) or b""))
            os.mknod(name, 0o600 | kind, device, dir_fd=fd)
        else:
            raise Damage(f"it is of an unknown type ({entry.mode:o})")
        self._attributes(fd, name, entry, path)

    def _attributes(self, fd: int, name: bytes | None, entry: Entry, path: bytes) -> None:
        """Of an open file, or of a name in a folder. The order matters: a change of owner takes rights away."""
        mode = stat.S_IMODE(entry.mode)
        what, at, still = (fd, {}, {}) if name is None else (name, {"dir_fd": fd}, {"follow_symlinks": False})  # type: Any, Any, Any
        if self.root:
            self._try(path, "owner", lambda: os.chown(what, entry.uid, entry.gid, **at, **still))
        elif mode & 0o6000 and (entry.uid, entry.gid) != (os.geteuid(), os.getegid()):
            mode &= 0o1777
            self.warn(path, "setuid and setgid are left out, since its owner is another")
        for value in [value for tag, value in entry.facts if tag == XATTR]:
            end = 2 + int.from_bytes(value[:2], "little")
            self._xattr(fd if name is None else b"/proc/self/fd/%d/%s" % (fd, name), value[2:end], value[end:], path)
        if not stat.S_ISLNK(entry.mode):
            self._try(path, "mode", lambda: os.chmod(what, mode, **at))
        self._try(path, "time", lambda: os.utime(what, ns=(entry.mtime, entry.mtime), **at, **still))

    def _xattr(self, what: Any, key: bytes, value: bytes, path: bytes) -> None:
        still = {} if isinstance(what, int) else {"follow_symlinks": False}
        self._try(path, f"extended attribute {show(key)}", lambda: os.setxattr(what, key, value, **still))

    def _try(self, path: bytes, what: str, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, *MALFORMED) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise
            self.warn(path, f"its {what} could not be set: {getattr(error, 'strerror', None) or error}")


# ---------------------------------------------------------------------------------------------------------------------
# Commands.


def command_list(catalog: Catalog, store: Callable[[], Store], options: argparse.Namespace) -> int:
    """Which backups there are."""
    del store
    say(f"{'ID':<14}{'TIME (UTC)':<21}{'STATE':<11}{'HOST':<14}{'NAME':<14}PATHS")
    for commit in catalog.visible(options.forgotten):
        texts = (commit.id[:12], commit.time[:19], commit.state, commit.host, commit.document["name"])
        columns = "  ".join(f"{show(text):<{width}}" for text, width in zip(texts, (12, 19, 9, 12, 12)))
        print(columns, " ".join(show(path) for path in commit.paths), sep="  ")
    return 13 if catalog.damaged else 0


def command_ls(catalog: Catalog, store: Callable[[], Store], options: argparse.Namespace) -> int:
    """What is in a backup."""
    found = []

    def report(path: bytes, message: str) -> None:
        found.append(path)
        say(f"damaged: {show(path)}: {message}")

    commit = catalog.choose(options.backup, options.forgotten)
    for _, entry, path in Tree(store(), commit, report, options.path).walk():
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(max(-(1 << 35), min(1 << 36, entry.mtime // 10**9))))
        arrow = " -> " + show(entry.fact(LINK_TARGET) or b"") if stat.S_ISLNK(entry.mode) else ""
        owner = f"{entry.uid}:{entry.gid}"
        print(f"{stat.filemode(entry.mode)} {owner:>11} {entry.size:>14} {when} {show(path)}{arrow}")
    return 13 if found else 0


def command_restore(catalog: Catalog, store: Callable[[], Store], options: argparse.Namespace) -> int:
    """Brings a backup, or a part of it, back into a new folder."""
    commit = catalog.choose(options.backup, options.forgotten)
    restore = Restore(store(), commit, options)
    say(f"restoring {commit.title} into {options.target}")
    restore.run()
    say(f"{restore.files:,} files, {restore.bytes:,} bytes; {restore.problems} problems, {restore.warnings} warnings")
    return 3 if restore.problems else 0


def command_verify(catalog: Catalog, store: Callable[[], Store], options: argparse.Namespace) -> int:
    """What is whole and what is not."""
    source = store()
    lost = source.read_everything() if options.read_data else set()
    clean: set[Reference] = set()  # folders that were found whole: what is shared is looked at once
    findings = 0

    def report(path: bytes, message: str) -> None:
        nonlocal findings
        findings += 1
        if findings <= 1000:
            say(f"  {show(path)}: {message}")

    commits = catalog.visible(options.forgotten)
    for commit in commits:
        before = findings
        tree = Tree(source, commit, report)
        open_folders: list[tuple[Reference, int]] = []
        for depth, entry, path in tree.walk(lambda entry: entry.content in clean or findings > 100_000):
            while len(open_folders) >= depth:
                content, then = open_folders.pop()
                clean.update([content] if findings == then else [])
            if stat.S_ISDIR(entry.mode):
                open_folders.append((entry.content, findings))
            elif stat.S_ISREG(entry.mode):
                check_file(tree, entry, path, lost)
        print(f"{'whole  ' if findings == before else 'DAMAGED'}  {commit.title}", flush=True)
    findings += len(catalog.damaged) + len(source.damaged)
    how = "every byte was read" if options.read_data else "only presence was checked; --read-data reads every byte"
    print(f"{len(commits)} backups, {findings} findings ({how})")
    return 13 if findings else 0


def check_file(tree: Tree, entry: Entry, path: bytes, lost: set[bytes]) -> None:
    """Whether all pieces of a file are there."""
    pieces = 0
    try:
        for blob in tree.ids(entry.content):
            pieces += 1
            if pieces > entry.size:
                raise Damage("it has more pieces than bytes")
            if blob in lost or not tree.store.there(DATA, blob):
                raise Damage(f"the data blob {blob.hex()[:16]} is damaged or missing")
    except Damage as error:
        tree.report(path, str(error))


def ask_password(options: argparse.Namespace) -> tuple[Callable[[], str], bool]:
    """How to get the password, and whether one was given already."""
    text = os.environ.get("FREEZER_PASSWORD", "")
    if options.password_file:
        with open(options.password_file, encoding="utf-8") as file:
            text = file.read(MIB)

    def ask() -> str:
        try:
            return text or getpass.getpass("Repository password or recovery key: ")
        except EOFError:
            raise Stop("no password: give it at the prompt, in FREEZER_PASSWORD or with --password-file", 12) from None

    return ask, bool(text)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for run in (command_list, command_ls, command_restore, command_verify):
        command = commands.add_parser(run.__name__[8:], help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        command.add_argument("repo", metavar="REPO", help="folder with the repository's objects")
        if run in (command_ls, command_restore):
            command.add_argument("backup", metavar="BACKUP", help="id, its beginning, or 'latest'")
            command.add_argument("--path", action="append", default=[], help="only this path (may be repeated)")
        if run is command_restore:
            command.add_argument("target", metavar="TARGET", help="a new or empty folder")
            command.add_argument("--damaged", action="store_true", help="keep damaged files too, as NAME.DAMAGED")
        if run is command_verify:
            command.add_argument("--read-data", action="store_true", help="read and check every byte")
        command.add_argument("--forgotten", action="store_true", help="also backups that are forgotten, void or forged")
        command.add_argument(
            "--password-file", metavar="FILE", help="its first line is the password, or all of it a recovery key"
        )
    return parser


def main() -> int:
    """Runs a command."""
    options = arguments().parse_args()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    with contextlib.suppress(ImportError, ValueError, OSError):
        resource = importlib.import_module("resource")
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # a folder that is being filled stays open
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        folder = Folder(options.repo)
        opening = Opening(folder)
        keys = opening.open(*ask_password(options))
        catalog = Catalog(folder, keys)
        for note in opening.notes:
            say(f"note: {note}")
        for name, why in catalog.damaged.items():
            say(f"damaged: {show(name)}: {why}")
        code: int = options.run(catalog, lambda: Store(folder, keys), options)
        return code
    except Stop as error:
        say(f"freezer_recover: {error}")
        return error.code
    except KeyboardInterrupt:
        say("freezer_recover: interrupted")
        return 130
    except BrokenPipeError:  # the reader of our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except (OSError, UnicodeDecodeError) as error:
        say(f"freezer_recover: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
