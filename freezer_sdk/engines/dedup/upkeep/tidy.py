"""Old control objects go: leases of writers that have ended, marks and sweeps whose work is done."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.lease import NAME, PREFIX
from freezer_sdk.engines.dedup.upkeep.living import Living
from freezer_sdk.storages.base import Storage

_KEPT: Final = 32
"""Grace times for which decisions stay, 30 days at least. They tell which packs were deleted, to those who find one in
an index that was stored late. Nobody sleeps for so long between a look at his lease and the index that he stores."""
_KEPT_AT_LEAST: Final = timedelta(days=30)


def old_leases(
    storage: Storage,
    leases: Collection[protocol.LeaseState],
    *,
    own: str,
    unheard: Collection[str],
    now: datetime,
    old: timedelta,
) -> list[str]:
    """Names of lease objects whose holders have ended, or are dead.

    Args:
        leases: but for one's own.
        own: id of the lease that stays.
        unheard: names of commits that no decision knows yet. Their leases are all that tells of them, should a listing
            of backups ever lack them.
        old: how long a lease may not be refreshed before its holder is dead for certain.

    Raises:
        StorageError.
    """
    ended = {
        lease.id
        for lease in leases
        if lease.backup not in unheard and (lease.closed or is_dead(lease, now=now, old=old))
    }
    known = {own, *(lease.id for lease in leases)}
    names = []
    for info in storage.list(PREFIX):
        match = NAME.match(info.name)
        if match and (match[1] in ended or (match[1] not in known and now - info.modified > old)):
            names.append(info.name)
    return names


def is_dead(lease: protocol.LeaseState, *, now: datetime, old: timedelta) -> bool:
    """Whether nothing that the holder still does can count."""
    return now - lease.refreshed > old


def old_deletions(
    marks: protocol.Marks,
    sweeps: protocol.Sweeps,
    living: Living,
    *,
    present: Collection[bytes],
    named: Collection[bytes],
    now: datetime,
    old: timedelta,
) -> list[str]:
    """Names of marks, announcements and decisions that say nothing any more.

    Args:
        living: the backups that are there.
        present: packs that are there.
        named: packs that an index names.
        old: the grace time.
    """
    there = {*present, *named}
    return [*_old_marks(marks, sweeps, there, now, old), *_old_sweeps(sweeps, living, there, now, old)]


def _old_marks(
    marks: protocol.Marks, sweeps: protocol.Sweeps, there: Collection[bytes], now: datetime, old: timedelta
) -> list[str]:
    """Those that were swept long enough ago, and whose packs are gone, from all indexes too."""
    swept = max((each.generation for each in sweeps.decisions if now - each.stored > old), default=0)
    return [mark.name for mark in marks.marks if mark.generation <= swept and mark.packs.isdisjoint(there)]


def _old_sweeps(
    sweeps: protocol.Sweeps, living: Living, there: Collection[bytes], now: datetime, old: timedelta
) -> list[str]:
    """The newest generation always stays.

    A decision stays while it makes a backup void that nothing else does, while a pack or commit that it gave up is
    there or is named, and for long enough after that.
    """
    newest = max((decision.generation for decision in sweeps.decisions), default=0)
    kept = max(_KEPT * old, _KEPT_AT_LEAST)

    def done(decision: protocol.Decision) -> bool:
        return (
            decision.generation < newest
            and now - decision.stored > kept
            and decision.condemned.isdisjoint(there)
            and decision.released.isdisjoint(living.listed)
        )

    going = [decision for decision in sweeps.decisions if done(decision)]
    staying = protocol.Sweeps(
        generation=sweeps.generation,
        announcements=(),
        decisions=tuple(decision for decision in sweeps.decisions if decision not in going),
        problems=(),
    )
    alive = (*living.commits.items(), *living.forged.items())
    if living.void or any(
        staying.void(name, commit.generation) != sweeps.void(name, commit.generation) for name, commit in alive
    ):
        return []
    names = [decision.name for decision in going]
    return names + [each.name for each in sweeps.announcements if each.generation < newest and now - each.stored > kept]
