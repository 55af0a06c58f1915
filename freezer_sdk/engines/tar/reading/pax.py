"""Extended headers of POSIX archives, with what GNU tar and star add to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_RECORD = re.compile(rb"(\d{1,10})[ \t]+([^=]+)=")

SPARSE = b"GNU.sparse."
_XATTR = b"SCHILY.xattr."
_SELINUX = b"RHT.security.selinux"


class BadHeader(ValueError):
    """An extended header is not formed as it should be."""


class Extended(NamedTuple):
    """The records of one extended header.

    Attributes:
        values: by keyword, the last one of each.
        segments: the values of ``GNU.sparse.offset`` and ``GNU.sparse.numbytes``, which repeat, in their order.
    """

    values: dict[bytes, bytes]
    segments: list[tuple[bytes, bytes]]


def parse(raw: bytes) -> Extended:
    """Parses the records ``<length> <keyword>=<value>NEWLINE``.

    Raises:
        BadHeader.
    """
    values: dict[bytes, bytes] = {}
    segments: list[tuple[bytes, bytes]] = []
    at, end = 0, len(raw)
    while at < end:
        match = _RECORD.match(raw, at)
        if match is None:
            if not raw[at:].strip(b"\0"):  # some writers fill the block
                break
            raise BadHeader("an extended header has a record without a length")
        following = at + int(match[1])
        if not match.end() < following <= end or raw[following - 1] != 0x0A:
            raise BadHeader("an extended header has a record of a wrong length")
        keyword, value = match[2], raw[match.end() : following - 1]
        if keyword in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            segments.append((keyword, value))
        else:
            values[keyword] = value
        at = following
    return Extended(values, segments)


def xattrs(values: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Extended attributes, but for access lists."""
    found = []
    for keyword, value in values.items():
        if keyword.startswith(_XATTR):
            name = keyword[len(_XATTR) :].replace(b"%3D", b"=").replace(b"%25", b"%")
            found.append((name, value))
        elif keyword == _SELINUX:
            found.append((b"security.selinux", value.rstrip(b"\0") + b"\0"))
    return found
