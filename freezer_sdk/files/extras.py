"""The optional facts of entries, :class:`~freezer_sdk.modes.base.Extra`: values to bytes and back."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from freezer_sdk.modes.base import Extra, Extras

_DEVICE = struct.Struct("<II")
_EXTENT = struct.Struct("<QQ")
_U16 = struct.Struct("<H")

Extents = Sequence[tuple[int, int]]


def pack_xattr(name: bytes, value: bytes) -> bytes:
    """One extended attribute as the value of an ``XATTR`` fact."""
    return _U16.pack(len(name)) + name + value


def pack_device(major: int, minor: int) -> bytes:
    """The value of a ``DEVICE`` fact."""
    return _DEVICE.pack(major, minor)


def pack_extents(extents: Extents) -> bytes:
    """Data ranges ``(offset, length)`` as the value of an ``EXTENTS`` fact."""
    return b"".join(_EXTENT.pack(*extent) for extent in extents)


def find(extras: Extras, tag: int) -> bytes | None:
    """The value of the first fact with this tag."""
    for found, value in extras:
        if found == tag:
            return value
    return None


def xattrs(extras: Extras) -> list[tuple[bytes, bytes]]:
    """Names and values of all extended attributes.

    Raises:
        ValueError: not packed as it should be.
    """
    return [_unpack_xattr(value) for tag, value in extras if tag == Extra.XATTR]


def _unpack_xattr(packed: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(packed[:2], "little")
    if not 2 < end <= len(packed):
        raise ValueError("damaged extended attribute")
    return packed[2:end], packed[end:]


def device(extras: Extras) -> tuple[int, int] | None:
    """Major and minor number.

    Raises:
        ValueError: not packed as it should be.
    """
    packed = find(extras, Extra.DEVICE)
    if packed is None:
        return None
    if len(packed) != _DEVICE.size:
        raise ValueError("damaged device number")
    major, minor = _DEVICE.unpack(packed)
    return major, minor


def extents(extras: Extras) -> list[tuple[int, int]] | None:
    """Data ranges of a sparse file, ascending; ``None``: not sparse.

    Raises:
        ValueError: not packed as it should be, or not ascending.
    """
    packed = find(extras, Extra.EXTENTS)
    if packed is None:
        return None
    if len(packed) % _EXTENT.size:
        raise ValueError("damaged list of extents")
    found: list[tuple[int, int]] = []
    end = 0
    for start, length in _EXTENT.iter_unpack(packed):
        if start < end or not length:
            raise ValueError("extents are not ascending")
        end = start + length
        found.append((start, length))
    return found
