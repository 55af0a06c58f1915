"""Which backups must stay whole, and when nothing may be deleted since that cannot be told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.catalog import Catalog, Listed
from freezer_sdk.engines.dedup.commit import Commit
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.layout import parse_backup_name
from freezer_sdk.engines.dedup.unlisted import find_object, short_listing
from freezer_sdk.errors import IntegrityError, RepositoryError, StorageUnavailable

_NAMED: Final = 10  # backups in a message
_FEW: Final = 16  # commits that are not worth several threads


@dataclass(frozen=True, kw_only=True)
class Living:
    """The backups of a repository, by the names of their commit objects.

    Attributes:
        commits: that count.
        forged: whose signers had no right to make them. They stay, and what they need: a slot may get the right again.
        spared: that were forgotten so short a time ago that somebody may still want them back. They stay, too.
        forgotten: what only they need may go.
        void: that a decision does not know; they never count again.
        listed: all that are there.
    """

    commits: Mapping[str, Commit]
    forged: Mapping[str, Commit]
    spared: Mapping[str, Commit]
    forgotten: frozenset[str]
    void: frozenset[str]
    listed: frozenset[str]

    @property
    def alive(self) -> list[str]:
        """Names for a decision."""
        return sorted({*self.commits, *self.forged, *self.spared})


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
    spare: datetime | None = None,
    forget_missing: bool = False,
) -> Living:
    """Lists backups, gets by name those that leases name, and opens all that count.

    Args:
        begun: what was stored before this time must be listed.
        spare: what was forgotten at this time or later is not let go yet; ``None``: everything forgotten is.
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
    known = {*listed, *(name for decision in sweeps.decisions for name in decision.alive)}
    ids = {parsed[1] for name in known if (parsed := parse_backup_name(name))}
    read = protocol.read_tombstones(handle.storage, handle.keys, among=ids)
    tombstones = read.ids
    missing = _missing(handle, catalog, sweeps, listed, tombstones)
    if missing and not forget_missing:
        raise _gone(missing)
    for name in missing:
        parsed = parse_backup_name(name)
        if parsed is not None:
            protocol.write_tombstone(handle.storage, handle.keys, parsed[1], reason="gone from the storage")
    counting = [item for item in listed.values() if item.id not in tombstones]
    if len(counting) > _FEW:
        _fetch(catalog, counting, threads=handle.storage.max_parallel)
    found = _open(catalog, sweeps, counting)
    fresh = {each.backup for each in read.tombstones if spare is not None and each.stored >= spare}
    spared = _spared(catalog, sweeps, [item for item in listed.values() if item.id in fresh])
    forgotten = {item.name for item in listed.values() if item.id in tombstones}
    return Living(
        commits=found.commits,
        forged=found.forged,
        spared=spared,
        forgotten=frozenset(forgotten - spared.keys()),
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


def _fetch(catalog: Catalog, items: Sequence[Listed], *, threads: int) -> None:
    """Opens several at once; the catalog remembers them. What is wrong with one is found out again later."""

    def fetch(item: Listed) -> None:
        with suppress(RepositoryError):
            catalog.open(item)

    with ThreadPoolExecutor(max_workers=max(1, threads), thread_name_prefix="freezer-commits") as pool:
        for _ in pool.map(fetch, items):
            pass


def _open(catalog: Catalog, sweeps: protocol.Sweeps, items: Iterable[Listed]) -> _Found:
    """Opens everything that is not forgotten.

    Raises:
        IntegrityError: one that may count cannot be read.
    """
    same: defaultdict[str, list[Listed]] = defaultdict(list)
    for item in sorted(items):
        same[item.id].append(item)
    found = _Found()
    damaged: list[tuple[Listed, RepositoryError]] = []
    for objects in same.values():
        judged = catalog.judge(objects, sweeps)
        damaged += judged.damaged
        found.commits.update(judged.counting)
        found.forged.update({forged.listed.name: forged.commit for forged in judged.forged})
        found.void.update(item.name for item in judged.void)
        if not (judged.counting or judged.forged or judged.void or judged.damaged):
            raise StorageUnavailable(f"{objects[0].name} is listed and cannot be fetched", hint="try again")
    if damaged:
        raise _unreadable(damaged)
    return found


def _spared(catalog: Catalog, sweeps: protocol.Sweeps, items: Iterable[Listed]) -> dict[str, Commit]:
    """Those that could be brought back; one that cannot be read is none, and stops nobody."""
    found: dict[str, Commit] = {}
    for item in items:
        found.update(catalog.judge([item], sweeps).counting)
    return found


def _unreadable(damaged: Sequence[tuple[Listed, RepositoryError]]) -> IntegrityError:
    (first, error), count = damaged[0], len(damaged)
    title = first.name if count == 1 else f"{first.name} and {count - 1} more"
    ids = " ".join(item.id[:8] for item, _error in damaged[:_NAMED]) + (" ..." if count > _NAMED else "")
    return IntegrityError(
        f"{title} cannot be read, so it is not known what is needed, and nothing may be deleted: {error}",
        hint=f"freezer repository repair may bring it back; freezer backup delete {ids} gives it up",
    )


def _gone(missing: list[str]) -> IntegrityError:
    count = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return IntegrityError(
        f"{missing[0]}{count} is gone from the storage, and nobody has forgotten it: nothing may be deleted now",
        hint="find out who removed it, and bring it back from a copy; freezer repository prune --forget-missing "
        "gives it up",
    )
