"""What the tests of exchange with the original share."""

from __future__ import annotations

from pathlib import Path

import pytest
from original_agent import OriginalAgent, original_agent


@pytest.fixture
def agent(tmp_path: Path) -> OriginalAgent:
    """The real agent."""
    return original_agent(tmp_path / "agent")
