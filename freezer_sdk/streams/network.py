"""What storages across a network share: their options, proxies, and one way to connect."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from freezer_sdk.errors import ConfigurationError, StorageUnavailable
from freezer_sdk.options import Option

CONNECT_TIMEOUT = Option(
    name="connect_timeout", type="duration", default=30.0, help="Longest wait for a connection, in seconds"
)
TIMEOUT = Option(
    name="timeout",
    type="duration",
    default=60.0,
    help="Longest wait for the server to take or send anything, in seconds",
)
PROXY = Option(
    name="proxy",
    help="Proxy to go through: http://HOST:PORT, socks5://HOST:PORT, or socks5h:// (which looks names up itself)",
)
PROXY_PASSWORD = Option(name="proxy_password", secret=True, help="Password of the proxy's user")

_DEFAULT_PORTS = {"http": 3128, "socks4": 1080, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy for TCP connections.

    Attributes:
        scheme: ``http`` (CONNECT), ``socks4``, ``socks5`` or ``socks5h``.
        password: shown nowhere.
    """

    scheme: str
    host: str
    port: int
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"<Proxy {self.scheme}://{self.host}:{self.port}>"

    @classmethod
    def parse(cls, url: str, *, password: str | None = None) -> Proxy:
        """From ``scheme://[user@]host[:port]``.

        Raises:
            ConfigurationError: not the URL of a proxy.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in _DEFAULT_PORTS or not host:
            raise ConfigurationError(
                "the proxy is not a URL that is understood here", hint="write for example socks5://127.0.0.1:1080"
            )
        user = unquote(parts.username) if parts.username else None
        given = unquote(parts.password) if parts.password else password
        port = port or _DEFAULT_PORTS[parts.scheme]
        return cls(scheme=parts.scheme, host=host, port=port, user=user, password=given)

    @property
    def secret_url(self) -> str:
        """The URL that HTTP libraries want, with the password: for no message."""
        login = ""
        if self.user is not None:
            password = "" if self.password is None else f":{quote(self.password, safe='')}"
            login = f"{quote(self.user, safe='')}{password}@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{login}{host}:{self.port}"


def connect(host: str, port: int, *, timeout: float, proxy: Proxy | None = None) -> socket.socket:
    """A TCP connection, through a proxy where one is given. The socket's timeout is ``timeout`` seconds.

    Raises:
        StorageUnavailable: nobody answers, refuses, or the name is not known.
        ConfigurationError: a proxy is asked for, and the library for it is not installed.
    """
    try:
        if proxy is None:
            made = socket.create_connection((host, port), timeout=timeout)
        else:
            made = _through(proxy, host, port, timeout)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made
    except OSError as error:  # PySocks' errors are OSErrors too
        reason = error.strerror or str(error) or type(error).__name__
        via = "" if proxy is None else f" through {proxy.scheme}://{proxy.host}:{proxy.port}"
        raise StorageUnavailable(f"no connection to {host}:{port}{via}: {reason}") from error


def _through(proxy: Proxy, host: str, port: int, timeout: float) -> socket.socket:
    try:
        import socks
    except ImportError:
        raise ConfigurationError(
            "connections through a proxy need PySocks", hint="pip install 'freezer-sdk[proxy]'"
        ) from None
    kinds = {"http": socks.HTTP, "socks4": socks.SOCKS4, "socks5": socks.SOCKS5, "socks5h": socks.SOCKS5}
    made: socket.socket = socks.create_connection(
        (host, port),
        timeout=timeout,
        proxy_type=kinds[proxy.scheme],
        proxy_addr=proxy.host,
        proxy_port=proxy.port,
        proxy_rdns=proxy.scheme in ("http", "socks5h"),
        proxy_username=proxy.user,
        proxy_password=proxy.password,
    )
    return made
