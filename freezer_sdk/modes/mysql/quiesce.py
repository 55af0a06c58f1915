"""Nothing is committed for a moment: how long that lasts is bounded by the server itself, and measured."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from freezer_sdk.errors import SnapshotError, SourceError
from freezer_sdk.model import JSON
from freezer_sdk.modes.mysql.server import LockTimeout, Server

_log = logging.getLogger(__name__)

_BACKUP_STAGE_SINCE = (10, 4, 1)
_POLL = 0.5
_DISK_POLL = 0.01
_SYSTEM_USERS = ("system user", "event_scheduler")


class Method(StrEnum):
    """How commits are held up."""

    BACKUP_STAGE = "backup-stage"
    READ_LOCK = "read-lock"


@dataclass(frozen=True, kw_only=True)
class LockLimits:
    """How much others may be held up.

    Attributes:
        held: seconds, for getting the lock and for keeping it together.
        long_query: a statement that runs for longer is waited for before anything is locked; 0: nobody looks.
        patience: seconds to wait for such statements.
    """

    held: float
    long_query: float
    patience: float


class Lock:
    """What is known about a lock; complete when it is released.

    Attributes:
        facts: for the record of the backup, in seconds.
        position: of the binary log and of replication, while nothing is committed.
    """

    def __init__(self, server: Server, method: Method, started: float) -> None:
        self._server = server
        self._method = method
        self._started = started
        self._locked = time.monotonic()
        self._released: float | None = None
        self.position: JSON = {}

    def release(self) -> None:
        """Lets commits go on.

        Raises:
            SnapshotError: the server had let them go on before: the lock took too long, or the connection broke.
        """
        statement = "BACKUP STAGE END" if self._method is Method.BACKUP_STAGE else "UNLOCK TABLES"
        try:
            self._server.run(statement)
        except SourceError as error:
            raise SnapshotError(
                f"the lock on the databases was lost before the snapshot was there: {error}",
                hint="it is given up after lock_timeout; a slow snapshot needs a longer one",
            ) from error
        self._released = time.monotonic()
        _log.info("mysql: commits were held up for %.3f s (%s)", self.facts["held"], self._method)

    @property
    def facts(self) -> dict[str, Any]:
        """For the record; ``waited``: until the lock was there, ``held``: from the first statement to the last."""
        end = self._released if self._released is not None else time.monotonic()
        return {
            "method": str(self._method),
            "waited": round(self._locked - self._started, 3),
            "held": round(end - self._started, 3),
        }


@contextmanager
def quiesced(server: Server, limits: LockLimits) -> Iterator[Lock]:
    """Holds up all commits; the caller releases the lock as soon as he has his snapshot.

    When the process is killed, or the machine is cut off, the server ends the connection, and the lock with it.

    Raises:
        SourceError: a statement runs for too long, the lock is not to be had, or a privilege is missing.
    """
    method = method_for(server)
    position(server)  # what is refused is refused before anybody is held up
    wait_for_long_queries(server, limits, method)
    started = time.monotonic()
    deadline = started + limits.held
    try:
        _take(server, method, deadline)
        _wait_for_disk(server, deadline)
        server.run(f"SET SESSION wait_timeout = {_rest(deadline)}")
        lock = Lock(server, method, started)
        lock.position = position(server)
        yield lock
    except LockTimeout as error:
        error.hint = "something holds a lock for longer than lock_timeout; look at SHOW PROCESSLIST"
        raise
    finally:  # an unfinished attempt, too, holds up others
        server.close()


def method_for(server: Server) -> Method:
    """``BACKUP STAGE`` where the server has it: readers are not held up, and it need not wait for them."""
    staged = server.mariadb and server.version >= _BACKUP_STAGE_SINCE
    return Method.BACKUP_STAGE if staged else Method.READ_LOCK


def _take(server: Server, method: Method, deadline: float) -> None:
    steps = [f"BACKUP STAGE {stage}" for stage in ("START", "FLUSH", "BLOCK_DDL", "BLOCK_COMMIT")]
    if method is not Method.BACKUP_STAGE:
        steps = ["FLUSH TABLES WITH READ LOCK"]
    for step in (*steps, "FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS"):
        if time.monotonic() >= deadline:
            raise LockTimeout("the lock on the databases was not to be had in time")
        rest = _rest(deadline)  # each waits anew
        server.run(f"SET SESSION lock_wait_timeout = {rest}, SESSION wait_timeout = {rest}")
        server.run(step)


def _rest(deadline: float) -> int:
    """Whole seconds that are left, as servers count them; at least one."""
    return max(1, math.floor(deadline - time.monotonic()))


def _wait_for_disk(server: Server, deadline: float) -> None:
    """Waits until InnoDB has written what was committed.

    With ``innodb_flush_log_at_trx_commit = 0``, MariaDB does not do so when it is asked to flush its logs, but within
    its next second.

    Raises:
        SourceError: it takes too long.
    """
    wanted: int | None = None
    while True:
        rows = server.rows("SHOW GLOBAL STATUS WHERE Variable_name IN ('Innodb_lsn_current', 'Innodb_lsn_flushed')")
        state = {row["Variable_name"].lower(): int(row["Value"]) for row in rows}
        if len(state) < 2:  # MySQL, which writes when it is asked
            return
        wanted = wanted or state["innodb_lsn_current"]
        if state["innodb_lsn_flushed"] >= wanted:
            return
        if time.monotonic() > deadline:
            raise SourceError("the server did not write its log to disk in time", hint="lock_timeout may be longer")
        time.sleep(_DISK_POLL)


def wait_for_long_queries(server: Server, limits: LockLimits, method: Method) -> None:
    """Waits until no statement runs that would keep the lock, and all who queue behind it, waiting.

    Raises:
        SourceError: one still runs after all patience.
    """
    deadline = time.monotonic() + limits.patience
    told: set[int] = set()
    while limits.long_query > 0:
        running = _long_queries(server, limits.long_query, method)
        if not running:
            return
        for row in running:
            if row["ID"] not in told:
                told.add(row["ID"])
                _log.warning("mysql: waiting for a long statement: %s", _described(row))
        if time.monotonic() >= deadline:
            raise SourceError(
                f"nothing was locked: a statement runs for too long: {_described(running[0])}",
                hint="wait until it ends, end it, or raise long_query or long_query_wait",
            )
        time.sleep(min(_POLL, max(0.0, deadline - time.monotonic())))


def _long_queries(server: Server, seconds: float, method: Method) -> list[dict[str, Any]]:
    rows = server.rows(
        "SELECT ID, USER, DB, TIME, COMMAND, LEFT(LTRIM(INFO), 20) AS HEAD FROM information_schema.PROCESSLIST"
        " WHERE ID <> CONNECTION_ID() AND COMMAND IN ('Query', 'Execute') AND TIME >= %s AND INFO IS NOT NULL"
        " ORDER BY TIME DESC",
        (seconds,),
    )
    running = [row for row in rows if row["USER"] not in _SYSTEM_USERS]
    if method is Method.BACKUP_STAGE:  # it does not wait for readers
        running = [row for row in running if not str(row["HEAD"]).upper().startswith(("SELECT", "SHOW"))]
    return running


def _described(row: dict[str, Any]) -> str:
    """Without its text, which may hold what nobody else should see."""
    word = str(row["HEAD"]).split(" ")[0].upper()
    return f"{word} of user {row['USER']!r} in {row['DB'] or 'no database'!r}, for {row['TIME']} s (id {row['ID']})"


def position(server: Server) -> dict[str, Any]:
    """Where the binary log and replication stand.

    Raises:
        SourceError: the server writes a binary log, and the account may not ask where it stands.
    """
    found: dict[str, Any] = {}
    settings = server.variables("log_bin", "gtid_binlog_pos", "gtid_slave_pos", "gtid_executed")
    if settings.get("log_bin") == "ON":
        renamed = not server.mariadb and server.version >= (8, 4, 0)
        row = (server.rows("SHOW BINARY LOG STATUS" if renamed else "SHOW MASTER STATUS") or [{}])[0]
        found["binlog"] = {"file": row.get("File"), "position": row.get("Position")}
    gtid = settings.get("gtid_binlog_pos") or settings.get("gtid_executed")
    if gtid:
        found["gtid"] = gtid.replace("\n", "")
    if settings.get("gtid_slave_pos"):
        found["replica_gtid"] = settings["gtid_slave_pos"]
    return found
