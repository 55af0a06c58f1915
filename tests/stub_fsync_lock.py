"""A stub of MongoDB's ``fsyncLock``, which no server that can be had here knows.

It stands in front of a real server, passes everything on, and answers ``fsync`` with ``lock`` and ``fsyncUnlock``
itself, by the wire protocol (OP_MSG). It locks nothing, but counts as MongoDB does.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any, Self

import bson

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013
_BODY = 21  # header, flags, and the kind of the first section


class FsyncLockStub:
    """Listens on a port of its own while the context lasts.

    Attributes:
        calls: ``lock`` and ``unlock``, in order.
        unlocked: set when the last lock is taken away.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.locks = 0
        self.calls: list[str] = []
        self.unlocked = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
                threading.Thread(target=self._answers, args=(server, client), daemon=True).start()
                threading.Thread(target=self._requests, args=(client, server), daemon=True).start()
        except OSError:  # closed
            return

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while message := _message(client):
                reply = self._own(message)
                (client if reply else server).sendall(reply or message)
        except OSError:
            pass
        finally:
            server.close()

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while message := _message(server):
                client.sendall(message)
        except OSError:
            pass
        finally:
            client.close()

    def _own(self, message: bytes) -> bytes | None:
        _, request, _, operation = _HEADER.unpack_from(message)
        if operation != _OP_MSG or message[_BODY - 1]:
            return None
        (size,) = struct.unpack_from("<i", message, _BODY)
        command = bson.decode(message[_BODY : _BODY + size])
        answer = self._answer(command)
        if answer is None:
            return None
        body = b"\0\0\0\0\0" + bson.encode(answer)
        return _HEADER.pack(_HEADER.size + len(body), request + 1, request, _OP_MSG) + body

    def _answer(self, command: dict[str, Any]) -> dict[str, Any] | None:
        name = next(iter(command))
        if name == "fsync" and command.get("lock"):
            self.locks += 1
            self.unlocked.clear()
            self.calls.append("lock")
            return {"info": "now locked against writes", "lockCount": self.locks, "ok": 1.0}
        if name != "fsyncUnlock":
            return None
        if not self.locks:
            message = "fsyncUnlock called when not locked"
            return {"ok": 0.0, "errmsg": message, "code": 20, "codeName": "IllegalOperation"}
        self.locks -= 1
        self.calls.append("unlock")
        if not self.locks:
            self.unlocked.set()
        return {"info": "fsyncUnlock completed", "lockCount": self.locks, "ok": 1.0}


def _message(source: socket.socket) -> bytes:
    """One whole message; nothing at the end."""
    head = _exactly(source, _HEADER.size)
    return head and head + _exactly(source, _HEADER.unpack(head)[0] - _HEADER.size)


def _exactly(source: socket.socket, size: int) -> bytes:
    pieces = b""
    while len(pieces) < size:
        piece = source.recv(size - len(pieces))
        if not piece:
            return b""
        pieces += piece
    return pieces
