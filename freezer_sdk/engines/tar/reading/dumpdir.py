"""Directory listings of incremental archives: what each directory held when it was backed up."""

from __future__ import annotations

from typing import NamedTuple

CHANGED = ord("Y")
"""In this archive."""
UNCHANGED = ord("N")
"""As it was in the levels below; or left out, as far as they do not have it."""
DIRECTORY = ord("D")

_RENAME_FROM, _RENAME_TO, _TEMPORARY = ord("R"), ord("T"), ord("X")


class BadDumpdir(ValueError):
    """A listing is not formed as it should be."""


class Dumpdir(NamedTuple):
    """A parsed listing.

    Attributes:
        names: code of each name.
        renames: directories that got other names since the level below: from, to. They are all meant at once; names
            of directories that were moved along with their parents have the parents' new names.
    """

    names: dict[bytes, int]
    renames: list[tuple[bytes, bytes]]


def parse(raw: bytes) -> Dumpdir:
    """Parses a listing: ``<code><name>NUL``, repeated, and NUL at the end.

    Raises:
        BadDumpdir: it is cut off or not formed as it should be.
    """
    if not raw.endswith(b"\0") or (len(raw) > 1 and raw[-2]):
        raise BadDumpdir("a directory's listing has no end")
    records = raw.split(b"\0")
    end = records.index(b"")  # there is one: raw ends with NUL
    names: dict[bytes, int] = {}
    renames: list[tuple[bytes, bytes]] = []
    source: bytes | None = None
    temporary: bytes | None = None
    for record in records[:end]:
        code = record[0]
        if (source is not None) != (code == _RENAME_TO):
            raise BadDumpdir("a directory's listing has half of a renaming")
        if code in (CHANGED, UNCHANGED, DIRECTORY):
            names[record[1:]] = code
        elif code == _RENAME_FROM:
            source = record[1:]
        elif code == _RENAME_TO:
            assert source is not None
            temporary = _rename(renames, source, record[1:], temporary)
            source = None
        elif code != _TEMPORARY:  # others are for those who know what they mean
            names.setdefault(record[1:], UNCHANGED)
    if source is not None or temporary is not None:
        raise BadDumpdir("a directory's listing has half of a renaming")
    return Dumpdir(names, renames)


def _rename(renames: list[tuple[bytes, bytes]], source: bytes, to: bytes, temporary: bytes | None) -> bytes | None:
    """Notes a renaming; one by way of a temporary name, which breaks a cycle, is noted when its end is known."""
    if not to:
        if temporary is not None or not source:
            raise BadDumpdir("a directory's listing has a renaming without a name")
        return source
    if not source:
        if temporary is None:
            raise BadDumpdir("a directory's listing has a renaming without a name")
        source, temporary = temporary, None
    renames.append((source, to))
    return temporary
