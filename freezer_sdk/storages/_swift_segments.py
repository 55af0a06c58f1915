"""Objects in segments: static large objects (SLO).

The segments lie in ``CONTAINER_segments``; a manifest under the object's name makes them visible at once. Where there
are more than fit into one manifest, manifests of manifests join them.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

from freezer_sdk.errors import StorageError, StorageUnavailable
from freezer_sdk.storages._swift_objects import Objects, Segment
from freezer_sdk.storages.base import Traffic

JOINED = 1000  # segments of one manifest: what Swift allows unless it is told otherwise
_MAX_STEM = 900  # bytes: a segment's name is longer than its object's


class SegmentedUpload:
    """An object on its way in segments; leaving the context without :meth:`commit` removes them.

    Args:
        objects: where it goes.
        path: its name there.
        traffic: is told of every block.
    """

    def __init__(self, objects: Objects, path: str, traffic: Traffic) -> None:
        self._objects = objects
        self._path = path
        self._traffic = traffic
        self._what = f"cannot store {path!r}"
        stem = path if len(path.encode()) <= _MAX_STEM else hashlib.sha256(path.encode()).hexdigest()
        self._folder = f"{stem}/{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex}"
        self._number = 0
        self._stored: list[Segment] = []
        self._top: list[Segment] = []

    def __enter__(self) -> SegmentedUpload:
        return self

    def __exit__(self, *_: object) -> None:
        self._objects.discard(self._stored)

    def add(self, views: Sequence[memoryview]) -> None:
        """Stores the next segment.

        Raises:
            StorageError.
        """
        segment = self._objects.store_segment(self._next(), views, self._what, self._traffic)
        self._stored.append(segment)
        self._top.append(segment)

    def commit(self) -> dict[str, str]:
        """Makes the object visible; gives headers that tell its time.

        Raises:
            StorageError.
        """
        objects = self._objects
        objects.prepare(objects.container)
        while len(self._top) > JOINED:
            self._top = [
                self._join_inner(self._top[start : start + JOINED]) for start in range(0, len(self._top), JOINED)
            ]
        old = objects.segments_of(self._path)
        headers = self._make_visible()
        self._stored = []
        objects.discard(old)
        return headers

    def _make_visible(self) -> dict[str, str]:
        try:
            headers, _ = self._objects.join(self._objects.container, self._path, self._top, self._what)
        except StorageUnavailable:
            self._stored = []  # the manifest may be there, now or later: its segments must not vanish
            with suppress(StorageError):
                found = self._objects.head(self._path, self._what)
                if found.get("etag", "").strip('"') == Objects.joined_etag(self._top):
                    return found
            raise
        return headers

    def _join_inner(self, segments: Sequence[Segment]) -> Segment:
        _, joined = self._objects.join(self._objects.segments, self._next(), segments, self._what)
        self._stored.append(joined)
        return joined

    def _next(self) -> str:
        self._number += 1
        return f"{self._folder}/{self._number:08}"
