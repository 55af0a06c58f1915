"""The model finds the hole when a step of the protocol is taken out."""

from __future__ import annotations

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
