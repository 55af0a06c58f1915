"""The real S3 servers of the tests, and an HTTP proxy that answers in their place when told to."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config

Answer = tuple[int, Mapping[str, str], bytes]

_HOP = ("connection", "proxy-connection", "keep-alive", "te", "transfer-encoding", "upgrade")


def options(env: Mapping[str, str], bucket: str, prefix: str, **others: Any) -> dict[str, Any]:
    """Options of a storage on a server of which ``env`` tells."""
    return {
        "bucket": bucket,
        "prefix": prefix,
        "endpoint": env["S3_ENDPOINT"],
        "access_key": env["S3_ACCESS"],
        "secret_key": env["S3_SECRET"],
        "create_bucket": True,
        "timeout": 20.0,
        **others,
    }


@contextlib.contextmanager
def raw_client(env: Mapping[str, str]) -> Iterator[Any]:
    """A botocore client of the test's own, to look behind the storage."""
    client = botocore.session.Session().create_client(
        "s3",
        region_name=env["S3_REGION"],
        endpoint_url=env["S3_ENDPOINT"],
        aws_access_key_id=env["S3_ACCESS"],
        aws_secret_access_key=env["S3_SECRET"],
        config=Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required"),
    )
    try:
        yield client
    finally:
        client.close()


class HttpProxy:
    """Forwards each request, whatever host it names, to one server; a context manager.

    Args:
        endpoint: URL of the server.

    Attributes:
        answer: is asked about each request, by method and target; what it returns is the answer instead of the
            server's, ``None`` lets the server answer.
        seen: method, target and Host header of each request.
    """

    def __init__(self, endpoint: str) -> None:
        self.answer: Callable[[str, str], Answer | None] = lambda method, target: None
        self.seen: list[tuple[str, str, str]] = []
        target = urlsplit(endpoint)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                return

            def forward(self) -> None:
                outer.seen.append((self.command, self.path, self.headers.get("Host", "")))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, content = outer.answer(self.command, self.path) or self.ask(body)
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def ask(self, body: bytes) -> Answer:
                parts = urlsplit(self.path)
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
                with contextlib.closing(connection):
                    connection.putrequest(self.command, path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        if name.lower() not in (*_HOP, "expect"):
                            connection.putheader(name, value)
                    connection.endheaders(body)
                    answer = connection.getresponse()
                    headers = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
                    return answer.status, headers, answer.read()

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def error_answer(status: int, code: str, **headers: str) -> Answer:
    """An S3 error; ``_`` in the names of headers stands for ``-``."""
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>said the test</Message></Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/xml", **named}, text.encode()
