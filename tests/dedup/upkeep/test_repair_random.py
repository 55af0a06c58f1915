"""A thousand random damages: nothing whole is ever lost, and a second repair finds nothing to do."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from dedup.upkeep.oracle import Pristine, damaged, fill, given_back, make_pristine
from dedup.upkeep.world import Clocked, opened

from freezer_sdk import Freezer
from freezer_sdk.errors import IntegrityError, RepositoryNotFound, WrongPassword
from freezer_sdk.upkeep_model import RepairResult

CASES = int(os.environ.get("FREEZER_TEST_DAMAGES", "1000")) // 2  # each has one to three
PARTS = 4


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    return make_pristine(tmp_path_factory.mktemp("pristine"))


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_that_is_whole_is_lost(pristine: Pristine, part: int) -> None:
    closed = 0
    for seed in range(part, CASES, PARTS):
        objects = damaged(pristine, seed)
        storage = Clocked()
        fill(storage, objects)
        try:
            freezer = opened(storage)
        except (RepositoryNotFound, WrongPassword, IntegrityError):
            assert not pristine.opens(objects), seed
            closed += 1
            continue
        with freezer:
            look(pristine, freezer, storage, objects, seed)
    assert closed < CASES / PARTS / 10


def look(pristine: Pristine, freezer: Freezer, storage: Clocked, objects: dict[str, bytes], seed: int) -> None:
    result = freezer.maintenance.repair(read_data=True)
    after = storage.content()
    for name, data in pristine.content.items():
        assert after.get(name) in (data, objects.get(name)), (seed, name, "something else took its place")
    again = freezer.maintenance.repair(read_data=True)
    assert (again.steps, again.lost, again.broken) == ((), result.lost, result.broken), seed
    assert storage.content() == after, (seed, "a second repair wrote something")
    with_data = given_back(pristine, storage)
    for file in pristine.readable(objects):
        if file.backup != pristine.forgotten:
            assert with_data.get((file.backup, file.path)) == file.data, (seed, file.path, "whole, and not given back")
    for file in pristine.files:
        assert with_data.get((file.backup, file.path), file.data) == file.data, (seed, "another content")
    tell_the_truth(pristine, freezer, with_data, result, seed)
    if seed % 4 == 0:  # a check takes as long as all the rest
        see_what_is_left(freezer, seed)
    elif seed % 4 == 1:
        prune_loses_nothing(pristine, freezer, storage, with_data, seed)


def tell_the_truth(
    pristine: Pristine, freezer: Freezer, with_data: dict[tuple[str, str], bytes], result: RepairResult, seed: int
) -> None:
    """What the repair says is lost, and nothing else, is lost; a check agrees, and listings show it."""
    listed = {backup.id: backup for backup in freezer.backups()}
    named = {(each.backup, path) for each in result.lost for path in each.paths}
    for file in pristine.files:
        if file.backup in listed and listed[file.backup].status != "damaged":
            known = any(backup == file.backup and _covers(path, file.path) for backup, path in named)
            assert known is ((file.backup, file.path) not in with_data), (seed, file.path)
    for each in result.lost:
        assert listed[each.backup].status == "partial"
        assert {problem.path for problem in listed[each.backup].problems if problem.kind == "lost"} == set(each.paths)
    assert {backup.id for backup in listed.values() if backup.status == "damaged"} == set(result.broken)


def prune_loses_nothing(
    pristine: Pristine, freezer: Freezer, storage: Clocked, before: dict[tuple[str, str], bytes], seed: int
) -> None:
    """Whatever is damaged: of two copies of something the whole one stays."""
    try:
        for _ in range(3):
            freezer.maintenance.prune(max_waste=0.0)
            storage.pass_time(100_000)
    except IntegrityError:  # what backups need is not known: then nothing is deleted
        pass
    assert given_back(pristine, storage) == before, seed


def see_what_is_left(freezer: Freezer, seed: int) -> None:
    """After a repair a check finds nothing that matters but what nothing can mend."""
    found = freezer.maintenance.check(read_data=True)
    left = [finding for finding in found.findings if finding.fatal]
    hopeless = ("backups/", "forgotten/", "keys/", "copies/keys/")
    assert all(finding.path.startswith(hopeless) for finding in left), (seed, left)


def _covers(path: str, inside: str) -> bool:
    return path in ("/", inside) or inside.startswith(path + "/")
