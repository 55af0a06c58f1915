"""Provider ``lvm`` on real volumes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from lvm_volume import Group, new_group

from freezer_sdk.snapshots.lvm import LvmProvider
from freezer_sdk.testing import SnapshotSuite


@pytest.fixture
def group() -> Iterator[Group]:
    with new_group() as made:
        yield made


@pytest.fixture(scope="module")
def xfs() -> Iterator[tuple[Group, Path]]:
    """A thick volume for several tests, each in a folder of its own."""
    with new_group() as made:
        yield made, made.new_volume(size="310M", kind="xfs")


class TestThickXfs(SnapshotSuite):
    """The shipped suite, where the journal and the identity of the file system need care."""

    provider = LvmProvider
    options: dict[str, str] = {"size": "24M"}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _volume(self, xfs: tuple[Group, Path]) -> None:
        self.group, self.volume = xfs

    def make_volume(self) -> Path:
        folder = self.volume / self.prefix
        folder.mkdir()
        return folder

    def leftovers(self, prefix: str) -> Sequence[str]:
        return self.group.leftovers(prefix)


@pytest.mark.parametrize(("kind", "thin"), [("ext4", False), ("ext4", True), ("xfs", True)])
def test_a_view_shows_one_moment(group: Group, kind: str, thin: bool) -> None:
    volume = group.new_volume(size="310M", kind=kind, pool="200M" if thin else None)
    (volume / "folder").mkdir()
    (volume / "folder/file").write_text("before")
    provider = LvmProvider(size="50%FREE")
    assert provider.probe([volume]).possible
    with provider.create([volume / "folder/file", volume]) as made:
        (volume / "folder/file").write_text("after")
        os.sync()
        assert Path(str(made.views[volume])).joinpath("folder/file").read_text() == "before"
        assert Path(str(made.views[volume / "folder/file"])).read_text() == "before"
        (facts,) = made.facts["snapshots"]
        assert facts["volume"] == f"{group.name}/data"
        assert facts["thin"] == thin
        made.check()
    assert group.leftovers() == []
    assert (volume / "folder/file").read_text() == "after"
