"""The client's side of SFTP version 3 (draft-ietf-secsh-filexfer-02) with OpenSSH's extensions, on one SSH channel.

Requests are sent at once and answered later, so that many of them share a round trip. Answers keep the server's status,
which paramiko's own client reduces to a text, and the server's extensions are known.
"""

from __future__ import annotations

import struct
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from freezer_sdk.storages import _sftp_answers as answers
from freezer_sdk.storages._sftp_answers import Attributes, Fields, FileSystem, ServerStatus

T = TypeVar("T")

READ, WRITE, CREATE, EXCLUSIVE = 0x01, 0x02, 0x08, 0x20
"""Flags of :meth:`Session.open`."""

HARDLINK = b"hardlink@openssh.com"
POSIX_RENAME = b"posix-rename@openssh.com"
FSYNC = b"fsync@openssh.com"
STATVFS = b"statvfs@openssh.com"
LIMITS = b"limits@openssh.com"

_INIT, _VERSION, _OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT = 1, 2, 3, 4, 5, 6, 7, 8
_OPENDIR, _READDIR, _REMOVE, _MKDIR, _RMDIR, _REALPATH, _STAT, _RENAME = 11, 12, 13, 14, 15, 16, 17, 18
_EXTENDED = 200

_PROTOCOL = 3
_SAFE_BLOCK = 32 << 10  # what every server must take
_LARGEST_BLOCK = 256 << 10
_LARGEST_PACKET = 1 << 20
_RECEIVE = 4 << 20
_SEND_AT = 32 << 10
_PACKET = (32 << 10) - 64
"""Of SSH: no server takes more at once, and paramiko keeps this much for itself."""

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


class ConnectionLost(Exception):
    """The connection has ended, is silent for too long, or carries garbage; nothing more can be asked on it."""


class NoSftp(Exception):
    """What answers is no SFTP server."""


class Channel(Protocol):
    """What is needed of an SSH channel; ``recv`` and ``send`` raise ``TimeoutError`` after some silence."""

    def recv(self, nbytes: int, /) -> bytes:
        """Some bytes; ``b""``: it has ended."""

    def send(self, s: bytes, /) -> int:
        """Sends some of it, and tells how much; 0: it has ended."""


class Pending(Generic[T]):
    """An answer that may be still on its way; drop it when it does not matter."""

    __slots__ = ("__weakref__", "_parse", "_session", "answer")

    def __init__(self, session: Session, parse: Callable[[int, Fields], T]) -> None:
        self._session = session
        self._parse = parse
        self.answer: tuple[int, bytes] | None = None

    def result(self) -> T:
        """Waits for the answer.

        Raises:
            ServerStatus: it is a refusal.
            ConnectionLost: it will not come.
        """
        while self.answer is None:
            self._session.receive()
        kind, content = self.answer
        try:
            return self._parse(kind, Fields(content, 4))
        except (struct.error, IndexError):
            raise self._session.lost("the server sent an answer that makes no sense") from None


