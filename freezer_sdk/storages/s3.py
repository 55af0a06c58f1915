"""Storage ``s3``: objects in a bucket of Amazon S3, or of any server that speaks its protocol."""

from __future__ import annotations

import contextlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from freezer_sdk.errors import (
    CapabilityMissing,
    ConfigurationError,
    InvalidName,
    StorageError,
    StorageUnavailable,
)
from freezer_sdk.model import Buffer
from freezer_sdk.storages import _s3_url
from freezer_sdk.storages._s3_body import views_of
from freezer_sdk.storages._s3_bucket import Bucket, Facts, WriteOptions
from freezer_sdk.storages._s3_client import Access, Connection
from freezer_sdk.storages._s3_deletion import Deletion
from freezer_sdk.storages._s3_errors import BucketMissing
from freezer_sdk.storages._s3_listing import NO_TIME, Listing
from freezer_sdk.storages._s3_options import OPTIONS, check_credentials, check_writing, http_proxy
from freezer_sdk.storages._s3_probe import Probe, ProbedCapabilities
from freezer_sdk.storages._s3_upload import StreamUpload, put_large
from freezer_sdk.storages.base import MAX_NAME, Capabilities, ObjectInfo, Reader, Storage, Upload, check_name

SCRATCH = ".freezer-probe"
"""The one name that no object has: what conditional puts are tried with."""

