"""The Storage contract: an object store that knows nothing of backups."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Protocol, Self

from freezer_sdk.contract import Plugin
from freezer_sdk.errors import Cancelled, CapabilityMissing, ConfigurationError, InvalidName
from freezer_sdk.model import Buffer
from freezer_sdk.options import Option

MAX_NAME = 1024

COMMON_OPTIONS = (
    Option(name="upload_limit", type="size", help="Bytes a second to send at most; 0: no limit."),
    Option(name="download_limit", type="size", help="Bytes a second to receive at most; 0: no limit."),
    Option(name="retry_attempts", type="int", default=20, help="Times to try a call that fails for a while; 1: once."),
    Option(
        name="retry_time",
        type="duration",
        default=300.0,
        help="Longest time from a call's first failure to its last attempt.",
    ),
)
"""What a user can set for every storage; whoever opens it sees to them, and no storage declares one of these names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectInfo:
    """One listed object.

    Attributes:
        modified: by the storage's clock.
        checksum: ``(algorithm, hex digest)`` that the storage keeps of the content, or ``None``.
        is_prefix: a common prefix of a listing with a delimiter, not an object; its size is 0, its time means nothing.
    """

    name: str
    size: int
    modified: datetime
    checksum: tuple[str, str] | None = None
    is_prefix: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Capabilities:
    """What a backend can do; what is not declared is refused, never quietly emulated.

    Attributes:
        conditional_put: ``if_absent`` is decided by the storage, atomically.
        listing_lag: how long a listing may miss what was written.
        clock_resolution: of ``ObjectInfo.modified``.
        largest_object: bytes one ``put`` may have, ``None``: no limit known.
        checksum: algorithm of ``ObjectInfo.checksum``, if any.
        object_lock: objects can be protected against deletion until a date.
        remote: reads cost a network round trip (a local cache pays).
        persistent: objects outlive the process.
        paced: tells :attr:`Storage.traffic` of every block that it moves; otherwise bandwidth limits hold only
            on the average of whole objects.
        repeatable_barrier: after a :class:`~freezer_sdk.errors.Transient` error a barrier may be asked for again: the
            storage remembers what is not durable yet.
        segmented_uploads: :meth:`Storage.join` and :meth:`Storage.upload_segmented`.
    """

    conditional_put: bool
    listing_lag: timedelta = timedelta(0)
    clock_resolution: timedelta = timedelta(microseconds=1)
    largest_object: int | None = None
    checksum: str | None = None
    object_lock: bool = False
    remote: bool = True
    persistent: bool = True
    paced: bool = False
    repeatable_barrier: bool = False
    segmented_uploads: bool = False


class Traffic(Protocol):
    """Is told of the content that a storage moves, block by block, from any thread; makes it wait under a limit."""

    def sent(self, size: int) -> None:
        """Just before ``size`` bytes of content go out; blocks are 256 KiB at most."""

    def received(self, size: int) -> None:
        """Just after ``size`` bytes of content came in; blocks are 256 KiB at most."""


class _Unlimited:
    """Traffic that nobody counts."""

    def sent(self, size: int) -> None:
        return

    def received(self, size: int) -> None:
        return


TRAFFIC_BLOCK = 256 << 10
"""The most content, in bytes, between two calls of :class:`Traffic`."""


class Upload(Protocol):
    """A stream of unknown length on its way into the storage."""

    def write(self, data: Buffer) -> None:
        """Adds bytes."""

    def commit(self) -> ObjectInfo:
        """Makes the object visible, whole."""


