"""What storages across a network share: their options, proxies, and one way to connect."""

from __future__ import annotations

import base64
import socket
import time
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

_LONGEST_HEAD = 64 << 10
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
    if proxy.scheme == "http":
        return _tunnel(proxy, host, port, timeout)
    try:
        import socks
    except ImportError:
        raise ConfigurationError(
            "connections through a proxy need PySocks", hint="pip install 'freezer-sdk[proxy]'"
        ) from None
    kinds = {"socks4": socks.SOCKS4, "socks5": socks.SOCKS5, "socks5h": socks.SOCKS5}
    made: socket.socket = socks.create_connection(
        (host, port),
        timeout=timeout,
        proxy_type=kinds[proxy.scheme],
        proxy_addr=proxy.host,
        proxy_port=proxy.port,
        proxy_rdns=proxy.scheme == "socks5h",
        proxy_username=proxy.user,
        proxy_password=proxy.password,
    )
    return made


def _tunnel(proxy: Proxy, host: str, port: int, timeout: float) -> socket.socket:
    """By HTTP CONNECT (RFC 9110, 9.3.6). PySocks reads ahead here, and loses what a server says first."""
    name = host if host.isascii() else host.encode("idna").decode("ascii")
    where = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}"]
    if proxy.user is not None:
        login = base64.b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {login}")
    made = socket.create_connection((proxy.host, proxy.port), timeout=timeout)
    try:
        made.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = _head(made, time.monotonic() + timeout)
    except BaseException:
        made.close()
        raise
    version, _, status = answer.partition(b"\r\n")[0].partition(b" ")
    if not version.startswith(b"HTTP/") or not status.startswith(b"2"):
        made.close()
        said = status[:100].decode("ascii", "replace").strip() or "something that is no HTTP"
        raise ConnectionRefusedError(f"the proxy answers {said}")
    return made


def _head(made: socket.socket, deadline: float) -> bytes:
    """The head of an answer, byte by byte: what follows belongs to the server behind the proxy."""
    head = bytearray()
    while not head.endswith(b"\r\n\r\n"):
        byte = made.recv(1)
        if not byte or len(head) >= _LONGEST_HEAD:
            raise ConnectionAbortedError("the proxy broke off its answer")
        if time.monotonic() > deadline:
            raise TimeoutError("the proxy does not finish its answer")
        head += byte
    return bytes(head)
