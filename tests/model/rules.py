"""Who is at work in a world, and what must hold in all of its states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from model.actors import Failure, Node, Program
from model.checker import Checker
from model.search import State

from freezer_sdk.storages.base import Capabilities, Storage

GRACE = 3600
"""Seconds; the shortest that is allowed outside of tests."""
CONDITIONAL = Capabilities(conditional_put=True, remote=False)


@dataclass(frozen=True)
class Stored:
    """A run that reported success."""

    backup: str

    def __str__(self) -> str:
        return f"success, backup {self.backup[:8]}"


@dataclass(frozen=True)
class Done:
    """Another program that reported success."""

    what: str = "done"

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True)
class Begun:
    """A program that has begun before a world does."""

    program: Program
    node: Node

    @property
    def result(self) -> Any:
        """How it ended."""
        assert self.node.ended
        return self.node.result


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A program of a world.

    Attributes:
        body: what it does.
        begun: or a program that goes on.
        start, last: numbers of the points in time between which it may begin.
        failures: kinds of errors that it may end with.
        forgets: ids of backups that it makes forgotten.
    """

    name: str
    body: Callable[[Storage], Any] | None = None
    begun: Begun | None = None
    start: int = 0
    last: int | None = None
    skew: int = 0
    frozen: bool = False
    capabilities: Capabilities = CONDITIONAL
    failures: frozenset[str] = frozenset({"LeaseLost", "RepositoryLocked"})
    forgets: frozenset[str] = frozenset()


@dataclass
class Rules:
    """What must hold in every state of a world.

    Args:
        readers: the shipped reader restores every backup in every state, not only when all programs have ended.
        lying: the storage's clock is wrong: who gives up a backup for that does right.
        strict: who is at work for long, and is not kept waiting, must not lose his lease.
    """

    checker: Checker
    actors: Sequence[Actor]
    readers: bool = False
    lying: bool = False
    strict: bool = False
    _forgets: frozenset[str] = field(init=False)
    _away: dict[int, bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._forgets = frozenset().union(*(actor.forgets for actor in self.actors))

    def violation(self, state: State) -> str | None:
        """What is wrong, or ``None``."""
        contents, over = state.contents, True
        for actor, node in zip(self.actors, state.nodes, strict=True):
            if not node.ended:
                over = False
                continue
            result = node.result
            if isinstance(result, Failure) and result.kind not in actor.failures:
                return f"{actor.name} failed: {result}"
            if isinstance(result, Failure) and result.kind == "LeaseLost" and not self._was_away(node):
                return f"{actor.name} failed, although it was never kept waiting: {result}"
            if isinstance(result, Stored) and result.backup not in self._forgets:
                known = self.checker.known(contents)
                if result.backup not in known.visible:
                    return f"{actor.name} reported success and its backup does not count"
        lost = self.checker.lost(contents)
        if lost is None and (over or self.readers):
            lost = self.checker.restores(contents)
        return lost

    def _was_away(self, node: Node) -> bool:
        """Whether a program may have lost its lease: it was at work for long, or, by the strict rule, kept waiting."""
        known = self._away.get(id(node))
        if known is None:
            path = node.path()[1:]
            long = path[-1].moment - path[0].moment >= GRACE
            late = 0
            for before, after in pairwise(path):
                slept = before.call.rest[0] if before.call and before.call.method == "sleep" else 0
                late += after.moment - before.moment - slept
            known = self._away[id(node)] = self.lying or (late >= GRACE // 2 if self.strict else long)
        return known
