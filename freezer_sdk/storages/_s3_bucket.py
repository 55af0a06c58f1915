"""Requests on the keys of one bucket, each tried once, and what their answers mean."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from freezer_sdk.errors import ChecksumMismatch, FreezerError, ObjectNotFound, StorageUnavailable
from freezer_sdk.storages._s3_body import Body, Download
from freezer_sdk.storages._s3_client import Connection, Server
from freezer_sdk.storages._s3_errors import BucketMissing, code_of, error_for, reporting, status_of
from freezer_sdk.storages.base import Traffic

BATCH = 1000
"""The most keys that one request may delete."""

CONTENT_TYPE = "application/octet-stream"

_MD5 = re.compile(r'"?([0-9a-fA-F]{32})"?')


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """What every object is stored with.

    Attributes:
        storage_class: ``None``: the bucket's own.
        lock_mode: protects every object for ``lock_time``; ``None``: does not.
        create_bucket: make the bucket when something shall be stored and it is not there.
        location: where a new bucket lies; ``None``: where the server makes it.
    """

    storage_class: str | None
    lock_mode: str | None
    lock_time: timedelta
    create_bucket: bool
    location: str | None

    def parameters(self) -> dict[str, Any]:
        """For PutObject and CreateMultipartUpload."""
        parameters: dict[str, Any] = {}
        if self.storage_class is not None:
            parameters["StorageClass"] = self.storage_class
        if self.lock_mode is not None:
            parameters["ObjectLockMode"] = self.lock_mode
            parameters["ObjectLockRetainUntilDate"] = datetime.now(UTC) + self.lock_time
        return parameters


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What an answer says of an object.

    Attributes:
        md5: of its content, in hexadecimal digits; ``None``: not known.
    """

    size: int
    modified: datetime
    md5: str | None = None


