"""Signatures of files: two checksums of each block, by which changed blocks and damage are found."""

from __future__ import annotations

import hashlib
import zlib
from array import array
from dataclasses import dataclass, field
from typing import Final

from freezer_sdk.model import Buffer

STRONG: Final = 20
"""Bytes of the strong checksum of a block, SHA-1."""


@dataclass(kw_only=True, slots=True)
class Signature:
    """Checksums of the blocks of a file.

    Attributes:
        weak: Adler-32 of each block; empty where another weak checksum was recorded.
        strong: SHA-1 of each block, one after the other.
    """

    weak: array[int] = field(default_factory=lambda: array("I"))
    strong: bytes | bytearray = b""

    def __len__(self) -> int:
        return len(self.strong) // STRONG

    def block(self, number: int) -> bytes:
        """The strong checksum of a block; empty where there is none."""
        return bytes(self.strong[number * STRONG : (number + 1) * STRONG])


class Hasher:
    """Makes the signature of what it is given, whatever the pieces.

    Attributes:
        signature: of the blocks that are complete.
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._weak = 1
        self._strong = hashlib.sha1(usedforsecurity=False)
        self._filled = 0
        self.signature = Signature(strong=bytearray())

    def update(self, data: Buffer) -> None:
        """Takes the next bytes."""
        view = memoryview(data)
        while view:
            part = view[: self._block_size - self._filled]
            self._weak = zlib.adler32(part, self._weak)
            self._strong.update(part)
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == self._block_size:
                self._close()

    def finish(self) -> Signature:
        """Of everything, the short last block too."""
        if self._filled:
            self._close()
        return self.signature

    def _close(self) -> None:
        self.signature.weak.append(self._weak)
        self.signature.strong += self._strong.digest()
        self._weak, self._filled = 1, 0
        self._strong = hashlib.sha1(usedforsecurity=False)


def changed_blocks(new: Signature, old: Signature) -> array[int]:
    """Numbers of the blocks of a file that are not what they were at the same place."""
    found = array("I" if len(new) < 1 << 32 else "Q")
    for number in range(len(new)):
        if new.block(number) != old.block(number):
            found.append(number)
    return found
