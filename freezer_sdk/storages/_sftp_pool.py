"""Several connections to one server, shared by threads and made anew when they are lost."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from freezer_sdk.errors import StorageError
from freezer_sdk.storages._sftp_session import ConnectionLost, Session


class Link(Protocol):
    """An SFTP session with the connection that it needs."""

    session: Session

    @property
    def alive(self) -> bool:
        """Whether the connection is up, as far as is known without asking."""

    def close(self) -> None:
        """Ends it at once."""


class Member:
    """A connection of the pool; one thread at a time uses it, and several may need it again later."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.busy = True
        self.pins = 0

    @property
    def usable(self) -> bool:
        """Whether something can be asked on it."""
        return self.link.alive and not self.link.session.broken


class _Waiter:
    """A thread that waits for a member, or for this one."""

    def __init__(self, pinned: Member | None) -> None:
        self.pinned = pinned
        self.member: Member | None = None


class SessionPool:
    """Hands out sessions, at most ``size`` of them.

    A server that allows fewer connections is fine too: when another one is refused, those that are there must do.

    Args:
        connect: makes a connection; raises errors of this library.

    Attributes:
        losses: connections that ended otherwise than by :meth:`close`.
    """

    def __init__(self, connect: Callable[[], Link], size: int) -> None:
        self.losses = 0
        self._connect = connect
        self._size = self._room = size
        self._members: list[Member] = []
        self._dead: list[Member] = []
        self._queue: deque[_Waiter] = deque()
        self._connecting = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def use(self, pinned: Member | None = None) -> Iterator[Member]:
        """A connection for this thread alone.

        Args:
            pinned: this one and no other.

        Raises:
            ConnectionLost: the pinned one is gone.
            StorageError: no connection can be made, or the pool is closed.
        """
        member = self._take(pinned)
        try:
            yield member
        finally:
            self._give_back(member)

    @contextlib.contextmanager
    def pinning(self, member: Member) -> Iterator[None]:
        """While it is open, others prefer other connections."""
        with self._changed:
            member.pins += 1
        try:
            yield
        finally:
            with self._changed:
                member.pins -= 1

    def check(self) -> None:
        """Asks something on every idle connection, so that lost ones are known as such."""
        with self._changed:
            members = list(self._members)
        for member in members:
            with contextlib.suppress(ConnectionLost), self.use(member):
                member.link.session.ping().result()

    def close(self) -> None:
        """Ends all connections, also those in use."""
        with self._changed:
            self._closed = True
            self._dead += self._members
            self._members = []
            self._changed.notify_all()
        self._bury()

    def _take(self, pinned: Member | None) -> Member:
        while True:
            with self._changed:
                member = self._wait(_Waiter(pinned))
            self._bury()
            if member is not None or (member := self._grow()) is not None:
                return member

    def _wait(self, waiter: _Waiter) -> Member | None:
        """A free member, or ``None``: a new one may be made, and is counted already."""
        pinned = waiter.pinned
        try:
            while waiter.member is None:
                self._drop_lost()
                if self._closed:
                    raise StorageError("the storage is closed")
                if pinned is not None and pinned not in self._members:
                    raise ConnectionLost("the connection was lost")
                idle = [member for member in self._members if not member.busy and pinned in (None, member)]
                best = min(idle, key=lambda member: member.pins, default=None)
                may_grow = pinned is None and len(self._members) + self._connecting < self._room
                if may_grow and (best is None or best.pins):
                    self._connecting += 1
                    return None
                if best is not None:
                    best.busy = True
                    return best
                if waiter not in self._queue:
                    self._queue.append(waiter)
                self._changed.wait()
            return waiter.member
        except BaseException:
            if waiter.member is not None:
                self._pass_on(waiter.member)
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._queue.remove(waiter)

    def _grow(self) -> Member | None:
        """A new member, or ``None``: the server wants no more of them."""
        member = None
        try:
            member = Member(self._connect())
        except StorageError:
            with self._changed:
                if not self._members:
                    raise
                self._room = len(self._members)  # until all of them are gone
        finally:
            with self._changed:
                self._connecting -= 1
                if member is not None:
                    (self._dead if self._closed else self._members).append(member)
                self._changed.notify_all()
        self._bury()
        return member

    def _give_back(self, member: Member) -> None:
        with contextlib.suppress(ConnectionLost):
            if not member.link.session.broken:
                member.link.session.flush()
        with self._changed:
            self._pass_on(member)
        self._bury()

    def _pass_on(self, member: Member) -> None:
        """Gives a member to who waits longest, or leaves it idle."""
        waiter = next((waiter for waiter in self._queue if waiter.pinned in (None, member)), None)
        if waiter is not None and member.usable and member in self._members:
            waiter.member = member
            self._queue.remove(waiter)
        else:
            member.busy = False
            self._drop_lost()
        self._changed.notify_all()

    def _drop_lost(self) -> None:
        lost = [member for member in self._members if not member.busy and not member.usable]
        for member in lost:
            self._members.remove(member)
            self._dead.append(member)
            self.losses += 1
        if not self._members:
            self._room = self._size

    def _bury(self) -> None:
        """Closes lost connections; not under the lock, since threads of theirs may have to end."""
        while self._dead:
            with contextlib.suppress(IndexError):
                self._dead.pop().link.close()
