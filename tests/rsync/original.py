"""The original's formats once more, made from their description and not from the engine: two writers and a reader.

The writers look at a real directory, as the original does; they keep its defects where tests need them.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import os
import stat
import time
import zlib
from pathlib import Path
from typing import Any

import msgpack

V1_BLOCK = 4096


def wait_for_the_clock() -> None:
    """The original does not see a change in the tick of the file systems' clock in which it looked."""
    clock = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)
    start = time.clock_gettime_ns(clock)
    while time.clock_gettime_ns(clock) == start:
        time.sleep(0.001)


def weak(data: bytes) -> int:
    """The unbounded checksum of version 1."""
    a = b = 0
    for at, byte in enumerate(data):
        a += byte
        b += (len(data) - at) * byte
    return (b << 16) | a


def blocks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def literals(data: bytes, known: list[str], size: int) -> list[int]:
    """What version 1 takes for changed: numbers of findings of its search, not of blocks of the file."""
    found: list[int] = []
    count, matched, literal = 0, -1, 0
    start, stop = 0, min(size, len(data))
    exhausted = False

    def yielded(*, changed: bool) -> None:
        nonlocal count
        if changed:
            found.append(count)
        count += 1

    while True:
        digest = hashlib.sha1(data[start:stop]).hexdigest()
        if digest in known[matched + 1 :]:
            matched = known.index(digest, matched + 1)
            if literal:
                yielded(changed=True)
                literal = 0
            yielded(changed=False)
            if exhausted:
                return found
            start, stop = stop, min(stop + size, len(data))
            continue
        if stop < len(data):
            stop += 1
        else:
            exhausted = True
        if exhausted and stop - start <= len(data) % size:
            yielded(changed=True)
            return found
        start += 1
        literal += 1
        if literal == size:
            yielded(changed=True)
            literal = 0


