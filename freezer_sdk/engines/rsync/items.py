"""What one level records of one entry, the same for both versions of the format."""

from __future__ import annotations

import stat
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from freezer_sdk.model import EntryType

NANOSECONDS = 1_000_000_000
MAX_BLOCK_SIZE = 1 << 30

_TYPES = {
    stat.S_IFREG: EntryType.FILE,
    stat.S_IFDIR: EntryType.DIRECTORY,
    stat.S_IFLNK: EntryType.SYMLINK,
    stat.S_IFIFO: EntryType.FIFO,
    stat.S_IFSOCK: EntryType.SOCKET,
    stat.S_IFCHR: EntryType.CHARACTER_DEVICE,
    stat.S_IFBLK: EntryType.BLOCK_DEVICE,
}


class Damaged(Exception):
    """Bytes are not what this format can hold; the message says which."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One entry, as a level records it.

    Attributes:
        path: relative to what was backed up; ``b"."`` is the directory itself.
        mode: with the bits of the type; 0: gone.
        uid, gid: ``None``: only names were recorded.
        size: of a regular file.
        same_as: a name recorded in the same level that belongs to the same file.
        blocks: numbers of the blocks that follow in the stream, ascending; ``None``: the whole content follows.
        stored: bytes of content that follow in the stream.
        patches: a regular file of which only ``blocks`` are recorded.
        incomplete: could not be read whole when the backup was made.
    """

    path: bytes
    mode: int = 0
    uid: int | None = None
    gid: int | None = None
    user: str | None = None
    group: str | None = None
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    target: bytes | None = None
    device: tuple[int, int] | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    same_as: bytes | None = None
    blocks: Sequence[int] | None = None
    stored: int = 0
    incomplete: bool = False

    @property
    def deleted(self) -> bool:
        """The entry is gone since the level below."""
        return not self.mode

    @property
    def is_file(self) -> bool:
        """It has content."""
        return stat.S_ISREG(self.mode)

    @property
    def type(self) -> EntryType:
        """What it is.

        Raises:
            Damaged: no type that there is.
        """
        return entry_type(self.mode)


def entry_type(mode: int) -> EntryType:
    """What the bits of a mode say.

    Raises:
        Damaged: no type that there is.
    """
    found = _TYPES.get(stat.S_IFMT(mode))
    if found is None:
        raise Damaged(f"an entry has a mode {mode:o} that no entry has")
    return found


def clean_path(path: bytes) -> bytes | None:
    """The relative path in its shortest form; ``None``: it would lead out of what was backed up."""
    if path.startswith(b"/") or b"\0" in path:
        return None
    if path and b"/." not in path and b"//" not in path and not path.startswith(b".") and not path.endswith(b"/"):
        return path
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        return None
    return b"/".join(parts) or b"."


def block_count(size: int, block_size: int) -> int:
    """Blocks of a file, the short last one among them."""
    return -(-size // block_size)


def block_array(count: int) -> array[int]:
    """An empty list of numbers below ``count``, as small as it can be."""
    return array("I" if count <= 1 << 32 else "Q")


def stored_size(blocks: Sequence[int], size: int, block_size: int) -> int:
    """Bytes that blocks of a file have together; the blocks ascend, and none lies beyond the end."""
    if not blocks:
        return 0
    return (len(blocks) - 1) * block_size + min(block_size, size - blocks[-1] * block_size)


def to_nanoseconds(seconds: float) -> int:
    """A time of the original as nanoseconds; what no clock can show is cut.

    Raises:
        Damaged: no number.
    """
    try:
        whole = int(seconds // 1)
        rest = round((seconds - whole) * NANOSECONDS)
    except (OverflowError, ValueError, TypeError) as error:
        raise Damaged("an entry has a time that is none") from error
    limit = (1 << 63) - 1
    return max(-limit, min(whole * NANOSECONDS + min(rest, NANOSECONDS - 1), limit))


def to_seconds(nanoseconds: int) -> float:
    """A time as the original's Python makes it of the same nanoseconds, so that it finds it unchanged."""
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return seconds + 1e-9 * rest
