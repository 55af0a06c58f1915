"""All interleavings of some programs, in the order of how often one of them is interrupted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from model.actors import Node, Program
from model.contents import Call, Contents

_LOCAL = frozenset({"flush"})  # calls that no other program can notice, nor have a part in


class State(NamedTuple):
    """Of a world.

    Attributes:
        moment: number of the point in time.
        nodes: one for each program.
    """

    contents: Contents
    moment: int
    nodes: tuple[Node, ...]


@dataclass(kw_only=True)
class World:
    """What is searched.

    Attributes:
        nodes: how far each program has come.
        times: seconds since the beginning at which anything happens; the adversary decides when time goes on.
        begins: for each program the numbers of the points in time at which it may begin.
        violation: says what is wrong with a state, or gives ``None``.
        lags: seconds for which listings may miss what was stored.
    """

    name: str
    contents: Contents
    programs: list[Program]
    nodes: list[Node]
    times: list[int]
    begins: list[range]
    violation: Callable[[State], str | None]
    lags: tuple[int, ...] = (0,)

    def start(self) -> State:
        return State(self.contents, 0, tuple(self.nodes))

    def pending(self, state: State, number: int) -> Call | None:
        """What a program asks next; ``None``: it has ended, has not begun, or sleeps."""
        node, program = state.nodes[number], self.programs[number]
        if node.ended or (node is program.root and state.moment not in self.begins[number]):
            return None
        if not node.known:
            program.learn(node, state.contents, self.times[state.moment])
        call, time = node.call, self.times[state.moment]
        sleeps = call is not None and call.method == "sleep" and time < node.moment + call.rest[0]
        return None if sleeps else call

    def step(self, state: State, number: int, *, lag: int = 0) -> State:
        """A program's next call happens."""
        node, moment = state.nodes[number], self.times[state.moment]
        assert node.call is not None
        contents, answer = state.contents.do(node.call, moment, lag=lag)
        nodes = list(state.nodes)
        nodes[number] = self.programs[number].next(node, answer, moment)
        return State(contents, state.moment, tuple(nodes))

    def wait(self, state: State) -> State | None:
        """Time goes on to the next point; ``None``: there is none."""
        return state._replace(moment=state.moment + 1) if state.moment + 1 < len(self.times) else None

    def clock(self, state: State) -> str:
        """Says what time it is."""
        return f"{(self.times[state.moment] - self.times[0]) / 3600:.2f} hours after the beginning"


class Step(NamedTuple):
    """One event of a schedule: who asked what; ``who`` is empty when time went on."""

    who: str
    what: str

    def __str__(self) -> str:
        return f"{self.who:>4}  {self.what}" if self.who else f"      -- {self.what}"


@dataclass
class Report:
    """What a search found.

    Attributes:
        interruptions: all schedules with so many were looked at; -1: none completely.
        runs: of programs.
        exhausted: there is no schedule with more.
    """

    world: str
    states: int = 0
    steps: int = 0
    runs: int = 0
    seconds: float = 0.0
    interruptions: int = -1
    exhausted: bool = False
    violation: str | None = None
    schedule: list[Step] = field(default_factory=list)

    def __str__(self) -> str:
        reach = "all schedules" if self.exhausted else f"all schedules with {self.interruptions} interruptions"
        found = f"{self.violation}, after {len(self.schedule)} steps" if self.violation else f"nothing lost in {reach}"
        return (
            f"{self.world}: {found} ({self.states} states, {self.steps} steps, {self.runs} runs of the code, "
            f"{self.seconds:.1f} s)"
        )

    def story(self) -> str:
        """The schedule for people."""
        return "\n".join(str(step) for step in self.schedule)


_Key = tuple[int, ...]


