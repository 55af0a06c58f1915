"""Retention: which backups a policy keeps, and why. Pure functions.

Rules work as in restic: each on its own, the newest backup of a period stands for it, and a rule that has more places
than there are periods keeps the oldest backup too. What differs protects against clocks, attackers and bad nights:

- a complete backup stands for its period rather than a partial one, and the newest complete backup is always kept;
- a backup whose time and the storage's do not agree takes no place and is never forgotten;
- backups of writers who are not trusted are groups of their own;
- durations count back from the newest backup of a group, and no clock decides alone;
- what a backup that stays needs for its restore stays too, whatever the rules say of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from freezer_sdk.errors import ConfigurationError, PolicyRefusal
from freezer_sdk.model import Backup, Status
from freezer_sdk.retention_model import (
    GROUP_FIELDS,
    Hold,
    RetentionDecision,
    RetentionGroup,
    RetentionPlan,
    RetentionPolicy,
    RetentionReason,
)

_OLDEST: Final = "oldest"
_NO_TIME: Final = timedelta(0)


def _hour(local: datetime) -> str:
    offset = f"{local:%z}"  # the hour that comes twice when clocks are set back is two hours
    return f"{_day(local)} {local.hour:02}:00{offset[:3]}:{offset[3:5]}"


def _day(local: datetime) -> str:
    return f"{_month(local)}-{local.day:02}"


def _week(local: datetime) -> str:
    calendar = local.isocalendar()
    return f"{calendar.year:04}-W{calendar.week:02}"


def _month(local: datetime) -> str:
    return f"{local.year:04}-{local.month:02}"


def _year(local: datetime) -> str:
    return f"{local.year:04}"


_PERIODS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "hourly": _hour,
    "daily": _day,
    "weekly": _week,
    "monthly": _month,
    "yearly": _year,
}


class _Verdict(NamedTuple):
    """What one rule says, by id of the backup."""

    keeps: Mapping[str, RetentionReason]
    drops: Mapping[str, RetentionReason]


def plan(
    backups: Iterable[Backup],
    policy: RetentionPolicy,
    *,
    now: datetime,
    seen: Mapping[str, datetime] | None = None,
    holds: Mapping[str, Sequence[Hold]] | None = None,
    apart: Mapping[str, str] | None = None,
    known: frozenset[str] | None = None,
    needs: Mapping[str, Sequence[str]] | None = None,
) -> RetentionPlan:
    """What becomes of each backup.

    Args:
        backups: in any order.
        now: with a zone.
        seen: by id, when the storage got a backup; where it is missing, what the backup itself says.
        holds: by id; those that have ended do not count.
        apart: by id, who wrote a backup, where that is somebody who must not influence what others keep.
        known: ids that count for the share of a group that may be forgotten; ``None``: all.
        needs: by id, what a restore needs beside it; ids that are not among ``backups`` stay.

    Raises:
        ConfigurationError: the policy makes no sense; see :func:`check_policy`.
    """
    check_policy(policy)
    groups: dict[tuple[object, ...], list[Backup]] = {}
    for backup in backups:
        first = (seen or {}).get(backup.id, backup.first_seen)
        where = (*(_value(backup, name) for name in policy.group_by), (apart or {}).get(backup.id, ""))
        groups.setdefault(where, []).append(replace(backup, first_seen=first))
    decided = {}
    for key in sorted(groups, key=repr):
        members = sorted(groups[key], key=lambda each: (each.time, each.id), reverse=True)
        decided[key] = _Group(members, policy, now, holds or {}).decide()
    needed = _needed([each for decisions in decided.values() for each in decisions], needs or {})
    found = []
    for key, decisions in decided.items():
        settled = tuple(_settle(each, needed.get(each.backup.id)) for each in decisions)
        share = _share(settled, known)
        found.append(
            RetentionGroup(
                key={name: _value(settled[0].backup, name) for name in policy.group_by},
                decisions=settled,
                writer=str(key[-1]),
                share=share,
                refused=share > policy.max_share + 1e-9,
            )
        )
    return RetentionPlan(policy=policy, now=now, groups=tuple(found))


def check_policy(policy: RetentionPolicy) -> None:
    """Refuses policies that cannot be meant.

    Raises:
        ConfigurationError: it keeps nothing, a number is negative, a share is none, or a field to group by is unknown.
    """
    values = {each.name: getattr(policy, each.name) for each in fields(policy)}
    for name, value in values.items():
        if (isinstance(value, timedelta) and value < _NO_TIME) or (isinstance(value, int) and value < 0):
            raise ConfigurationError(f"{name} is negative")
        if isinstance(value, str):  # each letter would silently count as one
            raise ConfigurationError(f"{name} is a list of texts, not one text")
    rules = [name for name in values if name.startswith("keep_")]
    if not any(values[name] for name in rules) and policy.older_than is None and policy.before is None:
        raise ConfigurationError(
            "the policy keeps nothing", hint="say what is to be kept, for example keep_daily 7 and keep_monthly 12"
        )
    unknown = [name for name in policy.group_by if name not in GROUP_FIELDS]
    if unknown:
        raise ConfigurationError(
            f"backups cannot be grouped by {', '.join(unknown)}", hint=f"only by {', '.join(GROUP_FIELDS)}"
        )
    if not 0 <= policy.max_share <= 1:
        raise ConfigurationError("max_share is no share: it must lie between 0 and 1")


def check_share(plan: RetentionPlan) -> None:
    """The guard against forgetting too much at once.

    Raises:
        PolicyRefusal: of some group more would be forgotten than the policy allows; names them.
    """
    refused = [group for group in plan.groups if group.refused]
    if not refused:
        return
    lines = [f"{len(group.forgotten)} of {len(group.decisions)} ({_title(group)})" for group in refused]
    raise PolicyRefusal(
        f"more than {plan.policy.max_share:.0%} of a group would be forgotten at once: {'; '.join(lines)}",
        hint="look at the plan of a dry run; force, or a larger max_share, allows it",
    )


class _Group:
    """Decides over the backups of one group, newest first."""

    def __init__(
        self,
        members: Sequence[Backup],
        policy: RetentionPolicy,
        now: datetime,
        holds: Mapping[str, Sequence[Hold]],
    ) -> None:
        self._members, self._policy, self._now, self._holds = members, policy, now, holds
        self._fit = [each for each in members if each.readable and each.plausible]

    def decide(self) -> tuple[RetentionDecision, ...]:
        """One decision for each, in the order of the members."""
        verdicts = list(self._verdicts())
        newest = next((each.id for each in self._fit if each.status is Status.COMPLETE), None)
        newest = newest or next((each.id for each in self._fit), None)
        decisions = []
        for backup in self._members:
            keeps = [verdict.keeps[backup.id] for verdict in verdicts if backup.id in verdict.keeps]
            keeps += self._protections(backup, newest)
            drops = [verdict.drops[backup.id] for verdict in verdicts if backup.id in verdict.drops]
            decisions.append(
                RetentionDecision(
                    backup=backup,
                    keep=bool(keeps),
                    reasons=tuple(keeps or drops),
                    first_seen=backup.first_seen,
                )
            )
        return tuple(decisions)

    def _protections(self, backup: Backup, newest: str | None) -> Iterable[RetentionReason]:
        """What holds under every policy."""
        if not backup.readable:
            yield RetentionReason(rule="damaged")
        elif not backup.plausible:
            yield RetentionReason(
                rule="implausible", slot="" if backup.first_seen is None else backup.first_seen.isoformat()
            )
        if backup.id == newest:
            yield RetentionReason(rule="newest")
        for hold in self._holds.get(backup.id, ()):
            if hold.until is None or hold.until > self._now:
                yield RetentionReason(rule="held", slot=hold.reason)
        floor, youngest = self._policy.floor, max(backup.time, backup.first_seen or backup.time)
        if floor and self._now - youngest < floor:
            yield RetentionReason(rule="young", slot=_text(floor))

    def _verdicts(self) -> Iterable[_Verdict]:
        policy, fit = self._policy, self._fit
        if policy.keep_last:
            yield self._last(policy.keep_last)
        for name in _PERIODS:
            count = getattr(policy, f"keep_{name}")
            if count:
                yield self._one_each(name, name, fit, count)
        if fit and policy.keep_within is not None:
            yield self._within(policy.keep_within)
        for name in _PERIODS:
            span = getattr(policy, f"keep_within_{name}")
            if fit and span is not None:
                near = [each for each in fit if fit[0].time - each.time <= span]
                yield self._one_each(f"within_{name}", name, near, None)
        if policy.keep_tags:
            tagged = {each.id: sorted(set(each.tags) & set(policy.keep_tags)) for each in self._members}
            yield _Verdict(
                {key: RetentionReason(rule="tag", slot=tags[0]) for key, tags in tagged.items() if tags},
                {key: RetentionReason(rule="tag") for key, tags in tagged.items() if not tags},
            )
        if policy.older_than is not None:
            span = policy.older_than
            yield self._limit("older_than", _text(span), lambda each: self._now - each.time > span)
        if policy.before is not None:
            moment = policy.before.astimezone(UTC)
            yield self._limit("before", moment.isoformat(), lambda each: each.time < moment)

    def _last(self, count: int) -> _Verdict:
        kept = {each.id: RetentionReason(rule="last", slot=str(n)) for n, each in enumerate(self._fit[:count], 1)}
        return _Verdict(kept, {each.id: RetentionReason(rule="last") for each in self._fit[count:]})

    def _within(self, span: timedelta) -> _Verdict:
        reason, newest = RetentionReason(rule="within", slot=_text(span)), self._fit[0].time
        near = {each.id: reason for each in self._fit if newest - each.time <= span}
        return _Verdict(near, {each.id: reason for each in self._fit if each.id not in near})

    def _one_each(self, rule: str, period: str, candidates: Sequence[Backup], count: int | None) -> _Verdict:
        """One backup of each period that has any: the newest complete one, or else the newest.

        Args:
            candidates: newest first.
            count: of periods; ``None``: all.
        """
        slots = {each.id: _PERIODS[period](local_time(each.time, self._policy.zone)) for each in self._fit}
        best: dict[str, Backup] = {}  # in the order of the first of a period: newest first
        for each in candidates:
            known = best.get(slots[each.id])
            if known is None or (known.status is not Status.COMPLETE and each.status is Status.COMPLETE):
                best[slots[each.id]] = each
        chosen = {slot: best[slot].id for slot in list(best)[:count]}
        kept = {backup: RetentionReason(rule=rule, slot=slot) for slot, backup in chosen.items()}
        if count is not None and candidates and len(best) < count:
            complete = [each for each in candidates if each.status is Status.COMPLETE] or candidates
            kept.setdefault(complete[-1].id, RetentionReason(rule=rule, slot=_OLDEST))
        dropped = {
            each.id: RetentionReason(rule=rule, slot=slots[each.id], taken_by=chosen.get(slots[each.id]))
            for each in self._fit
            if each.id not in kept
        }
        return _Verdict(kept, dropped)

    def _limit(self, rule: str, slot: str, old: Callable[[Backup], bool]) -> _Verdict:
        """Only what is old enough may be forgotten."""
        reasons = {each.id: RetentionReason(rule=rule, slot=slot) for each in self._members}
        passed = {each.id for each in self._members if old(each)}
        return _Verdict(
            {key: reason for key, reason in reasons.items() if key not in passed},
            {key: reason for key, reason in reasons.items() if key in passed},
        )


def _needed(decisions: Iterable[RetentionDecision], needs: Mapping[str, Sequence[str]]) -> Mapping[str, str]:
    """By id, a backup that stays and needs it: the newest one of them."""
    by_id = {each.backup.id: each for each in decisions}
    staying = [key for key in needs if key not in by_id]
    kept = sorted(
        (each.backup for each in by_id.values() if each.keep), key=lambda each: (each.time, each.id), reverse=True
    )
    needed: dict[str, str] = {}
    for user in (*(each.id for each in kept), *staying):
        pending = list(needs.get(user, ()))
        while pending:
            base = pending.pop()
            if base not in needed:
                needed[base] = user
                pending += needs.get(base, ())
    return needed


def _settle(decision: RetentionDecision, user: str | None) -> RetentionDecision:
    """The decision, knowing what needs the backup."""
    if user is None:
        return decision
    reason = RetentionReason(rule="needed", slot=user)
    return replace(decision, keep=True, reasons=(*(decision.reasons if decision.keep else ()), reason))


def local_time(time: datetime, zone: tzinfo | None) -> datetime:
    """The wall clock of a zone; ``None``: of this machine. At the ends of the calendar UTC."""
    try:
        return time.astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return time.astimezone(UTC)


def _share(decisions: Sequence[RetentionDecision], known: frozenset[str] | None) -> float:
    """How much of a group is forgotten, of what was there at the last maintenance and has a believable time."""
    able = [each for each in decisions if each.backup.readable and each.backup.plausible]
    counted = [each for each in able if known is None or each.backup.id in known] or able
    return sum(not each.keep for each in counted) / len(counted) if counted else 0.0


def _value(backup: Backup, name: str) -> str | tuple[str, ...]:
    value: str | tuple[str, ...] = getattr(backup, name)
    return value if isinstance(value, str) else tuple(sorted(value))


def _title(group: RetentionGroup) -> str:
    words = [value if isinstance(value, str) else " ".join(value) for value in group.key.values()]
    return ", ".join([*(word for word in words if word), *([f"by {group.writer}"] if group.writer else [])]) or "all"


def _text(span: timedelta) -> str:
    """``7d``, ``36h``, ``90s``."""
    seconds = span.total_seconds()
    for unit, size in (("d", 86400), ("h", 3600)):
        if seconds and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:g}s"
