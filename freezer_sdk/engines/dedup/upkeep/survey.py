"""The state of a repository's health: what there is, which packs are damaged, what backups miss because of it."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from types import TracebackType
from typing import NamedTuple, Self

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import keyholders, protocol
from freezer_sdk.engines.dedup.catalog import Catalog
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import Place
from freezer_sdk.engines.dedup.inspection import PackInspector
from freezer_sdk.engines.dedup.inventory import Inventory, read_backups
from freezer_sdk.engines.dedup.layout import Kind, digest_of, pack_name
from freezer_sdk.engines.dedup.structure import Places, Structure
from freezer_sdk.errors import IntegrityError, ObjectNotFound, UnsupportedFormat
from freezer_sdk.model import Event, Problem
from freezer_sdk.storages.base import ObjectInfo
from freezer_sdk.streams.pool import WorkerPool

_EVENT_EVERY = 0.1

Pack = tuple[Kind, ObjectInfo]


class Damage(NamedTuple):
    """A pack of which not everything is whole.

    Attributes:
        good: blobs in it that are whole, and where.
    """

    kind: Kind
    info: ObjectInfo
    faults: tuple[str, ...]
    good: dict[bytes, Place]


def refreshed(handle: Handle) -> Handle:
    """With the keys of now: what a newer epoch encrypts must not look damaged to a program that has long been open.

    Raises:
        WrongPassword: the key in use was removed; StorageError.
    """
    try:
        return replace(handle.without_cache(), keys=keyholders.reload(handle.storage, handle.keys))
    except (IntegrityError, UnsupportedFormat):  # the configuration itself is damaged: go on with what is known
        return handle.without_cache()


class Survey:
    """Looks at a repository. A context manager; nothing is written.

    Args:
        handle: as :func:`refreshed` gives it.
        operation: for events.
        keep: called often, from any thread; sees to a lease.

    Attributes:
        catalog, backups, inventory, reader: what there is; after :meth:`load`.
        damaged: by id of the pack.
        read: packs that were read whole, and found whole.
        structure: after :meth:`walk`.
        problems: notes on what lies about.
    """

    structure: Structure

    def __init__(
        self, handle: Handle, context: Context, operation: str, *, keep: Callable[[], None] = lambda: None
    ) -> None:
        self.handle, self._context, self._operation, self._keep = handle, context, operation, keep
        self.problems: list[Problem] = []
        self.damaged: dict[bytes, Damage] = {}
        self.read: set[bytes] = set()
        self.objects = self.blobs = self.bytes_read = 0
        self._inspector = PackInspector(self.handle, self.check)
        self._lock = threading.Lock()
        self._looked: set[bytes] = set()
        self._tested: set[bytes] = set()  # read whole, whatever came of it
        self._next_event = 0.0
        threads = max(2, handle.settings.threads or os.cpu_count() or 2)
        self._pool = WorkerPool("freezer-check", threads=threads, budget=2 * threads, cancel=context.cancel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    def check(self) -> None:
        """Goes on unless somebody asked to stop.

        Raises:
            Cancelled, and what ``keep`` raises.
        """
        self._context.cancel.check()
        self._keep()

    def load(self) -> None:
        """Lists and reads backups, indexes, and the names of packs.

        Raises:
            AccessDenied: only readers can check; StorageError, Cancelled.
        """
        handle = self.handle
        self.catalog = Catalog(handle)
        self.generation = protocol.read_sweeps(handle.storage, handle.keys).generation
        self.backups = read_backups(handle, self.catalog, self.problems.append)
        self.inventory = Inventory(handle, self.problems.append, self.check)
        self.inventory.load()
        self.reader = self.inventory.reader(handle)
        self.objects += self.backups.count + len(self.inventory.indexes)

    @property
    def packs(self) -> list[Pack]:
        """All that are there."""
        return [(kind, info) for kind, packs in self.inventory.packs.items() for info in packs.values()]

    def look_at(self, packs: Sequence[Pack]) -> None:
        """Is the table of each pack whole, and does it account for all of the pack?

        Raises:
            StorageError, Cancelled.
        """
        self._each(packs, self._look_at)

    def read_whole(self, packs: Sequence[Pack], *, until: float | None = None) -> list[Pack]:
        """Reads every byte of packs.

        Args:
            until: on the monotonic clock; none is begun after this.

        Returns:
            Those that were left out, in their order.

        Raises:
            StorageError, Cancelled.
        """
        return self._each(packs, self._read, until=until)

    def walk(self) -> None:
        """Follows every backup to all of its data, as far as is known.

        A page that cannot be read shows that its pack is damaged; then all is gone through again.

        Raises:
            StorageError, Cancelled.
        """
        while True:
            good = {pack: damage.good for pack, damage in self.damaged.items()}
            self.structure = Structure(Places(self.reader, self.inventory.sizes, good), self.tick)
            for commit in self.backups.visible:
                self.structure.whole(commit.root)
            suspects = self.inventory.index.condemned - self._tested - self.damaged.keys()
            packs = [pack for pack in self.packs if digest_of(pack[1].name) in suspects]
            before = len(self.damaged)
            self.read_whole(packs)
            self._tested |= suspects
            if len(self.damaged) == before:
                return

    @property
    def places(self) -> Places:
        """What the walk has found."""
        return self.structure.places

    def at_risk(self) -> dict[bytes, int]:
        """How many blobs backups need that are whole only in a pack that is damaged elsewhere, by pack."""
        return Counter(self.places.find(kind, blob).pack for kind, blob in list(self.places.at_risk))

    def has_whole(self, kind: Kind, blob: bytes) -> bool:
        """Whether a blob lies in a pack that is not damaged, as far as is known."""
        return any(
            place.pack not in self.damaged and self.places.fault(blob, place) is None
            for place in self.inventory.index.places(kind, blob)
        )

    def missing(self) -> list[str]:
        """Names of packs that an index names and that are not there."""
        return [pack_name(kind, pack) for kind, pack in self.inventory.missing()]

    def moved_on(self) -> bool:
        """Whether a sweep has begun since: what is missing may have been deleted with good reason.

        Raises:
            StorageError.
        """
        return protocol.read_sweeps(self.handle.storage, self.handle.keys).generation != self.generation

    # -- packs ---------------------------------------------------------------------------------------------

    def _each(
        self, packs: Collection[Pack], job: Callable[[Kind, ObjectInfo], Sequence[str]], *, until: float | None = None
    ) -> list[Pack]:
        left = []
        for pack in packs:
            if until is not None and time.monotonic() >= until:
                left.append(pack)
                continue
            self._pool.submit(self._guarded, job, *pack)
            self._progress(pack[1].name)
        self._pool.drain()
        return left

    def _guarded(self, job: Callable[[Kind, ObjectInfo], Sequence[str]], kind: Kind, info: ObjectInfo) -> None:
        pack = digest_of(info.name) or b""
        try:
            faults = job(kind, info)
            good = {found.blob: found.place for found in self._inspector.recover(kind, info)} if faults else {}
        except ObjectNotFound:  # a sweep has deleted it, or else those who need it will miss it
            with self._lock:
                self.inventory.packs[kind].pop(pack, None)
            return
        with self._lock:
            self.objects += pack not in self._looked
            self._looked.add(pack)
            if faults:
                self.damaged[pack] = Damage(kind, info, tuple(faults), good)

    def _look_at(self, kind: Kind, info: ObjectInfo) -> Sequence[str]:
        try:
            self._inspector.table(kind, info)
        except IntegrityError as error:
            return (error.message,)
        return ()

    def _read(self, kind: Kind, info: ObjectInfo) -> Sequence[str]:
        whole = self._inspector.read(kind, info)
        with self._lock:
            self._tested.add(digest_of(info.name) or b"")
            self.blobs += whole.blobs
            self.bytes_read += whole.bytes_read
            if not whole.faults:
                self.read.add(digest_of(info.name) or b"")
        return whole.faults

    # -- progress ------------------------------------------------------------------------------------------

    def tick(self, name: bytes) -> None:
        """Cancellation, and now and then a progress event.

        Raises:
            Cancelled.
        """
        self._progress(os.fsdecode(name))

    def _progress(self, path: str) -> None:
        self.check()
        now = time.monotonic()
        if now >= self._next_event:
            self._next_event = now + _EVENT_EVERY
            event = Event(
                kind="progress", operation=self._operation, path=path, files=self.objects, bytes=self.bytes_read
            )
            self._context.events(event)
