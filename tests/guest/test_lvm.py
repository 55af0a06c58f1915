"""Provider ``lvm`` on real volumes, which all tests here share: making them takes seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from killing import killed_forks_at_each_step
from lvm_volume import Group, new_group, run

from freezer_sdk import ConfigurationError, Event, Freezer, SnapshotError
from freezer_sdk.snapshots.lvm import LvmProvider
from freezer_sdk.testing import SnapshotSuite

VOLUMES = {
    "xfs": {"kind": "xfs", "size": "310M"},
    "xfsthin": {"kind": "xfs", "size": "310M", "pool": "80M"},
    "ext4": {"kind": "ext4", "size": "100M"},
    "ext4thin": {"kind": "ext4", "size": "100M", "pool": "60M"},
}


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with new_group("640M") as made:
        for name, details in VOLUMES.items():
            made.new_volume(name, **details)
        yield made


class TestThickXfs(SnapshotSuite):
    """The shipped suite, where the journal and the identity of the file system need care."""

    provider = LvmProvider
    options: dict[str, str] = {"size": "24M"}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _volume(self, group: Group) -> None:
        self.group = group

    def make_volume(self) -> Path:
        folder = self.group.folder / "xfs" / self.prefix
        folder.mkdir()
        return folder

    def leftovers(self, prefix: str) -> Sequence[str]:
        return self.group.leftovers(prefix)


@pytest.mark.parametrize("name", ["ext4", "ext4thin", "xfsthin"])
def test_a_view_shows_one_moment(group: Group, name: str) -> None:
    volume = group.folder / name
    (volume / "folder").mkdir()
    (volume / "folder/file").write_text("before")
    with LvmProvider(size="50%FREE").create([volume / "folder/file", volume]) as made:
        (volume / "folder/file").write_text("after")
        os.sync()
        assert (view_of(volume, made.views) / "folder/file").read_text() == "before"
        assert view_of(volume / "folder/file", made.views).read_text() == "before"
        (facts,) = made.facts["snapshots"]
        assert (facts["volume"], facts["thin"]) == (f"{group.name}/{name}", name.endswith("thin"))
        made.check()
    assert group.leftovers() == []
    assert (volume / "folder/file").read_text() == "after"


def test_several_volumes_make_one_group(group: Group) -> None:
    paths = [group.folder / "ext4" / "one", group.folder / "ext4thin" / "two"]
    for path in paths:
        path.write_text(path.name)
    with LvmProvider(size="100%FREE").create(paths) as made:
        assert [view_of(path, made.views).read_text() for path in paths] == ["one", "two"]
        assert not made.facts["atomic"]
        assert [each["thin"] for each in made.facts["snapshots"]] == [False, True]
        made.check()
    assert group.leftovers() == []


def test_names_and_places_can_be_chosen(group: Group, tmp_path: Path) -> None:
    volume = group.folder / "ext4"
    (volume / "file").write_text("before")
    point = tmp_path / "point"
    own = {"volume_group": group.name, "source_volume": f"/dev/{group.name}/ext4", "snapshot_name": "nightly"}
    with LvmProvider(size="16M", permission="rw", mount_point=point, **own).create([volume]) as made:
        assert made.views[volume] == point
        assert group.volumes()["nightly"]["lv_tags"].startswith("freezer-")
        (point / "file").write_text("written into the view")
        with pytest.raises(SnapshotError, match="is mounted on"), LvmProvider(mount_point=point).create([volume]):
            pass
        with pytest.raises(SnapshotError, match="nightly"), LvmProvider(size="16M", **own).create([volume]):
            pass
        assert (point / "file").read_text() == "written into the view"
    assert (volume / "file").read_text() == "before"
    assert not point.exists()
    assert not any(row["origin"] for row in group.volumes().values())


def test_udev_is_not_needed(group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lvm.conf").write_text("")  # by default LVM leaves device nodes to udev
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path))
    volume = group.folder / "ext4"
    with LvmProvider(size="8M").create([volume]) as made:
        assert "lost+found" in os.listdir(view_of(volume, made.views))
    assert group.leftovers() == []


def test_a_volume_goes_on_after_a_failure(group: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = tmp_path / "lvcreate"
    wrapper.write_text(f"#!/bin/sh\ndmsetup suspend {group.name}-ext4\nexit 5\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    volume = group.folder / "ext4"
    with pytest.raises(SnapshotError, match="status 5"), LvmProvider(size="8M").create([volume]):
        pass
    assert run("dmsetup", "info", "-c", "--noheadings", "-o", "suspended", f"{group.name}-ext4").strip() == "Active"
    (volume / "written").touch()


def test_what_cannot_be_is_told_beforehand(group: Group) -> None:
    volume = group.folder / "xfs"
    for wrong in ({"volume_group": "other"}, {"source_volume": "other"}, {"source_volume": "/dev/null"}):
        assert f"{volume} lies on {group.name}/xfs, not " in LvmProvider(size="16M", **wrong).probe([volume]).reason
    assert "MiB free, a snapshot wants 312 MiB" in LvmProvider(size="1G").probe([volume]).reason
    assert "which is no LVM volume" in LvmProvider().probe([Path("/run")]).reason
    with pytest.raises(SnapshotError, match="insufficient free space"), LvmProvider(size="1G").create([volume]):
        pass
    with pytest.raises(ConfigurationError, match="no size of a snapshot"):
        LvmProvider(size="much")
    assert group.leftovers() == []


def test_a_snapshot_that_overflows_commits_nothing(group: Group, tmp_path: Path) -> None:
    source = group.folder / "ext4" / "source"
    source.write_bytes(os.urandom(1 << 20))
    written = []

    def write_much(event: Event) -> None:
        if not written and group.leftovers():
            written.append(event)
            with open(group.folder / "ext4" / "much", "wb") as much:
                much.write(os.urandom(24 << 20))
                os.fsync(much.fileno())

    options = {"size": "8M"}
    with Freezer(f"local:{tmp_path}/repository", create=True, encryption=False) as freezer:
        with pytest.raises(SnapshotError, match="is invalid: more than its 8 MiB changed"):
            freezer.backup(source, snapshot="lvm", snapshot_options=options, events=write_much)
        assert written
        assert freezer.backups() == []
        assert group.leftovers() == []
        assert freezer.backup(source, snapshot="auto", snapshot_options=options).paths == (str(source),)
    assert group.leftovers() == []


@pytest.mark.parametrize(("name", "engine"), [("ext4", "dedup"), ("xfs", "tar")])
def test_unmodified_files_are_recognised(group: Group, tmp_path: Path, name: str, engine: str) -> None:
    """Each snapshot is another device, mounted elsewhere."""
    data = group.folder / name / "unmodified"
    data.mkdir()
    for number in range(3):
        (data / f"file {number}").write_text("content")
    time.sleep(0.1)  # older than what counts as racy
    levels = {"max_level": 5} if engine == "tar" else {}
    place = f"local:{tmp_path}/{engine}"
    with Freezer(place, create=True, encryption=False, engine=engine, engine_options=levels) as freezer:
        snapshot = {"snapshot": "lvm", "snapshot_options": {"size": "24M"}}
        freezer.backup(data, **snapshot)
        for how in (snapshot, {}, snapshot):
            stats = freezer.backup(data, **how).stats
            assert (stats.unmodified_files, stats.changed_files, stats.new_files) == (3, 0, 0)


def test_kill_at_each_step_leaves_what_reap_removes(group: Group, tmp_path: Path) -> None:
    path = group.folder / "ext4" / "kept"
    path.write_text("kept")
    run("lvcreate", "-qy", "-Wn", "--size", "4M", "--name", "freezer-1-2-not-ours", group.name)
    provider = LvmProvider(size="8M")
    with provider.create([path]) as living:
        before, volumes = group.leftovers(), set(group.volumes())
        for place in killed_forks_at_each_step(tmp_path, ["lvcreate", "mount", "umount", "lvremove"], make, path):
            left = set(group.volumes()) - volumes
            assert provider.reap() == [f"LVM snapshot {group.name}/{name}" for name in left], place
            assert group.leftovers() == before, place
        living.check()
        assert view_of(path, living.views).read_text() == "kept"
    assert set(group.volumes()) >= {*VOLUMES, "freezer-1-2-not-ours"}


def make(path: Path) -> None:
    with LvmProvider(size="8M").create([path]):
        pass


def view_of(path: Path, views: object) -> Path:
    assert isinstance(views, dict)
    assert isinstance(views[path], Path)
    return Path(views[path])
