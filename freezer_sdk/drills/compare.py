"""Whether restored files are those of the backup: what lies on the disk is compared with what the repository gives."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import IO, Final

from freezer_sdk.errors import RestoreError
from freezer_sdk.model import Entry, EntryType
from freezer_sdk.storages.base import Reader

_BLOCK: Final = 1 << 20
_THREADS: Final = 8
_AT_ONCE: Final = 256  # entries that are looked at before the next ones are
_CLOCK: Final = 2_000_000_000  # nanoseconds: what the coarsest file systems make of a time
_TYPES: Final = {
    EntryType.FILE: stat.S_ISREG,
    EntryType.DIRECTORY: stat.S_ISDIR,
    EntryType.SYMLINK: stat.S_ISLNK,
    EntryType.FIFO: stat.S_ISFIFO,
}

Open = Callable[[bytes], AbstractContextManager[Reader]]
"""The content of a file in the repository, by its recorded path."""


@dataclass(kw_only=True)
class Compared:
    """What was compared.

    Attributes:
        entries: of all kinds.
        bytes: of contents.
        incomplete: files that the backup itself does not have whole.
    """

    entries: int = 0
    bytes: int = 0
    incomplete: int = 0


class Comparison:
    """Compares a tree with a backup.

    Args:
        root: the folder below which recorded paths were restored.
        content: gives a file of the repository; ``None``: ``digests`` has them all.
        digests: SHA-256 of contents that are not empty, by recorded path.
        owner: whether owners were restored, by number.
        tick: called often; may raise.
    """

    def __init__(
        self,
        root: bytes,
        *,
        content: Open | None = None,
        digests: Mapping[bytes, bytes] = MappingProxyType({}),
        owner: bool,
        tick: Callable[[], None],
    ) -> None:
        self._root, self._content, self._digests = root, content, digests
        self._owner, self._tick = owner, tick

    def run(self, entries: Iterable[Entry], wanted: Container[bytes] | None) -> Compared:
        """Compares entries.

        Args:
            entries: of the backup.
            wanted: paths that were restored; ``None``: all of them.

        Raises:
            RestoreError: names the first that is not what the backup says.
            StorageError, IntegrityError, Cancelled.
        """
        chosen = (each for each in entries if each.type in _TYPES and (wanted is None or each.path in wanted))
        done, compared = Compared(), dict[bytes, int]()  # inodes by group of hard links
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="freezer-drill") as pool:
            for batch in _batches(chosen):
                waiting: list[Future[int]] = []
                for entry in batch:
                    inode = self._attributes(entry)
                    done.entries += 1
                    if entry.type is not EntryType.FILE:
                        continue
                    if entry.incomplete:
                        done.incomplete += 1
                    elif entry.link_group is None or compared.setdefault(entry.link_group, -inode) != inode:
                        waiting.append(pool.submit(self._content_of, entry))
                        if entry.link_group is not None:
                            compared[entry.link_group] = inode
                done.bytes += sum(each.result() for each in waiting)
        return done

    def _attributes(self, entry: Entry) -> int:
        """Compares what the file system says of an entry; its inode."""
        self._tick()
        try:
            found = os.lstat(self._root + entry.path)
        except OSError as error:
            raise _different(entry, f"it is not there ({error.strerror})") from None
        if not _TYPES[entry.type](found.st_mode):
            raise _different(entry, f"it is no {entry.type}")
        if self._owner and (found.st_uid, found.st_gid) != (entry.uid, entry.gid):
            raise _different(entry, f"it belongs to {found.st_uid}:{found.st_gid}, not to {entry.uid}:{entry.gid}")
        if entry.type is EntryType.SYMLINK:
            if os.readlink(self._root + entry.path) != entry.link_target:
                raise _different(entry, "it leads somewhere else")
            return found.st_ino
        bits = 0o7777 if self._owner else 0o777  # who is not root may not be allowed to set the others
        if (found.st_mode ^ entry.mode) & bits:
            raise _different(entry, f"its permissions are {found.st_mode & bits:04o}, not {entry.mode & bits:04o}")
        if entry.type is EntryType.FILE and not entry.incomplete and found.st_size != entry.size:
            raise _different(entry, f"it has {found.st_size} bytes, not {entry.size}")
        if abs(found.st_mtime_ns - entry.mtime_ns) > _CLOCK and not entry.incomplete:
            raise _different(entry, "it has another time")
        return found.st_ino

    def _content_of(self, entry: Entry) -> int:
        """Compares the content of a file; how many bytes that were."""
        if not entry.size:
            return 0
        with open(self._root + entry.path, "rb") as restored:
            if self._content is None:
                same = self._digest(restored) == self._digests.get(entry.path)
            else:
                with self._content(entry.path) as stored:
                    same = self._same(restored, stored)
        if not same:
            raise _different(entry, "its content is another one")
        return entry.size

    def _digest(self, restored: IO[bytes]) -> bytes:
        found = hashlib.sha256()
        while data := restored.read(_BLOCK):
            self._tick()
            found.update(data)
        return found.digest()

    def _same(self, restored: IO[bytes], stored: Reader) -> bool:
        while True:
            self._tick()
            data = stored.read(_BLOCK)
            if restored.read(len(data) or 1) != data:
                return False
            if not data:
                return True


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    left = iter(entries)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def _different(entry: Entry, message: str) -> RestoreError:
    return RestoreError(f"{os.fsdecode(entry.path)}: not restored as it was backed up: {message}")
