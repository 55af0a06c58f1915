"""Keyed BLAKE3 for names of content, and BLAKE3's key derivation."""

from __future__ import annotations

from blake3 import blake3

from freezer_sdk.model import Buffer


def blob_id(key: bytes, data: Buffer) -> bytes:
    """The keyed hash of content, 32 bytes: without the key nobody can test whether content is stored."""
    return blake3(data, key=key).digest()


def derive(context: str, material: Buffer, *, length: int = 32) -> bytes:
    """A key for one purpose from key material.

    Args:
        context: a hard-coded, unique description of the purpose.
    """
    return blake3(material, derive_key_context=context).digest(length=length)
