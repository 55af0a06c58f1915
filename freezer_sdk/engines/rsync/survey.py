"""The first walk over a tree: what has changed since the level below, and in which blocks."""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.rsync.items import Item, block_count, stored_size, to_seconds
from freezer_sdk.engines.rsync.packing import Packing
from freezer_sdk.engines.rsync.signature import Hasher, Signature, changed_blocks
from freezer_sdk.engines.rsync.state import Known, State
from freezer_sdk.engines.rsync.v2 import pack_item
from freezer_sdk.files.extras import device, find, xattrs
from freezer_sdk.files.posix import Owners
from freezer_sdk.model import BackupStats, Event, Problem
from freezer_sdk.modes.base import STAT, Attributes, Directory, Enter, Extra, Extras, ProblemHandler, Tree

CHUNK = 1 << 20
_COARSE = 2_000_000_000  # file systems with times in whole seconds
_TICK = 20_000_000  # several ticks of the kernel's coarse clock
_EVENT_EVERY = 0.1  # seconds
_VANISHED = (FileNotFoundError, NotADirectoryError)


@dataclass(kw_only=True, slots=True)
class Pending:
    """A file whose content is to be written.

    Attributes:
        row: of the file's stats; there may be millions of them.
        directory: relative path of where it lies; ``None``: it is itself what is backed up.
        blocks: numbers of what is to be written; ``None``: everything.
        known: what the next level will know of it; its signature is that of the whole file when ``blocks`` are given.
    """

    directory: bytes | None
    name: bytes
    path: bytes
    row: bytes
    blocks: Sequence[int] | None
    known: Known

    @property
    def attributes(self) -> Attributes:
        """As the first look found them."""
        return Attributes._make(STAT.unpack(self.row))


@dataclass(kw_only=True)
class Counts:
    """Figures of the run."""

    files: int = 0
    directories: int = 0
    others: int = 0
    bytes: int = 0
    new_files: int = 0
    changed_files: int = 0
    unmodified_files: int = 0
    read_bytes: int = 0

    def stats(self) -> BackupStats:
        """As the backup's record has them."""
        return BackupStats(**vars(self))


class _Place(NamedTuple):
    """Where an entry is: in the walk, and by its relative path."""

    directory: Directory
    number: int
    below: bytes | None
    path: bytes


