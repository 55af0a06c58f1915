"""Data connections of :mod:`freezer_sdk.storages.ftp`: nothing counts before the server's last reply."""

from __future__ import annotations

import contextlib
import ftplib
import selectors
import socket
import ssl
import time
from collections.abc import Iterator

from freezer_sdk.model import Buffer
from freezer_sdk.storages._ftp import PROTOCOL_ERRORS, Connection
from freezer_sdk.storages.base import TRAFFIC_BLOCK, Traffic


class _Transfer:
    """A data connection on its way."""

    def __init__(self, connection: Connection, data: socket.socket) -> None:
        self._connection = connection
        self._data = data
        self._over = False
        self._broken = False

    def close(self) -> None:
        """Gives up, unless it ended; the connection can be used again if the server still answers."""
        if self._over:
            return
        self._over = True
        self._data.close()
        with contextlib.suppress(*PROTOCOL_ERRORS), self._connection.patience():
            self._connection.getresp()  # whatever it says

    @contextlib.contextmanager
    def _moving(self) -> Iterator[None]:
        """The body sends or receives: where the server broke the connection off, its reply says why."""
        try:
            yield
        except (ConnectionError, ssl.SSLError):
            self._over = self._broken = True
            self._data.close()
            with self._connection.patience():
                self._connection.voidresp()
            raise

    def _conclude(self) -> None:
        """Waits for the reply that tells how it went.

        Raises:
            ftplib.Error, OSError, EOFError: it did not go well, or nobody knows.
        """
        self._over = self._broken = True
        try:
            self._connection.voidresp()
        finally:
            self._data.close()
        self._broken = False

    @staticmethod
    def _seal(data: ssl.SSLSocket) -> None:
        """Sends TLS's own end of data; the server's is not waited for, as some never send it."""
        timeout = data.gettimeout()
        data.settimeout(0)
        try:
            while True:
                try:
                    data.unwrap()
                    return
                except ssl.SSLWantWriteError:
                    with selectors.DefaultSelector() as selector:
                        selector.register(data, selectors.EVENT_WRITE)
                        if not selector.select(timeout):
                            raise TimeoutError from None
                except (ssl.SSLWantReadError, ssl.SSLEOFError):
                    return  # it is sent
        finally:
            data.settimeout(timeout)


class Incoming(_Transfer):
    """What the server sends.

    Attributes:
        announced: size of the whole file, as far as the server said.
        count: bytes that came.
        sealed: the end was marked as such, by TLS; otherwise a broken connection looks the same.
    """

    def __init__(
        self, connection: Connection, command: str, traffic: Traffic | None = None, *, offset: int = 0
    ) -> None:
        data, self.announced = connection.transfer(command, offset=offset)
        super().__init__(connection, data)
        self._traffic = traffic
        self.count = 0
        self.sealed = False

    def read_into(self, block: memoryview) -> int:
        """Fills the beginning of a block; 0 at the end, when the server says that it sent all it had.

        Raises:
            ftplib.Error, OSError, EOFError: it did not send all.
        """
        if self._broken:
            raise EOFError
        if self._over:
            return 0
        with self._moving():
            size = self._receive(block[:TRAFFIC_BLOCK])
        if not size:
            self._answer_end()
            self._conclude()
            return 0
        self._connection.moved = time.monotonic()
        self.count += size
        if self._traffic is not None:
            self._traffic.received(size)
        return size

    def _answer_end(self) -> None:
        """Marks our end as well, and closes: vsftpd waits for one of both before it says how it went."""
        with contextlib.suppress(OSError):  # all that was to come is here, or the size will tell
            if isinstance(self._data, ssl.SSLSocket):
                self._seal(self._data)
        self._data.close()

    def _receive(self, block: memoryview) -> int:
        try:
            size = self._data.recv_into(block)
        except ssl.SSLEOFError:
            return 0  # not sealed: the caller has to compare the size
        self.sealed = not size and isinstance(self._data, ssl.SSLSocket)
        return size


class Outgoing(_Transfer):
    """A new file on the server, or an old one anew.

    Attributes:
        count: bytes that went out.
    """

    def __init__(self, connection: Connection, path: str, traffic: Traffic) -> None:
        data, _ = connection.transfer(f"STOR {path}")
        super().__init__(connection, data)
        self._traffic = traffic
        self.count = 0

    def write(self, content: Buffer) -> None:
        """Sends bytes.

        Raises:
            ftplib.Error, OSError, EOFError.
        """
        view = memoryview(content).cast("B")
        for start in range(0, len(view), TRAFFIC_BLOCK):
            block = view[start : start + TRAFFIC_BLOCK]
            self._traffic.sent(len(block))
            with self._moving():
                self._send(block)
            self.count += len(block)

    def finish(self) -> None:
        """Marks the end, and waits until the server has it.

        Raises:
            ftplib.Error, OSError, EOFError: it may not have all.
        """
        with self._moving():
            if isinstance(self._data, ssl.SSLSocket):
                self._seal(self._data)
            with contextlib.suppress(OSError):  # the server may have closed already: its reply tells
                self._data.shutdown(socket.SHUT_WR)
        self._conclude()  # only then close: unread TLS tickets would make it a reset, which destroys what is on its way

    def _send(self, block: memoryview) -> None:
        while block:  # not sendall: its timeout is for all of it
            block = block[self._data.send(block) :]
            self._connection.moved = time.monotonic()


def read_lines(connection: Connection, command: str) -> tuple[list[str], bool]:
    """The lines of a listing, and whether their end is certain.

    Raises:
        ftplib.Error, OSError, EOFError: it is not complete.
    """
    incoming = Incoming(connection, command)
    block = memoryview(bytearray(TRAFFIC_BLOCK))
    content = bytearray()
    try:
        while size := incoming.read_into(block):
            content += block[:size]
    finally:
        incoming.close()
    if content and not content.endswith(b"\n"):
        raise ConnectionError("the listing ends within a line")
    lines = [line.removesuffix(b"\r") for line in bytes(content).split(b"\n")[:-1]]
    if "truncated" in connection.reply.lower():  # Pure-FTPd at its limit
        raise ftplib.error_proto(connection.reply)
    return [line.decode("utf-8", "surrogateescape") for line in lines], incoming.sealed
