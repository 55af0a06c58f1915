"""Every schedule of small worlds, up to a number of interruptions: no backup is lost.

``python tests/model/long.py`` goes further.
"""

from __future__ import annotations

import pytest
from model.lab import Lab
from model.search import Search
from model.worlds import WORLDS

_LARGE = {"an index that was read long ago", "a writer whose machine sleeps", "two writers and two maintainers"}
"""Here the tests only look at schedules without interruptions."""


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_no_schedule_with_one_interruption_loses_a_backup(lab: Lab, name: str) -> None:
    most = 0 if name in _LARGE else 1
    report = Search(WORLDS[name](lab), most=most, seconds=900).run()
    print(report)
    assert report.violation is None, f"{report}\n{report.story()}"
    assert report.interruptions == most, f"not even that was looked at in a quarter of an hour: {report}"
