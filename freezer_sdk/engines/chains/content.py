"""The tree that the levels of a chain make together: the contract between a codec and all that reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Protocol

from freezer_sdk.engines.base import Piece
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.model import Entry

__all__ = ["ROOT", "Content", "Piece", "Taker", "holds_content", "stored_as"]

ROOT = b"."
"""Path of the directory that was backed up; everything below it is ``a/b``, without ``./``."""


def stored_as(level: LevelId, number: int) -> int:
    """What tells one stored content of a file from a later one: the ``inode`` of its entry.

    Args:
        level: that holds the content, or the last part of it.
        number: tells it from others in the level.
    """
    return (level.time & 0xFFFFFFFF) << 32 | number & 0xFFFFFFFF


def holds_content(entry: Entry, times: Collection[int], *, layered: bool) -> bool:
    """Whether a level of one of these times may hold content of a file, by its entry.

    Args:
        layered: levels below the last one may hold some of it, too.
    """
    if not entry.inode:
        return True
    last = entry.inode >> 32
    found = (time & 0xFFFFFFFF for time in times)
    return any(time <= last for time in found) if layered else last in found


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
        have the same ``link_group``, and each the same facts. The ``inode`` of a file is what :func:`stored_as` says.

        Raises:
            WrongPassword, StorageError.
            IntegrityError: nothing at all can be read.
        """

    def checked(self, path: bytes) -> bool:
        """Whether what comes of a file is compared with checksums of its own, so that what comes whole is right."""
        return False

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


class Taker(Protocol):
    """Takes files while a stream is read for the first time, so that it need not be read again for their contents."""

    def directories(self, entries: Iterable[Entry]) -> bool:
        """Called before the first file; whether files are wanted.

        Args:
            entries: all directories that are known to be in the final tree, in its order.
        """

    def file(self, entry: Entry, pieces: Iterator[Piece]) -> None:
        """Called for a regular file that has content, below one of the directories; each path once.

        Args:
            entry: as it is in the final tree, but for its ``link_group``: other names of it may be to come.
            pieces: all of its content, in order; need not be asked for. Raises what reading the stream raises.
        """

    def take_back(self, entries: Iterable[Entry]) -> None:
        """Forgets everything that it was given: the tree is not what it seemed to be. Nothing more will come.

        Args:
            entries: the directories, and all files that were given, what a directory holds before the directory.
        """
