"""FTP servers of a single test, and a scripted one that gives answers which real ones here do not."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from servers import start, stop

from freezer_sdk.storages.ftp import FtpsStorage, FtpStorage


@contextlib.contextmanager
def own_server(service: str, name: str, **variables: str) -> Iterator[dict[str, str]]:
    """A real server that nobody else uses; nothing of it stays."""
    instance = f"{name}-{os.getpid()}"
    env = start(service, instance=instance, **variables)
    try:
        yield env
    finally:
        stop(service, instance=instance)
        folder = Path(env["FTP_FOLDER"]).parent
        shutil.rmtree(Path(env["FTP_LOG"]).parent)
        shutil.rmtree(folder, ignore_errors=True)  # vsftpd's is elsewhere


def storage(env: dict[str, str], folder: str = "", *, tls: bool = False, **others: Any) -> FtpStorage:
    """A storage on a real server."""
    values = {"host": "127.0.0.1", "port": int(env["FTPS_PORT" if tls else "FTP_PORT"]), "user": env["FTP_USER"]}
    values |= {"password": env["FTP_PASSWORD"], "path": f"{env['FTP_PATH'].rstrip('/')}/{folder}", "timeout": 10.0}
    values |= {"ca_file": env["FTP_CA"]} if tls else {}
    return (FtpsStorage if tls else FtpStorage)(**(values | others))


class ScriptedServer:
    """Speaks just enough FTP for one file, ``/there`` with the content ``whole``; ``answers`` replace what it says.

    Args:
        answers: for a command, or the beginning of one with its argument: text of the reply, with line ends, or a
            function of the connection and the command's argument that writes what it likes. May be changed later.
    """

    content = b"whole"

    def __init__(self, answers: dict[str, str | Callable[[socket.socket, str], None]]) -> None:
        self.answers = {
            "": "220 ready\r\n",
            "USER": "331 password\r\n",
            "PASS": "230 in\r\n",
            "FEAT": "211-Features:\r\n SIZE\r\n MDTM\r\n211 End\r\n",
            "TYPE": "200 binary\r\n",
            "CWD": "250 there\r\n",
            "STAT": "502 no\r\n",
            "PASV": self._pasv,
            "LIST": lambda control, _: self._send(control, self.listing()),
            "RETR": lambda control, _: self._send(control, self.content),
            "SIZE /there": f"213 {len(self.content)}\r\n",
            "MDTM": "213 20260102030405\r\n",
            "QUIT": "221 bye\r\n",
            **answers,
        }
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.commands: list[str] = []
        self.batches: list[bytes] = []
        self._data: socket.socket | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._data is not None:
            self._data.close()

    def listing(self) -> bytes:
        """What LIST gives."""
        return b"-rw-r--r-- 1 u g 5 Jan  2 03:04 there\r\n"

    def storage(self, **others: Any) -> FtpStorage:
        """A storage that goes there."""
        values = {"host": "127.0.0.1", "port": self.port, "user": "u", "password": "canary", "timeout": 1.0}
        return FtpStorage(**(values | {"connections": 1} | others))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                control, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(control,), daemon=True).start()

    def _serve(self, control: socket.socket) -> None:
        with control, contextlib.suppress(OSError):
            self._answer(control, "")
            pending = b""
            while piece := control.recv(65536):
                self.batches.append(piece)
                pending += piece
                while b"\r\n" in pending:
                    line, _, pending = pending.partition(b"\r\n")
                    self._answer(control, line.decode())

    def _answer(self, control: socket.socket, line: str) -> None:
        self.commands.append(line)
        found = max((key for key in self.answers if line.startswith(key) and (key or not line)), default=None, key=len)
        answer = "550 no\r\n" if found is None else self.answers[found]
        if callable(answer):
            answer(control, line.partition(" ")[2])
        else:
            control.sendall(answer.encode("utf-8", "surrogateescape"))

    def _pasv(self, control: socket.socket, _: str) -> None:
        if self._data is not None:
            self._data.close()
        self._data = socket.create_server(("127.0.0.1", 0))
        port = self._data.getsockname()[1]
        control.sendall(f"227 Entering Passive Mode (192,0,2,1,{port // 256},{port % 256}).\r\n".encode())

    def _send(self, control: socket.socket, content: bytes, ending: str = "226 done\r\n") -> None:
        assert self._data is not None
        control.sendall(b"150 here it comes\r\n")
        data, _ = self._data.accept()
        with data:
            data.sendall(content)
        control.sendall(ending.encode())

    def sends(self, content: bytes, ending: str = "226 done\r\n") -> Callable[[socket.socket, str], None]:
        """An answer that sends something over the data connection."""
        return lambda control, _: self._send(control, content, ending)
