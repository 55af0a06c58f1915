"""The botocore client of an S3 storage: made once, at the first request; what it says to logs is without secrets."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from freezer_sdk.errors import ConfigurationError, StorageError
from freezer_sdk.storages._s3_body import Body
from freezer_sdk.storages._s3_errors import reporting
from freezer_sdk.storages.base import TRAFFIC_BLOCK
from freezer_sdk.streams.network import Proxy

_DEFAULT_REGION = "us-east-1"
_CHATTY = ("auth", "credentials", "endpoint", "hooks", "httpsession", "parsers", "utils")
_SECRETS = re.compile(
    r"""(?ix)
    ( ["']? (?: (?:proxy-)?authorization | x-amz-security-token | x-aws-ec2-metadata-token )["']? \s*[:=]\s* )
        (?: b?"[^"]*" | b?'[^']*' | [^\r\n]* )
    | ( ["']? (?: SessionToken | Secret(?:Access)?Key | AccessToken | RefreshToken | WebIdentityToken | SAMLAssertion
        | Token | TokenCode )["']? (?: \s*[:=]\s* | > ) )
        (?: b?"[^"]*" | b?'[^']*' | [^<\s,}]+ )
    """
)


@dataclass(frozen=True, kw_only=True)
class Access:
    """How the server is reached, and as whom; a secret in it is never shown.

    Attributes:
        endpoint: URL; ``None``: Amazon's own, or what botocore's configuration names.
        path_style: the bucket is the first part of the path, not of the host's name.
    """

    endpoint: str | None
    region: str | None
    path_style: bool
    access_key: str | None
    secret_key: str | None
    session_token: str | None
    profile: str | None
    ca_file: str | None
    insecure: bool
    connections: int
    connect_timeout: float
    timeout: float
    proxy: Proxy | None

    def __repr__(self) -> str:
        return f"<Access {self.endpoint or 'Amazon S3'}>"


@dataclass
class Server:
    """What a server's answers tell of it.

    Attributes:
        known: it has answered.
        folders: keys are paths of a file system to it: listed folder by folder, and no key has a backslash.
        races: of conditional puts at the same moment several succeed, though one after the other they work.
    """

    known: bool = False
    folders: bool = False
    races: bool = False

    def learn(self, headers: Mapping[str, str]) -> None:
        """Takes in the headers of an answer."""
        if not self.known:
            self.folders = headers.get("server", "").startswith("SeaweedFS")
            self.races = "x-trans-id" in headers or "x-openstack-request-id" in headers  # Swift
            self.known = True


class Connection:
    """Gives the one client of a storage, to any thread.

    Attributes:
        server: what is known of it so far.
    """

    def __init__(self, access: Access) -> None:
        self.server = Server()
        self._access = access
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False
        self._discretion = _Discretion()

    @property
    def client(self) -> Any:
        """The botocore client.

        Raises:
            ConfigurationError: botocore's own configuration is wrong.
            StorageError: it was closed.
        """
        with self._lock:
            if self._closed:  # a new client would never be closed
                raise StorageError("the storage is closed")
            if self._client is None:
                for name in _CHATTY:
                    logging.getLogger(f"botocore.{name}").addFilter(self._discretion)
                with reporting("the S3 client cannot be made"):
                    self._client = self._make()
            return self._client

    def close(self) -> None:
        """Closes all connections."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
            if client is not None:
                client.close()
            for name in _CHATTY:
                logging.getLogger(f"botocore.{name}").removeFilter(self._discretion)

    def _make(self) -> Any:
        from botocore.session import Session

        access = self._access
        session = Session(profile=access.profile)
        region = access.region or session.get_config_variable("region") or _DEFAULT_REGION
        with _as_configuration():
            client = session.create_client(
                "s3",
                region_name=region,
                endpoint_url=access.endpoint,
                aws_access_key_id=access.access_key,
                aws_secret_access_key=access.secret_key,
                aws_session_token=access.session_token,
                verify=False if access.insecure else access.ca_file,
                config=self._config(),
            )
        events = client.meta.events
        events.register_last("before-call.s3", _prepare)
        events.register("before-send.s3", _start_sending)
        events.register("after-call.s3", self._learn)
        return client

    def _config(self) -> Any:
        from botocore.config import Config

        access = self._access
        return Config(
            connect_timeout=access.connect_timeout,
            read_timeout=access.timeout,
            max_pool_connections=access.connections * 2,  # readers stay open while others work
            tcp_keepalive=True,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path" if access.path_style else "virtual"},
            # servers older than the new checksums refuse them; Content-MD5 goes with every object
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies=None if access.proxy is None else dict.fromkeys(("http", "https"), access.proxy.secret_url),
            user_agent_extra="freezer-sdk",
        )

    def _learn(self, http_response: Any, **_: Any) -> None:
        self.server.learn({name.lower(): value for name, value in http_response.headers.items()})


class _Discretion(logging.Filter):
    """Takes tokens and signatures out of what botocore logs at its debug level."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record where it must; none is dropped."""
        text = record.getMessage()
        hidden = _SECRETS.sub(lambda found: (found[1] or found[2]) + "***", text)
        if hidden != text:
            record.msg, record.args = hidden, None
        return True


@contextlib.contextmanager
def _as_configuration() -> Iterator[None]:
    try:
        yield
    except ValueError as error:  # an endpoint or region that is none
        raise ConfigurationError(f"the S3 client cannot be made: {error}") from error


def _prepare(params: dict[str, Any], model: Any, **_: Any) -> None:
    """The last look at a request before it is signed."""
    headers, body = params["headers"], params["body"]
    if isinstance(body, Body) and body.size <= TRAFFIC_BLOCK:
        headers.pop("Expect", None)  # asking first costs a round trip, sending costs less
    if model.name == "DeleteObjects" and isinstance(body, bytes):
        # the checksum that every server knows; botocore sends only the newer one
        headers["Content-MD5"] = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def _start_sending(request: Any, **_: Any) -> None:
    if isinstance(request.body, Body):
        request.body.sending = True
