"""Proxies as options say them, and as HTTP libraries want them."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from freezer_sdk.errors import ConfigurationError, StorageUnavailable
from freezer_sdk.streams.network import Proxy, connect


@pytest.mark.parametrize(
    ("given", "password", "url"),
    [
        ("http://proxy.example.org", None, "http://proxy.example.org:3128"),
        ("socks5h://127.0.0.1:9050", None, "socks5h://127.0.0.1:9050"),
        ("http://me@proxy:8080", "a b:c@d/", "http://me:a%20b%3Ac%40d%2F@proxy:8080"),
        ("http://me%40work:p%2Fw@proxy:8080", None, "http://me%40work:p%2Fw@proxy:8080"),
        ("http://me@[::1]:8080", "pw", "http://me:pw@[::1]:8080"),
        ("socks5://[fe80::1]", None, "socks5://[fe80::1]:1080"),
    ],
)
def test_what_libraries_are_told(given: str, password: str | None, url: str) -> None:
    proxy = Proxy.parse(given, password=password)
    assert proxy.secret_url == url
    assert Proxy.parse(url) == proxy


def test_a_password_is_not_shown() -> None:
    assert "canary" not in repr(Proxy.parse("http://me@proxy", password="canary"))


@pytest.mark.parametrize("given", ["proxy:3128", "ftp://proxy", "http://", "http://[::1", "http://proxy:port"])
def test_what_is_none(given: str) -> None:
    with pytest.raises(ConfigurationError, match="proxy"):
        Proxy.parse(given)


def answering(answer: bytes) -> tuple[socket.socket, threading.Thread]:
    """A proxy that gives one answer, all at once, to whatever it is asked."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            asked = b""
            while not asked.endswith(b"\r\n\r\n"):
                asked += client.recv(4096)
            with contextlib.suppress(ConnectionError):  # it may have heard enough
                client.sendall(answer)
                client.recv(1)  # until the other side closes

    thread = threading.Thread(target=serve)
    thread.start()
    return listener, thread


def test_what_a_server_says_first_is_not_lost() -> None:
    listener, thread = answering(b"HTTP/1.1 200 fine\r\nVia: x\r\n\r\n220 welcome\r\n")
    with listener:
        proxy = Proxy(scheme="http", host="127.0.0.1", port=listener.getsockname()[1], user="me", password="canary")
        with connect("server.example", 21, timeout=10, proxy=proxy) as made:
            assert made.recv(100) == b"220 welcome\r\n"
        thread.join()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 407 Who are you\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"\0" * 100_000, b"HTTP/1.1 200 OK\r\n"]
)
def test_a_proxy_that_refuses_or_is_none(answer: bytes) -> None:
    listener, thread = answering(answer)
    with listener:
        proxy = Proxy(scheme="http", host="127.0.0.1", port=listener.getsockname()[1], password="canary")
        with pytest.raises(StorageUnavailable, match=r"through http://127.0.0.1:\d+: ") as caught:
            connect("server.example", 21, timeout=1.0, proxy=proxy)
        assert "canary" not in str(caught.value)
        thread.join()