class FirstVersion:
    """Writes levels as the engine rsync did.

    Attributes:
        streams, states: of the levels so far; streams are not compressed.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self.streams: list[bytes] = []
        self.states: list[bytes] = []
        self._files: dict[str, Any] = {}
        self._exact: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        out = io.BytesIO()
        files: dict[str, Any] = {}
        directories: dict[str, Any] = {}
        exact: dict[str, tuple[int, int]] = {}
        broken: list[str] = []
        for where, _below, names in os.walk(self.source):
            relative = os.path.relpath(where, self.source)
            inode = self._inode(relative, known=False)
            directories[where] = {"inode": inode}
            out.write(self._head(relative, inode))
            for name in names:
                path = os.path.relpath(os.path.join(where, name), self.source)
                inode = self._inode(path, known=path in self._files)
                if inode["ftype"] == "s":
                    continue
                st = os.lstat(self.source / path)
                exact[path] = (st.st_mtime_ns, st.st_ctime_ns)
                self._file(path, inode, files, exact[path], out, broken)
        for path, facts in self._files.items():
            if path not in files:
                facts["inode"]["deleted"] = "1111"
                files[path] = facts
                out.write(self._head(path, facts["inode"]))
        document = {
            "files": files,
            "directories": directories,
            "meta": {"platform": "linux2"},
            "abs_backup_path": str(self.source),
            "broken_links": broken,
            "rsync_struct_ver": 1,
            "rsync_block_size": V1_BLOCK,
        }
        stored = zlib.compress(json.dumps(document).encode())
        self._files, self._exact = json.loads(json.dumps(files)), exact
        self.streams.append(out.getvalue())
        self.states.append(stored)
        wait_for_the_clock()

    def _file(
        self,
        path: str,
        inode: dict[str, Any],
        files: dict[str, Any],
        exact: tuple[int, int],
        out: io.BytesIO,
        broken: list[str],
    ) -> None:
        files[path] = facts = {"inode": inode}
        known = self._files.get(path)
        full = self.source / path
        regular = inode["ftype"] == "r"
        if not regular and not full.exists():
            broken.append(path)  # the original knows a link that leads nowhere, and does not store it
            return
        if known and self._exact.get(path) == exact and known["inode"]["deleted"] == "0000":
            facts["signature"] = known.get("signature", [[], []])
            return
        data = full.read_bytes() if regular else b""
        parts = blocks(data, V1_BLOCK)
        facts["signature"] = [[weak(part) for part in parts], [hashlib.sha1(part).hexdigest() for part in parts]]
        out.write(self._head(path, inode))
        if not regular:
            return
        if not known:
            out.write(data)
            return
        signature = known.get("signature", [[], []])  # of a link that led nowhere; here the original hangs
        changed = literals(data, signature[1], V1_BLOCK)
        index = "".join(f"\0{number}" for number in changed).encode() + b"\0"
        declared = sum(len(data[n * V1_BLOCK : (n + 1) * V1_BLOCK]) for n in changed)
        out.write(b"\0%d\0%d\0" % (declared + 7, len(index) + 1))  # the first number lies after insertions
        out.write(index)
        for number in changed:
            out.write(data[number * V1_BLOCK : (number + 1) * V1_BLOCK])

    def _inode(self, path: str, *, known: bool) -> dict[str, Any]:
        st = os.lstat(self.source / path)
        kinds = {stat.S_IFREG: "r", stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFIFO: "p", stat.S_IFSOCK: "s"}
        kind = kinds[stat.S_IFMT(st.st_mode)]
        return {
            "inumber": st.st_ino,
            "nlink": st.st_nlink,
            "mode": st.st_mode,
            "uid": st.st_uid,
            "gid": st.st_gid,
            "size": st.st_size,
            "devmajor": os.major(st.st_dev),
            "devminor": os.minor(st.st_dev),
            "mtime": int(st.st_mtime),
            "ctime": int(st.st_ctime),
            "uname": "root",
            "gname": "root",
            "ftype": kind,
            "lname": os.readlink(self.source / path) if kind == "l" else "",
            "rsync_block_size": V1_BLOCK,
            "level_id": "1111" if known else "0000",
            "deleted": "0000",
        }

    @staticmethod
    def _head(path: str, inode: dict[str, Any]) -> bytes:
        names = (
            "mode uid gid size mtime ctime uname gname ftype lname inumber nlink devminor devmajor "
            "rsync_block_size level_id deleted"
        )
        rest = "\0".join(["", path, "1", *(str(inode[name]) for name in names.split())]).encode()
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length += 1
        return str(length).encode() + rest


class SecondVersion:
    """Writes levels as the engine rsyncv2 did; with ``state``, on top of a level of anyone's making.

    Attributes:
        streams, states: of the levels so far; streams are not compressed.
    """

    def __init__(self, source: Path, *, block: int = 4096, exclude: str = "", state: bytes | None = None) -> None:
        self.source = source
        self.block = block
        self.exclude = exclude
        self.streams: list[bytes] = []
        self.states: list[bytes] = [] if state is None else [state]

    def run(self) -> None:
        old: dict[bytes, Any] = {}
        if self.states:
            old = msgpack.unpackb(zlib.decompress(self.states[-1]), raw=True, strict_map_key=False)[b"files"]
        files: dict[bytes, Any] = {}
        head: list[dict[bytes, Any]] = []
        for where, below, names in os.walk(os.fsencode(self.source)):
            kept = [name for name in names if not self.exclude or not fnmatch.fnmatch(os.fsdecode(name), self.exclude)]
            for name in below + kept:
                self._entry(os.path.relpath(os.path.join(where, name), os.fsencode(self.source)), old, files, head)
        head += [{b"path": path, b"deleted": True} for path in old if path not in files]
        packed = msgpack.packb(head, use_bin_type=False)
        contents = b"".join(
            self._content(item) for item in head if stat.S_ISREG(item.get(b"inode", {}).get(b"mode", 0))
        )
        for item in head:
            if stat.S_ISREG(item.get(b"inode", {}).get(b"mode", 0)):
                parts = blocks(self._read(item[b"path"]), self.block)
                strong = [hashlib.sha1(part).hexdigest().encode() for part in parts]
                files[item[b"path"]][b"signature"] = [[zlib.adler32(part) for part in parts], strong]
        document = {
            b"files": files,
            b"platform": b"linux2",
            b"abs_backup_path": os.fsencode(self.source),
            b"rsync_struct_ver": 2,
            b"rsync_block_size": self.block,
        }
        self.streams.append(packed + contents)
        self.states.append(zlib.compress(msgpack.packb(document, use_bin_type=False)))
        wait_for_the_clock()

    def _read(self, path: bytes) -> bytes:
        return Path(os.fsdecode(os.path.join(os.fsencode(self.source), path))).read_bytes()

    def _entry(self, path: bytes, old: dict[bytes, Any], files: dict[bytes, Any], head: list[dict[bytes, Any]]) -> None:
        full = os.path.join(os.fsencode(self.source), path)
        st = os.lstat(full)
        if stat.S_ISSOCK(st.st_mode):
            return
        item: dict[bytes, Any] = {
            b"path": path,
            b"inode": {
                b"mode": st.st_mode,
                b"dev": st.st_dev,
                b"uname": b"root",
                b"gname": b"root",
                b"atime": st.st_atime,
                b"mtime": st.st_mtime,
                b"size": st.st_size,
            },
        }
        if stat.S_ISLNK(st.st_mode):
            item[b"lname"] = os.readlink(full)
        files[path] = {b"mode": st.st_mode, b"ctime": st.st_ctime, b"mtime": st.st_mtime}
        known = old.get(path)
        if known is not None and known[b"mode"] == st.st_mode:
            if (known[b"mtime"], known[b"ctime"]) == (st.st_mtime, st.st_ctime):
                files[path] = known
                return
            item[b"new_level"] = True
            if stat.S_ISREG(st.st_mode):
                strong = known[b"signature"][1]
                parts = blocks(self._read(path), self.block)
                digests = [hashlib.sha1(part).hexdigest().encode() for part in parts]
                changed = [n for n, digest in enumerate(digests) if strong[n : n + 1] != [digest]]
                if changed:
                    item[b"deltas"] = [sum(len(parts[n]) for n in changed), changed]
        head.append(item)

    def _content(self, item: dict[bytes, Any]) -> bytes:
        data = self._read(item[b"path"])
        if b"deltas" not in item:
            return data
        return b"".join(blocks(data, self.block)[n] for n in item[b"deltas"][1])


Tree = dict[bytes, tuple[Any, ...]]


def extract(streams: list[bytes], *, block: int) -> Tree:
    """What a reader that knows nothing of this program makes of levels of version 2: path -> mode, time, content."""
    tree: Tree = {}
    for number, stream in enumerate(streams):
        unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=1 << 30)
        unpacker.feed(stream)
        head = unpacker.unpack()
        rest = io.BytesIO(stream[unpacker.tell() :])
        for item in head:
            path = item[b"path"]
            assert path not in {b".", b""}, "the original would remove everything"
            if item.get(b"deleted"):
                for below in [each for each in tree if each == path or each.startswith(path + b"/")]:
                    del tree[below]
                continue
            inode = item.get(b"inode", {})
            mode = inode.get(b"mode")
            if not mode:
                continue
            for key in (b"uname", b"gname", b"atime", b"mtime", b"size"):
                assert key in inode, key
            if not stat.S_ISREG(mode):
                tree[path] = (mode, inode[b"mtime"], item.get(b"lname"))
                continue
            if item.get(b"new_level") and item.get(b"deltas"):
                total, changed = item[b"deltas"]
                data = bytearray(tree[path][2])
                for at, index in enumerate(changed):
                    last = at == len(changed) - 1
                    part = rest.read(total % block or block if last else block)
                    data[index * block : index * block + len(part)] = part
                assert number
                content = bytes(data[: inode[b"size"]])
            else:
                content = rest.read(inode[b"size"])
            assert len(content) == inode[b"size"]
            tree[path] = (mode, inode[b"mtime"], content)
        assert not rest.read()
    return tree
