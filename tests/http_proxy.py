"""An HTTP proxy that answers itself, or changes what passes, when a test tells it to.

::

    with HttpProxy("127.0.0.1", port) as proxy:
        proxy.rules.append(lambda request: Answer(503, {"Retry-After": "7"}) if request.method == "PUT" else None)
        proxy.changes.append(lambda request, answer: replace(answer, body=answer.body[:-1]))

It stands in front of a server (requests for ``/path``), and takes requests for other servers too (``http://...``), as
the proxies do that clients are told of.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

_HOPS = ("connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection", "proxy-authorization")


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What a client gets; ``length``: the Content-Length that is told, when it is not that of the body."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None


class Drop(Exception):
    """Raised by a rule or a change: the connection is closed without an answer."""


class HttpProxy:
    """A context manager.

    Args:
        host, port: the server for requests that name none.
        tls: makes clients speak TLS; the server is spoken to without.

    Attributes:
        port: where it listens.
        requests: what was asked for, in this order.
        rules: asked first; one that gives an answer keeps the request from the server.
        changes: applied to answers of the server.
        sent: applied to requests on their way to the server.
    """

    def __init__(self, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.target = (host, port)
        self.requests: list[Request] = []
        self.rules: list[Callable[[Request], Answer | None]] = []
        self.changes: list[Callable[[Request, Answer], Answer]] = []
        self.sent: list[Callable[[Request], Request]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def heal(self) -> None:
        """Forgets all rules and changes."""
        self.rules.clear()
        self.changes.clear()
        self.sent.clear()

    def seen(self, method: str) -> list[Request]:
        """The requests of this method."""
        return [request for request in self.requests if request.method == method]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _handle(self) -> None:
        proxy: HttpProxy = self.server.proxy  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        proxy.requests.append(request)
        try:
            answer = next((made for rule in proxy.rules if (made := rule(request)) is not None), None)
            if answer is None:
                for alter in proxy.sent:
                    request = alter(request)
                answer = _forwarded(request, proxy.target)
                for change in proxy.changes:
                    answer = change(request, answer)
            self._give(answer)
        except (Drop, ConnectionError):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _give(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "content-length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        if answer.length is not None:
            self.close_connection = True


def _forwarded(request: Request, target: tuple[str, int]) -> Answer:
    parts = urlsplit(request.path)
    if parts.scheme:
        target = (parts.hostname or "", parts.port or 80)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    connection = http.client.HTTPConnection(*target, timeout=30)
    try:
        headers = {name: value for name, value in request.headers.items() if name not in _HOPS}
        connection.request(request.method, path, body=request.body if request.body else None, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() not in _HOPS}
        if request.method == "HEAD":
            kept["content-length"] = answer.headers.get("Content-Length", "0")
        return Answer(answer.status, kept, body)
    finally:
        connection.close()
