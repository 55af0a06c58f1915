"""What the parts of the storage suite share: one storage a test, under a prefix of its own that is cleaned up."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from freezer_sdk.storages.base import Capabilities, ObjectInfo, Storage
from freezer_sdk.testing.suite import Suite, check_equal


class StorageCase(Suite):
    """Gives each test ``self.storage`` and ``self.prefix``; nothing outside the prefix is touched.

    Attributes:
        many: objects of the large listing; more than a page of the usual object stores.
        large: bytes of the large object.
        options: what ``make_storage`` builds the class with; other processes build it with them again, and the secret
            ones among them must be told to nobody. ``None``: tests that need to know are passed over.
        secrets: texts beside the secret options that must be told to nobody.
    """

    many = 2100
    large = 24 << 20
    options: Mapping[str, Any] | None = None
    secrets: Sequence[str] = ()

    _storage: Storage | None = None
    _making = threading.RLock()

    def make_storage(self) -> Storage:
        """A new client of the place under test."""
        raise TypeError(f"{type(self).__name__} must define make_storage")

    def setup_method(self) -> None:
        """Chooses a prefix that nobody else uses."""
        self.prefix = f"suite-{uuid.uuid4().hex}/"

    def teardown_method(self) -> None:
        """Removes what the test wrote."""
        if self._storage is not None:
            storage, self._storage = self._storage, None
            try:
                self._remove_all(storage)
            finally:
                storage.close()

    @property
    def storage(self) -> Storage:
        """The storage under test; made when a test first asks, after the subclass's own fixtures."""
        with self._making:  # a test's threads may all be the first to ask
            if self._storage is None:
                self._storage = self.make_storage()
            return self._storage

    @property
    def capabilities(self) -> Capabilities:
        """What it declares."""
        return self.storage.capabilities

    def key(self, name: str) -> str:
        """A name below the prefix."""
        return self.prefix + name

    def put(self, name: str, content: bytes = b"content") -> ObjectInfo:
        """Stores an object below the prefix."""
        return self.storage.put(self.key(name), [content])

    def put_all(self, names: Iterable[str]) -> None:
        """Stores many objects, several at once; each one's content is its name."""
        with ThreadPoolExecutor(max(1, self.storage.max_parallel)) as pool:
            for _ in pool.map(lambda name: self.put(name, name.encode()), names):
                pass

    def names(self, prefix: str = "", *, delimiter: str | None = None) -> list[str]:
        """Names that are listed below the prefix, without it, in the order they came."""
        found = self.storage.list(self.key(prefix), delimiter=delimiter)
        return [info.name.removeprefix(self.prefix) for info in found]

    def check_listed(
        self, expected: Iterable[str], prefix: str = "", *, delimiter: str | None = None, what: str = "listing"
    ) -> None:
        """Fails unless the listing is this one, at the latest when the declared lag is over."""
        wanted = list(expected)
        deadline = time.monotonic() + self.capabilities.listing_lag.total_seconds()
        while (found := self.names(prefix, delimiter=delimiter)) != wanted and time.monotonic() < deadline:
            time.sleep(0.2)
        check_equal(found, wanted, what)

    def _remove_all(self, storage: Storage) -> None:
        lag = storage.capabilities.listing_lag.total_seconds()
        if lag:
            time.sleep(lag)
        names = [info.name for info in storage.list(self.prefix)]
        if names:
            storage.delete_many(names)
