"""Maintenance of a repository of the dedup engine."""

from __future__ import annotations

from collections.abc import Sequence

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.upkeep.leases import lease_infos, unlock
from freezer_sdk.engines.dedup.upkeep.prune import Prune
from freezer_sdk.upkeep_model import LeaseInfo, PruneOptions, PruneResult


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
