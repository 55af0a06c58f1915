"""Reading MessagePack of anyone's making: nothing is allocated because a length says so."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, Protocol

import msgpack

from freezer_sdk.engines.rsync.items import Damaged

_CHUNK = 256 << 10
_MAX_STRING = 1 << 20  # a path, a link's target or an extended attribute
_MAX_LIST = 1 << 16
_MAX_MAP = 1 << 12
_MAX_BLOCKS = 1 << 36
_ERRORS = (ValueError, TypeError, OverflowError, msgpack.UnpackException)


class Source(Protocol):
    """Gives bytes."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end."""


class Unpacker:
    """Values of a stream, one after the other, and the raw bytes that follow them.

    Old and new spellings are read alike: texts are ``bytes``.
    """

    def __init__(self, source: Source) -> None:
        self._values = msgpack.Unpacker(
            source,
            read_size=_CHUNK,
            raw=True,
            strict_map_key=False,
            max_buffer_size=4 * _MAX_STRING,
            max_str_len=_MAX_STRING,
            max_bin_len=_MAX_STRING,
            max_array_len=_MAX_LIST,
            max_map_len=_MAX_MAP,
            max_ext_len=_MAX_STRING,
        )

    def map(self) -> int:
        """The number of pairs of the map that begins here.

        Raises:
            Damaged: something else does, or nothing.
        """
        try:
            return int(self._values.read_map_header())
        except _ERRORS as error:
            raise _damage(error) from error

    def list(self) -> int:
        """The number of values of the list that begins here.

        Raises:
            Damaged: something else does, or nothing.
        """
        try:
            return int(self._values.read_array_header())
        except _ERRORS as error:
            raise _damage(error) from error

    def value(self) -> Any:
        """The next value.

        Raises:
            Damaged: none, or larger than anything that this format holds.
        """
        try:
            return self._values.unpack()
        except _ERRORS as error:
            raise _damage(error) from error

    def fields(self) -> Iterator[bytes]:
        """Keys of the map that begins here; the value of each is to be read before the next.

        Raises:
            Damaged.
        """
        for _ in range(self.map()):
            key = self.value()
            if not isinstance(key, bytes):
                raise Damaged("a key is no text")
            yield key

    def numbers(self, *, limit: int) -> array[int]:
        """A list of numbers from 0 up to ``limit``, of any length.

        Raises:
            Damaged.
        """
        found = array("I" if limit < 1 << 32 else "Q")
        for _ in range(min(self.list(), _MAX_BLOCKS)):
            number = self.value()
            if not isinstance(number, int) or not 0 <= number <= limit:
                raise Damaged("a list of numbers holds something else")
            found.append(number)
        return found

    def read(self, size: int) -> bytes:
        """At most ``size`` raw bytes; ``b""`` at the end."""
        return bytes(self._values.read_bytes(size))


def _damage(error: Exception) -> Damaged:
    if isinstance(error, msgpack.OutOfData):
        return Damaged("it ends too early")
    return Damaged(f"it is no MessagePack of this format: {error}")
