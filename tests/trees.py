"""A tree with every kind of entry, and an independent comparison of two trees.

Run as a script: ``python tests/trees.py make DIR``, ``python tests/trees.py compare DIR DIR``.
"""

from __future__ import annotations

import argparse
import os
import socket
import stat
import subprocess
from pathlib import Path

SPARSE = {  # data ranges of 64 KiB blocks, and the size
    "hole-at-start": ([(3, 1)], 4 << 16),
    "hole-in-the-middle": ([(0, 1), (9, 2)], 11 << 16),
    "hole-at-end": ([(0, 1)], (8 << 16) + 5),
    "only-a-hole": ([], 1 << 20),
    "odd": ([(1, 1), (3, 1), (5, 1)], (7 << 16) + 123),
}


def is_root() -> bool:
    return os.geteuid() == 0


def make_every_kind(path: str | os.PathLike[str]) -> None:
    """Makes a tree with every kind of entry that the process may make on this file system."""
    root = os.fsencode(path)
    os.makedirs(root)
    _files(root)
    _names(root)
    _sparse(root)
    _links(root)
    _special(root)
    _xattrs(root)
    make_deep(root, levels=14)
    _modes(root)
    if is_root():
        _owners(root)
    _times(root)


def _write(path: bytes, data: bytes = b"") -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def _files(root: bytes) -> None:
    _write(root + b"/files/empty")
    _write(root + b"/files/small", b"hello\n")
    _write(root + b"/files/zeros", bytes(100_000))
    _write(root + b"/files/large", bytes(range(256)) * 12_345)
    os.makedirs(root + b"/empty-directory/with/an-empty-one")


def _names(root: bytes) -> None:
    names = [
        b"blank name",
        b" leading",
        b"trailing ",
        b"new\nline",
        b"tab\t",
        b"\xff\xfe not utf-8",
        b"-dash",
        b"'q\"`$(x)",
    ]
    names += ["ü-é-日本".encode(), b"back\\slash", b"*glob?[a]", b"...", b".hidden", b"\x01\x7f", b"n" * 255]
    for name in names:
        _write(root + b"/names/" + name, name)
        os.mkdir(root + b"/names/" + name[:250] + b".dir")
    os.symlink(b"\xff\nnowhere", root + b"/names/link\n\xfe")


def _sparse(root: bytes) -> None:
    os.mkdir(root + b"/sparse")
    for name, (blocks, size) in SPARSE.items():
        fd = os.open(root + b"/sparse/" + name.encode(), os.O_CREAT | os.O_WRONLY, 0o644)
        os.ftruncate(fd, size)
        for block, count in blocks:
            os.pwrite(fd, os.urandom(count << 16), block << 16)
        os.close(fd)


def _links(root: bytes) -> None:
    os.mkdir(root + b"/links")
    os.symlink(b"../files/small", root + b"/links/relative")
    os.symlink(b"/etc/passwd", root + b"/links/absolute")
    os.symlink(b"nowhere", root + b"/links/dangling")
    os.symlink(b".", root + b"/links/loop")
    os.symlink(b"x" * 4000, root + b"/links/long")
    _write(root + b"/links/one", b"one file, three names")
    os.mkdir(root + b"/a-first")
    os.link(root + b"/links/one", root + b"/links/two")
    os.link(root + b"/links/one", root + b"/a-first/three")
    os.link(root + b"/links/relative", root + b"/links/relative-too", follow_symlinks=False)
    os.link(root + b"/sparse/odd", root + b"/links/sparse")
    os.link(root + b"/files/empty", root + b"/links/empty")


