"""Writing MessagePack as the original reads it: texts in the old spelling, whatever their bytes."""

from __future__ import annotations

from typing import Any

import msgpack


class Packing:
    """Makes bytes of values and of the heads of maps and lists."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(use_bin_type=False)

    def value(self, value: Any) -> bytes:
        """Any value."""
        return bytes(self._packer.pack(value))

    def map(self, count: int) -> bytes:
        """The head of a map of so many pairs."""
        return bytes(self._packer.pack_map_header(count))

    def list(self, count: int) -> bytes:
        """The head of a list of so many values."""
        return bytes(self._packer.pack_array_header(count))
