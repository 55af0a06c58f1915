"""Listings of a bucket in the order of whole names, also from servers that list folder by folder."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from freezer_sdk.errors import ObjectNotFound, StorageError, StorageUnavailable
from freezer_sdk.storages._s3_errors import reporting

PAGE = 1000
NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""The time of a common prefix."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key, or a common prefix with its ``/`` at the end.

    Attributes:
        modified: ``None``: a common prefix.
    """

    key: str
    size: int = 0
    modified: datetime | None = None

    @property
    def path(self) -> str:
        """The key without the ``/`` of a common prefix."""
        return self.key if self.modified is not None else self.key[:-1]


class Listing:
    """Lists one bucket.

    Args:
        client: gives the botocore client.
        bucket: its name.
        what: begins the messages.
    """

    def __init__(self, client: Callable[[], Any], bucket: str, what: str) -> None:
        self._client = client
        self._bucket = bucket
        self._what = what

    def flat(self, prefix: str, *, delimiter: str | None) -> Iterator[Entry]:
        """From a server that lists in the order of whole names.

        Raises:
            StorageError: it does not.
            AccessDenied, ConfigurationError, StorageThrottled, StorageUnavailable.
        """
        last = ""
        for page, _more in self._pages(prefix, delimiter):
            for entry in sorted(page, key=_key):
                if entry.key == last and entry.modified is None:
                    continue  # some servers begin a page with the prefix that ended the last one
                if entry.key <= last:
                    raise StorageError(
                        f"{self._what}: {entry.key!r} comes after {last!r}, which is not the order of whole names",
                        hint="this server lists folder by folder: set listing=folders",
                    )
                last = entry.key
                yield entry

    def by_folders(self, prefix: str, *, delimiter: str | None) -> Iterator[Entry]:
        """From a server that lists folder by folder, where ``a/b`` comes before ``a-b``; no more than pages in memory.

        Folders that are empty now, which such servers show for a while, are left out.

        Raises:
            StorageError: the names in a folder are not sorted.
            AccessDenied, ConfigurationError, StorageThrottled, StorageUnavailable.
        """
        if delimiter is not None:
            yield from (e for e in self._children(prefix) if e.modified is not None or self.any(e.key))
            return
        waiting = [iter([Entry(prefix)])]
        while waiting:
            entry = next(waiting[-1], None)
            if entry is None:
                waiting.pop()
            elif entry.modified is not None:
                yield entry
            else:
                page, more = next(self._pages(entry.key, None))
                waiting.append(self._children(entry.key) if more else iter(sorted(page, key=_key)))

    def _children(self, prefix: str) -> Iterator[Entry]:
        """One level in the order of whole names: a folder waits until no name before it can come any more."""
        heap: list[tuple[str, Entry]] = []
        last = ("", "")
        for page, _more in self._pages(prefix, "/"):
            for entry in sorted(page, key=_path):
                if _path(entry) == last:
                    continue
                if _path(entry) < last:
                    raise StorageError(f"{self._what}: {entry.key!r} comes after {last[1]!r}: the names are not sorted")
                last = _path(entry)
                while heap and heap[0][0] < entry.path:
                    yield heapq.heappop(heap)[1]
                heapq.heappush(heap, (entry.key, entry))
        while heap:
            yield heapq.heappop(heap)[1]

    def any(self, prefix: str) -> bool:
        """Whether a key begins with this."""
        page, _more = next(self._pages(prefix, None, size=1))
        return bool(page)

    def _pages(self, prefix: str, delimiter: str | None, *, size: int = 0) -> Iterator[tuple[list[Entry], bool]]:
        """Pages as they come, and whether there are more."""
        request = {"Bucket": self._bucket, "Prefix": prefix, "MaxKeys": size or PAGE}
        if delimiter is not None:
            request["Delimiter"] = delimiter
        while True:
            try:
                with reporting(self._what):
                    answer = self._client().list_objects_v2(**request)
            except ObjectNotFound as error:  # of a bucket that is there, nothing can be missing
                raise StorageError(f"{error}: this is no answer to a listing", hint="check the endpoint") from error
            if "IsTruncated" not in answer:
                raise StorageUnavailable(f"{self._what}: the answer is not whole")
            more = bool(answer["IsTruncated"])
            yield _entries(answer), more
            if not more:
                return
            token = answer.get("NextContinuationToken")
            if not token or token == request.get("ContinuationToken"):
                raise StorageUnavailable(f"{self._what}: the server says that there is more, and not how to get it")
            request["ContinuationToken"] = token


def _key(entry: Entry) -> str:
    return entry.key


def _path(entry: Entry) -> tuple[str, str]:
    """What a server that lists folder by folder sorts by; an object comes before the folder of its name."""
    return entry.path, entry.key


def _entries(answer: dict[str, Any]) -> list[Entry]:
    entries = [
        Entry(found["Key"], found["Size"], found["LastModified"].astimezone(UTC))
        for found in answer.get("Contents", ())
    ]
    entries.extend(Entry(found["Prefix"]) for found in answer.get("CommonPrefixes", ()))
    return entries
