"""What mode ``mongo`` can be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.modes.mongo.login import Login
from freezer_sdk.options import Option


class Strategy(StrEnum):
    """How the data are read; see the how-to page for what each of them promises."""

    AUTO = "auto"
    SNAPSHOT = "snapshot"
    DUMP = "dump"


class Member(StrEnum):
    """Which members of a replica set may be backed up; a server without one counts as a primary."""

    PRIMARY = "primary"
    SECONDARY = "secondary"
    ANY = "any"


CHECK_COMMAND = (
    "mongod",
    "--dbpath={data}",
    "--bind_ip={socket}",
    "--unixSocketPrefix={folder}",
    "--wiredTigerCacheSizeGB=0.25",
)
_SEPARATE = ("host", "port", "user", "password", "auth_database", "tls", "tls_ca", "tls_certificate_key")

OPTIONS = (
    Option(
        name="strategy",
        choices=tuple(Strategy),
        default=str(Strategy.AUTO),
        help="snapshot: data directory from a volume snapshot; dump: mongodump; auto: snapshot when one is asked for.",
    ),
    Option(name="uri", secret=True, help="mongodb://... in place of all options of the connection."),
    Option(name="host", help="Name or address of the server (localhost), or the path of its socket."),
    Option(name="port", type="int", help="TCP port (27017)."),
    Option(name="user", help="Account to log in as."),
    Option(name="password", secret=True, help="Password of the account."),
    Option(name="auth_database", help="Database that knows the account (admin)."),
    Option(name="tls", type="bool", help="Connect by TLS, and check the server's certificate."),
    Option(name="tls_ca", type="path", help="Certificates of authorities that the server's must be signed by."),
    Option(name="tls_certificate_key", type="path", help="PEM file with the client's own certificate and key."),
    Option(
        name="member",
        choices=tuple(Member),
        default=str(Member.PRIMARY),
        help="Which member of a replica set this may be; any other fails the run.",
    ),
    Option(
        name="data_path", type="path", help="Where the server's dbPath is found here; asked of the server by default."
    ),
    Option(
        name="fsync_lock",
        type="bool",
        default=False,
        help="Keep the server from writing while the snapshot is made (fsyncLock); needed without a journal only.",
    ),
    Option(
        name="lock_timeout",
        type="duration",
        default=30.0,
        help="Longest time that fsync_lock holds writers up; a snapshot that takes longer fails.",
    ),
    Option(name="database", help="Dump this one only."),
    Option(name="timeout", type="duration", default=30.0, help="Longest time for one question to the server."),
    Option(
        name="start_check",
        type="bool",
        default=False,
        help="After a restore: start a private server on it and check all collections.",
    ),
    Option(
        name="start_timeout",
        type="duration",
        default=3600.0,
        help="Longest time that a private server may take to recover what was restored.",
    ),
    Option(
        name="check_command",
        multiple=True,
        default=CHECK_COMMAND,
        help="Private server: program and arguments; {data}, {folder} (its own), {socket} and {port} are filled in.",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The values of :data:`OPTIONS`, in a useful form."""

    strategy: Strategy
    login: Login
    member: Member
    data_path: str | None
    fsync_lock: bool
    lock_timeout: float
    database: str | None
    start_check: bool
    start_timeout: float
    check_command: tuple[str, ...]


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings from values that were validated.

    Raises:
        ConfigurationError: they contradict each other.
    """
    strategy = Strategy(values["strategy"])
    both = [name for name in _SEPARATE if values[name] is not None]
    if values["uri"] is not None and both:
        raise ConfigurationError(f"a uri says all about the connection; leave out {', '.join(both)}")
    if values["database"] is not None and strategy is Strategy.SNAPSHOT:
        raise ConfigurationError("the strategy snapshot takes all databases", hint="the strategy dump can choose one")
    if values["fsync_lock"] and strategy is Strategy.DUMP:
        raise ConfigurationError("the strategy dump has no use for fsync_lock")
    if (values["user"] is None) != (values["password"] is None):
        raise ConfigurationError("an account needs both user and password")
    return Settings(
        strategy=strategy,
        login=Login(
            uri=values["uri"],
            host=values["host"] or "localhost",
            port=values["port"],
            user=values["user"],
            password=values["password"],
            auth_database=values["auth_database"] or "admin",
            tls=bool(values["tls"]) or values["tls_ca"] is not None or values["tls_certificate_key"] is not None,
            tls_ca=values["tls_ca"],
            tls_certificate_key=values["tls_certificate_key"],
            timeout=values["timeout"],
        ),
        member=Member(values["member"]),
        data_path=values["data_path"],
        fsync_lock=values["fsync_lock"],
        lock_timeout=values["lock_timeout"],
        database=values["database"],
        start_check=values["start_check"],
        start_timeout=values["start_timeout"],
        check_command=tuple(values["check_command"]),
    )
