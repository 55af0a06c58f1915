"""What retention needs of a repository: times, holds, forgetting with a reason, and the way back."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import holds, protocol
from freezer_sdk.engines.dedup.catalog import Catalog, Listed
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.firstseen import FirstSeen, read_first_seen, write_first_seen
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.losses import marked, read_losses
from freezer_sdk.engines.dedup.undelete import UndeleteRun
from freezer_sdk.errors import BackupNotFound
from freezer_sdk.model import Backup, Problem, Status
from freezer_sdk.retention_model import MAX_REASON, ForgottenBackup, Hold, RetentionState

_log = logging.getLogger("freezer_sdk")
_MAX_TEXT: Final = 1000  # characters of a tombstone's reason


def _wall_clock() -> datetime:
    return datetime.now(UTC)


class Retaining:
    """See :class:`~freezer_sdk.services.base.RetentionService`.

    Args:
        clock: of this machine.
    """

    def __init__(self, handle: Handle, catalog: Catalog, *, clock: Callable[[], datetime] = _wall_clock) -> None:
        self._handle, self._storage, self._keys = handle, handle.storage, handle.keys
        self._catalog, self._clock = catalog, clock

    def state(self) -> RetentionState:
        """What there is, and what is known of it.

        Raises:
            AccessDenied: only readers know; StorageError.
        """
        commits, damaged = self._commits()
        noted, losses = read_first_seen(self._storage, self._keys), read_losses(self._storage, self._keys)
        now, known = self._now(), [marked(commit.backup, losses) for commit in commits]
        return RetentionState(
            backups=(*known, *map(_unreadable, damaged)),
            now=now,
            seen=self._seen(commits, noted),
            holds=holds.in_force(self._holds(), now),
            apart={
                commit.backup.id: commit.signer.hex() for commit in commits if not self._keys.vouches_for(commit.signer)
            },
            known=frozenset(noted.times) if noted.records else None,
        )

    def forget(self, backups: Mapping[str, str]) -> None:
        """Hides backups, and writes down when the storage got those that are there.

        Raises:
            BackupNotFound, AccessDenied, StorageError.
            IntegrityError: two backups have one id.
            PolicyRefusal: one is held.
        """
        self._keys.require_role(Role.MAINTAINER)
        listed = self._catalog.listed(with_forgotten=True)
        present = {item.id for item in listed}
        for backup in backups:
            if backup not in present:
                raise BackupNotFound(f"there is no backup {backup}", hint="freezer backup list shows what there is")
        self._catalog.refuse_ambiguous(backups.keys())
        holds.refuse_held(self._storage, self._keys, backups, now=self._now())
        self._note_times(present)
        for backup, reason in backups.items():
            protocol.write_tombstone(self._storage, self._keys, backup, reason=reason[:_MAX_TEXT])
        self._storage.flush()

    def hold(self, backup: str, *, reason: str, until: datetime | None) -> Hold:
        """Forbids to forget a backup.

        Raises:
            BackupNotFound, AccessDenied, StorageError.
        """
        self._keys.require_role(Role.MAINTAINER)
        if backup not in {item.id for item in self._catalog.listed()}:
            raise BackupNotFound(f"there is no backup {backup}", hint="freezer backup list shows what there is")
        return holds.write_hold(self._storage, self._keys, backup, reason=reason[:MAX_REASON], until=until)

    def release(self, backup: str) -> Sequence[Hold]:
        """Ends all holds of a backup that are in force.

        Raises:
            AccessDenied, StorageError.
        """
        self._keys.require_role(Role.MAINTAINER)
        ended = holds.in_force(self._holds(), self._now()).get(backup, ())
        for hold in ended:
            holds.write_release(self._storage, self._keys, hold)
        return ended

    def holds(self) -> Sequence[Hold]:
        """All holds in force, the oldest first.

        Raises:
            AccessDenied: only readers know; StorageError.
        """
        self._keys.require_role(Role.READER)
        now = self._now()
        return [hold for hold in self._holds() if hold.until is None or hold.until > now]

    def forgotten(self) -> Sequence[ForgottenBackup]:
        """Backups that can be brought back, the oldest first.

        Raises:
            AccessDenied: only readers know; StorageError.
        """
        self._keys.require_role(Role.READER)
        listed = self._catalog.listed(with_forgotten=True)
        read = protocol.read_tombstones(self._storage, self._keys, among={item.id for item in listed})
        tombstones = {each.backup: each for each in read.tombstones}
        sweeps = protocol.read_sweeps(self._storage, self._keys)
        same: dict[str, list[Listed]] = {}
        for item in listed:
            if item.id in tombstones:
                same.setdefault(item.id, []).append(item)
        found = []
        for backup, items in same.items():
            for commit in self._catalog.judge(items, sweeps).counting.values():
                stone = tombstones[backup]
                found.append(ForgottenBackup(backup=commit.backup, reason=stone.reason, forgotten=stone.created))
        return sorted(found, key=lambda each: (each.backup.time, each.backup.id))

    def undelete(self, backup: str, context: Context) -> Backup:
        """Brings a forgotten backup back, under another id.

        Raises:
            BackupNotFound: maintenance has let it go.
            IntegrityError, AccessDenied, LeaseLost, StorageError, Cancelled.
        """
        return UndeleteRun(self._handle, self._catalog, backup, context).run()

    # -- helpers -------------------------------------------------------------------------------------------

    def _commits(self) -> tuple[list[Commit], list[Listed]]:
        """Those of which an id tells which one is meant, and those that cannot be read."""
        damaged: list[Listed] = []
        visible = list(self._catalog.visible(damaged))
        times = Counter(commit.backup.id for commit in visible)
        return [commit for commit in visible if times[commit.backup.id] == 1], damaged

    def _now(self) -> datetime:
        """The earlier of two clocks: one that runs ahead makes nothing old."""
        return min(self._storage.now(), self._clock())

    def _holds(self) -> tuple[Hold, ...]:
        problems: list[Problem] = []
        found = holds.read_holds(self._storage, self._keys, problems=problems)
        for problem in problems:
            _log.warning("%s: %s; whatever it held is not held", problem.path, problem.message)
        return found

    def _seen(self, commits: Iterable[Commit], noted: FirstSeen) -> dict[str, datetime]:
        """By id; what was written down counts only for those whose writers are trusted: nobody else can take the id
        of a backup to come, and so its time."""
        times = {each.backup.id: each.backup.first_seen for each in commits}
        believed = {each.backup.id for each in commits if self._keys.vouches_for(each.signer)}
        found = {key: noted.times.get(key, time) if key in believed else time for key, time in times.items()}
        return {key: time for key, time in found.items() if time is not None}

    def _note_times(self, present: Iterable[str]) -> None:
        commits, _damaged = self._commits()
        noted = read_first_seen(self._storage, self._keys)
        trusted = [each for each in commits if self._keys.vouches_for(each.signer)]
        write_first_seen(self._storage, self._keys, noted, self._seen(trusted, noted), present=frozenset(present))


def _unreadable(item: Listed) -> Backup:
    return Backup(id=item.id, time=item.time, host="", name="", mode="", engine="dedup", status=Status.DAMAGED)
