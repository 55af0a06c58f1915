"""Numbers as tar headers and extended headers have them; each has its bounds."""

from __future__ import annotations

import re

_BLANKS = b" \t\r\n\v\f"
_ENDS = b"\0 "
_OCTAL = re.compile(rb"[0-7]+")
_DECIMAL = re.compile(rb"\d{1,20}")
_TIME = re.compile(rb"(-?)(\d{1,20})(?:\.(\d*))?")

_SECOND = 10**9
LARGEST_TIME = 2**63 - 1
LARGEST_SIZE = 2**63 - 1


class BadNumber(ValueError):
    """A field does not hold a number that it may hold."""


def field(raw: bytes) -> int:
    """A numeric header field: octal with blanks around it, or base-256; empty is 0.

    Raises:
        BadNumber.
    """
    digits = raw[:-1]
    if digits.isdigit() and raw[-1] in _ENDS:  # as nearly all are
        try:
            return int(digits, 8)
        except ValueError:
            raise BadNumber(f"{raw!r} is no number") from None
    first = raw[0]
    if first in (0x80, 0xFF):
        value = int.from_bytes(raw[1:], "big")
        return value if first == 0x80 else value - (1 << (8 * (len(raw) - 1)))
    text = raw.lstrip(b"\0" + _BLANKS) if first == 0 else raw.lstrip(_BLANKS)
    match = _OCTAL.match(text)
    if match is None:
        if text.strip(b"\0" + _BLANKS):
            raise BadNumber(f"{raw!r} is no number")
        return 0
    end = match.end()
    if end < len(text) and text[end] not in b"\0" + _BLANKS:
        raise BadNumber(f"{raw!r} is no number")
    return int(match[0], 8)


def size_field(raw: bytes) -> int:
    """A size, an offset or a count.

    Raises:
        BadNumber: or it is negative or too large.
    """
    value = field(raw)
    if not 0 <= value <= LARGEST_SIZE:
        raise BadNumber(f"{value} is no size")
    return value


def id_field(raw: bytes) -> int:
    """A user or group number in 32 bits; negative ones are those that other systems count down from the largest.

    Raises:
        BadNumber.
    """
    return check_id(field(raw))


def check_id(value: int) -> int:
    """As :func:`id_field`, for a number.

    Raises:
        BadNumber.
    """
    if not -(2**31) <= value < 2**32:
        raise BadNumber(f"{value} is no number of a user or group")
    return value & 0xFFFFFFFF


def decimal(raw: bytes) -> int:
    """A size, an offset or a count in decimal digits.

    Raises:
        BadNumber: or it is too large.
    """
    if _DECIMAL.fullmatch(raw) is None or (value := int(raw)) > LARGEST_SIZE:
        raise BadNumber(f"{raw[:40]!r} is no size")
    return value


def signed(raw: bytes) -> int:
    """A decimal number that may be negative.

    Raises:
        BadNumber.
    """
    value = decimal(raw.removeprefix(b"-"))
    return -value if raw.startswith(b"-") else value


def seconds(value: int) -> int:
    """Nanoseconds of a time in seconds; what no system can have becomes the nearest that one can."""
    return max(-LARGEST_TIME, min(value * _SECOND, LARGEST_TIME))


def time(raw: bytes) -> int:
    """Nanoseconds of a time of an extended header: decimal seconds, perhaps with a fraction.

    Raises:
        BadNumber.
    """
    match = _TIME.fullmatch(raw)
    if match is None:
        raise BadNumber(f"{raw[:40]!r} is no time")
    value = int(match[2]) * _SECOND + int((match[3] or b"")[:9].ljust(9, b"0"))
    return max(-LARGEST_TIME, min(-value if match[1] else value, LARGEST_TIME))
