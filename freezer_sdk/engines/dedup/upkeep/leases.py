"""Who is at work in a repository, and taking away the leases of those who provably are not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import BACKUPS, parse_backup_name
from freezer_sdk.engines.dedup.lease import MAINTENANCE, PREFIX, LeaseState, read_leases
from freezer_sdk.engines.dedup.upkeep.tidy import is_dead
from freezer_sdk.errors import ConfigurationError, RepositoryLocked
from freezer_sdk.upkeep_model import LeaseInfo, LeaseStatus


def lease_infos(handle: Handle) -> list[LeaseInfo]:
    """All leases, the oldest first.

    Raises:
        StorageError.
    """
    now, old = handle.storage.now(), age_of_death(handle)
    infos = [_info(handle, lease, now=now, old=old) for lease in read_leases(handle.storage, handle.keys).leases]
    return sorted(infos, key=lambda info: (info.opened, info.id))


def unlock(handle: Handle, leases: Sequence[str]) -> list[LeaseInfo]:
    """Removes leases whose holders have ended or are dead; marks need not wait for those in any case.

    Args:
        leases: ids, or their beginnings; none: all such leases, but for those whose backups were made: they tell of
            them until a prune has taken note.

    Returns:
        Those that were removed.

    Raises:
        RepositoryLocked: the holder of a named lease may be at work.
        ConfigurationError: no lease, or several, begin so.
        AccessDenied: the slot may not maintain.
        StorageError.
    """
    handle.keys.require_role(Role.MAINTAINER)
    known = lease_infos(handle)
    chosen = [_choose(known, lease) for lease in leases]
    if not leases:
        listed = (parse_backup_name(item.name) for item in handle.storage.list(BACKUPS))
        made = {parsed[1] for parsed in listed if parsed is not None}
        chosen = [info for info in known if _ended(info) and info.backup not in made]
    for info in chosen:
        if not _ended(info):
            raise RepositoryLocked(
                f"the lease {info.id[:8]} of {info.holder or 'somebody'}{f' on {info.host}' if info.host else ''} is "
                f"in use: it was refreshed at {info.refreshed:%F %T} UTC",
                hint=f"if its holder has died: it is dead from {info.expires:%F %T} UTC on, by the storage's clock",
            )
    names = [item.name for info in chosen for item in handle.storage.list(f"{PREFIX}{info.id}/")]
    handle.storage.delete_many(names)
    return chosen


def age_of_death(handle: Handle) -> timedelta:
    """How long a lease may not be refreshed before nothing that its holder does can count."""
    capabilities = handle.storage.capabilities
    return handle.keys.config.longest_grace + capabilities.listing_lag + capabilities.clock_resolution


def _ended(info: LeaseInfo) -> bool:
    return info.status is not LeaseStatus.OPEN


def _choose(known: Sequence[LeaseInfo], wanted: str) -> LeaseInfo:
    found = [info for info in known if info.id.startswith(wanted)] if wanted else []
    if len(found) != 1:
        raise ConfigurationError(
            f"{len(found) or 'no'} leases begin with {wanted!r}", hint="freezer repository leases lists them"
        )
    return found[0]


def _info(handle: Handle, lease: LeaseState, *, now: datetime, old: timedelta) -> LeaseInfo:
    slot = None if lease.slot is None else handle.keys.config.slot(lease.slot)
    parsed = None if lease.backup is None else parse_backup_name(lease.backup)
    purpose = "maintenance" if lease.backup == MAINTENANCE else "backup" if parsed else "unknown"
    status = LeaseStatus.DEAD if is_dead(lease, now=now, old=old) else LeaseStatus.OPEN
    return LeaseInfo(
        id=lease.id,
        purpose=purpose,
        holder="" if lease.slot is None else (slot.label if slot and slot.label else lease.slot.hex()[:8]),
        host=lease.host,
        backup=None if parsed is None else parsed[1],
        opened=lease.opened,
        refreshed=lease.refreshed,
        expires=lease.refreshed + old,
        status=LeaseStatus.CLOSED if lease.closed else status,
    )
