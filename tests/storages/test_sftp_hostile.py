"""The storage ``sftp`` against a server that breaks the rules; paramiko's own server makes that easy."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading

import paramiko
import pytest

from freezer_sdk.errors import StorageUnavailable
from freezer_sdk.storages.sftp import SftpStorage

CONTENT = bytes(range(256)) * 4


class Everybody(paramiko.ServerInterface):
    """Lets everybody in."""

    def check_auth_password(self, username, password):
        return paramiko.AUTH_SUCCESSFUL

    def check_channel_request(self, kind, chanid):
        return paramiko.OPEN_SUCCEEDED


class Generous(paramiko.SFTPHandle):
    """Answers a read with more than was asked for."""

    def read(self, offset, length):
        return CONTENT[offset : offset + length + 7]

    def stat(self):
        return attributes()


class OneFile(paramiko.SFTPServerInterface):
    """The same file under every name."""

    def open(self, path, flags, attr):
        return Generous(flags)

    def lstat(self, path):
        return attributes()


def attributes():
    found = paramiko.SFTPAttributes()
    found.st_size, found.st_mode, found.st_mtime, found.st_atime = len(CONTENT), 0o100600, 0, 0
    return found


@pytest.fixture
def options():
    key = paramiko.ECDSAKey.generate()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transports = []

        def serve():
            connection, _ = listener.accept()
            transports.append(transport := paramiko.Transport(connection))
            transport.add_server_key(key)
            transport.set_subsystem_handler("sftp", paramiko.SFTPServer, OneFile)
            transport.start_server(server=Everybody())

        thread = threading.Thread(target=serve)
        thread.start()
        shown = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        yield {
            "host": "127.0.0.1",
            "port": listener.getsockname()[1],
            "path": "/",
            "user": "u",
            "password": "p",
            "host_key": f"SHA256:{shown}",
            "ssh_config": "none",
            "agent": False,
            "connections": 1,
            "timeout": 10.0,
        }
        thread.join()
        for transport in transports:
            transport.close()
            transport.join()


def test_more_than_was_asked_for_is_no_content(options):
    with SftpStorage(**options) as storage, pytest.raises(StorageUnavailable, match="more than was asked for"):
        storage.get("x", offset=1, length=10)
