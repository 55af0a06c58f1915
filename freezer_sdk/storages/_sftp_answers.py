"""What an SFTP server answers (draft-ietf-secsh-filexfer-02, section 7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from stat import S_IFMT, S_ISDIR, S_ISREG

_STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
_READ_ONLY = 0x1  # flag of a file system

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


class Code(IntEnum):
    """Status of an answer."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8


class ServerStatus(Exception):
    """The server answered that it did not do what was asked."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return self.text or f"status {self.code}"


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the server says of a file; ``mtime`` in seconds, ``mode`` 0 where it says nothing of the type."""

    size: int = 0
    mode: int = 0
    mtime: int = 0

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return S_ISDIR(self.mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return S_ISREG(self.mode) or not S_IFMT(self.mode)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """What the server says of a file system: free bytes and inodes for the user, and whether it takes writes."""

    free: int
    free_inodes: int
    inodes: int
    read_only: bool


class Fields:
    """Reads the fields of an answer one after the other."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def number(self) -> int:
        value: int = _U32.unpack_from(self.data, self.at)[0]
        self.at += 4
        return value

    def long(self) -> int:
        value: int = _U64.unpack_from(self.data, self.at)[0]
        self.at += 8
        return value

    def text(self) -> bytes:
        size = self.number()
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise IndexError
        return self.data[start : self.at]

    def attributes(self) -> Attributes:
        flags = self.number()
        size = self.long() if flags & 0x1 else 0
        self.at += 8 if flags & 0x2 else 0
        mode = self.number() if flags & 0x4 else 0
        mtime = 0
        if flags & 0x8:
            self.at += 4
            mtime = self.number()
        if flags & 0x80000000:
            for _ in range(2 * self.number()):
                self.text()
        return Attributes(size, mode, mtime)


def _status(kind: int, fields: Fields) -> ServerStatus:
    if kind != _STATUS:
        raise struct.error
    code = fields.number()
    text = fields.text().decode("utf-8", "replace") if fields.at < len(fields.data) else ""
    return ServerStatus(code, text)


def _expect(kind: int, fields: Fields, wanted: int) -> None:
    if kind != wanted:
        raise _status(kind, fields)


def done(kind: int, fields: Fields) -> None:
    """Nothing but success."""
    status = _status(kind, fields)
    if status.code != Code.OK:
        raise status


def handle(kind: int, fields: Fields) -> bytes:
    """A handle."""
    _expect(kind, fields, _HANDLE)
    return fields.text()


def data(kind: int, fields: Fields) -> bytes:
    """Content; ``b""`` at the end."""
    if kind == _DATA:
        return fields.text()
    _check_end(kind, fields)
    return b""


def _check_end(kind: int, fields: Fields) -> None:
    status = _status(kind, fields)
    if status.code != Code.EOF:
        raise status


def attributes(kind: int, fields: Fields) -> Attributes:
    """Attributes of a file."""
    _expect(kind, fields, _ATTRS)
    return fields.attributes()


def names(kind: int, fields: Fields) -> list[tuple[bytes, Attributes]] | None:
    """Entries of a folder; ``None`` at the end."""
    if kind != _NAME:
        _check_end(kind, fields)
        return None
    found = []
    for _ in range(fields.number()):
        name = fields.text()
        fields.text()  # the line that "ls -l" would show
        found.append((name, fields.attributes()))
    return found


def file_system(kind: int, fields: Fields) -> FileSystem:
    """OpenSSH's ``statvfs``."""
    _expect(kind, fields, _EXTENDED_REPLY)
    _, unit, _, _, available, inodes, _, free_inodes, _, flags, _ = (fields.long() for _ in range(11))
    return FileSystem(available * unit, free_inodes, inodes, bool(flags & _READ_ONLY))


def four_numbers(kind: int, fields: Fields) -> tuple[int, int, int, int]:
    """OpenSSH's ``limits``."""
    _expect(kind, fields, _EXTENDED_REPLY)
    return fields.long(), fields.long(), fields.long(), fields.long()


def extensions(version: Fields) -> dict[bytes, bytes]:
    """The names and values after the version."""
    found = {}
    version.number()
    while version.at < len(version.data):
        name = version.text()
        found[name] = version.text()
    return found
