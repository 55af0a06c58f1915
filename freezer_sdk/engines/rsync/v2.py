"""The head of a stream of version 2: a list of all entries that changed, before their contents."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from freezer_sdk.engines.rsync.fields import Fields, name, text
from freezer_sdk.engines.rsync.items import (
    Damaged,
    Item,
    block_count,
    clean_path,
    entry_type,
    to_nanoseconds,
    to_seconds,
)
from freezer_sdk.engines.rsync.packing import Packing
from freezer_sdk.engines.rsync.unpack import Unpacker

OWN_ITEM = b".freezer-sdk"
"""Path of the item that tells of the directory itself; without an inode the original's reader passes it by.

Under its true path the original would empty the target when it comes to the item.
"""

_MAX_BLOCKS = 1 << 40
_STRANGER = b"root"  # the original's reader fails on a user whom it cannot find


def read_items(values: Unpacker, *, block_size: int) -> Iterator[Item]:
    """All items of a level, in the order in which their contents follow.

    Raises:
        Damaged: the list is not whole; what came before is.
    """
    for _ in range(values.list()):
        item = _read_item(values, block_size)
        if item is not None:
            yield item


def _read_item(values: Unpacker, block_size: int) -> Item | None:
    facts: dict[bytes, Any] = {}
    deltas: tuple[int, Any] | None = None
    for key in values.fields():
        if key == b"deltas":
            if values.list() != 2:
                raise Damaged("the deltas of a file do not have two parts")
            deltas = values.value(), values.numbers(limit=_MAX_BLOCKS)
        else:
            facts[key] = values.value()
    fields = Fields(facts)
    path = clean_path(fields.text(b"path") or b"")
    inode = facts.get(b"root" if path == OWN_ITEM and b"root" in facts else b"inode")
    if inode is None:
        deleted = facts.get(b"deleted") and path is not None
        return Item(path=path or b".") if deleted else None
    if path == OWN_ITEM and b"root" in facts:
        path = b"."
    return _made(path, fields, Fields(inode), deltas, block_size)


def _made(path: bytes | None, fields: Fields, inode: Fields, deltas: Any, block_size: int) -> Item:
    mode = inode.number(b"mode")
    entry_type(mode)
    is_file = stat.S_ISREG(mode)
    size = inode.number(b"size", default=0) if is_file else 0
    blocks = None
    stored = size
    if deltas is not None and is_file:
        blocks = deltas[1]
        if any(after <= before for before, after in pairwise(blocks)):
            raise Damaged("the blocks of a file are not in ascending order")
        stored = deltas[0]
        if not isinstance(stored, int) or block_count(stored, block_size) != len(blocks):
            raise Damaged("the blocks of a file do not have the size that they should")
    same_as = fields.text(b"hardlink")
    mtime_ns = inode.optional(b"mtime_ns", lowest=-(1 << 63))
    return Item(
        path=path or b"\0",  # its content is to be passed by; nothing has this name
        mode=mode,
        uid=inode.optional(b"uid"),
        gid=inode.optional(b"gid"),
        user=None if inode.get(b"no_uname") else name(inode.text(b"uname")),
        group=None if inode.get(b"no_gname") else name(inode.text(b"gname")),
        size=size,
        mtime_ns=to_nanoseconds(inode.seconds(b"mtime")) if mtime_ns is None else mtime_ns,
        ctime_ns=inode.optional(b"ctime_ns", lowest=-(1 << 63)) or 0,
        target=fields.text(b"lname") if stat.S_ISLNK(mode) else None,
        device=_device(fields, mode),
        xattrs=_xattrs(fields.get(b"xattrs")),
        same_as=None if same_as is None else clean_path(same_as),
        blocks=blocks,
        stored=stored,
        incomplete=bool(fields.get(b"incomplete")),
    )


def _device(fields: Fields, mode: int) -> tuple[int, int] | None:
    if not (stat.S_ISBLK(mode) or stat.S_ISCHR(mode)):
        return None
    pair = fields.get(b"rdev")
    if not isinstance(pair, list) or len(pair) != 2:
        return None  # the original records the device that the entry lies on
    major, minor = (Fields({b"rdev": number}).number(b"rdev") for number in pair)
    return major, minor


def _xattrs(found: object) -> tuple[tuple[bytes, bytes], ...]:
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in found):
        raise Damaged("extended attributes are not in pairs")
    return tuple((text(attribute), text(value)) for attribute, value in found)


def pack_item(packing: Packing, item: Item, *, patches: bool) -> bytes:
    """An item of this format.

    Args:
        patches: the level below has the entry, with the same mode.
    """
    facts: dict[bytes, Any] = {b"path": item.path}
    if item.deleted:
        facts[b"deleted"] = True
        return packing.value(facts)
    inode = _packed_inode(item)
    if item.path == b".":
        facts[b"path"] = OWN_ITEM
        facts[b"root"] = inode
    else:
        facts[b"inode"] = inode
        if patches:
            facts[b"new_level"] = True
    if item.target is not None:
        facts[b"lname"] = item.target
    if item.device is not None:
        facts[b"rdev"] = list(item.device)
        facts[b"dev"] = os.makedev(*item.device)  # where the original's reader looks for it
    if item.xattrs:
        facts[b"xattrs"] = [list(pair) for pair in item.xattrs]
    if item.same_as is not None:
        facts[b"hardlink"] = item.same_as
    if item.incomplete:
        facts[b"incomplete"] = True
    if item.blocks is None:
        return packing.value(facts)
    head = packing.map(len(facts) + 1) + b"".join(packing.value(k) + packing.value(v) for k, v in facts.items())
    blocks = packing.list(len(item.blocks)) + b"".join(map(packing.value, item.blocks))
    return head + packing.value(b"deltas") + packing.list(2) + packing.value(item.stored) + blocks


def _packed_inode(item: Item) -> dict[bytes, Any]:
    time = to_seconds(item.mtime_ns)
    facts: dict[bytes, Any] = {
        b"mode": item.mode,
        b"dev": 0,
        b"uname": os.fsencode(item.user) if item.user else _STRANGER,
        b"gname": os.fsencode(item.group) if item.group else _STRANGER,
        b"atime": time,
        b"mtime": time,
        b"size": item.size,
        b"uid": item.uid,
        b"gid": item.gid,
        b"mtime_ns": item.mtime_ns,
        b"ctime_ns": item.ctime_ns,
    }
    if not item.user:
        facts[b"no_uname"] = True
    if not item.group:
        facts[b"no_gname"] = True
    return facts
