"""The original's agent as the tests use it: without it nothing that they say of exchange would mean much."""

from __future__ import annotations

from pathlib import Path

import pytest
from original_agent import OriginalAgent

pytestmark = pytest.mark.original


def test_the_agent_restores_what_it_stored(agent: OriginalAgent, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a b.txt").write_text("hello\n")
    agent.backup(tmp_path / "store", source)
    agent.restore(tmp_path / "store", tmp_path / "target")
    assert (tmp_path / "target/a b.txt").read_text() == "hello\n"
