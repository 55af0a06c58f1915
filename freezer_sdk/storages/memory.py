"""Storage ``memory``: objects in this process, for tests and trials."""

from __future__ import annotations

import contextlib
import io
import threading
import uuid
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from freezer_sdk.errors import ConfigurationError, ObjectExists, ObjectNotFound, StorageError
from freezer_sdk.model import Buffer
from freezer_sdk.options import Option
from freezer_sdk.storages.base import Capabilities, ObjectInfo, Reader, Storage, Upload, check_name

_NO_TIME = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Object:
    content: bytes
    info: ObjectInfo


class _Space:
    """The objects that all storages of one name share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.objects: dict[str, _Object] = {}


class _Spaces:
    """The spaces of this process: named ones stay, unnamed ones live as long as a storage holds them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._living: weakref.WeakValueDictionary[str, _Space] = weakref.WeakValueDictionary()
        self._kept: dict[str, _Space] = {}

    def get(self, name: str, *, keep: bool) -> _Space:
        with self._lock:
            space = self._living.get(name) or _Space()
            self._living[name] = space
            if keep:
                self._kept[name] = space
            return space


_SPACES = _Spaces()  # the one thing that "memory:NAME" can mean to two storages of a process


class MemoryStorage(Storage):
    """Objects in this process; gone when it ends.

    Args:
        space: storages of the same name share their objects, also later in this process; ``""``: a new, empty
            one, gone with the last storage that uses it.
    """

    name = "memory"
    api_version = 1
    summary = "the memory of this process: for tests and trials"
    options = (Option(name="space", default="", help="Name of a store shared inside this process; empty: a new one."),)

    def __init__(self, *, space: str = "") -> None:
        self._name = space or f"unnamed-{uuid.uuid4().hex}"
        self._space = _SPACES.get(self._name, keep=bool(space) and not space.startswith("unnamed-"))

    @classmethod
    def parse_url(cls, url: str) -> dict[str, Any]:
        """See :meth:`Storage.parse_url`; ``memory:`` or ``memory:NAME``."""
        scheme, colon, rest = url.partition(":")
        if not colon or scheme != "memory":
            raise ConfigurationError(f"{url!r} is not the URL of a memory storage", hint="write memory: or memory:NAME")
        return {"space": rest}

    @property
    def location(self) -> str:
        """A URL that opens the same objects again, inside this process."""
        return f"memory:{self._name}"

    @property
    def capabilities(self) -> Capabilities:
        """See :meth:`Storage.capabilities`."""
        return Capabilities(conditional_put=True, remote=False, persistent=False)

    def put(self, name: str, buffers: Sequence[Buffer], *, if_absent: bool = False) -> ObjectInfo:
        """See :meth:`Storage.put`."""
        check_name(name)
        content = b"".join(buffers)
        with self._space.lock:
            if if_absent and name in self._space.objects:
                raise ObjectExists(f"{name!r} exists already")
            info = ObjectInfo(name=name, size=len(content), modified=self.now())
            self._space.objects[name] = _Object(content, info)
        return info

    @contextlib.contextmanager
    def upload(self, name: str) -> Iterator[Upload]:
        """See :meth:`Storage.upload`."""
        check_name(name)
        upload = _MemoryUpload(self, name)
        yield upload
        upload.ended = True

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See :meth:`Storage.get`."""
        if length is not None and length < 0:
            raise ValueError("length must not be negative")
        content = self._object(name).content
        start = max(0, len(content) + offset) if offset < 0 else offset
        return content[start:] if length is None else content[start : start + length]

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[Reader]:
        """See :meth:`Storage.open`."""
        yield io.BytesIO(self._object(name).content)

    def stat(self, name: str) -> ObjectInfo:
        """See :meth:`Storage.stat`."""
        return self._object(name).info

    def list(self, prefix: str = "", *, delimiter: str | None = None) -> Iterator[ObjectInfo]:
        """See :meth:`Storage.list`; a view of the moment of the call."""
        if delimiter not in (None, "/"):
            raise ValueError("the delimiter can only be '/'")
        with self._space.lock:
            names = sorted(name for name in self._space.objects if name.startswith(prefix))
            infos = [self._space.objects[name].info for name in names]
        return iter(infos) if delimiter is None else _summed_up(infos, prefix)

    def delete(self, name: str) -> None:
        """See :meth:`Storage.delete`."""
        check_name(name)
        with self._space.lock:
            self._space.objects.pop(name, None)

    def flush(self) -> None:
        """Nothing here outlives the process: there is nothing to wait for."""

    def now(self) -> datetime:
        """See :meth:`Storage.now`."""
        return datetime.now(UTC)

    def _object(self, name: str) -> _Object:
        check_name(name)
        with self._space.lock:
            found = self._space.objects.get(name)
        if found is None:
            raise ObjectNotFound(f"{self.location} holds no object {name!r}")
        return found


class _MemoryUpload:
    """Collects a stream; the object appears on commit."""

    def __init__(self, storage: MemoryStorage, name: str) -> None:
        self.ended = False
        self._storage = storage
        self._name = name
        self._content = bytearray()

    def write(self, data: Buffer) -> None:
        self._check()
        self._content += data

    def commit(self) -> ObjectInfo:
        self._check()
        self.ended = True
        return self._storage.put(self._name, [self._content])

    def _check(self) -> None:
        if self.ended:
            raise StorageError(f"cannot store {self._name!r}: the upload has ended")


def _summed_up(infos: Sequence[ObjectInfo], prefix: str) -> Iterator[ObjectInfo]:
    last = None
    for info in infos:
        end = info.name.find("/", len(prefix))
        if end < 0:
            yield info
        elif (folder := info.name[: end + 1]) != last:
            last = folder
            yield ObjectInfo(name=folder, size=0, modified=_NO_TIME, is_prefix=True)
