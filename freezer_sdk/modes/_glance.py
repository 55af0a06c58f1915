"""OpenStack Glance as one user sees it: images found, read from any place on, made and filled."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from freezer_sdk.errors import (
    AccessDenied,
    FreezerError,
    ObjectNotFound,
    SourceUnreadable,
    StorageError,
    StorageFull,
    StorageThrottled,
    StorageUnavailable,
)
from freezer_sdk.model import JSON
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.openstack import Cloud, untrusted
from freezer_sdk.streams.retry import RetryPolicy

T = TypeVar("T")

ACTIVE = "active"
_SERVICE = "image"


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image, as Glance described it when it was looked at.

    Attributes:
        properties: all that Glance says of it, also what users added.
    """

    properties: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its id."""
        return str(self.properties["id"])

    @property
    def name(self) -> str:
        """Its name, which need not be the only one; empty when it has none."""
        return str(self.properties.get("name") or "")

    @property
    def title(self) -> str:
        """For messages."""
        return f"image {self.name!r} ({self.id})" if self.name else f"image {self.id}"

    @property
    def size(self) -> int:
        """Bytes; 0 for one that only names volumes."""
        return int(self.properties.get("size") or 0)

    @property
    def digest(self) -> tuple[str, str] | None:
        """The best hash of the content that Glance keeps, and its algorithm; ``None``: none that is known here."""
        algorithm, value = self.properties.get("os_hash_algo"), self.properties.get("os_hash_value")
        if algorithm in hashlib.algorithms_available and value:
            return str(algorithm), str(value)
        checksum = self.properties.get("checksum")
        return ("md5", str(checksum)) if checksum else None


class Content(Protocol):
    """What is sent as an image."""

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; none at the end."""


