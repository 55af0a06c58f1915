"""Freshness: is there a recent backup of every name, and was it shown lately that one comes back?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from freezer_sdk.drill_model import Drill, DrillLog
from freezer_sdk.errors import ConfigurationError, Overdue
from freezer_sdk.model import Backup, Problem, Status

if TYPE_CHECKING:
    from freezer_sdk.client import Freezer

_CLOCKS = timedelta(days=1)  # what is further in the future than clocks may differ does not count


class Freshness(StrEnum):
    """How it stands with a name, the worst that holds.

    ``overdue``: no backup, or none that is young enough. ``undrilled``: no drill that passed is young enough, or the
    last one did not pass. ``partial``: the newest backup lacks something.
    """

    OK = "ok"
    PARTIAL = "partial"
    UNDRILLED = "undrilled"
    OVERDUE = "overdue"


@dataclass(frozen=True, kw_only=True)
class SeriesFreshness:
    """How it stands with the backups of one host and name.

    Attributes:
        host: empty for a name that is expected and has no backups at all.
        newest: the newest backup that can be read and whose time can be right.
        age: since the newest began, or since the storage got it, whichever was earlier.
        drill: the last one, whether it passed or not.
        passed: the last one that passed.
        drill_age: since that one began.
    """

    host: str
    name: str
    state: Freshness
    newest: Backup | None = None
    age: timedelta | None = None
    drill: Drill | None = None
    passed: Drill | None = None
    drill_age: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class FreshnessReport:
    """How it stands with a repository.

    Attributes:
        now: what ages are counted to.
        series: by host and name.
        problems: records of drills that do not count.
    """

    location: str
    now: datetime
    max_age: timedelta | None
    drill_max_age: timedelta | None
    series: tuple[SeriesFreshness, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def late(self) -> tuple[SeriesFreshness, ...]:
        """Those that are overdue or undrilled."""
        return tuple(each for each in self.series if each.state in (Freshness.OVERDUE, Freshness.UNDRILLED))

    @property
    def missing(self) -> bool:
        """There is nothing at all whose age could be told, though it is limited."""
        return self.max_age is not None and not self.series

    def check(self) -> None:
        """Whether all is as it should be.

        Raises:
            Overdue: names what is not.
        """
        if self.missing:
            raise Overdue(f"{self.location}: there is no backup at all", hint="is this where backups are stored?")
        if self.late:
            names = ", ".join(f"{each.name} of {each.host or 'any host'} ({each.state})" for each in self.late)
            raise Overdue(f"{self.location}: {names}", hint="freezer status shows since when")


def report(
    freezer: Freezer,
    *,
    max_age: timedelta | None,
    drill_max_age: timedelta | None,
    names: Sequence[str],
    host: str | None,
    expected: Sequence[str],
    now: datetime | None = None,
) -> FreshnessReport:
    """See :meth:`Freezer.freshness <freezer_sdk.client.Freezer.freshness>`.

    Args:
        now: by default this machine's clock.
    """
    for limit in (max_age, drill_max_age):
        if limit is not None and limit <= timedelta():
            raise ConfigurationError("an age must be more than nothing")
    if isinstance(names, str) or isinstance(expected, str):
        raise ConfigurationError("names are a list of texts, not one text")
    now = now or datetime.now(UTC)
    log = freezer.drills.log() if freezer.capabilities.drills else DrillLog()
    backups = freezer.backups(host=host)
    if names:
        backups = [each for each in backups if each.name in names]
    return FreshnessReport(
        location=freezer.location,
        now=now,
        max_age=max_age,
        drill_max_age=drill_max_age,
        series=tuple(
            _series(backups, log.drills, {*names, *expected}, now=now, max_age=max_age, drill_max_age=drill_max_age)
        ),
        problems=log.problems,
    )


def _series(
    backups: Iterable[Backup],
    drills: Iterable[Drill],
    expected: Collection[str],
    *,
    now: datetime,
    max_age: timedelta | None,
    drill_max_age: timedelta | None,
) -> Iterable[SeriesFreshness]:
    found: defaultdict[tuple[str, str], list[Backup]] = defaultdict(list)
    for backup in backups:
        if backup.readable:  # whose that was cannot be told
            found[backup.host, backup.name].append(backup)
    drilled: defaultdict[tuple[str, str], list[Drill]] = defaultdict(list)
    for drill in drills:
        if drill.started <= now + _CLOCKS:
            drilled[drill.host, drill.name].append(drill)
    for name in sorted(set(expected) - {name for _host, name in found}):
        yield SeriesFreshness(host="", name=name, state=Freshness.OVERDUE)
    for key, group in sorted(found.items()):
        yield _judged(key, group, drilled[key], now=now, max_age=max_age, drill_max_age=drill_max_age)


def _judged(
    key: tuple[str, str],
    backups: Iterable[Backup],
    drills: Sequence[Drill],
    *,
    now: datetime,
    max_age: timedelta | None,
    drill_max_age: timedelta | None,
) -> SeriesFreshness:
    believable = [each for each in backups if each.plausible and _begun(each) <= now + _CLOCKS]
    newest = max(believable, key=lambda each: (each.time, each.id), default=None)
    age = None if newest is None else max(now - _begun(newest), timedelta())
    by_time = sorted(drills, key=lambda each: (each.started, each.id))
    last = by_time[-1] if by_time else None
    passed = next((each for each in reversed(by_time) if each.passed), None)
    drill_age = None if passed is None else max(now - passed.started, timedelta())
    state = Freshness.OK if newest is None or newest.status is Status.COMPLETE else Freshness.PARTIAL
    if drill_max_age is not None and (last is not passed or drill_age is None or drill_age > drill_max_age):
        state = Freshness.UNDRILLED
    if age is None or (max_age is not None and age > max_age):
        state = Freshness.OVERDUE
    host, name = key
    return SeriesFreshness(
        host=host, name=name, state=state, newest=newest, age=age, drill=last, passed=passed, drill_age=drill_age
    )


def _begun(backup: Backup) -> datetime:
    """By the writer's clock or by the storage's, whichever says earlier: a clock that is ahead makes nothing young."""
    return backup.time if backup.first_seen is None else min(backup.time, backup.first_seen)
