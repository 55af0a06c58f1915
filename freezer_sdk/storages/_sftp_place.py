"""Where a storage lies on an SFTP server, and what the server's refusals mean there."""

from __future__ import annotations

from freezer_sdk.errors import (
    AccessDenied,
    CapabilityMissing,
    InvalidName,
    ReadOnlyStorage,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from freezer_sdk.storages._sftp_answers import Code, ServerStatus
from freezer_sdk.storages._sftp_session import POSIX_RENAME, STATVFS, Session

_LITTLE = 1 << 20  # bytes; a file system that has less is full


class Place:
    """The folder on the server that is the storage.

    Args:
        root: absolute, or below the folder where a login begins.
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/").encode("utf-8", "surrogateescape") or b"/"
        self._base = b"" if self.root == b"/" else self.root

    def file(self, name: str) -> bytes:
        """Where an object lies."""
        return self._base + b"/" + name.encode()

    def folder(self, key: str) -> bytes:
        """A folder by what the names of its objects begin with; ``""``: the root, also when that is a link."""
        return self._base + b"/" + (key.encode() or b".")

    def parents(self) -> list[bytes]:
        """The root and the folders above it, the lowest first, as far as its path names them."""
        path, found = self.root, []
        while path and path not in (b"/", b"."):
            found.append(path)
            path = path.rpartition(b"/")[0]
        return found


def explain(session: Session, place: Place, status: ServerStatus, what: str, *, writing: bool) -> StorageError:
    """The error of this library for a refusal; ``what`` begins its message.

    Raises:
        ConnectionLost: while the server was asked for details.
    """
    message = f"{what}: {status}"
    match status.code:
        case Code.PERMISSION_DENIED:
            if writing and session.has(STATVFS) and not session.has(POSIX_RENAME):
                return ReadOnlyStorage(message, hint="this server's SFTP takes no writes (internal-sftp -R)")
            return AccessDenied(message, hint="check owner and mode of the folder on the server")
        case Code.BAD_MESSAGE:
            return InvalidName(f"{message}; the server may not allow such a long name")
        case Code.OP_UNSUPPORTED:
            return CapabilityMissing(message)
        case Code.NO_CONNECTION | Code.CONNECTION_LOST:
            return StorageUnavailable(message)
        case Code.FAILURE if writing and session.has(STATVFS):
            return _explain_failure(session, place, message)
        case Code.FAILURE if writing:
            return StorageError(message, hint="the server gives no reason; its disk or a quota may be full")
        case _:
            return StorageError(message)


def _explain_failure(session: Session, place: Place, message: str) -> StorageError:
    try:
        system = session.statvfs(place.root).result()
    except ServerStatus:
        return StorageError(message)
    if system.read_only:
        return ReadOnlyStorage(message, hint="the file system is mounted read-only")
    if system.free < _LITTLE or (system.inodes and not system.free_inodes):
        return StorageFull(message, hint="free some space on the server or raise the quota")
    return StorageError(message, hint="the server gives no reason; a quota may be used up")
