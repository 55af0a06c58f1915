"""Storages ``ftp`` and ``ftps``: objects as files below a folder of an FTP server.

A name ``packs/ab/x`` is the file ``packs/ab/x``, as in the storage ``local``. Unfinished files lie in ``.freezer-tmp``
and are renamed to their place when the server said that it has all, and their size is right.
"""

from __future__ import annotations

import contextlib
import ftplib
import io
import itertools
import logging
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, unquote, urlsplit

from freezer_sdk.errors import (
    AccessDenied,
    CapabilityMissing,
    ConfigurationError,
    InvalidName,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
)
from freezer_sdk.model import Buffer
from freezer_sdk.options import Option
from freezer_sdk.storages._ftp import Connection, Facts, Features, Server, reporting, says_not_there
from freezer_sdk.storages._ftp_files import PRIVATE, Files, NameTaken
from freezer_sdk.storages._ftp_listing import Entry, Tree, find, is_text, read_folder, with_times
from freezer_sdk.storages._ftp_pool import Pool
from freezer_sdk.storages._ftp_transfer import Incoming, Outgoing
from freezer_sdk.storages.base import TRAFFIC_BLOCK, Capabilities, ObjectInfo, Reader, Storage, Upload, check_name
from freezer_sdk.streams.network import CONNECT_TIMEOUT, PROXY, PROXY_PASSWORD, TIMEOUT, Proxy

_T = TypeVar("_T")

MAX_PART = 255
_RESERVED = (PRIVATE, "lost+found")
_ATTEMPTS = 20  # each one needs an object to be replaced while it is read
_BATCH = 256  # names that are deleted with one connection
_NO_FILE = ("501", "550", "551", "553", "554")  # what servers say of names that are not there, and of much else

_log = logging.getLogger(__name__)


