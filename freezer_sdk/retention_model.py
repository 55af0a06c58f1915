"""What goes in and comes out of retention: frozen dataclasses, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from freezer_sdk.model import Backup

GROUP_FIELDS = ("host", "name", "paths", "tags", "mode")
"""What backups can be grouped by."""

MAX_REASON = 500
"""Characters that the reason for a hold may have."""


@dataclass(frozen=True, kw_only=True)
class RetentionPolicy:
    """Which backups are kept; what no rule keeps is forgotten.

    Attributes:
        keep_last: the newest so many.
        keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly: one backup of each of the so many newest hours,
            days, weeks (from Monday), months and years that have any.
        keep_within: everything that is at most so much older than the newest backup of its group.
        keep_within_hourly, keep_within_daily, keep_within_weekly, keep_within_monthly, keep_within_yearly: one backup
            of each hour, day, week, month and year in such a time.
        keep_tags: every backup that has one of these tags.
        older_than: nothing younger is forgotten.
        before: nothing that began at this moment or later is forgotten; without a zone: local time.
        group_by: among :data:`GROUP_FIELDS`; the rules hold for each group on its own.
        floor: nothing younger is forgotten, neither by its own time nor by when the storage got it.
        max_share: of a group, 0 to 1: to forget more needs force.
        zone: what days are counted in; ``None``: local time.
    """

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    keep_within: timedelta | None = None
    keep_within_hourly: timedelta | None = None
    keep_within_daily: timedelta | None = None
    keep_within_weekly: timedelta | None = None
    keep_within_monthly: timedelta | None = None
    keep_within_yearly: timedelta | None = None
    keep_tags: tuple[str, ...] = ()
    older_than: timedelta | None = None
    before: datetime | None = None
    group_by: tuple[str, ...] = ("host", "name", "paths")
    floor: timedelta = timedelta(days=7)
    max_share: float = 0.5
    zone: tzinfo | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RetentionReason:
    """What one rule says of one backup.

    Attributes:
        rule: ``last``, ``hourly`` to ``yearly``, ``within``, ``within_hourly`` to ``within_yearly``, ``tag``,
            ``older_than``, ``before``; or what holds under every policy: ``newest``, ``young``, ``held``,
            ``implausible``, ``damaged``, ``needed``.
        slot: the place in the rule, e.g. ``2026-11-20`` for ``daily``, or its measure; for ``needed``: id of the
            newest backup that is kept and needs it.
        taken_by: of a backup that is forgotten: id of the backup that has this place; ``None``: the rule does not reach
            so far back.
    """

    rule: str
    slot: str = ""
    taken_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class RetentionDecision:
    """What becomes of one backup.

    Attributes:
        first_seen: when the storage got it, as far as that is known.
        reasons: if it is kept, every rule that keeps it; else what each rule says against it.
    """

    backup: Backup
    keep: bool
    reasons: tuple[RetentionReason, ...]
    first_seen: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class RetentionGroup:
    """Backups among which the rules choose.

    Attributes:
        key: by the fields of ``group_by``; values are text, or tuples of texts.
        writer: who wrote them, where that is somebody whom the repository does not trust: such backups are a group of
            their own, so that they displace nothing of others; else empty.
        decisions: newest first.
        share: of those that count, how much is forgotten, 0 to 1.
        refused: more than the policy allows without force.
    """

    key: Mapping[str, str | tuple[str, ...]]
    decisions: tuple[RetentionDecision, ...]
    writer: str = ""
    share: float = 0.0
    refused: bool = False

    @property
    def kept(self) -> tuple[Backup, ...]:
        """Newest first."""
        return tuple(each.backup for each in self.decisions if each.keep)

    @property
    def forgotten(self) -> tuple[Backup, ...]:
        """Newest first."""
        return tuple(each.backup for each in self.decisions if not each.keep)


@dataclass(frozen=True, kw_only=True)
class RetentionPlan:
    """What a policy says of every backup.

    Attributes:
        now: the moment that it was decided for.
        applied: the backups are forgotten; else it is only a plan.
    """

    policy: RetentionPolicy
    now: datetime
    groups: tuple[RetentionGroup, ...]
    applied: bool = False

    @property
    def kept(self) -> tuple[Backup, ...]:
        """Of all groups."""
        return tuple(backup for group in self.groups for backup in group.kept)

    @property
    def forgotten(self) -> tuple[Backup, ...]:
        """Of all groups: what is, or would be, forgotten."""
        return tuple(backup for group in self.groups for backup in group.forgotten)


@dataclass(frozen=True, kw_only=True)
class Hold:
    """A backup that must not be forgotten.

    Attributes:
        id: 32 hexadecimal digits.
        backup: id of the backup.
        until: the end; ``None``: until it is released.
        created: by the clock of whoever made it.
    """

    id: str
    backup: str
    reason: str
    created: datetime
    until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ForgottenBackup:
    """A backup that was forgotten and can be brought back.

    Attributes:
        reason: why it was forgotten; may be empty.
        forgotten: when, by the clock of whoever did it.
    """

    backup: Backup
    reason: str
    forgotten: datetime


@dataclass(frozen=True, kw_only=True)
class RetentionState:
    """What a repository knows that a policy needs.

    Attributes:
        backups: all visible ones, those that cannot be read included.
        now: of the storage's clock and this machine's the one that says less time has passed.
        seen: by id, when the storage got a backup first.
        holds: in force, by id of the backup.
        apart: by id, who wrote a backup, where that is somebody whom the repository does not trust.
        known: ids that were there when a policy was applied last; ``None``: none was yet.
        needs: by id, the ids of the backups that a restore of it needs beside it; whoever is not there needs none.
    """

    backups: tuple[Backup, ...]
    now: datetime
    seen: Mapping[str, datetime] = field(default_factory=dict)
    holds: Mapping[str, tuple[Hold, ...]] = field(default_factory=dict)
    apart: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] | None = None
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
