"""Restoring and reading a backup that several repositories may have."""

from __future__ import annotations

import logging
import stat
from collections.abc import Sequence

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup.content import ContentReader
from freezer_sdk.engines.dedup.failover import Failover, Standby, alike_reader
from freezer_sdk.engines.dedup.fallback import FALLBACK
from freezer_sdk.engines.dedup.restore import Restore
from freezer_sdk.engines.dedup.tree import TreeReader
from freezer_sdk.errors import BackupNotFound, FreezerError, IntegrityError, RestoreError, StorageError
from freezer_sdk.model import Problem, RestoreOptions, RestoreResult

_SKIPPED = 1 << 20  # bytes read over at once

_log = logging.getLogger("freezer_sdk")
_Failures = list[tuple[Standby, FreezerError]]


def restore_from_several(
    places: Sequence[Standby], target: str, options: RestoreOptions, context: Context
) -> RestoreResult:
    """Restores from the first repository that has the backup, and from the next what that one cannot give.

    Raises:
        BackupNotFound, IntegrityError, StorageError: none has it; the first reason that says more than that.
        RestoreError, Cancelled.
    """
    failures: _Failures = []
    for number, place in enumerate(places):
        try:
            failover = Failover(options, _others(places, number, failures), _notes(failures, place))
            return Restore(place.handle, place.commit(), options, context, failover=failover).run(target)
        except (BackupNotFound, IntegrityError, StorageError) as error:
            failures.append((place, error))
    raise _reason(failures)


def _others(places: Sequence[Standby], number: int, failures: _Failures) -> list[Standby]:
    """Those after this one; then those before it whose damage is not all of them."""
    return [*places[number + 1 :], *(place for place, error in failures if isinstance(error, IntegrityError))]


def _notes(failures: _Failures, place: Standby) -> list[Problem]:
    return [
        Problem(path=failed.location, kind=FALLBACK, message=f"{error}; restored from {place.location}", fatal=False)
        for failed, error in failures
    ]


def _reason(failures: _Failures) -> FreezerError:
    errors = [error for _place, error in failures]
    return next((error for error in errors if not isinstance(error, BackupNotFound)), errors[0])


class SeveralReader:
    """The content of one file; what one repository cannot give is read from the next.

    A file is taken for the same when its size, times and inode are: then both were made of the same content.

    Raises:
        RestoreError: the first backup that can be read has no such file.
        BackupNotFound, IntegrityError, StorageError: no repository can give it.
    """

    def __init__(self, places: Sequence[Standby], path: bytes) -> None:
        self._places, self._path = list(places), path
        self._number, self._position = -1, 0
        self._look: tuple[int, ...] | None = None
        self._failures: _Failures = []
        self._reader = self._next()

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; ``b""`` at the end; all of the rest for -1.

        Raises:
            IntegrityError, StorageError: no repository can give them.
        """
        while True:
            try:
                data = self._reader.read(size)
            except (IntegrityError, StorageError) as error:
                self._failures.append((self._places[self._number], error))
                self._reader = self._next()
                continue
            self._position += len(data)
            return data

    def _next(self) -> ContentReader:
        """The content in the next repository that has it, from the same position on."""
        while self._number + 1 < len(self._places):
            self._number += 1
            place = self._places[self._number]
            try:
                reader = self._open(place)
                left = self._position
                while left:
                    piece = reader.read(min(left, _SKIPPED))
                    if not piece:
                        raise IntegrityError("the file is shorter there")
                    left -= len(piece)
            except (BackupNotFound, IntegrityError, StorageError) as error:
                self._failures.append((place, error))
                continue
            for failed, reason in self._failures:
                _log.warning("%s: %s; reading from %s", failed.location, reason, place.location)
            return reader
        raise _reason(self._failures)

    def _open(self, place: Standby) -> ContentReader:
        commit = place.commit()
        others = _others(self._places, self._number, self._failures)
        blobs = alike_reader(place.handle, others, _note)
        node = TreeReader(blobs).find(commit.root, self._path)
        if node is None:
            raise RestoreError(f"the backup has no {self._path!r}", hint="freezer backup ls shows what it has")
        if stat.S_IFMT(node.attributes.mode) != stat.S_IFREG:
            raise RestoreError(f"{self._path!r} is not a file")
        look = (node.attributes.size, node.attributes.mtime, node.attributes.ctime, node.attributes.inode)
        if self._look not in (None, look):
            raise IntegrityError("another state of the file was stored there")
        self._look = look
        return ContentReader(blobs, node)


def _note(problem: Problem) -> None:
    _log.warning("%s: %s", problem.path, problem.message)
