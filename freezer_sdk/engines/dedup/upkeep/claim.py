"""The maintenance lease: of several who maintain a repository at once, the first goes on and the others give way.

Nothing depends on it but comfort: the protocol of marks and sweeps keeps two of them from doing harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Final, Self

from freezer_sdk.engines.dedup.keyring import KeyRing, Role
from freezer_sdk.engines.dedup.lease import MAINTENANCE, PREFIX, Lease, LeaseState, boottime, read_leases
from freezer_sdk.engines.dedup.unlisted import find_object
from freezer_sdk.errors import RepositoryLocked
from freezer_sdk.storages.base import Storage

_STALE: Final = timedelta(minutes=5)  # who was not heard of for so long does not keep others from working
_REFRESHES: Final = 5  # in this time

Wait = Callable[[float], object]
"""Sleeps for so many seconds."""


class Claim:
    """A maintenance lease. A context manager, used once.

    Args:
        clock: seconds, for the lease's age.
        wait: how to sleep.
    """

    def __init__(
        self, storage: Storage, keys: KeyRing, *, clock: Callable[[], float] = boottime, wait: Wait = time.sleep
    ) -> None:
        self._storage, self._keys, self._clock, self._wait = storage, keys, clock, wait
        self._stale = min(_STALE, keys.config.shortest_grace)
        self._lease: Lease | None = None

    def __enter__(self) -> Self:
        """Claims.

        Raises:
            RepositoryLocked: somebody else maintains the repository.
            AccessDenied: the slot may not write, or not maintain.
            StorageError.
        """
        self._keys.require_role(Role.MAINTAINER)
        self._lease = Lease.create(
            self._storage,
            self._keys,
            MAINTENANCE,
            clock=self._clock,
            every=self._stale.total_seconds() / _REFRESHES,
        )
        try:
            lag = self._storage.capabilities.listing_lag
            if lag:
                self._wait(lag.total_seconds())
            self._refuse_others(self._lease)
        except BaseException:
            self._lease.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the claim back."""
        self.lease.close()

    @property
    def lease(self) -> Lease:
        """Held inside the block."""
        assert self._lease is not None
        return self._lease

    @property
    def opened(self) -> datetime:
        """When it was claimed, by the storage's clock."""
        return self.lease.opened

    def keep(self) -> None:
        """Refreshes when it is time to; to be called often.

        Raises:
            LeaseLost, StorageError.
        """
        self.lease.keep()

    def _refuse_others(self, own: Lease) -> None:
        for other in read_leases(self._storage, self._keys, tick=own.keep).leases:
            if other.id == own.id or not self._counts(other) or own.opened - other.refreshed > self._stale:
                continue
            if (other.opened, other.id) < (own.opened, own.id) and not self._has_closed(other):
                raise RepositoryLocked(
                    f"the repository is being maintained by {describe(self._keys, other)}",
                    hint="wait until that is done; freezer repository leases shows who is at work",
                )

    def _has_closed(self, lease: LeaseState) -> bool:
        """Whether it is closed, and a listing only lacks that."""
        lag = self._storage.capabilities.listing_lag
        return bool(lag) and find_object(self._storage, f"{PREFIX}{lease.id}/closed") is not None

    def _counts(self, lease: LeaseState) -> bool:
        """Whether it is open, and of somebody who may maintain."""
        slot = None if lease.slot is None else self._keys.config.slot(lease.slot)
        return (
            lease.backup == MAINTENANCE
            and not lease.closed
            and slot is not None
            and slot.revoked is None
            and Role.MAINTAINER in slot.roles
        )


def describe(keys: KeyRing, lease: LeaseState) -> str:
    """Who holds a lease, for people."""
    slot = None if lease.slot is None else keys.config.slot(lease.slot)
    holder = "somebody" if lease.slot is None else (slot.label if slot and slot.label else lease.slot.hex()[:8])
    return f"{holder}{f' on {lease.host}' if lease.host else ''} (lease {lease.id[:8]}, since {lease.opened:%F %T} UTC)"
