"""URLs of S3 storages, and the checks of what they and options say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from freezer_sdk.errors import ConfigurationError, InvalidName
from freezer_sdk.storages.base import check_name

_HINT = "write s3://BUCKET/PREFIX, or s3://BUCKET/PREFIX?endpoint=https://HOST:PORT"


def parse_url(url: str, allowed: Collection[str]) -> dict[str, Any]:
    """Option values from ``s3://BUCKET/PREFIX?OPTION=VALUE``; the URL itself is in no message, it may hold secrets.

    Args:
        allowed: options that a URL may set.

    Raises:
        ConfigurationError: not such a URL.
    """
    try:
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigurationError("this is not the URL of an S3 storage", hint=_HINT) from None
    if parts.scheme != "s3" or not parts.netloc:
        raise ConfigurationError("this is not the URL of an S3 storage", hint=_HINT)
    if "@" in parts.netloc:
        raise ConfigurationError(
            "the URL of an S3 storage takes no credentials",
            hint="set access_key and secret_key, a profile of ~/.aws, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    if parts.fragment:
        raise ConfigurationError("the URL of an S3 storage has a '#'", hint="write %23 where a prefix contains one")
    values = dict(given)
    if len(values) < len(given):
        raise ConfigurationError("the URL of the S3 storage sets an option twice")
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise ConfigurationError(
            f"the URL of an S3 storage cannot set {', '.join(unknown)}", hint=f"it takes {', '.join(sorted(allowed))}"
        )
    return {"bucket": unquote(parts.netloc), "prefix": check_prefix(unquote(parts.path)), **values}


def make_url(bucket: str, prefix: str, values: Mapping[str, str | None]) -> str:
    """The URL that :func:`parse_url` takes apart; values that are ``None`` are left out."""
    query = urlencode({name: value for name, value in values.items() if value is not None}, quote_via=quote, safe=":/")
    return f"s3://{quote(bucket, safe='')}" + (f"/{quote(prefix)}" if prefix else "") + (f"?{query}" if query else "")


def check_prefix(prefix: str) -> str:
    """The prefix without a ``/`` at its ends.

    Raises:
        ConfigurationError: objects below it could not be named.
    """
    prefix = prefix.strip("/")
    try:
        return check_name(prefix) if prefix else ""
    except InvalidName as error:
        raise ConfigurationError(f"the prefix cannot be used: {error}") from error


def check_endpoint(endpoint: str | None) -> str | None:
    """The endpoint as a URL; ``https://`` where it does not say.

    Raises:
        ConfigurationError: not one.
    """
    if endpoint is None:
        return None
    if "://" not in endpoint:
        endpoint = f"https://{endpoint}"
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "the endpoint must be a URL without credentials", hint="write for example https://s3.example.org:9000"
        )
    return endpoint.rstrip("/")
