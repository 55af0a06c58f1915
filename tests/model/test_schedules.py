"""Schedules by chance, for crowds that are too large for all of them.

Clocks are wrong by hours, listings lag, programs are suspended for longer than the grace time, or for ever.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from model.lab import Lab
from model.schedules import CROWDS, Burst, end, play
from model.search import World

_PROGRAMS = 11
_BURSTS = st.lists(
    st.builds(Burst, st.integers(0, _PROGRAMS), st.sampled_from((1, 2, 3, 5, 8, 13, 21, 34)), st.booleans()),
    min_size=5,
    max_size=60,
)


@pytest.fixture(params=CROWDS)
def crowd(request: pytest.FixtureRequest, lab: Lab) -> World:
    return CROWDS[request.param](lab)


@pytest.mark.slow
def test_no_schedule_by_chance_loses_a_backup(crowd: World) -> None:
    assert len(crowd.programs) == _PROGRAMS

    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(bursts=_BURSTS)
    def runs(bursts: list[Burst]) -> None:
        result = play(crowd, [*bursts, *end(crowd)])
        story = "\n".join(str(step) for step in result.steps)
        assert result.violation is None, f"{result.violation}\n{story}"

    runs()
