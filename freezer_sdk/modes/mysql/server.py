"""One connection to a server: its answers as plain values, its refusals as errors of this library."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from freezer_sdk.errors import ConfigurationError, SourceError, SourceUnreadable
from freezer_sdk.modes.mysql.login import Login

_ACCESS_DENIED = (1044, 1045, 1142, 1143, 1227, 1370, 1698)
_LOCK_TIMEOUT = 1205
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")
INTERNAL = ("information_schema", "performance_schema", "sys", "mysql")
"""Databases that belong to the server itself."""


class LockTimeout(SourceError):
    """A lock was not to be had in time."""

    code = "locked_out"


class Server:
    """A connection that stands; errors of it never show the password.

    Attributes:
        mariadb: a MariaDB server, not one of MySQL.
        version: of three numbers.
        full_version: as the server says it.
    """

    def __init__(self, connection: Any, login: Login) -> None:
        self._connection = connection
        self._login = login
        self.full_version = str(self.value("SELECT VERSION()"))
        self.mariadb = "mariadb" in self.full_version.lower()
        match = _VERSION.search(self.full_version)
        if match is None:
            raise SourceError(f"the server says an unknown version: {self.full_version!r}")
        self.version = (int(match[1]), int(match[2]), int(match[3]))

    @property
    def is_here(self) -> bool:
        """Whether the server runs on this machine: a socket, or both ends of the connection have one address."""
        if self._login.socket is not None:
            return True
        with suppress(OSError):
            ends: socket.socket = self._connection._sock
            return bool(ends.getsockname()[0] == ends.getpeername()[0])
        return False

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """All rows of an answer, by the names of their columns.

        Raises:
            SourceError: the server refuses, or is gone.
        """
        import pymysql

        try:
            with self._connection.cursor(pymysql.cursors.DictCursor) as cursor:
                cursor.execute(query, values or None)
                return list(cursor.fetchall() or ())
        except pymysql.Error as error:
            raise _explained(error, self._login, query.split("%", maxsplit=1)[0][:60]) from None

    def value(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row; ``None`` where there is no row.

        Raises:
            SourceError: as :meth:`rows`.
        """
        rows = self.rows(query, values)
        return next(iter(rows[0].values())) if rows else None

    def run(self, statement: str) -> None:
        """A statement without an answer.

        Raises:
            SourceError: as :meth:`rows`.
        """
        self.rows(statement)

    def variables(self, *names: str) -> dict[str, Any]:
        """Global variables, those that this server does not have left out."""
        wanted = ", ".join(["%s"] * len(names))
        rows = self.rows(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({wanted})", names)
        return {row["Variable_name"]: row["Value"] for row in rows}

    def close(self) -> None:
        """Ends the connection, and with it every lock that it holds."""
        import pymysql

        with suppress(pymysql.Error, OSError):
            self._connection.close()


@contextmanager
def connected(login: Login) -> Iterator[Server]:
    """A connection, closed on every way out.

    Raises:
        SourceError: the server cannot be reached, or refuses.
        ConfigurationError: a file for TLS cannot be used.
    """
    import pymysql

    try:
        connection = pymysql.connect(
            **login.arguments(), charset="utf8mb4", autocommit=True, connect_timeout=30, program_name="freezer"
        )
    except (pymysql.Error, OSError) as error:
        raise _explained(error, login, "connect") from None
    except ValueError as error:  # a character that no password of this encoding can have
        raise ConfigurationError(f"the login to {login.place} cannot be used") from error
    server = None
    try:
        server = Server(connection, login)
        yield server
    finally:
        with suppress(pymysql.Error, OSError):
            connection.close()


def _explained(error: Exception, login: Login, doing: str) -> SourceError:
    number, text = 0, str(error)
    if len(error.args) > 1 and isinstance(error.args[0], int):
        number, text = error.args[0], str(error.args[1])
    if login.password:
        text = text.replace(login.password, "***")
    message = f"database server at {login.place}: {doing}: {text}"
    if number == _LOCK_TIMEOUT:
        return LockTimeout(message)
    if number in _ACCESS_DENIED:
        hint = "look at the user, the password and the privileges; docs: how-to, MySQL and MariaDB"
        return SourceUnreadable(message, hint=hint)
    return SourceError(message)


def quoted(name: str) -> str:
    """A name of a database or table as it stands in SQL."""
    return "`" + name.replace("`", "``") + "`"


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as they can stand in a JSON document."""
    return {name: value if isinstance(value, (int, str, type(None))) else str(value) for name, value in values.items()}
