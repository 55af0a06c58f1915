"""Maintenance of a repository: ``freezer.maintenance``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import TYPE_CHECKING

from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import Repository
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import EventHandler
from freezer_sdk.operation import Operation
from freezer_sdk.services.base import MaintenanceService
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.upkeep_model import (
    CheckOptions,
    CheckResult,
    LeaseInfo,
    PruneOptions,
    PruneResult,
    RepairOptions,
    RepairPlan,
    RepairResult,
)

if TYPE_CHECKING:
    from freezer_sdk.client import Freezer

Begin = Callable[[str, EventHandler | None, CancelToken | None], Operation]
Watch = Callable[[CancelToken], AbstractContextManager[None]]


class Maintenance:
    """What a repository needs now and then. Made by :attr:`Freezer.maintenance`; may be used from several threads."""

    def __init__(
        self, service: Callable[[], MaintenanceService], boundary: Boundary, begin: Begin, watch: Watch
    ) -> None:
        self._service, self._boundary, self._begin, self._watch = service, boundary, begin, watch

    def prune(
        self,
        *,
        dry_run: bool = False,
        max_waste: float = 0.05,
        max_rewrite: int | None = None,
        old_keys: bool = False,
        forget_missing: bool = False,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> PruneResult:
        """Frees the space of forgotten backups, while others back up and restore.

        What no backup needs is marked; a later run, after the grace time of the repository, deletes it. So the first
        run frees nothing, and regular runs free what the one before marked.

        Args:
            dry_run: write nothing; say what would be done.
            max_waste: share of what is stored that may be of no use; 0 for none, 1 for packs that are of no use at all.
            max_rewrite: bytes of needed content that may be stored again in this run; ``None``: no limit.
            old_keys: also store again what is encrypted with keys of before the last rotation.
            forget_missing: give up backups whose records are gone from the storage.
            events: as for the class, which is not called then.
            cancel: ends the run; the next one goes on.

        Raises:
            RepositoryLocked: somebody else maintains the repository.
            IntegrityError: it is not known what a damaged backup needs; nothing was deleted.
            ConfigurationError, AccessDenied, StorageError, RepositoryError, Cancelled.
        """
        if not 0 <= max_waste <= 1:
            raise ConfigurationError(f"max_waste is a share from 0 to 1, not {max_waste}")
        if max_rewrite is not None and max_rewrite < 0:
            raise ConfigurationError("max_rewrite cannot be less than nothing")
        options = PruneOptions(
            dry_run=dry_run,
            max_waste=max_waste,
            max_rewrite=max_rewrite,
            old_keys=old_keys,
            forget_missing=forget_missing,
        )
        service = self._service()
        operation = self._begin("prune", events, cancel)
        operation.start(dry_run=dry_run)
        with self._boundary.guard(), self._watch(operation.context.cancel):
            result = service.prune(options, operation.context)
        operation.finish(size=result.freed_bytes, added=result.rewritten_bytes)
        return result

    def leases(self) -> Sequence[LeaseInfo]:
        """Who is at work in the repository, or died at it; the oldest first.

        Raises:
            StorageError, RepositoryError.
        """
        service = self._service()
        with self._boundary.guard():
            return service.leases()

    def set_grace(self, seconds: float) -> None:
        """Changes how long what no backup needs stays before it is deleted.

        Marks that are there wait for the longer of the old and the new time.

        Args:
            seconds: an hour at least. It must be longer than a backup may be suspended.

        Raises:
            ConfigurationError: too short or too long.
            RepositoryLocked, AccessDenied, StorageError, RepositoryError.
        """
        service = self._service()
        with self._boundary.guard():
            service.set_grace(round(seconds))

    def unlock(self, leases: str | Sequence[str] = ()) -> Sequence[LeaseInfo]:
        """Removes leases whose holders have ended or are dead by the storage's clock.

        Args:
            leases: ids, or their beginnings; none: all such leases.

        Returns:
            Those that were removed.

        Raises:
            RepositoryLocked: the holder of a named lease may be at work.
            ConfigurationError: no lease, or several, begin so.
            AccessDenied, StorageError.
        """
        service = self._service()
        with self._boundary.guard():
            return service.unlock([leases] if isinstance(leases, str) else leases)

    def check(
        self,
        *,
        read_data: bool = False,
        subset: str | None = None,
        max_age: timedelta | None = None,
        max_duration: timedelta | None = None,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> CheckResult:
        """Is everything there, does every backup reach all of its data, and is every byte what it was?

        Without any option nothing but the structure is read. What was read whole is written down, by those who may
        maintain the repository, so that checks of a part, or with a limit, take turns.

        Args:
            read_data: read and authenticate every byte.
            subset: read a part only: ``5%``, or ``2/7`` for the second of seven parts.
            max_age: read only what was not read for so long.
            max_duration: stop reading after so long; the next check begins with what was left.
            events: as for the class, which is not called then; each finding is a problem.
            cancel: ends the check.

        Returns:
            What was found. Damage is no error.

        Raises:
            ConfigurationError, PluginError, AccessDenied, StorageError, RepositoryError, Cancelled.
        """
        options = CheckOptions(read_data=read_data, subset=subset, max_age=max_age, max_duration=max_duration)
        service = self._service()
        operation = self._begin("check", events, cancel)
        operation.start(read_data=read_data)
        with self._boundary.guard(), self._watch(operation.context.cancel):
            result = service.check(options, operation.context)
        operation.finish(files=result.objects, size=result.bytes_read, ok=result.ok)
        return result

    def plan_repair(
        self,
        *,
        read_data: bool = False,
        forget_broken: bool = False,
        sources: Sequence[Freezer] = (),
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> RepairPlan:
        """What :meth:`repair` would do; nothing is written. Arguments as there.

        Raises:
            PluginError, AccessDenied, StorageError, RepositoryError, Cancelled.
        """
        options = RepairOptions(read_data=read_data, forget_broken=forget_broken)
        service, others, boundary = self._service(), *self._others(sources)
        operation = self._begin("repair", events, cancel)
        operation.start(dry_run=True)
        with boundary.guard(), self._watch(operation.context.cancel):
            plan = service.plan_repair(options, operation.context, others=others)
        operation.finish()
        return plan

    def repair(
        self,
        *,
        plan: RepairPlan | None = None,
        read_data: bool = False,
        forget_broken: bool = False,
        sources: Sequence[Freezer] = (),
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> RepairResult:
        """Mends what can be mended, and writes down what is lost. Only adds; nothing that is whole is ever given up.

        Args:
            plan: made a moment ago; what it has found damaged is looked at again, instead of every byte.
            read_data: look for damage in every byte; else where it shows, or where a check has found it.
            forget_broken: forget backups whose own record cannot be read any more.
            sources: other repositories to fetch from what is lost here, in the order in which they are asked.
            events: as for the class, which is not called then.
            cancel: ends the repair; what was stored is used by the next one.

        Raises:
            RepositoryLocked: somebody else maintains the repository.
            PluginError, AccessDenied, StorageError, RepositoryError, Cancelled: run it again.
        """
        options = RepairOptions(
            read_data=read_data and plan is None,
            forget_broken=forget_broken,
            damaged=() if plan is None else plan.damaged,
        )
        service, others, boundary = self._service(), *self._others(sources)
        operation = self._begin("repair", events, cancel)
        operation.start(dry_run=False)
        with boundary.guard(), self._watch(operation.context.cancel):
            result = service.repair(options, operation.context, others=others)
        operation.finish(added=result.added_bytes)
        return result

    def _others(self, sources: Sequence[Freezer]) -> tuple[list[Repository], Boundary]:
        """Other repositories, and a boundary around all plug-ins."""
        boundary = self._boundary
        for source in sources:
            boundary = boundary.joined(source._boundary)
        return [source._opened() for source in sources], boundary
