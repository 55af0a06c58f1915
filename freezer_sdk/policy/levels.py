"""Levels: whether the next backup of a series is full or an increment, and to what. A pure function.

A *chain* is a full backup (level 0) with its increments. A run of level L is an increment to the newest run of level
L - 1 before it, so one level may be there several times: each of these runs can be restored. The original agent
restores the highest level that it finds; a run of a lower level than one before it would be lost to it, so none is ever
made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from freezer_sdk.errors import ConfigurationError

Strategy = Literal["full", "incremental", "differential"]
STRATEGIES: Final = ("full", "incremental", "differential")
DAY: Final = 86_400


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelRun:
    """One committed backup of a series.

    Attributes:
        chain: time of the chain's level 0, in seconds since 1970.
        level: 0 or more.
        time: in seconds since 1970.
    """

    chain: int
    level: int
    time: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelPolicy:
    """What the user wants.

    Attributes:
        strategy: ``full``: level 0 each time; ``incremental``: each run is an increment to the one before it, within
            what the other attributes say; ``differential``: each run is an increment to level 0.
        max_level: the highest level; the run after it is full. ``None``: no highest one.
        always_level: the level that is repeated once it is reached. ``None``: none is.
        restart_always_level: days after which a chain is not continued, counted from its level 0. ``None``: never.
    """

    strategy: Strategy = "full"
    max_level: int | None = None
    always_level: int | None = None
    restart_always_level: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelDecision:
    """What the next run is.

    Attributes:
        level: of the run.
        chain: that it continues; ``None``: it begins a new one.
        base: the run that it is an increment to; ``None`` for level 0.
        reason: for people.
    """

    level: int
    chain: int | None
    base: LevelRun | None
    reason: str


def next_level(runs: Sequence[LevelRun], policy: LevelPolicy, *, now: int) -> LevelDecision:
    """Decides what the next run of a series is.

    Args:
        runs: the committed ones, of all chains, in any order.
        now: seconds since 1970. A clock that was set back ends no chain.

    Raises:
        ConfigurationError: the policy makes no sense; see :func:`check_levels`.
    """
    check_levels(policy)
    if policy.strategy == "full":
        return _full("a full backup was asked for")
    if not runs:
        return _full("the first backup of the series")
    chain = max(run.chain for run in runs)
    members = [run for run in runs if run.chain == chain]
    highest = max(run.level for run in members)
    days = policy.restart_always_level
    if days is not None and now - chain > days * DAY:
        return _full(f"the chain began more than {days:g} days ago")
    if policy.max_level is not None and highest >= policy.max_level:
        return _full(f"the chain has reached level {policy.max_level}")
    repeated = 1 if policy.strategy == "differential" else policy.always_level
    if repeated is not None and highest > repeated:
        return _full(f"the chain has gone beyond level {repeated}")
    level = highest if highest == repeated else highest + 1
    base = max((run for run in members if run.level == level - 1), key=lambda run: run.time, default=None)
    if base is None or lineage(members, base) is None:
        return _full("the newest chain is not whole")
    what = "once more" if level == highest else "the next one"
    return LevelDecision(level=level, chain=chain, base=base, reason=f"level {level}, {what} of the chain")


def lineage(runs: Iterable[LevelRun], target: LevelRun) -> tuple[LevelRun, ...] | None:
    """The runs that a restore of one run needs, from level 0 to itself; ``None`` when one of them is missing.

    Args:
        runs: of the same chain at least.
    """
    members = [run for run in runs if run.chain == target.chain]
    needed = [target]
    for level in reversed(range(target.level)):
        before = [run for run in members if run.level == level and run.time < needed[-1].time]
        if not before:
            return None
        needed.append(max(before, key=lambda run: run.time))
    return tuple(reversed(needed))


def check_levels(policy: LevelPolicy) -> None:
    """Refuses policies that cannot be meant.

    Raises:
        ConfigurationError: an unknown strategy, numbers out of range, or level options that its strategy does not have.
    """
    if policy.strategy not in STRATEGIES:
        raise ConfigurationError(
            f"{policy.strategy!r} is no strategy for levels", hint=f"one of {', '.join(STRATEGIES)}"
        )
    for name in ("max_level", "always_level"):
        value = getattr(policy, name)
        if value is not None and value < 1:
            raise ConfigurationError(f"{name} {value} makes no sense", hint="1 or more; full backups: strategy full")
        if value is not None and policy.strategy != "incremental":
            raise ConfigurationError(
                f"{name} goes with incremental backups, not with {policy.strategy} ones",
                hint=f"leave {name} or the strategy out",
            )
    days = policy.restart_always_level
    if days is not None and not days > 0:
        raise ConfigurationError(f"restart_always_level {days:g} makes no sense", hint="days, more than 0")
    if days is not None and policy.strategy == "full":
        raise ConfigurationError("restart_always_level goes with increments, not with full backups")


def _full(reason: str) -> LevelDecision:
    return LevelDecision(level=0, chain=None, base=None, reason=reason)
