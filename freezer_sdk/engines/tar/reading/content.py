"""What the levels of a chain make together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.chains.content import Content, Piece
from freezer_sdk.model import Entry
from freezer_sdk.modes.base import ProblemHandler


class TarContent(Content):
    """The tree that the levels make together. Made by :func:`read_levels`."""

    def entries(self) -> Iterator[Entry]:
        """As the contract says."""
        raise NotImplementedError

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        """As the contract says."""
        raise NotImplementedError


def read_levels(levels: Sequence[LevelStream], *, problem: ProblemHandler) -> TarContent:
    """Reads all headers of the levels and merges them, as GNU tar's incremental extraction would.

    Args:
        levels: 0 to n; each stream is read once here, and again for contents.
        problem: told of damage and of what is lost, while the rest is given.

    Raises:
        IntegrityError: nothing at all can be read.
        WrongPassword, UnsupportedFormat, StorageError.
    """
    raise NotImplementedError
