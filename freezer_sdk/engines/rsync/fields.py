"""Values out of maps that anyone may have made."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from freezer_sdk.engines.rsync.items import Damaged

_LARGEST = (1 << 63) - 1


class Fields:
    """A map whose values are checked when they are asked for."""

    def __init__(self, values: object) -> None:
        if not isinstance(values, Mapping):
            raise Damaged("there is something else where a map should be")
        self._values: Mapping[Any, Any] = values

    def number(self, key: str | bytes, *, lowest: int = 0, default: int | None = None) -> int:
        """An integer; whole floating-point numbers and decimal texts count as such.

        Raises:
            Damaged: something else, or out of range.
        """
        found = self.optional(key, lowest=lowest)
        if found is None:
            found = default
        if found is None:
            raise Damaged(f"{_shown(key)} is missing")
        return found

    def optional(self, key: str | bytes, *, lowest: int = 0) -> int | None:
        """An integer, or ``None`` where there is nothing.

        Raises:
            Damaged: something else, or out of range.
        """
        value = self._values.get(key)
        if value is None:
            return None
        try:
            number = int(value)
        except (ValueError, TypeError, OverflowError) as error:
            raise Damaged(f"{_shown(key)} is no number") from error
        if not lowest <= number <= _LARGEST:
            raise Damaged(f"{_shown(key)} is out of range")
        return number

    def seconds(self, key: str | bytes) -> float:
        """A time.

        Raises:
            Damaged: no number.
        """
        value = self._values.get(key, 0)
        if not isinstance(value, int | float):
            raise Damaged(f"{_shown(key)} is no number")
        return value

    def text(self, key: str | bytes) -> bytes | None:
        """A text as raw bytes, or ``None`` where there is none.

        Raises:
            Damaged: something else.
        """
        value = self._values.get(key)
        return None if value is None else text(value)

    def mapping(self) -> Mapping[Any, Any]:
        """All of it, unchecked."""
        return self._values

    def get(self, key: str | bytes) -> Any:
        """Whatever is there, or ``None``."""
        return self._values.get(key)


def text(value: object) -> bytes:
    """A text as raw bytes.

    Raises:
        Damaged: something else.
    """
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    raise Damaged("there is something else where a text should be")


@functools.lru_cache(maxsize=1024)  # few names, in many entries
def name(raw: bytes | None) -> str | None:
    """A user's or group's name; ``None`` where there is none."""
    return raw.decode("utf-8", "surrogateescape") if raw else None


def _shown(key: str | bytes) -> str:
    return key.decode("ascii", "replace") if isinstance(key, bytes) else key
