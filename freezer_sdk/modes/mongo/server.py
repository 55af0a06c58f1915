"""What is asked of a server before it is backed up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freezer_sdk.errors import ConfigurationError, SourceError, SourceUnreadable
from freezer_sdk.modes.mongo.settings import Member, Settings

_ENGINE = "wiredTiger"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server, as it described itself.

    Attributes:
        role: ``primary``, ``secondary``, ``standalone``, ``router``, or ``other``.
        position: of the last operation in the oplog, ``{"time": seconds, "increment": number}``.
        options: what it was started with, as far as it tells.
    """

    version: str
    engine: str
    role: str
    replica_set: str | None
    me: str | None
    primary: str | None
    position: dict[str, int] | None
    pid: int | None
    options: dict[str, Any]

    @classmethod
    def of(cls, client: Any) -> Server:
        """Asks it; the account needs to be its monitor.

        Raises:
            pymongo.errors.PyMongoError.
        """
        hello = client.admin.command("hello")
        status = client.admin.command("serverStatus")
        parsed = client.admin.command("getCmdLineOpts").get("parsed", {})
        last = hello.get("lastWrite", {}).get("opTime", {})
        stamp = last.get("ts") if isinstance(last, dict) else None
        return cls(
            version=status["version"],
            engine=status.get("storageEngine", {}).get("name", "unknown"),
            role=_role(hello),
            replica_set=hello.get("setName"),
            me=hello.get("me"),
            primary=hello.get("primary"),
            position=None if stamp is None else {"time": stamp.time, "increment": stamp.inc},
            pid=int(status["pid"]) if "pid" in status else None,
            options=parsed,
        )

    def facts(self, strategy: str) -> dict[str, Any]:
        """For the record."""
        return {
            "strategy": str(strategy),
            "server_version": self.version,
            "engine": self.engine,
            "role": self.role,
            "replica_set": self.replica_set,
            "member": self.me,
            "primary": self.primary,
            "oplog": self.position,
        }

    def check_member(self, wanted: Member) -> None:
        """Whether this member of the replica set is to be backed up.

        Raises:
            SourceError: it is not.
        """
        roles = {"primary", "standalone", "router"} if wanted is Member.PRIMARY else {str(wanted)}
        if wanted is not Member.ANY and self.role not in roles:
            raise SourceError(
                f"this server is a {self.role} of the replica set {self.replica_set!r}, "
                f"not a {wanted}: nothing is backed up",
                hint=f"the primary is {self.primary or 'not known'}; the option member says which members may be",
            )

    def data_path(self, settings: Settings) -> Path:
        """The data directory, without symbolic links.

        Raises:
            SourceError: it is not on this machine, cannot be read, or is no directory that a snapshot can be made of.
        """
        if self.role == "router":
            raise SourceError("this is a router of a sharded cluster", hint="back up its shards and config servers")
        if self.engine != _ENGINE:
            raise SourceError(f"the storage engine {self.engine!r} has no files that a snapshot could be made of")
        storage = self.options.get("storage", {})
        if storage.get("journal", {}).get("enabled") is False and not settings.fsync_lock:
            raise SourceError("the server runs without a journal", hint="switch it on, or use fsync_lock")
        told = settings.data_path or storage.get("dbPath")
        if told is None:
            raise ConfigurationError("the server does not tell its dbPath", hint="set data_path")
        directory = Path(os.path.realpath(told))
        try:
            found = (directory / "WiredTiger").is_file() and os.listdir(directory)
        except OSError as error:
            raise SourceUnreadable(f"the data directory {directory} cannot be read: {error.strerror}") from error
        if not found:
            raise SourceUnreadable(
                f"not a data directory of MongoDB: {directory}",
                hint="run where the server runs, as root or as its user; in a container: set data_path",
            )
        if settings.data_path is None and not self._has_open(directory):
            raise SourceError(
                f"the server does not use {directory} of this machine",
                hint="run where the server runs; set data_path where it is in a container",
            )
        return directory

    def _has_open(self, directory: Path) -> bool:
        """Whether the server's process on this machine has a file of the directory open."""
        try:
            descriptors = list(Path(f"/proc/{self.pid}/fd").iterdir())
        except OSError:
            return False
        for each in descriptors:
            try:
                if each.readlink().is_relative_to(directory):
                    return True
            except OSError:  # closed by now
                continue
        return False


def _role(hello: dict[str, Any]) -> str:
    if hello.get("msg") == "isdbgrid":
        return "router"
    if "setName" not in hello:
        return "standalone"
    if hello.get("isWritablePrimary", hello.get("ismaster")):
        return "primary"
    return "secondary" if hello.get("secondary") else "other"
