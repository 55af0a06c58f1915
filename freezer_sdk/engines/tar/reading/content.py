"""What the levels of a chain make together: the tree, and the contents of its files."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence

from freezer_sdk.engines.chains.codec import LevelStream
from freezer_sdk.engines.chains.content import Content, Piece, stored_as
from freezer_sdk.engines.tar.reading.members import MemberStream
from freezer_sdk.engines.tar.reading.merge import Merge
from freezer_sdk.engines.tar.reading.tree import Directory, Facts, File, Special
from freezer_sdk.errors import IntegrityError
from freezer_sdk.files.extras import extents
from freezer_sdk.files.posix import Owners
from freezer_sdk.model import Entry, EntryType, Problem
from freezer_sdk.modes.base import Extra, ProblemHandler

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
}
_NOTHING = Special()


class TarContent(Content):
    """The tree that levels make together. Made by :func:`read_levels`."""

    def __init__(self, levels: Sequence[LevelStream], merge: Merge, problem: ProblemHandler, owners: Owners) -> None:
        self._levels = levels
        self._tree = merge.tree
        self._damaged = merge.damaged
        self._problem = problem
        self._owners = owners

    def entries(self) -> Iterator[Entry]:
        """The final tree, as the contract says. Directories of which nothing is recorded get usual rights."""
        for path, node in self._tree.walk():
            if isinstance(node, (Directory, File)):
                inode = stored_as(self._levels[node.level].id, node.number) if isinstance(node, File) else 0
                yield _entry(path, node, inode)

    def pieces(self, wanted: Callable[[bytes], bool]) -> Iterator[Piece]:
        """Contents of files, as the contract says; levels that have none of what is wanted are not read.

        Raises:
            WrongPassword, StorageError.
        """
        plans: dict[int, dict[int, bytes]] = {}
        planned: set[File] = set()
        for path, node in self._tree.walk():
            if not isinstance(node, File) or node.lost or not stat.S_ISREG(node.facts.mode) or node in planned:
                continue
            if wanted(path):
                plans.setdefault(node.level, {})[node.number] = path
                if node.linked:
                    planned.add(node)
        for number in sorted(plans):
            try:
                yield from self._level(self._levels[number], plans[number])
            except IntegrityError as error:
                if number not in self._damaged:  # it was whole a while ago
                    data = self._levels[number].id.data
                    self._problem(Problem(path=data, kind="damaged", message=str(error)))

    def _level(self, level: LevelStream, plan: dict[int, bytes]) -> Iterator[Piece]:
        with level.open() as reader:
            stream = MemberStream(reader, self._owners)
            for number, path in sorted(plan.items()):
                if not stream.pass_to(number):
                    return
                end = 0
                data: memoryview | bytes = b""
                for offset, following in stream.data():
                    if data:
                        yield Piece(path, end - len(data), data, False)
                    data, end = following, offset + len(following)
                yield Piece(path, end - len(data), data, True)


def _entry(path: bytes, node: Directory | File, inode: int) -> Entry:
    facts: Facts = node.facts
    special = node.special or _NOTHING
    owner = node.owner
    ranges = None if special.extents is None else extents([(Extra.EXTENTS, special.extents)])
    return Entry(
        path=path,
        type=_TYPES[stat.S_IFMT(facts.mode)],
        mode=stat.S_IMODE(facts.mode),
        uid=owner.uid if owner else 0,
        gid=owner.gid if owner else 0,
        user=owner.user if owner else None,
        group=owner.group if owner else None,
        size=facts.size,
        mtime_ns=facts.mtime,
        ctime_ns=facts.ctime,
        inode=inode,
        link_target=special.link if stat.S_ISLNK(facts.mode) else None,
        link_group=b"%d.%d" % (node.level, node.number) if isinstance(node, File) and node.linked else None,
        device=special.device,
        xattrs=special.xattrs,
        extents=None if ranges is None else tuple(ranges),
        incomplete=isinstance(node, File) and node.lost,
    )


def read_levels(levels: Sequence[LevelStream], *, problem: ProblemHandler) -> TarContent:
    """Reads all headers of the levels and merges them, as GNU tar's incremental extraction would.

    Args:
        levels: 0 to n; each stream is read once here, and again for contents.
        problem: told of damage and of what is lost, while the rest is given.

    Raises:
        IntegrityError: nothing at all can be read.
        WrongPassword, UnsupportedFormat, StorageError.
    """
    owners = Owners()
    merge = Merge(levels, problem=problem, owners=owners)
    merge.run()
    return TarContent(levels, merge, problem, owners)
