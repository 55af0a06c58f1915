"""What an SFTP server has acknowledged and may still lose: the entries of folders, until they are synced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from freezer_sdk.errors import StorageError, StorageUnavailable
from freezer_sdk.storages._sftp_answers import ServerStatus
from freezer_sdk.storages._sftp_files import NO_FSYNC, Files, remains
from freezer_sdk.storages._sftp_place import Place
from freezer_sdk.storages._sftp_pool import SessionPool
from freezer_sdk.storages._sftp_session import FSYNC, READ, Session

_AT_ONCE = 64
_MANY = 10_000

Ask = Callable[[], AbstractContextManager[Session]]


class Barrier:
    """Makes durable what was acknowledged.

    Contents are synced before they get their names; here their names are. A server that was away meanwhile may have
    lost some (its power was cut): then those that were acknowledged since the last barrier are looked at again.
    """

    def __init__(self, place: Place, files: Files, pool: SessionPool) -> None:
        self._place = place
        self._files = files
        self._pool = pool
        self._objects: dict[str, int] = {}
        self._removed: set[str] = set()
        self._folders: set[str] = set()
        self._losses = 0
        self._first = True
        self._lost: str | None = None
        self._lock = threading.Lock()
        self._running = threading.Lock()

    @property
    def due(self) -> bool:
        """Whether so much was acknowledged since the last one that remembering it costs memory."""
        return len(self._objects) >= _MANY

    def stored(self, name: str, size: int) -> None:
        """An object has its place."""
        with self._lock:
            self._objects[name] = size
            self._removed.discard(name)
            self._folders.add(name.rpartition("/")[0])

    def removing(self, names: Iterable[str]) -> None:
        """Objects are about to lose their places."""
        with self._lock:
            for name in names:
                self._objects.pop(name, None)
                self._removed.add(name)
                self._folders.add(name.rpartition("/")[0])

    def run(self, ask: Ask) -> None:
        """Returns when everything is durable that was acknowledged before.

        Args:
            ask: gives a session; errors of the body become errors of this library.

        Raises:
            StorageError: something was lost; so it stays for this object.
            StorageUnavailable: the server cannot be asked now.
        """
        with self._running:  # a second barrier must not overtake the first
            if self._lost is not None:
                raise StorageError(self._lost)
            self._pool.check()
            losses = self._pool.losses
            with self._lock:
                objects, self._objects = self._objects, {}
                folders, self._folders = self._folders, set()
                self._removed.clear()
            try:
                with ask() as session:
                    if losses != self._losses:
                        self._verify(session, objects)
                    if session.has(FSYNC):
                        self._sync(session, folders)
                if self._pool.losses != losses:
                    raise StorageUnavailable("a connection was lost during a barrier")
            except BaseException:
                with self._lock:
                    self._objects = {**objects, **self._objects}
                    self._folders |= folders
                raise
            self._losses, self._first = losses, False

    def _verify(self, session: Session, objects: Mapping[str, int]) -> None:
        names = list(objects)
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            for name, there in zip(some, remains(session, self._place, some), strict=True):
                if (there is None or there.size != objects[name]) and name not in self._removed:
                    self._give_up(f"{name!r} was stored, and after the connection was lost the server has it no more")

    def _sync(self, session: Session, folders: Iterable[str]) -> None:
        keys = {"", *folders}
        for folder in folders:
            parts = folder.split("/")
            keys.update("/".join(parts[:depth]) for depth in range(1, len(parts)))
        paths = [self._place.folder(key) for key in sorted(keys, reverse=True)]
        above = [self._place.root, *self._files.made] if self._first else []
        paths += [path + b"/.." for path in above]  # entries of the root, and of folders that were made for it
        for start in range(0, len(paths), _AT_ONCE):
            self._sync_some(session, paths[start : start + _AT_ONCE])

    def _sync_some(self, session: Session, paths: Iterable[bytes]) -> None:
        synced = []
        for opened in [session.open(path, READ) for path in paths]:
            try:
                handle = opened.result()
            except ServerStatus:  # it is gone by now, or the server opens no folders
                continue
            synced.append(session.fsync(handle))
            session.close(handle)
        for pending in synced:
            try:
                pending.result()
            except ServerStatus as status:
                if status.code not in NO_FSYNC:
                    self._give_up(f"objects may be lost: the server cannot sync a folder: {status}")

    def _give_up(self, reason: str) -> None:
        self._lost = f"{self._place.root.decode(errors='replace')}: {reason}"
        raise StorageError(self._lost)
