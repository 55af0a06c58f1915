"""Storage ``swift``: objects of a container of OpenStack Swift (or what speaks its API), below a prefix.

An object of usual size is one PUT, checked by its MD5; larger ones and streams are static large objects, whose segments
lie in a container of their own. Swift is eventually consistent: it has no atomic conditional put, and listings may lag.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from importlib.util import find_spec
from typing import Any
from urllib.parse import unquote, urlsplit

from freezer_sdk.errors import (
    CapabilityMissing,
    ConfigurationError,
    InvalidName,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
)
from freezer_sdk.model import Buffer
from freezer_sdk.options import Option, validate
from freezer_sdk.storages._swift_body import Incoming, as_bytes, check_range, checksum, range_header, split
from freezer_sdk.storages._swift_http import RangeBeyondEnd, SwiftClient, http_time
from freezer_sdk.storages._swift_objects import Objects
from freezer_sdk.storages._swift_segments import SegmentedUpload
from freezer_sdk.storages.base import (
    MAX_NAME,
    TRAFFIC_BLOCK,
    Capabilities,
    ObjectInfo,
    Reader,
    Storage,
    Upload,
    check_name,
)
from freezer_sdk.streams.network import CONNECT_TIMEOUT, PROXY, PROXY_PASSWORD, TIMEOUT, Proxy
from freezer_sdk.streams.openstack import INSTEAD, OPENSTACK, Cloud, resolve

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST_PIECE = 5 << 30  # what Swift takes as one object unless it is told otherwise
STREAM_SEGMENT = 16 << 20  # of a stream of unknown length: this much is held in memory
_MAX_CONTAINER = 256
_STORAGE_URL = Option(
    name="os_storage_url",
    env=("OS_STORAGE_URL",),
    env_unless=(*INSTEAD, "os_auth_url"),
    help="URL of the Swift account, instead of the one that the login gives",
)
_LOGIN = (_STORAGE_URL, *OPENSTACK)


class SwiftStorage(Storage):
    """Objects of a Swift container.

    Args:
        container: its name; made on the first write when it does not exist.
        prefix: put before all names, with a ``/`` between.
        segment_size: largest object that is stored in one piece.
        storage_policy: of containers that are made.
        listing_lag: seconds that a listing may miss what was written.
        connect_timeout, timeout: seconds.
        proxy, proxy_password: see :mod:`freezer_sdk.streams.network`.
        login: values of :data:`freezer_sdk.streams.openstack.OPENSTACK`, and ``os_storage_url``.

    Raises:
        ConfigurationError: a name, size or login that cannot be.
    """

    name = "swift"
    api_version = 1
    summary = "a container of OpenStack Swift"
    options = (
        Option(name="container", required=True, help="Container; made on the first write when it does not exist"),
        Option(name="prefix", help="Put before the names of all objects, with a '/' between"),
        Option(
            name="segment_size",
            type="size",
            default=LARGEST_PIECE,
            help="Largest object that is stored in one piece, 5G at most; larger ones are stored in segments of it",
        ),
        Option(name="storage_policy", help="Storage policy of a container that is made"),
        Option(
            name="listing_lag",
            type="duration",
            default=10.0,
            help="How long a listing of the cluster may miss what was written",
        ),
        *_LOGIN,
        CONNECT_TIMEOUT,
        TIMEOUT,
        PROXY,
        PROXY_PASSWORD,
    )

    def __init__(
        self,
        *,
        container: str,
        prefix: str | None = None,
        segment_size: int = LARGEST_PIECE,
        storage_policy: str | None = None,
        listing_lag: float = 10.0,
        connect_timeout: float = 30.0,
        timeout: float = 60.0,
        proxy: str | None = None,
        proxy_password: str | None = None,
        **login: Any,
    ) -> None:
        self._container = _checked_container(container)
        self._prefix = _checked_prefix(prefix or "")
        if not 1 <= segment_size <= LARGEST_PIECE:
            raise ConfigurationError(f"segment_size {segment_size} is not between 1 byte and 5G")
        self._segment_size = segment_size
        self._lag = timedelta(seconds=listing_lag)
        through = None if proxy is None else Proxy.parse(proxy, password=proxy_password)
        network: dict[str, Any] = {"connect_timeout": connect_timeout, "timeout": timeout, "proxy": through}
        values = resolve(validate(_LOGIN, login, owner=f"storage {self.name!r}"), _LOGIN)
        cloud = Cloud(values, endpoint=values.get("os_storage_url"), **network)
        self._client = SwiftClient(cloud, place=self.location, **network)
        self._objects = Objects(self._client, self._container, policy=storage_policy)

    @classmethod
    def available(cls) -> str | None:
        """Whether the client's libraries are installed."""
        missing = [name for name in ("swiftclient", "keystoneauth1") if find_spec(name) is None]
        return "pip install 'freezer-sdk[swift]'" if missing else None

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """See :meth:`Storage.parse_url`; ``swift:CONTAINER/PREFIX``, or percent-encoded ``swift://CONTAINER/PREFIX``."""
        scheme, colon, rest = url.partition(":")
        if not colon or scheme != "swift":
            raise ConfigurationError(f"{url!r} is not the URL of a Swift storage", hint="write swift:CONTAINER/PREFIX")
        if rest.startswith("//"):
            try:
                parts = urlsplit(url)
            except ValueError as error:  # brackets that are no address
                raise ConfigurationError(f"{url!r} is not understood: {error}") from None
            if parts.query or parts.fragment:
                raise ConfigurationError(f"{url!r} is not understood", hint="write ? and # as %3F and %23")
            rest = unquote(parts.netloc + parts.path)
        container, _, prefix = rest.partition("/")
        values = {"container": _checked_container(container), "prefix": _checked_prefix(prefix)}
        return {name: value for name, value in values.items() if value}

    @property
    def location(self) -> str:
        """A URL that opens the same place again."""
        return f"swift:{self._container}" + (f"/{self._prefix}" if self._prefix else "")

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Storage.capabilities`.

        Swift takes ``If-None-Match: *``, but looks before it has received the object: of several writers at once, all
        may win. So it has no conditional put.
        """
        return Capabilities(
            conditional_put=False,
            listing_lag=self._lag,
            clock_resolution=timedelta(seconds=1),
            checksum="md5",
            paced=True,
            segmented_uploads=True,
        )

    @property
    def max_parallel(self) -> int:
        """How many calls at once still help."""
        return 8

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        path = self._path(name)
        if if_absent:
            raise CapabilityMissing(f"{self.location} cannot store {name!r} only if it is absent")
        views = as_bytes(buffers)
        size = sum(map(len, views))
        if size <= self._segment_size:
            return _info(name, size, self._objects.put(path, views, self.traffic))
        with SegmentedUpload(self._objects, path, self.traffic) as segments:
            for piece in split(views, self._segment_size):
                segments.add(piece)
            return _info(name, size, segments.commit(), joined=True)

    @contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`; what fits into one segment is stored in one piece."""
        with SegmentedUpload(self._objects, self._path(name), self.traffic) as segments:
            yield _Stream(self, name, segments, min(self._segment_size, STREAM_SEGMENT))

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        if length is not None and length < 0:
            raise ValueError("length must not be negative")
        if length == 0:
            self.stat(name)
            return b""
        try:
            with self._reading(name, offset, length) as reader:
                if reader.whole:
                    content = reader.read()
                    start = max(0, len(content) + offset) if offset < 0 else offset
                    return content if not start and length is None else content[start:][:length]
                return reader.read_exactly(length)
        except RangeBeyondEnd:
            return b""

    @contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`."""
        with self._reading(name, 0, None) as reader:
            yield reader

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        headers = self._objects.head(self._path(name), f"cannot look at {name!r}")
        return _info(name, int(headers.get("content-length", 0)), headers)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; objects whose names could not be given here are not listed."""
        if delimiter not in (None, "/"):
            raise ValueError("the delimiter can only be '/'")
        start = f"{self._prefix}/{prefix}" if self._prefix else prefix
        if not _may_begin(start):
            return iter(())
        return self._listing(start, delimiter)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        self._objects.delete(self._path(name))

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`; many at a time where the cluster can."""
        paths: dict[str, str] = {}
        misnamed: InvalidName | None = None
        for name in names:
            try:
                paths[self._path(name)] = name
            except InvalidName as error:  # the others are to be removed all the same
                misnamed = error
        super().delete_many(paths[path] for path in self._objects.delete_many(list(paths)))
        if misnamed is not None:
            raise misnamed

    def join(self, name: str, *, segments: str) -> ObjectInfo:
        """See :meth:`Storage.join`; a dynamic large object. Its size is not known beyond 10,000 segments: it says 0."""
        self._objects.join_dynamically(self._path(name), self._path(segments), self.traffic)
        return self.stat(name)

    def flush(self) -> None:
        """See :meth:`Storage.flush`; Swift acknowledges only what is on disk."""

    def now(self) -> datetime:
        """See :meth:`Storage.now`; by the time of an answer."""
        return self._objects.clock()

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _path(self, name: str) -> str:
        check_name(name)
        path = f"{self._prefix}/{name}" if self._prefix else name
        if self._prefix and len(path.encode()) > MAX_NAME:
            raise InvalidName(f"{name!r} cannot be the name of an object: with the prefix it is longer than {MAX_NAME}")
        return path

    @contextmanager
    def _reading(self, name: str, offset: int, length: int | None) -> Iterator[Incoming]:
        """The content of an object, or a range of it, as it comes in."""
        from swiftclient.client import get_object

        path, what = self._path(name), f"cannot read {name!r}"
        span = range_header(offset, length)
        answer: dict[str, Any] = {}
        with self._client.answer(
            what,
            lambda url, token, http: get_object(
                url,
                token,
                self._container,
                path,
                http_conn=http,
                headers={"Range": span} if span else {},
                resp_chunk_size=TRAFFIC_BLOCK,
                response_dict=answer,
            ),
        ) as (headers, body):
            try:
                whole = answer["status"] != HTTPStatus.PARTIAL_CONTENT  # also from servers that know no ranges
                if not whole:
                    check_range(headers, offset, what)
                yield Incoming(headers, body, what=what, guard=self._client.failures, traffic=self.traffic, whole=whole)
            finally:
                body.close()

    def _listing(self, start: str, delimiter: str | None) -> Iterator[ObjectInfo]:
        what, skip, marker = "cannot list objects", len(self._prefix) + 1 if self._prefix else 0, ""
        while True:
            try:
                entries = self._objects.page(start, marker, delimiter=delimiter, what=what)
            except ObjectNotFound:
                if marker:
                    raise StorageUnavailable(f"{what}: {self.location} has vanished meanwhile") from None
                return
            if not entries:  # only this is the end: a page that a proxy cut short is not
                return
            last = marker
            try:
                found = [_listed(entry, skip) for entry in entries]
            except (AttributeError, KeyError, TypeError, ValueError):
                raise StorageUnavailable(f"{what}: what the server says of {self.location} makes no sense") from None
            for path, info in found:
                if path < marker:
                    raise StorageUnavailable(f"{what}: the server does not list {self.location} in order")
                if path != marker:
                    marker = path
                    if info is not None:
                        yield info
            if marker == last:
                raise StorageUnavailable(f"{what}: the server lists the same page of {self.location} again and again")


