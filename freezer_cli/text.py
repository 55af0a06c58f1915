"""How values look to people: sizes, times, and names that must not disturb a terminal."""

from __future__ import annotations

from datetime import datetime
from typing import TextIO

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_MOST = 1 << 90  # no float holds every number that a document can have


def printable(text: str) -> str:
    """Text that a terminal shows as it is; control characters, direction marks and undecodable bytes are escaped."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(ord(character)) for character in text)


def _escape(code: int) -> str:
    if code in (9, 10, 13):
        return {9: "\\t", 10: "\\n", 13: "\\r"}[code]
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, kept by surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable_path(path: bytes) -> str:
    """A recorded path as :func:`printable` text."""
    return printable(path.decode("utf-8", "surrogateescape"))


def human_size(size: float) -> str:
    """``1536`` -> ``1.5 KiB``; units are powers of 1024."""
    value = float(min(size, _MOST))
    place = 0
    while abs(value) >= 1023.95 and place < len(_UNITS) - 1:
        value /= 1024
        place += 1
    return f"{value:.{min(place, 1)}f} {_UNITS[place]}"


def human_count(count: int) -> str:
    """``1234567`` -> ``1,234,567``."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{human_count(count)} {noun}" if count == 1 else f"{human_count(count)} {noun}s"


def human_time(time: datetime) -> str:
    """Local time, to the second; UTC at the ends of the calendar, where there is no local time."""
    try:
        local = time.astimezone()
    except (OverflowError, ValueError, OSError):
        return f"{time:%Y-%m-%d %H:%M:%S} UTC"
    return f"{local:%Y-%m-%d %H:%M:%S}"


def human_iso(time: str) -> str:
    """Local time, to the second, from ISO 8601."""
    return human_time(datetime.fromisoformat(time))


def human_duration(seconds: float) -> str:
    """``75.2`` -> ``1 min 15 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def is_terminal(stream: TextIO) -> bool:
    """Whether somebody watches; a closed stream is no terminal."""
    try:
        return stream.isatty()
    except ValueError:
        return False
