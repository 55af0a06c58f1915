"""Any changes of a tree over five levels: what we read is what was there, and what GNU tar extracts."""

from __future__ import annotations

import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tar.chain import TAR, Chain, Facts, difference, disk, merged
from tar.changes import Change, Changes

from freezer_sdk.model import Problem

pytestmark = pytest.mark.skipif(TAR is None, reason="GNU tar is not installed")

LEVELS = 5
OLD = ("--format=gnu",)
OLD_SPARSE = ("--format=gnu", "--sparse")
POSIX = ("--format=posix",)
POSIX_ALL = ("--format=posix", "--sparse", "--xattrs", "--acls")

CREATE, DIRECTORY, MOVE_DIRECTORY, EXCHANGE = range(4)
EXCHANGED_TWICE = [  # two directories of the same names change places; later levels have no changes at all
    [(DIRECTORY, 0, 0, 0), (DIRECTORY, 0, 1, 0), (CREATE, 1, 2, 1), (CREATE, 2, 2, 2)],
    [(EXCHANGE, 0, 1, 0)],
    [],
    [(CREATE, 0, 3, 3)],
    [],
]
INTO_THE_PLACE_OF_ANOTHER = [  # what has the new name is not empty, and goes away
    [(DIRECTORY, 0, 0, 0), (DIRECTORY, 0, 1, 0), (CREATE, 1, 2, 1), (CREATE, 2, 3, 2)],
    [(8, 1, 0, 0), (MOVE_DIRECTORY, 0, 1, 0)],
    [],
    [],
    [],
]


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    first=Changes.lists(most=16),
    others=st.lists(Changes.lists(most=5), min_size=LEVELS - 1, max_size=LEVELS - 1),
    options=st.sampled_from([OLD, OLD_SPARSE, POSIX, POSIX_ALL]),
)
@example(first=EXCHANGED_TWICE[0], others=EXCHANGED_TWICE[1:], options=POSIX)
@example(first=INTO_THE_PLACE_OF_ANOTHER[0], others=INTO_THE_PLACE_OF_ANOTHER[1:], options=POSIX)
def test_every_level_is_as_the_tree_was(
    first: list[Change], others: list[list[Change]], options: tuple[str, ...]
) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="freezer-test-"))
    fine = "--format=posix" in options
    try:
        source = scratch / "source"
        source.mkdir()
        chain = Chain(source, scratch, *options)
        changes = Changes(source)
        for number, level in enumerate([first, *others]):
            changes.apply(level)
            chain.backup()
            there = disk(source, fine=fine)
            problems: list[Problem] = []
            ours = merged(chain.content(problems), fine=fine)
            target = scratch / f"extracted-{number}"
            complaints = chain.extract(target, "--preserve-permissions", "--same-owner")
            by_tar = disk(target, fine=fine)
            shutil.rmtree(target)
            _compare(there, ours, by_tar, complaints=bool(complaints))
            if fine:  # whole seconds cannot tell what happened within one
                _check_told(there, ours, problems)
    finally:
        shutil.rmtree(scratch)


def _compare(there: Facts, ours: Facts, by_tar: Facts, *, complaints: bool) -> None:
    """Ours is the tree. Where GNU tar stored too little for that, its extraction is wrong as well."""
    lost = _lost(there, ours)
    assert lost <= set(difference(there, by_tar)) or complaints, difference(there, ours)
    if not complaints and not difference(there, by_tar):
        assert not difference(there, ours)


def _check_told(there: Facts, ours: Facts, problems: list[Problem]) -> None:
    """What is not as it was is told, or something that leads to it."""
    told = [problem.path.encode("utf-8", "surrogateescape") for problem in problems if problem.fatal]
    for path in _lost(there, ours):
        assert any(path == each or path.startswith(each + b"/") for each in told), (path, told)


def _lost(there: Facts, ours: Facts) -> set[bytes]:
    wrong = difference(there, ours)
    return {path for path in wrong if not _same_but_links(there.get(path), ours.get(path))}


def _same_but_links(there: tuple[object, ...] | None, ours: tuple[object, ...] | None) -> bool:
    """A directory that GNU tar stored anew lost the links between its files and others that did not change."""
    return there is not None and ours is not None and there[:6] == ours[:6] and there[0] != stat.S_IFDIR