class Survey:
    """Looks at a whole tree.

    Args:
        root: absolute path of what is backed up.

    Attributes:
        items: of what has changed, packed, in the order in which contents must follow.
        count: of these items.
        pending: files whose contents must follow, in the same order.
        state: what the next level will know.
    """

    def __init__(
        self, base: State | None, root: bytes, *, block_size: int, context: Context, problem: ProblemHandler
    ) -> None:
        self._base = dict(base.files) if base is not None else {}
        self._block_size = block_size
        self._context = context
        self._problem = problem
        self._packing = Packing()
        self._owners = Owners()
        self._links: dict[bytes, bytes] = {}
        self._start_ns = _clock_ns()
        self._next_event = 0.0
        self._single = False  # a file is backed up, no directory
        self.root = root
        self.items = bytearray()
        self.count = 0
        self.pending: list[Pending] = []
        self.state = State(block_size=block_size)
        self.counts = Counts()

    def walk(self, tree: Tree) -> None:
        """Looks at everything.

        Raises:
            SourceError, Cancelled.
        """
        if tree.as_of_ns is not None:
            self._start_ns = min(self._start_ns, tree.as_of_ns)
        for directory, below in directories(tree, self._problem):
            self._context.cancel.check()
            self._progress(directory.path)
            if below is None:
                self._root(directory)
                continue
            for index, name in enumerate(directory.names):
                self._entry(directory, index, below, below + b"/" + name if below else name)
        for path in sorted(self._base):
            self._add(Item(path=path), patches=False)

    def _root(self, directory: Directory) -> None:
        attributes = _attributes(directory, 0)
        if not stat.S_ISDIR(attributes.mode):
            self._single = True
            self._entry(directory, 0, None, os.path.basename(directory.names[0]))
            return
        self.counts.directories += 1
        try:
            extras: Extras = directory.extras(0, None)
        except OSError as error:
            self._unreadable(b".", error)
            extras = ()
        self._add(self._item(b".", attributes, extras), patches=False)

    # -- entries -------------------------------------------------------------------------------------------

    def _entry(self, directory: Directory, index: int, below: bytes | None, path: bytes) -> None:
        attributes = _attributes(directory, index)
        known = self._base.pop(path, None)
        same = known is not None and not known.incomplete and _unchanged(known, attributes)
        if stat.S_ISREG(attributes.mode):
            self._file(_Place(directory, index, below, path), attributes, known, same=same)
            return
        if stat.S_ISDIR(attributes.mode):
            self.counts.directories += 1
        else:
            self.counts.others += 1
        if known is not None and same and not known.racy:
            self.state.files[path] = known
            return
        try:
            extras = directory.extras(index, None)
        except OSError as error:
            self._unreadable(path, error)
            if not stat.S_ISDIR(attributes.mode):
                if known is not None:
                    self._add(Item(path=path), patches=False)
                return
            extras = ()
        self.state.files[path] = self._known(attributes)
        replaced = self._replaced(path, attributes, known)
        item = self._item(path, attributes, extras)
        self._add(item, patches=known is not None and known.mode == attributes.mode and not replaced)

    def _file(self, place: _Place, attributes: Attributes, known: Known | None, *, same: bool) -> None:
        directory, index, below, path = place
        counts = self.counts
        counts.files += 1
        if known is not None and same and not known.racy:
            counts.unmodified_files += 1
            counts.bytes += attributes.size
            self.state.files[path] = known
            return
        patches = known is not None and stat.S_ISREG(known.mode)
        signature: Signature | None = None
        try:
            fd = directory.open(index)
            try:
                attributes = Attributes._make(STAT.unpack(directory.restat(index, fd)))
                extras = directory.extras(index, fd)
                if known is not None and known.signature is not None and not known.incomplete:
                    signature = self._sign(fd, attributes.size)
            finally:
                os.close(fd)
        except OSError as error:
            self._lost(path, attributes, error)
            return
        counts.bytes += attributes.size
        fresh = self._known(attributes)
        blocks: Sequence[int] | None = None
        if signature is not None and known is not None and known.signature is not None:
            changed = changed_blocks(signature, known.signature)
            if not len(changed) and same and _unchanged(known, attributes) and known.size == attributes.size:
                counts.unmodified_files += 1
                fresh.signature = signature
                self.state.files[path] = fresh
                return
            blocks = self._written_blocks(changed, attributes.size)
        fresh.signature = signature if blocks is not None else None
        if known is None:
            counts.new_files += 1
        else:
            counts.changed_files += 1
        self.state.files[path] = fresh
        self._replaced(path, attributes, known)
        size = attributes.size
        stored = size if blocks is None else stored_size(blocks, size, self._block_size)
        item = self._item(path, attributes, extras)
        self._add(replace(item, blocks=blocks, stored=stored), patches=patches)
        name = directory.names[index]
        row = STAT.pack(*attributes)
        self.pending.append(Pending(directory=below, name=name, path=path, row=row, blocks=blocks, known=fresh))

    def _written_blocks(self, changed: array[int], size: int) -> Sequence[int] | None:
        """What is written of a changed file: of one whose content is the same its last block, for the facts' sake."""
        count = block_count(size, self._block_size)
        if len(changed) == count:
            return None
        return changed if len(changed) else array(changed.typecode, [count - 1])

    def _sign(self, fd: int, size: int) -> Signature | None:
        """The signature of a file's content; ``None`` when it is changing."""
        hasher = Hasher(self._block_size)
        total = 0
        while data := os.read(fd, CHUNK):
            self._context.cancel.check()
            hasher.update(data)
            total += len(data)
            if total > size:
                break
        self.counts.read_bytes += total
        os.lseek(fd, 0, os.SEEK_SET)
        return hasher.finish() if total == size else None

    def _lost(self, path: bytes, attributes: Attributes, error: OSError) -> None:
        """A file that cannot be read is recorded without content; the next level tries again."""
        self._unreadable(path, error)
        if isinstance(error, _VANISHED):
            return
        known = Known(mode=attributes.mode, signature=Signature(), incomplete=True)
        self.state.files[path] = known
        item = self._item(path, attributes, ())
        self._add(replace(item, size=0, incomplete=True), patches=False)

    def _unreadable(self, path: bytes, error: OSError) -> None:
        kind = "vanished" if isinstance(error, _VANISHED) else "unreadable"
        self._problem(Problem(path=self.shown(path), kind=kind, message=error.strerror or str(error)))

    def shown(self, path: bytes) -> str:
        """The absolute path of an entry."""
        above = os.path.dirname(self.root) if self._single else self.root
        return os.fsdecode(self.root if path == b"." else above.rstrip(b"/") + b"/" + path)

    def _progress(self, path: bytes) -> None:
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            counts = self.counts
            event = Event(
                kind="progress", operation="backup", path=os.fsdecode(path), files=counts.files, bytes=counts.read_bytes
            )
            self._context.events(event)

    # -- what is recorded ----------------------------------------------------------------------------------

    def _replaced(self, path: bytes, attributes: Attributes, known: Known | None) -> bool:
        """Whether another entry has this name now: the original's reader must be told to remove what it has.

        It never changes where a link leads, and it would set the mode of what a link leads to.
        """
        if known is None or (
            stat.S_IFMT(known.mode) == stat.S_IFMT(attributes.mode) and not stat.S_ISLNK(attributes.mode)
        ):
            return False
        self._add(Item(path=path), patches=False)
        return True

    def _add(self, item: Item, *, patches: bool) -> None:
        self.items += pack_item(self._packing, item, patches=patches)
        self.count += 1

    def _item(self, path: bytes, attributes: Attributes, extras: Extras) -> Item:
        same_as = None
        group = find(extras, Extra.LINK_GROUP)
        if group is not None:
            same_as = self._links.setdefault(group, path)
        is_file = stat.S_ISREG(attributes.mode)
        return Item(
            path=path,
            mode=attributes.mode,
            uid=attributes.uid,
            gid=attributes.gid,
            user=self._owners.user_name(attributes.uid),
            group=self._owners.group_name(attributes.gid),
            size=attributes.size if is_file else 0,
            mtime_ns=attributes.mtime,
            ctime_ns=attributes.ctime,
            target=find(extras, Extra.LINK_TARGET),
            device=device(extras),
            xattrs=tuple(xattrs(extras)),
            same_as=None if same_as == path else same_as,
            stored=attributes.size if is_file else 0,
        )

    def _known(self, attributes: Attributes) -> Known:
        coarse = not (attributes.mtime % 1_000_000_000 or attributes.ctime % 1_000_000_000)
        return Known(
            mode=attributes.mode,
            mtime=to_seconds(attributes.mtime),
            ctime=to_seconds(attributes.ctime),
            size=attributes.size,
            inode=attributes.inode,
            mtime_ns=attributes.mtime,
            ctime_ns=attributes.ctime,
            racy=attributes.ctime >= self._start_ns - (_COARSE if coarse else _TICK),
        )


