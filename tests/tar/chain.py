"""Chains of real GNU tar streams, what trees hold, and what a chain's content holds: for comparisons."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.tar.reading import TarContent, read_levels
from freezer_sdk.model import Entry, EntryType, Problem

TAR = shutil.which("tar")
CREATE = ("--create", "--warning=none", "--no-check-device", "--one-file-system", "--seek", "--ignore-failed-read")
"""What the original gives GNU tar, but for compression."""

Facts = dict[bytes, tuple[Any, ...]]
"""Path -> type, mode, owner, size or target, content's hash, times... of each entry."""


@dataclass(frozen=True)
class Level:
    """A stream in memory as a level of a chain."""

    id: LevelId
    data: bytes
    metadata: Mapping[str, Any] = field(default_factory=dict)
    opened: Callable[[], BinaryIO] | None = None

    @contextmanager
    def open(self) -> Iterator[Any]:
        with self.opened() if self.opened else io.BytesIO(self.data) as reader:
            yield reader

    def state(self) -> bytes:
        return b""


def levels_of(streams: Sequence[bytes], numbers: Sequence[int] | None = None, *, time: int = 100) -> list[Level]:
    """Streams as the levels of one chain.

    Args:
        time: of level 0; the others follow, one a second.
    """
    found = numbers if numbers is not None else range(len(streams))
    return [
        Level(LevelId(folder="tar", series="h_n", chain=100, level=number, time=time + number), data)
        for number, data in zip(found, streams, strict=True)
    ]


class Chain:
    """Backs a directory up again and again, as the engine does, and extracts as the original does."""

    def __init__(self, source: Path, scratch: Path, *options: str) -> None:
        self.source = source
        self.streams: list[bytes] = []
        self.faults: list[str] = []
        self._state = scratch / "state"
        self._scratch = scratch
        self._options = options

    def backup(self) -> None:
        """One more level."""
        command = [TAR or "tar", *CREATE, *self._options, f"--listed-incremental={self._state}", "."]
        done = subprocess.run(command, cwd=self.source, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        self.streams.append(done.stdout)
        time.sleep(0.012)  # what changes now must not look older than the start of the run

    def extract(self, into: Path, *options: str) -> list[str]:
        """Lets GNU tar extract all levels; gives what it complains about."""
        complaints = []
        into.mkdir()
        for data in self.streams:
            command = [TAR or "tar", "--extract", "--incremental", "--ignore-zeros", "--file=-", *options]
            done = subprocess.run(command, input=data, cwd=into, capture_output=True, check=False)
            if done.returncode:
                complaints.append(done.stderr.decode(errors="replace"))
        return complaints

    def content(self, problems: list[Problem] | None = None) -> TarContent:
        """What the levels make together by our own reader."""
        found: list[Problem] = [] if problems is None else problems
        return read_levels(levels_of(self.streams), problem=found.append)


def disk(root: Path, *, fine: bool, xattrs: bool = False) -> Facts:
    """What a directory holds.

    Args:
        fine: with the fractions of seconds.
    """
    facts: Facts = {}
    inodes: dict[int, bytes] = {}
    top = os.fsencode(root)
    for directory, directories, files in os.walk(top):
        names = [directory] if directory == top else []
        for path in sorted([*names, *(os.path.join(directory, name) for name in [*directories, *files])]):
            st = os.lstat(path)
            relative = os.path.relpath(path, top)
            kind = stat.S_IFMT(st.st_mode)
            value: Any = None
            if kind == stat.S_IFREG:
                with open(path, "rb") as file:
                    value = st.st_size, hashlib.sha256(file.read()).hexdigest()
            elif kind == stat.S_IFLNK:
                value = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                value = os.major(st.st_rdev), os.minor(st.st_rdev)
            elif kind == stat.S_IFSOCK:
                continue
            first = None if kind == stat.S_IFDIR else inodes.setdefault(st.st_ino, relative)
            extra = _xattrs(path) if xattrs else None
            mtime = st.st_mtime_ns if fine else st.st_mtime_ns // 10**9
            facts[relative] = kind, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, mtime, value, first, extra
    return _grouped(facts)


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    names = os.listxattr(path, follow_symlinks=False)
    return tuple(sorted((os.fsencode(name), os.getxattr(path, name, follow_symlinks=False)) for name in names))


_KINDS = {
    EntryType.FILE: stat.S_IFREG,
    EntryType.DIRECTORY: stat.S_IFDIR,
    EntryType.SYMLINK: stat.S_IFLNK,
    EntryType.FIFO: stat.S_IFIFO,
    EntryType.CHARACTER_DEVICE: stat.S_IFCHR,
    EntryType.BLOCK_DEVICE: stat.S_IFBLK,
}


def merged(content: TarContent, *, fine: bool, xattrs: bool = False) -> Facts:
    """What a content holds, with its files read."""
    entries = list(content.entries())
    seen: set[bytes] = set()
    for entry in entries:
        parent = os.path.dirname(entry.path) or b"."
        assert entry.path not in seen
        assert entry.path == b"." or parent in seen or b"." not in seen
        seen.add(entry.path)
    hashes = read_files(content)
    facts: Facts = {}
    groups: dict[bytes, bytes] = {}
    for entry in entries:
        kind = _KINDS[entry.type]
        first = entry.path
        if entry.link_group is not None:
            first = groups.setdefault(entry.link_group, entry.path)
        value: Any = entry.link_target if kind == stat.S_IFLNK else entry.device
        if kind == stat.S_IFREG:
            value = entry.size, hashes.get(first, b"incomplete")
        mtime = entry.mtime_ns if fine else entry.mtime_ns // 10**9
        where = None if kind == stat.S_IFDIR else first
        extra = tuple(sorted(entry.xattrs)) if xattrs else None
        facts[entry.path] = kind, entry.mode, entry.uid, entry.gid, mtime, value, where, extra
    return _grouped(facts)


def _grouped(facts: Facts) -> Facts:
    """Names of one file get the same mark: the first of them in the order of bytes."""
    first: dict[Any, bytes] = {}
    for path in sorted(facts):
        first.setdefault(facts[path][6], path)
    return {path: (*each[:6], None if each[6] is None else first[each[6]], each[7]) for path, each in facts.items()}


def read_files(content: TarContent, wanted: Callable[[bytes], bool] = lambda path: True) -> dict[bytes, str]:
    """Hashes of files, holes included, of those that come whole."""
    sizes = {entry.path: entry.size for entry in content.entries() if entry.type is EntryType.FILE}
    buffers: dict[bytes, bytearray] = {}
    whole: dict[bytes, str] = {}
    for piece in content.pieces(wanted):
        assert piece.path not in whole
        buffer = buffers.setdefault(piece.path, bytearray(sizes[piece.path]))
        end = piece.offset + len(piece.data)
        assert end <= len(buffer)
        buffer[piece.offset : end] = piece.data
        if piece.last:
            whole[piece.path] = hashlib.sha256(buffers.pop(piece.path)).hexdigest()
    return whole


def difference(left: Facts, right: Facts) -> dict[bytes, tuple[Any, Any]]:
    """Where two trees differ."""
    return {
        path: (left.get(path), right.get(path)) for path in sorted({*left, *right}) if left.get(path) != right.get(path)
    }


def entry_of(content: TarContent, path: bytes) -> Entry:
    """One entry."""
    return next(entry for entry in content.entries() if entry.path == path)
