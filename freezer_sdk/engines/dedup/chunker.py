"""The seam in front of the content-defined chunker (pyfastcdc, FastCDC 2020, seeded)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from freezer_sdk.errors import UnsupportedFormat


@dataclass(frozen=True, slots=True)
class ChunkerClass:
    """Chunk sizes for files of ``above`` bytes and more."""

    above: int
    average: int

    @property
    def minimum(self) -> int:
        """No chunk but a file's last is smaller."""
        return self.average // 4

    @property
    def maximum(self) -> int:
        """No chunk is larger."""
        return self.average * 4


DEFAULT_CLASSES = (
    ChunkerClass(0, 64 << 10),
    ChunkerClass(1 << 36, 256 << 10),
    ChunkerClass(1 << 40, 1 << 20),
)


class Chunkers:
    """The chunkers of a repository, one for each size class.

    Args:
        seed: secret, 1 to 2**63-1.
        classes: ascending.
    """

    def __init__(self, seed: int, classes: tuple[ChunkerClass, ...] = DEFAULT_CLASSES) -> None:
        self._seed = seed
        self._classes = classes
        self._made: dict[ChunkerClass, Any] = {}

    @property
    def largest(self) -> int:
        """The largest chunk of any class."""
        return max(c.maximum for c in self._classes)

    def pick(self, size: int | None) -> ChunkerClass:
        """The class of a file; a stream of unknown size is of the first."""
        chosen = self._classes[0]
        for candidate in self._classes:
            if size is not None and size >= candidate.above:
                chosen = candidate
        return chosen

    def cutter(self, chosen: ChunkerClass) -> Callable[[memoryview], Iterator[Any]]:
        """A function from a buffer to its chunks (objects with ``offset`` and ``length``)."""
        made = self._made.get(chosen)
        if made is None:
            try:
                from pyfastcdc import FastCDC
            except ImportError as error:  # a broken installation
                raise UnsupportedFormat(
                    f"the chunker cannot be loaded: {error}", hint="pip install pyfastcdc"
                ) from None
            made = FastCDC(
                chosen.average,
                min_size=chosen.minimum,
                max_size=chosen.maximum,
                normalized_chunking=2,
                seed=self._seed,
            )
            self._made[chosen] = made
        cut: Callable[[memoryview], Iterator[Any]] = made.cut_buf
        return cut
