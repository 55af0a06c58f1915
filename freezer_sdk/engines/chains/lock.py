"""The lock of a series: one run at a time writes or deletes its levels.

Whoever wants it stores an object of its own, then lists those of the others; where there is another one, it takes its
own back. So of two at once both may step back, and try again after a random time, but never do both go on; and no
storage need have a conditional put. A lock is dead, and is removed, when it was not refreshed for its lifetime by the
storage's clock, or when the process that stored it ran on this machine and is gone. The original's agent knows of no
locks.
"""

from __future__ import annotations

import json
import random
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

from freezer_sdk.engines.chains.layout import locks_of
from freezer_sdk.engines.chains.liveness import ProcessMark
from freezer_sdk.errors import LeaseLost, ObjectNotFound, RepositoryLocked
from freezer_sdk.storages.base import ObjectInfo, Storage
from freezer_sdk.streams.cancel import CancelToken

LIFETIME: Final = timedelta(minutes=10)
_REFRESHES: Final = 5  # in a lifetime
_TRIES: Final = 5
_LONGEST_PAUSE: Final = 1.0  # seconds between them
_CANCEL_EVERY: Final = 0.2  # seconds
_LIMIT: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Holder:
    """Somebody else's lock.

    Attributes:
        held: it has the lock; else it only tries to get it.
        refreshed: by the storage's clock.
    """

    who: str
    held: bool
    refreshed: datetime


class SeriesLock:
    """Held inside its context. May be used from several threads.

    Args:
        folder: that of the codec.
        lifetime: after which a lock that nobody refreshes is dead.
        cancel: ends the waiting for somebody who tries at the same time.
    """

    def __init__(
        self,
        storage: Storage,
        folder: str,
        series: str,
        *,
        lifetime: timedelta = LIFETIME,
        cancel: CancelToken | None = None,
    ) -> None:
        self._storage = storage
        self._series = series
        self._prefix = locks_of(folder, series)
        self._name = f"{self._prefix}{secrets.token_hex(16)}"
        self._lifetime = lifetime
        self._cancel = cancel or CancelToken()
        self._ended = threading.Event()
        self._keeper: threading.Thread | None = None

    def __enter__(self) -> Self:
        try:
            self._acquire()
        except BaseException:
            with suppress(Exception):  # the first error says more
                self._storage.delete(self._name)
            raise
        self._keeper = threading.Thread(target=self._keep, name="series-lock", daemon=True)
        self._keeper.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._keeper is not None:
            self._keeper.join()
        with suppress(Exception):  # it dies by itself, and what was done is done
            self._storage.delete(self._name)

    def check(self) -> None:
        """The last look before something counts.

        Raises:
            LeaseLost: somebody may have taken the lock over.
            StorageError.
        """
        try:
            refreshed = self._storage.stat(self._name).modified
        except ObjectNotFound:
            refreshed = datetime.min.replace(tzinfo=UTC)
        if self._storage.now() - refreshed >= self._lifetime:
            raise LeaseLost(
                f"the lock of {self._series!r} was lost: this run could not reach the storage, or slept, for too long",
                hint="another run may have begun; start again",
            )

    def _acquire(self) -> None:
        """Raises RepositoryLocked where somebody else has it."""
        for attempt in range(_TRIES):
            self._cancel.check()
            self._put(held=False)
            self._pause(self._storage.capabilities.listing_lag.total_seconds())
            others = self._others()
            if not others:
                self._put(held=True)
                return
            self._storage.delete(self._name)
            holder = next((other for other in others if other.held), others[0])
            if holder.held or attempt == _TRIES - 1:
                raise self._locked(holder)
            self._pause(random.uniform(0.05, _LONGEST_PAUSE))  # noqa: S311 - only to part those who try at once

    def _pause(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while (rest := ends - time.monotonic()) > 0:
            self._cancel.check()
            time.sleep(min(rest, _CANCEL_EVERY))

    def _others(self) -> list[Holder]:
        """Those who live; the dead are removed."""
        found: list[Holder] = []
        listed = [item for item in self._storage.list(self._prefix) if item.name != self._name]
        if not listed:
            return found
        now, slack = self._storage.now(), self._storage.capabilities.clock_resolution
        for item in listed:
            holder = None
            if now - item.modified <= self._lifetime + slack:
                holder = self._read(item)
            if holder is None:
                self._storage.delete(item.name)
            else:
                found.append(holder)
        return found

    def _read(self, item: ObjectInfo) -> Holder | None:
        """``None``: it is dead, or was given back meanwhile."""
        try:
            data = self._storage.get(item.name, length=_LIMIT)
        except ObjectNotFound:
            return None
        document: Any = None
        with suppress(ValueError, RecursionError):
            document = json.loads(data)
        if not isinstance(document, dict):
            document = {}
        mark = ProcessMark.of(document)
        if mark is not None and mark.dead:
            return None
        who = "somebody" if mark is None else f"process {mark.process} on {document.get('host', 'an unknown host')}"
        return Holder(who=who, held=document.get("held") is not False, refreshed=item.modified)

    def _put(self, *, held: bool) -> None:
        document = {"version": 1, "held": held, "host": socket.gethostname(), **asdict(ProcessMark.own())}
        self._storage.put(self._name, [json.dumps(document).encode()])

    def _keep(self) -> None:
        pause = self._lifetime.total_seconds() / _REFRESHES
        while not self._ended.wait(pause):
            try:
                self.check()  # who was taken over must not come back
                self._put(held=True)
            except LeaseLost:
                return
            except Exception:  # noqa: S112 - it may pass; check() tells should it not
                continue

    def _locked(self, holder: Holder) -> RepositoryLocked:
        minutes = self._lifetime.total_seconds() / 60
        return RepositoryLocked(
            f"another run is at work on {self._series!r}: {holder.who}, last heard of {holder.refreshed:%H:%M:%S} UTC",
            hint=f"wait for it; should it be dead, its lock ends {minutes:g} minutes after it was last heard of",
        )
