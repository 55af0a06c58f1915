"""FreezerGroup: several repositories, driven like one."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from os import PathLike
from types import TracebackType
from typing import Any, Self

from freezer_sdk import identity
from freezer_sdk import selection as select
from freezer_sdk.boundary import Boundary
from freezer_sdk.client import Freezer
from freezer_sdk.errors import Cancelled, ConfigurationError, FreezerError
from freezer_sdk.fanout import FanOut, Job, joined
from freezer_sdk.grouprun import store_everywhere, tell_failure
from freezer_sdk.hooks import Hooks
from freezer_sdk.member import Member, Target, close_all, leave_abandoned, open_all
from freezer_sdk.model import (
    Backup,
    BackupOptions,
    EventHandler,
    GroupBackup,
    GroupResult,
    Layout,
    Overwrite,
    RestoreResult,
    TargetResult,
)
from freezer_sdk.operation import Operation
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.subject import Paths, build_subject, texts


class FreezerGroup:
    """Several repositories, driven like one. They are opened side by side; those that cannot be opened are left out.

    ::

        targets = [Target("local:/srv/backups", password="..."), Target("sftp://backup@nas/home", password="...")]
        with FreezerGroup(targets) as group:
            result = group.backup("/etc", name="etc")

    One run at a time.

    Args:
        targets: what to open, and repositories that are open already, which stay the caller's to close. Restores
            prefer those that come first.
        stall_timeout: seconds; a target whose storage moves nothing for so long is left out of the run, and one that
            makes the others wait for so long, all in all, because it cannot keep up with a stream; ``None``: never.
        queue_size: bytes of a stream that may wait for the slowest target.
        events: called with progress, from any thread; an event that concerns one target names it.

    Raises:
        ConfigurationError: no target, or one place twice.
        FreezerError: none can be opened; the class is that of all their errors, or TargetsFailed.
    """

    def __init__(
        self,
        targets: Sequence[Target | Freezer],
        *,
        stall_timeout: float | None = 300.0,
        queue_size: int = 4 << 20,
        events: EventHandler | None = None,
    ) -> None:
        from freezer_sdk.plugins import PluginRegistry

        if not targets:
            raise ConfigurationError("a group needs a repository at least")
        self._registry = PluginRegistry()
        self._stall_timeout = stall_timeout or None
        self._queue_size = queue_size
        self._events = events
        self._members = [Member(each) for each in targets]
        try:
            open_all(self._members, self._events, stall_timeout=self._stall_timeout)
            self._check()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<FreezerGroup {', '.join(self.locations)}>"

    @property
    def locations(self) -> tuple[str, ...]:
        """URLs of the storages, without secrets, in their order; also of those that cannot be used."""
        return tuple(member.location for member in self._members)

    @property
    def freezers(self) -> Mapping[str, Freezer]:
        """The repositories that can be used, by location."""
        return {member.location: freezer for member in self._members if (freezer := member.usable) is not None}

    @property
    def failures(self) -> Mapping[str, FreezerError]:
        """Why the others cannot be used, by location."""
        return {member.location: member.failure for member in self._members if member.failure is not None}

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
    ) -> GroupResult:
        """Stores one state of the data in every repository, under one id; arguments as for :meth:`Freezer.backup`.

        What is backed up is made consistent once. Each target then goes at its own pace: files are read by each, a
        stream is read once.

        Returns:
            What became of it in each repository; one at least has the backup.

        Raises:
            ConfigurationError, PluginError, SourceError, SnapshotError: as for one repository.
            FreezerError: no repository has the backup; the class is that of all their errors, or TargetsFailed.
            Cancelled: what was committed before stays; the hint names it.
        """
        subject = build_subject(
            self._registry,
            paths,
            boundary=Boundary({}),
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
            locations=self.locations,
        )
        options = replace(subject.options, id=uuid.uuid4().hex, time=datetime.now(UTC), parent=parent)
        operation = self._operation("backup", events, cancel)
        operation.start(**subject.facts(), targets=list(self.locations))
        jobs: Mapping[str, Job[Backup]] = {}
        try:
            with subject.hooked(hooks, operation, location=" ".join(self.locations)) as told:
                with subject.protect(Boundary({})) as protected:
                    jobs = store_everywhere(
                        self._members,
                        subject,
                        options,
                        protected,
                        operation,
                        stall_timeout=self._stall_timeout,
                        queue_size=self._queue_size,
                    )
                result = self._result(options, jobs, operation)
                told.add(backup_id=result.id, status=result.status)
        except FreezerError as error:
            _say_what_was_made(error, jobs)
            raise
        return result

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
        events: EventHandler | None = None,
    ) -> list[GroupBackup]:
        """All backups that fit, the newest last, each once; arguments as for :meth:`Freezer.backups`.

        Args:
            events: told of targets that cannot be asked, as fatal problems.

        Raises:
            FreezerError: none can be asked.
        """
        wanted = select.BackupFilter(
            name=name, host=host, tags=texts(tags, "tags"), before=before, after=after, mode=mode, path=path
        )
        operation = self._operation("list", events, None)
        return [found for found in self._all(operation) if wanted(found.backup)]

    def find_backup(
        self,
        selector: str = select.LATEST,
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        at: datetime | None = None,
        events: EventHandler | None = None,
    ) -> GroupBackup:
        """The one backup that is meant; arguments as for :meth:`Freezer.find_backup`.

        Args:
            events: as for :meth:`backups`.

        Raises:
            BackupNotFound, AmbiguousError, ConfigurationError.
            FreezerError: no repository can be asked.
        """
        everything = self._all(self._operation("list", events, None))
        wanted = select.BackupFilter(name=name, host=host, tags=texts(tags, "tags"), at=at)
        known = {found.backup.id: found for found in everything}
        readable = [found.backup for found in everything]
        return known[select.choose_backup(readable, selector, wanted=wanted, this_host=identity.host_name()).id]

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
        hooks: Hooks | None = None,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> RestoreResult:
        """Brings a backup back from the first repository that has it, and from the next ones what that cannot give.

        Arguments and result are those of :meth:`Freezer.restore`.

        Raises:
            As :meth:`Freezer.restore`, and FreezerError: no repository can be asked.
        """
        identifier, inside = select.split_selector(backup)
        found = self.find_backup(identifier, events=events)
        first, *others = dict.fromkeys((*found.locations, *found.copies))
        freezers = self.freezers
        return freezers[first].restore(
            found.backup.id if inside is None else f"{found.backup.id}:{inside}",
            target,
            paths=paths,
            include=include,
            exclude=exclude,
            overwrite=overwrite,
            delete=delete,
            layout=layout,
            inplace=inplace,
            dry_run=dry_run,
            force=force,
            owner=owner,
            numeric_owner=numeric_owner,
            sparse=sparse,
            mode=mode,
            mode_options=mode_options,
            others=[freezers[place] for place in others],
            hooks=hooks,
            events=events if events is not None else self._events,
            cancel=cancel,
        )

    def close(self) -> None:
        """Releases the repositories that were opened here. May be called again.

        One whose call never returned is closed when it does.
        """
        close_all(self._members)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- steps ---------------------------------------------------------------------------------------------

    def _check(self) -> None:
        operation = self._operation("open", None, None)
        for member in self._members:
            if member.failure is not None:
                tell_failure(operation, member.location, member.failure)
        usable = [member.location for member in self._members if member.usable is not None]
        for number, location in enumerate(usable):
            if location in usable[:number]:
                raise ConfigurationError(f"{location} is given twice")
        if not usable:
            raise joined(self.failures)

    def _operation(self, name: str, events: EventHandler | None, cancel: CancelToken | None) -> Operation:
        return Operation(name, events if events is not None else self._events, cancel)

    def _all(self, operation: Operation) -> list[GroupBackup]:
        """Every backup of every repository, each once, the newest last."""
        jobs = {
            member.location: Job(
                member.location,
                partial(_listed, freezer),
                stalled_for=freezer._stalled_for,
                late=member.ended_late,
            )
            for member in self._members
            if (freezer := member.usable) is not None
        }
        try:
            FanOut(list(jobs.values()), stall_timeout=self._stall_timeout).run()
        finally:
            leave_abandoned(self._members, jobs)
        copies: dict[str, dict[str, Backup]] = {}
        failures = dict(self.failures)
        for location, job in jobs.items():
            if job.error is not None:
                failures[location] = job.error
                tell_failure(operation, location, job.error)
            for backup in job.value or ():
                copies.setdefault(backup.id, {})[location] = backup
        if len(failures) == len(self._members):
            raise joined(failures)
        found = [GroupBackup(copies=each) for each in copies.values()]
        return sorted(found, key=lambda each: (each.backup.time, each.backup.id))

    def _result(self, options: BackupOptions, jobs: Mapping[str, Job[Backup]], operation: Operation) -> GroupResult:
        results = []
        for member in self._members:
            job = jobs.get(member.location)
            error = member.failure if job is None else job.error
            results.append(
                TargetResult(location=member.location, backup=None if job is None else job.value, error=error)
            )
            if error is not None and not isinstance(error, Cancelled):
                tell_failure(operation, member.location, error)
        errors = {each.location: each.error for each in results if each.error is not None}
        done = next((each.backup for each in results if each.backup is not None), None)
        interrupted = next((error for error in errors.values() if isinstance(error, Cancelled)), None)
        if interrupted is not None:
            _say_what_was_made(interrupted, jobs)
            raise interrupted
        if done is None:
            raise joined(errors)
        assert options.id is not None
        assert options.time is not None
        result = GroupResult(id=options.id, time=options.time, targets=tuple(results))
        operation.finish(
            files=done.stats.files,
            size=done.stats.bytes,
            added=done.stats.added_bytes,
            id=done.id,
            status=str(result.status),
        )
        return result


def _listed(freezer: Freezer, _token: CancelToken) -> list[Backup]:
    return freezer.backups()


def _say_what_was_made(error: FreezerError, jobs: Mapping[str, Job[Backup]]) -> None:
    made = {location: job.value for location, job in jobs.items() if job.value is not None}
    if made and not any(backup.dry_run for backup in made.values()):
        name = next(iter(made.values())).short_id
        error.hint = error.hint or f"backup {name} was made all the same in {', '.join(made)}"
