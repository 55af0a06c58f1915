"""Deleting many objects with few requests."""

from __future__ import annotations

import re

from freezer_sdk.errors import CapabilityMissing, FreezerError, Transient
from freezer_sdk.storages._s3_bucket import BATCH, Bucket

_NOT_XML = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


class Deletion:
    """Collects keys, and removes a batch with each request.

    Attributes:
        failure: the last error; raised at the end.
    """

    def __init__(self, bucket: Bucket, what: str) -> None:
        self.failure: FreezerError | None = None
        self._bucket = bucket
        self._what = what
        self._keys: list[str] = []
        self._batches = True

    def add(self, key: str) -> None:
        """Removes it now, or with others.

        Raises:
            StorageThrottled, StorageUnavailable: the server; the others would fail too.
        """
        if not self._batches or _NOT_XML.search(key):  # a batch is XML
            self._one(key)
            return
        self._keys.append(key)
        if len(self._keys) >= BATCH:
            self._send()

    def finish(self) -> None:
        """Removes the rest.

        Raises:
            StorageError: the last failure.
        """
        if self._keys:
            self._send()
        if self.failure is not None:
            raise self.failure

    def _send(self) -> None:
        keys, self._keys = self._keys, []
        try:
            self.failure = self._bucket.delete_many(keys, self._what) or self.failure
        except CapabilityMissing:
            self._batches = False
            for key in keys:
                self._one(key)
        except FreezerError as error:
            self._keep(error)

    def _one(self, key: str) -> None:
        try:
            self._bucket.delete(key, f"{self._what}: {key!r}")
        except FreezerError as error:
            self._keep(error)

    def _keep(self, error: FreezerError) -> None:
        if isinstance(error, Transient):
            raise error
        self.failure = error
