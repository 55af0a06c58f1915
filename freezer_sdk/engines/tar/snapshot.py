"""The snapshot file of GNU tar: what ``--listed-incremental`` reads, and leaves for the next level.

Format 2, by the manual of GNU tar ("Incremental Snapshot Files"): a line with the version, then fields that end in
NUL: the start of the run (seconds, nanoseconds), and for each directory ``nfs``, its time (seconds, nanoseconds),
device, inode, name, its entries (``Y``, ``N`` or ``D`` and the name), and two empty fields.

What GNU tar leaves is not safe to build upon as it is: an entry that it could not read, or was told to leave out, is
in the list like all others, and the next level takes it for stored. :func:`settled` takes such entries out, so that
the next level looks at them as if they were new.

Nor are directories that were moved: GNU tar follows them by their inodes, and gets exchanges and nested moves wrong.
:func:`in_place` takes directories that are no longer the same out before a run, so that all of their content is stored
again.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from typing import Final, NamedTuple

from freezer_sdk.errors import IntegrityError

_VERSION: Final = re.compile(rb"GNU tar-[0-9.]{1,16}-2\n")
_OLDER: Final = re.compile(rb"(?:GNU tar-[0-9.]{1,16}-1\n)?[0-9]{1,20}(?: [0-9]{1,9})?[\n\0]")
_END: Final = b"\0\0\0"
_FIELDS: Final = 6
_TICK: Final = 20_000_000  # nanoseconds; the kernel gives files the time of its last tick
_COARSE: Final = 2  # seconds; no file system's times are coarser


class SnapshotDirectory(NamedTuple):
    """One directory of a snapshot file.

    Attributes:
        nanoseconds: of its time.
        entries: each a letter and a name, with a NUL behind it.
    """

    head: bytes
    device: bytes
    inode: bytes
    name: bytes
    nanoseconds: bytes
    entries: bytes

    def names(self, letters: bytes = b"YND") -> set[bytes]:
        """Names of its entries."""
        return {entry[1:] for entry in self.entries.split(b"\0") if entry and entry[0] in letters}


class Snapshot:
    """A snapshot file, read directory by directory.

    Raises:
        IntegrityError: it is none.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.modern = _VERSION.match(data) is not None
        if not self.modern and not _OLDER.match(data):
            raise IntegrityError(
                "what the last level left is no snapshot file of GNU tar", hint="begin a new chain with a full backup"
            )
        self._head = self._body = 0
        self._nanoseconds = data.find(b"\n") + 1
        if self.modern:
            self._head = self._nanoseconds
            self._nanoseconds = self._field(self._head)
            self._body = self._field(self._nanoseconds)

    def _field(self, start: int) -> int:
        """Where the field after this one starts."""
        end = self._data.find(b"\0", start)
        if end < 0 or not self._data[start:end].isdigit():
            raise IntegrityError("the snapshot file of GNU tar is cut short or damaged")
        return end + 1

    @property
    def version(self) -> bytes:
        """The first line."""
        return self._data[: self._head]

    @property
    def start(self) -> tuple[int, int]:
        """When the run began; seconds and nanoseconds."""
        data = self._data
        return int(data[self._head : self._nanoseconds - 1]), int(data[self._nanoseconds : self._body - 1])

    def directories(self) -> Iterator[SnapshotDirectory]:
        """What it holds; nothing for formats of older versions.

        Raises:
            IntegrityError.
        """
        data, position = self._data, self._body
        while self.modern and position < len(data):
            end = data.find(_END, position)
            fields = data[position : end + 1].split(b"\0", _FIELDS) if end >= 0 else []
            if len(fields) <= _FIELDS:
                raise IntegrityError("the snapshot file of GNU tar is cut short or damaged")
            _, _, nanoseconds, device, inode, name, entries = fields
            yield SnapshotDirectory(b"\0".join(fields[:_FIELDS]), device, inode, name, nanoseconds, entries)
            position = end + len(_END)


class Known:
    """What a base level knows of; answers for one directory after the other, with little memory.

    Args:
        base: its snapshot file.

    Raises:
        IntegrityError.
    """

    def __init__(self, base: bytes) -> None:
        snapshot = Snapshot(base)
        self._inodes: dict[bytes, list[bytes]] = defaultdict(list)
        self._entries: dict[bytes, bytes] = {}
        for directory in snapshot.directories():
            self._entries[directory.name] = directory.entries
            self._inodes[directory.inode].append(directory.name)
        self._last: tuple[bytes, set[bytes]] = (b"", set())
        self.complete = snapshot.modern

    def __bool__(self) -> bool:
        return bool(self._entries)

    def names(self, directory: bytes) -> set[bytes]:
        """Names of the entries that a directory had."""
        if self._last[0] != directory:
            self._last = directory, {entry[1:] for entry in self._entries.get(directory, b"").split(b"\0")}
        return self._last[1]

    def had(self, path: bytes) -> bool:
        """Whether there was an entry at this path (``./a/b``)."""
        directory, _, name = path.rpartition(b"/")
        return name in self.names(directory)

    def names_of(self, directory: SnapshotDirectory) -> set[bytes]:
        """The same for a directory that may have had another name: GNU tar knows it by its inode."""
        found = set(self.names(directory.name))
        for name in self._inodes.get(directory.inode, ()):
            if name != directory.name:
                found |= {entry[1:] for entry in self._entries[name].split(b"\0")}
        return found