class Search:
    """Breadth-first by the number of interruptions; each state is expanded once.

    An *interruption* is that another program goes on, or time, although the one that ran last could: a pause, for ever
    if the program is never run again, which is how a crash looks from outside. So n interruptions are any mixture of n
    crashes, pauses and changes between programs.

    Args:
        most: interruptions.
        seconds: to stop after.
    """

    def __init__(self, world: World, *, most: int = 1 << 30, seconds: float = 3600.0) -> None:
        self._world, self._most, self._seconds = world, most, seconds
        self._from: dict[_Key, tuple[_Key | None, int]] = {}
        self._queue: deque[tuple[int, _Key, State, int]] = deque()
        self._report = Report(world.name)
        self._cost = 0

    def run(self) -> Report:
        """Searches."""
        report, world, begun = self._report, self._world, time.perf_counter()
        before = sum(program.runs for program in world.programs)
        self._add(world.start(), -1, 0, None, -2)
        reached, done = 0, set[_Key]()
        while self._queue and report.violation is None:
            cost, key, state, last = self._queue.popleft()
            if key in done:
                continue
            done.add(key)
            if cost > reached:
                report.interruptions, reached = cost - 1, cost
            if time.perf_counter() - begun > self._seconds:
                break
            self._expand(cost, key, state, last)
        else:
            if report.violation is None:
                report.interruptions = min(self._most, reached)
                report.exhausted = reached < self._most
        report.states, report.seconds = len(done), time.perf_counter() - begun
        report.runs = sum(program.runs for program in world.programs) - before
        return report

    def _expand(self, cost: int, key: _Key, state: State, last: int) -> None:
        world, self._cost = self._world, cost
        going = None if last < 0 else world.pending(state, last)
        price = cost
        if going is not None:
            self._step(state, last, cost, key)
            price = cost + 1
            begun = state.nodes[last].parent is world.programs[last].root
            if price > self._most or begun or going.method in _LOCAL:
                return
        for number in range(len(world.programs)):
            if number != last and world.pending(state, number) is not None:
                self._step(state, number, price, key)
        later = world.wait(state)
        if later is not None:
            self._add(later, -1, price, key, -1)

    def _step(self, state: State, number: int, cost: int, key: _Key) -> None:
        call = state.nodes[number].call
        for lag in self._world.lags if call is not None and call.method == "list" else (0,):
            self._report.steps += 1
            self._add(self._world.step(state, number, lag=lag), number, cost, key, number)

    def _add(self, state: State, last: int, cost: int, above: _Key | None, who: int) -> None:
        key = (state.contents.digest, state.moment, last, *(node.number for node in state.nodes))
        if key in self._from and not self._cheaper(key, cost):
            return
        self._from[key] = (above, cost)
        if who >= 0 and not state.nodes[who].known:  # does it end here?
            self._world.pending(state, who)
        violation = self._world.violation(state)
        if violation is not None and self._report.violation is None:
            self._report.violation = violation
            self._report.schedule = list(self._story(key))
        entry = (cost, key, state, last)
        (self._queue.append if cost > self._cost else self._queue.appendleft)(entry)

    def _cheaper(self, key: _Key, cost: int) -> bool:
        return cost < self._from[key][1]

    def _story(self, key: _Key) -> Iterator[Step]:
        keys: list[_Key] = []
        at: _Key | None = key
        while at is not None:
            keys.append(at)
            at = self._from[at][0]
        keys.reverse()
        world = self._world
        state = world.start()
        for before, after in pairwise(keys):
            who = after[2] if after[1] == before[1] else -1
            if who < 0:
                later = world.wait(state)
                assert later is not None
                state = later
                yield Step("", world.clock(state))
                continue
            call = state.nodes[who].call
            for lag in world.lags:
                new = world.step(state, who, lag=lag)
                if new.nodes[who].number == after[3 + who]:
                    break
            state = new
            end = state.nodes[who]
            note = f" -> ended: {result_text(end.result)}" if end.ended else ""
            yield Step(world.programs[who].name, f"{call}{note}")


def result_text(result: object) -> str:
    """How a program ended, in one line."""
    text = str(result)
    return text if len(text) < 100 else text[:97] + "..."
