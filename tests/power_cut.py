"""What a power cut would have left of a folder: records a program's file operations, and replays every prefix of them.

::

    with Recorder(tmp_path) as recorder:        # the folder is durable as it is now
        storage.put("x", [b"1"])
        recorder.mark("x is stored")
    for crash in power_cuts(recorder):
        crash.write_to(empty_folder)            # look at it with a fresh storage
        "x is stored" in crash.marks            # what had been acknowledged before the cut

The model of a disk is the strictest that POSIX allows: an fsync of a file makes its content durable and no name; an
fsync of a folder makes its own entries durable and no content; without them, any part of what was done may survive, in
any order. :meth:`Recorder.check_complete` proves that no operation was missed: the replay of everything is the folder.
"""

from __future__ import annotations

import hashlib
import os
import random
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

Event = tuple[str, tuple]
Tree = dict[str, "Tree | bytes"]


@dataclass
class File:
    """Content as the disk has it, as programs see it, and every write between the two."""

    durable: bytes = b""
    visible: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes]] = field(default_factory=list)

    def write(self, offset: int, data: bytes) -> None:
        _write(self.visible, offset, data)
        self.pending.append((offset, data))

    def truncate(self, size: int) -> None:
        del self.visible[size:]
        self.visible.extend(bytes(size - len(self.visible)))
        self.pending = [(0, bytes(self.visible))]  # coarse, and never used by what is tested here

    def sync(self) -> None:
        self.durable = bytes(self.visible)
        self.pending.clear()


@dataclass
class Folder:
    """Entries as the disk has them, as programs see them, and every value that a name had between the two."""

    durable: dict[str, int] = field(default_factory=dict)
    visible: dict[str, int] = field(default_factory=dict)
    pending: dict[str, list[int | None]] = field(default_factory=dict)

    def set(self, name: str, node: int | None) -> None:
        self.pending.setdefault(name, [self.durable.get(name)]).append(node)
        if node is None:
            del self.visible[name]
        else:
            self.visible[name] = node

    def sync(self) -> None:
        self.durable = dict(self.visible)
        self.pending.clear()


class Disk:
    """Applies events, and says what a cut at this moment may leave."""

    def __init__(self, start: Path) -> None:
        self.nodes: list[File | Folder] = []
        self.numbers: dict[tuple[int, int], int] = {}
        self.root = self.load(start)

    def load(self, path: Path) -> int:
        """Takes in what exists, as durable; gives the node's number."""
        status = path.lstat()
        number = len(self.nodes)
        self.numbers[status.st_dev, status.st_ino] = number
        if stat.S_ISDIR(status.st_mode):
            folder = Folder()
            self.nodes.append(folder)
            folder.visible = {child.name: self.load(child) for child in path.iterdir()}
            folder.sync()
        else:
            self.nodes.append(File(visible=bytearray(path.read_bytes())))
            self.nodes[number].sync()
        return number

    def apply(self, event: Event) -> None:
        kind, arguments = event
        getattr(self, f"_on_{kind}")(*arguments)

    def _on_make(self, folder: int, name: str, kind: type[File] | type[Folder]) -> None:
        self.nodes.append(kind())
        self.nodes[folder].set(name, len(self.nodes) - 1)

    def _on_set(self, folder: int, name: str, node: int | None) -> None:
        self.nodes[folder].set(name, node)

    def _on_write(self, node: int, offset: int, data: bytes) -> None:
        self.nodes[node].write(offset, data)

    def _on_truncate(self, node: int, size: int) -> None:
        self.nodes[node].truncate(size)

    def _on_sync(self, node: int) -> None:
        self.nodes[node].sync()

    def _on_sync_all(self) -> None:
        for node in self.nodes:
            node.sync()

    def _on_mark(self, label: object) -> None:
        pass

    def tree(
        self,
        entries: Callable[[Folder], dict[str, int]],
        content: Callable[[File], bytes],
        number: int | None = None,
    ) -> Tree:
        """The tree below a node, by a choice of what survived."""
        found: Tree = {}
        for name, child in entries(self.nodes[self.root if number is None else number]).items():
            node = self.nodes[child]
            found[name] = self.tree(entries, content, child) if isinstance(node, Folder) else content(node)
        return found

    def outcomes(self, seeds: Iterable[int]) -> Iterator[tuple[str, Tree]]:
        """What a cut may leave: the four corners, and one mixture for each seed."""
        durable, visible = (lambda node: node.durable), (lambda node: node.visible)
        yield "nothing that was not synced", self.tree(durable, durable)
        yield "all names, no content", self.tree(visible, durable)
        yield "all content, no names", self.tree(durable, lambda file: bytes(file.visible))
        yield "everything", self.tree(visible, lambda file: bytes(file.visible))
        for seed in seeds:
            chance = random.Random(seed)
            yield (
                f"mixture {seed}",
                self.tree(
                    lambda folder: _some_entries(folder, chance),  # noqa: B023 - used up before the next one
                    lambda file: _some_content(file, chance),  # noqa: B023
                ),
            )