class _Stream:
    """A stream on its way; holds one segment of it in memory."""

    def __init__(self, storage: SwiftStorage, name: str, segments: SegmentedUpload, room: int) -> None:
        self._storage = storage
        self._name = name
        self._segments = segments
        self._room = room
        self._buffer = bytearray()
        self._size = 0
        self._sent = False
        self._ended = False

    def write(self, data: Buffer) -> None:
        self._check()
        for view in as_bytes([data]):
            start = 0
            while start < len(view):
                piece = view[start : start + self._room - len(self._buffer)]
                self._buffer += piece
                start += len(piece)
                self._size += len(piece)
                if len(self._buffer) == self._room:
                    self._send()

    def commit(self) -> ObjectInfo:
        self._check()
        self._ended = True
        if not self._sent:
            return self._storage.put(self._name, [self._buffer])
        if self._buffer:
            self._send()
        return _info(self._name, self._size, self._segments.commit(), joined=True)

    def _send(self) -> None:
        ended, self._ended, self._sent = self._ended, True, True  # when it fails, nothing can come after it
        self._segments.add([memoryview(self._buffer)])
        self._buffer = bytearray()
        self._ended = ended

    def _check(self) -> None:
        if self._ended:
            raise StorageError(f"cannot store {self._name!r} in {self._storage.location}: the upload has ended")


