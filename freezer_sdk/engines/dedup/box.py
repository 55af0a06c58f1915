"""Sealed tables: pack tables and index sections, readable by every slot that may write (section "Boxes")."""

from __future__ import annotations

import os
import struct
from typing import NamedTuple, Protocol

from freezer_sdk.crypto.aead import TAG_SIZE, Aead
from freezer_sdk.crypto.hashing import blob_id
from freezer_sdk.crypto.kdf import hkdf
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import MAX_TABLE
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Buffer

MAGIC = b"FZBX"
VERSION = 1
HEADER = struct.Struct("<4sBBHII32s")
"""magic, version, kind of box, reserved, ciphertext length, epoch, salt."""

_DOMAIN = b"freezer-sdk/1/box\0"
_SIGNED = 16 + 64


class Opened(NamedTuple):
    """A table, and the slot that signed it (16 bytes)."""

    signer: bytes
    body: bytes


class BoxKeys(Protocol):
    """What is needed of a key ring."""

    repository_id: bytes
    slot_id: bytes

    @property
    def epoch(self) -> int:
        """The newest epoch."""

    def meta_hash_key(self) -> bytes:
        """The key that meta blobs are named with."""

    def index_key(self, epoch: int) -> bytes:
        """The key of tables and indexes."""

    def sign(self, context: bytes, payload: bytes) -> bytes:
        """64 bytes."""

    def check(
        self,
        signer: bytes,
        context: bytes,
        payload: bytes,
        signature: bytes,
        *,
        role: Role,
        epoch: int | None = None,
    ) -> None:
        """Raises IntegrityError unless valid."""


def seal_box(keys: BoxKeys, kind: int, body: bytes) -> bytes:
    """Signs and encrypts a table."""
    context = _DOMAIN + bytes((kind,))
    signature = keys.sign(context, body)
    plain = b"".join((keys.slot_id, signature, body))
    # the salt depends on the content too, so that repeated randomness does no harm
    salt = blob_id(keys.meta_hash_key(), os.urandom(32) + context + plain)
    head = HEADER.pack(MAGIC, VERSION, kind, 0, len(plain) + TAG_SIZE, keys.epoch, salt)
    key = hkdf(keys.index_key(keys.epoch), salt=salt, info=context + keys.repository_id)
    return head + bytes(Aead(key).seal(0, plain, context + keys.repository_id + head))


def box_size(data: Buffer) -> int:
    """Length of the whole box that starts here.

    Raises:
        IntegrityError: no box starts here.
    """
    if len(data) < HEADER.size:
        raise IntegrityError("a table is shorter than its header")
    magic, version, _kind, reserved, length, _epoch, _salt = HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or reserved or not TAG_SIZE + _SIGNED <= length <= MAX_TABLE:
        raise IntegrityError("a table's header is damaged")
    return HEADER.size + int(length)


def open_box(keys: BoxKeys, kind: int, data: Buffer) -> Opened:
    """The body of a table that a known writer signed, and who that was.

    Raises:
        IntegrityError: damaged, forged, of another kind, or signed by nobody who may.
    """
    if box_size(data) != len(data):
        raise IntegrityError("a table's length does not match its place")
    view = memoryview(data)
    head = bytes(view[: HEADER.size])
    _magic, _version, found, _reserved, _length, epoch, salt = HEADER.unpack(head)
    if found != kind:
        raise IntegrityError("a table is of another kind than its place asks for")
    context = _DOMAIN + bytes((kind,))
    key = hkdf(keys.index_key(epoch), salt=salt, info=context + keys.repository_id)
    plain = Aead(key).open(0, view[HEADER.size :], context + keys.repository_id + head)
    signer, signature, body = bytes(plain[:16]), bytes(plain[16:_SIGNED]), bytes(memoryview(plain)[_SIGNED:])
    del plain  # it may be large, and checking takes as much again
    keys.check(signer, context, body, signature, role=Role.WRITER, epoch=epoch)
    return Opened(signer, body)
