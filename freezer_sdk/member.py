"""One of several repositories: how it is opened, and what is known of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from freezer_sdk.client import Freezer
from freezer_sdk.detection import EngineOptions
from freezer_sdk.errors import FreezerError
from freezer_sdk.fanout import FanOut, Job
from freezer_sdk.model import Event, EventHandler
from freezer_sdk.opening import Password
from freezer_sdk.storages.base import Storage
from freezer_sdk.streams.cancel import CancelToken

if TYPE_CHECKING:
    from freezer_sdk.streams.ratelimit import Limits

_log = logging.getLogger("freezer_sdk")
_CLOSING = 30.0  # seconds


@dataclass(frozen=True, repr=False)
class Target:
    """A repository that a group opens. The fields are the arguments of :class:`~freezer_sdk.client.Freezer`."""

    storage: str | Storage
    _: KW_ONLY
    password: Password = None
    create: bool = False
    engine: str | None = None
    encryption: bool = True
    storage_options: Mapping[str, Any] | None = None
    engine_options: EngineOptions = None
    limits: Limits | None = None

    def __repr__(self) -> str:
        return f"<Target {self.location}>"

    @property
    def location(self) -> str:
        """The URL without what may be secret in it; once it is open, the storage itself says more."""
        return _public(self.storage) if isinstance(self.storage, str) else self.storage.location

    @property
    def interactive(self) -> bool:
        """A person is asked for the password."""
        return bool(getattr(self.password, "interactive", False))

    def open(self, events: EventHandler | None) -> Freezer:
        """Opens it.

        Raises:
            FreezerError: as :class:`~freezer_sdk.client.Freezer`.
        """
        return Freezer(
            self.storage,
            password=self.password,
            create=self.create,
            engine=self.engine,
            encryption=self.encryption,
            storage_options=self.storage_options,
            engine_options=self.engine_options,
            limits=self.limits,
            events=events,
        )


class Member:
    """One repository of a group.

    Args:
        given: to be opened, or open already; then it stays the caller's to close.

    Attributes:
        location: without secrets.
        freezer: ``None`` while it is not open.
        failure: why it cannot be used.
    """

    def __init__(self, given: Target | Freezer) -> None:
        self.target = given if isinstance(given, Target) else None
        self.freezer = given if isinstance(given, Freezer) else None
        self.location = given.location
        self.failure: FreezerError | None = None
        self._lock = threading.Lock()
        self._calls_left = 0  # that were left alone and have not returned
        self._closing = False

    @property
    def usable(self) -> Freezer | None:
        """The open repository, unless it failed."""
        return self.freezer if self.failure is None else None

    def opened(self, freezer: Freezer) -> None:
        """It is open now."""
        self.freezer, self.location = freezer, freezer.location

    def telling(self, events: EventHandler | None) -> EventHandler | None:
        """A handler for events of this repository, which hands them on with its location."""
        return None if events is None else lambda event: events(self.marked(event))

    def marked(self, event: Event) -> Event:
        """The event, with this repository as its target."""
        return replace(event, target=self.location)

    def leave_running(self, error: FreezerError) -> None:
        """A call was left alone that may never return; it cannot be closed before."""
        self.failure = error
        with self._lock:
            self._calls_left += 1

    def ended_late(self, _value: object = None) -> None:
        """The call has returned after all."""
        with self._lock:
            self._calls_left -= 1
            closing = self._closing
        if closing:
            self.close()

    def close(self) -> None:
        """Closes it, now or as soon as that can be done; what fails then is logged."""
        with self._lock:
            self._closing = True
            if self._calls_left or self.target is None or self.freezer is None:
                return
            freezer, self.freezer = self.freezer, None
        _close(freezer)


def open_all(members: Sequence[Member], events: EventHandler | None, *, stall_timeout: float | None) -> None:
    """Opens those that are not open; each then has a ``freezer`` or a ``failure``."""
    jobs: dict[Member, Job[Freezer]] = {}
    waiting: list[Job[Freezer]] = []
    for member in members:
        if member.target is None:
            continue
        job = Job(member.location, partial(_open, member.target, member.telling(events)), late=_close)
        if member.target.interactive:  # one question after the other, in the thread that can be interrupted
            job.value, job.error = job.run()
        else:
            waiting.append(job)
        jobs[member] = job
    try:
        FanOut(waiting, stall_timeout=stall_timeout).run()
    finally:
        for member, job in jobs.items():
            member.failure = job.error
            if job.value is not None:
                member.opened(job.value)


def leave_abandoned(members: Sequence[Member], jobs: Mapping[str, Job[Any]]) -> None:
    """Those whose job was left alone while it was running are not used any more, and closed when it ends.

    Args:
        jobs: by location.
    """
    for member in members:
        job = jobs.get(member.location)
        if job is not None and job.abandoned and job.error is not None:
            member.leave_running(job.error)


def close_all(members: Sequence[Member]) -> None:
    """Closes those that were opened here; one that takes too long is left to its thread."""
    jobs = [Job(each.location, partial(_close_member, each)) for each in members if each.freezer is not None]
    FanOut(jobs, stall_timeout=_CLOSING).run()


def _open(target: Target, events: EventHandler | None, _token: CancelToken) -> Freezer:
    return target.open(events)


def _close_member(member: Member, _token: CancelToken) -> None:
    member.close()


def _close(freezer: Freezer | None) -> None:
    if freezer is None:
        return
    try:
        freezer.close()
    except FreezerError as error:
        _log.warning("closing %s: %s", freezer.location, error)


def _public(url: str) -> str:
    """A storage URL without password and query."""
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{place}".partition("?")[0]