def _info(name: str, size: int, headers: Mapping[str, str], *, joined: bool = False) -> ObjectInfo:
    try:
        modified: datetime | None = datetime.fromtimestamp(float(headers["x-timestamp"]), UTC)
    except (KeyError, ValueError):
        modified = http_time(headers.get("last-modified")) or http_time(headers.get("date"))
    digest = None if joined else checksum(headers)
    return ObjectInfo(
        name=name,
        size=size,
        modified=modified or datetime.now(UTC),
        checksum=None if digest is None else ("md5", digest),
    )


def _listed(entry: Mapping[str, Any], skip: int) -> tuple[str, ObjectInfo | None]:
    """One entry of a listing; no object for what cannot be named here, such as a folder's marker."""
    is_prefix = "subdir" in entry
    path = str(entry["subdir"] if is_prefix else entry["name"])
    name = path[skip:]
    with suppress(InvalidName):
        check_name(name.removesuffix("/") if is_prefix else name)
        if is_prefix:
            return path, ObjectInfo(name=name, size=0, modified=_NO_TIME, is_prefix=True)
        size = int(entry["bytes"])
        joined = "slo_etag" in entry or not size  # what is empty here may be a dynamic large object
        digest = None if joined else checksum({"etag": str(entry.get("hash", ""))})
        return path, ObjectInfo(
            name=name,
            size=size,
            modified=datetime.fromisoformat(entry["last_modified"]).replace(tzinfo=UTC),
            checksum=None if digest is None else ("md5", digest),
        )
    return path, None


def _may_begin(prefix: str) -> bool:
    """Whether any name can begin so; Swift refuses some of those that cannot."""
    try:
        return "\0" not in prefix and len(prefix.encode()) <= MAX_NAME
    except UnicodeEncodeError:
        return False


def _checked_container(name: str) -> str:
    problem = _misnamed(name)
    if problem is None and "/" in name:
        problem = "it contains '/'"
    if problem is None and len(name.encode()) > _MAX_CONTAINER - len("_segments"):
        problem = "it is too long"
    if problem is not None:
        raise ConfigurationError(f"{name!r} cannot be the name of a container: {problem}")
    return name


def _checked_prefix(prefix: str) -> str:
    prefix = prefix.strip("/")
    problem = _misnamed(prefix) if prefix else None
    if problem is not None:
        raise ConfigurationError(f"{prefix!r} cannot be a prefix: {problem}", hint="write swift:CONTAINER/PREFIX")
    return prefix


def _misnamed(name: str) -> str | None:
    try:
        check_name(name)
    except InvalidName as error:
        return error.message.rpartition(": ")[2]
    return None
