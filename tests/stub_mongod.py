"""A stub of ``mongod``, which cannot be had here: its options, in front of a real server of its protocol.

    stub_mongod.py SERVER OPTION...

SERVER listens on TCP only, so what arrives at the socket is passed on.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import threading


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("server")
    for name in ("dbpath", "bind_ip", "unixSocketPrefix", "wiredTigerCacheSizeGB", "setParameter"):
        parser.add_argument(f"--{name}")
    options = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--host", "127.0.0.1", "--port", str(port), "--storage-path", options.dbpath]
    server = subprocess.Popen([options.server, *where, "--cache-size", "64M", "--standalone"])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(options.bind_ip)
    listener.listen()
    threading.Thread(target=accept, args=(listener, port), daemon=True).start()
    server.wait()
    os._exit(0)  # it was asked to end


def accept(listener: socket.socket, port: int) -> None:
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection(("127.0.0.1", port))
        except OSError:  # it is not ready
            client.close()
            continue
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=forward, args=(source, target), daemon=True).start()


def forward(source: socket.socket, target: socket.socket) -> None:
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main())
