"""Recovery keys: passwords that are printed, put away, and typed in an emergency (repository-format, "Recovery keys").

Four lines of three groups: ``K7QZ-9D2M-XF4T``. Two groups are random, 40 bits; the third is a check of the line, so
that it can be said in which line a typing error is.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import Final

from freezer_sdk.crypto.kdf import normalise_password
from freezer_sdk.errors import WrongPassword

ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base32: without I, L, O and U."""

_LINES: Final = 4
_GROUP: Final = 4
_GROUPS: Final = 3
_SIZE: Final = _LINES * _GROUPS * _GROUP
_SURE: Final = 2  # so many right lines, and it is meant as a recovery key
_DOMAIN: Final = b"freezer-sdk/1/recovery-key\0"
_LOOKALIKES: Final = str.maketrans("OIL", "011")
_SEPARATORS: Final = re.compile(r"[\s\-\u2010-\u2015]+")


def generate() -> str:
    """A new one, with 160 random bits: lines of groups."""
    lines = []
    for number in range(_LINES):
        data = "".join(secrets.choice(ALPHABET) for _ in range(2 * _GROUP))
        lines.append("-".join((data[:_GROUP], data[_GROUP:], _check(number, data))))
    return "\n".join(lines)


def phrase_of(password: str) -> bytes:
    """What keys are derived from.

    Raises:
        ConfigurationError: empty, or no text. WrongPassword: a recovery key with a typing error.
    """
    return normalise_password(as_password(password))


def as_password(text: str) -> str:
    """What to derive keys from: recovery keys in their one normal form, anything else as it is.

    Raises:
        WrongPassword: nearly a recovery key; the message says where it is wrong.
    """
    lines = _split(text)
    if lines is None:
        return text
    wrong = [number + 1 for number, line in enumerate(lines) if not _is_right(number, line)]
    if not wrong:
        return "".join(lines)
    if len(wrong) > _LINES - _SURE:
        return text
    where = f"line {wrong[0]}" if len(wrong) == 1 else "lines " + " and ".join(map(str, wrong))
    raise WrongPassword(
        f"the recovery key has a typing error in {where}",
        hint="each line has three groups of four characters; neither case nor blanks matter",
    )


def _split(text: str) -> list[str] | None:
    """The four lines, each without separators, or ``None`` when it cannot be a recovery key."""
    if len(text) > 4 * _SIZE:
        return None
    groups = _SEPARATORS.split(text.strip().upper().translate(_LOOKALIKES))
    whole = "".join(groups)
    if len(whole) == _SIZE:
        width = _GROUP * _GROUPS
        return [whole[at : at + width] for at in range(0, _SIZE, width)]
    if len(groups) == _LINES * _GROUPS:  # a character too many or too few: the groups still tell where
        return ["".join(groups[at : at + _GROUPS]) for at in range(0, len(groups), _GROUPS)]
    return None


def _is_right(number: int, line: str) -> bool:
    data, check = line[: 2 * _GROUP], line[2 * _GROUP :]
    return set(data) <= set(ALPHABET) and check == _check(number, data)


def _check(number: int, data: str) -> str:
    digest = hashlib.sha256(_DOMAIN + bytes([number]) + data.encode("ascii")).digest()
    bits = int.from_bytes(digest[:4], "big")
    return "".join(ALPHABET[bits >> shift & 31] for shift in (27, 22, 17, 12))
