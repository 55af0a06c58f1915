"""Strategy ``dump``: SQL of each database, as of one moment each, read while everybody goes on."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from freezer_sdk.errors import ConfigurationError, PluginUnavailable, SourceError
from freezer_sdk.modes.base import Protected, Stream
from freezer_sdk.modes.mysql.datadir import described
from freezer_sdk.modes.mysql.optionfile import private_option_file
from freezer_sdk.modes.mysql.privileges import check_privileges
from freezer_sdk.modes.mysql.quiesce import position
from freezer_sdk.modes.mysql.server import INTERNAL, Server, connected
from freezer_sdk.modes.mysql.settings import Settings, Strategy
from freezer_sdk.streams.command import find_program
from freezer_sdk.streams.process import ProcessReader

_log = logging.getLogger(__name__)

ALL = "all.databases.sql"
ACCOUNTS = "system.accounts.sql"
_HEAD = 16384
_PLAIN = " !#$&()+,;=@[]{}~"
_POSITION = re.compile(
    rb"^-- CHANGE (?:MASTER|REPLICATION SOURCE) TO"
    rb" (?:MASTER|SOURCE)_LOG_FILE='([^']+)', (?:MASTER|SOURCE)_LOG_POS=(\d+)",
    re.M,
)
_SAFE_ENGINES = ("InnoDB", "ROCKSDB", "TokuDB", "MyRocks", "MRG_MyISAM", "SEQUENCE", "BLACKHOLE", "MEMORY")


@dataclass(frozen=True, kw_only=True)
class Dumper:
    """The dump program, and what it is told about the server.

    Attributes:
        mariadb: the program is MariaDB's.
        options: how to reach the server; the first arguments.
        binlog: the server writes one.
    """

    program: str
    mariadb: bool
    options: Sequence[str]
    descriptor: int
    binlog: bool

    def stream(self, name: str, arguments: Sequence[str], found: dict[str, Any]) -> Stream:
        """One run of the program; ``found`` gets the position of its moment while it is read."""

        @contextmanager
        def opened() -> Iterator[_Positioned]:
            command = [self.program, *self.options, *arguments]
            with ProcessReader(command, name=name, descriptors=(self.descriptor,)) as reader:
                yield _Positioned(reader, name, found)

        return Stream(name=name, open=opened)

    def databases(self, names: Sequence[str]) -> list[str]:
        """Arguments for some databases in one dump."""
        arguments = [
            "--single-transaction",
            "--quick",
            "--skip-lock-tables",
            "--routines",
            "--events",
            "--triggers",
            "--hex-blob",
            "--default-character-set=utf8mb4",
        ]
        if self.binlog:
            arguments += ["--master-data=2", "--gtid"] if self.mariadb else ["--source-data=2"]
        if not self.mariadb:
            arguments += ["--set-gtid-purged=COMMENTED", "--column-statistics=0"]
        return [*arguments, "--databases", "--", *names]


class _Positioned:
    """Passes a dump on, and remembers what its first lines say about the binary log."""

    def __init__(self, reader: ProcessReader, name: str, found: dict[str, Any]) -> None:
        self._reader = reader
        self._name = name
        self._found = found
        self._head = b""

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as far as the dump goes."""
        count = self._reader.readinto(buffer)
        if len(self._head) < _HEAD:
            self._head += bytes(buffer[: min(count, _HEAD)])
            match = _POSITION.search(self._head)
            if match:
                binlog = {"file": match[1].decode("utf-8", "replace"), "position": int(match[2])}
                self._found[self._name] = binlog
        return count