class ImageService:
    """Glance by python-glanceclient; calls that fail for a while are repeated, but for those that send an image.

    Args:
        cloud: logs in.
        policy: of repetitions.
        failure: the kind of error that a failed call becomes.
        cancel: ends waiting for a repetition.

    Raises:
        ConfigurationError: the cloud has no Glance.
        FreezerError: of the kind ``failure``.
    """

    def __init__(
        self, cloud: Cloud, *, policy: RetryPolicy, failure: type[FreezerError], cancel: CancelToken | None = None
    ) -> None:
        from glanceclient import Client

        self._cloud = cloud
        self._policy = policy
        self._failure = failure
        self._cancel = cancel
        self.url = "Glance"
        self.url = self._call("cannot find Glance", lambda: cloud.endpoint(_SERVICE)).rstrip("/")
        self._images = Client("2", session=cloud.session, endpoint_override=self.url).images

    def project(self) -> str:
        """Id of the project that the user acts for."""
        return str(self._call("cannot log in", self._cloud.session.get_project_id) or "")

    def get(self, image: str) -> Image | None:
        """An image by its id; ``None``: there is none that this user may see."""
        try:
            found = self._call(f"cannot look at image {image}", lambda: self._images.get(image), missing=True)
        except ObjectNotFound:
            return None
        return _image(found)

    def images(self) -> list[Image]:
        """All images that this user may see, by name and id."""

        def listed(*, hidden: str) -> list[Any]:
            return list(self._images.list(filters={"os_hidden": hidden}))

        found: list[Any] = []
        for hidden in ("false", "true"):  # Glance lists either those that are hidden, or the others
            found += self._call("cannot list images", partial(listed, hidden=hidden))
        return sorted(map(_image, found), key=lambda image: (image.name, image.id))

    def open(self, image: Image, offset: int) -> Any:
        """One request for the content from a place on: an answer of requests, not read yet.

        Made without glanceclient, which cannot ask for a range.

        Raises:
            StorageError: also Transient ones; to be repeated by the caller, who knows how much there is already.
            SourceUnreadable: Glance has no such place.
        """
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        self._cloud.token()
        with self._explained(f"cannot read {image.title}"):
            answer = self._cloud.session.get(
                f"{self.url}/v2/images/{image.id}/file", headers=headers, stream=True, raise_exc=False
            )
        status = answer.status_code
        if (status == HTTPStatus.OK and not offset) or status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.NO_CONTENT):
            return answer
        answer.close()
        if status == HTTPStatus.OK:
            raise SourceUnreadable(f"{self.url} broke off in the middle of {image.title}, and cannot go on from there")
        raise _refused(f"cannot read {image.title}: {self.url} answers {status}", status, answer.headers)

    def create(self, properties: JSON) -> Image:
        """Makes an image without content."""
        name = properties.get("name") or "without a name"
        return _image(self._call(f"cannot make image {name}", lambda: self._images.create(**properties), once=True))

    def upload(self, image: Image, content: Content, *, size: int) -> Image:
        """Sends the content, and gives what Glance says of the image then."""
        # it cannot be sent twice, so that the token must not end meanwhile: a new one lasts longest
        self._call("cannot log in", lambda: self._cloud.renew(self._cloud.token()))
        feed = _Feed(content)
        try:
            self._call(
                f"cannot send {image.title}", lambda: self._images.upload(image.id, feed, image_size=size), once=True
            )
        except FreezerError:
            if feed.failed is not None:
                raise feed.failed from None
            raise
        return _image(self._call(f"cannot look at {image.title}", lambda: self._images.get(image.id)))

    def update(self, image: Image, **properties: Any) -> None:
        """Changes what is known of an image.

        Raises:
            AccessDenied: this user may not.
        """
        what = f"cannot change {', '.join(properties)} of {image.title}"
        self._call(what, lambda: self._images.update(image.id, **properties), forbidden=True)

    def delete(self, image: Image) -> None:
        """Removes an image, unless it is gone."""
        with suppress(ObjectNotFound):
            self._call(f"cannot remove {image.title}", lambda: self._images.delete(image.id), missing=True)

    def _call(
        self,
        what: str,
        call: Callable[[], T],
        *,
        once: bool = False,
        missing: bool = False,
        forbidden: bool = False,
    ) -> T:
        def attempt() -> T:
            self._cloud.token()  # what fails after this is not Keystone
            with self._explained(what):
                return call()

        try:
            return attempt() if once else self._policy.run(attempt, cancel=self._cancel)
        except StorageError as error:
            if (missing and isinstance(error, ObjectNotFound)) or (forbidden and isinstance(error, AccessDenied)):
                raise
            raise self._failure(error.message, hint=error.hint) from error

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Inside, errors of glanceclient, keystoneauth and requests become ours."""
        from glanceclient import exc
        from keystoneauth1 import exceptions

        from freezer_sdk.streams.http import FAILURES, distrusted, why

        try:
            yield
        except exc.HTTPException as error:
            said = " ".join(str(error.details or "").split())
            raise _refused(f"{what}: {said or error}", _status(error), {}) from error
        except (exc.BaseException, exceptions.ConnectionError, *FAILURES) as error:
            raise untrusted(f"{self.url} ({what})", why(error), hard=distrusted(error)) from error


class _Feed:
    """Keeps the error of what is read: the client that reads may hide it in one of its own."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.failed: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return self._content.read(size)
        except Exception as error:
            self.failed = error
            raise


def _image(found: Mapping[str, Any]) -> Image:
    return Image(properties={name: value for name, value in found.items() if name != "self"})


def _status(error: Any) -> int:
    """The status of an answer; glanceclient keeps it for some only, and else the text, which begins with it."""
    if isinstance(error.code, int):
        return error.code
    found = re.match(r"\s*(\d{3})\b", str(error.details))
    return int(found[1]) if found else 0


def _refused(message: str, status: int, headers: Mapping[str, str]) -> StorageError:
    """The error of an answer that is none of success."""
    if status in (401, 403):
        return AccessDenied(message, hint="check the user's role in the project, and who the image belongs to")
    if status == 404:
        return ObjectNotFound(message)
    if status in (413, 429) and not headers.get("Retry-After"):
        return StorageFull(message, hint="the project's quota may be used up")
    if status in (413, 429):
        throttled = StorageThrottled(message)
        with suppress(ValueError):
            throttled.retry_after = float(headers["Retry-After"])
        return throttled
    if status == 408 or status >= 500:
        return StorageUnavailable(message)
    return StorageError(message)
