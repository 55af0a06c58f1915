"""What the headers of one member say: one block, and the extended header that may go before it."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from freezer_sdk.engines.tar.reading import acl, pax
from freezer_sdk.engines.tar.reading.numbers import BadNumber, check_id, field, id_field, seconds, signed, time
from freezer_sdk.engines.tar.reading.sparse import Segments
from freezer_sdk.files.posix import Owners

HARD_LINK, DUMPDIR, SPARSE = b"1", b"D", b"S"

_POSIX, _OLD_GNU = b"ustar\0", b"ustar  \0"
_REGULAR = b"\x0007"
_TYPES = {
    b"2": stat.S_IFLNK,
    b"3": stat.S_IFCHR,
    b"4": stat.S_IFBLK,
    b"5": stat.S_IFDIR,
    b"6": stat.S_IFIFO,
    DUMPDIR: stat.S_IFDIR,
}
_BLANK_SUM = 8 * ord(" ")
_LARGEST_XATTR = 1 << 16  # Linux takes no larger ones
_LARGEST_XATTRS = 1 << 20


_PLAIN = frozenset((b"mtime", b"atime", b"ctime", b"path", b"linkpath", b"size", b"GNU.dumpdir"))


class Owner(NamedTuple):
    """Who owns an entry; entries share these."""

    uid: int
    gid: int
    user: str | None
    group: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One member, without its content.

    Attributes:
        number: in the stream, from 0.
        position: of its first header in the stream.
        name: as recorded.
        mode: with the bits of its type; that of a hard link is of a regular file.
        size: of a regular file, with its holes.
        mtime, ctime: in nanoseconds; ctime is 0 where it is not recorded.
        link: target of a symbolic or hard link.
        hard: it is one more name of ``link``.
        device: major and minor number.
        segments: data ranges of a sparse file.
        listing: what a directory held, unparsed; ``None``: it is not recorded.
        warnings: what could not be understood, and is left out.
    """

    number: int
    position: int
    name: bytes
    mode: int
    owner: Owner
    size: int = 0
    mtime: int = 0
    ctime: int = 0
    link: bytes = b""
    hard: bool = False
    device: tuple[int, int] | None = None
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    segments: Segments | None = None
    listing: bytes | None = None
    warnings: tuple[str, ...] = ()


def is_header(block: bytes) -> bool:
    """Whether the checksum of a block is right."""
    try:
        recorded = field(block[148:156])
    except BadNumber:
        return False
    total = sum(block) - sum(block[148:156]) + _BLANK_SUM
    return recorded == total or recorded == _signed_sum(block)


def _signed_sum(block: bytes) -> int:
    """The sum as some old programs make it: of signed bytes."""
    others = block[:148] + block[156:]
    return sum(others) - 256 * sum(byte > 127 for byte in others) + _BLANK_SUM


def names(block: bytes, name: bytes, link: bytes, values: Mapping[bytes, bytes]) -> tuple[bytes, bytes]:
    """Name and target of a link.

    Args:
        name, link: from members of type ``L`` and ``K`` before; empty where there were none.

    Raises:
        BadNumber: one of them cannot be a name.
    """
    if not name:
        name = block[:100].split(b"\0", 1)[0]
        if block[345] and block[257:263] == _POSIX:  # elsewhere these bytes are times
            name = block[345:500].split(b"\0", 1)[0] + b"/" + name
    if not link:
        link = block[157:257].split(b"\0", 1)[0]
    if values:
        name = values.get(b"GNU.sparse.name") or values.get(b"path") or name
        link = values.get(b"linkpath") or link
        if b"\0" in name or b"\0" in link:
            raise BadNumber("a name has a NUL")
    return name, link


def mode(block: bytes, kind: bytes, name: bytes) -> int:
    """Permissions and type.

    Raises:
        BadNumber.
    """
    bits = field(block[100:108]) & 0o7777
    known = _TYPES.get(kind)
    if known is not None:
        return bits | known
    if name.endswith(b"/") and kind in _REGULAR:  # how the oldest archives mark directories
        return bits | stat.S_IFDIR
    return bits | stat.S_IFREG


def holds_data(kind: bytes) -> bool:
    """Whether members of a type are taken for regular files with content."""
    return kind not in _TYPES and kind != HARD_LINK