class InPlace(NamedTuple):
    """What of a snapshot file can be built upon.

    Attributes:
        state: a snapshot file of the directories that are still the same.
        kept, dropped: how many directories are, and are not.
    """

    state: bytes
    kept: int
    dropped: int


def in_place(state: bytes, inode: Callable[[bytes], int | None]) -> InPlace:
    """A snapshot file without directories that are no longer what they were.

    Args:
        state: as :func:`settled` gives it.
        inode: of the directory that has a name (``./a``) now; ``None``: there is none.

    Raises:
        IntegrityError: ``state`` is cut short.
    """
    snapshot = Snapshot(state)
    if not snapshot.modern:
        return InPlace(state, 0, 0)
    second, nanosecond = snapshot.start
    parts = [snapshot.version, b"%d\0%d\0" % (second, nanosecond)]
    kept = dropped = 0
    for each in snapshot.directories():
        if each.inode.isdigit() and inode(each.name) == int(each.inode):
            parts += (each.head, b"\0", each.entries, b"\0\0")
            kept += 1
        else:
            dropped += 1
    return InPlace(state if not dropped else b"".join(parts), kept, dropped)


def settled(
    state: bytes,
    *,
    known: Known | None,
    lost: Collection[bytes],
    left_out: Callable[[bytes], bool] | None,
    unmodified: Callable[[bytes, Collection[bytes]], None] = lambda directory, names: None,
    as_of_ns: int | None = None,
) -> bytes:
    """A snapshot file on which the next level can build without losing anything.

    Args:
        state: as GNU tar left it.
        known: what the base level knew; ``None`` for level 0.
        lost: paths (``./a/b``) of what is not whole in this level.
        left_out: whether patterns may have left out a path; ``None``: there are none.
        unmodified: told of the entries of a directory, no directories, that are as the base level has them.
        as_of_ns: when what GNU tar has read was so, where it is not the file system itself.

    Raises:
        IntegrityError: ``state`` is cut short.
    """
    snapshot = Snapshot(state)
    if not snapshot.modern:
        return state
    lost_names: dict[bytes, set[bytes]] = defaultdict(set)
    for path in lost:
        directory, _, name = path.rpartition(b"/")
        lost_names[directory].add(name)
    fine: dict[bytes, bool] = defaultdict(bool)
    parts: list[bytes] = []
    for each in snapshot.directories():
        fine[each.device] |= each.nanoseconds != b"0"
        drop = _to_drop(each, known, lost_names.get(each.name, set()), left_out)
        entries = each.entries
        if same := each.names(b"N") - drop:
            unmodified(each.name, same)
        if drop:
            kept = [entry for entry in entries.split(b"\0") if entry and entry[1:] not in drop]
            entries = b"".join(entry + b"\0" for entry in kept)
        parts += (each.head, b"\0", entries, b"\0\0")
    single = not parts
    begun = snapshot.start if as_of_ns is None else min(snapshot.start, divmod(as_of_ns, 10**9))
    second, nanosecond = (0, 0) if single and lost else _safe_start(begun, fine=all(fine.values()))
    return b"".join((snapshot.version, b"%d\0%d\0" % (second, nanosecond), *parts))


def _to_drop(
    directory: SnapshotDirectory,
    known: Known | None,
    lost: set[bytes],
    left_out: Callable[[bytes], bool] | None,
) -> set[bytes]:
    """Names that the next level must look at as if they were new."""
    drop = set(lost)
    if not directory.entries.startswith(b"N") and b"\0N" not in directory.entries:
        return drop
    skipped = directory.names(b"N")
    if known is None:
        return drop | skipped
    if known.complete:
        drop |= skipped - known.names_of(directory)
    if left_out is not None:
        drop |= {name for name in skipped if left_out(directory.name + b"/" + name)}
    return drop


def _safe_start(start: tuple[int, int], *, fine: bool) -> tuple[int, int]:
    """A time before which no later change of a file can lie.

    A file that is changed after GNU tar has begun may get an earlier time, since clocks of kernels and file systems are
    coarser than the one that GNU tar reads.
    """
    second, nanosecond = start
    if not fine:
        return second - second % _COARSE, 0
    moment = max(0, second * 10**9 + nanosecond - _TICK)
    return moment // 10**9, moment % 10**9
