"""What goes in and comes out of maintenance: frozen dataclasses, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from freezer_sdk.model import Problem


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How thorough a check is. Without any of these: is everything there, and does every backup reach all of its data.

    Attributes:
        read_data: read and authenticate every byte.
        subset: read only a part: ``5%`` (those that were not read for the longest time; chance decides among equals),
            or ``n/t``: the n-th of t fixed parts.
        max_age: read what was not read whole for so long.
        max_duration: stop reading after so long; what was left comes first next time.
    """

    read_data: bool = False
    subset: str | None = None
    max_age: timedelta | None = None
    max_duration: timedelta | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Affected:
    """What of a backup cannot be restored because of a finding.

    Attributes:
        backup: id.
        paths: absolute as recorded, text (surrogateescape); for a directory that cannot be read, its own.
        more: how many paths there are besides.
    """

    backup: str
    paths: tuple[str, ...] = ()
    more: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that is not as it should be in a repository.

    Attributes:
        path: name of the object.
        kind: short stable word: ``damaged``, ``missing``, ``lost`` (data that nothing can give back any more, and that
            a repair has written down), ``unindexed``, ``void``, ``forged``, ``healed``, ``unknown``, ``unlisted``.
        message: for people.
        fatal: something is damaged or missing that matters; else only a note.
        affected: by backup, oldest first.
    """

    path: str
    kind: str
    message: str
    fatal: bool = True
    affected: tuple[Affected, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check looked at, and what it found.

    Attributes:
        backups: that count, and were looked at.
        forgotten: backups that do not count because they were deleted.
        void: backups that do not count because they came later than the grace time allows.
        forged: backups that do not count because who signed them may not.
        objects: looked at, packs among them.
        packs, packs_read: how many there are, and how many were read whole.
        packs_left, bytes_left: were to be read, and time ran out.
        blobs, bytes_read: of what was read.
        oldest: when the pack was read whole whose last reading is the longest ago; ``None``: one never was.
        leases: how many are ``open``, ``dead`` and ``closed``; see :class:`LeaseStatus`.
        marks: how many ``marks`` there are, how many ``packs`` they condemn, and the newest ``generation``.
        duration: seconds.
    """

    backups: int = 0
    forgotten: int = 0
    void: int = 0
    forged: int = 0
    objects: int = 0
    packs: int = 0
    packs_read: int = 0
    packs_left: int = 0
    bytes_left: int = 0
    blobs: int = 0
    bytes_read: int = 0
    oldest: datetime | None = None
    leases: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    duration: float = 0.0
    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Nothing that matters is damaged or missing; there may be notes."""
        return not any(finding.fatal for finding in self.findings)


@dataclass(frozen=True, kw_only=True, slots=True)
class RepairStep:
    """One thing that a repair does.

    Attributes:
        action: ``copy`` (a second copy of a configuration or slot), ``index`` (tables of packs that no index names),
            ``salvage`` (what is whole in a damaged pack, stored again), ``fetch`` (from another repository or from the
            source), ``commit`` (a backup's own record, from another repository), ``mark`` (packs not to be relied on),
            ``record`` (files that are lost, written down), ``forget`` (a backup that cannot be read).
        path: name of the object, or id of the backup, that it concerns.
        message: for people.
        blobs: how many pieces of content it is about.
        size: their bytes where known.
    """

    action: str
    path: str
    message: str
    blobs: int = 0
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class RepairOptions:
    """How a repair goes about it.

    Attributes:
        read_data: look for damage in every byte, not only where it shows or was found before.
        forget_broken: forget backups whose own record cannot be read; nothing can ever be restored from those.
        damaged: names of packs that are read in any case.
    """

    read_data: bool = False
    forget_broken: bool = False
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RepairPlan:
    """What a repair would do.

    Attributes:
        steps: in the order in which they are done.
        lost: what no step brings back, by backup.
        broken: ids of backups whose own record cannot be read, and which no step brings back.
        damaged: names of packs that are.
    """

    steps: tuple[RepairStep, ...] = ()
    lost: tuple[Affected, ...] = ()
    broken: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RepairResult:
    """What a repair did.

    Attributes:
        steps: that were done.
        lost: what nothing brought back, by backup; their status is ``partial`` from now on.
        broken: ids of backups whose own record still cannot be read.
        added_bytes: stored.
        duration: seconds.
    """

    steps: tuple[RepairStep, ...] = ()
    lost: tuple[Affected, ...] = ()
    broken: tuple[str, ...] = ()
    added_bytes: int = 0
    duration: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PruneOptions:
    """How thorough a prune is.

    Attributes:
        dry_run: write nothing; say what would be freed and marked.
        max_waste: share of the stored content that may stay in use though no backup needs it; packs with the most of
            it are written anew until no more than this is left.
        max_rewrite: bytes of needed content that may be written anew in one run; ``None``: no limit.
        old_keys: also write anew what is encrypted with keys of an earlier epoch.
        forget_missing: give up backups whose records are gone from the storage though nobody has forgotten them;
            otherwise nothing is deleted while there are any.
    """

    dry_run: bool = False
    max_waste: float = 0.05
    max_rewrite: int | None = None
    old_keys: bool = False
    forget_missing: bool = False


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """What a prune has done; of a dry run, what it would have done.

    Attributes:
        backups: that count.
        released_backups: forgotten ones whose records were removed for good.
        freed_bytes, freed_packs: deleted now.
        rewritten_bytes: of needed content that was stored again, so that the packs that it lay in can go.
        marked_bytes, marked_packs: announced now, to be deleted by a later run.
        waiting_bytes, waiting_packs: marked, now or before, and not deleted yet.
        due: when the last of these can be deleted, by the storage's clock; ``None``: nothing waits.
        held_by: ids of leases of running writers that marks have to wait for.
        needed_bytes: packs' share that backups need.
        wasted_bytes: share that they do not need, in packs that stay.
        stored_bytes: all packs that are left, those that wait among them.
        duration: seconds.
        problems: what was found on the way; nothing of it is fatal.
    """

    dry_run: bool
    backups: int = 0
    released_backups: int = 0
    freed_bytes: int = 0
    freed_packs: int = 0
    rewritten_bytes: int = 0
    marked_bytes: int = 0
    marked_packs: int = 0
    waiting_bytes: int = 0
    waiting_packs: int = 0
    due: datetime | None = None
    held_by: tuple[str, ...] = ()
    needed_bytes: int = 0
    wasted_bytes: int = 0
    stored_bytes: int = 0
    duration: float = 0.0
    problems: tuple[Problem, ...] = ()


class LeaseStatus(StrEnum):
    """What is known of the holder of a lease.

    ``open``: it may be at work. ``dead``: not refreshed for longer than the grace time by the storage's clock, so that
    nothing that it still does counts. ``closed``: it has said that it ended.
    """

    OPEN = "open"
    DEAD = "dead"
    CLOSED = "closed"


@dataclass(frozen=True, kw_only=True)
class LeaseInfo:
    """A lease: who is at work.

    Attributes:
        id: 32 hexadecimal digits.
        purpose: ``backup`` or ``maintenance``; ``unknown``: it cannot be read.
        holder: label of the key, or its id; empty: it cannot be read.
        host: that the holder runs on, as it says itself; empty: unknown.
        backup: id of the backup that is being made, or ``None``.
        opened, refreshed: by the storage's clock.
        expires: when it is dead unless it is refreshed.
    """

    id: str
    purpose: str
    holder: str
    host: str
    backup: str | None
    opened: datetime
    refreshed: datetime
    expires: datetime
    status: LeaseStatus
