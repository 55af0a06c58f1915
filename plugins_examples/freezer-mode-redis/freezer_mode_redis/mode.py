"""Mode ``redis``: has a server of Redis write a point-in-time dump, and streams it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from freezer_sdk.errors import ConfigurationError, RestoreConflict, RestoreError, SourceError, SourceUnreadable
from freezer_sdk.model import JSON, RestoreResult
from freezer_sdk.modes.base import SERVER, Mode, Protected, Restorer, SnapshotMaker, Stream
from freezer_sdk.options import Option
from freezer_sdk.streams.process import open_descriptor

if TYPE_CHECKING:
    from redis import Redis

DUMP = "dump.rdb"
_APPEND_ONLY = ("appendonlydir", "appendonly.aof")  # of Redis 7, and of those before
_POLL = 0.1
_BUSY = ("in progress", "child process")  # another save, or a rewrite of the append-only file


class RedisMode(Mode):
    """All databases of one server of Redis, as of the moment that it began its dump. Nobody is locked out meanwhile.

    Args:
        host, port: of the server.
        socket: its Unix socket, in place of host and port.
        username, password: of a user of Redis.
        tls: speak TLS.
        file: the dump, where the user may not ask the server for it.
        timeout: seconds to wait for an answer.
        save_timeout: seconds to wait for the dump.
    """

    name = "redis"
    api_version = 1
    summary = "a server of Redis: a point-in-time dump of all its databases"
    options = (
        Option(name="host", default="127.0.0.1", help="Host of the server."),
        Option(name="port", type="int", default=6379, help="Port of the server."),
        Option(name="socket", type="path", help="Unix socket of the server, in place of host and port."),
        Option(name="username", help="User of Redis; without one it is the default user."),
        Option(name="password", secret=True, env=("REDISCLI_AUTH",), help="Password of that user."),
        Option(name="tls", type="bool", default=False, help="Speak TLS with the server."),
        Option(name="file", type="path", help="Where the server writes its dump; by default it is asked."),
        Option(name="timeout", type="duration", default=30.0, help="Longest wait for an answer, in seconds."),
        Option(name="save_timeout", type="duration", default=3600.0, help="Longest wait for the dump, in seconds."),
    )

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 6379,
        socket: str | None = None,
        username: str | None = None,
        password: str | None = None,
        tls: bool = False,
        file: str | None = None,
        timeout: float = 30.0,
        save_timeout: float = 3600.0,
    ) -> None:
        self._place = f"Redis at {socket or f'{host}:{port}'}"
        self._login: dict[str, Any] = {"username": username, "password": password, "socket_timeout": timeout}
        self._login |= {"unix_socket_path": socket} if socket else {"host": host, "port": port, "ssl": tls}
        self._file = file
        self._save_timeout = save_timeout

    @classmethod
    def available(cls) -> str | None:
        """``None`` when the library is installed, else what to install."""
        return None if find_spec("redis") else "the library is missing: pip install redis"

    def default_name(self) -> str:
        """There is one kind of thing to back up."""
        return "redis"

    @contextmanager
    def protect(self, *, snapshots: SnapshotMaker | None = None) -> Iterator[Protected]:
        """Has the server write its dump, and hands it over.

        The file is opened at once: whatever dump the server writes next, this one is read.

        Raises:
            SourceError: the server cannot be asked, or did not write its dump.
        """
        with self._connected() as client:
            self._save(client)
            path = Path(self._file or self._ask_for_file(client))
            facts = self._facts(client)
        try:
            file = path.open("rb")
        except OSError as error:
            hint = "the mode runs where the server does, and needs to read its folder; see the option file"
            raise SourceUnreadable(f"cannot read {path}: {error.strerror}", hint=hint) from error
        with file:
            info = os.fstat(file.fileno())
            dump = Stream(
                name=DUMP,
                open=partial(open_descriptor, file.fileno()),
                size=info.st_size,
                mtime_ns=info.st_mtime_ns,
            )
            yield Protected(sources=[dump], facts={"redis": facts})

    def restore(self, restorer: Restorer, target: str) -> RestoreResult:
        """Puts the dump into the data folder of a server that does not run.

        Raises:
            ConfigurationError: the target is a running server, which takes no dumps.
            RestoreConflict: the server would read its append-only file in place of the dump.
            RestoreError: the dump could not be written, or not be given to the server's user.
        """
        if target == SERVER:
            raise ConfigurationError("a running server takes no dump", hint="stop it, and restore into its data folder")
        found = [name for name in _APPEND_ONLY if Path(target, name).exists()]
        if found and not restorer.options.force:
            raise RestoreConflict(
                f"{target} holds {found[0]}, which the server would read in place of the dump",
                hint="move it away; after the start, CONFIG SET appendonly yes writes a new one",
            )
        result = restorer.files(target)
        dump = Path(target, DUMP)
        if not restorer.options.dry_run and os.geteuid() == 0 and dump.exists():
            owner = Path(target).stat()
            try:
                os.chown(dump, owner.st_uid, owner.st_gid)  # else a server that is not root could not read it
            except OSError as error:
                raise RestoreError(f"cannot give {dump} to the owner of its folder: {error.strerror}") from error
        return result

    @contextmanager
    def _connected(self) -> Iterator[Redis]:
        """A client; what goes wrong with it is told as an error of this library."""
        from redis import Redis
        from redis.exceptions import RedisError

        client = Redis(**self._login, decode_responses=True)
        try:
            yield client
        except RedisError as error:
            raise SourceError(f"{self._place}: {error}") from error
        finally:
            client.close()

    def _save(self, client: Redis) -> None:
        """A dump that began after this call."""
        deadline = time.monotonic() + self._save_timeout
        while True:
            if not self._saving(client):
                with _unless_busy():
                    client.bgsave(schedule=False)
                    break
            self._pause(deadline)
        while self._saving(client):
            self._pause(deadline)
        status = client.info("persistence")["rdb_last_bgsave_status"]
        if status != "ok":
            raise SourceError(f"{self._place} could not write its dump", hint="its log says why")

    def _saving(self, client: Redis) -> bool:
        return bool(client.info("persistence")["rdb_bgsave_in_progress"])

    def _pause(self, deadline: float) -> None:
        if time.monotonic() > deadline:
            raise SourceError(f"{self._place} did not write its dump within {self._save_timeout:g} seconds")
        time.sleep(_POLL)

    def _ask_for_file(self, client: Redis) -> str:
        return os.path.join(client.config_get("dir")["dir"], client.config_get("dbfilename")["dbfilename"])

    def _facts(self, client: Redis) -> JSON:
        info = client.info()
        keys = client.info("keyspace")
        return {
            "version": info["redis_version"],
            "saved": info["rdb_last_save_time"],
            "replication_id": info["master_replid"],
            "replication_offset": info["master_repl_offset"],
            "keys": {database: keys[database]["keys"] for database in sorted(keys)},
        }


@contextmanager
def _unless_busy() -> Iterator[None]:
    """Passes over the refusal of a server that is about to fork for somebody else."""
    from redis.exceptions import ResponseError

    try:
        yield
    except ResponseError as error:
        if not any(word in str(error) for word in _BUSY):
            raise
