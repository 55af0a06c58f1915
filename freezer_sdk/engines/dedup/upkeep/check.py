"""``freezer repository check``: what is damaged, and which files of which backups need it."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime

from freezer_sdk.engines.base import Context
from freezer_sdk.engines.dedup import protocol, records
from freezer_sdk.engines.dedup.damage import damaged_packs, note_damaged
from freezer_sdk.engines.dedup.handle import Handle
from freezer_sdk.engines.dedup.keyring import Role
from freezer_sdk.engines.dedup.layout import digest_of
from freezer_sdk.engines.dedup.losses import read_losses
from freezer_sdk.engines.dedup.upkeep.findings import findings
from freezer_sdk.engines.dedup.upkeep.leases import lease_infos
from freezer_sdk.engines.dedup.upkeep.readings import Readings
from freezer_sdk.engines.dedup.upkeep.survey import Survey, refreshed
from freezer_sdk.engines.dedup.upkeep.turns import chosen, reads
from freezer_sdk.errors import ConfigurationError, StorageError, UnsupportedFormat
from freezer_sdk.model import Event, Problem
from freezer_sdk.upkeep_model import CheckOptions, CheckResult, Finding, LeaseStatus

OPERATION = "check"
_ATTEMPTS = 3  # a sweep may delete what was listed a moment ago
_SHOWN = 5  # paths that a message names


class Check:
    """One check. Call :meth:`run` once."""

    def __init__(self, handle: Handle, options: CheckOptions, context: Context) -> None:
        self._handle, self._options, self._context = handle, options, context
        self._findings: list[Finding] = []
        self._started = time.monotonic()
        self._now = datetime.now(UTC)

    def run(self) -> CheckResult:
        """Looks at everything, and reads what the options say.

        Raises:
            ConfigurationError: options that make no sense.
            AccessDenied: only readers can check.
            StorageError, Cancelled.
        """
        reads(self._options)
        self._handle = refreshed(self._handle)
        self._handle.keys.require_role(Role.READER)
        for attempt in range(_ATTEMPTS):
            with Survey(self._handle, self._context, OPERATION) as survey:
                readings = Readings.load(self._handle.storage, self._handle.keys, self._now)
                left = self._look(survey, readings)
                gone = survey.missing() or survey.places.lost
                if gone and attempt + 1 < _ATTEMPTS and survey.moved_on():
                    continue
                return self._result(survey, readings, left)
        raise AssertionError("unreachable")

    def _look(self, survey: Survey, readings: Readings) -> list[int]:
        """Looks at all packs, and reads some; gives the sizes of those for which there was no time."""
        survey.load()
        suspects = damaged_packs(self._handle.storage, self._handle.keys)
        to_read = chosen(self._options, survey.packs, readings, self._now)
        survey.read_whole([pack for pack in survey.packs if digest_of(pack[1].name) in suspects])
        later = {digest_of(info.name) for _kind, info in to_read}
        survey.look_at([pack for pack in survey.packs if digest_of(pack[1].name) not in later | suspects])
        survey.walk()
        before = len(survey.damaged)
        left = survey.read_whole(
            [pack for pack in to_read if digest_of(pack[1].name) not in survey.read | survey.damaged.keys()],
            until=self._deadline(),
        )
        survey.look_at(left)
        if len(survey.damaged) > before:
            survey.walk()  # who needs what turned out to be damaged?
        return [info.size for _kind, info in left]

    def _deadline(self) -> float | None:
        longest = self._options.max_duration
        return None if longest is None else self._started + longest.total_seconds()

    # -- findings ------------------------------------------------------------------------------------------

    def _result(self, survey: Survey, readings: Readings, left: list[int]) -> CheckResult:
        for finding in findings(survey, read_losses(self._handle.storage, self._handle.keys)):
            self._find(finding)
        self._remember(survey, readings)
        times = [readings.last(digest_of(info.name) or b"") for _kind, info in survey.packs]
        known = [time for time in times if time is not None]
        states = Counter(each.status for each in lease_infos(self._handle))
        return CheckResult(
            backups=len(survey.backups.visible),
            forgotten=len(survey.backups.forgotten),
            void=len(survey.backups.void),
            forged=len(survey.backups.forged),
            objects=survey.objects,
            packs=len(times),
            packs_read=len(survey.read),
            packs_left=len(left),
            bytes_left=sum(left),
            blobs=survey.blobs,
            bytes_read=survey.bytes_read,
            oldest=min(known) if known and len(known) == len(times) else None,
            leases={str(status): states[status] for status in LeaseStatus},
            marks=_marks(self._handle),
            duration=round(time.monotonic() - self._started, 3),
            findings=tuple(self._findings),
        )

    def _find(self, finding: Finding) -> None:
        self._findings.append(finding)
        problem = Problem(path=finding.path, kind=finding.kind, message=_told(finding), fatal=finding.fatal)
        self._context.events(Event(kind="problem", operation=OPERATION, path=finding.path, problem=problem))

    def _remember(self, survey: Survey, readings: Readings) -> None:
        """Writes down what was read and what is damaged, where we may; a storage that refuses is no finding."""
        storage, keys = self._handle.storage, self._handle.keys
        there = [digest_of(info.name) or b"" for _kind, info in survey.packs]
        readings.note(survey.read, keys.slot_id)
        readings.drop(survey.damaged)
        if Role.MAINTAINER not in keys.roles:
            return
        try:
            keys.require("maintain")
            readings.store(storage, keys, there)
            gone = damaged_packs(storage, keys) - frozenset(there)
            note_damaged(storage, keys, survey.damaged.keys(), survey.read | gone)
        except (ConfigurationError, StorageError, UnsupportedFormat) as error:
            message = f"what this check has read cannot be written down: {error.message}"
            self._find(Finding(path=records.PREFIX, kind="unknown", message=message, fatal=False))


def _told(finding: Finding) -> str:
    """The message, with the files that are affected, for people who see it pass by."""
    shown = [f"{each.backup[:8]}:{path}" for each in finding.affected for path in each.paths][:_SHOWN]
    total = sum(len(each.paths) + each.more for each in finding.affected)
    rest = f" and {total - len(shown)} more" if total > len(shown) else ""
    return f"{finding.message}; cannot be restored: {', '.join(shown)}{rest}" if shown else finding.message


def _marks(handle: Handle) -> dict[str, int]:
    """What is marked for deletion."""
    marks, sweeps = protocol.read_marks(handle.storage, handle.keys), protocol.read_sweeps(handle.storage, handle.keys)
    newest = max(marks.generation, sweeps.generation)
    return {"marks": len(marks.marks), "packs": len(marks.condemned), "generation": newest}