class Session:
    """SFTP on one channel, for one thread at a time.

    Args:
        channel: the ``sftp`` subsystem runs on it.

    Attributes:
        block: the most bytes of one read or write.
        broken: nothing more can be asked.

    Raises:
        NoSftp: something else answers.
        ConnectionLost: nothing does.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._out = bytearray()
        self._in = bytearray()
        self._next = 0
        self._waiting: weakref.WeakValueDictionary[int, Pending[object]] = weakref.WeakValueDictionary()
        self.broken = False
        self.block = _SAFE_BLOCK
        self._extensions = self._negotiate()
        if LIMITS in self._extensions:
            self._ask_limits()

    def has(self, extension: bytes) -> bool:
        """Whether the server announced this extension."""
        return extension in self._extensions

    # Requests: each gives an answer that may be waited for later; they are done in this order.

    def open(self, path: bytes, flags: int, *, mode: int = 0o600) -> Pending[bytes]:
        """A handle of a file; ``mode`` is that of a new one."""
        return self._ask(_OPEN, answers.handle, _text(path), _U32.pack(flags), _mode(mode))

    def close(self, handle: bytes) -> Pending[None]:
        """Closes a handle."""
        return self._ask(_CLOSE, answers.done, _text(handle))

    def read(self, handle: bytes, offset: int, size: int) -> Pending[bytes]:
        """At most ``size`` bytes from there; ``b""`` at the end."""
        return self._ask(_READ, answers.data, _text(handle), _U64.pack(offset), _U32.pack(size))

    def write(self, handle: bytes, offset: int, data: bytes | bytearray | memoryview) -> Pending[None]:
        """Writes at most :attr:`block` bytes."""
        return self._ask(_WRITE, answers.done, _text(handle), _U64.pack(offset), _U32.pack(len(data)), data)

    def fsync(self, handle: bytes) -> Pending[None]:
        """Makes a file, or on most servers a folder, durable."""
        return self._ask(_EXTENDED, answers.done, _text(FSYNC), _text(handle))

    def fstat(self, handle: bytes) -> Pending[Attributes]:
        """Attributes of an open file."""
        return self._ask(_FSTAT, answers.attributes, _text(handle))

    def stat(self, path: bytes) -> Pending[Attributes]:
        """Attributes of what a path leads to."""
        return self._ask(_STAT, answers.attributes, _text(path))

    def lstat(self, path: bytes) -> Pending[Attributes]:
        """Attributes of what has this path, which may be a link."""
        return self._ask(_LSTAT, answers.attributes, _text(path))

    def opendir(self, path: bytes) -> Pending[bytes]:
        """A handle of a folder."""
        return self._ask(_OPENDIR, answers.handle, _text(path))

    def readdir(self, handle: bytes) -> Pending[list[tuple[bytes, Attributes]] | None]:
        """Some entries of a folder; ``None`` at the end."""
        return self._ask(_READDIR, answers.names, _text(handle))

    def mkdir(self, path: bytes) -> Pending[None]:
        """Makes a folder for this user only."""
        return self._ask(_MKDIR, answers.done, _text(path), _mode(0o700))

    def rmdir(self, path: bytes) -> Pending[None]:
        """Removes an empty folder."""
        return self._ask(_RMDIR, answers.done, _text(path))

    def remove(self, path: bytes) -> Pending[None]:
        """Removes a file."""
        return self._ask(_REMOVE, answers.done, _text(path))

    def rename(self, old: bytes, new: bytes) -> Pending[None]:
        """Renames; what happens to an existing file is the server's affair, OpenSSH refuses."""
        return self._ask(_RENAME, answers.done, _text(old), _text(new))

    def posix_rename(self, old: bytes, new: bytes) -> Pending[None]:
        """Renames, and replaces an existing file atomically."""
        return self._ask(_EXTENDED, answers.done, _text(POSIX_RENAME), _text(old), _text(new))

    def hardlink(self, old: bytes, new: bytes) -> Pending[None]:
        """Gives a file a second name, which must be free."""
        return self._ask(_EXTENDED, answers.done, _text(HARDLINK), _text(old), _text(new))

    def statvfs(self, path: bytes) -> Pending[FileSystem]:
        """The file system below a path."""
        return self._ask(_EXTENDED, answers.file_system, _text(STATVFS), _text(path))

    def ping(self) -> Pending[None]:
        """Any answer will do."""
        return self._ask(_REALPATH, lambda kind, fields: None, _text(b"."))

    # The wire

    def flush(self) -> None:
        """Sends what was asked so far.

        Raises:
            ConnectionLost: it does not go out.
        """
        if not self._out:
            return
        out, self._out = self._out, bytearray()
        whole, self.broken = self.broken, True  # so it is if the sending is torn, by whatever
        try:
            with memoryview(out) as view:
                at = 0
                while at < len(view):  # sendall() would copy the rest again for each packet
                    sent = self._channel.send(bytes(view[at : at + _PACKET]))
                    if not sent:
                        raise EOFError
                    at += sent
        except TimeoutError:
            raise ConnectionLost("the server takes nothing any more") from None
        except Exception as error:  # paramiko raises what its threads met
            raise ConnectionLost(_reason(error)) from error
        self.broken = whole

    def receive(self) -> None:
        """Waits for something, and hands every whole answer to who asked for it.

        Raises:
            ConnectionLost: nothing came in time, or nothing will come.
        """
        if self.broken:
            raise ConnectionLost("the connection was lost")
        self._fetch()
        try:
            for kind, content in self._packets():
                pending = self._waiting.pop(_U32.unpack_from(content)[0], None)
                if pending is not None:
                    pending.answer = kind, content
        except NoSftp as error:
            raise self.lost(str(error)) from None

    def lost(self, reason: str) -> ConnectionLost:
        """The error to raise, after which the session is not used any more."""
        self.broken = True
        return ConnectionLost(reason)

    def _ask(self, kind: int, parse: Callable[[int, Fields], T], *fields: bytes | bytearray | memoryview) -> Pending[T]:
        if self.broken:
            raise ConnectionLost("the connection was lost")
        self._next = number = (self._next + 1) & 0xFFFFFFFF
        pending = Pending(self, parse)
        self._waiting[number] = pending  # type: ignore[assignment]  # whatever its answer is made of
        self._out += struct.pack(">IBI", sum(map(len, fields)) + 5, kind, number)
        for field in fields:
            self._out += field
        if len(self._out) >= _SEND_AT:
            self.flush()
        return pending

    def _fetch(self) -> None:
        self.flush()
        try:
            data = self._channel.recv(_RECEIVE)
        except TimeoutError:
            raise self.lost("the server does not answer") from None
        except Exception as error:  # paramiko raises what its threads met
            raise self.lost(_reason(error)) from error
        if not data:
            raise self.lost("the server closed the connection")
        self._in += data

    def _packets(self) -> list[tuple[int, bytes]]:
        """Takes the whole packets out of what has come."""
        found = []
        data, start = self._in, 0
        while len(data) - start >= 5:
            size = _U32.unpack_from(data, start)[0]
            if not 5 <= size <= _LARGEST_PACKET:
                raise NoSftp(_garbage(bytes(data[start : start + 80])))
            if len(data) - start < 4 + size:
                break
            kind, content = data[start + 4], bytes(memoryview(data)[start + 5 : start + 4 + size])
            start += 4 + size
            found.append((kind, content))
        del data[:start]
        return found

    def _negotiate(self) -> dict[bytes, bytes]:
        self._out += struct.pack(">IBI", 5, _INIT, _PROTOCOL)
        while True:
            self._fetch()
            for kind, content in self._packets():
                try:
                    if kind == _VERSION:
                        return answers.extensions(Fields(content))
                except (struct.error, IndexError):
                    pass
                raise NoSftp("the server does not speak SFTP")

    def _ask_limits(self) -> None:
        try:
            _packet, read, write, _handles = self._ask(_EXTENDED, answers.four_numbers, _text(LIMITS)).result()
        except ServerStatus:
            return
        self.block = max(_SAFE_BLOCK, min(read or _SAFE_BLOCK, write or _SAFE_BLOCK, _LARGEST_BLOCK))


def _text(value: bytes) -> bytes:
    return _U32.pack(len(value)) + value


def _mode(mode: int) -> bytes:
    return struct.pack(">II", 0x4, mode)


def _garbage(data: bytes) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in data[:80].decode("ascii", "replace")).strip()
    return f"the server sends something else than SFTP, perhaps what a login script prints: {shown!r}"


def _reason(error: Exception) -> str:
    return str(error) or f"the connection was lost ({type(error).__name__})"
