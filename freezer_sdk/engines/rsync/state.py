"""``engine_metadata``: what a level says about the whole tree, so that the next one can tell what has changed."""

from __future__ import annotations

import bz2
import json
import stat
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from freezer_sdk.engines.rsync.fields import Fields, name, text
from freezer_sdk.engines.rsync.items import (
    MAX_BLOCK_SIZE,
    NANOSECONDS,
    Damaged,
    Item,
    clean_path,
    entry_type,
    to_nanoseconds,
)
from freezer_sdk.engines.rsync.packing import Packing
from freezer_sdk.engines.rsync.signature import STRONG, Signature
from freezer_sdk.engines.rsync.unpack import Unpacker

DEFAULT_BLOCK_SIZE: Final = 4096
_STEP: Final = 1 << 20
_MAX_JSON: Final = 2 << 30
_SECONDS: Final = 1 << 33  # what nanoseconds can tell in 63 bits
_YES = "1111"
_LINK = "l"


@dataclass(kw_only=True, slots=True)
class Known:
    """What a state knows of one entry.

    Attributes:
        mtime, ctime: seconds, as the original compares them; it takes an entry for changed when one is another.
        item: all facts, where the format has them (version 1 does).
        size, inode, mtime_ns, ctime_ns: where this program wrote them.
        racy: changed so shortly before the backup that a later change may not show in its times.
        incomplete: the content was not read whole.
    """

    mode: int
    mtime: float = 0.0
    ctime: float = 0.0
    signature: Signature | None = None
    item: Item | None = None
    size: int | None = None
    inode: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    racy: bool = False
    incomplete: bool = False


@dataclass(kw_only=True)
class State:
    """What a level says about the whole tree.

    Attributes:
        files: by clean path, directories among them; of the directory itself only in version 1.
        location: the absolute path of what was backed up, or of the directory of the one file.
    """

    version: int = 2
    block_size: int = DEFAULT_BLOCK_SIZE
    files: dict[bytes, Known] = field(default_factory=dict)
    location: bytes = b""


def load(stored: bytes) -> State:
    """A state of either version.

    Raises:
        Damaged: it is none.
    """
    source = _Expanded(stored)
    first = source.peek()
    if first.lstrip()[:1] == b"{":
        return _load_json(source)
    return _load_packed(Unpacker(source))


def dump(state: State, *, compression: str, platform: str) -> bytes:
    """A state of version 2, as the original reads it.

    Args:
        compression: name in the metadata document.
    """
    target = bz2.BZ2Compressor() if compression == "bzip2" else zlib.compressobj()
    parts = [target.compress(piece) for piece in _packed(state, platform)]
    parts.append(target.flush())
    return b"".join(parts)


# -- version 2 ---------------------------------------------------------------------------------------------


def _packed(state: State, platform: str) -> Iterator[bytes]:
    packing = Packing()
    facts: dict[bytes, Any] = {
        b"platform": platform.encode(),
        b"abs_backup_path": state.location,
        b"rsync_struct_ver": 2,
        b"rsync_block_size": state.block_size,
    }
    yield packing.map(len(facts) + 1)
    for key, value in facts.items():
        yield packing.value(key) + packing.value(value)
    yield packing.value(b"files") + packing.map(len(state.files))
    for path, known in state.files.items():
        yield packing.value(path)
        yield from _packed_entry(packing, known)


def _packed_entry(packing: Packing, known: Known) -> Iterator[bytes]:
    facts: dict[bytes, Any] = {b"mode": known.mode, b"mtime": known.mtime, b"ctime": known.ctime}
    more = {
        b"size": known.size,
        b"inode": known.inode,
        b"mtime_ns": known.mtime_ns,
        b"ctime_ns": known.ctime_ns,
        b"racy": known.racy or None,
        b"incomplete": known.incomplete or None,
    }
    facts.update((key, value) for key, value in more.items() if value is not None)
    yield packing.map(len(facts) + (known.signature is not None))
    yield b"".join(packing.value(key) + packing.value(value) for key, value in facts.items())
    if known.signature is not None:
        count = len(known.signature)
        yield packing.value(b"signature") + packing.list(2) + packing.list(count)
        yield b"".join(map(packing.value, known.signature.weak or array("I", bytes(4 * count))))
        yield packing.list(count)
        digits, length = known.signature.strong.hex().encode(), 2 * STRONG
        yield b"".join(packing.value(digits[at : at + length]) for at in range(0, len(digits), length))


def _load_packed(values: Unpacker) -> State:
    state = State()
    for key in values.fields():
        if key == b"files":
            for _ in range(values.map()):
                path = text(values.value())
                known = _load_entry(values)
                clean = clean_path(path)
                if clean is not None:
                    state.files[clean] = known
        elif key == b"rsync_block_size":
            state.block_size = check_block_size(values.value())
        elif key == b"abs_backup_path":
            state.location = text(values.value())
        else:
            values.value()
    return state


def _load_entry(values: Unpacker) -> Known:
    facts: dict[bytes, Any] = {}
    signature: Signature | None = None
    for key in values.fields():
        if key == b"signature":
            signature = _load_signature(values)
        else:
            facts[key] = values.value()
    fields = Fields(facts)
    mode, mtime = fields.number(b"mode"), fields.seconds(b"mtime")
    entry_type(mode)
    to_nanoseconds(mtime)
    return Known(
        mode=mode,
        mtime=mtime,
        ctime=fields.seconds(b"ctime"),
        signature=signature,
        size=fields.optional(b"size"),
        inode=fields.optional(b"inode"),
        mtime_ns=fields.optional(b"mtime_ns", lowest=-(1 << 63)),
        ctime_ns=fields.optional(b"ctime_ns", lowest=-(1 << 63)),
        racy=bool(facts.get(b"racy")),
        incomplete=bool(facts.get(b"incomplete")),
    )


