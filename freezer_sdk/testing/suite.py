"""What the conformance suites share: checks that need no test framework, and a runner that needs none either."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal


class SuiteFailure(AssertionError):
    """A plug-in does not do what its contract promises."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one test of a suite ended.

    Attributes:
        name: of the test, without ``test_``.
        message: empty when it passed.
    """

    name: str
    outcome: Literal["passed", "failed"]
    message: str = ""


def check(condition: object, message: str) -> None:
    """Fails the test unless the condition holds; works under ``python -O`` too.

    Raises:
        SuiteFailure: with the message.
    """
    if not condition:
        raise SuiteFailure(message)


def check_equal(actual: object, expected: object, what: str) -> None:
    """Fails the test unless both are equal.

    Raises:
        SuiteFailure: with both values, cut short.
    """
    if actual != expected:
        raise SuiteFailure(f"{what}: got {_short(actual)}, expected {_short(expected)}")


@contextlib.contextmanager
def refused(*errors: type[Exception], what: str) -> Iterator[None]:
    """Fails the test unless the body raises one of the errors.

    Raises:
        SuiteFailure: it raised nothing, or something else.
    """
    wanted = " or ".join(error.__name__ for error in errors)
    try:
        yield
    except errors:
        return
    except Exception as error:
        raise SuiteFailure(f"{what}: raised {type(error).__name__} ({error}) instead of {wanted}") from error
    raise SuiteFailure(f"{what}: raised nothing instead of {wanted}")


class Suite:
    """Base of the suites: a class of ``test_*`` methods that pytest collects in a subclass named ``Test...``."""

    def setup_method(self) -> None:
        """Before each test."""

    def teardown_method(self) -> None:
        """After each test, however it ended."""


def run(
    suite: Suite, *, only: str | None = None, progress: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Runs all tests of a suite without a test framework, one after the other.

    Args:
        only: the one test to run, by the name of its method.
        progress: called with each result as soon as it is known.
    """
    results = []
    for name in dir(suite):
        if name.startswith("test_") and only in (None, name):
            result = _run_one(suite, name)
            progress(result)
            results.append(result)
    return results


def _run_one(suite: Suite, name: str) -> Result:
    problems = []
    steps: tuple[Callable[[], Any], ...] = (suite.setup_method, getattr(suite, name))
    try:
        for step in steps:
            step()
    except Exception as error:
        problems.append(_describe(error))
    try:
        suite.teardown_method()
    except Exception as error:
        problems.append(f"cleaning up: {_describe(error)}")
    label = name.removeprefix("test_")
    return Result(label, "failed", "; ".join(problems)) if problems else Result(label, "passed")


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, SuiteFailure) else f"{type(error).__name__}: {error}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:140]}... ({len(text)} characters) ...{text[-40:]}"
