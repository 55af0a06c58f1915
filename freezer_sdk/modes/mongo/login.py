"""How to reach a MongoDB server and log in: for pymongo, and for MongoDB's own programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import quote

from freezer_sdk.errors import ConfigurationError, SourceUnreadable
from freezer_sdk.streams.private import descriptor_path, unnamed_file

_PORT = 27017


@dataclass(frozen=True, kw_only=True)
class Login:
    """A server and an account.

    Attributes:
        uri: in place of everything else.
        host: a name, an address, or the path of a socket.
        timeout: seconds for one question to the server.
    """

    uri: str | None = field(default=None, repr=False)
    host: str = "localhost"
    port: int | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    auth_database: str = "admin"
    tls: bool = False
    tls_ca: str | None = None
    tls_certificate_key: str | None = None
    timeout: float = 30.0

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """A ``pymongo.MongoClient`` of this very server, not of whichever member of its replica set is the primary.

        Raises:
            SourceUnreadable: what the block asked cannot be answered, or the server cannot be reached.
            ConfigurationError: the options make no sense to pymongo.
        """
        import pymongo
        from pymongo import errors

        wait = int(self.timeout * 1000)
        limits: dict[str, Any] = {"serverSelectionTimeoutMS": wait, "connectTimeoutMS": wait, "socketTimeoutMS": wait}
        try:
            with pymongo.MongoClient(**self._arguments(), **limits, appname="freezer") as client:
                yield client
        except (errors.ConfigurationError, errors.InvalidURI) as error:
            # pymongo shows what it was given, which may hold the password
            message = f"these options of the connection to MongoDB make no sense ({type(error).__name__})"
            raise ConfigurationError(
                message, hint="check the uri: user name and password must be percent-encoded"
            ) from None
        except errors.PyMongoError as error:
            raise SourceUnreadable(f"MongoDB at {self.place}: {self._plain(error)}") from error

    def _arguments(self) -> dict[str, Any]:
        if self.uri is not None:
            from pymongo import uri_parser

            found = uri_parser.parse_uri(self.uri, validate=False, warn=False) if "+srv:" not in self.uri else {}
            alone = len(found.get("nodelist", ())) == 1 and "replicaset" not in {o.lower() for o in found["options"]}
            return {"host": self.uri, **({"directConnection": True} if alone else {})}
        place = quote(self.host, safe="") if self.host.startswith("/") else self.host
        arguments: dict[str, Any] = {"host": place, "directConnection": True}
        if not self.host.startswith("/"):
            arguments["port"] = self.port or _PORT
        if self.user is not None:
            arguments |= {"username": self.user, "password": self.password, "authSource": self.auth_database}
        if self.tls:
            arguments |= {"tls": True, "tlsCAFile": self.tls_ca, "tlsCertificateKeyFile": self.tls_certificate_key}
        return {name: value for name, value in arguments.items() if value is not None}

    @property
    def place(self) -> str:
        """For messages."""
        if self.uri is not None:
            return self.uri.rpartition("@")[2].partition("/")[0].removeprefix("mongodb:").removeprefix("//")
        return self.host if self.host.startswith("/") else f"{self.host}:{self.port or _PORT}"

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no message may show."""
        return tuple(each for each in (self.password, self.uri) if each)

    def _plain(self, error: Exception) -> str:
        """What went wrong, without the reply and the topology that pymongo adds."""
        text = str(error).partition(", full error:")[0].partition(", Topology Description:")[0]
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text

    @contextmanager
    def tool_options(self) -> Iterator[tuple[list[str], tuple[int, ...]]]:
        """Options for ``mongodump`` and ``mongorestore``, and the descriptors that these programs must inherit."""
        if self.uri is not None:
            secret = {"uri": self.uri}
            options: list[str] = []
        else:
            secret = {"password": self.password} if self.password is not None else {}
            options = [f"--host={self.host}"]
            if not self.host.startswith("/"):
                options.append(f"--port={self.port or _PORT}")
            if self.user is not None:
                options += [f"--username={self.user}", f"--authenticationDatabase={self.auth_database}"]
            if self.tls:
                files = {"sslCAFile": self.tls_ca, "sslPEMKeyFile": self.tls_certificate_key}
                options += ["--ssl", *(f"--{name}={path}" for name, path in files.items() if path)]
        if not secret:
            yield options, ()
            return
        with unnamed_file(json.dumps(secret).encode()) as descriptor:  # JSON is YAML, too
            yield [f"--config={descriptor_path(descriptor)}", *options], (descriptor,)

    def to_json(self) -> str:
        """For another process of ours, through a pipe."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Login:
        """What :meth:`to_json` gave."""
        return cls(**json.loads(text))
