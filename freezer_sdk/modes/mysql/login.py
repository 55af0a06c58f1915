"""How to reach a server and log in: from options and option files, for PyMySQL and for the server's programs."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.files import posix
from freezer_sdk.modes.mysql.optionfile import read_option_file
from freezer_sdk.options import parse_bool

_PORT = 3306
_SOCKETS = (
    "/run/mysqld/mysqld.sock",
    "/var/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/run/mysql/mysql.sock",
    "/tmp/mysql.sock",  # noqa: S108 - where MySQL's own packages put it
)


class Tls(StrEnum):
    """What is asked of the connection, in the words of MySQL's ``ssl-mode``."""

    DISABLED = "DISABLED"
    PREFERRED = "PREFERRED"
    REQUIRED = "REQUIRED"
    VERIFY_CA = "VERIFY_CA"
    VERIFY_IDENTITY = "VERIFY_IDENTITY"


@dataclass(frozen=True, kw_only=True)
class Login:
    """A server and an account.

    Attributes:
        socket: path of the server's socket; ``None``: by TCP.
        password: empty where the server knows the process by the socket.
        tls: what is asked of a TCP connection.
    """

    host: str = "127.0.0.1"
    port: int = _PORT
    socket: str | None = None
    user: str
    password: str = field(default="", repr=False)
    tls: Tls = Tls.PREFERRED
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    @property
    def place(self) -> str:
        """For messages."""
        return self.socket or f"{self.host}:{self.port}"

    def arguments(self) -> dict[str, Any]:
        """For ``pymysql.connect``.

        Raises:
            ConfigurationError: a file for TLS cannot be used.
        """
        # a text would be taken as Latin-1, unlike by all other clients
        common = {"user": self.user, "password": self.password.encode("utf-8", "surrogateescape")}
        if self.socket is not None:
            return {**common, "unix_socket": self.socket}
        where = {**common, "host": self.host, "port": self.port}
        if self.tls in (Tls.DISABLED, Tls.PREFERRED):
            return {**where, "ssl_disabled": True} if self.tls is Tls.DISABLED else where
        return {**where, "ssl": self._context()}

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # certificates that MySQL makes itself are not strict
            if self.tls is not Tls.VERIFY_IDENTITY:
                context.check_hostname = False
            if self.tls is Tls.REQUIRED:
                context.verify_mode = ssl.CERT_NONE
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or "not a certificate or key in PEM form"
            message = f"TLS to the database: {self.ca or ''} {self.certificate or ''}: {reason}"
            raise ConfigurationError(message) from error
        return context

    def client_group(self) -> dict[str, str]:
        """For the group ``[client]`` of an option file that the server's programs read.

        Programs of MySQL and of MariaDB skip those ``loose-`` settings that they do not know.
        """
        group = {"user": self.user}
        if self.password:
            group["password"] = self.password
        if self.socket is not None:
            return {**group, "socket": self.socket, "protocol": "socket"}
        group |= {"host": self.host, "port": str(self.port), "protocol": "tcp", "loose-ssl-mode": str(self.tls)}
        if self.tls in (Tls.DISABLED, Tls.PREFERRED):
            return {**group, "loose-ssl": "0"} if self.tls is Tls.DISABLED else group
        files = {"ssl-ca": self.ca, "ssl-cert": self.certificate, "ssl-key": self.key}
        verify = "1" if self.tls is Tls.VERIFY_IDENTITY else "0"
        group |= {"loose-ssl": "1", "loose-ssl-verify-server-cert": verify}
        return {**group, **{name: path for name, path in files.items() if path}}


def login_from(given: Mapping[str, Any], *, defaults_file: str | None) -> Login:
    """What options say, and where they are silent, an option file.

    Args:
        given: by the names of an option file (``host``, ``ssl-ca``...); ``None`` counts as not given.

    Raises:
        ConfigurationError: the file cannot be read, or its values make no sense.
    """
    settings = read_option_file(defaults_file) if defaults_file is not None else {}
    settings |= {name: str(value) for name, value in given.items() if value is not None}
    host, path = settings.get("host") or "localhost", settings.get("socket")
    socket = _socket(path, host)
    return Login(
        host="127.0.0.1" if host == "localhost" else host,
        port=_port(settings.get("port") or str(_PORT)),
        socket=socket,
        user=settings.get("user") or _own_name(),
        password=settings.get("password", settings.get("passwd", "")),
        tls=_tls(settings),
        ca=settings.get("ssl-ca") or None,
        certificate=settings.get("ssl-cert") or None,
        key=settings.get("ssl-key") or None,
    )


def _socket(path: str | None, host: str) -> str | None:
    """As the servers' own clients do: ``localhost`` is the socket, where there is one."""
    if host != "localhost":
        return None
    return path or next((each for each in _SOCKETS if os.path.exists(each)), None)


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ConfigurationError(f"not a port of a database server: {text!r}")
    return int(text)


def _own_name() -> str:
    import pwd

    user, _ = posix.effective_user()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


def _tls(settings: Mapping[str, str]) -> Tls:
    word = settings.get("ssl-mode", "").upper()
    if word:
        if word not in Tls.__members__:
            raise ConfigurationError(f"ssl-mode {word!r} is none of {', '.join(Tls)}")
        return Tls(word)
    if "skip-ssl" in settings or ("ssl" in settings and not _on(settings["ssl"])):
        return Tls.DISABLED
    verify = settings.get("ssl-verify-server-cert")
    if "skip-ssl-verify-server-cert" in settings:
        verify = "0"
    if settings.get("ssl-ca"):
        return Tls.VERIFY_IDENTITY if verify is None or _on(verify) else Tls.VERIFY_CA
    if verify is not None and _on(verify):
        return Tls.VERIFY_IDENTITY
    return Tls.REQUIRED if "ssl" in settings or settings.get("ssl-cert") else Tls.PREFERRED


def _on(value: str) -> bool:
    return value == "" or parse_bool(value)
