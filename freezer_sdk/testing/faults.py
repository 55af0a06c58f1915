"""Fault injection: a storage that fails, tears, delays, or kills the process at a chosen call.

Kill the process after its fifth put, in the middle of its first upload, fail every second-and-later listing::

    storage = FaultyStorage(
        LocalStorage(path="/srv/backups"),
        Fault(kill, at=5, when="after", methods={"put"}),
        Fault(kill, when="during", methods={"commit"}),
        Fault(fail(StorageUnavailable("the cable is cut")), at=2, times=None, methods={"list"}),
        Fault(nothing, when="short", keep=10, methods={"list"}, prefix="index/"),
    )

"Kill at every storage call" is a loop over ``at`` until the program ends by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from freezer_sdk.errors import ConfigurationError, StorageUnavailable
from freezer_sdk.model import Buffer
from freezer_sdk.storages.base import ObjectInfo, Reader, Storage, StorageWrapper, Upload

METHODS = ("put", "upload", "write", "commit", "get", "open", "read", "stat", "list", "delete", "join", "flush", "now")
"""What counts as a call; ``write`` and ``commit`` are those of an upload, ``read`` is that of an open reader."""

_TEARABLE = frozenset({"put", "write"})
_IGNORABLE = frozenset({"put", "commit", "delete", "flush"})
_SHORTENABLE = frozenset({"list"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One recorded call.

    Attributes:
        number: counts all calls of the storage, from 1.
        name: of the object; the prefix for ``list``; ``""`` where there is none.
    """

    number: int
    method: str
    name: str


Action = Callable[[Call], object]


def fail(error: Exception) -> Action:
    """An action that raises this error."""

    def action(call: Call) -> None:
        raise error

    return action


def nothing(call: Call) -> None:
    """An action that does nothing, for faults that are harm enough."""


def delay(seconds: float) -> Action:
    """An action that waits."""

    def action(call: Call) -> None:
        time.sleep(seconds)

    return action


