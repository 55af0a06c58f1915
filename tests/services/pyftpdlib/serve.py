"""serve.py FOLDER PLAIN-PORT TLS-PORT [OPTION...]: FTP servers on loopback, over one folder.

Users: ``writer`` may do everything, ``reader`` may only read, ``adder`` may neither delete nor rename, and
``anonymous`` is another reader. FOLDER holds what is served (``data``), the password
(``password``) and the certificate (``tls``).

Options: ``max-connections=N``; ``no-replace``: renaming over a file is refused; ``no-mlsd``, ``no-stat``: the server
does not know these commands; ``full``: no more than 1 MiB can be written to a file.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import FTPHandler, TLS_FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

EVERYTHING, READING, ADDING = "elradfmwMT", "elr", "elmw"


class NoReplace(AbstractedFS):
    """As on Windows."""

    def rename(self, src: str, dst: str) -> None:
        if os.path.lexists(dst):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        super().rename(src, dst)


class Full(AbstractedFS):
    """A disk with room for small files only."""

    def open(self, filename: str, mode: str):
        file = super().open(filename, mode)
        if "r" not in mode:
            write = file.write

            def limited(data: bytes) -> int:
                if file.tell() + len(data) > 1 << 20:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return write(data)

            return Wrapped(file, limited)
        return file


class Wrapped:
    """A file whose writing is another function."""

    def __init__(self, file, write) -> None:
        self._file = file
        self.write = write

    def __getattr__(self, name: str):
        return getattr(self._file, name)


def main(folder: Path, plain: int, tls: int, options: list[str]) -> None:
    """Serves until it is killed."""
    authorizer = DummyAuthorizer()
    password, data = (folder / "password").read_text().strip(), str(folder / "data")
    for user, permissions in (("writer", EVERYTHING), ("reader", READING), ("adder", ADDING)):
        authorizer.add_user(user, password, data, perm=permissions)
    authorizer.add_anonymous(data)
    settings: dict[str, object] = {"authorizer": authorizer, "masquerade_address": "192.0.2.1", "use_sendfile": False}
    kinds = [kind for option, kind in (("no-replace", NoReplace), ("full", Full)) if option in options]
    if kinds:
        settings["abstracted_fs"] = type("Files", tuple(kinds), {})
    hidden = {f"no-{name.lower()}": (name, *more) for name, more in (("MLSD", ("MLST",)), ("STAT", ()))}
    gone = {name for option in options for name in hidden.get(option, ())}
    settings["proto_cmds"] = {name: value for name, value in FTPHandler.proto_cmds.items() if name not in gone}
    secured = {**settings, "certfile": str(folder / "tls/chain.pem"), "keyfile": str(folder / "tls/server.key")}
    secured["proto_cmds"] = {**TLS_FTPHandler.proto_cmds}
    for name in gone:
        secured["proto_cmds"].pop(name)
    secured |= {"tls_control_required": True, "tls_data_required": True}
    loop = IOLoop()
    for host in ("127.0.0.1", "::1"):
        for port, kind, values in ((plain, FTPHandler, settings), (tls, TLS_FTPHandler, secured)):
            with contextlib.nullcontext() if host == "127.0.0.1" else contextlib.suppress(OSError):  # IPv6 may be off
                server = FTPServer((host, port), type("Handler", (kind,), values), ioloop=loop, backlog=100)
                for option in options:
                    if option.startswith("max-connections="):
                        server.max_cons = int(option.partition("=")[2])
    loop.loop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
