"""Freezer: the object that a program drives. Ties storages, engines and modes together; knows none of them by name."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from os import PathLike
from typing import TYPE_CHECKING, Any, Self, TypeVar

from freezer_sdk.detection import EngineOptions
from freezer_sdk.errors import ConfigurationError, FreezerError, PolicyRefusal
from freezer_sdk.hooks import Hooks, hooked
from freezer_sdk.model import (
    Backup,
    BackupOptions,
    EventHandler,
    Layout,
    Overwrite,
    RestoreOptions,
    RestoreResult,
    Status,
    VerifyResult,
)
from freezer_sdk.modes.base import SERVER, Protected
from freezer_sdk.opening import Opening, Password, open_repository
from freezer_sdk.operation import BackupRestorer, Operation
from freezer_sdk.options import secret_values
from freezer_sdk.receiving import Receiver
from freezer_sdk.storages.base import Storage
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.subject import Paths, Subject, build_mode, build_subject, listed, texts

if TYPE_CHECKING:
    from freezer_sdk.drills.drills import Drills
    from freezer_sdk.freshness import FreshnessReport
    from freezer_sdk.keys import Keys
    from freezer_sdk.maintenance import Maintenance
    from freezer_sdk.streams.ratelimit import Limits

_log = logging.getLogger("freezer_sdk")
_FILES = "fs"  # the mode whose backups are plain trees

E = TypeVar("E", bound=StrEnum)


class Freezer(Receiver):
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
                snapshots, which show all of its data as they were at one moment. They are made for a dry run, too.
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
            locations=[self.location],
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

    def _store(self, subject: Subject, protected: Protected, options: BackupOptions, operation: Operation) -> Backup:
        """Stores what a mode hands over; for those who protect one source for several repositories.

        Raises:
            PluginError, SourceError, StorageError, RepositoryError, Cancelled: nothing was committed.
        """
        repository = self._opened()
        with subject.calling(self._boundary, protected).guard(), self._place.watching(operation.context.cancel):
            return repository.backup(protected, replace(options, excludes=tuple(protected.excludes)), operation.context)

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

    def _bring_back(
        self, backup: Backup, target: str, restorer: BackupRestorer, name: str, options: Mapping[str, Any] | None
    ) -> RestoreResult:
        if name == _FILES and target == SERVER:
            raise ConfigurationError(f"mode {name!r} restores into folders, not into servers")
        if not backup.readable or (name == _FILES and not options):  # needs nothing of the mode, it may even be absent
            return restorer.files(target)
        mode = build_mode(self._place.registry, name, (), (), options)
        secrets = secret_values(mode.options, options or {})
        with self._boundary.around(f"mode {name!r}", type(mode).__module__, secrets=secrets).guard():
            result = mode.restore(restorer, target)
            if not isinstance(result, RestoreResult):
                raise TypeError(f"restore() returned {type(result).__name__} instead of RestoreResult")
            return result


def _member(kind: type[E], value: str, what: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise ConfigurationError(f"{what} {value!r} is none of {', '.join(kind)}") from None