class FtpStorage(Storage):
    """Objects as files below a folder of an FTP server, everything in the clear.

    Args:
        host: name or address of the server.
        path: the folder, as the server shows it; made on the first write when it does not exist.
        connections: at most so many at once; fewer while the server takes no more.

    Raises:
        ConfigurationError: an option makes no sense.
    """

    name = "ftp"
    api_version = 1
    summary = "a folder of an FTP server; password and data in the clear"
    options: ClassVar[tuple[Option, ...]] = (
        Option(name="host", required=True, help="Name or address of the server."),
        Option(name="port", type="int", help="TCP port of the server; else 21, or 990 for implicit TLS."),
        Option(name="user", default="anonymous", help="User on the server."),
        Option(name="password", secret=True, help="Password of the user."),
        Option(name="path", default="/", help="Folder that holds the objects, as the server shows it."),
        Option(name="connections", type="int", default=4, help="How many connections may be open at once."),
        CONNECT_TIMEOUT,
        TIMEOUT,
        PROXY,
        PROXY_PASSWORD,
    )
    _port = 21

    def __init__(
        self,
        *,
        host: str,
        port: int | None = None,
        user: str = "anonymous",
        password: str | None = None,
        path: str = "/",
        connections: int = 4,
        connect_timeout: float = 30.0,
        timeout: float = 60.0,
        proxy: str | None = None,
        proxy_password: str | None = None,
    ) -> None:
        if connections < 1 or timeout <= 0 or connect_timeout <= 0:
            raise ConfigurationError("connections, timeout and connect_timeout must be more than 0")
        if any(bad in text for text in (host, user, password or "") for bad in "\r\n\0"):
            raise ConfigurationError("host, user and password must not contain line ends or NUL")
        self._server = Server(
            host=host,
            port=port or self._port,
            user=user,
            password="anonymous@" if password is None and user == "anonymous" else password,
            proxy=Proxy.parse(proxy, password=proxy_password) if proxy else None,
            connect_timeout=connect_timeout,
            timeout=timeout,
            **self._security(),
        )
        self._files = Files(_checked_path(path))
        self._tree = Tree(self._scan, hidden=_RESERVED)
        features = Features()
        self._pool = Pool(lambda: Connection.open(self._server, features), limit=connections, timeout=timeout)
        self._connections = connections

    def _security(self) -> dict[str, Any]:
        return {}

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """See :meth:`Storage.parse_url`; ``ftp://USER@HOST:PORT/PATH``, percent-encoded, perhaps with a password."""
        values: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            parts = urlsplit(url)
            if parts.scheme == cls.name and parts.hostname and not parts.query and not parts.fragment:
                given = {"user": parts.username, "password": parts.password, "path": parts.path or "/"}
                told = {key: unquote(text, errors="strict") for key, text in given.items() if text}
                values = {**told, "host": parts.hostname} | ({"port": parts.port} if parts.port else {})
        if not values:
            raise ConfigurationError(
                f"this is not the URL of a storage {cls.name!r}",
                hint=f"write {cls.name}://USER@HOST/FOLDER, with ? and # as %3F, %23",
            )
        return values

    @property
    def location(self) -> str:
        """A URL that opens the same place again, without the password."""
        server = self._server
        user = "" if server.user == "anonymous" else quote(server.user, safe="") + "@"
        host = f"[{server.host}]" if ":" in server.host else server.host
        port = "" if server.port == self._port else f":{server.port}"
        return f"{self.name}://{user}{host}{port}{quote(self._files.base)}"

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Storage.capabilities`; FTP tells times in seconds, and cannot create without replacing."""
        return Capabilities(conditional_put=False, clock_resolution=timedelta(seconds=1), paced=True)

    @property
    def max_parallel(self) -> int:
        """See :meth:`Storage.max_parallel`."""
        return self._connections

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        path = self._path(name)
        if if_absent:
            raise CapabilityMissing(f"cannot store {name!r} only if it is absent: FTP has no such operation")
        with reporting(f"cannot store {name!r} in {self.location}"), self._pool.connection() as connection:
            temporary, outgoing = self._files.begin(connection, self.traffic)
            try:
                for buffer in buffers:
                    outgoing.write(buffer)
                return self._commit(connection, outgoing, temporary, name)
            except BaseException as error:
                outgoing.close()
                self._files.discard(connection, temporary)
                if not isinstance(error, NameTaken) or self._get(connection, path, 0, None) != b"".join(buffers):
                    raise
                # an earlier try stored it, and its answer was lost
                return _info(name, connection.facts(path))

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`; holds a connection."""
        self._path(name)
        what = f"cannot store {name!r} in {self.location}"
        with self._pool.connection() as connection:
            with reporting(what):
                temporary, outgoing = self._files.begin(connection, self.traffic)
            upload = _FtpUpload(what, outgoing, lambda: self._commit(connection, outgoing, temporary, name))
            try:
                yield upload
            finally:
                upload.ended = True
                if not upload.committed:
                    outgoing.close()
                    self._files.discard(connection, temporary)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        if length is not None and length < 0:
            raise ValueError("length must not be negative")
        path = self._path(name)
        with reporting(f"cannot read {name!r} in {self.location}"), self._pool.connection() as connection:
            if length == 0:
                self._existing(connection, name, lambda: connection.facts(path))
                return b""
            return self._existing(connection, name, lambda: self._get(connection, path, offset, length))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`; holds a connection."""
        path = self._path(name)
        what = f"cannot read {name!r} in {self.location}"
        with self._pool.connection() as connection:
            with reporting(what):
                incoming = self._existing(connection, name, lambda: Incoming(connection, f"RETR {path}", self.traffic))
            try:
                yield _FtpReader(what, incoming, lambda: connection.facts(path).size)
            finally:
                incoming.close()

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        path = self._path(name)
        with reporting(f"cannot look at {name!r} in {self.location}"), self._pool.connection() as connection:
            return _info(name, self._existing(connection, name, lambda: connection.facts(path)))

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; only regular files whose names are UTF-8 without line ends are objects."""
        if delimiter not in (None, "/"):
            raise ValueError("the delimiter can only be '/'")
        return self._tree.listing(prefix, deep=delimiter is None)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`; folders that become empty go too."""
        self._path(name)
        with reporting(f"cannot delete {name!r} in {self.location}"), self._pool.connection() as connection:
            self._files.delete(connection, [name])

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`; does not wait for each one's answer."""
        failure: StorageError | None = None
        remaining = iter(names)
        while batch := list(itertools.islice(remaining, _BATCH)):
            good = []
            for name in batch:
                try:
                    self._path(name)
                    good.append(name)
                except InvalidName as error:
                    failure = error
            try:
                with reporting(f"cannot delete objects in {self.location}"), self._pool.connection() as connection:
                    self._files.delete(connection, good)
            except StorageError as error:  # the rest is still to be removed
                failure = error
        if failure is not None:
            raise failure

    def flush(self) -> None:
        """Nothing is held back here. FTP has no way to ask whether the server's disk has it."""

    def now(self) -> datetime:
        """See :meth:`Storage.now`; by the time of a fresh file."""
        with reporting(f"cannot tell the time of {self.location}"), self._pool.connection() as connection:
            temporary, outgoing = self._files.begin(connection, self.traffic)
            try:
                outgoing.finish()
                return connection.facts(temporary).modified
            finally:
                outgoing.close()
                self._files.discard(connection, temporary)

    def close(self) -> None:
        """Ends the connections."""
        self._pool.close()

    def _path(self, name: str) -> str:
        parts = check_name(name).split("/")
        if not is_text(name):
            raise InvalidName(f"{name!r} cannot be the name of an object here: FTP has no names with line ends")
        if any(len(part.encode()) > MAX_PART for part in parts):
            raise InvalidName(f"{name!r} cannot be the name of a file: a part is longer than {MAX_PART} bytes")
        if parts[0] in _RESERVED:
            raise InvalidName(f"{name!r} cannot be the name of an object here: {parts[0]!r} has a meaning of its own")
        return self._files.path(name)

    def _commit(self, connection: Connection, outgoing: Outgoing, temporary: str, name: str) -> ObjectInfo:
        outgoing.finish()
        facts = connection.facts(temporary)
        if facts.size != outgoing.count:
            raise StorageUnavailable(
                f"cannot store {name!r} in {self.location}: of {outgoing.count} bytes {facts.size} arrived"
            )
        self._files.publish(connection, temporary, name)
        self._files.clean_up(connection, facts.modified)
        return _info(name, facts)

    def _existing(self, connection: Connection, name: str, action: Callable[[], _T]) -> _T:
        """What the action gives; a refusal of it is looked into, as servers say the same of much."""
        for _ in range(2):
            try:
                return action()
            except ftplib.error_perm as error:
                if str(error)[:3] not in _NO_FILE:
                    raise
                if says_not_there(error) or find(connection, self._files.path(name)) != "file":
                    raise ObjectNotFound(f"{self.location} holds no object {name!r}") from error
                refusal = error
        raise refusal

    def _get(self, connection: Connection, path: str, offset: int, length: int | None) -> bytes:
        before = connection.facts(path) if offset < 0 else None
        for _ in range(_ATTEMPTS):
            start = max(0, before.size + offset) if offset < 0 and before else offset
            content, incoming = self._fetch(connection, path, start, length)
            total = start + len(content)
            ended = length is None or len(content) < length
            if offset >= 0 and (not ended or (incoming and incoming.sealed)):
                return content
            # with an offset, some servers say how much is left
            announced = incoming.announced if incoming and (before or not start) else None
            if announced == (before.size if before else total) and (not ended or total == announced):
                return content
            after = connection.facts(path)
            if offset >= 0 and (total in (after.size, before and before.size) or start >= after.size):
                return content
            if before == after:
                if not ended or total == after.size:
                    return content
                raise StorageUnavailable(f"{path!r} was cut short: {total} of {after.size} bytes came")
            before = after  # it was replaced meanwhile
        raise StorageUnavailable(f"{path!r} is replaced again and again")

    def _fetch(
        self, connection: Connection, path: str, start: int, length: int | None
    ) -> tuple[bytes, Incoming | None]:
        """One try at a range; without the transfer, if the range lies beyond the end."""
        try:
            incoming = Incoming(connection, f"RETR {path}", self.traffic, offset=start)
        except ftplib.error_perm:
            if start and start >= connection.facts(path).size:
                return b"", None
            raise
        block = memoryview(bytearray(TRAFFIC_BLOCK))
        content = io.BytesIO()
        try:
            while length is None or incoming.count < length:
                size = incoming.read_into(block if length is None else block[: length - incoming.count])
                if not size:
                    break
                content.write(block[:size])
        finally:
            incoming.close()
        return content.getvalue(), incoming

    def _scan(self, folder: str, start: str, bare: bool) -> Sequence[Entry]:
        path = self._files.path(folder)
        with reporting(f"cannot list {folder!r} in {self.location}"), self._pool.connection() as connection:
            for _ in range(2):
                entries = read_folder(connection, path)
                if entries is not None:
                    chosen = [entry for entry in entries if entry.name.startswith(start)]
                    if bare:
                        return chosen
                    below = [entry for entry in chosen if entry.kind == "folder"]
                    return below + with_times(connection, path, chosen)
                if find(connection, path) != "folder":
                    return []
            raise AccessDenied(f"{path!r} may not be listed", hint="check what the user may do on the server")


class FtpsStorage(FtpStorage):
    """Objects as files below a folder of an FTP server, encrypted on their way.

    Args:
        ca_file: authorities that may have signed the server's certificate; else those of the system.
        insecure: neither the certificate nor the host name is checked: anybody on the way can read and change all.
        implicit: TLS from the first byte, on a port of its own; else it is asked for (``AUTH TLS``).
    """

    name = "ftps"
    summary = "a folder of an FTP server, over TLS"
    options = (
        *FtpStorage.options,
        Option(name="ca_file", type="path", help="File with the authorities that may have signed the certificate."),
        Option(
            name="insecure",
            type="bool",
            default=False,
            help="Check neither certificate nor host name: anybody on the way can read and change everything.",
        ),
        Option(name="implicit", type="bool", default=False, help="TLS from the first byte, usually on port 990."),
    )

    def __init__(
        self, *, ca_file: str | None = None, insecure: bool = False, implicit: bool = False, **values: Any
    ) -> None:
        self._ca_file, self._insecure, self._implicit = ca_file, insecure, implicit
        self._port = 990 if implicit else FtpStorage._port
        super().__init__(**values)

    def _security(self) -> dict[str, Any]:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{self._ca_file!r} holds no certificates: {error}") from error
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # some Pythons set it: a broken connection would look sealed
        if self._insecure:
            _log.warning("the certificate of the FTP server is not checked: anybody on the way can read everything")
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return {"tls": context, "implicit": self._implicit}


class _FtpUpload:
    """A stream on its way into an unfinished file."""

    def __init__(self, what: str, outgoing: Outgoing, commit: Callable[[], ObjectInfo]) -> None:
        self.ended = False
        self.committed = False
        self._what = what
        self._outgoing = outgoing
        self._commit = commit
        self._pending = bytearray()

    def write(self, data: Buffer) -> None:
        self._check()
        self._pending += data
        if len(self._pending) >= TRAFFIC_BLOCK:
            self._send()

    def commit(self) -> ObjectInfo:
        self._check()
        self._send()
        self.ended = True
        with reporting(self._what):
            info = self._commit()
        self.committed = True
        return info

    def _send(self) -> None:
        pending, self._pending = self._pending, bytearray()
        self.ended = True  # unless all goes well: the file would have a hole
        with reporting(self._what):
            self._outgoing.write(pending)
        self.ended = False

    def _check(self) -> None:
        if self.ended:
            raise StorageError(f"{self._what}: the upload has ended")


class _FtpReader:
    """A file on its way, read from its start."""

    def __init__(self, what: str, incoming: Incoming, size_now: Callable[[], int]) -> None:
        self._what = what
        self._incoming = incoming
        self._size_now = size_now
        self._block = memoryview(bytearray(TRAFFIC_BLOCK))
        self._whole = False

    def read(self, size: int = -1) -> bytes:
        with reporting(self._what):
            if size >= 0:
                return self._read(size)
            content = io.BytesIO()
            while piece := self._read(TRAFFIC_BLOCK):
                content.write(piece)
            return content.getvalue()

    def _read(self, size: int) -> bytes:
        if not size:
            return b""
        count = self._incoming.read_into(self._block[:size])
        if not count and not self._whole:
            incoming = self._incoming
            if not incoming.sealed and incoming.count not in (incoming.announced, self._size_now()):
                raise StorageUnavailable(f"{self._what}: it was cut short, or replaced meanwhile")
            self._whole = True
        return bytes(self._block[:count])


def _info(name: str, facts: Facts) -> ObjectInfo:
    return ObjectInfo(name=name, size=facts.size, modified=facts.modified)


def _checked_path(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if not path.startswith("/") or not is_text(path) or "\0" in path or any(part in (".", "..") for part in parts):
        raise ConfigurationError(
            f"{path!r} is not the path of a folder on an FTP server",
            hint="write it from the root, as the server shows it, without '..': /backups",
        )
    return "/" + "/".join(parts)
