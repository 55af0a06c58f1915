"""Requests to Swift by python-swiftclient: a pool of connections, tokens renewed once, errors as ours."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from freezer_sdk.errors import (
    AccessDenied,
    ChecksumMismatch,
    ConfigurationError,
    ObjectNotFound,
    StorageError,
    StorageFull,
    StorageThrottled,
    StorageUnavailable,
)
from freezer_sdk.streams.network import Proxy
from freezer_sdk.streams.openstack import Cloud, untrusted

T = TypeVar("T")
Request = Callable[[str, str, Any], T]
"""A call of swiftclient's: storage URL, token, and swiftclient's ``http_conn``; may be made twice."""

_log = logging.getLogger(__name__)
_SERVICE = "object-store"
_HARMLESS = (401, 404, 416)  # after any other error the next request takes a new connection


class RangeBeyondEnd(StorageError):
    """A range was asked for that begins after the end of the object."""


class SwiftClient:
    """Swift as one user sees it. May be used from several threads.

    Args:
        cloud: logs in.
        place: the storage in messages.
        connect_timeout, timeout: seconds.
        proxy: what every connection goes through.
    """

    def __init__(
        self, cloud: Cloud, *, place: str, connect_timeout: float, timeout: float, proxy: Proxy | None = None
    ) -> None:
        self._cloud = cloud
        self._place = place
        self._settings: dict[str, Any] = {"connect_timeout": connect_timeout, "timeout": timeout, "proxy": proxy}
        self._lock = threading.Lock()
        self._idle: list[Any] = []
        self._url: str | None = None
        self._closed = False

    def call(self, what: str, request: Request[T]) -> T:
        """Makes a request whose answer is read when it returns.

        Args:
            what: begins the message of an error, for example ``cannot read 'x'``.
            request: made again once when the token was refused.

        Raises:
            ObjectNotFound: 404, of object, container or account.
            AccessDenied, StorageFull, StorageThrottled, StorageUnavailable, ChecksumMismatch, StorageError.
        """
        with self.answer(what, request) as answer:
            return answer

    @contextmanager
    def answer(self, what: str, request: Request[T]) -> Iterator[T]:
        """As :meth:`call`, for an answer that is read inside the block, by way of :meth:`failures`."""
        answer, connection = self._begin(what, request)
        try:
            yield answer
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)

    @contextmanager
    def failures(self, what: str) -> Iterator[None]:
        """Whatever the libraries raise comes out as an error of ours."""
        from swiftclient.exceptions import ClientException

        from freezer_sdk.streams.http import FAILURES, distrusted, why

        what = f"{what} in {self._place}"
        try:
            yield
        except StorageError:
            raise
        except ClientException as error:
            raise _refusal(what, error) from error
        except FAILURES as error:
            if distrusted(error):
                raise untrusted(self._place, why(error), hard=True) from error
            raise StorageUnavailable(f"{what}: {why(error)}") from error
        except ValueError as error:  # JSON that was cut short
            raise StorageUnavailable(f"{what}: the answer makes no sense") from error

    def close(self) -> None:
        """Closes all connections; those in use when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._cloud.close()

    def _begin(self, what: str, request: Request[T]) -> tuple[T, Any]:
        from swiftclient.exceptions import ClientException

        token = self._cloud.token()
        with self.failures(what):
            try:
                return self._attempt(request, token)
            except ClientException as error:
                if error.http_status != 401 or not self._renew(token):
                    raise
            return self._attempt(request, self._cloud.token())

    def _attempt(self, request: Request[T], token: str) -> tuple[T, Any]:
        from swiftclient.exceptions import ClientException

        connection = self._take()
        try:
            return request(connection.url, token, (connection.parsed_url, connection)), connection
        except ClientException as error:
            if error.http_status in _HARMLESS:
                self._give_back(connection)
            else:
                connection.close()
            raise
        except BaseException:
            connection.close()
            raise

    def _renew(self, token: str) -> bool:
        _log.debug("the token for %s is not accepted any more", self._place)
        with self._lock:
            self._url = None
        return self._cloud.renew(token)

    def _take(self) -> Any:
        """A connection: an idle one, or a new one."""
        url = self._url or self._cloud.endpoint(_SERVICE).rstrip("/")
        with self._lock:
            self._url = url
            if self._closed:
                raise StorageError(f"{self._place} is closed")
            while self._idle:
                connection = self._idle.pop()
                if connection.url == url:
                    return connection
                connection.close()
        return self._connection(url)

    def _connection(self, url: str) -> Any:
        from swiftclient.client import HTTPConnection

        from freezer_sdk.streams import http

        verify, cert = self._cloud.verify, self._cloud.cert
        connection = HTTPConnection(
            url,
            cacert=verify if isinstance(verify, str) else None,
            insecure=verify is False,
            cert=cert[0] if cert else None,
            cert_key=cert[1] if cert else None,
        )
        http.prepare(connection.request_session, **self._settings)
        return connection

    def _give_back(self, connection: Any) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


def _refusal(what: str, error: Any) -> StorageError | ConfigurationError:
    """The error for a status that is no success."""
    status: int | None = error.http_status
    if status is None:
        return StorageError(f"{what}: {type(error).__name__}")
    said = bytes(error.http_response_content or b"").lower()
    what = f"{what}: {status} {error.http_reason}".rstrip()
    match status:
        case 404 | 410:
            return ObjectNotFound(what)
        case 413 | 403 if b"quota" in said:
            return StorageFull(what, hint="the quota of the container or the account is used up")
        case 507:
            return StorageFull(what)
        case 413 if _retry_after(error) is None and b"rate" not in said:
            return StorageError(what, hint="the server does not take objects of this size: set segment_size")
        case 413 | 429 | 498:
            throttled = StorageThrottled(what)
            throttled.retry_after = _retry_after(error)
            return throttled
        case 401 | 403 | 497:
            return AccessDenied(what, hint="check the user's role in the project, or the container's access lists")
        case 416:
            return RangeBeyondEnd(what)
        case 422:
            return ChecksumMismatch(what)
        case 408 | 409 | 499:  # 409: the clock of another server is ahead
            return StorageUnavailable(what)
        case _ if status >= 500:
            unavailable = StorageUnavailable(what)
            unavailable.retry_after = _retry_after(error)
            return unavailable
    return StorageError(what)


def _retry_after(error: Any) -> float | None:
    """Seconds that the server asks to wait."""
    value = (error.http_response_headers or {}).get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        moment = http_time(value)
        return None if moment is None else max(0.0, (moment - datetime.now(UTC)).total_seconds())


def http_time(text: str | None) -> datetime | None:
    """A time as HTTP writes it; ``None`` for anything else."""
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except ValueError:
        return None
