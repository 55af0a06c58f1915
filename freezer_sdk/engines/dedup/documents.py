"""JSON documents of the repository: one canonical way to write them, and a strict, bounded way to read them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NoReturn

from freezer_sdk.errors import ChecksumMismatch, ConfigurationError, IntegrityError, ObjectNotFound
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import Storage

if TYPE_CHECKING:
    from freezer_sdk.engines.dedup.handle import Reads

MAX_NUMBER: Final = (1 << 53) - 1
"""Every JSON reader holds integers up to here exactly."""


def encode(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no blanks, everything outside ASCII as ``\\u`` escapes.

    Raises:
        ConfigurationError: something in it is no JSON.
    """
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"this cannot be stored as JSON: {error}") from None
    return text.encode("ascii")


def decode(data: Buffer, what: str) -> dict[str, Any]:
    """A JSON object; the caller has bounded the length.

    Args:
        what: names the thing in messages.

    Raises:
        IntegrityError: no JSON, not an object, a key twice, or not a finite number.
    """
    try:
        document = json.loads(bytes(data).decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise IntegrityError(f"{what} is damaged: it is not valid JSON") from None
    if not isinstance(document, dict):
        raise IntegrityError(f"{what} is damaged: it is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key occurs twice")
    return document


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_bounded(storage: Storage, name: str, limit: int) -> bytes | None:
    """An object, or ``None`` when there is none; never takes more memory than ``limit``.

    Raises:
        IntegrityError: it is larger than anything valid, or cannot be read any more.
        StorageError.
    """
    try:
        data = read_range(storage, name, length=limit + 1)
    except ObjectNotFound:
        return None
    if len(data) > limit:
        raise IntegrityError(f"{name} is larger than it can be")
    return data


def read_range(storage: Storage | Reads, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
    """As ``storage.get``; what lies on a bad sector is damaged like anything else, and the rest is still of use.

    Raises:
        IntegrityError: there, but it cannot be read any more.
        ObjectNotFound, StorageError.
    """
    try:
        return storage.get(name, offset=offset, length=length)
    except ChecksumMismatch as error:
        raise IntegrityError(error.message, hint=error.hint) from error


def base64_text(data: bytes) -> str:
    """Bytes as base64 text (RFC 4648, with padding)."""
    return base64.b64encode(data).decode("ascii")


class Fields:
    """Typed access to the fields of a decoded document.

    Args:
        what: names the thing in messages.
    """

    def __init__(self, document: object, what: str) -> None:
        if not isinstance(document, dict):
            raise IntegrityError(f"{what} is damaged: it is not a JSON object")
        self._document: dict[str, Any] = document
        self.what = what

    def fail(self, name: str) -> NoReturn:
        """Refuses the document because of a field.

        Raises:
            IntegrityError: always.
        """
        raise IntegrityError(f"{self.what} is damaged: field {name!r} is missing or wrong")

    def text(self, name: str, *, limit: int = 1024) -> str:
        """A string of at most ``limit`` characters."""
        value = self._document.get(name)
        return value if isinstance(value, str) and len(value) <= limit else self.fail(name)

    def number(self, name: str, *, low: int = 0, high: int = MAX_NUMBER) -> int:
        """An integer between two bounds."""
        value = self._document.get(name)
        return value if type(value) is int and low <= value <= high else self.fail(name)

    def optional_number(self, name: str, *, low: int = 0, high: int = MAX_NUMBER) -> int | None:
        """An integer, or null."""
        return None if self._document.get(name) is None else self.number(name, low=low, high=high)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self._document.get(name)
        return value if isinstance(value, bool) else self.fail(name)

    def hex(self, name: str, size: int) -> bytes:
        """Exactly ``size`` bytes as lower-case hexadecimal digits."""
        text = self.text(name)
        try:
            value = bytes.fromhex(text)
        except ValueError:
            self.fail(name)
        return value if len(value) == size and value.hex() == text else self.fail(name)

    def base64(self, name: str, *, limit: int) -> bytes:
        """At most ``limit`` bytes as base64."""
        text = self.text(name, limit=(limit + 2) // 3 * 4)
        try:
            return base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error):
            self.fail(name)

    def texts(self, name: str, *, limit: int = 1_000_000, each: int = 1024) -> tuple[str, ...]:
        """A list of strings."""
        value = self._document.get(name)
        if not isinstance(value, list) or len(value) > limit:
            self.fail(name)
        if not all(isinstance(item, str) and len(item) <= each for item in value):
            self.fail(name)
        return tuple(value)

    def optional_texts(self, name: str, *, limit: int = 1_000_000, each: int = 1024) -> tuple[str, ...] | None:
        """A list of strings, or null; it must be there."""
        if name not in self._document:
            self.fail(name)
        return None if self._document[name] is None else self.texts(name, limit=limit, each=each)

    def numbers(self, name: str, *, size: int, high: int) -> tuple[int, ...]:
        """A list of exactly ``size`` integers."""
        value = self._document.get(name)
        if not isinstance(value, list) or len(value) != size:
            self.fail(name)
        if not all(type(item) is int and 0 <= item <= high for item in value):
            self.fail(name)
        return tuple(value)

    def objects(self, name: str, *, limit: int) -> list[Fields]:
        """A list of objects."""
        value = self._document.get(name)
        if not isinstance(value, list) or len(value) > limit:
            self.fail(name)
        return [Fields(item, self.what) for item in value]

    def fields(self, name: str) -> Fields:
        """An object."""
        return Fields(self._document.get(name), self.what)

    def rest(self, *known: str) -> dict[str, Any]:
        """What is there besides the known fields; kept so that rewriting loses nothing."""
        return {name: value for name, value in self._document.items() if name not in known}
