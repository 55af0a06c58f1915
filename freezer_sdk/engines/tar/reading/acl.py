"""Access lists: the text of extended headers as the value of the kernel's extended attributes."""

from __future__ import annotations

import re
import struct

from freezer_sdk.files.posix import Owners

ACCESS = b"SCHILY.acl.access", b"system.posix_acl_access"
DEFAULT = b"SCHILY.acl.default", b"system.posix_acl_default"

_HEADER = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
MINIMAL = len(_HEADER) + 3 * _ENTRY.size
"""Length of a list that has no more than owner, group and others."""

_NOBODY = 0xFFFFFFFF
_TAGS = {b"user": 0x02, b"group": 0x08, b"mask": 0x10, b"other": 0x20}
_OWNER_TAGS = {0x02: 0x01, 0x08: 0x04}  # without a name the entry is the owner's, or the owning group's
_SHORT = {b"u": b"user", b"g": b"group", b"m": b"mask", b"o": b"other"}
_RIGHTS = {ord("r"): 4, ord("w"): 2, ord("x"): 1, ord("-"): 0}
_LONGEST = 1 << 16


class BadAcl(ValueError):
    """An access list says nothing that can be used."""


def packed(text: bytes, owners: Owners) -> bytes:
    """The attribute's value.

    Entries are apart by commas or newlines: ``kind:name or number:rights[:number]``, with comments after ``#``.

    Raises:
        BadAcl: it is not formed so, or has a name that this system does not know.
    """
    if len(text) > _LONGEST:
        raise BadAcl("an access list is too long")
    entries = []
    for line in re.split(rb"[\n,]", text):
        entry = line.split(b"#", 1)[0].strip()
        if entry:
            entries.append(_entry(entry, owners))
    entries.sort(key=lambda entry: (entry[0], entry[2]))
    return _HEADER + b"".join(_ENTRY.pack(*entry) for entry in entries)


def _entry(text: bytes, owners: Owners) -> tuple[int, int, int]:
    kind, _, rest = text.partition(b":")
    tag = _TAGS.get(_SHORT.get(kind, kind))
    if tag is None:
        raise BadAcl(f"an access list has an entry of no known kind: {text[:80]!r}")
    parts = rest.split(b":")
    if tag in (0x10, 0x20) and len(parts) == 1:  # mask and other need no empty name
        parts = [b"", *parts]
    if not 2 <= len(parts) <= 3 or any(letter not in _RIGHTS for letter in parts[1]):
        raise BadAcl(f"an access list has an entry that says nothing: {text[:80]!r}")
    rights = 0
    for letter in parts[1]:
        rights |= _RIGHTS[letter]
    if not parts[0]:
        return _OWNER_TAGS.get(tag, tag), rights, _NOBODY
    return tag, rights, _number(tag, parts[0], parts[2] if len(parts) == 3 else b"", owners)


def _number(tag: int, name: bytes, number: bytes, owners: Owners) -> int:
    """The number that star writes beside the name, the one that stands for the name, or the name's own here."""
    for text in (number, name):
        if text.isdigit() and len(text) <= 10:
            return int(text) & _NOBODY
    known = (owners.uid if tag == _TAGS[b"user"] else owners.gid)(name.decode("utf-8", "surrogateescape"))
    if known is None:
        raise BadAcl(f"an access list names {name[:80]!r}, whom this system does not know")
    return known