class Bucket:
    """One bucket.

    Args:
        traffic: gives whoever is told of the content that moves.

    Attributes:
        name: of the bucket.
    """

    def __init__(
        self, connection: Connection, name: str, *, options: WriteOptions, traffic: Callable[[], Traffic]
    ) -> None:
        self.name = name
        self.options = options
        self._connection = connection
        self._traffic = traffic
        self._making = threading.Lock()

    @property
    def server(self) -> Server:
        """What is known of the server so far."""
        return self._connection.server

    @property
    def client(self) -> Any:
        """The botocore client."""
        return self._connection.client

    def body(self, views: Sequence[memoryview]) -> Body:
        """Content that is to be sent."""
        return Body(views, self._traffic())

    def put(
        self, key: str, views: Sequence[memoryview], what: str, *, if_absent: bool = False, scratch: bool = False
    ) -> Facts:
        """Stores an object by one request.

        Args:
            scratch: without what every object is stored with, because it is removed at once.

        Raises:
            ObjectExists: ``if_absent`` and the key is taken.
            ChecksumMismatch: what arrived is not what was sent.
        """
        parameters: dict[str, Any] = {} if scratch else self.options.parameters()
        if if_absent:
            parameters["IfNoneMatch"] = "*"
        body = self.body(views)
        answer = self.store("put_object", what, body, Key=key, ContentType=CONTENT_TYPE, **parameters)
        return Facts(size=body.size, modified=moment_of(answer), md5=md5_of(answer))

    def store(self, operation: str, what: str, body: Body | None = None, **parameters: Any) -> dict[str, Any]:
        """A request that stores something; makes the bucket first where that is wanted and needed.

        Raises:
            ChecksumMismatch: what arrived is not what was sent.
        """
        if body is not None:
            parameters |= {"Body": body, "ContentLength": body.size, "ContentMD5": body.content_md5}
        try:
            answer = self.request(operation, what, **parameters)
        except BucketMissing:
            if not self.options.create_bucket:
                raise
            self.make()
            if body is not None:
                body.rewind()
            answer = self.request(operation, what, **parameters)
        if body is not None:
            stored = md5_of(answer)
            if stored is not None and stored != body.md5.hex():
                raise ChecksumMismatch(f"{what}: the server has {stored} instead of {body.md5.hex()} (MD5)")
        return answer

    def get(self, key: str, what: str, *, wanted: str | None = None) -> tuple[dict[str, Any], Download] | None:
        """The answer and its content.

        Args:
            wanted: the value of the header Range.

        Returns:
            ``None``: the object is there, and has none of these bytes.

        Raises:
            ObjectNotFound.
        """
        from botocore.exceptions import ClientError

        parameters = {"Key": key} if wanted is None else {"Key": key, "Range": wanted}
        with self._maybe_missing(what), reporting(what):
            try:
                answer = self.client.get_object(Bucket=self.name, **parameters)
            except ClientError as error:
                if status_of(error) == 416:
                    return None
                raise
        return answer, Download(answer, self._traffic(), what)

    def head(self, key: str, what: str) -> Facts:
        """Size, time and checksum of an object.

        Raises:
            ObjectNotFound.
        """
        with self._maybe_missing(what):
            answer = self.request("head_object", what, Key=key)
        modified = _header_time(answer, "last-modified")
        if "ContentLength" not in answer or modified is None:
            raise StorageUnavailable(f"{what}: the answer is not whole")
        size = answer["ContentLength"]
        if next(reversed(answer["ResponseMetadata"]["HTTPHeaders"]), "") == "content-length":
            self._confirm_size(key, what, size)
        return Facts(size=size, modified=modified, md5=md5_of(answer))

    def date(self, key: str, what: str) -> datetime:
        """The server's clock, by the cheapest request: whether there is such a key does not matter."""
        from botocore.exceptions import ClientError

        with reporting(what):
            try:
                answer = self.client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if status_of(error) != 404:
                    raise
                answer = error.response
        moment = _header_time(answer, "date")
        if moment is None:
            raise StorageUnavailable(f"{what}: the answer has no date")
        return moment

    def delete(self, key: str, what: str) -> None:
        """Removes an object; fine when there is none."""
        with contextlib.suppress(ObjectNotFound), self._maybe_missing(what):
            self.request("delete_object", what, Key=key)

    def delete_many(self, keys: Sequence[str], what: str) -> FreezerError | None:
        """Removes up to :data:`BATCH` objects; returns the error of one that stays.

        Raises:
            CapabilityMissing: the server can only delete one after the other.
            AccessDenied, StorageThrottled, StorageUnavailable: none was removed, or it is not known.
        """
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": False}
        try:
            with self._maybe_missing(what):
                answer = self.request("delete_objects", what, Delete=wanted)
        except ObjectNotFound:
            return None
        errors = answer.get("Errors", ())
        if len(answer.get("Deleted", ())) + len(errors) < len(keys):
            raise StorageUnavailable(f"{what}: the answer is not whole")
        failure = None
        for error in errors:
            if error.get("Code") != "NoSuchKey":
                failure = error_for(error.get("Code", ""), error.get("Message", ""), f"{what}: {error.get('Key')!r}")
        return failure

    def has_lock(self, what: str) -> bool | None:
        """Whether objects can be protected here; ``None``: these credentials must not ask."""
        from botocore.exceptions import ClientError

        with reporting(what):
            try:
                answer = self.client.get_object_lock_configuration(Bucket=self.name)
            except ClientError as error:
                if status_of(error) == 403:
                    return None
                if code_of(error) != "NoSuchBucket" and status_of(error) in (400, 404, 405, 501):
                    return False
                raise
        return bool(answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def make(self) -> None:
        """Makes the bucket, unless it is there and belongs to this user.

        Raises:
            ConfigurationError: the name is taken, or cannot be one.
            AccessDenied, StorageUnavailable.
        """
        from botocore.exceptions import ClientError

        parameters: dict[str, Any] = {}
        if self.options.location is not None:
            parameters["CreateBucketConfiguration"] = {"LocationConstraint": self.options.location}
        if self.options.lock_mode is not None:
            parameters["ObjectLockEnabledForBucket"] = True
        with self._making, reporting(f"cannot make the bucket {self.name!r}"):
            try:
                self.client.create_bucket(Bucket=self.name, **parameters)
            except ClientError as error:
                if code_of(error) != "BucketAlreadyOwnedByYou":
                    raise

    def request(self, operation: str, what: str, **parameters: Any) -> dict[str, Any]:
        """One request, as botocore names it."""
        with reporting(what):
            answer: dict[str, Any] = getattr(self.client, operation)(Bucket=self.name, **parameters)
            return answer

    def _confirm_size(self, key: str, what: str, size: int) -> None:
        """Where the connection ends within the last header, its value is too short; what has content shows the end."""
        found = self.get(key, what, wanted="bytes=0-0")
        total = "0"
        if found is not None:
            answer, content = found
            with contextlib.closing(content):
                content.exactly(1)
            total = str(answer.get("ContentRange", "")).rpartition("/")[2]
        if total != str(size):
            raise StorageUnavailable(f"{what}: the answer is not whole")

    @contextlib.contextmanager
    def _maybe_missing(self, what: str) -> Iterator[None]:
        """A bucket that will be made when it is needed holds nothing until then."""
        try:
            yield
        except BucketMissing as error:
            if not self.options.create_bucket:
                raise
            raise ObjectNotFound(f"{what}: there is no bucket yet") from error


def md5_of(answer: Mapping[str, Any]) -> str | None:
    """The MD5 that the ETag is, unless it is something else: of parts, or of what a key of its own encrypted."""
    match = _MD5.fullmatch(str(answer.get("ETag", "")))
    foreign = str(answer.get("ServerSideEncryption", "")).startswith("aws:") or answer.get("SSECustomerAlgorithm")
    return match[1].lower() if match and not foreign else None


def moment_of(answer: Mapping[str, Any]) -> datetime:
    """When an object was stored, as far as the answer knows."""
    return _header_time(answer, "last-modified") or _header_time(answer, "date") or datetime.now(UTC)


def _header_time(answer: Mapping[str, Any], name: str) -> datetime | None:
    value = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(name, "")
    try:  # a date that was cut short might still look like one
        return parsedate_to_datetime(value).astimezone(UTC) if value.endswith("GMT") else None
    except ValueError:
        return None