def _load_signature(values: Unpacker) -> Signature:
    if values.list() != 2:
        raise Damaged("a signature does not have two parts")
    weak = values.numbers(limit=(1 << 32) - 1)
    strong = bytearray()
    for _ in range(values.list()):
        try:
            digest = bytes.fromhex(text(values.value()).decode("ascii"))
        except ValueError as error:
            raise Damaged("a checksum is not hexadecimal") from error
        if len(digest) != STRONG:
            raise Damaged("a checksum has a wrong length")
        strong += digest
    if len(weak) * STRONG != len(strong):
        raise Damaged("a signature's parts have different lengths")
    return Signature(weak=weak, strong=bytes(strong))


# -- version 1 ---------------------------------------------------------------------------------------------


def _load_json(source: _Expanded) -> State:
    try:
        document = json.loads(source.all(limit=_MAX_JSON))
    except (ValueError, RecursionError) as error:
        raise Damaged("it is no JSON") from error
    fields = Fields(document)
    state = State(version=1, location=fields.text("abs_backup_path") or b"")
    state.block_size = check_block_size(fields.get("rsync_block_size") or DEFAULT_BLOCK_SIZE)
    directories = Fields(fields.get("directories") or {}).mapping()
    root = text(min(directories, key=len)) if directories else b"."  # paths of a walk: all begin with that of the root
    for path, facts in directories.items():
        _add(state, text(path)[len(root) :].lstrip(b"/") or b".", facts)
    for path, facts in Fields(fields.get("files") or {}).mapping().items():
        _add(state, text(path), facts)
    return state


def _add(state: State, path: bytes, facts: object) -> None:
    fields = Fields(facts)
    inode = Fields(fields.get("inode"))
    clean = clean_path(path)
    if clean is None or str(inode.get("deleted")) == _YES:
        return
    signature = _json_signature(fields.get("signature"))
    is_file = str(inode.get("ftype")) in "ru"
    mode = inode.number("mode")
    if is_file:
        mode = stat.S_IFREG | stat.S_IMODE(mode)
    entry_type(mode)
    item = Item(
        path=clean,
        mode=mode,
        uid=inode.number("uid"),
        gid=inode.number("gid"),
        user=name(inode.text("uname")),
        group=name(inode.text("gname")),
        size=inode.number("size") if is_file else 0,
        mtime_ns=inode.number("mtime", lowest=-_SECONDS) * NANOSECONDS,
        ctime_ns=inode.number("ctime", lowest=-_SECONDS) * NANOSECONDS,
        target=inode.text("lname") if str(inode.get("ftype")) == _LINK else None,
    )
    state.files[clean] = Known(
        mode=item.mode,
        mtime=float(inode.number("mtime", lowest=-_SECONDS)),
        ctime=float(inode.number("ctime", lowest=-_SECONDS)),
        signature=signature if is_file else None,
        item=item,
        size=item.size,
        incomplete=is_file and signature is None,
    )


def _json_signature(found: object) -> Signature | None:
    if found is None:  # it could not be read
        return None
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], list):
        raise Damaged("a signature does not have two parts")
    try:
        strong = b"".join(map(bytes.fromhex, found[1]))
    except (ValueError, TypeError) as error:
        raise Damaged("a checksum is not hexadecimal") from error
    if len(strong) != STRONG * len(found[1]):
        raise Damaged("a checksum has a wrong length")
    return Signature(strong=strong)


# -- both --------------------------------------------------------------------------------------------------


def check_block_size(value: object) -> int:
    """A block size as it is recorded.

    Raises:
        Damaged: no number, or one that cannot be.
    """
    if not isinstance(value, int) or not 1 <= value <= MAX_BLOCK_SIZE:
        raise Damaged("the block size cannot be")
    return value


class _Expanded:
    """The decompressed bytes, made as they are asked for."""

    def __init__(self, stored: bytes) -> None:
        self._bzip2 = stored.startswith(b"BZh")
        self._inflate = zlib.decompressobj()
        self._bunzip = bz2.BZ2Decompressor()
        self._left = memoryview(stored)
        self._ready = b""

    def peek(self) -> bytes:
        """The first bytes, which ``read`` gives again."""
        self._ready = self._ready or self._next(_STEP)
        return self._ready

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end.

        Raises:
            Damaged.
        """
        ready = self._ready or self._next(size)
        self._ready = ready[size:]
        return ready[:size]

    def all(self, *, limit: int) -> bytes:
        """Everything.

        Raises:
            Damaged: also when it is more than the limit.
        """
        parts, total = [], 0
        while data := self.read(_STEP):
            parts.append(data)
            total += len(data)
            if total > limit:
                raise Damaged("it is larger than it can be")
        return b"".join(parts)

    def _next(self, size: int) -> bytes:
        try:
            while True:
                given = self._left[:_STEP]
                if self._bzip2:
                    if self._bunzip.eof:
                        return b""
                    if not self._bunzip.needs_input:
                        given = given[:0]
                    self._left = self._left[len(given) :]
                    data = self._bunzip.decompress(given, size)
                    done = not given and self._bunzip.needs_input
                else:
                    if self._inflate.eof:
                        return b""
                    kept = self._inflate.unconsumed_tail
                    if kept:
                        given = memoryview(kept)
                    else:
                        self._left = self._left[len(given) :]
                    data = self._inflate.decompress(given, size)
                    done = not given
                if data:
                    return data
                if done:
                    raise Damaged("it ends too early")
        except (OSError, ValueError, EOFError, zlib.error) as error:
            raise Damaged(f"it does not decompress: {error}") from error
