"""Around every storage that is opened here: calls that failed for a while are repeated, bandwidth limits hold.

This is the only place where calls of a storage are repeated. What is repeated, and what is not:

* ``put``, ``get``, ``stat``, ``delete``, ``delete_many``, ``join`` and ``now``: by one policy. A ``put`` with
  ``if_absent`` whose answer was lost finds its own object: it compares, and succeeds.
* ``list``: begins again, and goes on after the last name that was handed out.
* ``open``: goes on at the byte where it stopped, unless the object was replaced meanwhile.
* ``upload``: never, what was written is gone.
* ``upload_segmented``: each segment is a ``put``.
* ``flush``: only where the storage remembers what is not durable yet; elsewhere a second barrier says nothing about
  what the first one lost.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TypeVar

from freezer_sdk.boundary import describe_failure
from freezer_sdk.errors import (
    Cancelled,
    FreezerError,
    ObjectExists,
    StorageError,
    StorageThrottled,
    StorageUnavailable,
    Transient,
)
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import Capabilities, ObjectInfo, Reader, Storage, StorageWrapper, Traffic, Upload
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.streams.pacing import Pace, PacedUpload, Stop
from freezer_sdk.streams.ratelimit import Limits
from freezer_sdk.streams.retry import RetryPolicy

T = TypeVar("T")

PATIENT = RetryPolicy()
"""For a storage that has answered before."""

FIRST_CONTACT = RetryPolicy(attempts=4, total=15.0)
"""For one that has not: nobody should wait minutes for a misspelled host."""

ONCE = RetryPolicy(attempts=1)
"""For storages of this machine, whose errors do not pass by themselves."""

_log = logging.getLogger("freezer_sdk")
_PIECE = 4 << 20
_BATCH = 1000  # names that are deleted, and if need be deleted again, in one go


class ReliableStorage(StorageWrapper):
    """Another storage that is patient and keeps to bandwidth limits.

    Args:
        storage: does the work; closed together with this one.
        policy: when calls are repeated; by default patiently for remote storages, and not at all for others.
        first_contact: the same, until the storage has answered once; by default the given ``policy``, else a short one.
        limits: all of them hold; those of several storages add up when they are given the same object.
        secrets: texts that no message may show.

    Attributes:
        limits: the first of them.
        secrets: as given.
    """

    name = "reliable"
    api_version = 1
    summary = "another storage, with repetitions and bandwidth limits"

    def __init__(
        self,
        storage: Storage,
        *,
        policy: RetryPolicy | None = None,
        first_contact: RetryPolicy | None = None,
        limits: Sequence[Limits] = (),
        secrets: Sequence[str] = (),
    ) -> None:
        self.name = storage.name  # type: ignore[misc]  # it speaks for the other one
        self.summary = storage.summary  # type: ignore[misc]
        self.options = storage.options  # type: ignore[misc]
        super().__init__(storage)
        self._policy = policy
        self._first_contact = first_contact or policy
        self.secrets = tuple(secrets)
        self._stop = Stop()
        self.limits = limits[0] if limits else Limits()
        self._pace = Pace(limits or (self.limits,), self._stop)
        self._traits: Capabilities | None = None
        self._answered = False
        self._flushing = threading.Lock()
        self._lost: str | None = None
        storage.traffic = self._pace

    def __repr__(self) -> str:
        return f"<ReliableStorage {self.location}>"

    @property
    def inner(self) -> Storage:
        """The storage that does the work."""
        return self._storage

    @property
    def traffic(self) -> Traffic:
        """Who is told of the content that moves, beside the limits."""
        return self._pace.listener

    @traffic.setter
    def traffic(self, traffic: Traffic) -> None:
        self._pace.listener = traffic

    @property
    def capabilities(self) -> Capabilities:
        """Those of the storage that does the work."""
        return self._call("asking what it can do", lambda: self._storage.capabilities)

    @contextmanager
    def watching(self, cancel: CancelToken) -> Iterator[None]:
        """Inside, waiting ends when this token is cancelled; with several at once, when all of them are."""
        self._stop.watch(cancel)
        try:
            yield
        finally:
            self._stop.forget(cancel)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        try:
            self._send(buffers)
            info = self._storage.put(name, buffers, if_absent=if_absent)
        except FreezerError as error:
            return self._again(f"storing {name!r}", partial(self._put_again, name, buffers, if_absent), error)
        self._answered = True
        return info

    @contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`."""
        with self._storage.upload(name) as upload:
            self._answered = True
            yield upload if self._known.paced else PacedUpload(upload, self._pace)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        try:
            data = self._storage.get(name, offset=offset, length=length)
        except FreezerError as error:
            again = partial(self._storage.get, name, offset=offset, length=length)
            data = self._again(f"reading {name!r}", again, error)
        self._answered = True
        if self._pace.limited and not self._known.paced:
            self._pace.all_received(len(data))
        return data

    def open(self, name: str) -> AbstractContextManager[Reader]:
        """See :meth:`Storage.open`."""
        if not self._known.remote and not self._pace.limited:
            return self._storage.open(name)
        return self._opened(name)

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        return self._call(f"looking for {name!r}", partial(self._storage.stat, name))

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`."""
        begin = partial(self._storage.list, prefix, delimiter=delimiter)
        what = f"listing {prefix!r}"
        return self._listed(what, begin, self._call(what, begin))

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        self._call(f"deleting {name!r}", partial(self._storage.delete, name))

    def delete_many(self, names: Iterable[str]) -> None:
        """See :meth:`Storage.delete_many`."""
        if type(self._storage).delete_many is Storage.delete_many:  # one by one: so each is repeated for itself
            super().delete_many(names)
            return
        rest, failure = iter(names), None
        while batch := tuple(itertools.islice(rest, _BATCH)):
            try:
                self._call(f"deleting {len(batch)} objects", partial(self._storage.delete_many, batch))
            except Cancelled:
                raise
            except Exception as error:  # the rest is still to be removed
                failure = error
        if failure is not None:
            raise failure

    def join(self, name: str, *, segments: str) -> ObjectInfo:
        """See :meth:`Storage.join`."""
        return self._call(f"joining {name!r}", partial(self._storage.join, name, segments=segments))

    def flush(self) -> None:
        """See :meth:`Storage.flush`; tried once, unless the storage says that it may be repeated.

        Raises:
            StorageError: something acknowledged may be lost; so it stays for this object, whatever is said later.
        """
        with self._flushing:
            if self._lost is not None:
                raise StorageError(self._lost)
            repeatable = self._known.repeatable_barrier
            try:
                if repeatable:
                    self._call("a barrier", self._storage.flush)
                else:
                    self._storage.flush()
            except Exception as error:
                what = describe_failure(error, secrets=self.secrets)
                self._lost = f"what was stored in {self.location} may be lost since a barrier failed: {what}"
                raise

    def now(self) -> datetime:
        """See :meth:`Storage.now`."""
        return self._call("asking for the time", self._storage.now)

    def close(self) -> None:
        """Ends all waiting, and closes the storage that does the work."""
        self._stop.cancel()
        self._pace.close()
        self._storage.close()

    def _call(self, what: str, call: Callable[[], T]) -> T:
        try:
            result = call()
        except FreezerError as error:
            return self._again(what, call, error)
        self._answered = True
        return result

    def _again(self, what: str, call: Callable[[], T], error: FreezerError) -> T:
        """Repeats a call that failed, unless it failed for good; then the error comes out."""
        if not isinstance(error, Transient):
            self._answered = True
            raise error
        policy = self._choose_policy(answered=self._answered or isinstance(error, StorageThrottled))
        result = policy.run(call, failed=error, repeating=partial(self._tell, what, policy), sleep=self._stop.sleep)
        self._answered = True
        return result

    @property
    def _known(self) -> Capabilities:
        """Of the capabilities, what never changes; asked for when it is first needed."""
        if self._traits is None:
            self._traits = self.capabilities
        return self._traits

    def _choose_policy(self, *, answered: bool) -> RetryPolicy:
        given = self._policy if answered else self._first_contact
        if given is not None:
            return given
        if self._traits is None:
            with suppress(FreezerError):  # then it is far away
                self._traits = self._storage.capabilities
        if self._traits is not None and not self._traits.remote:
            return ONCE
        return PATIENT if answered else FIRST_CONTACT

    def _tell(self, what: str, policy: RetryPolicy, error: Exception, wait: float, attempt: int) -> None:
        reason = describe_failure(error, secrets=self.secrets)
        text = "%s: %s failed (%s); trying again in %.1f s (attempt %d of %d)"
        _log.warning(text, self.location, what, reason, wait, attempt, policy.attempts)

    def _send(self, buffers: Sequence[Buffer]) -> None:
        if self._pace.limited and not self._known.paced:
            self._pace.all_sent(sum(memoryview(buffer).nbytes for buffer in buffers))

    def _put_again(self, name: str, buffers: Sequence[Buffer], if_absent: bool) -> ObjectInfo:
        self._send(buffers)
        try:
            return self._storage.put(name, buffers, if_absent=if_absent)
        except ObjectExists:  # perhaps by the attempt before, whose answer was lost
            info = self._storage.stat(name)
            if not self._holds(info, buffers):
                raise
            return info

    def _holds(self, info: ObjectInfo, buffers: Sequence[Buffer]) -> bool:
        if info.size != sum(memoryview(buffer).nbytes for buffer in buffers):
            return False
        ours, theirs = hashlib.sha256(), hashlib.sha256()
        for buffer in buffers:
            ours.update(buffer)
        for offset in range(0, info.size, _PIECE):
            theirs.update(self._storage.get(info.name, offset=offset, length=_PIECE))
        return ours.digest() == theirs.digest()

    def _listed(
        self, what: str, begin: Callable[[], Iterator[ObjectInfo]], listing: Iterator[ObjectInfo]
    ) -> Iterator[ObjectInfo]:
        last, ordered = "", True
        while True:
            try:
                info = next(listing, None)
            except FreezerError as error:
                if not ordered:  # what is still to come cannot be told from what came
                    raise
                listing = self._again(what, partial(_continued, begin, last), error)
                continue
            if info is None:
                return
            ordered = ordered and info.name > last
            last = info.name
            yield info

    @contextmanager
    def _opened(self, name: str) -> Iterator[Reader]:
        info = self.stat(name)
        context = self._call(f"opening {name!r}", partial(_entered, self._storage, name))
        reader = _ResumingReader(self, info, context, None if self._known.paced else self._pace)
        try:
            yield reader
        except BaseException:
            with suppress(Exception):  # the first error says more
                reader.close()
            raise
        reader.close()


class _ResumingReader:
    """Reads a stream; when it breaks off, the rest comes by ranges."""

    def __init__(self, storage: ReliableStorage, info: ObjectInfo, opened: _Entered, pace: Pace | None) -> None:
        self._storage = storage
        self._info = info
        self._context, self._reader = opened
        self._pace = pace
        self._whole = True  # still the first stream
        self._position = 0
        self._rest = memoryview(b"")  # a view, so that small reads do not copy what is left again and again

    def read(self, size: int = -1) -> bytes:
        """See :meth:`Reader.read`."""
        if size < 0:
            return b"".join(iter(partial(self.read, _PIECE), b""))
        data = self._from_stream(size) if self._whole else self._from_ranges(size)
        self._position += len(data)
        return data

    def close(self) -> None:
        """Releases the stream."""
        if self._whole:
            self._whole = False
            self._context.__exit__(None, None, None)

    def _from_stream(self, size: int) -> bytes:
        try:
            data = self._reader.read(size)
            if not data and size and self._position < self._info.size and self._same():
                text = f"{self._info.name!r} broke off after {self._position} of {self._info.size} bytes"
                raise StorageUnavailable(text)
        except FreezerError as error:
            if not isinstance(error, Transient):
                raise
            with suppress(Exception):  # it is broken, and so may be what closes it
                self.close()
            self._storage._again(f"reading {self._info.name!r}", self._check, error)
            return self._from_ranges(size)
        if self._pace is not None and self._pace.limited:
            self._pace.all_received(len(data))
        return data

    def _from_ranges(self, size: int) -> bytes:
        if not self._rest and size and self._position < self._info.size:
            piece = self._storage.get(self._info.name, offset=self._position, length=max(size, _PIECE))
            self._check()
            self._rest = memoryview(piece)
        data, self._rest = self._rest[:size], self._rest[size:]
        return bytes(data)

    def _same(self) -> bool:
        now = self._storage.stat(self._info.name)
        return (now.size, now.modified, now.checksum) == (self._info.size, self._info.modified, self._info.checksum)

    def _check(self) -> None:
        if not self._same():
            raise StorageError(f"{self._info.name!r} was replaced while it was read")


_Entered = tuple[AbstractContextManager[Reader], Reader]


def _entered(storage: Storage, name: str) -> _Entered:
    context = storage.open(name)
    return context, context.__enter__()


def _continued(begin: Callable[[], Iterator[ObjectInfo]], last: str) -> Iterator[ObjectInfo]:
    """A new listing, positioned after a name."""
    listing = begin()
    for info in listing:
        if info.name > last:
            return itertools.chain((info,), listing)
    return iter(())
