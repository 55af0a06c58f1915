"""Proxies as options say them, and as HTTP libraries want them."""

from __future__ import annotations

import pytest

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.streams.network import Proxy


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
