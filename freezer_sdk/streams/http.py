"""HTTP by requests, the same for every service: timeouts everywhere, proxies by option, nothing from the environment.

Importing this module imports requests: plug-ins do so inside the functions that need it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.streams.network import Proxy

BLOCK = 256 << 10
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError, EOFError)
"""What a request can fail with when no whole answer came."""

_KEEPALIVE = (
    *urllib3.connection.HTTPConnection.default_socket_options,
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)


class _Adapter(HTTPAdapter):
    """Connections with timeouts that no request can forget; bodies go out in large blocks, and once."""

    def __init__(self, timeout: tuple[float, float]) -> None:
        self._timeout = timeout
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, blocksize=BLOCK, socket_options=_KEEPALIVE)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        return super().proxy_manager_for(proxy, **kwargs, blocksize=BLOCK)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        return super().send(request, *args, **{**kwargs, "timeout": self._timeout})

    def close(self) -> None:
        """Closes connections at once; left alone, urllib3 does so when nothing refers to their pool any more."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 (it cannot be iterated over)
                pool = manager.pools.get(key)
                if pool is not None:
                    pool.close()
        super().close()


def prepare(session: requests.Session, *, connect_timeout: float, timeout: float, proxy: Proxy | None) -> None:
    """Sets a session up; it follows no redirects, because they would carry tokens to other places.

    Raises:
        ConfigurationError: the proxy needs a library that is not installed.
    """
    session.trust_env = False
    session.max_redirects = 0
    for scheme in ("http://", "https://"):
        session.mount(scheme, _Adapter((connect_timeout, timeout)))
    if proxy is not None:
        _check_library(proxy)
        session.proxies = dict.fromkeys(("http", "https"), proxy.secret_url)


def _check_library(proxy: Proxy) -> None:
    if proxy.scheme != "http":
        try:
            import socks  # noqa: F401
        except ImportError:
            raise ConfigurationError(
                "connections through a proxy need PySocks", hint="pip install 'freezer-sdk[proxy]'"
            ) from None


def why(error: BaseException) -> str:
    """What lies at the bottom of a failed request, in a few words: texts of libraries hold whole URLs."""
    reasons = [reason for each in _chain(error) if (reason := _reason(each))]
    return reasons[-1] if reasons else type(error).__name__


def distrusted(error: BaseException) -> bool:
    """Whether the server could not prove who it is."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, and those that it wraps in any of the ways that libraries have."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and not any(each is other for other in seen):
            seen.append(each)
            yield each
            waiting += [*each.args, getattr(each, "reason", None), each.__cause__, each.__context__]


def _reason(error: BaseException) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            return "it does not speak TLS as it should"
        case socket.gaierror():
            return "its name is not known"
        case requests.TooManyRedirects():
            return "it answers with a redirect, which is not followed"
        case TimeoutError() | urllib3.exceptions.TimeoutError() | requests.Timeout():
            return "timed out"
        case http.client.RemoteDisconnected():
            return "the connection was closed without an answer"
        case http.client.IncompleteRead() | urllib3.exceptions.IncompleteRead() | EOFError():
            return "the answer was cut short"
        case OSError() if error.strerror:
            return error.strerror
    return None
