"""Makes the helpers of this folder importable from the tests below it; gives signals their usual meaning.

Property tests have no time limit for one example: machines may be busy.
"""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")


def pytest_configure() -> None:
    """A run in the background (``nohup``, ``&``) ignores signals, and the programs under test would inherit that."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Shows what tests recorded by ``record_property("figure", ...)``: for people, no test depends on it."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "figure" and report.when == "call":
                terminalreporter.write_line(f"figure: {report.nodeid}: {value}")