_SINGLE = 128 << 20  # larger objects go in parts
_MAX_PART = 255  # bytes of one part of a name, where the server keeps names as paths
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class S3Storage(Storage):
    """Objects in a bucket.

    Args:
        bucket: its name.
        prefix: of all names, without a ``/`` at its end; ``""``: the bucket is used by nothing else.

    The other arguments are the options of the same names.

    Raises:
        ConfigurationError: options that make no sense, alone or together.
    """

    name = "s3"
    api_version = 1
    summary = "a bucket of Amazon S3, Ceph, MinIO, SeaweedFS, Swift (s3api) or another S3 server"
    options = OPTIONS

    def __init__(
        self,
        *,
        bucket: str,
        prefix: str = "",
        endpoint: str | None = None,
        region: str | None = None,
        addressing: str = "auto",
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
        profile: str | None = None,
        ca_file: str | None = None,
        insecure: bool = False,
        storage_class: str | None = None,
        object_lock_days: int = 0,
        object_lock_mode: str = "compliance",
        create_bucket: bool = False,
        conditional_put: str = "auto",
        listing: str = "auto",
        part_size: int = 16 << 20,
        connections: int = 8,
        connect_timeout: float = 30.0,
        timeout: float = 60.0,
        proxy: str | None = None,
        proxy_password: str | None = None,
    ) -> None:
        endpoint = _s3_url.check_endpoint(endpoint)
        prefix = _s3_url.check_prefix(prefix)
        check_credentials(access_key, secret_key, session_token)
        check_writing(storage_class, object_lock_days, part_size)
        if not bucket or "/" in bucket or connections < 1:
            raise ConfigurationError("storage 's3': the bucket needs a name, and connections must be at least 1")
        self._prefix = f"{prefix}/" if prefix else ""
        self._place = f"s3://{bucket}/{prefix}".rstrip("/")
        self._location = _s3_url.make_url(
            bucket,
            prefix,
            {"endpoint": endpoint, "region": region, "addressing": None if addressing == "auto" else addressing},
        )
        self._connections = connections
        self._part_size = part_size
        self._folders = None if listing == "auto" else listing == "folders"
        access = Access(
            endpoint=endpoint,
            region=region,
            path_style=addressing == "path" or (addressing == "auto" and endpoint is not None),
            access_key=access_key,
            secret_key=secret_key,
            session_token=session_token,
            profile=profile,
            ca_file=ca_file,
            insecure=insecure,
            connections=connections,
            connect_timeout=connect_timeout,
            timeout=timeout,
            proxy=http_proxy(proxy, proxy_password),
        )
        options = WriteOptions(
            storage_class=storage_class,
            lock_mode=object_lock_mode.upper() if object_lock_days else None,
            lock_time=timedelta(days=object_lock_days),
            create_bucket=create_bucket,
            location=None if region == "us-east-1" else region,
        )
        self._connection = Connection(access)
        self._bucket = Bucket(self._connection, bucket, options=options, traffic=lambda: self.traffic)
        conditional = None if conditional_put == "auto" else conditional_put == "yes"
        self._probe = Probe(self._bucket, self._prefix + SCRATCH, conditional=conditional)
        self._capabilities = ProbedCapabilities(self._probe)
        self._listing = Listing(lambda: self._connection.client, bucket, f"cannot list {self._place}")

    @classmethod
    def available(cls) -> str | None:
        """See :meth:`Plugin.available`."""
        if importlib.util.find_spec("botocore") is None:
            return "botocore is not installed: pip install 'freezer-sdk[s3]'"
        return None

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """See :meth:`Storage.parse_url`; ``s3://BUCKET/PREFIX?endpoint=...``, and other options that are not secret."""
        hidden = ("bucket", "prefix")
        return _s3_url.parse_url(url, {o.name for o in cls.options if not o.secret and o.name not in hidden})

    @property
    def location(self) -> str:
        """A URL that opens the same place again, given the same credentials."""
        return self._location

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Storage.capabilities`; conditional puts and object lock are found out when first looked at."""
        return self._capabilities

    @property
    def max_parallel(self) -> int:
        """As many as the option says."""
        return self._connections

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        key, what = self._key(name), f"cannot store {name!r} in {self._place}"
        if if_absent and not self._probe.conditional_put():
            raise CapabilityMissing(
                f"{what}: this server cannot be trusted to keep an object that is there",
                hint="conditional_put=yes overrules what was found out",
            )
        self._check_lock(what)
        views = views_of(buffers)
        size = sum(len(view) for view in views)
        if size <= _SINGLE or if_absent:
            return _info(name, self._bucket.put(key, views, what, if_absent=if_absent))
        return _info(name, put_large(self._bucket, key, views, what, part=max(self._part_size, _SINGLE // 2)))

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`."""
        key, what = self._key(name), f"cannot store {name!r} in {self._place}"
        self._check_lock(what)
        stream = StreamUpload(self._bucket, key, what, part=self._part_size, finish=lambda facts: _info(name, facts))
        try:
            yield stream
        finally:
            stream.end()

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        if length is not None and length < 0:
            raise ValueError("length must not be negative")
        key, what = self._key(name), f"cannot read {name!r} in {self._place}"
        if length == 0:
            self._bucket.head(key, what)
            return b""
        wanted = _range(offset, length)
        found = self._bucket.get(key, what, wanted=wanted)
        if found is None:
            return b""
        answer, content = found
        with contextlib.closing(content):
            if wanted is None:
                return content.read()
            size = _size_of_range(answer, content.length, offset, length, what)
            return content.exactly(size if length is None else min(size, length))

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`."""
        found = self._bucket.get(self._key(name), f"cannot read {name!r} in {self._place}")
        assert found is not None  # only a range can be nothing
        with contextlib.closing(found[1]) as content:
            yield content

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        return _info(name, self._bucket.head(self._key(name), f"cannot look at {name!r} in {self._place}"))

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; keys that the contract does not allow as names are no objects."""
        if delimiter not in (None, "/"):
            raise ValueError("the delimiter can only be '/'")
        return self._list(prefix, delimiter)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`; where the bucket keeps versions, the last one stays, hidden."""
        self._bucket.delete(self._key(name), f"cannot delete {name!r} in {self._place}")

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`; a thousand with each request."""
        deletion = Deletion(self._bucket, f"cannot delete objects of {self._place}")
        for name in names:
            try:
                deletion.add(self._key(name))
            except InvalidName as error:
                deletion.failure = error
        deletion.finish()

    def flush(self) -> None:
        """What a server acknowledged is durable: there is nothing to wait for."""

    def now(self) -> datetime:
        """See :meth:`Storage.now`; by the date of an answer."""
        return self._bucket.date(self._prefix + SCRATCH, f"cannot ask {self._place} for the time")

    def close(self) -> None:
        """Closes all connections."""
        self._connection.close()

    def _list(self, prefix: str, delimiter: str | None) -> Iterator[ObjectInfo]:
        if not _may_begin_names(prefix):
            return
        wanted = self._prefix + prefix
        try:
            by_folders = self._keeps_folders(lambda: self._listing.any(wanted))
            if by_folders and "\\" in prefix:
                return
            entries = self._listing.by_folders if by_folders else self._listing.flat
            for entry in entries(wanted, delimiter=delimiter):
                name = entry.key.removeprefix(self._prefix)
                if not entry.key.startswith(wanted) or name == SCRATCH or not _is_name(name.removesuffix("/")):
                    continue
                if entry.modified is None:
                    yield ObjectInfo(name=name, size=0, modified=NO_TIME, is_prefix=True)
                elif not name.endswith("/"):
                    yield ObjectInfo(name=name, size=entry.size, modified=entry.modified)
        except BucketMissing:
            if not self._bucket.options.create_bucket:
                raise

    def _key(self, name: str) -> str:
        key = self._prefix + check_name(name)
        reason = None
        if len(key.encode()) > MAX_NAME:
            reason = f"with the prefix it is longer than {MAX_NAME} bytes"
        elif name == SCRATCH:
            reason = "it has a meaning of its own"
        elif not _is_path(key):
            what = f"cannot ask {self._place} what names it takes"
            if self._keeps_folders(lambda: self._bucket.date(self._prefix + SCRATCH, what)):
                reason = "a server that keeps names as paths would change or hide it"
        if reason is not None:
            raise InvalidName(f"{name!r} cannot be the name of an object here: {reason}")
        return key

    def _keeps_folders(self, ask: Callable[[], object]) -> bool:
        """Whether keys are paths to the server; ``ask`` makes it answer something, when it has not yet."""
        if self._folders is not None:
            return self._folders
        if not self._bucket.server.known:
            ask()
        return self._bucket.server.folders

    def _check_lock(self, what: str) -> None:
        """Stores nothing unprotected that shall be protected: some servers ignore what they cannot do."""
        if self._bucket.options.lock_mode is None:
            return
        try:
            possible = self._probe.object_lock()
        except BucketMissing:
            if not self._bucket.options.create_bucket:
                raise
            self._bucket.make()
            possible = self._probe.object_lock()
        if possible is False:
            raise ConfigurationError(
                f"{what}: the bucket has no object lock",
                hint="make a bucket with object lock, or drop object_lock_days",
            )


def _info(name: str, facts: Facts) -> ObjectInfo:
    checksum = None if facts.md5 is None else ("md5", facts.md5)
    return ObjectInfo(name=name, size=facts.size, modified=facts.modified, checksum=checksum)


def _range(offset: int, length: int | None) -> str | None:
    """The value of the header Range; ``None``: everything."""
    if offset < 0:
        return f"bytes={offset}"  # a shorter answer is cut
    if length is None:
        return f"bytes={offset}-" if offset else None
    return f"bytes={offset}-{offset + length - 1}"


def _size_of_range(answer: dict[str, Any], announced: int | None, offset: int, length: int | None, what: str) -> int:
    """How many bytes come, when they are those that were asked for."""
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    if status != 206 and announced is not None and (offset == 0 or -offset >= announced):
        return announced  # the whole object, which begins with the range
    match = _RANGE.fullmatch(answer.get("ContentRange", ""))
    if status != 206:
        raise StorageError(f"{what}: the server does not give a part of an object")
    if match is None:
        raise StorageUnavailable(f"{what}: the answer is not whole")
    first, last, total = (int(group) for group in match.groups())
    start = max(0, total + offset) if offset < 0 else offset
    end = total if offset < 0 or length is None else min(total, start + length)
    if (first, last + 1) != (start, end) or announced not in (None, end - start):
        raise StorageUnavailable(f"{what}: the server gave other bytes than those that were asked for")
    return end - start


def _is_name(name: str) -> bool:
    try:
        check_name(name)
    except InvalidName:
        return False
    return True


def _is_path(key: str) -> bool:
    """Whether SeaweedFS takes the key as it is: it turns backslashes round, and hides folders that it uses itself."""
    *folders, last = key.split("/")
    hidden = last == ".uploads" or any(part == ".uploads" or part.endswith(".versions") for part in folders)
    return not hidden and "\\" not in key and all(len(part.encode()) <= _MAX_PART for part in (*folders, last))


def _may_begin_names(prefix: str) -> bool:
    *folders, _last = prefix.split("/")
    if any(part in ("", ".", "..") for part in folders) or "\0" in prefix:
        return False
    try:
        return len(prefix.encode()) <= MAX_NAME
    except UnicodeEncodeError:
        return False
