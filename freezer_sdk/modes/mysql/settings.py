"""What a user can set, checked and in one piece."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.modes.mysql.login import Login, Tls, login_from
from freezer_sdk.modes.mysql.quiesce import LockLimits
from freezer_sdk.options import Option

_SERVER_OPTION = re.compile(r"--[A-Za-z0-9][\w-]*(=.*)?", re.DOTALL)


class Strategy(StrEnum):
    """How data are read.

    ``auto``: a snapshot where one was asked for, else a dump.
    """

    AUTO = "auto"
    SNAPSHOT = "snapshot"
    DUMP = "dump"
    PHYSICAL = "physical"


OPTIONS = (
    Option(name="strategy", choices=tuple(Strategy), default=str(Strategy.AUTO), help="How data are read."),
    Option(
        name="defaults_file",
        type="path",
        help="Option file with host, port, user, password, socket, ssl-*; a [client] group, or none.",
    ),
    Option(name="host", help="Host of the server; localhost is its socket."),
    Option(name="port", type="int", help="TCP port of the server."),
    Option(name="socket", type="path", help="Socket of the server."),
    Option(name="user", help="Account; by default named like the process's user."),
    Option(name="password", secret=True, help="Password of the account."),
    Option(name="ssl_mode", choices=tuple(Tls), help="What is asked of TCP connections; as in MySQL."),
    Option(name="ssl_ca", type="path", help="Certificates of those who may vouch for the server (PEM)."),
    Option(name="ssl_cert", type="path", help="Certificate of the account (PEM)."),
    Option(name="ssl_key", type="path", help="Its key (PEM)."),
    Option(name="data_directory", type="path", help="Where the data directory is on this machine, if not as told."),
    Option(name="lock_timeout", type="duration", default=60.0, help="Longest time for which commits are held up."),
    Option(name="long_query", type="duration", default=60.0, help="Do not lock while a statement runs for longer."),
    Option(name="long_query_wait", type="duration", default=300.0, help="How long to wait for such a statement."),
    Option(name="databases", multiple=True, default=(), help="Dump only these."),
    Option(name="exclude_databases", multiple=True, default=(), help="Do not dump these."),
    Option(name="per_database", type="bool", default=True, help="A dump for each; else one, as of one moment."),
    Option(name="accounts", type="bool", default=True, help="Dump accounts and their privileges too."),
    Option(name="start_check", type="bool", default=False, help="After a restore: start a private server and check."),
    Option(name="start_timeout", type="duration", default=600.0, help="Longest time for its start and recovery."),
    Option(
        name="server_options", multiple=True, default=(), help="Further options of it, such as --plugin-load-add=X."
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All options of the mode; see :data:`OPTIONS`."""

    strategy: Strategy
    given: Mapping[str, Any]
    defaults_file: str | None
    data_directory: str | None
    limits: LockLimits
    databases: tuple[str, ...]
    exclude_databases: tuple[str, ...]
    per_database: bool
    accounts: bool
    start_check: bool
    start_timeout: float
    server_options: tuple[str, ...]

    @property
    def login(self) -> Login:
        """How to reach the server; the option file is read now.

        Raises:
            ConfigurationError: it cannot be read, or its values make no sense.
        """
        return login_from(self.given, defaults_file=self.defaults_file)

    @property
    def chosen(self) -> bool:
        """Whether only some databases are wanted."""
        return bool(self.databases or self.exclude_databases)


_LOGIN = ("host", "port", "socket", "user", "password", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key")


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings from the validated values of all :data:`OPTIONS`.

    Raises:
        ConfigurationError: they contradict each other.
    """
    if values["lock_timeout"] < 1:
        raise ConfigurationError("lock_timeout is less than a second", hint="servers count it in whole seconds")
    for text in values["server_options"]:
        if not _SERVER_OPTION.fullmatch(text):
            raise ConfigurationError(f"not an option of a server: {text!r}", hint="for example --plugin-load-add=NAME")
    twice = set(values["databases"]) & set(values["exclude_databases"])
    if twice:
        raise ConfigurationError(f"both wanted and not wanted: {', '.join(sorted(twice))}")
    rest = ("defaults_file", "data_directory", "databases", "exclude_databases", "per_database", "accounts")
    more = ("start_check", "start_timeout", "server_options")
    return Settings(
        strategy=Strategy(values["strategy"]),
        given={name.replace("_", "-"): values[name] for name in _LOGIN},
        limits=LockLimits(
            held=values["lock_timeout"], long_query=values["long_query"], patience=values["long_query_wait"]
        ),
        **{name: values[name] for name in (*rest, *more)},
    )
