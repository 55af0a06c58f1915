from __future__ import annotations

import io
import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agent.program import Agent
from agent.store import Store


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    home = tmp_path / "home"
    home.mkdir()
    return Agent(home)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "source"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("alpha\n")
    (root / "sub" / "b.conf").write_text("beta\n" * 100)
    (root / "sub" / "skip.log").write_text("gamma\n")
    (root / "link").symlink_to("a.txt")
    return root


@pytest.fixture
def warnings_of() -> Iterator[Callable[[], list[str]]]:
    """What the program logs for its user."""
    handler = logging.StreamHandler(io.StringIO())
    lines: list[str] = []
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("freezer")
    log.addHandler(handler)
    yield lambda: lines
    log.removeHandler(handler)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def store(agent: Agent, tmp_path: Path, tree: Path) -> Store:
    return Store(agent, tmp_path / "store", tree)
