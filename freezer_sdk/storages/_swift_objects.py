"""Objects of one Swift container, and the segments that some of them are joined from: the requests."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from freezer_sdk.errors import (
    AccessDenied,
    ChecksumMismatch,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
    Transient,
)
from freezer_sdk.storages._swift_body import Outgoing, is_slo, md5
from freezer_sdk.storages._swift_bulk import deleted_at_once
from freezer_sdk.storages._swift_http import SwiftClient, http_time
from freezer_sdk.storages.base import Traffic

PAGE = 10_000
_BULK = 1000
_LOOK = 60.0  # seconds that "nobody has stored segments here" is believed
_CONTENT = "application/octet-stream"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Segment:
    """A stored part of an object; ``joined``: itself a list of segments."""

    path: str
    etag: str
    size: int
    joined: bool = False


class Objects:
    """The objects of a container.

    Args:
        client: makes the requests.
        container: its name.
        policy: storage policy of containers that are made.
    """

    def __init__(self, client: SwiftClient, container: str, *, policy: str | None) -> None:
        self.client = client
        self.container = container
        self.segments = f"{container}_segments"
        self._policy = policy
        self._made: set[str] = set()
        self._segmented = (-_LOOK, False)  # when somebody looked for segments, and whether there were any

    def head(self, path: str, what: str) -> dict[str, str]:
        """The headers of an object.

        Raises:
            ObjectNotFound, StorageError.
        """
        from swiftclient.client import head_object

        found: dict[str, str] = self.client.call(
            what, lambda url, token, http: head_object(url, token, self.container, path, http_conn=http)
        )
        return found

    def put(self, path: str, views: Sequence[memoryview], traffic: Traffic) -> dict[str, str]:
        """Stores an object in one piece; gives the answer's headers.

        Raises:
            StorageError.
        """
        self.prepare(self.container)
        old = self.segments_of(path)
        headers = self._put(self.container, path, views, f"cannot store {path!r}", traffic)
        self.discard(old)
        return headers

    def delete(self, path: str) -> None:
        """Removes an object and its segments; fine when there is none.

        Raises:
            StorageError.
        """
        old = self.segments_of(path)
        self._delete(self.container, path)
        self.discard(old)  # after the object: a reader finds all of it, or nothing

    def delete_many(self, paths: Sequence[str]) -> list[str]:
        """Removes objects by few requests where the server can; gives back what is to be removed one by one.

        Raises:
            StorageError.
        """
        if self._has_segments():
            return list(paths)
        return self._bulk_delete(self.container, paths)

    def page(self, prefix: str, marker: str, *, delimiter: str | None, what: str) -> list[dict[str, Any]]:
        """What is listed after the marker; empty at the end.

        Raises:
            ObjectNotFound: there is no container.
            StorageError.
        """
        return self._page(self.container, prefix, marker, delimiter=delimiter, limit=PAGE, what=what)

    def clock(self) -> datetime:
        """The time at the server.

        Raises:
            StorageError.
        """
        from swiftclient.client import head_container
        from swiftclient.exceptions import ClientException

        what = "cannot tell the time"

        def ask(url: str, token: str, http: Any) -> str | None:
            try:
                headers = head_container(url, token, self.container, http_conn=http)
            except ClientException as error:
                if error.http_status != HTTPStatus.NOT_FOUND:
                    raise
                headers = {name.lower(): value for name, value in error.http_response_headers.items()}
            date: str | None = headers.get("date")
            return date

        moment = http_time(self.client.call(what, ask))
        if moment is None:
            raise StorageError(f"{what}: the answer has no date")
        return moment

    def prepare(self, container: str) -> None:
        """Makes a container, unless it is there.

        Raises:
            StorageError.
        """
        from swiftclient.client import head_container, put_container

        if container in self._made:
            return
        what = f"cannot make the container {container!r}"
        try:
            self.client.call(what, lambda url, token, http: head_container(url, token, container, http_conn=http))
        except AccessDenied:
            pass  # a user who may only write cannot look
        except ObjectNotFound:
            headers = {"X-Storage-Policy": self._policy} if self._policy else {}
            try:
                self.client.call(
                    what, lambda url, token, http: put_container(url, token, container, headers=headers, http_conn=http)
                )
            except ObjectNotFound as error:
                self._ask_account(what, error)
                hint = "ask who runs the cluster whether its account servers are up"
                raise StorageUnavailable(f"{what}: the account could not be reached", hint=hint) from None
            except StorageError as error:
                if self._policy and error.hint is None and not isinstance(error, Transient):
                    error.hint = f"check that the cluster has the storage_policy {self._policy!r}"
                raise
        self._made.add(container)

    def store_segment(self, path: str, views: Sequence[memoryview], what: str, traffic: Traffic) -> Segment:
        """Stores one segment.

        Raises:
            StorageError.
        """
        self.prepare(self.segments)
        self._segmented = time.monotonic(), True
        self._put(self.segments, path, views, what, traffic)
        return Segment(path, md5(views), sum(map(len, views)))

    def join(self, container: str, path: str, segments: Sequence[Segment], what: str) -> tuple[dict[str, str], Segment]:
        """Stores a manifest; what it lists becomes one object.

        Raises:
            StorageError.
        """
        from swiftclient.client import put_object

        entries = [
            {"path": f"/{self.segments}/{segment.path}", "etag": segment.etag, "size_bytes": segment.size}
            for segment in segments
        ]
        manifest = json.dumps(entries).encode()
        answer: dict[str, Any] = {}
        etag = self.client.call(
            what,
            lambda url, token, http: put_object(
                url,
                token,
                container,
                path,
                contents=manifest,
                content_length=len(manifest),
                content_type=_CONTENT,
                query_string="multipart-manifest=put",
                http_conn=http,
                response_dict=answer,
            ),
        )
        expected = self.joined_etag(segments)
        if etag.strip('"') != expected:
            raise ChecksumMismatch(f"{what}: the server joined other segments than those that were stored")
        return answer["headers"], Segment(path, expected, sum(segment.size for segment in segments), joined=True)

    def join_dynamically(self, path: str, segments: str, traffic: Traffic) -> None:
        """Stores an empty object that reads as all objects below ``SEGMENTS/``: a dynamic large object (DLO).

        Raises:
            StorageError.
        """
        self.prepare(self.container)
        manifest = {"X-Object-Manifest": quote(f"{self.container}/{segments}")}  # as the original has it: no "/" behind
        self._put(self.container, path, [], f"cannot store {path!r}", traffic, extra=manifest)

    @staticmethod
    def joined_etag(segments: Sequence[Segment]) -> str:
        """What Swift calls the ETag of the object that a manifest makes of them."""
        etags = "".join(segment.etag for segment in segments)
        return hashlib.md5(etags.encode(), usedforsecurity=False).hexdigest()

    def discard(self, segments: Sequence[Segment]) -> None:
        """Removes segments that belong to nothing; what fails is left, because it harms nobody."""
        if not segments:
            return
        paths = [segment.path for segment in segments]
        with suppress(StorageError):
            for path in self._bulk_delete(self.segments, paths):
                self._delete(self.segments, path)
            return
        _log.warning("segments in %s could not be removed: %s", self.segments, paths[0])

    def segments_of(self, path: str) -> list[Segment]:
        """The segments of an object, those of manifests within it included; none for an object in one piece.

        Raises:
            StorageError.
        """
        if not self._has_segments():
            return []
        what = f"cannot look at {path!r}"
        try:
            return list(self._listed(self.container, path, what)) if is_slo(self.head(path, what)) else []
        except ObjectNotFound:
            return []

    def _put(
        self,
        container: str,
        path: str,
        views: Sequence[memoryview],
        what: str,
        traffic: Traffic,
        *,
        extra: Mapping[str, str] | None = None,
    ) -> dict[str, str]:
        from swiftclient.client import put_object

        etag = md5(views)
        answer: dict[str, Any] = {}

        def put(url: str, token: str, http: Any) -> str:
            body = Outgoing(views, traffic)
            stored: str = put_object(
                url,
                token,
                container,
                path,
                contents=body if body.size else None,
                content_length=body.size,
                etag=etag,
                content_type=_CONTENT,
                headers=dict(extra or {}),
                http_conn=http,
                response_dict=answer,
            )
            return stored

        try:
            stored = self.client.call(what, put)
        except ObjectNotFound:  # the container: somebody has removed it
            self._made.discard(container)
            raise StorageUnavailable(f"{what}: there is no container {container!r}") from None
        if stored != etag:
            raise ChecksumMismatch(f"{what}: the server stored something else than was sent")
        headers: dict[str, str] = answer["headers"]
        return headers

    def _delete(self, container: str, path: str) -> None:
        from swiftclient.client import delete_object, head_container

        what = f"cannot delete {path!r}"
        try:
            self.client.call(what, lambda url, token, http: delete_object(url, token, container, path, http_conn=http))
        except ObjectNotFound:  # Swift says so as well while it cannot reach the container
            with suppress(ObjectNotFound, AccessDenied):  # a user who may only write has to believe the answer
                self.client.call(what, lambda url, token, http: head_container(url, token, container, http_conn=http))

    def _bulk_delete(self, container: str, paths: Sequence[str]) -> list[str]:
        """Removes many; gives back those of which it is not known whether they are gone."""
        left: list[str] = []
        for start in range(0, len(paths), _BULK):
            batch = paths[start : start + _BULK]
            if len(batch) == 1 or not deleted_at_once(self.client, container, batch):
                left += batch
        return left

    def _page(
        self, container: str, prefix: str, marker: str, *, delimiter: str | None, limit: int, what: str
    ) -> list[dict[str, Any]]:
        from swiftclient.client import get_container

        def ask(url: str, token: str, http: Any) -> tuple[Any, Any]:
            answer: tuple[Any, Any] = get_container(
                url,
                token,
                container,
                marker=marker,
                limit=limit,
                prefix=prefix,
                delimiter=delimiter,
                http_conn=http,
            )
            return answer

        try:
            entries = self.client.call(what, ask)[1]
        except ObjectNotFound as error:
            self._ask_account(what, error)
            entries = self.client.call(what, ask)[1]
        if not isinstance(entries, list):
            raise StorageError(f"{what}: the server answered with something else")
        return entries

    def _ask_account(self, what: str, error: ObjectNotFound) -> None:
        """Swift answers 404 for a container also while it cannot reach the account: returns when it reaches it now.

        Raises:
            ObjectNotFound: there is no such account.
            StorageUnavailable, StorageError.
        """
        from swiftclient.client import head_account

        try:
            self.client.call(what, lambda url, token, http: head_account(url, token, http_conn=http))
        except ObjectNotFound:
            error.hint = "the account does not exist: have it made, or check the project's name"
            raise error from None
        except AccessDenied:
            raise error from None  # who may not look at the account has to believe the answer

    def _has_segments(self) -> bool:
        """Whether anything in this container may be segmented; asked once a minute."""
        now = time.monotonic()
        when, known = self._segmented
        if now < when + _LOOK:
            return known
        try:
            found = self._page(self.segments, "", "", delimiter=None, limit=1, what="cannot list segments")
        except (ObjectNotFound, AccessDenied):  # who may not look has stored nothing there
            found = []
        self._segmented = now, bool(found)
        return bool(found)

    def _listed(self, container: str, path: str, what: str) -> Iterator[Segment]:
        from swiftclient.client import get_object

        _, manifest = self.client.call(
            what,
            lambda url, token, http: get_object(
                url, token, container, path, http_conn=http, query_string="multipart-manifest=get"
            ),
        )
        with self.client.failures(what):
            entries: list[Mapping[str, Any]] = json.loads(manifest)
        for entry in entries:
            _, place, inner = str(entry["name"]).split("/", 2)
            if place != self.segments:
                continue  # somebody else's
            joined = bool(entry.get("sub_slo"))
            if joined:
                yield from self._listed(place, inner, what)
            yield Segment(inner, str(entry.get("hash", "")), int(entry.get("bytes", 0)), joined)
