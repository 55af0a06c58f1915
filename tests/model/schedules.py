"""One schedule of a world, given as bursts of calls: for chance instead of exhaustion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import NamedTuple

from model.lab import Lab
from model.rules import GRACE, Actor, Stored
from model.search import State, Step, World, result_text
from model.worlds import X, Y

from freezer_sdk.storages.base import Capabilities


class Burst(NamedTuple):
    """What happens without interruption.

    Attributes:
        who: number of the program; past the last one: time goes on, so many points.
        calls: how many at most.
        lag: listings miss what is newer than the world's longest lag.
    """

    who: int
    calls: int
    lag: bool = False


class Played(NamedTuple):
    """A schedule that was carried out."""

    state: State
    violation: str | None
    steps: list[Step]


_HOUR = 3600
Z = b"z" * 1000
_LAG = 600
_STRONG = Capabilities(conditional_put=True, remote=False)
_WEAK = Capabilities(
    conditional_put=False,
    remote=False,
    listing_lag=timedelta(seconds=_LAG),
    clock_resolution=timedelta(seconds=1),
)
_MAY = frozenset({"LeaseLost", "RepositoryLocked", "StorageUnavailable", "BackupNotFound"})


def _crowd(lab: Lab, capabilities: Capabilities, *, lags: tuple[int, ...], step: int) -> World:
    """Three writers whose clocks are wrong, two who forget, and maintenance over and over."""
    tree = {"a": X, "b": Y}
    old: Stored = lab.alone("B0", lab.tree("B0", tree))
    lab.alone("F0", lab.forget(old.backup))
    begun = lab.together({"W": lab.tree("B1", tree), "P": lab.prune()}, ["W before put backups/", "P", "W"])
    first: Stored = begun["W"].result  # needs packs that are marked
    second: Stored = lab.alone("B2", lab.stream("B2", Z), after=GRACE // 2)
    gone = frozenset({first.backup, second.backup})
    points = 6 * GRACE // step

    def actor(name: str, body: Callable, **options: object) -> Actor:
        return Actor(name=name, body=body, capabilities=capabilities, failures=_MAY, forgets=gone, **options)

    return lab.world(
        "a crowd",
        actor("W1", lab.tree("W1", tree)),
        actor("W2", lab.stream("W2", Z), skew=-7 * _HOUR, frozen=True),
        actor("W3", lab.slow("W3", Y, pieces=3, seconds=step), skew=9 * _HOUR),
        actor("F1", lab.forget(first.backup), skew=3 * _HOUR),
        actor("F2", lab.forget(second.backup)),
        actor("U", lab.undelete("B2", second.backup), skew=-_HOUR),
        *(
            actor(f"P{number}", lab.prune(), skew=(-5 + 3 * number) * _HOUR, start=number * points // 5)
            for number in range(5)
        ),
        after=GRACE // 2,
        times=[step * number for number in range(points)],
        lags=lags,
    )


def strong(lab: Lab) -> World:
    """On a storage that decides conditional puts and lists everything."""
    return _crowd(lab, _STRONG, lags=(0,), step=GRACE // 3)


def weak(lab: Lab) -> World:
    """On a storage without conditional put whose listings lag."""
    return _crowd(lab, _WEAK, lags=(0, _LAG), step=_LAG // 2)


CROWDS: dict[str, Callable[[Lab], World]] = {"strong": strong, "weak": weak}


def play(world: World, bursts: Iterable[Burst]) -> Played:
    """Carries out bursts until something is wrong."""
    state, steps = world.start(), list[Step]()
    for burst in bursts:
        for _ in range(burst.calls):
            after = _step(world, state, burst, steps)
            if after is None:
                break
            state = after
            violation = world.violation(state)
            if violation is not None:
                return Played(state, violation, steps)
    return Played(state, None, steps)


def end(world: World) -> list[Burst]:
    """Bursts that let every program that has not ended go on, at each point in time that is left."""
    every = [Burst(number, 1000) for number in range(len(world.programs))]
    return [burst for _ in world.times for burst in [*every, Burst(len(every), 1)]] + every


def _step(world: World, state: State, burst: Burst, steps: list[Step]) -> State | None:
    if burst.who >= len(world.programs):
        later = world.wait(state)
        if later is not None:
            steps.append(Step("", world.clock(later)))
        return later
    call = world.pending(state, burst.who)
    if call is None:
        return None
    lag = max(world.lags) if burst.lag and call.method == "list" else 0
    state = world.step(state, burst.who, lag=lag)
    world.pending(state, burst.who)
    node = state.nodes[burst.who]
    note = f" (misses the last {lag} s)" if lag else ""
    note += f" -> ended: {result_text(node.result)}" if node.ended else ""
    steps.append(Step(world.programs[burst.who].name, f"{call}{note}"))
    return state
