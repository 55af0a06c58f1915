"""Which backups a policy keeps: rules, time zones, clocks, holds, partial backups, writers who are not trusted."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk import (
    Backup,
    BackupStats,
    ConfigurationError,
    Hold,
    PolicyRefusal,
    RetentionPlan,
    RetentionPolicy,
    Status,
)
from freezer_sdk.policy.retention import check_share, local_time, plan

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia"]
PERIODS = ["hourly", "daily", "weekly", "monthly", "yearly"]


def backup(number: int, time: datetime, **values: Any) -> Backup:
    fields = {"host": "node1", "name": "etc", "mode": "fs", "engine": "dedup", "status": Status.COMPLETE}
    return Backup(**{"id": f"{number:032x}", "time": time, "first_seen": time, "paths": ("/etc",), **fields, **values})


def series(count: int, *, step: timedelta = DAY, end: datetime = NOW, **values: Any) -> list[Backup]:
    """Backups at equal distances, the oldest first; the number of each is its age in steps."""
    return [backup(age, end - age * step, **values) for age in reversed(range(count))]


def policy(**values: Any) -> RetentionPolicy:
    return RetentionPolicy(**{"floor": timedelta(0), "zone": UTC, "max_share": 1.0, **values})


def kept(found: RetentionPlan) -> list[int]:
    return sorted(int(each.id, 16) for each in found.kept)


def forgotten(found: RetentionPlan) -> list[int]:
    return sorted(int(each.id, 16) for each in found.forgotten)


def reasons(found: RetentionPlan) -> dict[int, list[tuple[str, str]]]:
    return {
        int(each.backup.id, 16): [(reason.rule, reason.slot) for reason in each.reasons]
        for group in found.groups
        for each in group.decisions
    }


# -- each rule ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "step", "count", "expected"),
    [
        ({"keep_last": 3}, DAY, 10, [0, 1, 2]),
        ({"keep_daily": 3}, DAY, 10, [0, 1, 2]),
        ({"keep_daily": 2}, 6 * HOUR, 10, [0, 3]),  # 12:00 and yesterday's 18:00
        ({"keep_hourly": 3}, timedelta(minutes=20), 10, [0, 1, 4]),
        ({"keep_weekly": 2}, DAY, 20, [0, 1]),  # NOW is a Monday
        ({"keep_monthly": 2}, DAY, 60, [0, 23]),
        ({"keep_yearly": 2}, 30 * DAY, 20, [0, 11]),
        ({"keep_within": 2 * DAY}, DAY, 10, [0, 1, 2]),
        ({"keep_within_daily": 2 * DAY}, 12 * HOUR, 10, [0, 2, 4]),
        ({"keep_within_monthly": 40 * DAY}, DAY, 60, [0, 23]),
        ({"keep_last": 1, "keep_daily": 2, "keep_within": HOUR}, DAY, 10, [0, 1]),
        ({"older_than": 3 * DAY}, DAY, 10, [0, 1, 2, 3]),
        ({"before": NOW - 3 * DAY}, DAY, 10, [0, 1, 2, 3]),
        ({"older_than": 3 * DAY, "before": NOW - 5 * DAY}, DAY, 10, [0, 1, 2, 3, 4, 5]),
        ({"older_than": 3 * DAY, "keep_last": 6}, DAY, 10, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_rules(rules: dict[str, Any], step: timedelta, count: int, expected: list[int]) -> None:
    assert kept(plan(series(count, step=step), policy(**rules), now=NOW)) == expected


def test_tags_are_kept_besides() -> None:
    backups = [*series(5), backup(77, NOW - 90 * DAY, tags=("release", "x")), backup(78, NOW - 91 * DAY, tags=("x",))]
    found = plan(backups, policy(keep_last=1, keep_tags=("release", "other")), now=NOW)
    assert kept(found) == [0, 77]
    assert reasons(found)[77] == [("tag", "release")]


def test_a_rule_with_more_places_than_there_are_periods_keeps_the_oldest() -> None:
    found = plan(series(9, step=6 * HOUR), policy(keep_daily=7), now=NOW)
    assert kept(found) == [0, 3, 7, 8]
    assert reasons(found)[8] == [("daily", "oldest")]
    assert kept(plan(series(9, step=6 * HOUR), policy(keep_daily=3), now=NOW)) == [0, 3, 7]


def test_every_decision_says_all_reasons() -> None:
    found = plan(series(4, step=12 * HOUR), policy(keep_last=1, keep_daily=2, keep_monthly=1), now=NOW)
    assert reasons(found) == {
        0: [("last", "1"), ("daily", "2026-11-23"), ("monthly", "2026-11"), ("newest", "")],
        1: [("last", ""), ("daily", "2026-11-23"), ("monthly", "2026-11")],
        2: [("daily", "2026-11-22")],
        3: [("last", ""), ("daily", "2026-11-22"), ("monthly", "2026-11")],
    }
    (group,) = found.groups
    dropped = {
        each.backup.id: [reason.taken_by for reason in each.reasons] for each in group.decisions if not each.keep
    }
    newest, second = f"{0:032x}", f"{2:032x}"
    assert dropped == {f"{1:032x}": [None, newest, newest], f"{3:032x}": [None, second, newest]}


# -- groups ------------------------------------------------------------------------------------------------


def test_each_group_has_its_own_places() -> None:
    backups = [
        *series(3),
        backup(10, NOW - 5 * DAY, host="node2"),
        backup(11, NOW - 5 * DAY, name="home"),
        backup(12, NOW - 5 * DAY, paths=("/etc", "/opt")),
    ]
    found = plan(backups, policy(keep_last=1), now=NOW)
    assert kept(found) == [0, 10, 11, 12]
    assert found.groups[0].key.keys() == {"host", "name", "paths"}
    assert kept(plan(backups, policy(keep_last=1, group_by=("host", "name")), now=NOW)) == [0, 10, 11]
    assert kept(plan(backups, policy(keep_last=1, group_by=("host",)), now=NOW)) == [0, 10]
    assert kept(plan(backups, policy(keep_last=1, group_by=()), now=NOW)) == [0]


def test_paths_and_tags_are_the_same_in_any_order() -> None:
    backups = [
        backup(0, NOW, paths=("/a", "/b"), tags=("x", "y")),
        backup(1, NOW - DAY, paths=("/b", "/a"), tags=("y", "x")),
    ]
    assert kept(plan(backups, policy(keep_last=1, group_by=("paths", "tags")), now=NOW)) == [0]


# -- what is never forgotten -------------------------------------------------------------------------------


def test_nothing_younger_than_the_floor_by_either_time() -> None:
    late = backup(20, NOW - 8 * DAY, first_seen=NOW - 6.9 * DAY, stats=BackupStats(duration=86400.0))
    found = plan([*series(12), late], policy(keep_last=1, floor=7 * DAY), now=NOW)
    assert kept(found) == [0, 1, 2, 3, 4, 5, 6, 20]
    assert reasons(found)[5] == [("young", "7d")]


def test_holds_count_until_their_end() -> None:
    def hold(number: int, until: datetime | None) -> Hold:
        return Hold(id="f" * 32, backup=f"{number:032x}", reason="audit", created=NOW, until=until)

    holds = {each.backup: (each,) for each in (hold(5, None), hold(6, NOW + HOUR), hold(7, NOW))}
    found = plan(series(9), policy(keep_last=1), now=NOW, holds=holds)
    assert kept(found) == [0, 5, 6]
    assert reasons(found)[5] == [("held", "audit")]


def test_a_rule_never_empties_a_group() -> None:
    found = plan(series(5), policy(older_than=timedelta(0)), now=NOW + 1000 * DAY)
    assert kept(found) == [0]
    assert reasons(found)[0] == [("newest", "")]
    assert kept(plan(series(5), policy(keep_tags=("none",)), now=NOW)) == [0]


def test_what_cannot_be_read_is_kept_and_takes_no_place() -> None:
    damaged = backup(50, NOW + HOUR, status=Status.DAMAGED, host="", name="", paths=())
    found = plan([damaged, *series(3)], policy(keep_last=1, group_by=()), now=NOW)
    assert kept(found) == [0, 50]
    assert reasons(found)[50] == [("damaged", "")]


# -- partial backups ---------------------------------------------------------------------------------------


def test_a_complete_backup_stands_for_its_day_rather_than_a_later_partial_one() -> None:
    backups = [
        backup(1, NOW - HOUR, status=Status.PARTIAL),
        backup(2, NOW - 2 * HOUR),
        backup(3, NOW - DAY, status=Status.PARTIAL),
        backup(4, NOW - DAY - HOUR, status=Status.PARTIAL),
        backup(5, NOW - 2 * DAY),
    ]
    found = plan(backups, policy(keep_daily=2), now=NOW)
    assert kept(found) == [2, 3]
    assert reasons(found)[2] == [("daily", "2026-11-23"), ("newest", "")]


def test_partial_backups_do_not_push_out_the_last_complete_one() -> None:
    partial = [replace(each, status=Status.PARTIAL) for each in series(6)]
    found = plan([*partial, backup(10, NOW - 10 * DAY), backup(11, NOW - 11 * DAY)], policy(keep_last=3), now=NOW)
    assert kept(found) == [0, 1, 2, 10]
    assert reasons(found)[10] == [("newest", "")]
    assert kept(plan(partial, policy(keep_last=2), now=NOW)) == [0, 1]


# -- clocks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    [datetime(1970, 1, 1, tzinfo=UTC), datetime(2106, 2, 7, 6, 28, 15, tzinfo=UTC), NOW - 30 * DAY, NOW + 2 * DAY],
)
def test_a_time_that_cannot_be_right_takes_no_place_and_is_never_forgotten(odd: datetime) -> None:
    strange = backup(99, odd, first_seen=NOW - 20 * DAY if odd != NOW - 30 * DAY else NOW)
    rules = policy(keep_last=2, keep_daily=2, keep_yearly=3, keep_within=2 * DAY)
    without, with_it = plan(series(8), rules, now=NOW), plan([*series(8), strange], rules, now=NOW)
    assert kept(with_it) == [*kept(without), 99]
    assert [rule for rule, _slot in reasons(with_it)[99]] == ["implausible"]
    assert {**reasons(with_it), 99: None} == {**reasons(without), 99: None}


def test_a_run_may_have_taken_days_but_not_months() -> None:
    def seen_after(days: float, duration: float) -> bool:
        return backup(1, NOW, first_seen=NOW + days * DAY, stats=BackupStats(duration=duration * 86400)).plausible

    assert seen_after(0.9, 0)
    assert not seen_after(1.1, 0)
    assert seen_after(3.5, 3)
    assert seen_after(7.9, 400)
    assert not seen_after(8.1, 400)
    assert not seen_after(-1.1, 3)


def test_a_clock_that_runs_backwards() -> None:
    """A host whose clock was set back by ten days goes on making backups; the storage knows better."""
    before = [backup(10 + n, NOW + (n - 10) * DAY) for n in range(10)]
    after = [backup(20 + n, NOW + (n - 10) * DAY, first_seen=NOW + n * DAY) for n in range(5)]
    found = plan([*before, *after], policy(keep_daily=4), now=NOW + 5 * DAY)
    assert kept(found) == [16, 17, 18, 19, 20, 21, 22, 23, 24]


@pytest.mark.parametrize("year", [1, 1970, 2038, 2106, 9999])
def test_the_ends_of_the_calendar(year: int) -> None:
    for zone in ("Pacific/Kiritimati", "America/New_York"):
        times = [datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]
        backups = [backup(n, time) for n, time in enumerate(times)]
        rules = {f"keep_{name}": 1 for name in PERIODS} | {f"keep_within_{name}": DAY for name in PERIODS}
        found = plan(backups, policy(**rules, zone=ZoneInfo(zone)), now=times[1])
        assert kept(found) == [1]


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    """On 2026-10-25 clocks in Berlin go from 03:00 back to 02:00."""
    berlin = ZoneInfo("Europe/Berlin")
    first, second = datetime(2026, 10, 25, 0, 30, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)
    found = plan([backup(0, second), backup(1, first)], policy(keep_hourly=2, zone=berlin), now=NOW)
    assert reasons(found) == {
        0: [("hourly", "2026-10-25 02:00+01:00"), ("newest", "")],
        1: [("hourly", "2026-10-25 02:00+02:00")],
    }


def test_days_are_those_of_the_zone() -> None:
    backups = [backup(0, datetime(2026, 7, 1, 21, 59, tzinfo=UTC)), backup(1, datetime(2026, 6, 30, 22, tzinfo=UTC))]
    assert kept(plan(backups, policy(keep_daily=2), now=NOW)) == [0, 1]
    berlin = plan(backups, policy(keep_daily=1, zone=ZoneInfo("Europe/Berlin")), now=NOW)
    assert kept(berlin) == [0]
    assert reasons(berlin)[1] == [("daily", "2026-07-01")]


def test_the_week_of_a_new_year_is_one_week() -> None:
    days = [datetime(2026, 12, 28, tzinfo=UTC) + n * DAY for n in range(7)]  # Monday to Sunday, 2026-W53
    found = plan([backup(n, day) for n, day in enumerate(days)], policy(keep_weekly=1), now=days[-1])
    assert kept(found) == [6]
    assert reasons(found)[0] == [("weekly", "2026-W53")]


# -- against an independent computation ---------------------------------------------------------------------

moments = st.datetimes(datetime(1971, 1, 1), datetime(2105, 1, 1), timezones=st.just(UTC))
near = st.builds(
    lambda start, minutes: start + timedelta(minutes=minutes),
    st.sampled_from(
        [datetime(2026, 3, 28, tzinfo=UTC), datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 12, 30, tzinfo=UTC)]
    ),
    st.integers(0, 4000),
)
times = st.lists(st.one_of(near, moments), min_size=1, max_size=30, unique=True)
counts = st.integers(0, 6)
spans = st.none() | st.integers(0, 100_000).map(lambda minutes: timedelta(minutes=minutes))


def slot_number(period: str, time: datetime, zone: ZoneInfo) -> object:
    """The same as the slots, counted from numbers instead of written as texts."""
    offset = time.astimezone(zone).utcoffset()
    assert offset is not None
    seconds = calendar.timegm(time.utctimetuple()) + round(offset.total_seconds())
    days = seconds // 86400
    if period == "hourly":
        return (seconds // 3600, offset)
    if period == "daily":
        return days
    if period == "weekly":
        return (days + 3) // 7  # 1970-01-01 was a Thursday
    date = datetime(1970, 1, 1) + timedelta(days=days)
    return (date.year, date.month) if period == "monthly" else date.year


def reference(backups: Sequence[Backup], rules: Mapping[str, Any], zone: ZoneInfo) -> set[str]:
    """Which backups are kept, all of them complete and plausible: one pass over time, from the oldest on."""
    ordered = sorted(backups, key=lambda each: (each.time, each.id))
    keep = {ordered[-1].id} | {each.id for each in ordered[len(ordered) - min(rules["keep_last"], len(ordered)) :]}
    if rules["keep_within"] is not None:
        keep |= {each.id for each in ordered if each.time >= ordered[-1].time - rules["keep_within"]}
    for period in PERIODS:
        last: dict[object, Backup] = {}
        for each in ordered:
            last[slot_number(period, each.time, zone)] = each
        winners = sorted(last.values(), key=lambda each: (each.time, each.id), reverse=True)
        number, span = rules[f"keep_{period}"], rules[f"keep_within_{period}"]
        keep |= {each.id for each in winners[:number]}
        if number > len(winners):
            keep.add(ordered[0].id)
        if span is not None:
            keep |= {each.id for each in winners if each.time >= ordered[-1].time - span}
    return keep


all_rules = st.fixed_dictionaries(
    {"keep_last": counts, "keep_within": spans}
    | {f"keep_{name}": counts for name in PERIODS}
    | {f"keep_within_{name}": spans for name in PERIODS}
).filter(lambda rules: any(rules.values()))


@given(times, all_rules, st.sampled_from(ZONES))
def test_the_same_as_an_independent_computation(moments: list[datetime], rules: dict[str, Any], name: str) -> None:
    backups, zone = [backup(n, time) for n, time in enumerate(moments)], ZoneInfo(name)
    found = plan(backups, policy(**rules, zone=zone), now=NOW)
    assert {each.id for each in found.kept} == reference(backups, rules, zone)
    assert len(found.kept) + len(found.forgotten) == len(backups)
    assert all(decision.reasons for group in found.groups for decision in group.decisions)


@given(times, all_rules)
def test_to_apply_it_again_forgets_nothing_more(moments: list[datetime], rules: dict[str, Any]) -> None:
    first = plan([backup(n, time) for n, time in enumerate(moments)], policy(**rules), now=NOW)
    assert not plan(first.kept, policy(**rules), now=NOW).forgotten


@given(times, all_rules, st.data())
def test_a_larger_number_keeps_what_a_smaller_one_keeps(
    moments: list[datetime], rules: dict[str, Any], data: st.DataObject
) -> None:
    backups = [backup(n, time) for n, time in enumerate(moments)]
    rule = data.draw(st.sampled_from(["keep_last", *(f"keep_{name}" for name in PERIODS)]))
    less = set(kept(plan(backups, policy(**rules), now=NOW)))
    more = set(kept(plan(backups, policy(**{**rules, rule: rules[rule] + 1}), now=NOW)))
    assert less <= more


statuses = st.sampled_from([Status.COMPLETE, Status.PARTIAL])


@given(times, all_rules, st.data())
def test_what_others_write_changes_nothing(moments: list[datetime], rules: dict[str, Any], data: st.DataObject) -> None:
    """A flood of backups with forged times, and of backups by a writer whom nobody trusts, under the same names."""
    ours = [backup(n, time, status=data.draw(statuses)) for n, time in enumerate(moments)]
    lies = [
        backup(1000 + n, time, first_seen=time + data.draw(st.sampled_from([-400, 400])) * DAY)
        for n, time in enumerate(data.draw(times))
    ]
    theirs = [backup(2000 + n, time) for n, time in enumerate(data.draw(times))]
    apart = {each.id: "0" * 32 for each in theirs}
    alone = plan(ours, policy(**rules), now=NOW)
    among = plan([*lies, *ours, *theirs], policy(**rules), now=NOW, apart=apart)
    assert [each for each in kept(among) if each < 1000] == kept(alone)
    assert [each for each in kept(among) if 1000 <= each < 2000] == [1000 + n for n in range(len(lies))]


@given(times, all_rules, st.data())
def test_partial_backups_never_cost_the_newest_complete_one(
    moments: list[datetime], rules: dict[str, Any], data: st.DataObject
) -> None:
    backups = [backup(n, time, status=data.draw(statuses)) for n, time in enumerate(moments)]
    complete = [each for each in backups if each.status is Status.COMPLETE]
    newest = max(complete or backups, key=lambda each: (each.time, each.id))
    assert newest in plan(backups, policy(**rules), now=NOW).kept


# -- policies that cannot be meant --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "keeps nothing"),
        ({"keep_daily": 0, "keep_last": 0}, "keeps nothing"),
        ({"keep_daily": -1}, "keep_daily is negative"),
        ({"keep_daily": 7, "keep_within": -DAY}, "keep_within is negative"),
        ({"older_than": -DAY}, "older_than is negative"),
        ({"keep_last": 1, "floor": -DAY}, "floor is negative"),
        ({"keep_last": 1, "group_by": ("host", "colour")}, "grouped by colour"),
        ({"keep_tags": "release"}, "keep_tags is a list"),
        ({"keep_last": 1, "group_by": "host"}, "group_by is a list"),
        ({"keep_last": 1, "max_share": 1.5}, "max_share"),
        ({"keep_last": 1, "max_share": -0.5}, "max_share"),
    ],
)
def test_senseless_policies_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        plan(series(3), RetentionPolicy(**values), now=NOW)


# -- the guard ----------------------------------------------------------------------------------------------


def share(backups: Iterable[Backup], known: frozenset[str] | None = None, **rules: Any) -> RetentionPlan:
    return plan(backups, policy(**{"max_share": 0.5, **rules}), now=NOW, known=known)


def test_the_guard_refuses_to_forget_more_than_the_share_of_any_group() -> None:
    check_share(share(series(10), keep_last=5))
    with pytest.raises(PolicyRefusal, match=r"more than 50% .* 6 of 10 \(node1, etc, /etc\)"):
        check_share(share(series(10), keep_last=4))
    many = [each for n in range(20) for each in series(2, host=f"other{n}")]
    found = share([*many, *series(10)], keep_last=4)
    assert [group.refused for group in found.groups].count(True) == 1, "other groups do not dilute it"
    check_share(share(series(10), keep_last=4, max_share=0.6))


def test_the_guard_passes_over_what_came_since_the_last_maintenance() -> None:
    """Ten new backups push out ten old ones: half of all, but all of what was there before."""
    backups = series(20)
    old = frozenset(each.id for each in backups[:10])
    check_share(share(backups, keep_last=10))
    with pytest.raises(PolicyRefusal):
        check_share(share(backups, old, keep_last=10))
    check_share(share(backups, old, keep_last=15))
    check_share(share(backups, frozenset(), keep_last=10))  # a group that is all new


def test_the_guard_does_not_count_odd_times() -> None:
    odd = [backup(500 + n, NOW - n * DAY, first_seen=NOW + 99 * DAY) for n in range(20)]
    with pytest.raises(PolicyRefusal):
        check_share(share([*series(10), *odd], keep_last=4))


def test_local_time_is_the_default() -> None:
    time = datetime(2026, 11, 23, 12, tzinfo=timezone(5 * HOUR))
    assert local_time(time, None) == time
    assert local_time(time, None).utcoffset() == time.astimezone().utcoffset()
