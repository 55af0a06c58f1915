"""Looking into a repository: which backups there are, which one is meant, and what is in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from freezer_sdk import diff as differences
from freezer_sdk import identity
from freezer_sdk import selection as select
from freezer_sdk.boundary import Boundary
from freezer_sdk.connection import Connection
from freezer_sdk.engines.base import Repository
from freezer_sdk.errors import BackupNotFound, ConfigurationError, IntegrityError, RestoreError, StorageError
from freezer_sdk.model import Backup, Change, Entry, EntryType
from freezer_sdk.selection import BackupFilter
from freezer_sdk.storages.base import Reader
from freezer_sdk.subject import listed, texts

if TYPE_CHECKING:
    from freezer_sdk.client import Freezer
    from freezer_sdk.retention import Retention

_log = logging.getLogger("freezer_sdk")


class Browser(Connection):
    """Looks into a repository; base of :class:`~freezer_sdk.client.Freezer`."""

    @property
    def retention(self) -> Retention:
        """What is kept and for how long: policies, holds, and the way back.

        Raises:
            ConfigurationError: the engine has none.
        """
        from freezer_sdk.retention import Retention

        if not self.capabilities.retention:
            raise ConfigurationError(f"the engine {self._place.engine.name} has no retention")
        return Retention(self)

    def backups(
        self,
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        before: datetime | None = None,
        after: datetime | None = None,
        mode: str | None = None,
        path: str | None = None,
    ) -> list[Backup]:
        """All backups that fit, the newest last.

        Args:
            name, host, mode: exactly so.
            tags: a backup must have all of them.
            before: started before this moment; without a zone: local time.
            after: started at this moment or later; without a zone: local time.
            path: one of the recorded roots.

        Raises:
            StorageError, IntegrityError.
        """
        wanted = BackupFilter(
            name=name, host=host, tags=texts(tags, "tags"), before=before, after=after, mode=mode, path=path
        )
        return [backup for backup in self._all() if wanted(backup)]

    def find_backup(
        self,
        selector: str = select.LATEST,
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
    ) -> Backup:
        """The one backup that is meant.

        Args:
            selector: the start of an id, or ``latest``: the newest of this host, unless ``host`` is given.
            name, host, tags: as for :meth:`backups`.
            at: not started after this moment; without a zone: local time.

        Raises:
            BackupNotFound: there is none.
            AmbiguousError: several ids start so, or ``latest`` fits several names; the message lists them.
            ConfigurationError: neither an id nor ``latest``.
            StorageError, IntegrityError.
        """
        return self._choose(self._all(), selector, BackupFilter(name=name, host=host, tags=texts(tags, "tags"), at=at))

    def resolve(
        self,
        selector: str = select.LATEST,
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
    ) -> tuple[Backup, str | None]:
        """As :meth:`find_backup`, for ``ID``, ``latest``, ``ID:PATH`` and ``latest:PATH``.

        Returns:
            The backup, and the absolute path inside it, or ``None`` when the selector has no path.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, StorageError, IntegrityError.
        """
        identifier, path = select.split_selector(selector)
        backup = self.find_backup(identifier, name=name, host=host, tags=tags, at=at)
        return backup, None if path is None else os.fsdecode(self._absolute(backup, path))

    def entries(self, backup: str, path: str | bytes | None = None, *, recursive: bool = True) -> Iterator[Entry]:
        """What a backup holds, parents before what is in them.

        Args:
            backup: ``ID``, ``latest``, or ``ID:PATH``.
            path: only this entry and what lies below it; absolute, or below the one root.
            recursive: ``False``: of a folder only what lies directly in it.

        Raises:
            RestoreError: the backup has no such path; from the first step of the iteration.
            BackupNotFound, AmbiguousError, ConfigurationError, IntegrityError, StorageError.
        """
        found, inside = self._inside(backup, path)
        entries = self._walk(found, inside, recursive=recursive)
        return entries if inside is None else _not_empty(entries, found, inside)

    def find(
        self, pattern: str, *, backups: Sequence[str] = (), ignore_case: bool = False
    ) -> Iterator[tuple[Backup, Entry]]:
        """Entries whose path fits a pattern, in chosen backups or in all readable ones, the oldest backup first.

        Args:
            pattern: a glob. ``*.conf`` is for names, ``/etc/**/*.conf`` for whole paths, ``ssh/*.conf`` for ends
                of paths; ``*`` stays inside one name, ``**`` spans folders.
            backups: ids.
            ignore_case: ``a`` is ``A``.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, IntegrityError, StorageError.
        """
        matches = select.entry_matcher(pattern, ignore_case=ignore_case)
        everything = self._all()
        readable = [backup for backup in everything if backup.readable]
        chosen = self._chosen(everything, backups) if listed(backups) else readable
        return (
            (backup, entry) for backup in chosen for entry in self._walk(backup, None, recursive=True) if matches(entry)
        )

    def diff(self, before: str, after: str, *, metadata: bool = False) -> Iterator[Change]:
        """What differs between two backups, in the order of the tree.

        Args:
            before, after: ``ID``, ``latest`` or ``ID:PATH``.
            metadata: also report entries of which only owner, permissions, times or attributes differ.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, IntegrityError, StorageError.
        """
        old, new = self._inside(before, None), self._inside(after, None)
        streams = [
            differences.in_tree_order(partial(self._walk, backup), path, several_roots=len(backup.paths) != 1)
            for backup, path in (old, new)
        ]
        return differences.changes(*streams, metadata=metadata, bases=(old[1] or b"", new[1] or b""))

    def open(
        self, backup: str, path: str | bytes | None = None, *, others: Sequence[Freezer] = ()
    ) -> AbstractContextManager[Reader]:
        """The content of one file or stream.

        Args:
            backup: ``ID`` or ``latest``; ``ID:PATH`` instead of a path.
            path: absolute, or below the one root.
            others: repositories with copies of the backup; what cannot be read here is read there.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError.
            IntegrityError, StorageError, RestoreError: also from ``read``.
        """
        found, inside = self._inside_any(backup, path, others)
        if inside is None:
            raise ConfigurationError("a path inside the backup is needed", hint="give a path, or write ID:PATH")
        repository = self._opened()
        standbys, boundary = self._standbys(others)
        with boundary.guard():
            if standbys:  # an engine need not know them
                return boundary.opened(repository.open(found.id, inside, others=standbys))
            return boundary.opened(repository.open(found.id, inside))

    def _all(self) -> list[Backup]:
        repository = self._opened()
        with self._boundary.guard():
            return sorted(repository.backups(), key=lambda backup: (backup.time, backup.id))

    def _choose(self, backups: Sequence[Backup], identifier: str, wanted: BackupFilter) -> Backup:
        chosen = select.choose_backup(backups, identifier, wanted=wanted, this_host=identity.host_name())
        if identifier == select.LATEST:
            in_time = BackupFilter(at=wanted.at)
            lost = [each for each in backups if not each.readable and each.time > chosen.time and in_time(each)]
            if lost:  # whose they were cannot be told
                names = ", ".join(each.short_id for each in lost)
                _log.warning("newer backups are damaged and passed over: %s; latest is %s", names, chosen.short_id)
            odd = [each for each in backups if not each.plausible and each.time > chosen.time]
            odd = [each for each in odd if (each.host, each.name) == (chosen.host, chosen.name) and wanted(each)]
            if odd:
                names = ", ".join(f"{each.short_id} ({each.time:%Y-%m-%d})" for each in odd)
                _log.warning("the time of these backups cannot be right, so none is latest: %s", names)
        return chosen

    def _chosen(self, backups: Sequence[Backup], identifiers: str | Sequence[str]) -> list[Backup]:
        """The backups of some ids, each once, in the order given."""
        found = [self._choose(backups, identifier, BackupFilter()) for identifier in listed(identifiers)]
        return list({backup.id: backup for backup in found}.values())

    def _inside(self, selector: str, path: str | bytes | None) -> tuple[Backup, bytes | None]:
        """A backup, and the absolute path from the selector or from the argument."""
        backup, inside = self.resolve(selector)
        if path is not None and inside is not None:
            raise ConfigurationError(f"two paths are given: {inside!r} and {os.fsdecode(path)!r}")
        if path is not None:
            inside = os.fsdecode(self._absolute(backup, path))
        if inside is None or (inside == "/" and "/" not in backup.paths):  # all roots lie below it
            return backup, None
        return backup, os.fsencode(inside)

    def _inside_any(
        self, selector: str, path: str | bytes | None, others: Sequence[Freezer]
    ) -> tuple[Backup, bytes | None]:
        """As :meth:`_inside`, from the first repository where the backup can be read."""
        damaged, errors = [], []
        for place in (self, *others):
            try:
                found = place._inside(selector, path)
            except (BackupNotFound, IntegrityError, StorageError) as error:
                errors.append(error)
                continue
            if found[0].readable:
                return found
            damaged.append(found)
        if damaged:
            return damaged[0]
        raise errors[0]

    def _absolute(self, backup: Backup, path: str | bytes) -> bytes:
        """An absolute path; a relative one lies below the one root, or beside it when that is a file or a stream."""
        roots = backup.paths
        if len(roots) == 1 and not os.fsencode(path).startswith(b"/"):
            root = next(self._walk(backup, os.fsencode(roots[0]), recursive=False), None)
            if root is not None and root.type is not EntryType.DIRECTORY:
                roots = (os.path.dirname(roots[0]),)
        return select.absolute_path(path, roots)

    def _walk(self, backup: Backup, path: bytes | None, *, recursive: bool = True) -> Iterator[Entry]:
        repository = self._opened()
        with self._boundary.guard():
            return self._boundary.iterate(repository.entries(backup.id, path=path, recursive=recursive))

    def _standbys(self, others: Sequence[Freezer]) -> tuple[list[Repository], Boundary]:
        """The repositories that the engine may fall over to, and a boundary around all plug-ins."""
        boundary = self._boundary
        if not others or not self.capabilities.copies:
            return [], boundary
        for other in others:
            boundary = boundary.joined(other._boundary)
        return [other._opened() for other in others], boundary


def _not_empty(entries: Iterator[Entry], backup: Backup, path: bytes) -> Iterator[Entry]:
    empty = True
    for entry in entries:
        empty = False
        yield entry
    if empty:
        raise RestoreError(f"backup {backup.short_id} has no {os.fsdecode(path)!r}")
