"""Backups from real volume snapshots, with all engines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from btrfs_volume import make_subvolume, new_subvolume

from freezer_sdk import Backup, Freezer, FreezerGroup, Status
from freezer_sdk.engines.base import Context
from freezer_sdk.files.scan import LocalTree
from freezer_sdk.model import BackupOptions
from freezer_sdk.modes.base import Protected, SnapshotGroup
from freezer_sdk.plugins import ENGINE, STORAGE, PluginRegistry

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]
ENGINES = {"dedup": {}, "tar": {"max_level": 9}, "rsync": {"max_level": 9}}


@pytest.fixture
def volume() -> Iterator[Path]:
    with new_subvolume() as path:
        (path / "folder").mkdir()
        (path / "folder" / "file").write_text("one")
        (path / "folder" / "other").write_text("1" * 10_000)
        os.link(path / "folder" / "other", path / "again")
        (path / "link").symlink_to("folder")
        time.sleep(0.1)  # older than what counts as racy
        yield path


@pytest.fixture(params=ENGINES)
def freezer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Freezer]:
    with Freezer(
        f"local:{tmp_path / 'repository'}",
        create=True,
        encryption=False,
        engine=request.param,
        engine_options=ENGINES[request.param],
    ) as opened:
        yield opened


def back_up(freezer: Freezer | FreezerGroup, *paths: Path, **more: Any) -> Any:
    return freezer.backup(paths, name="volume", **more)


def restored(freezer: Freezer, backup: Backup, folder: Path) -> dict[str, str]:
    freezer.restore(backup.id, folder, force=True)
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): path.read_text() for path in files}


@pytest.mark.parametrize("runs", [("btrfs", None), (None, "btrfs"), ("btrfs", "btrfs")])
def test_unmodified_files_are_recognised(freezer: Freezer, volume: Path, runs: Sequence[str | None]) -> None:
    first, second = (back_up(freezer, volume, snapshot=provider) for provider in runs)
    assert first.stats.unmodified_files == 0
    assert second.stats.unmodified_files == first.stats.files
    assert second.stats.new_files == second.stats.changed_files == 0
    assert first.paths == second.paths == (str(volume),)


def test_what_changes_meanwhile_is_in_the_next_backup(freezer: Freezer, volume: Path, tmp_path: Path) -> None:
    options = {"label_prefix": volume.name}

    def change(event: object) -> None:
        if snapshots(volume):
            (volume / "folder" / "file").write_text("two")
            time.sleep(0.1)

    first = back_up(freezer, volume, snapshot="auto", snapshot_options=options, events=change)
    assert restored(freezer, first, tmp_path / "first")["folder/file"] == "one"
    second = back_up(freezer, volume, snapshot="auto")
    found = restored(freezer, second, tmp_path / "second")
    assert found["folder/file"] == "two"


def snapshots(volume: Path) -> list[str]:
    """Those with the name of the volume as their prefix."""
    return [name for name in os.listdir(volume.parent) if name.startswith(f"{volume.name}-")]


class LongAgo(SnapshotGroup):
    """The live files, as if they had been seen a second before they were written."""

    def __init__(self, root: Path) -> None:
        self.views = {root: root}
        self.facts = {}
        self.taken_ns = (root / "folder" / "file").stat().st_ctime_ns - 1_000_000_000

    def check(self) -> None:
        return


@pytest.mark.parametrize("engine", ENGINES)
def test_files_that_changed_since_the_snapshot_are_looked_at_again(volume: Path, engine: str) -> None:
    registry = PluginRegistry()
    made = registry.build(ENGINE, engine, ENGINES[engine])
    options = BackupOptions(name="volume", host="node", mode="fs")
    root = [os.fsencode(volume)]
    with made.create(registry.build(STORAGE, "memory"), password=lambda: None, encryption=False) as repository:
        repository.backup(Protected(sources=[LocalTree(root, snapshot=LongAgo(volume))]), options, Context())
        second = repository.backup(Protected(sources=[LocalTree(root)]), options, Context())
        third = repository.backup(Protected(sources=[LocalTree(root)]), options, Context())
    assert second.stats.read_bytes > 10_000
    assert third.stats.read_bytes < 10_000


def test_nested_subvolumes_are_not_left_out_silently(freezer: Freezer, volume: Path, tmp_path: Path) -> None:
    nested = make_subvolume(volume / "folder" / "nested")
    (nested / "inside").write_text("inside")
    backup = back_up(freezer, volume, snapshot="btrfs")
    assert backup.status is Status.PARTIAL
    assert [each.path for each in backup.problems if each.fatal] == [str(nested)]
    assert str(nested) in backup.mount_points
    chosen = back_up(freezer, volume, snapshot="btrfs", mode_options={"one_file_system": True})
    assert chosen.status is Status.COMPLETE
    assert str(nested) in chosen.mount_points
    excluded = back_up(freezer, volume, snapshot="btrfs", excludes=[f"{volume}/folder/nes*"])
    assert excluded.status is Status.COMPLETE


def test_subvolumes_that_are_named_too_are_whole(volume: Path, tmp_path: Path) -> None:
    nested = make_subvolume(volume / "folder" / "nested")
    (nested / "inside").write_text("inside")
    with Freezer("memory:", create=True, encryption=False) as freezer:
        backup = back_up(freezer, volume, nested, snapshot="btrfs")
        assert backup.status is Status.COMPLETE
        assert backup.paths == (str(volume), str(nested))
        found = restored(freezer, backup, tmp_path / "out")
        assert found[f"{nested}/inside".lstrip("/")] == "inside"
        again = back_up(freezer, volume, nested, snapshot="btrfs")
        assert again.stats.unmodified_files == again.stats.files


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    subprocess.run(["mount", "--bind", source, target], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", target], check=True)


def test_mounts_below_are_not_left_out_silently(freezer: Freezer, volume: Path) -> None:
    (volume / "mnt here").mkdir()
    with new_subvolume() as other:
        (other / "inside").write_text("inside")
        with bound(other, volume / "mnt here"):
            backup = back_up(freezer, volume, snapshot="auto")
            assert backup.status is Status.PARTIAL
            assert [each.path for each in backup.problems if each.fatal] == [f"{volume}/mnt here"]
            assert f"{volume}/mnt here" in backup.mount_points


def test_a_mount_of_the_same_volume_is_read_from_its_own_view(volume: Path, tmp_path: Path) -> None:
    (volume / "mnt").mkdir()
    (volume / "mnt" / "below").write_text("hidden")
    with (
        bound(volume / "folder", volume / "mnt"),
        Freezer("memory:", create=True, encryption=False) as freezer,
    ):
        backup = back_up(freezer, volume, volume / "mnt", snapshot="auto")
        assert backup.status is Status.COMPLETE
        found = restored(freezer, backup, tmp_path / "out")
        assert f"{volume}/mnt/file".lstrip("/") in found
        assert f"{volume}/mnt/below".lstrip("/") not in found


def test_excludes_are_about_original_paths(freezer: Freezer, volume: Path, tmp_path: Path) -> None:
    backup = back_up(freezer, volume, snapshot="auto", excludes=[f"{volume}/folder/file", "/again"])
    assert set(restored(freezer, backup, tmp_path / "out")) == {"folder/other"}


def test_links_that_lead_out_of_the_snapshot_are_told(freezer: Freezer, volume: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("live")
    (volume / "folder" / "out").symlink_to(tmp_path / "elsewhere")
    (volume / "folder" / "in").symlink_to("file")
    backup = back_up(freezer, volume / "folder", snapshot="auto", mode_options={"follow": "soft"})
    assert backup.status is Status.COMPLETE
    told = [each.path for each in backup.problems if each.kind == "out-of-snapshot"]
    assert told == [str(volume / "folder" / ("" if backup.engine == "tar" else "out"))]
    assert restored(freezer, backup, tmp_path / "out")["out"] == "live"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_program_that_is_ended(volume: Path, tmp_path: Path, number: signal.Signals) -> None:
    """By itself it leaves nothing; what a kill leaves is reaped, and then the next run is as any other."""
    script = f"touch {tmp_path}/started; while head -c 100000 /dev/zero; do sleep 0.1; done"
    name = ["--name", "volume", "--snapshot", "btrfs", "--snapshot-label-prefix", volume.name]
    command = ["--command", "slow", "--", "sh", "-c", script]
    freezer = [sys.executable, "-m", "freezer_cli.main", "--storage", f"local:{tmp_path}/repository"]
    subprocess.run([*freezer, "repository", "init", "--no-encryption"], check=True, capture_output=True)
    process = subprocess.Popen([*freezer, "backup", "create", volume, *name, *command], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(snapshots(volume)) == 1
    process.send_signal(number)
    process.wait(60)
    assert len(snapshots(volume)) == (number == signal.SIGKILL)
    options = ["--provider", "btrfs", "--option", f"label-prefix={volume.name}"]
    subprocess.run([*freezer, "snapshot", "reap", *options], check=True, capture_output=True)
    assert snapshots(volume) == []
    subprocess.run([*freezer, "backup", "create", volume, *name], check=True, capture_output=True)


def test_a_group_makes_one_snapshot_for_all(volume: Path, tmp_path: Path) -> None:
    made = [Freezer(f"local:{tmp_path / name}", create=True, encryption=False) for name in ("first", "second")]
    with made[0], made[1], FreezerGroup(made) as group:
        options = {"label_prefix": volume.name}
        result = back_up(group, volume, snapshot="auto", snapshot_options=options)
        facts = [target.backup.facts["snapshot"] for target in result.targets if target.backup is not None]
        assert len(facts) == 2
        assert facts[0] == facts[1]
        assert facts[0]["provider"] == "btrfs"
        assert restored(made[1], result.targets[1].backup, tmp_path / "out")["folder/file"] == "one"
        again = back_up(group, volume, snapshot="auto", snapshot_options=options)
        assert all(target.backup.stats.unmodified_files == 3 for target in again.targets)
    assert snapshots(volume) == []
