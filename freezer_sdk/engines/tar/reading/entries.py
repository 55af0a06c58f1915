"""From what a stream has of a file or directory to what the contract for contents says."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from freezer_sdk.engines.chains.content import Piece, stored_as
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.tar.reading.members import MemberStream
from freezer_sdk.engines.tar.reading.tree import Directory, Facts, File, Special
from freezer_sdk.files.extras import extents
from freezer_sdk.model import Entry, EntryType
from freezer_sdk.modes.base import Extra

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
}
_NOTHING = Special()


def entry_of(path: bytes, node: Directory | File, level: LevelId | None = None) -> Entry:
    """An entry of the tree.

    Args:
        level: of a file: the one that holds its content.
    """
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
        inode=stored_as(level, node.number) if level is not None and isinstance(node, File) else 0,
        link_target=special.link if stat.S_ISLNK(facts.mode) else None,
        link_group=b"%d.%d" % (node.level, node.number) if isinstance(node, File) and node.linked else None,
        device=special.device,
        xattrs=special.xattrs,
        extents=None if ranges is None else tuple(ranges),
        incomplete=isinstance(node, File) and node.lost,
    )


def pieces_of(stream: MemberStream, path: bytes) -> Iterator[Piece]:
    """The content of the member that a stream gave last; the last piece when all of the member was there.

    Raises:
        IntegrityError: the stream ends within, or cannot be decoded.
    """
    end = 0
    data: memoryview | bytes = b""
    for offset, following in stream.data():
        if data:
            yield Piece(path, end - len(data), data, False)
        data, end = following, offset + len(following)
    stream.pass_over()
    yield Piece(path, end - len(data), data, True)