@contextmanager
def from_dump(settings: Settings) -> Iterator[Protected]:
    """Hands over dumps, which run when they are read.

    Raises:
        SourceError, ConfigurationError, PluginUnavailable.
    """
    login = settings.login
    with ExitStack() as stack:
        descriptor = stack.enter_context(private_option_file(login.client_group()))
        with connected(login) as server:
            names = chosen_databases(server, settings)
            check_privileges(server, names)
            began = position(server)  # each dump has its own, which comes later
            facts: dict[str, Any] = {"strategy": str(Strategy.DUMP), **described(server), "began_at": began}
            facts["databases"] = names
            unsafe = _without_transactions(server, names)
            dumper = _dumper(server, descriptor, binlog="binlog" in began)
        if unsafe:
            facts["not_transactional"] = unsafe
            _log.warning("mysql: tables that may change while they are dumped: %s", ", ".join(unsafe[:10]))
        found: dict[str, Any] = {}
        streams = list(_streams(settings, dumper, names, found))
        facts["streams"] = [stream.name for stream in streams]
        yield Protected(
            sources=streams,
            facts={"mysql": facts},
            confirm=lambda: {"mysql": {**facts, "positions": dict(found)}} if found else {},
        )


def _streams(settings: Settings, dumper: Dumper, names: Sequence[str], found: dict[str, Any]) -> Iterator[Stream]:
    if settings.per_database:
        for name in names:
            yield dumper.stream(stream_name(name), dumper.databases([name]), found)
    elif names:
        yield dumper.stream(ALL, dumper.databases(names), found)
    if not settings.accounts or settings.chosen:
        return
    if dumper.mariadb:  # accounts that are there keep their passwords until the grants are read
        yield dumper.stream(ACCOUNTS, ["--system=users", "--insert-ignore"], {})
    else:
        arguments = [each for each in dumper.databases(["mysql"]) if each != "--source-data=2"]
        yield dumper.stream(ACCOUNTS, ["--flush-privileges", *arguments], {})


def stream_name(database: str) -> str:
    """File name of a database's dump; what could be no plain name is written as in URLs.

    Letters of all languages stay as they are: names of files have a longest length.
    """
    plain = (c if c.isprintable() and not c.isascii() else quote(c, safe=_PLAIN) for c in database)
    return "".join(plain).replace(".", "%2E") + ".sql"


def chosen_databases(server: Server, settings: Settings) -> list[str]:
    """Names of the databases to dump, sorted.

    Raises:
        SourceError: one that is wanted is not there, or there is none.
    """
    there = [row["SCHEMA_NAME"] for row in server.rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")]
    missing = sorted(set(settings.databases) - set(there))
    if missing:
        raise SourceError(
            f"no such database, or not for this account: {', '.join(missing)}",
            hint=f"to be seen are {', '.join(sorted(there))}",
        )
    wanted = settings.databases or [name for name in there if name not in INTERNAL]
    names = sorted(set(wanted) - set(settings.exclude_databases))
    if not names and settings.chosen:
        raise ConfigurationError("no database is left to dump")
    return names


def _without_transactions(server: Server, names: Sequence[str]) -> list[str]:
    rows = server.rows(
        "SELECT TABLE_SCHEMA AS d, TABLE_NAME AS t, ENGINE AS e FROM information_schema.TABLES"
        " WHERE TABLE_TYPE = 'BASE TABLE'"
    )
    return sorted(f"{row['d']}.{row['t']}" for row in rows if row["d"] in names and row["e"] not in _SAFE_ENGINES)


def _dumper(server: Server, descriptor: int, *, binlog: bool) -> Dumper:
    """MariaDB's program for MariaDB's servers, MySQL's for MySQL's.

    Raises:
        PluginUnavailable: there is none.
    """
    names = ("mariadb-dump", "mysqldump") if server.mariadb else ("mysqldump",)
    program = next(filter(None, map(find_program, names)), None)
    if program is None:
        package = "mariadb-client" if server.mariadb else "mysql-client"
        raise PluginUnavailable(f"the program {names[0]} is missing", hint=f"install it: apt-get install {package}")
    return Dumper(
        program=program,
        mariadb=server.mariadb,
        options=[f"--defaults-file=/dev/fd/{descriptor}"],
        descriptor=descriptor,
        binlog=binlog,
    )
