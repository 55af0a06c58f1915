"""Maintenance of a repository of the dedup engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from freezer_sdk.engines.base import Context, Repository
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyholders import reconfigure
from freezer_sdk.engines.dedup.keyring import KeyRing
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
    """See :class:`~freezer_sdk.services.base.MaintenanceService`.

    Args:
        changed: told of a key ring that knows a newer configuration.
    """

    def __init__(self, handle: Handle, changed: Callable[[KeyRing], None] | None = None) -> None:
        self._handle, self._changed = handle, changed

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

    def set_grace(self, seconds: int) -> None:
        """Changes the grace time; it counts from the longer of old and new.

        Raises:
            ConfigurationError: less than an hour, or more than a year.
            RepositoryLocked: others change the configuration all the time.
            AccessDenied, StorageError, RepositoryError.
        """
        keys = reconfigure(self._handle.storage, self._handle.keys, grace=seconds)
        if self._changed is not None:
            self._changed(keys)

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
