"""Any changes of a tree over five levels: every level of the engine is restored exactly, by us and by the original."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tar.chain import TAR, Facts, difference, disk
from tar.changes import Change, Changes
from tar.test_merge import EXCHANGED_TWICE, INTO_THE_PLACE_OF_ANOTHER
from tar.writer import Writer

from freezer_sdk import Freezer
from freezer_sdk.storages.memory import MemoryStorage

pytestmark = pytest.mark.skipif(TAR is None, reason="GNU tar is not installed")

LEVELS = 5
BY_THE_ORIGINAL = ("--gzip", "--incremental", "--extract", "--ignore-zeros", "--warning=none", "--overwrite")


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    first=Changes.lists(most=16),
    others=st.lists(Changes.lists(most=5), min_size=LEVELS - 1, max_size=LEVELS - 1),
)
@example(first=EXCHANGED_TWICE[0], others=EXCHANGED_TWICE[1:])
@example(first=INTO_THE_PLACE_OF_ANOTHER[0], others=INTO_THE_PLACE_OF_ANOTHER[1:])
def test_every_level_is_restored_as_the_tree_was(first: list[Change], others: list[list[Change]]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="freezer-test-"))
    storage = MemoryStorage()
    try:
        source = scratch / "source"
        source.mkdir()
        changes = Changes(source)
        options = {"strategy": "incremental"}
        with Freezer(storage, create=True, engine="tar", encryption=False, engine_options=options) as freezer:
            there: dict[str, Facts] = {}
            for number, level in enumerate([first, *others]):
                changes.apply(level)
                backup = freezer.backup(source, name="t")
                assert backup.status == "complete", backup.problems
                assert backup.level == number
                there[backup.id] = disk(source, fine=True)
                time.sleep(0.03)  # what changes now has another time than the run
            for number, (identifier, facts) in enumerate(there.items()):
                target = scratch / str(number)
                result = freezer.restore(identifier, target)
                assert not [problem for problem in result.problems if problem.fatal], result.problems
                assert_same(facts, disk(target, fine=True))
        streams = [storage.get(info.name) for info in storage.list("data/") if info.name.endswith("/data")]
        target = scratch / "by the original"
        target.mkdir()
        for number, (stream, facts) in enumerate(zip(streams, there.values(), strict=True)):
            done = subprocess.run(
                [TAR or "tar", *BY_THE_ORIGINAL, f"--directory={target}"],
                cwd=target.parent,  # GNU tar makes folders for directories that change places where it was started
                input=stream,
                capture_output=True,
                check=False,
            )
            assert not done.returncode, (number, done.stderr)
            assert_same(facts, disk(target, fine=True))
    finally:
        shutil.rmtree(scratch)


def assert_same(there: Facts, restored: Facts) -> None:
    """The same but for hard links: files of a directory that is stored anew are no longer linked with others."""
    wrong = difference(there, restored)
    assert all(before and after and before[:6] == after[:6] for before, after in wrong.values()), wrong


@pytest.mark.parametrize("names", [("d", "e"), ("e", "d")])
def test_a_directory_in_the_place_of_another_is_stored_though_its_files_are_old(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    """GNU tar alone stores that two were exchanged, and repeats it at each later level: every other one is wrong."""
    source = tmp_path / "source"
    for name in names:
        (source / name).mkdir(parents=True)
        (source / name / "same name").write_text(name)
        os.utime(source / name / "same name", (1_000_000_000, 1_000_000_000))
    writer = Writer(source)
    time.sleep(0.1)
    writer.backup()
    (source / "d").rename(source / "aside")
    (source / "e").rename(source / "d")
    (source / "aside").rename(source / "e")
    for level in (1, 2, 3):
        writer.backup()
        assert difference(writer.restored(tmp_path / str(level)), disk(source, fine=True)) == {}
        assert (tmp_path / str(level) / "d" / "same name").read_text() == "e"
    assert b"./d/same name" in writer.streams[1]
