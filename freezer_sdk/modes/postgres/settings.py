"""What mode ``postgres`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.modes.postgres.connection import Login, Programs
from freezer_sdk.options import Option


class Strategy(StrEnum):
    """How the data are read; see the how-to page for what each of them promises."""

    AUTO = "auto"
    SNAPSHOT = "snapshot"
    PHYSICAL = "physical"
    DUMP = "dump"


_PARAMETERS = ("host", "port", "user", "service", "passfile", "sslmode", "sslrootcert", "sslcert", "sslkey")

OPTIONS = (
    Option(
        name="strategy",
        choices=tuple(Strategy),
        default=str(Strategy.AUTO),
        help="snapshot: data directory from a volume snapshot; physical: pg_basebackup; dump: pg_dump of each "
        "database; auto: snapshot when one is asked for, else physical.",
    ),
    Option(name="host", help="Name or address of the server, or the folder of its socket."),
    Option(name="port", type="int", help="TCP port, also part of the socket's name."),
    Option(name="user", help="Role to log in as."),
    Option(name="password", secret=True, help="Password of the role."),
    Option(name="passfile", type="path", help="Password file in place of ~/.pgpass."),
    Option(name="service", help="Name of a service in pg_service.conf that holds all of these."),
    Option(
        name="sslmode",
        choices=("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
        help="What is asked of TLS; verify-full is safe.",
    ),
    Option(name="sslrootcert", type="path", help="Certificates of authorities that the server's must be signed by."),
    Option(name="sslcert", type="path", help="The client's own certificate."),
    Option(name="sslkey", type="path", help="Key of the client's own certificate."),
    Option(
        name="database",
        default="postgres",
        help="Connected to for all that concerns no other database; where queries of a check go.",
    ),
    Option(name="databases", multiple=True, default=(), help="Dump or replay only these; all by default."),
    Option(
        name="role_passwords",
        type="bool",
        default=True,
        help="Dump the roles with their passwords, which only superusers can read.",
    ),
    Option(
        name="data_directory",
        type="path",
        help="Where the server's data directory is found here; asked of the server by default.",
    ),
    Option(
        name="programs", type="path", help="Folder of PostgreSQL's programs; by default those of the server's version."
    ),
    Option(name="account", default="postgres", help="System user that servers of a restored dump's check run as."),
    Option(
        name="start_check",
        type="bool",
        default=False,
        help="After the restore of a data directory: start a private server on it and read all tables.",
    ),
    Option(name="timeout", type="duration", default=60.0, help="Longest time for one question to the server."),
    Option(
        name="start_timeout",
        type="duration",
        default=3600.0,
        help="Longest time that a private server may take to recover what was restored.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of :data:`OPTIONS`, in a useful form."""

    strategy: Strategy
    login: Login
    databases: tuple[str, ...]
    role_passwords: bool
    data_directory: str | None
    account: str
    start_check: bool
    start_timeout: float


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings from values that were validated.

    Raises:
        ConfigurationError: they contradict each other.
    """
    strategy = Strategy(values["strategy"])
    if values["databases"] and strategy in (Strategy.SNAPSHOT, Strategy.PHYSICAL):
        raise ConfigurationError(f"the strategy {strategy} takes all databases", hint="the strategy dump can choose")
    if values["password"] is not None and values["passfile"] is not None:
        raise ConfigurationError("both a password and a password file are given")
    if "\n" in (values["password"] or ""):
        raise ConfigurationError("PostgreSQL's programs cannot be given a password with a line break")
    given = {name: str(values[name]) for name in _PARAMETERS if values[name] is not None}
    return Settings(
        strategy=strategy,
        login=Login(
            parameters={**given, "connect_timeout": "30", "application_name": "freezer"},
            password=values["password"],
            database=values["database"],
            timeout=values["timeout"],
            programs=Programs(folder=values["programs"]),
        ),
        databases=tuple(values["databases"]),
        role_passwords=values["role_passwords"],
        data_directory=values["data_directory"],
        account=values["account"],
        start_check=values["start_check"],
        start_timeout=values["start_timeout"],
    )
