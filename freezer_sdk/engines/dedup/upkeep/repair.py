"""``freezer repository repair``: writes what is missing again; nothing is deleted, whatever is wrong with it.

All of it can be interrupted at any moment: packs, then their index, then what relies on them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol
from freezer_sdk.engines.dedup.catalog import Listed
from freezer_sdk.engines.dedup.copy import Source
from freezer_sdk.engines.dedup.damage import note_damaged
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.losses import Losses, write_losses
from freezer_sdk.engines.dedup.page import Content
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.engines.dedup.upkeep.diagnosis import Diagnosis, Other, diagnose, examine
from freezer_sdk.engines.dedup.upkeep.findings import affected, lost_files
from freezer_sdk.engines.dedup.upkeep.refill import Refill
from freezer_sdk.engines.dedup.upkeep.survey import Survey
from freezer_sdk.errors import IntegrityError
from freezer_sdk.model import Event, Problem
from freezer_sdk.upkeep_model import RepairOptions, RepairPlan, RepairResult

OPERATION = "repair"


@dataclass
class _Done:
    """What was stored."""

    added_bytes: int = 0


class Repair:
    """One repair. Call :meth:`plan` or :meth:`run` once.

    Args:
        others: repositories to fetch from what is lost here, in the order in which they are asked.
    """

    def __init__(self, handle: Handle, options: RepairOptions, context: Context, others: Sequence[Other] = ()) -> None:
        self._handle, self._options, self._context = handle.without_cache(), options, context
        self._others = [other for other in others if other.handle.keys.repository_id != handle.keys.repository_id]
        self._started = time.monotonic()

    def plan(self) -> RepairPlan:
        """What is wrong, and what would be done about it; nothing is written.

        Raises:
            AccessDenied, StorageError, Cancelled.
        """
        with self._survey() as survey:
            examine(survey, self._options)
            return diagnose(survey, self._others).plan(survey, self._options)

    def run(self) -> RepairResult:
        """Does what :meth:`plan` says; nothing at all is written where nothing is wrong.

        Raises:
            AccessDenied: the slot may not maintain.
            RepositoryLocked: somebody else maintains the repository.
            StorageError, IntegrityError, LeaseLost, Cancelled: run it again.
        """
        keys = self._handle.keys
        for role in (Role.WRITER, Role.MAINTAINER):
            keys.require_role(role)
        keys.require("maintain")
        with self._survey() as survey:
            examine(survey, self._options)
            diagnosis = diagnose(survey, self._others)
            plan = diagnosis.plan(survey, self._options)
            if not plan.steps:
                return self._result(plan, _Done())
            with Claim(self._handle.storage, keys) as claim:
                if survey.moved_on():  # what was seen may have been deleted since
                    return self._again(claim)
                return self._result(*self._mend(survey, diagnosis, plan, claim))

    def _again(self, claim: Claim) -> RepairResult:
        with self._survey() as survey:
            examine(survey, self._options)
            diagnosis = diagnose(survey, self._others)
            return self._result(*self._mend(survey, diagnosis, diagnosis.plan(survey, self._options), claim))

    def _survey(self) -> Survey:
        self._handle.keys.require_role(Role.READER)
        return Survey(self._handle, self._context, OPERATION)

    # -- steps ---------------------------------------------------------------------------------------------

    def _mend(self, survey: Survey, diagnosis: Diagnosis, plan: RepairPlan, claim: Claim) -> tuple[RepairPlan, _Done]:
        storage, keys, done = self._handle.storage, self._handle.keys, _Done()
        for name, raw in diagnosis.copies.items():
            storage.put(name, [raw])
        if diagnosis.copies:
            storage.flush()
        if diagnosis.stores:
            self._store(survey, diagnosis, claim, done)
        note_damaged(storage, keys, diagnosis.found, diagnosis.cleared)
        claim.keep()
        losses, broken = self._what_is_left(survey, diagnosis)
        write_losses(storage, keys, losses)
        if self._options.forget_broken:
            for item in diagnosis.hopeless:
                protocol.write_tombstone(storage, keys, item.id, reason="its commit is damaged")
            broken -= {item.id for item in diagnosis.hopeless}
        storage.flush()
        lost = tuple(affected(backup, loss) for backup, loss in losses.backups.items())
        return RepairPlan(steps=plan.steps, lost=lost, broken=tuple(sorted(broken))), done

    def _store(self, survey: Survey, diagnosis: Diagnosis, claim: Claim, done: _Done) -> None:
        """Packs, their index, and commits that rely on them."""
        for pack in (*survey.damaged, *(pack for _kind, pack in survey.inventory.missing())):
            survey.inventory.index.distrust(pack)
        refill = Refill(self._handle, survey.reader, claim, self._context.cancel)
        try:
            refill.writer.index_also(diagnosis.orphans)
            refill.blobs(diagnosis.wanted)
            for backup, source in diagnosis.again.items():
                self._try(refill, source, backup)
            commits = [(item, source, self._try(refill, source, item.id)) for item, source in diagnosis.commits]
            refill.finish()
            self._commit(refill, commits)
        finally:
            refill.writer.close()
            done.added_bytes = refill.writer.added_bytes

    def _try(self, refill: Refill, source: Source, backup: str) -> Content | None:
        """Copies a backup again, as far as the other repository has it."""
        try:
            return refill.backup(source)
        except IntegrityError as error:
            message = f"{source.handle.storage.location} does not have it whole, either: {error.message}"
            problem = Problem(path=backup, kind="damaged", message=message, fatal=False)
            self._context.events(Event(kind="problem", operation=OPERATION, path=backup, problem=problem))
            return None

    def _commit(self, refill: Refill, commits: Sequence[tuple[Listed, Source, Content | None]]) -> None:
        for item, source, root in commits:
            if root is not None:
                refill.commit(item, source, root)

    def _what_is_left(self, before: Survey, diagnosis: Diagnosis) -> tuple[Losses, set[str]]:
        """What cannot be restored now that all is stored; only that is written down."""
        with self._survey() as survey:
            survey.damaged = before.damaged
            survey.load()
            survey.walk()
            lost = lost_files(survey.backups.visible, survey.structure)
            blobs = frozenset(blob for kind, blob in survey.places.lost if kind is Kind.DATA)
            return Losses(lost, blobs), {item.id for item, _error in survey.backups.damaged}

    def _result(self, plan: RepairPlan, done: _Done) -> RepairResult:
        return RepairResult(
            steps=plan.steps,
            lost=plan.lost,
            broken=plan.broken,
            added_bytes=done.added_bytes,
            duration=round(time.monotonic() - self._started, 3),
        )
