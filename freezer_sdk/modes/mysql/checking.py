"""Whether a server can use what was restored: it starts, all tables are whole, queries have answers."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from freezer_sdk.errors import CommandFailed, RestoreError, SourceError
from freezer_sdk.modes.mysql.datadir import in_use
from freezer_sdk.modes.mysql.dump import ACCOUNTS
from freezer_sdk.modes.mysql.private import check_version, empty_directory, private_server
from freezer_sdk.modes.mysql.replay import Replay
from freezer_sdk.modes.mysql.server import Server, quoted
from freezer_sdk.modes.mysql.settings import Settings, Strategy

_log = logging.getLogger(__name__)

_VIRTUAL = ("information_schema", "performance_schema", "sys")
_MOST_TOLD = 10


def check_restored(target: str, facts: Mapping[str, Any], queries: Sequence[str], settings: Settings) -> dict[str, Any]:
    """See :meth:`MysqlMode.verify_restored`.

    Raises:
        RestoreError, ConfigurationError.
    """
    recorded = facts.get("mysql") or {}
    if recorded.get("strategy") == Strategy.DUMP:
        return _check_dumps(target, recorded, queries, settings)
    return check_directory(target, recorded, queries, settings)


def check_directory(
    target: str, facts: Mapping[str, Any], queries: Sequence[str], settings: Settings
) -> dict[str, Any]:
    """Starts a private server on a data directory.

    Raises:
        RestoreError: it does not start, a table is damaged, or a query fails.
        ConfigurationError: a program is missing, or of another version.
    """
    if in_use(target):
        raise RestoreError(f"a database server runs on {target} already")
    directory = os.path.realpath(target)
    if not os.path.isdir(os.path.join(directory, "mysql")):  # a server would start, and make all that is missing
        raise RestoreError(f"there is no data directory in {target}")
    check_version(facts)
    options = settings.server_options
    with private_server(directory, facts, options, limit=settings.start_timeout, grants=False) as (server, _):
        found = _examined(server, queries)
    _log.info("mysql: %s starts on %s: %d tables are whole", found["server"], target, found["tables"])
    return found


def _check_dumps(target: str, facts: Mapping[str, Any], queries: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Replays dumps into a private server without any other data."""
    files = [path for path in sorted(Path(target).glob("*.sql")) if path.name != ACCOUNTS]
    accounts = Path(target, ACCOUNTS)
    # of the old server's settings only one matters to SQL; the others are about files
    names = {name: value for name, value in (facts.get("settings") or {}).items() if name == "lower_case_table_names"}
    described = {"server": facts.get("server"), "settings": names}
    limit, options = settings.start_timeout, settings.server_options
    with (
        empty_directory(target, described) as directory,
        private_server(directory, described, options, limit=limit, grants=True) as (server, login),
    ):
        with Replay.into(login, mariadb=server.mariadb) as replay:
            for file in [*files, *([accounts] if accounts.exists() else [])]:
                _replay_file(replay, file)
        return _examined(server, queries)


def _replay_file(replay: Replay, file: Path) -> None:
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), "rb") as reader:
            replay.run(reader, name=file.name)
    except (OSError, CommandFailed) as error:
        raise RestoreError(f"the dump cannot be replayed: {error}") from error


def _examined(server: Server, queries: Sequence[str]) -> dict[str, Any]:
    try:
        tables, remarks = _check_tables(server)
        answers = [_answer(server, query) for query in queries]
    except SourceError as error:
        raise RestoreError(f"the server fails on the restored data: {error}") from error
    found: dict[str, Any] = {"server": server.full_version, "tables": tables, "queries": answers}
    return {**found, "remarks": remarks} if remarks else found


def _check_tables(server: Server) -> tuple[int, list[str]]:
    """``CHECK TABLE`` on all; how many, and what is no damage.

    Raises:
        RestoreError: one is damaged.
    """
    rows = server.rows(
        "SELECT TABLE_SCHEMA AS d, TABLE_NAME AS t FROM information_schema.TABLES"
        " WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN (%s, %s, %s)",
        _VIRTUAL,
    )
    damaged: list[str] = []
    remarks: list[str] = []
    for row in rows:
        for line in server.rows(f"CHECK TABLE {quoted(row['d'])}.{quoted(row['t'])}"):
            kind, text = str(line["Msg_type"]).lower(), str(line["Msg_text"])
            said = f"{row['d']}.{row['t']}: {text}"
            if kind == "error" and "upgrade" not in text.lower():
                damaged.append(said)
            elif kind != "status" or text not in ("OK", "Table is already up to date"):
                remarks.append(said)
    if damaged:
        raise RestoreError(f"{len(damaged)} of {len(rows)} tables are damaged: {'; '.join(damaged[:_MOST_TOLD])}")
    return len(rows), remarks[:_MOST_TOLD]


def _answer(server: Server, query: str) -> list[list[Any]]:
    rows = server.rows(query)
    if not rows:
        raise RestoreError(f"a query has no answer in the restored data: {query}")
    return [[_plain(value) for value in row.values()] for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).hex()
    if isinstance(value, (date, datetime, time, timedelta, Decimal)):
        return str(value)
    return value
