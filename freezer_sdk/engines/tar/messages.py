"""What GNU tar says while it writes, and what that means for the backup."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Final

from freezer_sdk.files.report import Reporter

_LINE: Final = re.compile(rb'[^"]*?: "((?:[^"\\]|\\.)*)": (?:Warning: )?(.*)', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS: Final = {
    b"a": b"\a",
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_LONGEST: Final = 1 << 20
_KEPT: Final = 20

_CANNOT: Final = re.compile(r"Cannot (\w+): (.*)")
_SHRANK: Final = re.compile(r"File shrank by ([0-9]+) bytes?; padding with zeros")
_READ_ERROR: Final = re.compile(r"Read error at byte ([0-9]+), while reading ([0-9]+) bytes?: (.*)")
_ATTRIBUTES: Final = re.compile(r".*(?:xattr|acl_|filecon|fgetfl|attribute)")
_NOT_STORED: Final = {
    "socket ignored": ("socket", "sockets are not stored"),
    "door ignored": ("door", "doors are not stored"),
    "Unknown file type; file ignored": ("type", "not stored: its type is unknown"),
}
_EXPECTED: Final = re.compile(
    r"contains a cache directory tag .*|(?:file|directory) is unchanged; not dumped|Directory (?:is new|has been .*)"
)
_ELSEWHERE: Final = re.compile(r"(?:file|directory) is on a different filesystem; not dumped")


class Messages:
    """Reads messages of GNU tar, run with ``LC_ALL=C`` and ``--quoting-style=c``.

    Args:
        report: takes problems.
        root: path that is recorded for the root of the backup.
        single: the root is no directory.

    Attributes:
        lost: names of members (``./a/b``) that are not whole, or not stored.
        mount_points: recorded paths of directories that were not entered.
        unclear: lines that belong to no entry; the last ones.
    """

    def __init__(self, report: Reporter, *, root: bytes, single: bool) -> None:
        self.lost: set[bytes] = set()
        self.mount_points: list[bytes] = []
        self.unclear: list[str] = []
        self._changed: list[bytes] = []
        self._report = report
        self._root = root
        self._single = single
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes what was said, in pieces of any size."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        self._rest = self._rest[-_LONGEST:]

    def close(self, directories: Callable[[], Collection[bytes]]) -> None:
        """Everything was said.

        Args:
            directories: gives the names of members that are directories.
        """
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        known = directories() if self._changed else ()
        for member in self._changed:
            path = self.path(member)
            if member in known:
                self._report.note(path, "changed", "entries came or went while the directory was being read")
            else:
                self.lost.add(member)
                self._report.fatal(path, "changed", "changed while it was being read")
        self._report.close()

    def path(self, member: bytes) -> bytes:
        """The recorded path of a member."""
        if self._single or member == b".":
            return self._root
        return self._root.rstrip(b"/") + b"/" + member.removeprefix(b"./")

    def _line(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if found is None:
            text = line.decode("utf-8", "replace").strip()
            if text and not text.endswith("Exiting with failure status due to previous errors"):
                self.unclear = [*self.unclear[1 - _KEPT :], text]
            return
        member = _unquoted(found[1])
        self._item(member.rstrip(b"/") if len(member) > 1 else member, found[2].decode("utf-8", "replace"))

    def _item(self, member: bytes, text: str) -> None:
        path = self.path(member)
        if text in _NOT_STORED:
            self._report.warn(path, *_NOT_STORED[text])
        elif _ELSEWHERE.fullmatch(text):
            self.mount_points.append(path)
        elif text == "file changed as we read it":
            self._changed.append(member)
        elif _ATTRIBUTES.match(text):
            self._report.warn(path, "xattr", f"attributes could not be read: {text}", key=text)
        elif not _EXPECTED.fullmatch(text):
            self.lost.add(member)
            self._report.fatal(path, *_loss(text))


def _loss(text: str) -> tuple[str, str]:
    """Kind and message of what makes an entry less than whole."""
    if text == "File removed before we read it":
        return "vanished", "removed before it could be read"
    if cannot := _CANNOT.fullmatch(text):
        return ("vanished" if cannot[2] == "No such file or directory" else "unreadable"), cannot[2]
    if shrank := _SHRANK.fullmatch(text):
        return "changed", f"became {shrank[1]} bytes shorter while it was being read; zeros are stored for them"
    if failed := _READ_ERROR.fullmatch(text):
        return "unreadable", f"{failed[3]} at byte {failed[1]}; zeros are stored for what could not be read"
    return "tar", text


def _unquoted(name: bytes) -> bytes:
    def byte(found: re.Match[bytes]) -> bytes:
        escape = found[1]
        return bytes([int(escape, 8) & 0xFF]) if escape.isdigit() else _LETTERS.get(escape, escape)

    return _ESCAPE.sub(byte, name)
