"""Which level the next run is: a table of cases, and what must hold for any history."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freezer_sdk.errors import ConfigurationError
from freezer_sdk.policy.levels import DAY, LevelPolicy, LevelRun, check_levels, lineage, next_level

T0 = 1_795_000_000


def run(level, time, chain=0):
    return LevelRun(chain=T0 + chain, level=level, time=T0 + time)


def chain(*levels, start=0, step=DAY):
    """One run a day."""
    return [run(level, start + number * step, chain=start) for number, level in enumerate(levels)]


def simulate(policy, count, *, step=DAY, runs=()):
    """Levels of so many runs, at equal distances."""
    made = list(runs)
    start = max((each.time for each in made), default=T0 - step)
    for number in range(1, count + 1):
        made.append(perform(made, policy, start + number * step))
    return made


def perform(runs, policy, now):
    decision = next_level(runs, policy, now=now)
    time = max([now, *(each.time + 1 for each in runs)])
    return LevelRun(chain=time if decision.chain is None else decision.chain, level=decision.level, time=time)


def levels(runs):
    return [each.level for each in runs]


def incremental(**options):
    return LevelPolicy(strategy="incremental", **options)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (LevelPolicy(), [0, 0, 0, 0, 0, 0, 0]),
        (incremental(), [0, 1, 2, 3, 4, 5, 6]),
        (incremental(max_level=1), [0, 1, 0, 1, 0, 1, 0]),
        (incremental(max_level=2), [0, 1, 2, 0, 1, 2, 0]),
        (incremental(always_level=1), [0, 1, 1, 1, 1, 1, 1]),
        (incremental(always_level=2), [0, 1, 2, 2, 2, 2, 2]),
        (LevelPolicy(strategy="differential"), [0, 1, 1, 1, 1, 1, 1]),
        (incremental(restart_always_level=3), [0, 1, 2, 3, 0, 1, 2]),
        (incremental(restart_always_level=0.5), [0, 0, 0, 0, 0, 0, 0]),
        (incremental(always_level=1, restart_always_level=2), [0, 1, 1, 0, 1, 1, 0]),
        (incremental(always_level=2, restart_always_level=4), [0, 1, 2, 2, 2, 0, 1]),
        (LevelPolicy(strategy="differential", restart_always_level=2), [0, 1, 1, 0, 1, 1, 0]),
        (incremental(max_level=4, restart_always_level=1), [0, 1, 0, 1, 0, 1, 0]),
        (incremental(max_level=2, always_level=4), [0, 1, 2, 0, 1, 2, 0]),
        (incremental(max_level=4, always_level=2), [0, 1, 2, 2, 2, 2, 2]),
    ],
)
def test_one_run_a_day(policy, expected):
    assert levels(simulate(policy, len(expected))) == expected


@pytest.mark.parametrize(
    ("runs", "policy", "level", "base"),
    [
        # the newest chain counts, whatever older ones hold
        ([*chain(0, 1, 2, 3), *chain(0, 1, start=9 * DAY)], incremental(), 2, run(1, 10 * DAY, chain=9 * DAY)),
        (chain(0, 1, 2, 3, start=9 * DAY) + chain(0, 1), incremental(max_level=3), 0, None),
        # the order of runs does not
        (chain(0, 1, 2)[::-1], incremental(), 3, run(2, 2 * DAY)),
        # of a repeated level, the newest run is built upon
        (chain(0, 1, 1, 1), incremental(always_level=2), 2, run(1, 3 * DAY)),
        (chain(0, 1, 2, 2), incremental(always_level=2), 2, run(1, DAY)),
        (chain(0, 1, 2, 2), incremental(), 3, run(2, 3 * DAY)),
        (chain(0, 1, 1, 1), LevelPolicy(strategy="differential"), 1, run(0, 0)),
        # a run below the highest level would be lost to the original's agent
        (chain(0, 1, 2, 3), incremental(always_level=2), 0, None),
        (chain(0, 1, 2), LevelPolicy(strategy="differential"), 0, None),
        (chain(0, 1, 2, 3), incremental(max_level=2), 0, None),
        # what cannot be restored is not built upon
        (chain(0, 1, 2)[1:], incremental(), 0, None),
        ([*chain(0), *chain(0, 1, 2)[2:]], incremental(), 0, None),
        ([*chain(0), *chain(0, 1, 2)[2:]], incremental(always_level=2), 0, None),
        (chain(1), incremental(), 0, None),
        # the base must be whole, too: level 1 is older than any level 0
        ([run(0, 5), run(1, 3)], incremental(), 0, None),
        # clocks that were set back end nothing
        (chain(0, 1, start=400 * DAY), incremental(restart_always_level=1), 2, run(1, 401 * DAY, chain=400 * DAY)),
    ],
)
def test_histories(runs, policy, level, base):
    decision = next_level(runs, policy, now=T0 + 20 * DAY)
    assert (decision.level, decision.base) == (level, base)
    assert decision.chain == (None if base is None else base.chain)
    assert decision.reason


@pytest.mark.parametrize(("age", "level"), [(0, 2), (7 * DAY - 1, 2), (7 * DAY, 2), (7 * DAY + 1, 0), (99 * DAY, 0)])
def test_a_restart_counts_from_level_0(age, level):
    """The original counts from the newest run, so that daily ones go on for ever."""
    runs = [run(0, 0), run(1, max(1, age - 60))]
    assert next_level(runs, incremental(restart_always_level=7), now=T0 + age).level == level


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strategy": "diferential"}, "diferential"),
        ({"strategy": "incremental", "max_level": 0}, "max_level 0"),
        ({"strategy": "incremental", "always_level": -1}, "always_level -1"),
        ({"strategy": "incremental", "restart_always_level": 0}, "restart_always_level 0"),
        ({"strategy": "incremental", "restart_always_level": float("nan")}, "restart_always_level nan"),
        ({"max_level": 2}, "max_level goes with incremental"),
        ({"always_level": 2}, "always_level goes with incremental"),
        ({"strategy": "differential", "max_level": 2}, "not with differential"),
        ({"strategy": "differential", "always_level": 1}, "not with differential"),
        ({"restart_always_level": 7}, "restart_always_level goes with"),
    ],
)
def test_policies_that_cannot_be_meant(values, message):
    with pytest.raises(ConfigurationError, match=message):
        check_levels(LevelPolicy(**values))
    with pytest.raises(ConfigurationError, match=message):
        next_level([], LevelPolicy(**values), now=T0)


def test_lineage():
    runs = chain(0, 1, 2, 2, 3, 3)
    assert levels(lineage(runs, runs[0])) == [0]
    assert lineage(runs, runs[2]) == tuple(runs[:3])
    assert lineage(runs, runs[3]) == (runs[0], runs[1], runs[3])
    assert lineage(runs, runs[5]) == (runs[0], runs[1], runs[3], runs[5])
    assert lineage(runs[1:], runs[5]) is None
    assert lineage([*chain(0, 1, start=99 * DAY), *runs], runs[2]) == tuple(runs[:3])


levels_or_none = st.none() | st.integers(1, 4)
days_or_none = st.none() | st.sampled_from([0.01, 1, 2.5, 7])
policies = st.one_of(
    st.just(LevelPolicy()),
    st.builds(LevelPolicy, strategy=st.just("differential"), restart_always_level=days_or_none),
    st.builds(
        LevelPolicy,
        strategy=st.just("incremental"),
        max_level=levels_or_none,
        always_level=levels_or_none,
        restart_always_level=days_or_none,
    ),
)


def as_the_original_reads(runs, moment):
    """What its agent restores for a date: of the newest chain that began by then, the newest run of the highest level,
    and below it the newest runs before."""
    begun = {each.chain for each in runs if each.level == 0 and each.time <= moment}
    if not begun:
        return None
    members = [each for each in runs if each.chain == max(begun) and each.time <= moment]
    highest = max(each.level for each in members)
    newest = max((each for each in members if each.level == highest), key=lambda each: each.time)
    return lineage(members, newest)


@given(
    steps=st.lists(st.tuples(policies, st.sampled_from([-DAY, 0, 1, 3600, DAY, 8 * DAY])), max_size=25),
    lost=st.sets(st.integers(0, 24), max_size=3),
)
def test_every_run_can_be_restored(steps, lost):
    """Whatever the policies were meanwhile, whatever the clock did, and whatever is lost."""
    runs, now, gone = [], T0, set()
    for number, (policy, step) in enumerate(steps):
        now += step
        decision = next_level(runs, policy, now=now)
        made = perform(runs, policy, now)
        check(runs, decision, policy, now)
        runs.append(made)
        assert lineage(runs, made) is not None
        assert as_the_original_reads(runs, made.time)[-1] == made
        if decision.base is not None:
            assert lineage(runs, made)[-2] == decision.base
        if number in lost:
            gone.add(runs.pop(number % len(runs)))
    if not gone:
        for each in runs:
            path = lineage(runs, each)
            assert levels(path) == list(range(each.level + 1))
            assert as_the_original_reads(runs, each.time) == path


def check(runs, decision, policy, now):
    if decision.level == 0:
        assert decision.chain is None
        assert decision.base is None
        return
    assert policy.strategy != "full"
    base = decision.base
    assert base in runs
    assert (base.chain, base.level) == (decision.chain, decision.level - 1)
    members = [each for each in runs if each.chain == decision.chain]
    assert decision.chain == max(each.chain for each in runs)
    assert decision.level >= max(each.level for each in members)
    if policy.strategy == "differential":
        assert decision.level == 1
    if policy.max_level is not None:
        assert decision.level <= policy.max_level
    if policy.always_level is not None:
        assert decision.level <= policy.always_level
    if policy.restart_always_level is not None:
        assert now - decision.chain <= policy.restart_always_level * DAY
