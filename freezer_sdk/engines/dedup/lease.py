"""Leases: how a writer tells maintenance that it is at work (repository-format, "Control objects")."""

from __future__ import annotations

import math
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from freezer_sdk.engines.dedup import control
from freezer_sdk.engines.dedup.config import time_text
from freezer_sdk.engines.dedup.deletion import read_sweeps
from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.opening import Reported, open_all
from freezer_sdk.errors import LeaseLost, StorageError, Transient
from freezer_sdk.model import Problem
from freezer_sdk.storages.base import ObjectInfo, Storage

KIND: Final = "lease"
CLOSED_KIND: Final = "lease-closed"
PREFIX: Final = "leases/"
NAME: Final = re.compile(r"leases/([0-9a-f]{32})/(\d{8}|closed)\Z")
MAINTENANCE: Final = "maintenance"
"""In place of the name of a commit object: its holder makes no backup, but maintains the repository."""

_REFRESHES: Final = 8  # in a grace time


def boottime() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Lease:
    """A lease that this process holds. May be used from several threads.

    Attributes:
        id: 32 hexadecimal digits.
        backup: name of the commit object that its holder is going to write, or :data:`MAINTENANCE`.
        opened: when it was first stored, by the storage's clock.
    """

    def __init__(
        self,
        storage: Storage,
        keys: KeyRing,
        backup: str,
        *,
        clock: Callable[[], float] = boottime,
        every: float = math.inf,
    ) -> None:
        self._storage, self._keys, self._clock = storage, keys, clock
        self.id, self.backup = secrets.token_hex(16), backup
        self._grace = keys.config.shortest_grace.total_seconds()
        self._every = min(every, self._grace / _REFRESHES)
        self._lock = threading.Lock()
        self._number = 0
        self._closed = False
        self._refreshed = self._clock()
        self._stored_at = datetime.min.replace(tzinfo=UTC)
        self._due = 0.0
        self._put()
        self.opened = self._stored_at

    @classmethod
    def create(
        cls,
        storage: Storage,
        keys: KeyRing,
        backup: str,
        *,
        clock: Callable[[], float] = boottime,
        every: float = math.inf,
    ) -> Self:
        """Stores a new lease. Only what is read after this may be relied on.

        Args:
            backup: name of the commit object to be, or :data:`MAINTENANCE`.
            clock: seconds, for the lease's age.
            every: seconds after which it is refreshed; an eighth of the grace time at most.

        Raises:
            AccessDenied: the slot may not write.
            StorageError.
        """
        keys.require_role(Role.WRITER)
        return cls(storage, keys, backup, clock=clock, every=every)

    def keep(self) -> None:
        """Refreshes the lease when it is time to; cheap otherwise. To be called often.

        Raises:
            LeaseLost: it was not refreshed for longer than the grace time.
            StorageError: it could not be refreshed for half of the grace time.
        """
        if self._clock() < self._due or not self._lock.acquire(blocking=False):
            return
        try:
            self._check_age()
            try:
                self._put()
            except StorageError as error:
                if not isinstance(error, Transient) or self._age() > self._grace / 2:
                    raise
                self._due = self._clock() + self._grace / _REFRESHES / 8
        finally:
            self._lock.release()

    def refresh(self) -> None:
        """Refreshes the lease now, by a new object.

        Raises:
            LeaseLost, StorageError.
        """
        with self._lock:
            self._check_age()
            self._put()

    def check(self) -> None:
        """The last look before the commit: by this machine's clock and by the storage's.

        Raises:
            LeaseLost: not refreshed for the grace time or longer.
            StorageError.
        """
        self._check_age()
        resolution = self._storage.capabilities.clock_resolution
        if self._storage.now() - self._stored_at + resolution >= timedelta(seconds=self._grace):
            raise self._lost()
        self._check_age()  # asking the storage may have taken long

    def confirm(self, generation: int) -> None:
        """The look after the commit: only now the backup is known to count.

        Args:
            generation: what the commit says.

        Raises:
            LeaseLost: a sweep of a newer generation was announced; it may not have seen the commit.
            StorageError.
        """
        newest = read_sweeps(self._storage, self._keys).generation
        if newest > generation:
            raise LeaseLost(
                f"while this backup was written, a sweep (generation {newest}) began that may not have seen it",
                hint="run the backup again; what was stored is used again",
            )

    def close(self) -> None:
        """Tells maintenance that the holder has ended. A storage that fails now is not reported: the lease ages."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            name = f"{PREFIX}{self.id}/closed"
            document = {"lease": self.id, "closed": time_text(datetime.now(UTC))}
            try:
                self._storage.put(name, [control.seal(self._keys, CLOSED_KIND, name, document, secrecy="index")])
            except StorageError:
                pass

    def _put(self) -> None:
        name = f"{PREFIX}{self.id}/{self._number:08d}"
        document = {
            "lease": self.id,
            "number": self._number,
            "backup": self.backup,
            "host": socket.gethostname()[:255],
            "created": time_text(datetime.now(UTC)),
        }
        before = self._clock()
        info = self._storage.put(name, [control.seal(self._keys, KIND, name, document, secrecy="index")])
        self._number += 1
        self._refreshed, self._stored_at = before, info.modified
        self._due = before + self._every

    def _age(self) -> float:
        return self._clock() - self._refreshed

    def _check_age(self) -> None:
        if self._closed or self._age() >= self._grace:
            raise self._lost()

    def _lost(self) -> LeaseLost:
        return LeaseLost(
            f"the lease {self.id} was not refreshed for {self._grace:.0f} seconds; the backup cannot count any more",
            hint="run the backup again; what was stored is used again",
        )


@dataclass(frozen=True, kw_only=True)
class LeaseState:
    """A lease as others see it.

    Attributes:
        slot, backup: ``None`` when the lease cannot be read: it still counts until it is old.
        host: as the holder says; empty: not known.
        opened, refreshed: by the storage's clock.
    """

    id: str
    slot: bytes | None
    backup: str | None
    host: str
    opened: datetime
    refreshed: datetime
    closed: bool


@dataclass(frozen=True, kw_only=True)
class Leases:
    """All leases."""

    leases: tuple[LeaseState, ...]
    problems: tuple[Problem, ...]


def read_leases(storage: Storage, keys: KeyRing, *, tick: Callable[[], None] | None = None) -> Leases:
    """All leases; how old one may be is for the caller to judge.

    Args:
        tick: called again and again: there may be many leases, and one's own must not age meanwhile.

    Raises:
        StorageError.
    """
    problems: list[Problem] = []
    first: dict[str, ObjectInfo] = {}
    newest: dict[str, ObjectInfo] = {}
    closed: dict[str, ObjectInfo] = {}
    for info in storage.list(PREFIX):
        match = NAME.match(info.name)
        if match and match[2] == "closed":
            closed[match[1]] = info
        elif match:  # the listing is sorted: the last is newest
            first.setdefault(match[1], info)
            newest[match[1]] = info
    states = []
    infos = list({info.name: info for infos in (first, newest, closed) for info in infos.values()}.values())
    found = {
        item.info.name: item
        for item in open_all(storage, keys, infos, kind=_lease_kind, role=Role.WRITER, problems=problems, tick=tick)
    }
    for lease_id, info in newest.items():
        # the signer of the first object holds the lease: anybody can put further ones under its id
        item = found.get(first[lease_id].name) or found.get(info.name)
        end = found.get(closed[lease_id].name) if lease_id in closed else None
        backup, host = None, ""
        with Reported(info.name, problems):
            backup = None if item is None else item.fields.text("backup")
            host = "" if item is None or not item.fields.rest().get("host") else item.fields.text("host")
        states.append(
            LeaseState(
                id=lease_id,
                slot=None if item is None else item.signer,
                backup=backup,
                host=host,
                opened=first[lease_id].modified,
                refreshed=info.modified,
                closed=item is not None and end is not None and end.signer == item.signer,
            )
        )
    return Leases(leases=tuple(states), problems=tuple(problems))


def _lease_kind(name: str) -> str:
    return CLOSED_KIND if name.endswith("/closed") else KIND
