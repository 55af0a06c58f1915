"""What is found wrong while levels are read; each thing is told once, though streams are read several times."""

from __future__ import annotations

import threading

from freezer_sdk.model import Problem
from freezer_sdk.modes.base import ProblemHandler


class Findings:
    """Collects problems, from any thread.

    Args:
        told: called for each, once.
    """

    def __init__(self, told: ProblemHandler = lambda problem: None) -> None:
        self._told = told
        self._lock = threading.Lock()
        self._found: dict[Problem, None] = {}

    def add(self, problem: Problem) -> None:
        """Takes a problem."""
        with self._lock:
            if problem in self._found:
                return
            self._found[problem] = None
        self._told(problem)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All of them, in the order in which they were found."""
        with self._lock:
            return tuple(self._found)

    @property
    def fatal(self) -> bool:
        """Whether something is not whole."""
        return any(problem.fatal for problem in self.problems)
