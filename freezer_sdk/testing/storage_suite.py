"""The conformance suite for storages.

A test of a storage is two lines::

    class TestMine(StorageSuite):
        make_storage = lambda self: MyStorage(url="...")

The suite is safe against a live backend: it writes below a prefix of its own, and removes what it wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from freezer_sdk.storages.base import Storage
from freezer_sdk.testing._storage_listing import ListingTests
from freezer_sdk.testing._storage_manners import KilledClientTests, LeakTests, SecretTests, TrafficTests
from freezer_sdk.testing._storage_objects import ObjectTests
from freezer_sdk.testing._storage_segments import SegmentTests
from freezer_sdk.testing._storage_uploads import ConcurrencyTests, UploadTests
from freezer_sdk.testing.suite import Result, run


class StorageSuite(
    ObjectTests,
    ListingTests,
    UploadTests,
    SegmentTests,
    ConcurrencyTests,
    TrafficTests,
    KilledClientTests,
    LeakTests,
    SecretTests,
):
    """Tests of the Storage contract; a subclass gives ``make_storage``, and ``options`` where that can be said.

    What a storage declares in its capabilities must work; what it does not declare must be refused.
    """


def run_suite(
    make_storage: Callable[[], Storage],
    *,
    options: Mapping[str, Any] | None = None,
    many: int | None = None,
    progress: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Runs the suite without a test framework.

    Args:
        make_storage: gives a new client of the place under test; the suite closes it.
        options: what ``make_storage`` builds the class with, for tests that kill a client and look for secrets; without
            them these are passed over. A killed client may leave unfinished uploads to the storage's own housekeeping.
        many: objects of the large listing, when the default takes too long.
        progress: called with each result as soon as it is known.
    """

    class Bound(StorageSuite):
        def make_storage(self) -> Storage:
            return make_storage()

    suite = Bound()
    suite.options = options
    if many is not None:
        suite.many = many
    return run(suite, progress=progress)
