"""Maintenance of a repository of the dedup engine."""

from __future__ import annotations

from collections.abc import Sequence

from freezer_sdk.engines.base import Context, Repository
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.upkeep.check import Check
from freezer_sdk.engines.dedup.upkeep.diagnosis import Other
from freezer_sdk.engines.dedup.upkeep.leases import lease_infos, unlock
from freezer_sdk.engines.dedup.upkeep.prune import Prune
from freezer_sdk.engines.dedup.upkeep.repair import Repair
from freezer_sdk.errors import ConfigurationError
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


class DedupMaintenance:
    """See :class:`~freezer_sdk.engines.base.MaintenanceService`."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def prune(self, options: PruneOptions, context: Context) -> PruneResult:
        """Frees what was marked long enough ago, then marks what no backup needs.

        Raises:
            RepositoryLocked: somebody else maintains the repository.
            IntegrityError: damage makes it unknown what backups need; nothing was deleted.
            AccessDenied, StorageError, RepositoryError, Cancelled.
        """
        return Prune(self._handle, options, context).run()

    def leases(self) -> Sequence[LeaseInfo]:
        """Who is at work, or died at it; the oldest first.

        Raises:
            StorageError.
        """
        return lease_infos(self._handle)

    def unlock(self, leases: Sequence[str]) -> Sequence[LeaseInfo]:
        """Removes leases whose holders have ended or are dead.

        Args:
            leases: ids, or their beginnings; none: all such leases.

        Raises:
            RepositoryLocked: the holder of a named lease may be at work.
            ConfigurationError, AccessDenied, StorageError.
        """
        return unlock(self._handle, leases)

    def check(self, options: CheckOptions, context: Context) -> CheckResult:
        """Looks for damage; findings are in the result.

        Raises:
            ConfigurationError, AccessDenied, StorageError, Cancelled.
        """
        return Check(self._handle, options, context).run()

    def plan_repair(self, options: RepairOptions, context: Context, *, others: Sequence[Repository] = ()) -> RepairPlan:
        """What :meth:`repair` would do.

        Raises:
            ConfigurationError, AccessDenied, StorageError, Cancelled.
        """
        return Repair(self._handle, options, context, _others(others)).plan()

    def repair(self, options: RepairOptions, context: Context, *, others: Sequence[Repository] = ()) -> RepairResult:
        """Mends what can be mended, and writes down what is lost; nothing is deleted.

        Raises:
            ConfigurationError, RepositoryLocked, AccessDenied, StorageError, RepositoryError, Cancelled.
        """
        return Repair(self._handle, options, context, _others(others)).run()


def _others(repositories: Sequence[Repository]) -> list[Other]:
    from freezer_sdk.engines.dedup.repository import DedupRepository

    found = [each for each in repositories if isinstance(each, DedupRepository)]
    if len(found) < len(repositories):
        raise ConfigurationError("only repositories of the engine dedup have what this one lacks")
    return [Other(each.handle, each.opened) for each in found]
