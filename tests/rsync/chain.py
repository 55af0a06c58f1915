"""Levels in memory, what a directory holds, and what the engine makes of levels: for comparisons."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains.codec import Written
from freezer_sdk.engines.chains.content import Content
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.rsync.codec import RsyncCodec
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import Entry, Problem
from freezer_sdk.modes.base import Protected, Tree
from freezer_sdk.storages.base import Reader


@dataclass(frozen=True)
class Level:
    """A stream in memory as a level of a chain.

    Attributes:
        cut: after so many bytes, reading fails as it does where a stored stream is damaged.
    """

    id: LevelId
    data: bytes
    stored_state: bytes = b""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    cut: int | None = None

    @contextmanager
    def open(self) -> Iterator[Reader]:
        yield _Cut(self.data[: self.cut], broken=self.cut is not None)

    def state(self) -> bytes:
        return self.stored_state


class _Cut:
    def __init__(self, data: bytes, *, broken: bool) -> None:
        self._data, self._broken = io.BytesIO(data), broken

    def read(self, size: int = -1) -> bytes:
        data = self._data.read(min(size, 1000) if size > 0 else size)
        if not data and self._broken:
            raise IntegrityError("the stream is damaged")
        return data


def chain(streams: Sequence[bytes], states: Sequence[bytes], *, block: int | None = None) -> list[Level]:
    """Streams and states as the levels of one chain."""
    metadata = {} if block is None else {"rsync_block_size": block}
    return [
        Level(LevelId(folder="rsync", series="h_n", chain=100, level=number, time=100 + number), data, state, metadata)
        for number, (data, state) in enumerate(zip(streams, states, strict=True))
    ]


Facts = dict[bytes, dict[str, Any]]


@dataclass
class Found:
    """What the engine makes of levels.

    Attributes:
        whole: content of files that came to their last piece.
    """

    entries: dict[bytes, Entry]
    whole: dict[bytes, bytes]
    problems: list[Problem]

    @property
    def fatal(self) -> set[str]:
        return {problem.path for problem in self.problems if problem.fatal}

    def facts(self, *names: str) -> Facts:
        """Of all entries; of files, content and size."""
        found: Facts = {}
        for path, entry in self.entries.items():
            each: dict[str, Any] = {name: getattr(entry, name) for name in names}
            if entry.type.value == "file":
                source = path
                if entry.link_group is not None and path not in self.whole:
                    source = next(p for p, e in self.entries.items() if e.link_group == entry.link_group)
                each["content"] = self.whole.get(source)
            found[path] = {"type": entry.type.value, "link_target": entry.link_target, **each}
        return found


def read(levels: Sequence[Level], *, wanted: Callable[[bytes], bool] = lambda path: True) -> Found:
    """Everything that the engine gives."""
    problems: list[Problem] = []
    content = RsyncCodec().content(levels, problem=problems.append)
    return read_content(content, problems, wanted=wanted)


def read_content(content: Content, problems: list[Problem], *, wanted: Callable[[bytes], bool]) -> Found:
    entries = list(content.entries())
    paths = [entry.path for entry in entries]
    assert paths == sorted(set(paths), key=lambda path: [] if path == b"." else path.split(b"/"))
    found = Found({entry.path: entry for entry in entries}, {}, problems)
    begun: dict[bytes, bytearray] = {}
    for piece in content.pieces(wanted):
        entry = found.entries[piece.path]
        assert wanted(piece.path)
        assert piece.path not in found.whole, "a piece after the last"
        data = begun.setdefault(piece.path, bytearray(entry.size))
        assert 0 <= piece.offset <= piece.offset + len(piece.data) <= entry.size
        data[piece.offset : piece.offset + len(piece.data)] = piece.data
        if piece.last:
            found.whole[piece.path] = bytes(begun.pop(piece.path))
    return found


def look(root: Path, *names: str, root_too: bool = True) -> Facts:
    """What a directory holds, in the same form."""
    found: Facts = {}
    base = os.fsencode(root)
    paths = [b"."] if root_too else []
    for where, below, files in os.walk(base):
        paths += [os.path.relpath(os.path.join(where, name), base) for name in below + files]
    for path in paths:
        full = os.path.join(base, path)
        st = os.lstat(full)
        kind = stat.S_IFMT(st.st_mode)
        words = {
            stat.S_IFREG: "file",
            stat.S_IFDIR: "directory",
            stat.S_IFLNK: "symlink",
            stat.S_IFIFO: "fifo",
            stat.S_IFSOCK: "socket",
            stat.S_IFCHR: "character_device",
        }
        facts = {
            "mode": stat.S_IMODE(st.st_mode),
            "mtime_ns": st.st_mtime_ns,
            "uid": st.st_uid,
            "gid": st.st_gid,
            "size": st.st_size if kind == stat.S_IFREG else 0,
        }
        each = {name: facts[name] for name in names}
        if kind == stat.S_IFREG:
            each["content"] = Path(os.fsdecode(full)).read_bytes()
        found[path] = {
            "type": words[kind],
            "link_target": os.readlink(full) if kind == stat.S_IFLNK else None,
            **each,
        }
    return found


class Writer:
    """Writes levels of a directory with the engine's codec.

    Attributes:
        streams, states, written, problems: of each level so far.
    """

    def __init__(self, source: Path, *, block: int = 4096, compression: str = "gzip") -> None:
        self.source = source
        self.codec = RsyncCodec(block_size=block, compression=compression)
        self.streams: list[bytes] = []
        self.states: list[bytes] = []
        self.written: list[Written] = []
        self.problems: list[list[Problem]] = []

    def run(self, tree: Tree | None = None) -> Written:
        out = bytearray()
        problems: list[Problem] = []
        written = self.codec.write(
            Protected(sources=[tree or LocalTree([os.fsencode(self.source)])]),
            level=len(self.streams),
            base=self.states[-1] if self.states else None,
            output=out.extend,
            context=Context(),
            problem=problems.append,
        )
        self.streams.append(bytes(out))
        self.states.append(written.state)
        self.written.append(written)
        self.problems.append(problems)
        return written

    def levels(self) -> list[Level]:
        block = self.written[0].document["rsync_block_size"]
        return chain(self.streams, self.states, block=block)

    def read(self) -> Found:
        return read(self.levels())