def kill(call: Call) -> None:
    """An action that ends this process at once, as a power switch would."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)  # the signal may take a moment; nothing may happen meanwhile


@dataclass(frozen=True)
class Fault:
    """What happens at which call.

    Args:
        action: called with the :class:`Call`; :func:`fail`, :func:`delay`, :func:`kill`, or any function.
        at: the first matching call that is hit, from 1.
        times: how many matching calls are hit from there on; ``None``: all of them.
        when: ``before`` the call, or ``after`` it, however it ended; ``during``: half of the data is on its way
            (``put``, ``write``; elsewhere as ``before``), and when the action returns, the call fails with
            StorageUnavailable; ``instead``: the call is acknowledged and never done (``put``, ``commit``, ``delete``,
            ``flush``); ``short``: the answer is cut short and says nothing of it (``list``).
        methods: see :data:`METHODS`; empty: all of them.
        prefix: only calls for names that begin so.
        keep: how much of a short answer comes: entries of a listing.

    Raises:
        ConfigurationError: no such method, or one that cannot be hit in this way.
    """

    action: Action
    at: int = 1
    times: int | None = 1
    when: Literal["before", "after", "during", "instead", "short"] = "before"
    methods: Collection[str] = ()
    prefix: str = ""
    keep: int = 0

    def __post_init__(self) -> None:
        unknown = set(self.methods) - set(METHODS)
        if unknown:
            raise ConfigurationError(f"no storage call is named {', '.join(sorted(unknown))}")
        if self.when == "instead" and not set(self.methods or METHODS) <= _IGNORABLE:
            raise ConfigurationError(f"only {', '.join(sorted(_IGNORABLE))} can be left out")
        if self.when == "short" and not set(self.methods or METHODS) <= _SHORTENABLE:
            raise ConfigurationError(f"only {', '.join(sorted(_SHORTENABLE))} can be cut short")

    def matches(self, call: Call) -> bool:
        """Whether the call is one of those that are counted."""
        return (not self.methods or call.method in self.methods) and call.name.startswith(self.prefix)

    def hits(self, count: int) -> bool:
        """Whether the ``count``-th matching call is one that is hit."""
        return count >= self.at and (self.times is None or count < self.at + self.times)


@dataclass
class _Plan:
    """What happens around one call."""

    call: Call
    faults: list[Fault] = field(default_factory=list)

    def run(self, when: str) -> bool:
        chosen = [fault for fault in self.faults if fault.when == when]
        for fault in chosen:
            fault.action(self.call)
        return bool(chosen)

    @property
    def keep(self) -> int:
        """What the shortest answer keeps."""
        return min(fault.keep for fault in self.faults if fault.when == "short")

    def has(self, when: str) -> bool:
        return any(fault.when == when for fault in self.faults)

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """The body is the call itself."""
        self.run("before")
        if self.call.method not in _TEARABLE and self.run("during"):
            raise StorageUnavailable(f"{self.call.method} of {self.call.name!r} was interrupted")
        try:
            yield
        except Exception:
            self.run("after")
            raise
        self.run("after")


class FaultyStorage(StorageWrapper):
    """Hands every call on to another storage, records it, and lets faults happen.

    Args:
        storage: does the work; closed together with this one.
        faults: any number; each counts for itself.
    """

    name = "faulty"
    api_version = 1
    summary = "another storage with faults, for tests"

    def __init__(self, storage: Storage, *faults: Fault) -> None:
        super().__init__(storage)
        self._faults = faults
        self._counts = [0] * len(faults)
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    @property
    def calls(self) -> Sequence[Call]:
        """All calls so far, in the order in which they began."""
        with self._lock:
            return tuple(self._calls)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        plan = self._plan("put", name)
        with plan.around():
            if plan.has("during"):
                with self._storage.upload(name) as upload:
                    upload.write(_half(b"".join(buffers)))
                    plan.run("during")
                raise StorageUnavailable(f"put of {name!r} was torn")
            if plan.run("instead"):
                size = sum(memoryview(buffer).nbytes for buffer in buffers)
                info = ObjectInfo(name=name, size=size, modified=self._storage.now())
            else:
                info = self._storage.put(name, buffers, if_absent=if_absent)
        return info

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`."""
        plan = self._plan("upload", name)
        with contextlib.ExitStack() as stack:
            with plan.around():
                upload = stack.enter_context(self._storage.upload(name))
            yield _FaultyUpload(upload, name, self._storage, self._plan)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        with self._plan("get", name).around():
            return self._storage.get(name, offset=offset, length=length)

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`."""
        with contextlib.ExitStack() as stack:
            with self._plan("open", name).around():
                reader = stack.enter_context(self._storage.open(name))
            yield _FaultyReader(reader, name, self._plan)

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        with self._plan("stat", name).around():
            return self._storage.stat(name)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; a fault happens when the listing is asked for, not while it is taken."""
        plan = self._plan("list", prefix)
        with plan.around():
            listing = self._storage.list(prefix, delimiter=delimiter)
            return itertools.islice(listing, plan.keep) if plan.run("short") else listing

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        plan = self._plan("delete", name)
        with plan.around():
            if not plan.run("instead"):
                self._storage.delete(name)

    def join(self, name: str, *, segments: str) -> ObjectInfo:
        """See :meth:`Storage.join`."""
        with self._plan("join", name).around():
            return self._storage.join(name, segments=segments)

    def flush(self) -> None:
        """See :meth:`Storage.flush`."""
        plan = self._plan("flush", "")
        with plan.around():
            if not plan.run("instead"):
                self._storage.flush()

    def now(self) -> datetime:
        """See :meth:`Storage.now`."""
        with self._plan("now", "").around():
            return self._storage.now()

    def close(self) -> None:
        """Closes the storage that does the work."""
        self._storage.close()

    def _plan(self, method: str, name: str) -> _Plan:
        with self._lock:
            call = Call(number=len(self._calls) + 1, method=method, name=name)
            self._calls.append(call)
            plan = _Plan(call)
            for index, fault in enumerate(self._faults):
                if fault.matches(call):
                    self._counts[index] += 1
                    if fault.hits(self._counts[index]):
                        plan.faults.append(fault)
        return plan


class _FaultyUpload:
    def __init__(self, upload: Upload, name: str, storage: Storage, plan: Callable[[str, str], _Plan]) -> None:
        self._upload = upload
        self._name = name
        self._storage = storage
        self._plan = plan
        self._size = 0

    def write(self, data: Buffer) -> None:
        plan = self._plan("write", self._name)
        with plan.around():
            if plan.has("during"):
                self._upload.write(_half(data))
                plan.run("during")
                raise StorageUnavailable(f"a write to {self._name!r} was torn")
            self._upload.write(data)
            self._size += memoryview(data).nbytes

    def commit(self) -> ObjectInfo:
        plan = self._plan("commit", self._name)
        with plan.around():
            if plan.run("instead"):
                return ObjectInfo(name=self._name, size=self._size, modified=self._storage.now())
            return self._upload.commit()


class _FaultyReader:
    def __init__(self, reader: Reader, name: str, plan: Callable[[str, str], _Plan]) -> None:
        self._reader = reader
        self._name = name
        self._plan = plan

    def read(self, size: int = -1) -> bytes:
        with self._plan("read", self._name).around():
            return self._reader.read(size)


def damage(storage: Storage, name: str, *, offset: int = 0, mask: int = 0x01) -> None:
    """Flips bits of one stored byte, as a failing disk would.

    Args:
        offset: of the byte; negative: from the end.
        mask: the bits.

    Raises:
        StorageError: the object cannot be read or replaced.
    """
    content = bytearray(storage.get(name))
    content[offset] ^= mask
    storage.put(name, [content])


def _half(data: Buffer) -> bytes:
    whole = bytes(data)
    return whole[: len(whole) // 2]