def _some_entries(folder: Folder, chance: random.Random) -> dict[str, int]:
    found = dict(folder.durable)
    for name, values in folder.pending.items():
        value = chance.choice(values)
        if value is None:
            found.pop(name, None)
        else:
            found[name] = value
    return found


def _some_content(file: File, chance: random.Random) -> bytes:
    found = bytearray(file.durable)
    for offset, data in file.pending:
        if chance.random() < 0.5:
            _write(found, offset, data[: chance.randrange(len(data) + 1)])
    return bytes(found)


def _write(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


class Recorder:
    """Records what this process does to files below ``base`` through :mod:`os`, one call at a time.

    Args:
        base: an existing folder; what lies in it now counts as durable.
        syncfs: places (``module.name``) that hold a function which syncs a whole file system.
    """

    def __init__(self, base: Path, *, syncfs: Iterable[str] = ("freezer_sdk.storages.local.syncfs",)) -> None:
        self.base = base
        self.events: list[Event] = []
        self._start = Disk(base)
        self._disk = Disk(base)
        self._syncfs = tuple(syncfs)
        self._lock = threading.RLock()
        self._patches: list[mock._patch] = []

    def __enter__(self) -> Recorder:
        wrappers = {name.removeprefix("_os_"): getattr(self, name) for name in dir(self) if name.startswith("_os_")}
        for name, wrapper in wrappers.items():
            self._patches.append(mock.patch.object(os, name, self._locked(wrapper, getattr(os, name))))
        for name in ("replace", "remove"):
            alias = {"replace": "rename", "remove": "unlink"}[name]
            self._patches.append(mock.patch.object(os, name, self._locked(wrappers[alias], getattr(os, name))))
        for place in self._syncfs:
            module, _, name = place.rpartition(".")
            original = getattr(__import__(module, fromlist=[name]), name)
            self._patches.append(mock.patch(place, self._locked(self._sync_all, original)))
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for patch in reversed(self._patches):
            patch.stop()

    def mark(self, label: object) -> None:
        """Notes that the program has come to a point."""
        with self._lock:
            self._record("mark", label)

    def check_complete(self) -> None:
        """Fails unless the replay of everything that was recorded gives what the folder now holds."""
        replayed = next(tree for name, tree in self._disk.outcomes(()) if name == "everything")
        assert replayed == _read(self.base), "some operation was not recorded"

    def replay(self) -> Iterator[tuple[Disk, Event]]:
        """A disk after each event."""
        disk = Disk.__new__(Disk)
        disk.nodes = [_copy(node) for node in self._start.nodes]
        disk.root = self._start.root
        for event in self.events:
            disk.apply(event)
            yield disk, event

    def _record(self, kind: str, *arguments: object) -> None:
        self.events.append((kind, arguments))
        self._disk.apply(self.events[-1])

    def _locked(self, wrapper: Callable, original: Callable) -> Callable:
        def call(*args: object, **kwargs: object) -> object:
            with self._lock:
                return wrapper(original, *args, **kwargs)

        return call

    def _node(self, status: os.stat_result) -> int | None:
        return self._disk.numbers.get((status.st_dev, status.st_ino))

    def _place(self, path: str, dir_fd: int | None) -> tuple[int | None, str]:
        folder, name = os.path.split(os.fsdecode(path).rstrip("/"))
        if dir_fd is not None and not folder:
            return self._node(os.fstat(dir_fd)), name
        return self._node(os.stat(folder or ".", dir_fd=dir_fd)), name

    def _made(self, path: str, dir_fd: int | None, kind: type[File] | type[Folder]) -> None:
        folder, name = self._place(path, dir_fd)
        if folder is not None:
            status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
            self._record("make", folder, name, kind)
            self._disk.numbers[status.st_dev, status.st_ino] = len(self._disk.nodes) - 1

    def _os_open(self, original, path, flags, mode=0o777, *, dir_fd=None):
        before = None
        if flags & os.O_CREAT:
            try:
                before = os.stat(path, dir_fd=dir_fd)
            except FileNotFoundError:
                pass
        fd = original(path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_CREAT and before is None:
            self._made(path, dir_fd, File)
        elif flags & os.O_TRUNC and (node := self._node(os.fstat(fd))) is not None:
            self._record("truncate", node, 0)
        return fd

    def _os_write(self, original, fd, data):
        return self._written(fd, original(fd, data), [data])

    def _os_writev(self, original, fd, buffers):
        return self._written(fd, original(fd, buffers), buffers)

    def _written(self, fd, count, buffers):
        node = self._node(os.fstat(fd))
        if node is not None and count:
            offset = os.lseek(fd, 0, os.SEEK_CUR) - count
            self._record("write", node, offset, b"".join(buffers)[:count])
        return count

    def _os_ftruncate(self, original, fd, length):
        original(fd, length)
        if (node := self._node(os.fstat(fd))) is not None:
            self._record("truncate", node, length)

    def _os_fsync(self, original, fd):
        original(fd)
        if (node := self._node(os.fstat(fd))) is not None:
            self._record("sync", node)

    def _os_fdatasync(self, original, fd):
        self._os_fsync(original, fd)

    def _sync_all(self, original, *args):
        original(*args)
        self._record("sync_all")

    def _os_sync(self, original):
        self._sync_all(original)

    def _os_mkdir(self, original, path, mode=0o777, *, dir_fd=None):
        original(path, mode, dir_fd=dir_fd)
        self._made(path, dir_fd, Folder)

    def _os_unlink(self, original, path, *, dir_fd=None):
        folder, name = self._place(path, dir_fd)
        status = os.stat(path, dir_fd=dir_fd, follow_symlinks=False) if folder is not None else None
        original(path, dir_fd=dir_fd)
        if status is not None:
            self._record("set", folder, name, None)
            if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode):
                del self._disk.numbers[status.st_dev, status.st_ino]  # may soon be that of something else

    def _os_rmdir(self, original, path, *, dir_fd=None):
        self._os_unlink(original, path, dir_fd=dir_fd)

    def _os_link(self, original, src, dst, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
        original(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)
        self._named(dst, dst_dir_fd)

    def _os_rename(self, original, src, dst, *, src_dir_fd=None, dst_dir_fd=None):
        folder, name = self._place(src, src_dir_fd)
        original(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        self._named(dst, dst_dir_fd)
        if folder is not None:
            self._record("set", folder, name, None)

    def _named(self, path, dir_fd):
        folder, name = self._place(path, dir_fd)
        if folder is not None:
            node = self._node(os.stat(path, dir_fd=dir_fd, follow_symlinks=False))
            assert node is not None, f"{path} came from outside"
            self._record("set", folder, name, node)


@dataclass(frozen=True)
class Crash:
    """What one power cut left.

    Attributes:
        after: number of events before the cut.
        outcome: what survived, in words.
        marks: labels that the program had come to.
    """

    after: int
    outcome: str
    marks: tuple[object, ...]
    tree: Tree

    def write_to(self, target: Path) -> None:
        """Makes the folder as it is after the cut; ``target`` exists and is empty."""
        _store(self.tree, target)


def power_cuts(
    recorder: Recorder, *, seeds: Iterable[int] = range(3), at: Callable[[int], bool] = lambda number: True
) -> Iterator[Crash]:
    """A cut after every event, each with all outcomes; equal ones only once.

    Args:
        seeds: random mixtures for each cut.
        at: chooses the events, by number from 0, after which to cut; for long recordings.
    """
    marks: list[object] = []
    seen = set()
    for number, (disk, event) in enumerate(recorder.replay()):
        if event[0] == "mark":
            marks.append(event[1][0])
        if not at(number):
            continue
        for outcome, tree in disk.outcomes(hash((number, seed)) for seed in seeds):
            key = (len(marks), _digest(tree))
            if key not in seen:
                seen.add(key)
                yield Crash(number + 1, outcome, tuple(marks), tree)


def _copy(node: File | Folder) -> File | Folder:
    if isinstance(node, File):
        return File(node.durable, bytearray(node.visible), list(node.pending))
    return Folder(dict(node.durable), dict(node.visible), {name: list(past) for name, past in node.pending.items()})


def _read(path: Path) -> Tree:
    return {child.name: _read(child) if child.is_dir() else child.read_bytes() for child in path.iterdir()}


def _store(tree: Tree, target: Path) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            (target / name).mkdir()
            _store(value, target / name)
        else:
            (target / name).write_bytes(value)


def _digest(tree: Tree | bytes) -> bytes:
    if isinstance(tree, dict):
        parts = [b"%s\0%s" % (os.fsencode(name), _digest(value)) for name, value in sorted(tree.items())]
        return hashlib.sha256(b"folder" + b"".join(parts)).digest()
    return hashlib.sha256(b"file" + tree).digest()
