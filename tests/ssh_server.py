"""The real OpenSSH server of the tests, and options that let the storage ``sftp`` log in there."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from servers import start, stop

from freezer_sdk.storages.sftp import SftpStorage


@dataclass(frozen=True)
class Sshd:
    """A running server; ``instance`` as in :func:`servers.start`."""

    env: dict[str, str]
    instance: str = ""

    @classmethod
    def start(cls, instance: str = "") -> Sshd:
        return cls(start("sshd", instance=instance), instance)

    def restart(self) -> None:
        """Starts it again on the same port."""
        start("sshd", instance=self.instance)

    def stop(self) -> None:
        """Ends it and all connections, hard."""
        stop("sshd", instance=self.instance)

    def remove(self) -> None:
        """Ends it for good: nothing of this instance stays."""
        self.stop()
        shutil.rmtree(self.folder)
        if self.env["SSH_CHROOT"]:
            shutil.rmtree(self.env["SSH_CHROOT"])

    @property
    def port(self) -> int:
        return int(self.env["SSH_PORT"])

    @property
    def folder(self) -> Path:
        """Where the server keeps its state."""
        return Path(self.env["SSH_LOG"]).parent

    def key(self, name: str = "ed25519") -> str:
        return f"{self.env['SSH_KEYS']}/{name}"

    def options(self, path: object, **others: Any) -> dict[str, Any]:
        """Options of the storage: a key, the known host, no file of the user's own; ``None`` leaves one out."""
        options = {
            "host": self.env["SSH_HOST"],
            "port": self.port,
            "user": self.env["SSH_USER"],
            "path": str(path),
            "identity_file": [self.key()],
            "known_hosts": [self.env["SSH_KNOWN_HOSTS"]],
            "ssh_config": "none",
            "agent": False,
            "timeout": 20.0,
            **others,
        }
        return {name: value for name, value in options.items() if value is not None}

    def storage(self, path: object, **others: Any) -> SftpStorage:
        return SftpStorage(**self.options(path, **others))

    def account(self, path: object, **others: Any) -> dict[str, Any]:
        """Options to log in as the user that may do nothing but SFTP below its own root."""
        if not self.env["SSH_ACCOUNT"]:
            pytest.skip("only root can make an account with a root of its own")
        return self.options(path, user=self.env["SSH_ACCOUNT"], **others)

    def account_folder(self, name: str, *, remove: bool = True) -> Path:
        """Where that user's ``/data/NAME`` lies; removed first unless told otherwise."""
        folder = Path(self.env["SSH_CHROOT"]) / "data" / name
        if remove:
            shutil.rmtree(folder, ignore_errors=True)
        return folder


def descriptors() -> set[str]:
    """What this process has open, by what it is."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue
    return found
