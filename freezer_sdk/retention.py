"""Retention of an open repository: what a policy keeps, holds, and bringing back what was forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from freezer_sdk import identity
from freezer_sdk import selection as select
from freezer_sdk.errors import BackupNotFound, ConfigurationError, PolicyRefusal
from freezer_sdk.model import Backup, EventHandler
from freezer_sdk.policy import retention as rules
from freezer_sdk.retention_model import (
    MAX_REASON,
    ForgottenBackup,
    Hold,
    RetentionDecision,
    RetentionPlan,
    RetentionPolicy,
    RetentionReason,
    RetentionState,
)
from freezer_sdk.selection import BackupFilter
from freezer_sdk.services.base import RetentionService
from freezer_sdk.streams.cancel import CancelToken
from freezer_sdk.subject import texts

if TYPE_CHECKING:
    from freezer_sdk.browsing import Browser


class Retention:
    """What is kept in a repository, and for how long; ``freezer.retention`` gives one.

    ::

        policy = RetentionPolicy(keep_daily=7, keep_weekly=5, keep_monthly=12)
        for group in freezer.retention.plan(policy).groups:
            for decision in group.decisions:
                print(decision.backup.short_id, decision.keep, decision.reasons)
        freezer.retention.apply(policy)
    """

    def __init__(self, freezer: Browser) -> None:
        self._freezer, self._boundary = freezer, freezer._boundary

    def plan(
        self,
        policy: RetentionPolicy,
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
    ) -> RetentionPlan:
        """What a policy says of every backup; writes nothing.

        Args:
            policy: the rules.
            name, host: only backups that are exactly so take part.
            tags: only backups that have all of them take part.

        Raises:
            ConfigurationError: the policy makes no sense.
            AccessDenied, StorageError, IntegrityError.
        """
        rules.check_policy(policy)
        wanted = BackupFilter(name=name, host=host, tags=texts(tags, "tags"))
        return self._plan(policy, self._state(), wanted)

    def apply(
        self,
        policy: RetentionPolicy,
        *,
        name: str | None = None,
        host: str | None = None,
        tags: Sequence[str] = (),
        dry_run: bool = False,
        force: bool = False,
        events: EventHandler | None = None,
        cancel: CancelToken | None = None,
    ) -> RetentionPlan:
        """Forgets what a policy does not keep; until maintenance sweeps, :meth:`undelete` brings it back.

        An engine without the capability ``undelete`` deletes at once.

        Args:
            policy: the rules.
            name, host: only backups that are exactly so take part.
            tags: only backups that have all of them take part.
            dry_run: forget nothing.
            force: forget more of a group than the policy allows.
            events: as for :class:`~freezer_sdk.client.Freezer`, which is not called then.
            cancel: ends the run before anything is forgotten.

        Returns:
            What was decided, and why. ``applied`` tells whether it was done.

        Raises:
            PolicyRefusal: of some group more would be forgotten than the policy allows; nothing was forgotten.
            ConfigurationError: the policy makes no sense.
            AccessDenied, StorageError, IntegrityError, Cancelled.
        """
        rules.check_policy(policy)
        wanted = BackupFilter(name=name, host=host, tags=texts(tags, "tags"))
        operation = self._freezer._operation("forget", events, cancel)
        operation.start(dry_run=dry_run)
        plan = self._plan(policy, self._state(), wanted)
        if not dry_run:
            if not force:
                rules.check_share(plan)
            operation.context.cancel.check()
            decisions = [each for group in plan.groups for each in group.decisions if not each.keep]
            with self._boundary.guard():
                self._service().forget({each.backup.id: _why(each) for each in decisions})
            plan = replace(plan, applied=True)
        operation.finish(forgotten=len(plan.forgotten), kept=len(plan.kept))
        return plan

    def hold(self, backup: str, *, reason: str, until: datetime | None = None) -> Hold:
        """Forbids to forget a backup, by a policy or by its id.

        Several holds of one backup stand beside each other; it is held while any of them is in force.

        Args:
            backup: ``ID`` or ``latest``.
            reason: why, for those who want to forget it.
            until: when the hold ends; without a zone: local time; by default it does not.

        Raises:
            ConfigurationError: the end has passed, or the reason is empty or too long.
            BackupNotFound, AmbiguousError, AccessDenied, StorageError.
        """
        if not reason.strip() or len(reason) > MAX_REASON:
            raise ConfigurationError(f"a hold needs a reason, of at most {MAX_REASON} characters")
        end = None if until is None else select.as_utc(until)
        if end is not None and end <= datetime.now(UTC):
            raise ConfigurationError(f"the hold would have ended already, at {end.isoformat()}")
        found = self._freezer.find_backup(backup)
        with self._boundary.guard():
            return self._service().hold(found.id, reason=reason, until=end)

    def release(self, backup: str) -> Sequence[Hold]:
        """Ends all holds of a backup.

        Args:
            backup: ``ID`` or ``latest``.

        Returns:
            The holds that were in force.

        Raises:
            PolicyRefusal: it is not held.
            BackupNotFound, AmbiguousError, ConfigurationError, AccessDenied, StorageError.
        """
        found = self._freezer.find_backup(backup)
        with self._boundary.guard():
            ended = self._service().release(found.id)
        if not ended:
            raise PolicyRefusal(f"backup {found.short_id} is not held")
        return ended

    def holds(self) -> Sequence[Hold]:
        """All holds in force, the oldest first.

        Raises:
            AccessDenied, StorageError.
        """
        with self._boundary.guard():
            return self._service().holds()

    def forgotten(self) -> Sequence[ForgottenBackup]:
        """Backups that can be brought back, the oldest first.

        Raises:
            ConfigurationError: the engine deletes at once.
            AccessDenied, StorageError, IntegrityError.
        """
        self._refuse_final()
        with self._boundary.guard():
            return self._service().forgotten()

    def undelete(self, backup: str, *, events: EventHandler | None = None, cancel: CancelToken | None = None) -> Backup:
        """Brings a forgotten backup back, as long as maintenance has not let go of it.

        Args:
            backup: the id that it had, or the start of it.
            events: as for :class:`~freezer_sdk.client.Freezer`, which is not called then.
            cancel: ends the run, with nothing changed.

        Returns:
            The backup. It has another id, and all else as before.

        Raises:
            BackupNotFound: no such backup was forgotten, or maintenance has let it go.
            AmbiguousError: several ids start so.
            IntegrityError: something of it is damaged.
            ConfigurationError: also where the engine deletes at once.
            AccessDenied, LeaseLost, StorageError, Cancelled.
        """
        self._refuse_final()
        service = self._service()
        found = self._choose(backup)
        operation = self._freezer._operation("undelete", events, cancel)
        operation.start(backup=found)
        with self._boundary.guard(), self._freezer._place.watching(operation.context.cancel):
            result = service.undelete(found, operation.context)
        operation.finish(size=result.stats.bytes, id=result.id)
        return result

    def _refuse_final(self) -> None:
        if not self._freezer.capabilities.undelete:
            engine = self._freezer._place.engine.name
            raise ConfigurationError(f"the engine {engine} deletes what is forgotten at once: nothing comes back")

    # -- steps ---------------------------------------------------------------------------------------------

    def _service(self) -> RetentionService:
        repository = self._freezer._opened()
        with self._boundary.guard():
            return repository.retention()

    def _state(self) -> RetentionState:
        with self._boundary.guard():
            return self._service().state()

    def _plan(self, policy: RetentionPolicy, state: RetentionState, wanted: BackupFilter) -> RetentionPlan:
        return rules.plan(
            [backup for backup in state.backups if wanted(backup)],
            policy,
            now=state.now,
            seen=state.seen,
            holds=state.holds,
            apart=state.apart,
            known=state.known,
            needs=state.needs,
        )

    def _choose(self, selector: str) -> str:
        """The full id of a forgotten backup."""
        if selector == select.LATEST:
            raise ConfigurationError("what was forgotten is chosen by its id")
        with self._boundary.guard():
            candidates = [each.backup for each in self._service().forgotten()]
        try:
            return select.choose_backup(candidates, selector, wanted=BackupFilter(), this_host=identity.host_name()).id
        except BackupNotFound:
            pass
        everything = [each for each in self._freezer.backups() if each.id.startswith(selector.lower())]
        if everything:
            raise BackupNotFound(f"backup {everything[0].short_id} is there: it was not forgotten")
        raise BackupNotFound(
            f"there is no forgotten backup {selector!r} that could come back",
            hint="freezer backup undelete without an id lists those that can",
        )


def _why(decision: RetentionDecision) -> str:
    """What a tombstone says."""
    return "policy: " + "; ".join(_reason(reason) for reason in decision.reasons)


def _reason(reason: RetentionReason) -> str:
    taken = f" has {reason.taken_by[:8]}" if reason.taken_by else ""
    return f"{reason.rule} {reason.slot}".strip() + taken
