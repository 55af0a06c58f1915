"""The model finds the hole when a step of the protocol is taken out."""

from __future__ import annotations

from pathlib import Path

import pytest
from model.lab import Lab
from model.mutations import MUTATIONS, Mutation
from model.search import Search
from model.worlds import WORLDS


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.step)
def test_without_this_step_a_backup_is_lost(lab: Lab, mutation: Mutation) -> None:
    with mutation.applied():
        report = Search(WORLDS[mutation.world](lab), most=mutation.interruptions, seconds=900).run()
    print(f"without the step: {mutation.step}\n{report}\n{report.story()}")
    assert report.violation is not None, f"nothing is lost without the step: {mutation.step} ({report})"
    assert mutation.harm in report.violation


def test_the_documentation_tells_what_each_step_is_for() -> None:
    page = (Path(__file__).parents[2] / "docs" / "explanation" / "deletion.md").read_text()
    section = page.partition("## What each step is for")[2].partition("\n## ")[0]
    rows = {line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")}
    assert {mutation.step for mutation in MUTATIONS} == rows - {"Step", "---"}
