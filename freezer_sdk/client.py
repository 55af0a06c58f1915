"""Freezer: the object that a program drives. Ties storages, engines and modes together; knows none of them by name."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from freezer_sdk import diff as differences
from freezer_sdk import identity
from freezer_sdk import selection as select
from freezer_sdk.boundary import Boundary
from freezer_sdk.copying import copy_backups
from freezer_sdk.detection import EngineOptions
from freezer_sdk.engines.base import EngineCapabilities, Repository
from freezer_sdk.errors import (
    BackupNotFound,
    ConfigurationError,
    FreezerError,
    IntegrityError,
    PolicyRefusal,
    RestoreError,
    StorageError,
)
from freezer_sdk.hooks import Hooks, hooked
from freezer_sdk.model import (
    Backup,
    BackupOptions,
    Change,
    CopyResult,
    Entry,
    EntryType,
    Event,
    EventHandler,
    Layout,
    Overwrite,
    Problem,
    RepositoryInfo,
    RepositoryStats,
    RestoreOptions,
    RestoreResult,
    Status,
    VerifyResult,
)
from freezer_sdk.modes.base import Protected
from freezer_sdk.opening import Opened, Opening, Password, open_repository
from freezer_sdk.operation import BackupRestorer, Operation
from freezer_sdk.options import secret_values
from freezer_sdk.selection import BackupFilter
from freezer_sdk.storages.base import Reader, Storage
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.subject import Paths, Subject, build_mode, build_subject, listed, texts

if TYPE_CHECKING:
    from freezer_sdk.drills.drills import Drills
    from freezer_sdk.freshness import FreshnessReport
    from freezer_sdk.keys import Keys
    from freezer_sdk.maintenance import Maintenance
    from freezer_sdk.retention import Retention
    from freezer_sdk.streams.ratelimit import Limits

_log = logging.getLogger("freezer_sdk")
_FILES = "fs"  # the mode whose backups are plain trees

E = TypeVar("E", bound=StrEnum)


class Freezer:
    """A repository in a storage, ready for use. May be used from several threads.

    Whatever a plug-in raises that is no FreezerError comes out as PluginError.

    Args:
        storage: a URL such as ``local:/srv/backups``, or an open Storage (which stays the caller's to close).
        password: text, or a callable that is asked at most once, and only when a password is needed.
        create: make the repository when there is none.
        engine: name of the engine; ``None``: the one whose repository is there, else ``dedup``.
        encryption: ``False``: make an unencrypted repository (only with ``create``).
        storage_options, engine_options: values of the plug-ins' declared options; for the engine also a function that
            gives them for the name of the engine that was found.
        limits: bandwidth limits, for a storage URL; several repositories that are given the same object share them.
        events: called with progress, from any thread; when it raises, it is logged and not called again.

    Raises:
        ConfigurationError, PluginError, RepositoryNotFound, WrongPassword, UnsupportedFormat, StorageError.
    """

    def __init__(
        self,
        storage: str | Storage,
        *,
        password: Password = None,
        create: bool = False,
        engine: str | None = None,
        encryption: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        engine_options: EngineOptions = None,
        limits: Limits | None = None,
        events: EventHandler | None = None,
    ) -> None:
        self._begin(
            open_repository(
                storage,
                how=Opening.ENSURE if create else Opening.OPEN,
                engine=engine,
                password=password,
                encryption=encryption,
                storage_options=storage_options,
                engine_options=engine_options,
                limits=limits,
            ),
            events,
        )

    @classmethod
    def create(
        cls,
        storage: str | Storage,
        *,
        password: Password = None,
        engine: str | None = None,
        encryption: bool = True,
        storage_options: Mapping[str, Any] | None = None,
        engine_options: EngineOptions = None,
        limits: Limits | None = None,
        events: EventHandler | None = None,
        like: Freezer | None = None,
    ) -> Self:
        """Makes a repository where there is none, and opens it. Arguments as for the class.

        Args:
            like: a repository of the same engine: content gets the same names in both, so that what was copied
                from one to the other is found again by backups into either. Whoever can open one of the two then
                knows these names in the other, too; password and keys of the new one are its own.

        Raises:
            RepositoryExists: there is one already.
            PolicyRefusal: unencrypted, but like an encrypted one.
            ConfigurationError, PluginError, StorageError.
        """
        self = cls.__new__(cls)
        self._begin(
            open_repository(
                storage,
                how=Opening.CREATE,
                engine=engine,
                password=password,
                encryption=encryption,
                storage_options=storage_options,
                engine_options=engine_options,
                limits=limits,
                like=None if like is None else like._opened(),
            ),
            events,
        )
        return self

    def _begin(self, opened: Opened, events: EventHandler | None) -> None:
        self._place = opened
        self._boundary = opened.boundary
        self._events = events
        self._lock = threading.Lock()
        self._closed = False
        context = self._operation("open", None, None).context
        for problem in self.problems:
            context.events(Event(kind="problem", operation="open", path=problem.path, problem=problem))

    def __repr__(self) -> str:
        return f"<Freezer {self._place.engine.name} {self._place.location}>"

    @property
    def capabilities(self) -> EngineCapabilities:
        """What the engine can do."""
        return self._place.engine.capabilities

    @property
    def location(self) -> str:
        """A URL of the storage, without secrets."""
        return self._place.location

    @property
    def limits(self) -> Limits:
        """Bandwidth limits, which may be changed while the storage is at work: ``freezer.limits.upload = "5M"``.

        Raises:
            ConfigurationError: the class was given a Storage that was not opened by ``open_storage()``.
        """
        return self._place.limits

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Warnings of the opening; ``events`` of the class was told of them too."""
        return self._place.problems

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

    @property
    def drills(self) -> Drills:
        """Restore drills: whether backups come back, and how long that takes."""
        from freezer_sdk.drills.drills import Drills

        return Drills(self)

    @property
    def keys(self) -> Keys:
        """Who opens the repository, and with what.

        Raises:
            ConfigurationError: the engine has no keys.
        """
        from freezer_sdk.keys import Keys

        if not self.capabilities.keys:
            raise ConfigurationError(f"the engine {self._place.engine.name} has no keys to administer")
        return Keys(lambda: self._opened().key_service(), self._boundary, self._operation, self._place.watching)

    @property
    def maintenance(self) -> Maintenance:
        """What the repository needs now and then: freeing space, looking after leases.

        Raises:
            ConfigurationError: the engine has none.
        """
        from freezer_sdk.maintenance import Maintenance

        if not self.capabilities.prune:
            raise ConfigurationError(f"the engine {self._place.engine.name} has nothing to maintain")
        place = self._place
        return Maintenance(lambda: self._opened().maintenance(), self._boundary, self._operation, place.watching)

    def backup(
        self,
        paths: Paths = (),
        *,
        name: str | None = None,
        mode: str = "fs",
        mode_options: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        host: str | None = None,
        excludes: Sequence[str] = (),
        snapshot: str | None = None,
        snapshot_options: Mapping[str, Any] | None = None,
        parent: str | None = None,
        force_read: bool = False,
        dry_run: bool = False,
        hooks: Hooks | None = None,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> Backup:
        """Stores one state of the data.

        Args:
            paths: roots, for modes that protect paths.
            name: of the series; by default the base name of the first root, or what the mode proposes.
            mode: what is protected.
            mode_options: values of the mode's declared options.
            tags: free words to choose backups by.
            host: recorded host; by default the name of this one.
            excludes: gitignore-like patterns, for modes that know them.
            snapshot: the name of a snapshot provider, or ``auto`` for the first that can: the mode reads from volume
                snapshots, which show all of its data as they were at one moment.
            snapshot_options: values of the provider's declared options.
            parent: id of the backup to compare with; by default the last one of this host and name.
            force_read: read every file, also those that look unchanged.
            dry_run: write nothing.
            hooks: programs that run before and after.
            events: as for the class, which is not called then.
            cancel: ends the run, with nothing committed.

        Returns:
            The backup. Its status is partial when something could not be read whole; this is no error.

        Raises:
            ConfigurationError, PluginError, SourceError, SnapshotError, StorageError, RepositoryError, Cancelled:
                nothing was committed; only when the mode fails to clean up afterwards, or a hook that runs then
                fails, the backup stays, and the hint names it.
        """
        self._opened()
        subject = build_subject(
            self._place.registry,
            paths,
            boundary=self._boundary,
            name=name,
            mode=mode,
            mode_options=mode_options,
            tags=tags,
            host=host,
            excludes=excludes,
            force_read=force_read,
            dry_run=dry_run,
            snapshot=snapshot,
            snapshot_options=snapshot_options,
        )
        options = replace(subject.options, parent=None if parent is None else self.find_backup(parent).id)
        operation = self._operation("backup", events, cancel)
        operation.start(**subject.facts())
        backup = None
        try:
            with subject.hooked(hooks, operation, location=self.location) as told:
                with subject.protect(self._boundary) as protected:
                    backup = self._store(subject, protected, options, operation)
                told.add(backup_id=backup.id, status=backup.status)
        except FreezerError as error:
            if backup is not None and not dry_run:
                error.hint = error.hint or f"backup {backup.short_id} was made all the same; only cleaning up failed"
            raise
        operation.finish_backup(backup)
        return backup

    def _stalled_for(self) -> float:
        """Seconds since anything moved, while the storage is being waited for; 0 while it is not."""
        return self._place.activity.stalled_for

    def _store(self, subject: Subject, protected: Protected, options: BackupOptions, operation: Operation) -> Backup:
        """Stores what a mode hands over; for those who protect one source for several repositories.

        Raises:
            PluginError, SourceError, StorageError, RepositoryError, Cancelled: nothing was committed.
        """
        repository = self._opened()
        with subject.calling(self._boundary, protected).guard(), self._place.watching(operation.context.cancel):
            return repository.backup(protected, replace(options, excludes=tuple(protected.excludes)), operation.context)

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
        readable = [backup for backup in everything if backup.status is not Status.DAMAGED]
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

    def restore(
        self,
        backup: str,
        target: str | PathLike[str],
        *,
        paths: Sequence[str | bytes] = (),
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        overwrite: Overwrite | str | None = None,
        delete: bool = False,
        layout: Layout | str = Layout.AUTO,
        inplace: bool = False,
        dry_run: bool = False,
        force: bool = False,
        owner: bool | None = None,
        numeric_owner: bool = False,
        sparse: bool = True,
        mode: str | None = None,
        mode_options: Mapping[str, Any] | None = None,
        others: Sequence[Freezer] = (),
        hooks: Hooks | None = None,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> RestoreResult:
        """Brings a backup, or chosen paths of it, back.

        Args:
            backup: ``ID`` or ``latest``; ``ID:PATH`` restores only that path.
            target: a folder; for modes other than ``fs`` what the mode says.
            mode: what brings it back; by default the mode that made it. ``fs`` brings the backup of any mode back as
                plain files, its streams among them.
            paths: recorded absolute paths, or paths below the root; none: everything.
            include, exclude: gitignore-like patterns on the recorded paths.
            overwrite: what happens to files that are there: ``always``, ``if-changed`` or ``never``.
            delete: remove what the target has and the backup has not.
            layout: ``content``, ``full`` or ``auto``; see :class:`~freezer_sdk.model.Layout`.
            inplace: write into existing files instead of renaming whole ones over them.
            dry_run: write nothing, and return the plan.
            force: allow what a rule refuses: a target that is not empty, and ``delete`` from a partial backup.
            owner: restore ownership; by default when running as root.
            numeric_owner: never map owner names.
            sparse: keep holes as holes.
            mode_options: values of the options of that mode.
            others: repositories with copies of the backup, in the order in which they are asked: what is damaged,
                missing or cannot be reached here is taken from there, and a problem of kind ``fallback`` says so.
            hooks: programs that run before and after.
            events: as for the class, which is not called then.
            cancel: ends the run.

        Returns:
            What was done. Its problems name every item that is not whole; this is no error.

        Raises:
            PolicyRefusal: ``delete`` from a partial backup, without ``force``.
            BackupNotFound, AmbiguousError, ConfigurationError, PluginError, RestoreError, StorageError,
            IntegrityError, Cancelled.
        """
        found, inside = self._inside_any(backup, None, others)
        if delete and found.status is Status.PARTIAL and not (force or dry_run):
            raise PolicyRefusal(
                f"backup {found.short_id} is partial: what it lacks could be deleted from the target",
                hint="look at the plan of a dry run; force allows it",
            )
        chosen = [os.fsencode(path) for path in listed(paths)]
        options = RestoreOptions(
            paths=tuple(chosen if inside is None else [*chosen, inside]),
            include=texts(include, "include"),
            exclude=texts(exclude, "exclude"),
            overwrite=None if overwrite is None else _member(Overwrite, overwrite, "overwrite"),
            delete=delete,
            layout=_member(Layout, layout, "layout"),
            inplace=inplace,
            dry_run=dry_run,
            force=force,
            owner=owner,
            numeric_owner=numeric_owner,
            sparse=sparse,
        )
        operation = self._operation("restore", events, cancel)
        place = os.fsdecode(target)
        operation.start(backup=found.id, target=place, dry_run=dry_run)
        standbys, boundary = self._standbys(others)
        restorer = BackupRestorer(self._opened(), found, options, operation.context, boundary, others=standbys)
        facts = {"backup_id": found.id, "name": found.name, "host": found.host, "mode": found.mode, "target": place}
        with (
            hooked(
                hooks, "restore", {**facts, "location": self.location}, cancel=operation.context.cancel, dry_run=dry_run
            ) as told,
            ExitStack() as watching,
        ):
            for each in (self, *others):
                watching.enter_context(each._place.watching(operation.context.cancel))
            result = self._bring_back(found, place, restorer, mode or found.mode, mode_options)
            told.add(status=result.status)
        operation.finish(files=result.files, size=result.bytes, status=str(result.status))
        return result

    def copy(
        self,
        source: Freezer,
        backups: str | Sequence[str] = (),
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        before: datetime | None = None,
        after: datetime | None = None,
        dry_run: bool = False,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> list[CopyResult]:
        """Copies backups of another repository into this one; they keep their ids and all that is recorded of them.

        What is here already is neither read nor written again; what was forgotten here stays so.

        Args:
            source: the other repository.
            backups: one or several ids in it; none: all that fit.
            name, host: exactly so.
            tags: a backup must have all of them.
            before: started before this moment; without a zone: local time.
            after: started at this moment or later; without a zone: local time.
            dry_run: only tell what would be copied.
            events: as for the class, which is not called then; one start and one finish for each backup.
            cancel: ends the run; what was copied whole before stays.

        Returns:
            What became of each backup, oldest first. One that failed has its error; the others were copied.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, PluginError, AccessDenied, StorageError, Cancelled.
        """
        target, origin = self._opened(), source._opened()
        if not self.capabilities.copies:
            raise ConfigurationError(f"the engine {self._place.engine.name!r} takes no copies")
        if self.info().id == source.info().id:
            raise ConfigurationError(f"{self.location} cannot be copied into itself")
        wanted = BackupFilter(name=name, host=host, tags=texts(tags, "tags"), before=before, after=after)
        everything, ids = source._all(), listed(backups)
        chosen = [each for each in everything if wanted(each)]
        if ids:
            chosen = list({each.id: each for each in (source._choose(everything, one, wanted) for one in ids)}.values())
        present = [each for each in self._all() if each.status is not Status.DAMAGED]
        token = cancel or CancelToken()
        with self._place.watching(token), source._place.watching(token):
            return copy_backups(
                origin,
                target,
                chosen,
                present=present,
                dry_run=dry_run,
                boundary=self._boundary.joined(source._boundary),
                operation=lambda: self._operation("copy", events, token),
            )

    def import_backups(
        self,
        source: Freezer,
        backups: str | Sequence[str] = (),
        *,
        name: str | None = None,
        host: str | None = None,
        before: datetime | None = None,
        after: datetime | None = None,
        dry_run: bool = False,
        verify: bool = True,
        staging: str | PathLike[str] | None = None,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> list[CopyResult]:
        """Turns backups of another engine into backups here: every level into a backup that needs no other.

        They keep ids, times, hosts, names and owners; what is lost in the source is recorded, and makes them partial.
        What is here already is not written again, and what was forgotten here stays so, so that a run that was
        interrupted can simply be repeated.

        Args:
            source: a repository of an engine with levels.
            backups: one or several ids in it; none: all that fit.
            name, host, before, after: as for :meth:`copy`.
            dry_run: only tell what would be imported.
            verify: read back what was imported, and compare it with the source.
            staging: a folder for contents that the source gives before their time; by default where temporary files
                go. They lie there in clear, readable for nobody else, and are removed.
            events: as for the class, which is not called then; one start and one finish for each backup.
            cancel: ends the run; what was imported whole before stays.

        Returns:
            What became of each backup: by host and name, the oldest first. One that failed has its error.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, PluginError, AccessDenied, StorageError, Cancelled.
        """
        from freezer_sdk.importing.run import Importer

        target, origin = self._opened(), source._opened()
        if not source.capabilities.whole:
            title = source._place.engine.name
            raise ConfigurationError(f"backups of the engine {title!r} are not imported", hint="copy them")
        wanted = BackupFilter(name=name, host=host, before=before, after=after)
        everything, ids = source._all(), listed(backups)
        chosen = [each for each in everything if wanted(each)]
        if ids:
            chosen = list({each.id: each for each in (source._choose(everything, one, wanted) for one in ids)}.values())
        token = cancel or CancelToken()
        importer = Importer(
            source=origin,
            target=target,
            location=source.location,
            present={each.id for each in self._all()},
            forgotten={each.backup.id for each in self.retention.forgotten()} if self.capabilities.undelete else (),
            verify=verify,
            staging=None if staging is None else os.fspath(staging),
            boundary=self._boundary.joined(source._boundary),
            operation=lambda: self._operation("import", events, token),
        )
        with self._place.watching(token), source._place.watching(token):
            return importer.run(chosen, dry_run=dry_run)

    def verify(
        self,
        backup: str | Sequence[str] = (),
        *,
        read_data: bool = False,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> VerifyResult:
        """Checks that backups are whole; findings are in the result.

        Args:
            backup: one or several ids; none: the whole repository, and every object in it.
            read_data: read and authenticate every byte, instead of only presence and structure.
            events: as for the class, which is not called then.
            cancel: ends the run.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, StorageError, Cancelled.
        """
        repository = self._opened()
        identifiers = listed(backup)
        chosen = [each.id for each in self._chosen(self._all(), identifiers)] if identifiers else []
        operation = self._operation("verify", events, cancel)
        operation.start(backups=chosen, read_data=read_data)
        with self._boundary.guard(), self._place.watching(operation.context.cancel):
            result = repository.verify(chosen, read_data=read_data, context=operation.context)
        operation.finish(size=result.bytes_read, ok=result.ok)
        return result

    def forget(self, backups: str | Sequence[str]) -> list[Backup]:
        """Hides backups and leaves their space to maintenance.

        Args:
            backups: one or several ids; all must be found before the first is forgotten.

        Returns:
            The backups that were forgotten.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError, PolicyRefusal, StorageError.
        """
        repository = self._opened()
        chosen = self._chosen(self._all(), backups)
        with self._boundary.guard():
            repository.forget([backup.id for backup in chosen])
        return chosen

    def freshness(
        self,
        *,
        max_age: timedelta | None = None,
        drill_max_age: timedelta | None = None,
        names: Sequence[str] = (),
        host: str | None = None,
        expected: Sequence[str] = (),
    ) -> FreshnessReport:
        """Which names have no recent backup, or were not drilled lately, as the repository itself says.

        Args:
            max_age: what the newest backup of a name may have; ``None``: any.
            drill_max_age: what the last drill that passed may have; ``None``: none is needed.
            names: only these, and each of them must have backups.
            host: only backups of this host.
            expected: names that must have backups, beside those that have.

        Raises:
            ConfigurationError, AccessDenied, StorageError, IntegrityError.
        """
        from freezer_sdk.freshness import report

        return report(self, max_age=max_age, drill_max_age=drill_max_age, names=names, host=host, expected=expected)

    def info(self) -> RepositoryInfo:
        """What the repository says about itself.

        Raises:
            StorageError, IntegrityError.
        """
        repository = self._opened()
        with self._boundary.guard():
            return repository.info()

    def stats(self) -> RepositoryStats:
        """Sizes; lists the storage.

        Raises:
            StorageError, IntegrityError.
        """
        repository = self._opened()
        with self._boundary.guard():
            return repository.stats()

    def close(self) -> None:
        """Releases the repository, and the storage unless it was given open. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._place.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Repository:
        if self._closed:
            raise FreezerError("this Freezer is closed")
        return self._place.repository

    def _all(self) -> list[Backup]:
        repository = self._opened()
        with self._boundary.guard():
            return sorted(repository.backups(), key=lambda backup: (backup.time, backup.id))

    def _choose(self, backups: Sequence[Backup], identifier: str, wanted: BackupFilter) -> Backup:
        chosen = select.choose_backup(backups, identifier, wanted=wanted, this_host=identity.host_name())
        if identifier == select.LATEST:
            in_time = BackupFilter(at=wanted.at)
            lost = [
                each for each in backups if each.status is Status.DAMAGED and each.time > chosen.time and in_time(each)
            ]
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
            if found[0].status is not Status.DAMAGED:
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

    def _bring_back(
        self, backup: Backup, target: str, restorer: BackupRestorer, name: str, options: Mapping[str, Any] | None
    ) -> RestoreResult:
        damaged = backup.status is Status.DAMAGED  # the engine says what is wrong
        if damaged or (name == _FILES and not options):  # needs nothing of the mode, it may even be absent
            return restorer.files(target)
        mode = build_mode(self._place.registry, name, (), (), options)
        secrets = secret_values(mode.options, options or {})
        with self._boundary.around(f"mode {name!r}", type(mode).__module__, secrets=secrets).guard():
            result = mode.restore(restorer, target)
            if not isinstance(result, RestoreResult):
                raise TypeError(f"restore() returned {type(result).__name__} instead of RestoreResult")
            return result

    def _operation(self, name: str, events: EventHandler | None, cancel: CancelToken | None) -> Operation:
        return Operation(name, events if events is not None else self._events, cancel)


def _not_empty(entries: Iterator[Entry], backup: Backup, path: bytes) -> Iterator[Entry]:
    empty = True
    for entry in entries:
        empty = False
        yield entry
    if empty:
        raise RestoreError(f"backup {backup.short_id} has no {os.fsdecode(path)!r}")


def _member(kind: type[E], value: str, what: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(f"{what} {value!r} is none of {', '.join(kind)}") from None
