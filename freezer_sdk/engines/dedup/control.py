"""Control objects: small signed and encrypted documents (repository-format, "Control objects").

Leases, marks, sweeps, tombstones, holds, records, and the commits themselves.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple

from freezer_sdk.crypto.aead import TAG_SIZE, Aead
from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.crypto.kdf import hkdf
from freezer_sdk.crypto.sign import SIGNATURE_SIZE
from freezer_sdk.engines.dedup import documents
from freezer_sdk.engines.dedup.keyring import SEALED_SIZE, KeyRing, Role
from freezer_sdk.errors import ConfigurationError, IntegrityError, UnsupportedFormat
from freezer_sdk.model import Buffer

MAGIC: Final = b"FZCT"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sBBHI32s")
"""magic, version, secrecy, reserved (0), epoch, salt."""
MAX_PAYLOAD: Final = 64 << 20
"""Bytes of JSON."""
MAX_RATIO: Final = 256
"""A document is at most so many times as long as its compressed form: a small object does not cost much memory."""
MAX_VALUES: Final = 2_000_000
"""Commas in a document: each may stand for an object in memory."""
MAX_OBJECT: Final = MAX_PAYLOAD + 4096
"""Bytes of a stored control object."""

_DOMAIN: Final = b"freezer-sdk/1/control\0"
_INDEX, _DATA = 0, 1
_INNER: Final = struct.Struct(f"<16s{SIGNATURE_SIZE}sBI")
"""signer, signature, encoding, length of the JSON."""
_PLAIN, _ZLIB = 0, 1
_COMPRESS_FROM: Final = 4096

Secrecy = Literal["index", "data"]


class Opened(NamedTuple):
    """What a control object says.

    Attributes:
        signer: id of the slot that signed it.
    """

    payload: dict[str, Any]
    signer: bytes


def seal(keyring: KeyRing, kind: str, name: str, payload: Mapping[str, Any], *, secrecy: Secrecy) -> bytes:
    """The stored bytes of a document, signed by the slot of the key ring.

    Args:
        kind: what it is; part of what is signed.
        name: of the object that it will be stored as.
        payload: JSON.
        secrecy: ``index``: every slot can open it. ``data``: only readers.

    Raises:
        ConfigurationError: no JSON, or too large.
    """
    body = documents.encode(payload)
    size = len(body)
    if size > MAX_PAYLOAD:
        raise ConfigurationError(f"{name} is too large: {size} bytes")
    context = _context(kind, name)
    signature = keyring.sign(context, body)
    if body.count(b",") > MAX_VALUES:
        raise ConfigurationError(f"{name} is too large: more than {MAX_VALUES} values")
    encoding = _PLAIN
    if size > _COMPRESS_FROM and size <= MAX_RATIO * len(compressed := zlib.compress(body)):
        encoding, body = _ZLIB, compressed
    plain = _INNER.pack(keyring.slot_id, signature, encoding, size) + body
    if secrecy == "index":
        flag, epoch, key, sealed = _INDEX, keyring.epoch, keyring.index_key(keyring.epoch), b""
    else:
        flag = _DATA
        epoch, key, sealed = keyring.new_run_key()
    # hedged: should the random numbers repeat, different documents still get different keys
    salt = blob_id(keyring.meta_hash_key(), secrets.token_bytes(32) + context + plain)
    head = HEADER.pack(MAGIC, VERSION, flag, 0, epoch, salt) + sealed
    return head + _cipher(keyring, key, salt).seal(0, plain, _aad(keyring, head, context))


def open(keyring: KeyRing, kind: str, name: str, data: Buffer, *, role: Role) -> Opened:
    """Opens a stored document and checks who signed it.

    Args:
        role: what the signer must be allowed to do.

    Raises:
        IntegrityError: damaged, forged, moved from another name, of another kind, or signed by nobody who may.
        AccessDenied: only readers open it.
        UnsupportedFormat: of a version that is not known.
    """
    view = memoryview(data)
    if not HEADER.size + TAG_SIZE + _INNER.size <= len(view) <= MAX_OBJECT:
        raise IntegrityError(f"{name} is damaged: its size cannot be")
    magic, version, flag, reserved, epoch, salt = HEADER.unpack_from(view)
    if magic != MAGIC or flag not in (_INDEX, _DATA) or reserved:
        raise IntegrityError(f"{name} is damaged: its header is not valid")
    if version != VERSION:
        raise UnsupportedFormat(f"{name} is of version {version}, which is not known")
    start = HEADER.size + (SEALED_SIZE if flag == _DATA else 0)
    head = bytes(view[:start])
    context = _context(kind, name)
    try:
        key = keyring.index_key(epoch) if flag == _INDEX else keyring.open_run_key(epoch, head[HEADER.size :])
        plain = _cipher(keyring, key, salt).open(0, view[start:], _aad(keyring, head, context))
        body, signer, signature = _unpack(plain)
        keyring.check(signer, context, body, signature, role=role, epoch=epoch)
        if role is Role.MAINTAINER and keyring.is_removed(signer):
            _check_confirmed(keyring, name, data)
        if body.count(b",") > MAX_VALUES:
            raise IntegrityError("it holds more values than it may")
        return Opened(documents.decode(body, "it"), signer)
    except IntegrityError as error:
        raise IntegrityError(f"{name}: {error.message}") from None


def _check_confirmed(keyring: KeyRing, name: str, data: Buffer) -> None:
    """Of what a removed maintainer signed only that counts which was there when it was removed."""
    if (name, hashlib.sha256(data).hexdigest()) not in keyring.confirmed:
        raise IntegrityError("signed by a maintainer who was removed, and not there when that was done")


def _unpack(plain: bytearray) -> tuple[bytes, bytes, bytes]:
    if len(plain) < _INNER.size:
        raise IntegrityError("it is cut short")
    signer, signature, encoding, size = _INNER.unpack_from(plain)
    body = bytes(memoryview(plain)[_INNER.size :])
    if size > MAX_PAYLOAD or encoding not in (_PLAIN, _ZLIB) or size > MAX_RATIO * len(body):
        raise IntegrityError("its inner header is not valid")
    if encoding == _ZLIB:
        decoder = zlib.decompressobj()
        try:
            body = decoder.decompress(body, size + 1)
        except zlib.error:
            raise IntegrityError("it cannot be decompressed") from None
        if not decoder.eof or decoder.unused_data:
            raise IntegrityError("its length is wrong")
    if len(body) != size:
        raise IntegrityError("its length is wrong")
    return body, signer, signature


def _context(kind: str, name: str) -> bytes:
    return b"control\0" + kind.encode("ascii") + b"\0" + name.encode("utf-8")


def _cipher(keyring: KeyRing, key: bytes, salt: bytes) -> Aead:
    return Aead(hkdf(key, salt=salt, info=_DOMAIN + keyring.repository_id))


def _aad(keyring: KeyRing, head: bytes, context: bytes) -> bytes:
    return b"".join((_DOMAIN, keyring.repository_id, struct.pack("<I", len(head)), head, context))


def is_garbage(keyring: KeyRing, kind: str, name: str, data: Buffer) -> bool:
    """Whether something cannot be a document, whoever signed it: not of a newer version, nor of a later epoch."""
    view = memoryview(data)
    if len(view) < HEADER.size + TAG_SIZE + _INNER.size:
        return True
    magic, version, flag, _reserved, epoch, salt = HEADER.unpack_from(view)
    if magic != MAGIC:
        return True
    if version != VERSION or flag not in (_INDEX, _DATA) or epoch > keyring.epoch:
        return False
    start = HEADER.size + (SEALED_SIZE if flag == _DATA else 0)
    head = bytes(view[:start])
    try:
        key = keyring.index_key(epoch) if flag == _INDEX else keyring.open_run_key(epoch, head[HEADER.size :])
        _cipher(keyring, key, salt).open(0, view[start:], _aad(keyring, head, _context(kind, name)))
    except IntegrityError:
        return True
    return False
