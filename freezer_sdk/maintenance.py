"""Maintenance of a repository: ``freezer.maintenance``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from freezer_sdk.boundary import Boundary
from freezer_sdk.engines.base import MaintenanceService
from freezer_sdk.errors import ConfigurationError
from freezer_sdk.model import EventHandler
from freezer_sdk.operation import Operation
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.upkeep_model import LeaseInfo, PruneOptions, PruneResult

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
