"""Labels of snapshots: whose they are, and whether anybody still needs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from freezer_sdk.errors import ConfigurationError, SnapshotError
from freezer_sdk.snapshots.label import Label, folders, make_folder, remove_folder

OTHER = """
import sys
from freezer_sdk.snapshots.label import Label
print(Label.new("freezer"), flush=True)
sys.stdin.read()
"""


def label_of_another_process() -> tuple[Label, subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    label = Label.parse(process.stdout.readline().strip(), prefix="freezer")
    assert label is not None
    return label, process


def test_labels_are_read_back_as_they_were_made() -> None:
    label = Label.new("my-agent.2")
    assert Label.parse(str(label), prefix="my-agent.2") == label
    assert Label.parse(str(label.numbered(3)), prefix="my-agent.2") == label.numbered(3)
    assert label.pid == os.getpid()
    assert label.token != Label.new("my-agent.2").token


@pytest.mark.parametrize(
    "name",
    [
        "freezer",
        "freezer-1-2",
        "freezer-1-2-abcdef",
        "freezer-1-2-0123456789AB",
        "freezer-1-2-0123456789ab-",
        "freezer-1-2-0123456789ab-x",
        "freezer-x-2-0123456789ab",
        "freezerx-1-2-0123456789ab",
        "xfreezer-1-2-0123456789ab",
        "freezer-1-2-0123456789ab\n",
        "freezer-١-2-0123456789ab",
    ],
)
def test_names_of_others_are_no_labels(name: str) -> None:
    assert Label.parse(name, prefix="freezer") is None


def test_a_label_of_one_prefix_is_none_of_another() -> None:
    assert Label.parse(str(Label.new("freezer-nightly")), prefix="freezer") is None
    assert Label.parse(str(Label.new("freezer")), prefix="freezer-nightly") is None


@pytest.mark.parametrize("prefix", ["", "-x", "1", "a/b", "a b", "a@b", "x" * 33, "ä", "a\n"])
def test_a_prefix_that_no_volume_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError):
        Label.new(prefix)


def test_a_label_is_alive_as_long_as_its_process() -> None:
    label, process = label_of_another_process()
    with process:
        assert label.alive()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not label.alive()  # a zombie needs nothing any more
    assert not label.alive()


def test_another_process_with_the_same_number_does_not_keep_a_label_alive() -> None:
    label = Label.new("freezer")
    earlier = Label(prefix="freezer", pid=label.pid, started=label.started - 1, token=label.token)
    assert label.alive()
    assert not earlier.alive()


def test_a_label_has_a_folder_of_its_own(tmp_path: Path) -> None:
    run = tmp_path / "run"
    label, other = Label.new("freezer"), Label.new("other")
    folder = make_folder(label, run=run)
    make_folder(other, run=run)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert run.stat().st_mode & 0o777 == 0o700
    (folder / "0").mkdir()
    assert list(folders("freezer", run=run)) == [label]
    remove_folder(label, run=run)
    assert not folder.exists()
    assert list(folders("freezer", run=run)) == []
    assert list(folders("other", run=run)) == [other]
    remove_folder(label, run=run)


def test_nothing_is_removed_from_a_mount_point_that_is_not_empty(tmp_path: Path) -> None:
    label = Label.new("freezer")
    point = make_folder(label, run=tmp_path) / "0"
    point.mkdir()
    (point / "data").write_text("data")
    with pytest.raises(SnapshotError, match="cannot remove"):
        remove_folder(label, run=tmp_path)
    assert (point / "data").read_text() == "data"


def test_a_folder_that_others_may_write_to_holds_no_mount_points(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o777)
    with pytest.raises(SnapshotError, match="only this user"):
        make_folder(Label.new("freezer"), run=run)


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SnapshotError, match="only this user"):
        make_folder(Label.new("freezer"), run=tmp_path / "run")
