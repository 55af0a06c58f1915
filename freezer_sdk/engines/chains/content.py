"""The tree that the levels of a chain make together: the contract between a codec and all that reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from freezer_sdk.model import Buffer, Entry

ROOT = b"."
"""Path of the directory that was backed up; everything below it is ``a/b``, without ``./``."""


class Piece(NamedTuple):
    """A part of a regular file's content.

    Attributes:
        path: of its entry.
        offset: in the file.
        data: valid until the next piece is asked for; empty where an empty file ends.
        last: whether the file is whole now. A file that never gets its last piece is lost.
    """

    path: bytes
    offset: int
    data: Buffer
    last: bool


class Content(Protocol):
    """What a backup holds, of the levels that it was given. Names are as recorded, thus never to be trusted.

    A level that cannot be read to its end, or that is missing between others, is told to the problem handler (fatal,
    its path is the level's object), and what the others hold still comes. What is known of it by name only (a directory
    lists it) and has no entry is told by its own path as well. A file whose content is in what cannot be read is never
    given in the state of an earlier level: its entry is ``incomplete``, and its last piece never comes.
    """

    def entries(self) -> Iterator[Entry]:
        """The final tree, depth first, parents before what they hold; may be asked for more than once.

        Paths are relative to what was backed up: ``b"."`` is the directory itself, then ``b"a/b"``. Names of one file
        have the same ``link_group``, and each the same facts.

        Raises:
            WrongPassword, StorageError.
            IntegrityError: nothing at all can be read.
        """

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        """Contents of regular files: each level's stream is read once, in order.

        The pieces of a file may come from several levels, in any order and with those of other files between them; a
        later one replaces what it overlaps. They lie within the entry's size; what no piece fills is zero. All names of
        a hard-link group are asked for in the order of the tree, and it comes under the first that is wanted.

        Args:
            wanted: called with the path of an entry, once at least for each; quick.

        Raises:
            WrongPassword, StorageError.
        """
