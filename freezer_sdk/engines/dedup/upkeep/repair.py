"""``freezer repository repair``: writes what is missing again; nothing is deleted, whatever is wrong with it.

All of it can be interrupted at any moment: packs, then their index, then what relies on them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import features, protocol
from freezer_sdk.engines.dedup.catalog import Listed
from freezer_sdk.engines.dedup.copy import Source
from freezer_sdk.engines.dedup.damage import note_damaged
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import Kind
from freezer_sdk.engines.dedup.losses import MAX_BLOBS, Losses, write_losses
from freezer_sdk.engines.dedup.page import Content
from freezer_sdk.engines.dedup.upkeep.claim import Claim
from freezer_sdk.engines.dedup.upkeep.diagnosis import Diagnosis, Other, diagnose, examine
from freezer_sdk.engines.dedup.upkeep.findings import affected, lost_files
from freezer_sdk.engines.dedup.upkeep.refill import Refill
from freezer_sdk.engines.dedup.upkeep.survey import Survey, refreshed
from freezer_sdk.errors import IntegrityError, StorageError, StorageFull, Transient
from freezer_sdk.model import Event, Problem
from freezer_sdk.upkeep_model import RepairOptions, RepairPlan, RepairResult

OPERATION = "repair"


class Repair:
    """One repair. Call :meth:`plan` or :meth:`run` once.

    Args:
        others: repositories to fetch from what is lost here, in the order in which they are asked.
    """

    def __init__(self, handle: Handle, options: RepairOptions, context: Context, others: Sequence[Other] = ()) -> None:
        self._handle, self._options, self._context = handle, options, context
        self._others = [other for other in others if other.handle.keys.repository_id != handle.keys.repository_id]
        self._started = time.monotonic()

    def plan(self) -> RepairPlan:
        """What is wrong, and what would be done about it; nothing is written.

        Raises:
            AccessDenied, StorageError, Cancelled.
        """
        self._handle = refreshed(self._handle)
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
        self._handle = refreshed(self._handle)
        keys = self._handle.keys
        for role in (Role.WRITER, Role.MAINTAINER):
            keys.require_role(role)
        keys.require("maintain")
        with self._survey() as survey:
            examine(survey, self._options)
            diagnosis = diagnose(survey, self._others)
            plan = diagnosis.plan(survey, self._options)
            if not plan.steps:
                return self._result(plan)
            with Claim(self._handle.storage, keys) as claim:
                if not survey.moved_on():
                    return self._mend(survey, diagnosis, plan, claim)
                with self._survey(claim) as later:  # what was seen may have been deleted since
                    examine(later, self._options)
                    diagnosis = diagnose(later, self._others)
                    return self._mend(later, diagnosis, diagnosis.plan(later, self._options), claim)

    def _survey(self, claim: Claim | None = None) -> Survey:
        self._handle.keys.require_role(Role.READER)
        keep = (lambda: None) if claim is None else claim.keep
        return Survey(self._handle, self._context, OPERATION, keep=keep)

    # -- steps ---------------------------------------------------------------------------------------------

    def _mend(self, survey: Survey, diagnosis: Diagnosis, plan: RepairPlan, claim: Claim) -> RepairResult:
        storage, keys, added = self._handle.storage, self._handle.keys, 0
        for name, raw in diagnosis.copies.items():
            with self._refused(name):
                storage.put(name, [raw])
        if diagnosis.copies:
            storage.flush()
        if diagnosis.stores:
            added = self._store(survey, diagnosis, claim)
        note_damaged(storage, keys, diagnosis.found, diagnosis.cleared)
        claim.keep()
        losses, broken = self._what_is_left(survey, claim)
        write_losses(storage, keys, losses)
        if self._options.forget_broken:
            for item in diagnosis.hopeless:
                protocol.write_tombstone(storage, keys, item.id, reason="its commit is damaged")
            broken -= {item.id for item in diagnosis.hopeless}
        storage.flush()
        lost = tuple(affected(backup, loss) for backup, loss in losses.backups.items())
        return self._result(replace(plan, lost=lost, broken=tuple(sorted(broken))), added)

    def _store(self, survey: Survey, diagnosis: Diagnosis, claim: Claim) -> int:
        """Packs, their index, and commits that rely on them; gives the bytes that were stored."""
        storage, ring = self._handle.storage, self._handle.keys
        marks, sweeps = protocol.read_marks(storage, ring), protocol.read_sweeps(storage, ring)
        doomed = marks.condemned.union(*(decision.condemned for decision in sweeps.decisions))
        for pack in (*doomed, *survey.damaged, *(pack for _kind, pack in survey.inventory.missing())):
            survey.inventory.index.distrust(pack)
        settings = self._handle.settings
        needed = features.read_features(settings.compression, self._handle.compressors)
        keys = features.announce(storage, ring, needed)  # before anything is compressed so
        refill = Refill(replace(self._handle, keys=keys), survey.reader, claim, self._context.cancel)
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
        return refill.writer.added_bytes

    def _try(self, refill: Refill, source: Source, backup: str) -> Content | None:
        """Copies a backup again, as far as the other repository has it."""
        try:
            return refill.backup(source)
        except IntegrityError as error:
            message = f"{source.handle.storage.location} does not have it whole, either: {error.message}"
            problem = Problem(path=backup, kind="damaged", message=message, fatal=False)
            self._context.events(Event(kind="problem", operation=OPERATION, path=backup, problem=problem))
            return None

    @contextmanager
    def _refused(self, name: str) -> Iterator[None]:
        """A storage that lets nobody write over anything must not keep the rest from being mended."""
        try:
            yield
        except StorageError as error:
            if isinstance(error, Transient | StorageFull):
                raise
            problem = Problem(path=name, kind="damaged", message=f"it stays damaged: {error.message}", fatal=False)
            self._context.events(Event(kind="problem", operation=OPERATION, path=name, problem=problem))

    def _commit(self, refill: Refill, commits: Sequence[tuple[Listed, Source, Content | None]]) -> None:
        for item, source, root in commits:
            if root is not None:
                with self._refused(item.name):
                    refill.commit(item, source, root)

    def _what_is_left(self, before: Survey, claim: Claim) -> tuple[Losses, set[str]]:
        """What cannot be restored now that all is stored; only that is written down."""
        with self._survey(claim) as survey:
            survey.damaged = before.damaged
            survey.load()
            survey.walk()
            lost = lost_files(survey.backups.visible, survey.structure)
            blobs = sorted(blob for kind, blob in survey.places.lost if kind is Kind.DATA)
            return Losses(lost, frozenset(blobs[:MAX_BLOBS])), {item.id for item, _error in survey.backups.damaged}

    def _result(self, plan: RepairPlan, added: int = 0) -> RepairResult:
        return RepairResult(
            steps=plan.steps,
            lost=plan.lost,
            broken=plan.broken,
            added_bytes=added,
            duration=round(time.monotonic() - self._started, 3),
        )
