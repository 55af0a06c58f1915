"""What retention needs of a store with levels: what needs what, holds, and a deletion that may break off anywhere.

A level is deleted only after everything that was built upon it: first its ``metadata``, so that it counts no more, then
its stream. Wherever that breaks off, what still counts can be restored, and the next run of the series goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.chains import holds
from freezer_sdk.engines.chains.catalog import Catalog
from freezer_sdk.engines.chains.layout import LevelId
from freezer_sdk.engines.chains.listing import Listed, Listing
from freezer_sdk.engines.chains.lock import SeriesLock
from freezer_sdk.engines.chains.removal import counts, remove_level, tidy
from freezer_sdk.engines.chains.store import Store
from freezer_sdk.errors import BackupNotFound, PolicyRefusal
from freezer_sdk.model import Backup
from freezer_sdk.retention_model import ForgottenBackup, Hold, RetentionState

_HINT = "freezer backup list shows what there is"


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class ChainRetention:
    """See :class:`~freezer_sdk.services.base.RetentionService`.

    Args:
        clock: of this machine.
    """

    def __init__(self, store: Store, listing: Listing, *, clock: Callable[[], datetime] = _wall_clock) -> None:
        self._store, self._storage, self._listing, self._clock = store, store.storage, listing, clock

    def state(self) -> RetentionState:
        """What there is, and what needs what.

        Raises:
            WrongPassword, StorageError.
        """
        listed, now = self._present(self._listing.read()), self._now()
        ids = {each.level: each.backup.id for each in listed}
        return RetentionState(
            backups=tuple(each.backup for each in listed),
            now=now,
            holds=holds.by_backup(holds.read_holds(self._store, now=now)),
            needs={
                each.backup.id: tuple(ids[level] for level in each.levels if level != each.level) for each in listed
            },
        )

    def forget(self, backups: Mapping[str, str]) -> None:
        """Deletes levels with their streams, the highest first; they do not come back.

        Raises:
            BackupNotFound, WrongPassword, StorageError.
            PolicyRefusal: one is held, or one that stays needs it; nothing was deleted.
            RepositoryLocked: a backup of the same series is being made; other series may be done already.
        """
        listed = self._present(self._listing.read())
        by_id = {each.backup.id: each for each in listed}
        for backup in backups:
            if backup not in by_id:
                raise BackupNotFound(f"there is no backup {backup}", hint=_HINT)
        self._refuse_held(backups)
        chosen = {by_id[backup].level for backup in backups}
        _refuse_needed(listed, chosen)
        for series in sorted({level.series for level in chosen}):
            self._forget_of(series, {level for level in chosen if level.series == series})

    def hold(self, backup: str, *, reason: str, until: datetime | None) -> Hold:
        """Forbids to forget a backup, and so what it needs.

        Raises:
            BackupNotFound, WrongPassword, StorageError.
        """
        sealed = self._listing.find(backup).level.sealed
        return holds.write_hold(self._store, backup, reason=reason, until=until, sealed=sealed)

    def release(self, backup: str) -> Sequence[Hold]:
        """Ends all holds of a backup that are in force.

        Raises:
            WrongPassword, StorageError.
        """
        ended = [hold for hold in self.holds() if hold.backup == backup]
        for hold in ended:
            holds.remove_hold(self._store, hold)
        return ended

    def holds(self) -> Sequence[Hold]:
        """All holds in force, the oldest first.

        Raises:
            WrongPassword, StorageError.
        """
        return holds.read_holds(self._store, now=self._now())

    def forgotten(self) -> Sequence[ForgottenBackup]:
        """Nothing comes back: forgetting deletes."""
        return ()

    def undelete(self, backup: str, context: Context) -> Backup:
        """Nothing comes back.

        Raises:
            BackupNotFound: always.
        """
        raise BackupNotFound(
            f"backup {backup} cannot come back: the engine {self._store.engine} deletes what is forgotten at once"
        )

    # -- helpers -------------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        """The earlier of two clocks: one that runs ahead makes nothing old."""
        return min(self._storage.now(), self._clock())

    def _refuse_held(self, backups: Iterable[str]) -> None:
        holds.refuse_held(holds.by_backup(self.holds()), backups)

    def _present(self, listed: Sequence[Listed]) -> Sequence[Listed]:
        """Without what a listing that lags still shows: as the newest one it would cost the last real backup."""
        if not self._storage.capabilities.listing_lag:
            return listed
        with ThreadPoolExecutor(max(1, self._storage.max_parallel), thread_name_prefix="freezer-levels") as pool:
            there = list(pool.map(lambda each: counts(self._storage, each.level), listed))
        return [each for each, found in zip(listed, there, strict=True) if found]

    def _forget_of(self, series: str, chosen: Collection[LevelId]) -> None:
        folder = self._store.codec.folder
        with SeriesLock(self._storage, folder, series) as lock:
            time.sleep(self._storage.capabilities.listing_lag.total_seconds())  # what was stored before is listed now
            catalog = Catalog.read(self._storage, folder, series=series)
            tidy(self._storage, catalog, folder, series)
            listed = self._present(self._listing.read(catalog))
            _refuse_needed(listed, chosen)  # a run may have built upon one meanwhile
            self._refuse_held(each.backup.id for each in listed if each.level in chosen)
            for level in sorted(chosen, key=_deleted_at):
                lock.check()
                remove_level(self._storage, level)


def _deleted_at(level: LevelId) -> tuple[int, int, int, str]:
    """The place of a level among those that are deleted: after all that can need it."""
    return (-level.chain, -level.level, -level.time, level.folder)


def _refuse_needed(listed: Iterable[Listed], chosen: Collection[LevelId]) -> None:
    """Refuses to delete what a level that stays needs for its restore.

    Raises:
        PolicyRefusal: names both.
    """
    for each in listed:
        if each.level not in chosen and (needed := [level for level in each.levels if level in chosen]):
            raise PolicyRefusal(
                f"backup {each.backup.short_id} (level {each.level.level}) needs level {needed[-1].level} of "
                f"{needed[-1].chain}, which was to be forgotten",
                hint=f"forget {each.backup.short_id} as well, or keep both",
            )
