"""The local cache: indexes and meta packs of a storage across a network, still encrypted, in a folder.

It only saves time. Whatever is deleted, damaged or cannot be written is fetched from the storage.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from freezer_sdk.engines.dedup.layout import HEX, digest_of
from freezer_sdk.storages.base import Storage

TAG: Final = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# The local cache of freezer-sdk; it may be deleted. See https://bford.info/cachedir/\n"
)
OPEN: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""Follows no link, and waits for no writer of a FIFO."""
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_BLOCK: Final = 1 << 20
_KEPT: Final = 0.8  # of the limit, after something had to go
_ABANDONED: Final = 86_400  # seconds after which a temporary file has no owner any more
_REPOSITORY: Final = re.compile(r"[0-9a-f]{32}\Z")


class LocalCache:
    """Reads objects that are named by their SHA-256 through a folder. May be used from several threads.

    Several processes may use one folder, for several repositories: ``<folder>/<repository id>/<name>``.

    Args:
        limit: bytes of all repositories in the folder; what was not used for the longest time goes first.

    Attributes:
        folder: that of the repository.
    """

    def __init__(self, folder: str | os.PathLike[str], repository_id: bytes, storage: Storage, *, limit: int) -> None:
        self._base = Path(folder)
        self.folder = self._base / repository_id.hex()
        self._storage, self._limit = storage, limit
        self._lock = threading.Lock()
        self._checked: dict[str, tuple[int, int]] = {}  # inode and size of what was compared with its name
        self._refused: set[str] = set()
        self._size: int | None = None
        self._usable = True

    def get(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """A range of an object; where it is not in the folder, the whole object is fetched.

        Raises:
            ObjectNotFound, StorageError.
        """
        digest = digest_of(name)
        if digest is not None and self._usable and name not in self._refused:
            data = self._read(name, digest, offset, length)
            if data is None:
                with self._lock:  # what two threads want is fetched once
                    data = self._read(name, digest, offset, length)
                    if data is None and self._fetch(name, digest):
                        data = self._read(name, digest, offset, length)
            if data is not None:
                return data
        return self._storage.get(name, offset=offset, length=length)

    def _read(self, name: str, digest: bytes, offset: int, length: int | None) -> bytes | None:
        """``None`` when it is not there, or is not what its name says."""
        path = self.folder / name
        try:
            with os.fdopen(os.open(path, OPEN), "rb") as file:
                info = os.fstat(file.fileno())
                if self._checked.get(name) != (info.st_ino, info.st_size):
                    if not stat.S_ISREG(info.st_mode) or hashlib.file_digest(file, "sha256").digest() != digest:
                        path.unlink()
                        return None
                    self._checked[name] = info.st_ino, info.st_size
                    with suppress(OSError):
                        os.utime(path)
                file.seek(offset)
                return file.read() if length is None else file.read(length)
        except OSError:
            return None

    def _fetch(self, name: str, digest: bytes) -> bool:
        """Takes an object in; false where that is not possible, and then it is not tried again.

        Raises:
            StorageError.
        """
        path = self.folder / name
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        found, size = hashlib.sha256(), 0
        try:
            make_folder(self.folder)
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(temporary, _CREATE, 0o600), "wb") as file, self._storage.open(name) as reader:
                while block := reader.read(_BLOCK):
                    found.update(block)
                    size += file.write(block)
                    if size > self._limit:
                        break
            if size > self._limit or found.digest() != digest:  # damaged in the storage: who opens it will tell
                self._refused.add(name)
                return False
            temporary.replace(path)
            self._make_room(size)
            return True
        except OSError:
            self._usable = False
            return False
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _make_room(self, added: int) -> None:
        """Deletes what was not used for the longest time; others may do the same at this moment."""
        if self._size is not None:
            self._size += added
        if self._size is not None and self._size <= self._limit:
            return
        files = sorted(self._files())
        self._size = sum(size for _used, size, _path in files)
        if self._size <= self._limit:
            return
        for _used, size, path in files:
            if self._size <= self._limit * _KEPT:
                break
            with suppress(OSError):
                path.unlink(missing_ok=True)
            self._size -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Time of the last use, size and path of everything in the folder that is ours."""
        for pattern in ("*/index/*", "*/meta/*/*"):
            for path in self._base.glob(pattern):
                if not _REPOSITORY.match(path.relative_to(self._base).parts[0]):
                    continue
                with suppress(OSError):
                    info = path.lstat()
                    if HEX.match(path.name) and stat.S_ISREG(info.st_mode):
                        yield info.st_mtime, info.st_size, path
                    elif path.name.endswith(".tmp") and info.st_mtime < time.time() - _ABANDONED:
                        path.unlink()


def make_folder(folder: Path) -> None:
    """Makes the folder of a repository, marked so that backups can leave it out.

    Raises:
        OSError.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "CACHEDIR.TAG").write_text(TAG, encoding="ascii")