class Reader(Protocol):
    """Reads an object from its start to its end."""

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end."""


def check_name(name: str) -> str:
    """The one rule for object names; returns the name.

    Refused are empty names and parts, ``.`` and ``..`` as a part, NUL, a leading or trailing ``/``, what is not
    UTF-8, and more than 1024 bytes. Blanks, braces and the like are fine: old stores contain them.

    Raises:
        InvalidName: with the reason.
    """
    reason = None
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        reason, size = "it is not valid UTF-8", 0
    if reason is None:
        if not name:
            reason = "it is empty"
        elif size > MAX_NAME:
            reason = f"it is longer than {MAX_NAME} bytes"
        elif "\0" in name:
            reason = "it contains NUL"
        elif name.startswith("/"):
            reason = "it starts with '/'"
        elif any(part in ("", ".", "..") for part in name.split("/")):
            reason = "it has an empty part, '.' or '..'"
    if reason is not None:
        raise InvalidName(f"{name!r} cannot be the name of an object: {reason}")
    return name


class Storage(Plugin):
    """An object store. Every method may be called from several threads at once.

    Objects appear whole or not at all, also after a crash. A storage tries each call once, gives up in bounded time,
    and marks what may succeed later as :class:`~freezer_sdk.errors.Transient`; after such an error the next call
    connects anew. Whoever opened the storage repeats calls, by one policy for all storages.

    Attributes:
        traffic: set by whoever opened the storage, before its first use.
    """

    traffic: Traffic = _Unlimited()

    @classmethod
    @abstractmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """Option values from a storage URL.

        Args:
            url: all of it, with the scheme: ``local:/srv/backups``, ``sftp://user@host:22/abs``.

        Raises:
            ConfigurationError: not a URL of this storage.
        """

    @property
    @abstractmethod
    def location(self) -> str:
        """A URL that opens the same place again, without secrets."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do; it may have to be asked.

        Raises:
            AccessDenied, StorageUnavailable.
        """

    @property
    def max_parallel(self) -> int:
        """How many calls at once still help."""
        return 4

    @abstractmethod
    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """Stores an object whole; replaces one of the same name unless ``if_absent``.

        Args:
            name: see :func:`check_name`.
            buffers: the content in pieces; they must not change until the call returns.

        Raises:
            ObjectExists: ``if_absent`` and the name is taken.
            CapabilityMissing: ``if_absent`` without the capability.
            InvalidName: also where a storage of folders holds an object at a part of the name, or objects below it, and
                where its protocol cannot carry line ends.
            AccessDenied, StorageFull, ReadOnlyStorage, ChecksumMismatch, StorageUnavailable.
        """

    @abstractmethod
    def upload(self, name: str) -> AbstractContextManager[Upload]:
        """Stores a stream of unknown length; leaving without ``commit()`` stores nothing.

        Raises:
            InvalidName, AccessDenied, StorageFull, ReadOnlyStorage, StorageUnavailable: also from ``write``
                and ``commit``.
        """

    @abstractmethod
    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Reads an object or a range of it.

        Args:
            offset: where to start; negative: the last ``-offset`` bytes (all, when it has fewer).
            length: at most so many bytes; less comes back only at the end of the object.

        Raises:
            ObjectNotFound, InvalidName, AccessDenied, StorageUnavailable.
            ChecksumMismatch: the object is there, and its content cannot be read any more; others may be whole.
        """

    @abstractmethod
    def open(self, name: str) -> AbstractContextManager[Reader]:
        """Reads an object as a stream.

        Raises:
            ObjectNotFound, InvalidName, AccessDenied, StorageUnavailable: also from ``read``.
        """

    @abstractmethod
    def stat(self, name: str) -> ObjectInfo:
        """Size and time of an object.

        Raises:
            ObjectNotFound, InvalidName, AccessDenied, StorageUnavailable.
        """

    @abstractmethod
    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """All objects whose names start with ``prefix``, sorted by code point; pages are fetched as needed.

        Args:
            prefix: any text, ``""`` for all; need not end with ``/``.
            delimiter: ``"/"``: what lies deeper is summed up in entries with ``is_prefix``, names ending in ``/``.

        Raises:
            AccessDenied, StorageUnavailable: a listing is never cut short silently.
        """

    @abstractmethod
    def delete(self, name: str) -> None:
        """Removes an object; fine when there is none.

        Raises:
            InvalidName, AccessDenied, ReadOnlyStorage, StorageUnavailable.
        """

    def delete_many(self, names: Iterable[str]) -> None:
        """Removes several objects; what fails is raised after the others were tried."""
        failure: Exception | None = None
        for name in names:
            try:
                self.delete(name)
            except Cancelled:
                raise
            except Exception as error:  # the rest is still to be removed
                failure = error
        if failure is not None:
            raise failure

    @abstractmethod
    def flush(self) -> None:
        """A barrier: when it returns, everything that was acknowledged before is durable.

        Raises:
            StorageError: something acknowledged may not be durable.
        """

    @abstractmethod
    def now(self) -> datetime:
        """The storage's own clock (aware, UTC).

        Raises:
            AccessDenied, StorageUnavailable.
        """

    def upload_segmented(self, name: str, *, segments: str, size: int) -> AbstractContextManager[Upload]:
        """Stores a stream in segments that are objects of their own, and joins them: for formats that ask for it.

        Leaving without ``commit()`` removes the segments. Made of :meth:`put`, :meth:`list` and :meth:`join`, so that
        each segment is repeated, counted and limited as any object; no storage need override it.

        Args:
            name: of the joined object; nothing may lie there.
            segments: they are named ``SEGMENTS/00000000`` and so on, and listed; nothing may lie there.
            size: bytes of a segment, the last one shorter; so much is held in memory.

        Raises:
            CapabilityMissing: the storage has no such objects.
            ObjectExists: something lies there.
            InvalidName, AccessDenied, StorageFull, ReadOnlyStorage, StorageUnavailable: also from ``write``
                and ``commit``.
        """
        if not self.capabilities.segmented_uploads:
            raise CapabilityMissing(f"{self.location} cannot join objects to one")
        check_name(name)
        check_name(f"{segments}/{0:08}")
        if size < 1:
            raise ValueError("size must be at least 1")
        from freezer_sdk.storages._segmented import SegmentedUpload  # what needs no segments does not load it

        return SegmentedUpload(self, name, segments, size)

    def join(self, name: str, *, segments: str) -> ObjectInfo:
        """Makes an object whose content is that of all objects below ``SEGMENTS/``, in the order of their names.

        Deleting it leaves the segments. A listing may give its size as 0.

        Raises:
            CapabilityMissing: the storage has no such objects.
            InvalidName, AccessDenied, StorageFull, ReadOnlyStorage, StorageUnavailable.
        """
        raise CapabilityMissing(f"{self.location} cannot join objects to one")

    def close(self) -> None:
        """Releases connections; the object is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StorageWrapper(Storage):
    """Hands every call on to another storage; subclasses change what they are about.

    ``delete_many`` goes name by name, through :meth:`delete`, unless a subclass hands it on; ``close`` leaves the other
    storage open, unless a subclass closes it.

    Args:
        storage: does the work.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """There is no URL for it.

        Raises:
            ConfigurationError: always.
        """
        raise ConfigurationError(f"a storage {cls.name!r} is made around another one, not from a URL")

    @property
    def location(self) -> str:
        """That of the storage that does the work."""
        return self._storage.location

    @property
    def capabilities(self) -> Capabilities:
        """Those of the storage that does the work."""
        return self._storage.capabilities

    @property
    def max_parallel(self) -> int:
        """That of the storage that does the work."""
        return self._storage.max_parallel

    @property
    def traffic(self) -> Traffic:
        """That of the storage that does the work."""
        return self._storage.traffic

    @traffic.setter
    def traffic(self, traffic: Traffic) -> None:
        self._storage.traffic = traffic

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        return self._storage.put(name, buffers, if_absent=if_absent)

    def upload(self, name: str) -> AbstractContextManager[Upload]:
        """See :meth:`Storage.upload`."""
        return self._storage.upload(name)

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        return self._storage.get(name, offset=offset, length=length)

    def open(self, name: str) -> AbstractContextManager[Reader]:
        """See :meth:`Storage.open`."""
        return self._storage.open(name)

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        return self._storage.stat(name)

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`."""
        return self._storage.list(prefix, delimiter=delimiter)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        self._storage.delete(name)

    def join(self, name: str, *, segments: str) -> ObjectInfo:
        """See :meth:`Storage.join`."""
        return self._storage.join(name, segments=segments)

    def flush(self) -> None:
        """See :meth:`Storage.flush`."""
        self._storage.flush()

    def now(self) -> datetime:
        """See :meth:`Storage.now`."""
        return self._storage.now()
