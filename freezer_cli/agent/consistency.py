"""A checksum of files, to compare what was backed up with what was restored."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Iterator

from freezer_sdk.errors import RestoreError, SourceUnreadable

_BLOCK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


def checksum(path: str, *, follow: bool = False, exclude: str | None = None) -> str:
    """SHA-256, in hexadecimal, over the names, types and contents below a path, in the order of their names.

    Of a file the name follows the digits, as the original has it: restored into a directory it is found again.

    Args:
        path: a file or directory.
        follow: symbolic links count as what they lead to.
        exclude: pattern of GNU tar; what fits does not count.

    Raises:
        SourceUnreadable: something cannot be read.
    """
    raw = os.fsencode(path)
    try:
        if not stat.S_ISDIR(os.stat(raw).st_mode):
            return _content(raw) + os.path.basename(path)
        total = hashlib.sha256()
        for name, kind, digest in _walk(raw, b"", follow, _pattern(exclude)):
            total.update(b"%s %s %d:%s\n" % (kind, digest.encode(), len(name), name))
    except OSError as error:
        where = os.fsdecode(error.filename or raw)
        raise SourceUnreadable(f"no checksum: {where} cannot be read: {error.strerror}") from error
    return total.hexdigest()


def check_restored(path: str, expected: str) -> None:
    """Compares what was restored with what :func:`checksum` gave before the backup.

    Args:
        path: the directory of the restore.
        expected: the checksum; letters may be large.

    Raises:
        RestoreError: it is another one, or something cannot be read.
    """
    digits, name = expected[:64].lower(), expected[64:]
    if not _SHA256.fullmatch(digits) or "/" in name:
        raise RestoreError("--consistency-checksum: this is not such a checksum", hint="64 hexadecimal digits")
    try:
        found = checksum(os.path.join(path, name) if name else path)
    except SourceUnreadable as error:
        raise RestoreError(f"consistency check: {error.message}") from error
    if found[:64] != digits:
        raise RestoreError(
            f"consistency check: the checksum of {path} is {found[:64]}, not {digits}",
            hint="only an empty directory and all of a backup have the same one; the original's own differ for trees",
        )


def _walk(
    root: bytes, below: bytes, follow: bool, left_out: re.Pattern[bytes] | None
) -> Iterator[tuple[bytes, bytes, str]]:
    for name in sorted(os.listdir(os.path.join(root, below))):
        inside = os.path.join(below, name)
        if left_out is not None and left_out.search(b"/" + inside):
            continue
        path = os.path.join(root, inside)
        info = os.lstat(path)
        if follow and stat.S_ISLNK(info.st_mode) and os.path.exists(path):
            info = os.stat(path)
        if stat.S_ISDIR(info.st_mode):
            yield inside, b"d", ""
            yield from _walk(root, inside, follow, left_out)
        elif stat.S_ISREG(info.st_mode):
            yield inside, b"f", _content(path)
        elif stat.S_ISLNK(info.st_mode):
            yield inside, b"l", hashlib.sha256(os.readlink(path)).hexdigest()
        elif not stat.S_ISSOCK(info.st_mode):  # those are in no tar
            yield inside, b"o", ""


def _content(path: bytes) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _pattern(exclude: str | None) -> re.Pattern[bytes] | None:
    """What GNU tar leaves out: the pattern may begin at any name of the path, and ``*`` stands for slashes, too."""
    if not exclude:
        return None
    glob = os.fsencode(exclude.removeprefix("./").rstrip("/"))
    inner = fnmatch.translate(os.fsdecode(glob).replace("[^", "[!"))
    return re.compile(b"/" + os.fsencode(inner.replace("\\Z", "").replace("\\z", "")) + rb"(?:/|\Z)", re.DOTALL)
