"""One line of text for an entry, as ``ls`` and ``find`` print it: exact bytes for pipes, escaped for terminals."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from freezer_cli.text import human_iso, human_time, printable, printable_path

Line = list[str | bytes]
"""Pieces of a line; bytes are file names."""

_TYPES = {
    "file": "-",
    "directory": "d",
    "symlink": "l",
    "fifo": "p",
    "socket": "s",
    "character_device": "c",
    "block_device": "b",
}
_SIGNS = {"added": "+", "removed": "-", "content": "M", "type": "T", "metadata": "U"}
_SPECIAL = ((0o4000, 2, "s", "S"), (0o2000, 5, "s", "S"), (0o1000, 8, "t", "T"))


def path_line(row: Mapping[str, Any]) -> Line:
    """The path alone."""
    return [exact(row, "path")]


def entry_line(row: Mapping[str, Any]) -> Line:
    """As ``ls -l`` has it."""
    owner = f"{row['user'] or row['uid']:<8} {row['group'] or row['gid']:<8}"
    size = str(row["device"] or row["size"])
    kind = _TYPES.get(row["type"], "?")
    line: Line = [f"{kind}{permissions(int(row['mode'], 8))} {owner} {size:>12} {_local(row['mtime_ns'])} "]
    line.append(exact(row, "path"))
    if row["link_target"] is not None:
        line += [" -> ", exact(row, "link_target")]
    if row["incomplete"]:
        line.append(" (not whole)")
    return line


def found_line(row: Mapping[str, Any]) -> Line:
    """The backup, and the path in it."""
    return [f"{row['backup'][:8]}  {human_iso(row['time'])}  ", exact(row, "path")]


def change_line(row: Mapping[str, Any]) -> Line:
    """A sign, and the path."""
    return [f"{_SIGNS.get(row['kind'], '?')} ", exact(row, "path")]


def exact(row: Mapping[str, Any], key: str) -> bytes:
    """The bytes of a path in a document."""
    encoded = row[f"{key}_base64"]
    return base64.b64decode(encoded) if encoded is not None else str(row[key]).encode("utf-8")


def permissions(mode: int) -> str:
    """``0o755`` -> ``rwxr-xr-x``."""
    letters = ["rwx"[i % 3] if mode & (0o400 >> i) else "-" for i in range(9)]
    for bit, place, lower, upper in _SPECIAL:
        if mode & bit:
            letters[place] = lower if letters[place] == "x" else upper
    return "".join(letters)


def _local(nanoseconds: int) -> str:
    try:
        return human_time(datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC))
    except (OverflowError, ValueError, OSError):  # a file system keeps years that Python cannot write
        return f"@{nanoseconds // 1_000_000_000}"


def encode(line: Line, *, terminal: bool) -> bytes:
    """The bytes to write, without the end of the line."""
    pieces = []
    for piece in line:
        if isinstance(piece, str):
            pieces.append(printable(piece).encode("utf-8", "backslashreplace"))  # names of owners are somebody's text
        else:
            pieces.append(printable_path(piece).encode("utf-8", "backslashreplace") if terminal else piece)
    return b"".join(pieces)
