"""Which backups must stay whole, and when nothing may be deleted since that cannot be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.catalog import Catalog, Listed
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.layout import parse_backup_name
from freezer_sdk.engines.dedup.unlisted import find_object, short_listing
from freezer_sdk.errors import IntegrityError, StorageUnavailable


@dataclass(frozen=True, kw_only=True)
class Living:
    """The backups of a repository, by the names of their commit objects.

    Attributes:
        commits: that count.
        forged: whose signers had no right to make them. They stay, and what they need: a slot may get the right again.
        forgotten: what only they need may go.
        void: that a decision does not know; they never count again.
        listed: all that are there.
    """

    commits: Mapping[str, Commit]
    forged: Mapping[str, Commit]
    forgotten: frozenset[str]
    void: frozenset[str]
    listed: frozenset[str]

    @property
    def alive(self) -> list[str]:
        """Names for a decision."""
        return sorted({*self.commits, *self.forged})


@dataclass
class _Found:
    commits: dict[str, Commit] = field(default_factory=dict)
    forged: dict[str, Commit] = field(default_factory=dict)
    void: set[str] = field(default_factory=set)


def read_living(
    handle: Handle,
    sweeps: protocol.Sweeps,
    leases: Iterable[protocol.LeaseState],
    *,
    begun: datetime,
    forget_missing: bool = False,
) -> Living:
    """Lists backups, gets by name those that leases name, and opens all that count.

    Args:
        begun: what was stored before this time must be listed.
        forget_missing: write tombstones for backups that are gone.

    Raises:
        IntegrityError: one cannot be read, or is gone though nobody has forgotten it: what it needs is not known.
        StorageUnavailable: the storage lists only a part of what it holds.
        StorageError.
    """
    catalog = Catalog(handle)
    listed = {item.name: item for item in catalog.listed(with_forgotten=True)}
    for name in sorted({lease.backup for lease in leases if lease.backup} - listed.keys()):
        item = catalog.by_name(name) if parse_backup_name(name) else None
        if item is None:
            continue
        info = find_object(handle.storage, name)
        if info is not None and info.modified < begun:
            raise short_listing(handle.storage, name)
        listed[name] = item
    tombstones = protocol.forgotten(handle.storage, handle.keys)
    missing = _missing(handle, catalog, sweeps, listed, tombstones)
    if missing and not forget_missing:
        raise _gone(missing)
    for name in missing:
        parsed = parse_backup_name(name)
        if parsed is not None:
            protocol.write_tombstone(handle.storage, handle.keys, parsed[1], reason="gone from the storage")
    found = _open(catalog, sweeps, [item for item in listed.values() if item.id not in tombstones])
    return Living(
        commits=found.commits,
        forged=found.forged,
        forgotten=frozenset(item.name for item in listed.values() if item.id in tombstones),
        void=frozenset(found.void),
        listed=frozenset(listed),
    )


def still_void(handle: Handle, name: str, sweeps: protocol.Sweeps) -> bool:
    """Whether the object of a commit is void now: a copy of the same backup may have taken its place.

    Raises:
        StorageError.
    """
    catalog = Catalog(handle)
    item = catalog.by_name(name)
    return item is not None and bool(catalog.judge([item], sweeps).void)


def _missing(
    handle: Handle,
    catalog: Catalog,
    sweeps: protocol.Sweeps,
    listed: Mapping[str, Listed],
    tombstones: frozenset[str],
) -> list[str]:
    """Backups that the last decision knew, and that are neither there nor forgotten.

    Raises:
        StorageUnavailable: one of them is there: it was only not listed.
    """
    last = max((decision.generation for decision in sweeps.decisions), default=0)
    known = [decision.alive for decision in sweeps.decisions if decision.generation == last]
    released = frozenset().union(*(decision.released for decision in sweeps.decisions))
    expected = frozenset.intersection(*known) - released if known else frozenset()
    missing = []
    for name in sorted(expected - listed.keys()):
        parsed = parse_backup_name(name)
        if parsed is None or parsed[1] in tombstones:
            continue
        if catalog.by_name(name) is not None:
            raise short_listing(handle.storage, name)
        missing.append(name)
    return missing


def _open(catalog: Catalog, sweeps: protocol.Sweeps, items: Iterable[Listed]) -> _Found:
    """Opens everything that is not forgotten.

    Raises:
        IntegrityError: one that may count cannot be read.
    """
    same: defaultdict[str, list[Listed]] = defaultdict(list)
    for item in sorted(items):
        same[item.id].append(item)
    found = _Found()
    for backup, objects in same.items():
        judged = catalog.judge(objects, sweeps)
        for listed, error in judged.damaged:
            raise IntegrityError(
                f"{listed.name} cannot be read, so it is not known what it needs, and nothing may be deleted: {error}",
                hint=f"freezer repository repair may bring it back; freezer backup delete {backup[:8]} gives it up",
            )
        found.commits.update(judged.counting)
        found.forged.update({forged.listed.name: forged.commit for forged in judged.forged})
        found.void.update(item.name for item in judged.void)
        if not (judged.counting or judged.forged or judged.void):
            raise StorageUnavailable(f"{objects[0].name} is listed and cannot be fetched", hint="try again")
    return found


def _gone(missing: list[str]) -> IntegrityError:
    count = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return IntegrityError(
        f"{missing[0]}{count} is gone from the storage, and nobody has forgotten it: nothing may be deleted now",
        hint="find out who removed it, and bring it back from a copy; freezer repository prune --forget-missing "
        "gives it up",
    )
