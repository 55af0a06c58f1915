"""Every schedule of small worlds, up to a number of interruptions: no backup is lost.

``python tests/model/long.py`` goes further.
"""

from __future__ import annotations

import pytest
from model.lab import Lab
from model.search import Search
from model.worlds import WORLDS


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_no_schedule_with_one_interruption_loses_a_backup(lab: Lab, name: str) -> None:
    report = Search(WORLDS[name](lab), most=1, seconds=60).run()
    print(report)
    assert report.violation is None, f"{report}\n{report.story()}"
    assert report.interruptions == 1, f"not even one interruption was looked at in a minute: {report}"