def _special(root: bytes) -> None:
    os.mkdir(root + b"/special")
    os.mkfifo(root + b"/special/fifo", 0o640)
    os.link(root + b"/special/fifo", root + b"/special/fifo-too")
    with socket.socket(socket.AF_UNIX) as sock:
        fd = os.open(root + b"/special", os.O_RDONLY)
        sock.bind(f"/proc/self/fd/{fd}/socket")
        os.close(fd)
    if is_root():
        os.mknod(root + b"/special/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(root + b"/special/block", 0o660 | stat.S_IFBLK, os.makedev(259, 1_000_000))


def _xattrs(root: bytes) -> None:
    _write(root + b"/xattrs/file", b"x")
    os.mkdir(root + b"/xattrs/directory")
    os.symlink(b"file", root + b"/xattrs/link")
    for name in (b"/file", b"/directory"):
        os.setxattr(root + b"/xattrs" + name, b"user.empty", b"")
        os.setxattr(root + b"/xattrs" + name, b"user.bytes", bytes(range(256)))
        os.setxattr(root + b"/xattrs" + name, "user.ü".encode(), b"name")
    if is_root():
        os.setxattr(root + b"/xattrs/file", b"trusted.file", b"t")
        os.setxattr(root + b"/xattrs/link", b"trusted.link", b"t", follow_symlinks=False)
        _write(root + b"/xattrs/capable", b"#!/bin/sh\n")
        os.chmod(root + b"/xattrs/capable", 0o755)
        subprocess.run(["setcap", "cap_net_raw+ep", os.fsdecode(root) + "/xattrs/capable"], check=True)
    _write(root + b"/acls/file", b"x")
    os.mkdir(root + b"/acls/directory")
    directory = os.fsdecode(root) + "/acls/"
    subprocess.run(["setfacl", "-m", "u:12345:r--,g:54321:rw-,m::rw-", directory + "file"], check=True)
    subprocess.run(["setfacl", "-m", "u:12345:rwx,d:u:12345:r-x,d:o::---", directory + "directory"], check=True)
    _write(root + b"/acls/directory/inherits", b"x")
    os.mkdir(root + b"/acls/directory/inherits-too")


def make_deep(root: str | bytes, *, levels: int) -> None:
    """A chain of directories with names of 250 bytes, made step by step; rsync gives up at PATH_MAX, 16 levels."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in ["deep", *[f"{level:04}" + "d" * 246 for level in range(levels)]]:
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd)
    os.write(file, b"far down")
    os.close(file)
    os.symlink("file", "link", dir_fd=fd)
    os.link("file", "name-too", src_dir_fd=fd, dst_dir_fd=fd)
    os.close(fd)


def _modes(root: bytes) -> None:
    for mode in (0o000 if is_root() else 0o440, 0o400, 0o777, 0o4755, 0o2755, 0o6755, 0o1644):
        _write(root + b"/modes/file-%04o" % mode, b"x")
        os.chmod(root + b"/modes/file-%04o" % mode, mode)
    for mode in (0o700, 0o555, 0o1777, 0o2775):
        os.makedirs(root + b"/modes/directory-%04o" % mode)
        if is_root() or mode & 0o200:
            _write(root + b"/modes/directory-%04o/file" % mode, b"x")
        os.chmod(root + b"/modes/directory-%04o" % mode, mode)


def _owners(root: bytes) -> None:
    for number, kind in enumerate((0o644, 0o4755, 0o6755)):
        _write(root + b"/owners/%04o" % kind, b"x")
        os.chown(root + b"/owners/%04o" % kind, 1000 + number, 2000 + number)
        os.chmod(root + b"/owners/%04o" % kind, kind)
    os.mkdir(root + b"/owners/directory")
    os.chown(root + b"/owners/directory", 4_000_000_000, 33)
    os.symlink(b"0644", root + b"/owners/link")
    os.chown(root + b"/owners/link", 1, 2, follow_symlinks=False)
    os.chown(root + b"/special/fifo", 3, 4)


def _times(root: bytes) -> None:
    """Modification times with nanoseconds, before 1970 and after 2038; directories last: writing changes theirs."""
    times = {
        b"/files/empty": 1,
        b"/files/small": 1_234_567_890_123_456_789,
        b"/files/large": -123_456_789_012_345_678,
        b"/files/zeros": 3_999_999_999_999_999_999,
        b"/links/dangling": 987_654_321_987_654_321,
        b"/special/fifo": 1_000_000_000_000_000_007,
        b"/empty-directory": 1_111_111_111_111_111_111,
        b"/links": 1_222_222_222_222_222_222,
        b"/files": -1,
        b"": 1_333_333_333_333_333_333,
    }
    for name, mtime in times.items():
        os.utime(root + name, ns=(mtime, mtime), follow_symlinks=False)


def compare(before: str | os.PathLike[str], after: str | os.PathLike[str]) -> None:
    """Asserts that two trees are the same, by the judgement of other programs.

    Raises:
        AssertionError: with what rsync, getfattr, find or du found.
    """
    one, two = os.fspath(before), os.fspath(after)
    _rsync(one, two)
    facts = ["-mindepth", "0", "-printf", r"%P|%y|%m|%U|%G|%s|%l|%n|%T@\0"]
    assert _sorted(_find(one, facts)) == _sorted(_find(two, facts)), "find -printf differs"
    assert _getfattr(one) == _getfattr(two), "getfattr differs"
    blocks = ["-type", "f", "-printf", r"%b %P\0"]
    allocated = {name: int(count) for count, name in _pairs(_find(one, blocks))}
    for count, name in _pairs(_find(two, blocks)):
        assert int(count) <= allocated[name] + 8, f"{name!r} takes {count} blocks, not {allocated[name]}"


def compare_deep(before: str | os.PathLike[str], after: str | os.PathLike[str]) -> None:
    """Asserts that two trees with paths beyond PATH_MAX are the same, by the judgement of GNU tar."""
    command = ["tar", "--create", "--sort=name", "--xattrs", "--format=posix", "--pax-option=delete=atime,delete=ctime"]
    one, two = (subprocess.run([*command, "."], cwd=path, capture_output=True, check=True) for path in (before, after))
    assert one.stdout == two.stdout


def _rsync(one: str, two: str) -> None:
    flags = "-anHAXi" if is_root() else "-anHi"
    command = ["rsync", flags, "--delete", "--checksum", "--modify-window=-1", one + "/", two + "/"]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    assert done.stdout == b"", done.stdout.decode("utf-8", "replace")


def _find(root: str, arguments: list[str]) -> list[bytes]:
    done = subprocess.run(["find", root, *arguments], capture_output=True, check=True)
    return done.stdout.split(b"\0")


def _sorted(lines: list[bytes]) -> list[bytes]:
    """Without the sizes of directories, which the file system chooses."""
    kept = []
    for line in lines:
        fields = line.split(b"|")
        if len(fields) > 6 and fields[-8] == b"d":
            fields[-4] = b""
        kept.append(b"|".join(fields))
    return sorted(kept)


def _pairs(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = []
    for line in lines:
        if line:
            count, _, name = line.partition(b" ")
            pairs.append((count, name))
    return pairs


def _getfattr(root: str) -> list[bytes]:
    command = ["getfattr", "-h", "-d", "-m", "-", "-R", "-e", "hex", "."]
    done = subprocess.run(command, cwd=root, capture_output=True, check=False)
    return sorted(done.stdout.split(b"\n\n"))


def remove(path: str | os.PathLike[str]) -> None:
    """Removes a tree, paths longer than PATH_MAX included."""
    if os.path.lexists(path):
        subprocess.run(["chmod", "-R", "u+rwX", os.fspath(path)], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", os.fspath(path)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("make").add_argument("path", type=Path)
    both = commands.add_parser("compare")
    both.add_argument("before", type=Path)
    both.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "make":
        make_every_kind(arguments.path)
    else:
        compare(arguments.before, arguments.after)
        print("no difference")


if __name__ == "__main__":
    main()