def directories(tree: Tree, problem: ProblemHandler) -> Iterator[tuple[Directory, bytes | None]]:
    """The directories of a tree with one root, each with its relative path: ``b""`` for the root itself.

    The first is the directory of the root, with ``None``.

    Raises:
        SourceUnreadable.
    """
    root = tree.roots[0].rstrip(b"/")
    for step in tree.walk(problem):
        if isinstance(step, Enter):
            path = step.directory.path
            yield step.directory, path[len(root) :].strip(b"/") if path else None


def _attributes(directory: Directory, index: int) -> Attributes:
    return Attributes._make(STAT.unpack_from(directory.stats, index * STAT.size))


def _unchanged(known: Known, attributes: Attributes) -> bool:
    """By type, mode, times, and size and inode where they are known."""
    if known.mode != attributes.mode:
        return False
    if known.mtime_ns is None or known.ctime_ns is None:
        times = (known.mtime, known.ctime) == (to_seconds(attributes.mtime), to_seconds(attributes.ctime))
    else:
        times = (known.mtime_ns, known.ctime_ns) == (attributes.mtime, attributes.ctime)
    return times and known.size in (None, attributes.size) and known.inode in (None, attributes.inode)


def _clock_ns() -> int:
    """The clock that file systems stamp with."""
    coarse = getattr(time, "CLOCK_REALTIME_COARSE", None)
    return time.time_ns() if coarse is None else time.clock_gettime_ns(coarse)