def unknown(kind: bytes) -> bool:
    """Whether nobody knows what a type means; such members are taken for files."""
    return kind not in _TYPES and kind not in _REGULAR and kind not in (HARD_LINK, SPARSE)


def times(block: bytes, values: Mapping[bytes, bytes]) -> tuple[int, int]:
    """When it was modified and when its status changed, in nanoseconds.

    Raises:
        BadNumber.
    """
    modified = values.get(b"mtime")
    changed = values.get(b"ctime")
    ctime = 0
    if changed is not None:
        ctime = time(changed)
    elif block[357] and block[257:265] == _OLD_GNU:
        ctime = seconds(field(block[357:369]))
    return seconds(field(block[136:148])) if modified is None else time(modified), ctime


def device(block: bytes, kind: bytes) -> tuple[int, int] | None:
    """Major and minor number of a device.

    Raises:
        BadNumber.
    """
    if kind not in (b"3", b"4"):
        return None
    major, minor = field(block[329:337]), field(block[337:345])
    if not (0 <= major < 2**32 and 0 <= minor < 2**32):
        raise BadNumber("a device has an impossible number")
    return major, minor


def xattrs(values: Mapping[bytes, bytes], owners: Owners, warnings: list[str]) -> tuple[tuple[bytes, bytes], ...]:
    """Extended attributes, access lists among them; what cannot be used is told in ``warnings``."""
    if values.keys() <= _PLAIN:
        return ()
    found = pax.xattrs(values)
    known = {name for name, _ in found}
    for keyword, name in (acl.ACCESS, acl.DEFAULT):
        text = values.get(keyword)
        if text and name not in known:  # the attribute itself needs no names looked up
            try:
                value = acl.packed(text, owners)
                if name != acl.ACCESS[1] or len(value) > acl.MINIMAL:  # else the mode says it all
                    found.append((name, value))
            except acl.BadAcl as error:
                warnings.append(str(error))
    usable = [item for item in found if 0 < len(item[0]) <= 255 and len(item[1]) <= _LARGEST_XATTR]
    if len(usable) < len(found) or sum(len(value) for _, value in usable) > _LARGEST_XATTRS:
        warnings.append("extended attributes that no system can have are left out")
        usable = usable[:16]
    return tuple(sorted(usable))


class OwnerTable:
    """Owners by what the headers have, so that equal ones are parsed and kept once."""

    def __init__(self) -> None:
        self._of_block: dict[bytes, Owner] = {}
        self._shared: dict[Owner, Owner] = {}

    def find(self, block: bytes, values: Mapping[bytes, bytes]) -> Owner:
        """The owner of a member.

        Raises:
            BadNumber.
        """
        key = block[108:124] + block[265:329]
        owner = self._of_block.get(key)
        if owner is None:
            # a number that is too large for its field is in the extended header; the field may have anything
            uid = _number(values, b"uid", block[108:116])
            gid = _number(values, b"gid", block[116:124])
            owner = Owner(uid, gid, _text(block[265:297]), _text(block[297:329]))
            if b"uid" in values or b"gid" in values:
                return self._with_names(owner, values)
            self._of_block[key] = owner
        if values:
            return self._with_names(owner, values)
        return owner

    def _with_names(self, owner: Owner, values: Mapping[bytes, bytes]) -> Owner:
        uid, gid = values.get(b"uid"), values.get(b"gid")
        user, group = values.get(b"uname"), values.get(b"gname")
        if uid is None and gid is None and user is None and group is None:
            return owner
        owner = Owner(
            owner.uid if uid is None else check_id(signed(uid)),
            owner.gid if gid is None else check_id(signed(gid)),
            owner.user if user is None else _text(user),
            owner.group if group is None else _text(group),
        )
        return self._shared.setdefault(owner, owner)


def _number(values: Mapping[bytes, bytes], keyword: bytes, raw: bytes) -> int:
    value = values.get(keyword)
    return id_field(raw) if value is None else check_id(signed(value))


def _text(raw: bytes) -> str | None:
    name = raw.split(b"\0", 1)[0][:256]
    return name.decode("utf-8", "surrogateescape") or None
