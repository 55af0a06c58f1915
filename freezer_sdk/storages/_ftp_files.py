"""How files appear on an FTP server and go again: unseen until they are whole, in folders that come and go."""

from __future__ import annotations

import contextlib
import ftplib
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from freezer_sdk.errors import AccessDenied, CapabilityMissing, InvalidName, StorageError, StorageUnavailable
from freezer_sdk.storages._ftp import PROTOCOL_ERRORS, Connection, says_not_there, storage_error
from freezer_sdk.storages._ftp_listing import find, read_folder, with_times
from freezer_sdk.storages._ftp_transfer import Outgoing
from freezer_sdk.storages.base import Traffic

PRIVATE = ".freezer-tmp"
"""The folder below the root that holds unfinished files; the storage ``local`` has it too."""

GRACE = timedelta(hours=24)
_ATTEMPTS = 100  # each one needs a deletion by somebody else at just the wrong moment
_STUBBORN = 3  # refusals of the same thing that count as final


class NameTaken(CapabilityMissing):
    """The server does not rename over an existing file."""


class Files:
    """The files below a folder of the server.

    Args:
        base: the folder's path.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self._lock = threading.Lock()
        self._reaped = False
        self._left: set[str] = set()  # unfinished files whose connection broke

    def path(self, name: str) -> str:
        """Where a file of this name is on the server; ``""``: the folder itself."""
        return f"{self.base.rstrip('/')}/{name}".rstrip("/") or "/"

    def begin(self, connection: Connection, traffic: Traffic) -> tuple[str, Outgoing]:
        """Begins a file that nobody sees: its path, and where to write."""
        path = self.path(f"{PRIVATE}/{secrets.token_hex(16)}")
        try:
            return path, Outgoing(connection, path, traffic)
        except ftplib.error_perm:
            self._make_folders(connection, self.path(PRIVATE))  # or somebody else has, meanwhile
        except (OSError, EOFError):
            with self._lock:
                self._left.add(path)  # the server may have made it already
            raise
        return path, Outgoing(connection, path, traffic)

    def publish(self, connection: Connection, temporary: str, name: str) -> None:
        """Gives a file its name; replaces another one that has it.

        Raises:
            InvalidName: a folder has this name, or a part of it is a file.
            NameTaken: the server does not replace files.
            StorageError, ftplib.Error, OSError, EOFError.
        """
        target = self.path(name)
        refusals = 0
        for _ in range(_ATTEMPTS):
            try:
                connection.rename_file(temporary, target)
                return
            except ftplib.error_perm as error:
                refusal = error
            refusals = 0 if self._make_way(connection, target, name) else refusals + 1
            if refusals == _STUBBORN:
                self._explain(connection, target, name, refusal)
        raise StorageUnavailable(f"cannot store {name!r}: its folder is removed again and again")

    def discard(self, connection: Connection, temporary: str) -> None:
        """Removes an unfinished file as well as it can; one whose connection broke goes with the next clean-up."""
        try:
            if not connection.clean:
                raise EOFError
            connection.voidcmd(f"DELE {temporary}")
        except (ftplib.error_perm, ftplib.error_temp):
            pass
        except PROTOCOL_ERRORS:
            with self._lock:
                self._left.add(temporary)

    def clean_up(self, connection: Connection, now: datetime) -> None:
        """Removes unfinished files: those that this object left, and once those that others left long ago."""
        with self._lock:
            left, self._left = self._left, set()
            first, self._reaped = not self._reaped, True
        with contextlib.suppress(StorageError, *PROTOCOL_ERRORS):  # what has been stored is stored
            folder = self.path(PRIVATE)
            if first:
                found = with_times(connection, folder, read_folder(connection, folder) or [])
                old = (entry for entry in found if entry.modified and entry.modified < now - GRACE)
                left |= {f"{folder}/{entry.name}" for entry in old}
            connection.many([f"DELE {path}" for path in left])

    def delete(self, connection: Connection, names: Iterable[str]) -> None:
        """Removes files, and the folders that become empty; fine where there are none.

        Raises:
            AccessDenied, StorageError: of one that cannot be removed; the others were tried.
            ftplib.Error, OSError, EOFError: the connection broke.
        """
        pending: Sequence[str] = list(names)
        emptied: set[str] = set()
        for _ in range(_STUBBORN):
            replies = connection.many([f"DELE {self.path(name)}" for name in pending])
            refused = {name: reply for name, reply in zip(pending, replies, strict=True) if reply[:1] != "2"}
            emptied |= {name.rpartition("/")[0] for name in pending if name not in refused}
            pending = self._still_there(connection, refused)
            if not pending:
                break
        for folder in sorted(emptied, key=len, reverse=True):
            self._prune(connection, folder)
        for name in pending[:1]:
            raise storage_error(_refusal(refused[name]), f"cannot delete {name!r}")

    def _still_there(self, connection: Connection, refused: Mapping[str, str]) -> list[str]:
        """Those of the names that are files."""
        folders: dict[str, set[str]] = {}
        for name, reply in refused.items():
            if reply[:1] != "5" or not says_not_there(_refusal(reply)):
                folder, _, last = name.rpartition("/")
                folders.setdefault(folder, set()).add(last)
        found = []
        for folder, lasts in folders.items():
            entries = read_folder(connection, self.path(folder))
            if entries is None and find(connection, self.path(folder)) == "folder":
                raise AccessDenied(f"{folder!r} may not be listed")
            files = lasts & {entry.name for entry in entries or () if entry.kind == "file"}
            found += [f"{folder}/{last}".lstrip("/") for last in sorted(files)]
        return found

    def _prune(self, connection: Connection, folder: str) -> None:
        while folder:
            try:
                connection.voidcmd(f"RMD {self.path(folder)}")
            except (ftplib.error_perm, ftplib.error_temp):
                return  # something is in it, or it is gone
            folder = folder.rpartition("/")[0]

    def _make_way(self, connection: Connection, target: str, name: str) -> bool:
        """Makes the folders that a file needs, and removes empty ones that have its name; whether anything changed."""
        if self._make_folders(connection, target.rpartition("/")[0] or "/"):
            return True
        if not connection.enters(target):
            return False
        if _remove_empty(connection, target):
            return True
        raise InvalidName(f"{name!r} cannot be stored: there are objects below it")

    def _make_folders(self, connection: Connection, path: str) -> bool:
        """Makes a folder with those above it; whether it was missing."""
        for attempt in range(_STUBBORN + 1):
            missing = []
            while path != "/" and not connection.enters(path):
                missing.append(path)
                path = path.rpartition("/")[0] or "/"
            if not missing:
                return attempt > 0
            path = missing[0]
            for folder in reversed(missing):
                try:
                    connection.voidcmd(f"MKD {folder}")
                except ftplib.error_perm as error:
                    if connection.enters(folder):
                        continue  # somebody else was quicker
                    self._check_no_file(connection, folder)
                    refusal = error
                    break
            else:
                return True
        raise refusal

    def _check_no_file(self, connection: Connection, folder: str) -> None:
        if find(connection, folder) not in ("file", "other"):
            return
        if len(folder) <= len(self.base):
            raise StorageError(f"{folder!r} on the server is no folder")
        raise InvalidName(f"nothing can be stored below {folder!r}: it is an object or a link")

    def _explain(self, connection: Connection, target: str, name: str, refusal: ftplib.error_perm) -> None:
        try:
            connection.facts(target)
        except ftplib.error_perm:
            raise refusal from None
        raise NameTaken(
            f"the server does not replace {name!r} by renaming another file: {refusal}",
            hint="delete the object first, or have the server allow it",
        )


def _remove_empty(connection: Connection, folder: str) -> bool:
    """Removes a folder that holds nothing but empty folders; whether it is gone."""
    for entry in read_folder(connection, folder) or ():
        if entry.kind != "folder" or not _remove_empty(connection, f"{folder}/{entry.name}"):
            return False
    connection.enters("/")  # some servers keep the current folder
    try:
        connection.voidcmd(f"RMD {folder}")
    except ftplib.error_perm:
        return not connection.enters(folder)
    return True


def _refusal(reply: str) -> ftplib.Error:
    return (ftplib.error_temp if reply[:1] == "4" else ftplib.error_perm)(reply)
