"""A prune: what an earlier one marked is swept when it is due, then what nobody needs is marked.

The order of everything is that of repository-format, "Maintenance". A run that dies anywhere leaves a repository in
which every backup is whole; the next run goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import features, protocol
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.index import PackRows
from freezer_sdk.engines.dedup.keyholders import reload
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.lease import boottime
from freezer_sdk.engines.dedup.upkeep.claim import Claim, Wait
from freezer_sdk.engines.dedup.upkeep.epochs import packs_of_earlier_epochs
from freezer_sdk.engines.dedup.upkeep.holdings import FixedReader, Holdings, read_holdings
from freezer_sdk.engines.dedup.upkeep.indexes import IndexMerge
from freezer_sdk.engines.dedup.upkeep.living import Living, read_living, still_void
from freezer_sdk.engines.dedup.upkeep.plan import Due, PackFigures, Plan, choose, find_due
from freezer_sdk.engines.dedup.upkeep.reach import Reach
from freezer_sdk.engines.dedup.upkeep.rewrite import Rewriter
from freezer_sdk.engines.dedup.upkeep.spare import SpareStorage
from freezer_sdk.engines.dedup.upkeep.tidy import is_dead, old_deletions, old_leases
from freezer_sdk.engines.dedup.upkeep.usage import Usage
from freezer_sdk.errors import IntegrityError, RepositoryLocked, StorageFull
from freezer_sdk.model import Event, Problem
from freezer_sdk.upkeep_model import PruneOptions, PruneResult

_AT_ONCE: Final = 1000  # names that are deleted in one go
_MANY_UNHEARD: Final = 64  # backups that no decision knows: their leases pile up


class Prune:
    """One run. Call :meth:`run` once.

    Args:
        clock: seconds, for the age of the run's own lease.
        wait: how to sleep, where a storage's listings lag.
    """

    _claim: Claim | None = None
    _leases: tuple[protocol.LeaseState, ...]
    _marks: protocol.Marks
    _sweeps: protocol.Sweeps
    _due: Due
    _living: Living
    _holdings: Holdings
    _reader: FixedReader
    _usage: Usage
    _saved: Usage  # what a sweep must leave behind
    _rewriter: Rewriter
    _now: datetime
    _grace: timedelta
    _slack: timedelta

    def __init__(
        self,
        handle: Handle,
        options: PruneOptions,
        context: Context,
        *,
        clock: Callable[[], float] = boottime,
        wait: Wait = time.sleep,
    ) -> None:
        self._storage = SpareStorage(handle.storage)
        self._handle, self._keys = replace(handle, storage=self._storage), handle.keys
        self._options, self._context = options, context
        self._clock, self._wait = clock, wait
        self._result = PruneResult(dry_run=options.dry_run)
        self._problems: list[Problem] = []
        self._gone: set[bytes] = set()  # packs that a decision condemns, or that are not there
        self._released: frozenset[str] = frozenset()  # commit objects that a decision lets go
        self._decided = False
        self._removed_indexes: list[str] = []

    def run(self) -> PruneResult:
        """Sweeps and marks.

        Raises:
            RepositoryLocked: somebody else maintains the repository.
            IntegrityError: damage makes it unknown what backups need; nothing was deleted.
            AccessDenied, StorageError, RepositoryError, Cancelled.
        """
        started = time.monotonic()
        for role in (Role.MAINTAINER, Role.WRITER):
            self._keys.require_role(role)
        self._keys = reload(self._storage, self._keys)  # the grace time may have been changed
        if not self._options.dry_run:  # before anything is compressed so
            needed = features.read_features(self._handle.settings.compression, self._handle.compressors)
            self._keys = features.announce(self._storage, self._keys, needed)
        self._handle = replace(self._handle, keys=self._keys)
        self._keys.require("maintain")
        capabilities = self._storage.capabilities
        self._grace = max(self._keys.config.longest_grace, 2 * capabilities.listing_lag)
        self._slack = capabilities.listing_lag + capabilities.clock_resolution
        if self._options.dry_run:
            self._now = self._storage.now()
            self._look()
            self._foresee()
        else:
            self._prune()
        for problem in self._problems:
            self._context.events(Event(kind="problem", operation="prune", path=problem.path, problem=problem))
        duration = round(time.monotonic() - started, 3)
        return replace(self._result, duration=duration, problems=tuple(self._problems))

    def _prune(self) -> None:
        with Claim(self._storage, self._keys, clock=self._clock, wait=self._wait) as claim:
            self._claim, self._now = claim, claim.opened
            try:
                self._look()
                self._rewriter = Rewriter(self._handle, self._reader, keep=self._keep, cancel=self._context.cancel)
                if self._due.generation:
                    self._sweep()
                self._clear()
                self._mark(self._plan())
                self._tidy()
                self._result = replace(self._result, rewritten_bytes=self._rewriter.rewritten)
                self._problems += self._rewriter.problems
            finally:
                self._storage.restore(self._handle.settings.reserve)

    def _look(self) -> None:
        """Reads everything; what seems lost because somebody else deletes it at the same time is no damage."""
        try:
            self._read_all()
        except IntegrityError as error:
            known = {decision.name for decision in self._sweeps.decisions}
            if known.issuperset(each.name for each in protocol.read_sweeps(self._storage, self._keys).decisions):
                raise
            raise RepositoryLocked(
                "another prune deletes packs at this moment, so that not everything could be read; this one stops",
                hint="wait until that is done; freezer repository leases shows who is at work",
            ) from error

    def _read_all(self) -> None:
        """In the order that the protocol asks for. A sweep is announced before backups are listed."""
        storage, keys = self._storage, self._keys
        own = "" if self._claim is None else self._claim.lease.id
        leases = protocol.read_leases(storage, keys, tick=self._keep)
        self._leases = tuple(lease for lease in leases.leases if lease.id != own)
        self._read_control()
        self._keep()
        self._due = find_due(
            self._marks, self._sweeps, self._leases, now=self._now, grace=self._grace, slack=self._slack
        )
        if self._due.generation and self._claim is not None:
            protocol.announce(storage, keys, self._due.generation)
            storage.flush()
            lag = storage.capabilities.listing_lag
            if lag:  # a commit that this listing lacks is one whose writer sees the announcement
                self._wait(2 * lag.total_seconds())
        self._living = read_living(
            self._handle,
            self._sweeps,
            self._leases,
            begun=self._now - self._slack,
            spare=self._now - self._grace - self._slack if self._due.generation else None,
            forget_missing=self._options.forget_missing and self._claim is not None,
        )
        self._keep()
        if storage.capabilities.listing_lag:  # the indexes of all backups that were listed are listed then
            self._wait(storage.capabilities.listing_lag.total_seconds())
        if self._due.generation:
            self._read_control()
        decided = frozenset[bytes]().union(*(decision.condemned for decision in self._sweeps.decisions))
        condemned = self._marks.condemned | decided
        self._holdings = read_holdings(self._handle, condemned, self._since, gone=decided, tick=self._keep)
        self._problems += self._holdings.problems
        reach = Reach(self._handle, self._living, self._holdings, self._due.packs, condemned, tick=self._keep)
        self._reader, self._usage, self._saved = reach.reader, reach.usage, reach.saved
        self._problems += reach.problems
        self._result = replace(self._result, backups=len(self._living.commits), held_by=self._due.held_by)

    def _read_control(self) -> None:
        self._marks = protocol.read_marks(self._storage, self._keys)
        self._sweeps = protocol.read_sweeps(self._storage, self._keys)

    @property
    def _since(self) -> datetime:
        """What was stored at this time or later may belong to a backup that is being made."""
        open_leases = [each.opened for each in self._leases if not each.closed and not self._dead(each)]
        return min([self._now, *open_leases]) - self._slack

    def _dead(self, lease: protocol.LeaseState) -> bool:
        return is_dead(lease, now=self._now, old=self._grace + self._slack)

    def _keep(self) -> None:
        self._context.cancel.check()
        if self._claim is not None:
            self._claim.keep()

    def _sweep(self) -> None:
        """Saves what is needed from packs that are due, and decides."""
        assert self._claim is not None
        self._tell("sweep")
        due = self._due.packs
        try:
            stuck = self._rewriter.copy(self._saved, due, adopted=self._unnamed)
        except StorageFull as error:
            self._full(error)
            stuck = {pack for (_kind, pack), use in self._saved.packs().items() if use.used}
        condemned = due - stuck
        self._claim.lease.check()
        protocol.decide(
            self._storage,
            self._keys,
            self._due.generation,
            condemned=condemned,
            alive=self._living.alive,
            released=self._living.forgotten,
        )
        self._storage.flush()
        self._gone |= condemned
        self._released, self._decided = self._living.forgotten, True

    @property
    def _unnamed(self) -> list[PackRows]:
        """Packs that are needed and in no readable index: it was lost, or a run that was to store it died."""
        adopted = self._holdings.adopted
        use = self._saved.packs() if adopted else {}
        return [rows for rows in adopted if use[rows.kind, rows.digest].used]

    def _clear(self) -> None:
        """Deletes what decisions gave up, this run's and those of runs that died; commits, then indexes, then packs."""
        decisions, holdings = self._sweeps.decisions, self._holdings
        self._gone = self._gone.union(*(decision.condemned for decision in decisions)) | holdings.absent()
        living, handle = self._living, self._handle
        released = self._released.union(*(decision.released for decision in decisions)) & living.forgotten
        void = {name for name in living.void if still_void(handle, name, self._sweeps)}
        self._delete(sorted(released | void))
        going = [info for (_kind, pack), info in sorted(holdings.packs.items()) if pack in self._gone]
        merge = IndexMerge(self._handle, holdings, keep=self._keep)
        try:
            self._removed_indexes = merge.run(self._gone)
        except StorageFull as error:  # the decision keeps writers away from what indexes still name
            self._full(error)
            self._delete([info.name for info in going])
            self._storage.flush()
            self._removed_indexes = merge.run(self._gone)
        self._delete([info.name for info in going])
        self._result = replace(
            self._result,
            released_backups=len(released),
            freed_packs=len(going),
            freed_bytes=sum(info.size for info in going),
        )

    def _plan(self) -> Plan:
        """Which packs are to go next."""
        holdings, since, usage = self._holdings, self._since, self._usage.packs()
        waiting = frozenset[bytes]().union(*(mark.packs for mark in self._due.waiting))
        urgent = set(self._due.spent | self._due.packs) - self._gone
        if self._options.old_keys:
            candidates = {key: info for key, info in holdings.packs.items() if key[1] not in waiting | self._gone}
            urgent |= packs_of_earlier_epochs(self._handle, candidates, tick=self._keep)
        figures = []
        for (kind, pack), info in holdings.packs.items():
            if pack in self._gone or pack in waiting:
                continue
            use = usage.get((kind, pack))
            known = use is not None and use.total > 0
            needed = -(-info.size * use.used // use.total) if use is not None and known else 0
            fixed = info.modified >= since or pack in holdings.unreadable or pack in holdings.recent
            figures.append(PackFigures(kind, pack, info.size, needed, fixed, pack in urgent))
        plan = choose(
            figures,
            max_waste=self._options.max_waste,
            max_rewrite=self._options.max_rewrite,
            pack_size=self._handle.settings.pack_size,
        )
        self._result = replace(
            self._result,
            needed_bytes=sum(each.needed for each in figures),
            wasted_bytes=plan.wasted,
            waiting_packs=len(holdings.there(waiting)),
            waiting_bytes=holdings.size(waiting),
            stored_bytes=sum(each.size for each in figures) + holdings.size(waiting),
        )
        return plan

    def _mark(self, plan: Plan) -> None:
        """Stores again what is needed of the packs to go, then marks them."""
        self._tell("mark")
        packs = set(plan.dead)
        try:
            if not self._decided:
                self._rewriter.copy(self._usage, (), adopted=self._unnamed)
            if plan.rewrite:
                for pack in plan.dead | plan.rewrite:
                    self._holdings.index.distrust(pack)
                packs |= plan.rewrite - self._rewriter.copy(self._usage, plan.rewrite)
        except StorageFull as error:
            self._full(error)
        # a mark of no pack lets a later sweep write down which backups there are, and let forgotten ones go
        many = bool(self._living.forgotten - self._released) or len(self._unheard) > _MANY_UNHEARD
        wanted = bool(packs) or (many and not self._due.waiting)
        if wanted:
            self._keep()
            protocol.write_mark(self._storage, self._keys, packs)
            self._storage.flush()
        self._count_marked(packs, self._storage.now() if wanted else None)

    @property
    def _unheard(self) -> set[str]:
        """Backups that no decision knows yet."""
        known = frozenset[str]().union(*(decision.alive for decision in self._sweeps.decisions))
        return set() if self._decided else set(self._living.alive) - known

    def _count_marked(self, packs: Collection[bytes], now: datetime | None) -> None:
        size = self._holdings.size(packs)
        times = [mark.stored for mark in self._due.waiting] + ([now] if now else [])
        self._result = replace(
            self._result,
            marked_packs=len(packs),
            marked_bytes=size,
            waiting_packs=self._result.waiting_packs + len(packs),
            waiting_bytes=self._result.waiting_bytes + size,
            due=max(times) + self._grace + self._slack if times else None,
        )

    def _tidy(self) -> None:
        """Removes control objects whose work is done."""
        holdings, removed = self._holdings, set(self._removed_indexes)
        old, own = self._grace + self._slack, "" if self._claim is None else self._claim.lease.id
        names = old_leases(self._storage, self._leases, own=own, unheard=self._unheard, now=self._now, old=old)
        if not holdings.damaged:  # what they name is not known
            names += old_deletions(
                self._marks,
                self._sweeps,
                self._living,
                present={pack for _kind, pack in holdings.packs if pack not in self._gone},
                named={pack for each in holdings.objects if each.name not in removed for pack in each.packs},
                now=self._now,
                old=old,
            )
        self._delete(names)

    def _foresee(self) -> None:
        """What a run that writes would do."""
        due = self._holdings.there(self._due.packs)
        self._gone |= due.union(*(decision.condemned for decision in self._sweeps.decisions))
        going = self._holdings.there(self._gone)
        saved = sum(use.used for (_kind, pack), use in self._saved.packs().items() if pack in due)
        plan = self._plan()
        packs = plan.dead | plan.rewrite
        rewritten = sum(use.used for (_kind, pack), use in self._usage.packs().items() if pack in plan.rewrite)
        released = self._living.forgotten if self._due.generation else frozenset()
        self._result = replace(
            self._result,
            freed_packs=len(going),
            freed_bytes=self._holdings.size(going),
            released_backups=len(released),
            rewritten_bytes=saved + rewritten,
        )
        self._count_marked(packs, self._now if packs else None)

    def _delete(self, names: Sequence[str]) -> None:
        """Deletes objects, and sees to the lease between them."""
        for begin in range(0, len(names), _AT_ONCE):
            self._keep()
            self._storage.delete_many(names[begin : begin + _AT_ONCE])

    def _full(self, error: StorageFull) -> None:
        message = f"nothing could be written anew, since there is no space; the next prune does it: {error}"
        self._problems.append(Problem(path=self._storage.location, kind="full", message=message, fatal=False))

    def _tell(self, phase: str) -> None:
        self._context.events(Event(kind="progress", operation="prune", path=phase))
